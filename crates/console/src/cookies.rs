//! The console's two cookies: their names and attributes.

use http::{HeaderMap, HeaderValue, header};
use time::Duration;

/// A cookie of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleCookie {
    /// The id of a login.
    Session,
    /// The sealed state of a sign-in that is in progress.
    SignIn,
}

impl ConsoleCookie {
    /// Over TLS the name has the `__Host-` prefix: browsers then accept the cookie only from this host over TLS, so neither a
    /// sibling subdomain nor a plain-http page can plant one (RFC 6265bis section 4.1.3.2). Browsers refuse the prefix without
    /// `Secure`, so plain http on loopback goes without it.
    fn name(self, uses_tls: bool) -> &'static str {
        match (self, uses_tls) {
            (Self::Session, true) => "__Host-durward",
            (Self::Session, false) => "durward",
            (Self::SignIn, true) => "__Host-durward-signin",
            (Self::SignIn, false) => "durward-signin",
        }
    }

    /// The cookie's value in a request. Two cookies of one name count as none: one of them was planted, and which one cannot
    /// be told.
    pub fn read_value(self, headers: &HeaderMap, uses_tls: bool) -> Option<&str> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _value)| *name == self.name(uses_tls))
            .map(|(_name, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The `Set-Cookie` header. `SameSite` is `Lax`, not `Strict`: a link to an approval request in a mail or a chat must open
    /// the page and not the sign-in. Forms are protected by [`crate::request_guard::verify_form`].
    pub fn set_header(self, value: &str, max_age: Duration, uses_tls: bool) -> Option<HeaderValue> {
        let secure = if uses_tls { "; Secure" } else { "" };
        let line = format!(
            "{}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            self.name(uses_tls),
            max_age.whole_seconds()
        );
        HeaderValue::from_str(&line).ok()
    }

    /// The `Set-Cookie` header that removes the cookie.
    pub fn removal_header(self, uses_tls: bool) -> Option<HeaderValue> {
        self.set_header("", Duration::ZERO, uses_tls)
    }
}
