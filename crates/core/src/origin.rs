//! The origin of a URL (RFC 6454): scheme, host and port. A request is sent to one, and a browser sends the one of its page.

use http::Uri;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An `http` or `https` origin. The host is in lower case, and an IPv6 address has no brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub uses_tls: bool,
    pub host: String,
    pub port: u16,
}

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("`{0}` is not an http or https URL: write https://host")]
    NotAUrl(String),
    #[error("`{0}` must be an origin alone, without user name, path, query or fragment: write https://host")]
    NotBare(String),
}

impl Origin {
    /// `https` at a host, with the default port.
    pub fn https(host: &str) -> Self {
        Self { uses_tls: true, host: host.to_owned(), port: 443 }
    }

    /// The origin of an absolute `http` or `https` URL. Path and query are ignored.
    pub fn from_uri(url: &Uri) -> Option<Self> {
        let uses_tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        // Host names are compared without regard to case (RFC 3986 section 3.2.2).
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Some(Self { uses_tls, host, port: url.port_u16().unwrap_or(if uses_tls { 443 } else { 80 }) })
    }

    /// The value of the `Host` header: with the port only if it is not the default, as browsers and SDKs write it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.uses_tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    /// The origin as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.uses_tls { "https" } else { "http" }, self.authority())
    }

    /// Returns true if the origin is this machine. Only there may a secret travel by plain `http`.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }
}

/// Returns true if a host, with or without the brackets of IPv6, is this machine. A name that resolves to a loopback address is
/// not one: the owner of the name can change that (DNS rebinding).
pub fn is_loopback_host(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // RFC 6761 section 6.3: resolvers give a loopback address for `localhost` without a query.
    host.eq_ignore_ascii_case("localhost")
        || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The text with the user name and password of every URL in it replaced by `***`: an error that quotes a URL from a
/// configuration reaches logs and terminals.
pub fn redact_user_info(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        redacted.push_str(before);
        redacted.push_str("://");
        // The authority ends at `/`, `?` or `#` (RFC 3986 section 3.2). Its last `@` ends the user information, because a password
        // that is not percent-encoded may hold one.
        let end = after.find(|c: char| c.is_whitespace() || "/?#`\"'".contains(c)).unwrap_or(after.len());
        let (authority, following) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_user_info, host)) => {
                redacted.push_str("***@");
                redacted.push_str(host);
            }
            None => redacted.push_str(authority),
        }
        rest = following;
    }
    redacted.push_str(rest);
    redacted
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// Parses an origin alone. A trailing slash is accepted.
impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let not_a_url = || OriginError::NotAUrl(redact_user_info(text));
        let url: Uri = text.parse().map_err(|_error| not_a_url())?;
        let origin = Self::from_uri(&url).ok_or_else(not_a_url)?;
        // `Uri` drops a fragment silently.
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && !text.contains(['#', '@']);
        if is_bare { Ok(origin) } else { Err(OriginError::NotBare(redact_user_info(text))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_reads_back_as_it_is_written() {
        for (text, written) in [
            ("https://Example.com", "https://example.com"),
            ("https://example.com:443/", "https://example.com"),
            ("http://127.0.0.1:8610", "http://127.0.0.1:8610"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.url(), written);
            assert_eq!(origin.url().parse(), Ok(origin));
        }
    }

    #[test]
    fn text_that_is_more_or_less_than_an_origin_is_refused() {
        for text in ["", "example.com", "ftp://example.com", "/path", "https://"] {
            assert!(matches!(text.parse::<Origin>(), Err(OriginError::NotAUrl(_))), "{text}");
        }
        for text in ["https://a/b", "https://a?b", "https://a/#b", "https://u@a", "https://u:p@a/"] {
            assert!(matches!(text.parse::<Origin>(), Err(OriginError::NotBare(_))), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        for (text, redacted) in [
            ("smtp://user:p@ss@mail:587", "smtp://***@mail:587"),
            ("`https://u:p@a/x@y`: no, see http://b/", "`https://***@a/x@y`: no, see http://b/"),
            ("https://a", "https://a"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(redact_user_info(text), redacted);
        }
        let error = "https://u:secret@a/".parse::<Origin>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn only_literal_addresses_and_localhost_are_loopback() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "::2", "[::ffff:127.0.0.2", ""] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
