//! The addresses that an origin on the internet may have: not this machine, its network or a metadata service. Without this
//! check, a name that an attacker controls would reach them through the gateway (SSRF, DNS rebinding).

use std::net::IpAddr;

/// Returns true if AWS or an identity provider on the internet can have this address.
pub fn is_public_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                // Shared address space (RFC 6598): carrier-grade NAT, and Alibaba Cloud's metadata service.
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().or_else(|| match v6.segments() {
                // NAT64 (RFC 6052), local NAT64 (RFC 8215), 6to4 (RFC 3056) and IPv4-compatible forms embed an IPv4 address.
                [0x64, 0xff9b, .., high, low] | [0, 0, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    Some(std::net::Ipv4Addr::new(a, b, c, d))
                }
                _ => None,
            });
            if let Some(v4) = mapped {
                return is_public_address(IpAddr::V4(v4));
            }
            // 2000::/3 is the global unicast space that IANA allocates from. Unique local addresses are outside of it, and with
            // them the metadata service of EC2 (fd00:ec2::254).
            v6.segments()[0] & 0xe000 == 0x2000
        }
    }
}

/// Returns true if an address is link-local, where clouds have their metadata services (169.254.169.254), or that of a metadata service
/// elsewhere: EC2's by IPv6 (EC2 User Guide, "Use IMDS"), and Alibaba Cloud's.
pub(super) fn is_metadata_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets() == [100, 100, 100, 200],
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments().starts_with(&[0xfd00, 0xec2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_loopback_and_private_addresses_are_not_public_in_any_form() {
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "ff02::1",
            "fc00::1",
        ] {
            assert!(!is_public_address(text.parse().unwrap()), "{text}");
        }
        for text in ["52.94.236.248", "2600:1f18::1", "64:ff9b::52.94.236.248"] {
            assert!(is_public_address(text.parse().unwrap()), "{text}");
        }
    }
}
