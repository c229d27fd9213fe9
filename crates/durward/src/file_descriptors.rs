//! The file descriptors of the process, and how many of them the connections of clients may use.

use durward_gateway::ConnectionLimits;

/// Assumed where the limit of the process is unknown: the default of Linux.
const DEFAULT_DESCRIPTOR_LIMIT: u64 = 1_024;
/// More connections than this would need more memory than a gateway is given, whatever the limit of descriptors is.
const MAX_CONNECTIONS: u64 = 32_768;
/// Descriptors that no client uses: those of a gateway at rest (some 25), the next segment of the journal, calls to STS and to the
/// identity providers.
const OWN_DESCRIPTORS: u64 = 64;

/// Raises the soft limit of the process to the hard one, and returns it. The soft limit is low for programs that use select(2)
/// (`systemd.exec`, "LimitNOFILE"), and nothing here does.
pub fn raise_descriptor_limit() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            rlimit::Resource::NOFILE.get_soft().unwrap_or(DEFAULT_DESCRIPTOR_LIMIT)
        }
    }
}

/// The limits of both front ends together: two fifths of the descriptors, because a client may hold one more upstream. Over HTTP/1.1
/// each request has a connection of its own, for as long as the client does not read the response.
pub fn front_end_connections(descriptor_limit: u64) -> ConnectionLimits {
    limits(descriptor_limit.saturating_sub(OWN_DESCRIPTORS) * 2 / 5)
}

/// The limits of the console: a person's browser opens some six connections.
pub fn console_connections(descriptor_limit: u64) -> ConnectionLimits {
    limits(descriptor_limit / 20)
}

/// One address may have half: many clients can be behind one, and yet one client cannot close a listener to the rest.
fn limits(total: u64) -> ConnectionLimits {
    let total = usize::try_from(total.clamp(8, MAX_CONNECTIONS)).unwrap_or(8);
    ConnectionLimits { total, per_address: total / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_everything_else() {
        for descriptors in [256, 1_024, 20_000, 1 << 20] {
            let (front_end, console) = (front_end_connections(descriptors), console_connections(descriptors));
            // Each client with a response that it does not read, which holds another connection upstream.
            let used = 2 * front_end.total + console.total;
            assert!(used as u64 + OWN_DESCRIPTORS <= descriptors, "{used} of {descriptors}");
            assert!(front_end.per_address < front_end.total && console.per_address < console.total);
        }
    }
}
