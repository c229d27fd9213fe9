//! Signs of life to a client whose request waits for a person: `100 Continue` (RFC 9110 section 15.2.1), again and again.
//!
//! hyper's server has no way to send them. The handler asks through an [`Interim`]; the connection underneath, which is polled by
//! the same task, writes one as long as the answer to that very request has not begun. Never 102: boto takes it for the answer.

use crate::client_socket::ClientPresence;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const CONTINUE_RESPONSE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The requests of one connection, one after the other. All but [`Interim::ask`] is called by the connection's own task.
#[derive(Debug, Clone, Default)]
pub(crate) struct InterimResponses {
    request_turns: Arc<RequestTurns>,
    client_presence: ClientPresence,
}

/// Numbers of requests, from 1 on; 0 is none.
#[derive(Debug, Default)]
struct RequestTurns {
    last_number: AtomicU64,
    /// The request whose answer has not begun.
    awaiting_number: AtomicU64,
    /// The request for which an interim response was asked.
    requested_number: AtomicU64,
}

/// A handle to the connection that a request came on.
#[derive(Debug, Clone, Default)]
pub struct InterimResponder {
    responses: InterimResponses,
    request_number: u64,
}

impl InterimResponses {
    pub fn new(presence: ClientPresence) -> Self {
        Self { request_turns: Arc::default(), client_presence: presence }
    }

    /// The next request is there: the answers before it are in the parser's hands, which gives them on first.
    pub fn begin_request(&self) -> InterimResponder {
        let number = self.request_turns.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        self.request_turns.awaiting_number.store(number, Ordering::Relaxed);
        InterimResponder { responses: self.clone(), request_number: number }
    }

    /// Whether the request that waits now asked since the last call.
    pub fn take_requested(&self) -> bool {
        let asked = self.request_turns.requested_number.swap(0, Ordering::Relaxed);
        asked != 0 && asked == self.request_turns.awaiting_number.load(Ordering::Relaxed)
    }

    /// Returns when the client is gone, also if its request was not read to the end.
    pub async fn client_disconnected(&self) {
        self.client_presence.disconnected().await;
    }
}

impl InterimResponder {
    /// Asks for one interim response. Once the answer has begun it asks for nothing: a request may still be held inside its answer.
    pub fn request_interim(&self) {
        self.responses.request_turns.requested_number.store(self.request_number, Ordering::Relaxed);
    }

    /// The answer is handed to the parser: from here on it may be written at any time.
    pub(crate) fn response_started(&self) {
        self.responses.request_turns.awaiting_number.store(0, Ordering::Relaxed);
    }

    /// Returns when the client is gone, also if its request was not read to the end.
    pub async fn client_disconnected(&self) {
        self.responses.client_disconnected().await;
    }
}

/// How often a client gets them, and how many at most. By product in its `user-agent`: measured read time-outs are 60 s for boto3
/// and the CLI, 30 s for Java; Go's client gives up after five interim responses; the others wait without.
pub(crate) fn keep_alive_interval(user_agent: &str) -> Option<(Duration, usize)> {
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
    fn only_clients_that_need_keep_alive_get_it() {
        let every =
            |agent| keep_alive_interval(agent).map(|(every, most)| (every.as_secs(), most == usize::MAX));
        assert_eq!(every("Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux"), Some((10, true)));
        assert_eq!(every("aws-cli/2.31 md/awscrt"), Some((10, true)));
        assert_eq!(every("aws-sdk-java/2.34 md/io#sync"), Some((10, true)));
        assert_eq!(every("aws-sdk-go-v2/1.39 os/linux"), Some((60, false)));
        assert_eq!(every("aws-sdk-js/3.900 os/linux"), None);
        assert_eq!(every("curl/8"), None);
    }
}
