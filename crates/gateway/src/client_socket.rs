//! A client's TCP connection, which tells the code that handles a request when its client disconnects.
//!
//! hyper reads a body only as far as the handler consumes it, so it never sees the end of the stream behind an unread body. The
//! operating system does: this module waits for its notification and reads nothing.

use durward_core::limits;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Sleep, sleep};

/// True if [`ClientPresence::disconnected`] can return on this operating system.
pub(crate) const DETECTS_DISCONNECT: bool = cfg!(any(target_os = "linux", target_os = "android"));

pub(crate) struct ClientSocket {
    read_half: OwnedReadHalf,
    write_half: Arc<OwnedWriteHalf>,
    /// The end of the time for which the client may go on reading nothing; only while a write waits for it.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

/// Tells when the client of a [`ClientSocket`] disconnects. It does not keep the socket open.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientPresence(Weak<OwnedWriteHalf>);

impl ClientSocket {
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read_half: read, write_half: Arc::new(write), write_deadline: None }
    }

    pub fn client_presence(&self) -> ClientPresence {
        ClientPresence(Arc::downgrade(&self.write_half))
    }

    fn tcp_stream(&self) -> &TcpStream {
        self.write_half.as_ref().as_ref()
    }
}

impl ClientPresence {
    /// Returns when the client has closed the connection, or only its sending side: as in hyper, a client that will send no more
    /// counts as disconnected.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub async fn disconnected(&self) {
        use tokio::io::Interest;
        if let Some(socket) = self.0.upgrade() {
            // An unread body would make READABLE ready at once. tokio did not register this socket for PRIORITY, so that
            // interest becomes ready only with the end of the stream (EPOLLRDHUP), which it includes.
            match socket.ready(Interest::PRIORITY).await {
                Ok(ready) if !ready.is_read_closed() => {}
                _disconnected => return,
            }
        }
        std::future::pending::<()>().await;
    }

    /// Elsewhere only hyper detects a disconnect, when it reads.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub async fn disconnected(&self) {
        std::future::pending::<()>().await;
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read_half).poll_read(context, into)
    }
}

impl ClientSocket {
    /// Writes as soon as the socket is writable. A client that reads nothing for too long has lost the rest.
    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(writable) = self.tcp_stream().poll_write_ready(context) else {
                let deadline = self
                    .write_deadline
                    .get_or_insert_with(|| Box::pin(sleep(limits::RESPONSE_STALL_TIMEOUT)));
                ready!(deadline.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            };
            writable?;
            match write(self.tcp_stream()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.write_deadline = None;
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // `OwnedWriteHalf` needs `&mut self` to shut down, and here it is shared.
        Poll::Ready(socket2::SockRef::from(self.tcp_stream()).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    async fn connected_pair() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, ClientSocket::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_loses_the_rest_of_its_response() {
        let (client, mut socket) = connected_pair().await;
        let response = vec![b'x'; 64 << 10];
        // The client reads now and then, which takes longer than it may pause, and then no more.
        for _ in 0..3 {
            let filled = timeout(limits::RESPONSE_STALL_TIMEOUT / 2, async {
                loop {
                    socket.write_all(&response).await.unwrap();
                }
            });
            filled.await.unwrap_err();
            // All that the kernel holds: it tells the writer of free space only when there is much.
            let mut read = vec![0; 64 << 20];
            while client.try_read(&mut read).is_ok() {
                tokio::task::yield_now().await;
            }
        }
        let failed = timeout(2 * limits::RESPONSE_STALL_TIMEOUT, async {
            loop {
                if let Err(error) = socket.write_all(&response).await {
                    break error;
                }
            }
        });
        assert_eq!(failed.await.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_disconnect_behind_unread_bytes_is_detected() {
        let (mut client, socket) = connected_pair().await;
        let presence = socket.client_presence();
        client.write_all(&[b'x'; 4096]).await.unwrap();
        // Unread bytes alone do not count as a disconnect. They have arrived once the socket is readable.
        socket.tcp_stream().readable().await.unwrap();
        let mut disconnected = std::pin::pin!(presence.disconnected());
        assert!(poll_fn(|context| Poll::Ready(disconnected.as_mut().poll(context).is_pending())).await);
        drop(client);
        timeout(Duration::from_secs(5), disconnected).await.unwrap();
    }
}
