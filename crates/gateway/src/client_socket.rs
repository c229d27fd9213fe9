//! A client's TCP connection, of which whoever works on its request can learn that the client has left.
//!
//! The parser reads no further than the request's body is wanted, so behind a body that waits it never sees the end of the
//! stream. The system does: this listens to it, and reads nothing.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Whether [`Presence::left`] ever returns on this system.
pub(crate) const DETECTS_DISCONNECT: bool = cfg!(any(target_os = "linux", target_os = "android"));

pub(crate) struct ClientSocket {
    read_half: OwnedReadHalf,
    write_half: Arc<OwnedWriteHalf>,
}

/// Whether the client at the other end of a [`Socket`] is there. It does not keep the socket open.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientPresence(Weak<OwnedWriteHalf>);

impl ClientSocket {
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read_half: read, write_half: Arc::new(write) }
    }

    pub fn client_presence(&self) -> ClientPresence {
        ClientPresence(Arc::downgrade(&self.write_half))
    }

    fn tcp_stream(&self) -> &TcpStream {
        self.write_half.as_ref().as_ref()
    }
}

impl ClientPresence {
    /// Returns when the client has closed the connection, or its end of it: who will not read an answer, and who will not say
    /// more, is taken for gone, as the parser does.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub async fn disconnected(&self) {
        use tokio::io::Interest;
        if let Some(socket) = self.0.upgrade() {
            // Not READABLE, which an unread body is: PRIORITY, which is never asked of the system, brings the end of the stream
            // along and nothing else.
            match socket.ready(Interest::PRIORITY).await {
                Ok(ready) if !ready.is_read_closed() => {}
                _left => return,
            }
        }
        std::future::pending::<()>().await;
    }

    /// Elsewhere the parser alone notices, once it reads.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub async fn left(&self) {
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
    /// Writes when the socket takes more, until it did or failed.
    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp_stream().poll_write_ready(context))?;
            match write(self.tcp_stream()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    #[tokio::test]
    async fn a_disconnect_behind_unread_bytes_is_detected() {
        let (mut client, socket) = connected_pair().await;
        let presence = socket.client_presence();
        client.write_all(&[b'x'; 4096]).await.unwrap();
        // Bytes alone are no departure; the other end has them when it can read.
        socket.tcp_stream().readable().await.unwrap();
        let mut left = std::pin::pin!(presence.disconnected());
        assert!(poll_fn(|context| Poll::Ready(left.as_mut().poll(context).is_pending())).await);
        drop(client);
        timeout(Duration::from_secs(5), left).await.unwrap();
    }
}
