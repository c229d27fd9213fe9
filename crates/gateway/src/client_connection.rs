//! The client at the other end of an exchange: whether it is still there, and how it is kept waiting.

use crate::keep_alive::InterimResponder;
use tokio::sync::watch;

/// A handle to the connection that a request came on.
#[derive(Debug, Clone, Default)]
pub struct ClientConnection {
    interim_responder: InterimResponder,
    /// Closed when the task that serves the connection drops the request. Present where the request goes on in another task.
    handler: Option<watch::Receiver<()>>,
}

/// Held by the task that serves a connection while another task works on its request. Dropping it tells that task.
pub(crate) struct HandlerGuard(#[expect(dead_code, reason = "it is dropped, not read")] watch::Sender<()>);

impl ClientConnection {
    pub(crate) fn new(interim_responder: InterimResponder) -> Self {
        Self { interim_responder, handler: None }
    }

    /// The same connection, for a task that is not the connection's own.
    pub(crate) fn detached(&self) -> (Self, HandlerGuard) {
        let (sender, receiver) = watch::channel(());
        let client = Self { interim_responder: self.interim_responder.clone(), handler: Some(receiver) };
        (client, HandlerGuard(sender))
    }

    /// Asks for one interim response, which keeps a client from giving up.
    pub(crate) fn send_interim(&self) {
        self.interim_responder.request_interim();
    }

    /// Returns when the client is gone, also if its request was not read to the end.
    pub(crate) async fn disconnected(&self) {
        let handler_dropped = async {
            match self.handler.clone() {
                // Nothing is ever sent: this returns when the guard is dropped.
                Some(mut handler) => while handler.changed().await.is_ok() {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.interim_responder.client_disconnected() => {}
            () = handler_dropped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_handler_is_a_client_that_left() {
        let (client, guard) = ClientConnection::default().detached();
        let mut disconnected = std::pin::pin!(client.disconnected());
        let waits = std::future::poll_fn(|context| {
            std::task::Poll::Ready(disconnected.as_mut().poll(context).is_pending())
        });
        assert!(waits.await, "the handler is there");
        drop(guard);
        disconnected.await;
    }
}
