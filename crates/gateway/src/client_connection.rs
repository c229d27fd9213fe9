//! The client at the other end of an exchange: tells when it disconnects, and keeps it from giving up while it waits.

use crate::keep_alive::InterimResponder;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// A handle to the connection that a request came on.
#[derive(Debug, Clone, Default)]
pub struct ClientConnection {
    interim_responder: InterimResponder,
    /// Present where the request goes on in a task that is not the connection's own.
    handler: Option<HandlerLink>,
}

/// From the task that works on a request to the one that serves its connection.
#[derive(Debug, Clone)]
struct HandlerLink {
    /// Closed when the connection's task drops the request.
    is_alive: watch::Receiver<()>,
    interim_requests: Arc<Notify>,
}

/// The work of the task that serves a connection while another task works on its request. Dropping it tells that task that the
/// client is gone.
pub(crate) struct RequestHandler {
    interim_responder: InterimResponder,
    interim_requests: Arc<Notify>,
    _is_alive: watch::Sender<()>,
}

impl ClientConnection {
    pub(crate) fn new(interim_responder: InterimResponder) -> Self {
        Self { interim_responder, handler: None }
    }

    /// The same connection for another task, and the handler that its own task runs meanwhile.
    pub(crate) fn detach(&self) -> (Self, RequestHandler) {
        let (sender, receiver) = watch::channel(());
        let interim_requests = Arc::new(Notify::new());
        let handler = RequestHandler {
            interim_responder: self.interim_responder.clone(),
            interim_requests: interim_requests.clone(),
            _is_alive: sender,
        };
        let link = HandlerLink { is_alive: receiver, interim_requests };
        (Self { interim_responder: self.interim_responder.clone(), handler: Some(link) }, handler)
    }

    /// Requests one interim response, which keeps a client from giving up.
    pub(crate) fn send_interim(&self) {
        match &self.handler {
            // The connection writes it when its own task is polled, so that task must request it.
            Some(link) => link.interim_requests.notify_one(),
            None => self.interim_responder.request_interim(),
        }
    }

    /// Returns when the client is gone, also if its request was not read to the end.
    pub(crate) async fn disconnected(&self) {
        let handler_dropped = async {
            match self.handler.clone() {
                // Nothing is ever sent: this returns when the handler is dropped.
                Some(mut link) => while link.is_alive.changed().await.is_ok() {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.interim_responder.client_disconnected() => {}
            () = handler_dropped => {}
        }
    }
}

impl RequestHandler {
    /// Waits for the other task, and sends the interim responses that it requests.
    pub(crate) async fn wait_for<T>(self, task: impl Future<Output = T>) -> T {
        tokio::pin!(task);
        loop {
            tokio::select! {
                biased;
                output = &mut task => return output,
                () = self.interim_requests.notified() => self.interim_responder.request_interim(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_handler_is_a_client_that_left() {
        let (client, handler) = ClientConnection::default().detach();
        let mut disconnected = std::pin::pin!(client.disconnected());
        let waits = std::future::poll_fn(|context| {
            std::task::Poll::Ready(disconnected.as_mut().poll(context).is_pending())
        });
        assert!(waits.await, "the handler is there");
        drop(handler);
        disconnected.await;
    }
}
