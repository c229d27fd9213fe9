//! The URL that clients know the MCP front end by.

/// Configured, or taken from the `Host` of a request.
#[derive(Debug, Clone)]
pub(super) struct ClientFacingUrl {
    public_url: Option<String>,
    uses_tls: bool,
}

impl ClientFacingUrl {
    pub fn new(public_url: Option<String>, uses_tls: bool) -> Self {
        Self { public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()), uses_tls }
    }

    /// The URL for a client that sent this `Host`. It goes into a header and a document, so a host that is no plain host name
    /// or address is not repeated.
    pub fn for_host(&self, host: Option<&str>) -> String {
        let is_plain = |host: &&str| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
        };
        self.public_url.clone().unwrap_or_else(|| {
            let scheme = if self.uses_tls { "https" } else { "http" };
            format!("{scheme}://{}", host.filter(is_plain).unwrap_or("localhost"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_is_the_configured_one_or_the_requested_host() {
        let url_source = ClientFacingUrl::new(None, false);
        assert_eq!(url_source.for_host(Some("gw.example:8620")), "http://gw.example:8620");
        assert_eq!(url_source.for_host(Some("[::1]:8620")), "http://[::1]:8620");
        for odd in [None, Some("x\", scope=\"all"), Some("a/b"), Some("a@b")] {
            assert_eq!(url_source.for_host(odd), "http://localhost", "{odd:?}");
        }
        let url = Some("https://mcp.gw.example/".to_owned());
        let url_source = ClientFacingUrl::new(url, true);
        assert_eq!(url_source.for_host(Some("10.0.0.1")), "https://mcp.gw.example");
    }
}
