//! The sign-ins that led to a login. Each leads to one at most: a copy of its cookie and the person's page at the provider would
//! otherwise give logins until its ten minutes have passed.
//!
//! They are kept in memory, as the key of the cookies is: another process cannot open a cookie of this one.

use durward_core::lock_ignoring_poison;
use std::{collections::HashMap, sync::Mutex};
use time::OffsetDateTime;

/// Most sign-ins that are remembered. Only admitted people finish one, and as many are signed in at most.
const MAX_FINISHED_SIGN_INS: usize = 10_000;

/// Why a sign-in does not lead to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedSignIn {
    AlreadyFinished,
    TooMany,
}

/// By their `state`, with the time until which their cookies count.
#[derive(Default)]
pub struct FinishedSignIns(Mutex<HashMap<String, OffsetDateTime>>);

impl FinishedSignIns {
    /// Marks a sign-in as finished.
    pub fn finish(
        &self,
        state: &str,
        cookie_expires: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), RepeatedSignIn> {
        let mut finished = lock_ignoring_poison(&self.0);
        finished.retain(|_state, expires| *expires > now);
        if finished.contains_key(state) {
            return Err(RepeatedSignIn::AlreadyFinished);
        }
        // Never forgotten early: a sign-in that is not remembered could be repeated.
        if finished.len() >= MAX_FINISHED_SIGN_INS {
            return Err(RepeatedSignIn::TooMany);
        }
        finished.insert(state.to_owned(), cookie_expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn remembers_each_until_its_cookie_expires_and_never_forgets_one_for_another() {
        let finished = FinishedSignIns::default();
        let now = OffsetDateTime::UNIX_EPOCH;
        let (soon, later) = (now + Duration::minutes(5), now + Duration::minutes(10));
        assert_eq!(finished.finish("a", later, now), Ok(()));
        assert_eq!(finished.finish("a", later, now), Err(RepeatedSignIn::AlreadyFinished));
        for number in 1..MAX_FINISHED_SIGN_INS {
            assert_eq!(finished.finish(&number.to_string(), soon, now), Ok(()));
        }
        assert_eq!(finished.finish("b", later, now), Err(RepeatedSignIn::TooMany));
        assert_eq!(finished.finish("a", later, now), Err(RepeatedSignIn::AlreadyFinished));
        assert_eq!(finished.finish("b", later, soon), Ok(()));
        assert_eq!(finished.finish("a", later, soon), Err(RepeatedSignIn::AlreadyFinished));
    }
}
