//! Keeps a client connected while its request waits for approval: repeated `100 Continue` responses (RFC 9110 section 15.2.1).
//!
//! hyper's server cannot send them. The handler requests one through an [`InterimResponder`]; the connection below it, which is
//! polled by the same task, writes it as long as the response to that very request has not started. Only 100 is ever sent: boto
//! takes 102 for the final, empty response (measured).

use crate::client_socket::ClientPresence;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const CONTINUE_RESPONSE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The requests of one connection, in order. Everything but [`InterimResponder::request_interim`] is called by the connection's
/// own task.
#[derive(Debug, Clone, Default)]
pub(crate) struct InterimResponses {
    request_turns: Arc<RequestTurns>,
    client_presence: ClientPresence,
}

/// Numbers of requests on the connection, from 1; 0 is none.
#[derive(Debug, Default)]
struct RequestTurns {
    last_number: AtomicU64,
    /// The request whose response has not started.
    awaiting_number: AtomicU64,
    /// The request for which an interim response was requested.
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

    /// The next request has arrived. Responses to earlier ones are with hyper by now, which writes them first.
    pub fn begin_request(&self) -> InterimResponder {
        let number = self.request_turns.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        self.request_turns.awaiting_number.store(number, Ordering::Relaxed);
        InterimResponder { responses: self.clone(), request_number: number }
    }

    /// Returns true if the current request has requested an interim response since the last call.
    pub fn take_requested(&self) -> bool {
        let requested = self.request_turns.requested_number.swap(0, Ordering::Relaxed);
        requested != 0 && requested == self.request_turns.awaiting_number.load(Ordering::Relaxed)
    }

    /// Returns when the client has disconnected, even if its request was not read to the end.
    pub async fn client_disconnected(&self) {
        self.client_presence.disconnected().await;
    }
}

impl InterimResponder {
    /// Requests one interim response. It has no effect once the response has started: an MCP request may still be held then,
    /// inside its event stream.
    pub fn request_interim(&self) {
        self.responses.request_turns.requested_number.store(self.request_number, Ordering::Relaxed);
    }

    /// The response is handed to hyper, which may write it at any time from now on. An interim response would split it.
    pub(crate) fn response_started(&self) {
        self.responses.request_turns.awaiting_number.store(0, Ordering::Relaxed);
    }

    /// Returns when the client has disconnected, even if its request was not read to the end.
    pub async fn client_disconnected(&self) {
        self.responses.client_disconnected().await;
    }
}

/// The interval between interim responses for a client, and how many it gets at most; `None` if it waits without them. Clients
/// are told apart by the product in `user-agent`.
pub(crate) fn keep_alive_interval(user_agent: &str) -> Option<(Duration, usize)> {
    let is = |product: &str| user_agent.to_ascii_lowercase().contains(product);
    // Read timeouts: boto3 and the CLI 60 s (botocore `Config.read_timeout`), Java 30 s. After one, boto3 sends the same call
    // again, three times in all (measured).
    if is("boto3/") || is("botocore/") || is("aws-cli/") || is("aws-sdk-java/") {
        Some((Duration::from_secs(10), usize::MAX))
    } else if is("aws-sdk-go") {
        // Before Go 1.23, net/http fails a request at the sixth interim response (`max1xxResponses`).
        Some((Duration::from_mins(1), 4))
    } else {
        // The JavaScript and Rust SDKs have no read timeout (measured: they wait 75 s without one).
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_need_keep_alive_get_it() {
        let interval_of = |agent| {
            keep_alive_interval(agent)
                .map(|(interval, max_count)| (interval.as_secs(), max_count == usize::MAX))
        };
        assert_eq!(interval_of("Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux"), Some((10, true)));
        assert_eq!(interval_of("aws-cli/2.31 md/awscrt"), Some((10, true)));
        assert_eq!(interval_of("aws-sdk-java/2.34 md/io#sync"), Some((10, true)));
        assert_eq!(interval_of("aws-sdk-go-v2/1.39 os/linux"), Some((60, false)));
        assert_eq!(interval_of("aws-sdk-js/3.900 os/linux"), None);
        assert_eq!(interval_of("curl/8"), None);
    }
}
