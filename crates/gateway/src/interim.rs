//! Signs of life to a client whose request waits for a person: `100 Continue` (RFC 9110 section 15.2.1), again and again.
//!
//! hyper's server has no way to send them. The handler asks through an [`Interim`]; the connection underneath, which is polled by
//! the same task, writes one if no answer has begun. Never 102: boto takes it for the answer.

use crate::socket::Presence;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A handle to the connection that a request came on.
#[derive(Debug, Clone, Default)]
pub struct Interim {
    asked: Arc<AtomicBool>,
    presence: Presence,
}

impl Interim {
    pub(crate) fn new(presence: Presence) -> Self {
        Self { asked: Arc::default(), presence }
    }

    /// Asks for one interim response.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether one was asked for since the last call.
    pub(crate) fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Returns when the client is gone, also if its request was not read to the end.
    pub async fn left(&self) {
        self.presence.left().await;
    }
}

/// How often a client gets them, and how many at most. By product in its `user-agent`: measured read time-outs are 60 s for boto3
/// and the CLI, 30 s for Java; Go's client gives up after five interim responses; the others wait without.
pub(crate) fn rhythm(user_agent: &str) -> Option<(Duration, usize)> {
    let is = |product: &str| user_agent.to_ascii_lowercase().contains(product);
    if is("boto3/") || is("botocore/") || is("aws-cli/") || is("aws-sdk-java/") {
        Some((Duration::from_secs(10), usize::MAX))
    } else if is("aws-sdk-go") {
        Some((Duration::from_mins(1), 4))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_need_it_are_kept_awake() {
        let every = |agent| rhythm(agent).map(|(every, most)| (every.as_secs(), most == usize::MAX));
        assert_eq!(every("Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux"), Some((10, true)));
        assert_eq!(every("aws-cli/2.31 md/awscrt"), Some((10, true)));
        assert_eq!(every("aws-sdk-java/2.34 md/io#sync"), Some((10, true)));
        assert_eq!(every("aws-sdk-go-v2/1.39 os/linux"), Some((60, false)));
        assert_eq!(every("aws-sdk-js/3.900 os/linux"), None);
        assert_eq!(every("curl/8"), None);
    }
}
