//! Who is signed in: a random id in a cookie, and who it stands for in memory. A restart signs everybody out.

use crate::seal::random_text;
use aws_lc_rs::digest;
use durward_approval::Person;
use http::{HeaderMap, HeaderValue, header};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use time::{Duration, OffsetDateTime};

/// How long a sign-in is good for.
pub const LIFETIME: Duration = Duration::hours(1);
/// Sign-ins at once.
const MOST: usize = 10_000;

/// A person who is signed in.
#[derive(Debug)]
pub struct SignedIn {
    pub person: Person,
    /// Stands in every form of this session.
    pub csrf: String,
    pub expires: OffsetDateTime,
}

type Key = [u8; 32];

/// The sign-ins, by the hash of their id: whoever reads this memory cannot use one.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<Key, Arc<SignedIn>>>);

impl Sessions {
    /// The new session's id. None: there are too many, or no randomness.
    pub fn begin(&self, person: Person, now: OffsetDateTime) -> Option<String> {
        let (id, csrf) = (random_text()?, random_text()?);
        let mut sessions = self.sessions();
        sessions.retain(|_key, session| session.expires > now);
        if sessions.len() >= MOST {
            return None;
        }
        sessions.insert(key(&id), Arc::new(SignedIn { person, csrf, expires: now + LIFETIME }));
        Some(id)
    }

    pub fn find(&self, id: &str, now: OffsetDateTime) -> Option<Arc<SignedIn>> {
        self.sessions().get(&key(id)).filter(|session| session.expires > now).cloned()
    }

    pub fn end(&self, id: &str) {
        self.sessions().remove(&key(id));
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Arc<SignedIn>>> {
        // The map is whole at any time, so a poisoned lock is still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(id: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
    key
}

/// What a cookie of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    Session,
    /// A sign-in under way.
    SignIn,
}

impl Cookie {
    /// Over TLS with the prefix that no neighbouring host and no plain page can set.
    fn name(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Session, true) => "__Host-durward",
            (Self::Session, false) => "durward",
            (Self::SignIn, true) => "__Host-durward-signin",
            (Self::SignIn, false) => "durward-signin",
        }
    }

    /// The value a request brings; none if there are two.
    pub fn read(self, headers: &HeaderMap, tls: bool) -> Option<&str> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _value)| *name == self.name(tls))
            .map(|(_name, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The `Set-Cookie` header; an empty value removes it.
    pub fn write(self, value: &str, tls: bool) -> Option<HeaderValue> {
        let seconds = match (value.is_empty(), self) {
            (true, _) => 0,
            (false, Self::Session) => LIFETIME.whole_seconds(),
            (false, Self::SignIn) => crate::oidc::PATIENCE.whole_seconds(),
        };
        let secure = if tls { "; Secure" } else { "" };
        let line =
            format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name(tls));
        HeaderValue::from_str(&line).ok()
    }
}
