//! A client connection read through [`crate::framing`]: the HTTP parser behind it gets whole heads and well-framed bodies only.
//!
//! A head that is refused is replaced by [`REFUSED`], one plain request, so that the refusal is answered in its turn
//! after the answers before it; then nothing more is read. A body that is refused breaks off with an error. A connection that
//! is closed on a client who is still sending is closed in two steps, so that the client gets its answer.

use crate::framing::{BodyState, HeadEnd, Violation, read_head};
use crate::interim::{CONTINUE, Interims};
use bytes::{Buf, BytesMut};
use durward_core::limits;
use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What a connection was refused for, and when it is that request's turn to be answered.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// How many requests in order came before the refused one, and why it was refused.
    refused: OnceLock<(u64, Violation)>,
    answered: AtomicU64,
}

impl Verdict {
    /// Called once for each request in their order: whether this one stands for one that was refused.
    pub fn next(&self) -> Option<Violation> {
        let number = self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.refused.get().filter(|(before, _why)| *before == number).map(|(_before, why)| *why)
    }
}

enum State {
    Head(HeadEnd),
    Body(BodyState),
    Refused,
}

pub struct StrictIo<S> {
    stream: S,
    state: State,
    /// Bytes of `arrived` that were checked and may be handed on.
    checked: usize,
    arrived: BytesMut,
    heads: u64,
    verdict: Verdict,
    interims: Interims,
    /// What is left to write of an interim response.
    left: &'static [u8],
    closing: Closing,
}

/// The system answers bytes that nobody read with a reset, which may overtake our answer: so the writing end is closed first,
/// and what still comes is read and dropped, so much and so long.
enum Closing {
    Open,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Done,
}

impl<S> StrictIo<S> {
    pub fn new(stream: S, verdict: Verdict, interims: Interims) -> Self {
        let state = State::Head(HeadEnd::default());
        Self {
            stream,
            state,
            checked: 0,
            arrived: BytesMut::new(),
            heads: 0,
            verdict,
            interims,
            left: &[],
            closing: Closing::Open,
        }
    }

    /// Hands on at once, without a copy, what `new` begins with if that is a whole head that is in order, and what is there of its
    /// body; gives its length. Nothing may have arrived before.
    fn whole_head(&mut self, new: &[u8]) -> usize {
        let Ok(Some(length)) = HeadEnd::default().find(new) else { return 0 };
        let (head, rest) = new.split_at(length);
        if length > limits::HEAD {
            return 0;
        }
        let Ok(body) = read_head(head) else { return 0 };
        self.heads += 1;
        let mut state = BodyState::of(body);
        let before = state.clone();
        // A body that is not in order is found again where that can be said.
        let taken = state.take(rest).unwrap_or_else(|_violation| {
            state = before;
            0
        });
        self.state = State::Body(state);
        length + taken
    }

    fn refuse(&mut self, why: Violation) {
        self.arrived.clear();
        self.arrived.extend_from_slice(REFUSED);
        self.checked = REFUSED.len();
        self.state = State::Refused;
        let _first = self.verdict.0.refused.set((self.heads, why));
    }

    /// Checks what has arrived and is not checked yet; `Err` breaks the body off.
    fn check(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Head(end) => match end.find(&self.arrived) {
                Ok(found) if found.unwrap_or(self.arrived.len()) > limits::HEAD => {
                    self.refuse(Violation { status: 431, why: "the request head is too large" });
                }
                Ok(Some(length)) => match read_head(self.arrived.get(..length).unwrap_or_default()) {
                    Ok(body) => {
                        self.heads += 1;
                        self.checked = length;
                        self.state = State::Body(BodyState::of(body));
                    }
                    Err(why) => self.refuse(why),
                },
                Ok(None) => {}
                Err(why) => self.refuse(why),
            },
            State::Body(body) => self.checked = body.take(&self.arrived).map_err(broken)?,
            State::Refused => {}
        }
        Ok(())
    }

    /// Hands on what was checked.
    fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        let count = self.checked.min(into.remaining());
        into.put_slice(self.arrived.get(..count).unwrap_or_default());
        self.arrived.advance(count);
        self.checked -= count;
        if self.arrived.is_empty() {
            // A request may be held for an hour.
            self.arrived = BytesMut::new();
        }
        if self.checked == 0 && matches!(self.state, State::Body(BodyState::Done)) {
            self.state = State::Head(HeadEnd::default());
        }
    }
}

fn broken(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation.why)
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.checked == 0 && !this.arrived.is_empty() {
                this.check()?;
            }
            if this.checked > 0 {
                this.hand_on(into);
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                // Nothing more comes from this client; the answer to `REFUSED` closes the connection.
                State::Refused => return Poll::Pending,
                State::Body(body) if *body != BodyState::Done => {
                    // Straight into the parser's buffer; what belongs to the next message is taken back.
                    let before = into.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
                    let new = into.filled().get(before..).unwrap_or_default();
                    let taken = body.take(new).map_err(broken)?;
                    this.arrived.extend_from_slice(new.get(taken..).unwrap_or_default());
                    into.set_filled(before + taken);
                    if *body == BodyState::Done {
                        this.state = State::Head(HeadEnd::default());
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Body(_done) => this.state = State::Head(HeadEnd::default()),
                State::Head(_) => {
                    // The parser's buffer serves to read into; it keeps nothing of it before the head is whole.
                    let before = into.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
                    let new = into.filled().get(before..).unwrap_or_default();
                    if new.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let taken = if this.arrived.is_empty() { this.whole_head(new) } else { 0 };
                    this.arrived.extend_from_slice(new.get(taken..).unwrap_or_default());
                    into.set_filled(before + taken);
                    if taken > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> StrictIo<S> {
    /// What has begun of an interim response comes before anything else.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, self.left))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left = self.left.get(count..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead,
    {
        loop {
            match &mut self.closing {
                Closing::Open => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                    let until = Box::pin(tokio::time::sleep(limits::LINGER_TIME));
                    self.closing = Closing::Lingering { until, left: limits::LINGER };
                }
                Closing::Lingering { until, left } => {
                    let mut dropped = [MaybeUninit::uninit(); 8 << 10];
                    let mut dropped = ReadBuf::uninit(&mut dropped);
                    let read = Pin::new(&mut self.stream).poll_read(context, &mut dropped);
                    let count = dropped.filled().len();
                    let over = match read {
                        Poll::Ready(read) => read.is_err() || count == 0 || *left < count,
                        Poll::Pending => {
                            ready!(until.as_mut().poll(context));
                            true
                        }
                    };
                    *left = left.saturating_sub(count);
                    if over {
                        self.closing = Closing::Done;
                    }
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictIo<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_left(context))?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_left(context))?;
        Pin::new(&mut this.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Polled whenever the connection's task ran and the parser has nothing to write: the place for interim responses, unless
    /// the answer has begun and only pauses.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left.is_empty() && this.interims.take() {
            this.left = CONTINUE;
        }
        ready!(this.poll_left(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const FIRST: &str = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    const SECOND: &str =
        "PUT /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const THIRD: &str = "GET /c HTTP/1.1\r\nhost: x\r\n\r\n";

    /// What the parser gets of `sent`, which arrives in pieces of this size, and what was refused.
    async fn handed_on(sent: &str, piece: usize) -> (String, Option<(u64, &'static str)>) {
        // No more is under way than one piece, so that each is read by itself.
        let (mut client, server) = tokio::io::duplex(piece);
        let verdict = Verdict::default();
        let mut strict = StrictIo::new(server, verdict.clone(), Interims::default());
        let bytes = sent.as_bytes().to_vec();
        let sending = tokio::spawn(async move {
            let written = client.write_all(&bytes).await;
            drop(client);
            written
        });
        let mut read = Vec::new();
        loop {
            // What is refused ends in silence: there the parser answers and closes.
            if read.ends_with(REFUSED) || strict.read_buf(&mut read).await.unwrap_or_default() == 0 {
                break;
            }
        }
        drop(strict);
        // A refused connection breaks off under the client.
        let _sent = sending.await.unwrap();
        let refused = verdict.0.refused.get().map(|(before, violation)| (*before, violation.why));
        (String::from_utf8(read).unwrap(), refused)
    }

    #[tokio::test]
    async fn what_is_in_order_is_handed_on_as_it_came_however_it_was_cut() {
        let all = [FIRST, SECOND, THIRD, FIRST].concat();
        for piece in 1..=all.len() {
            assert_eq!(handed_on(&all, piece).await, (all.clone(), None), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_refused_head_is_replaced_in_its_turn_however_it_was_cut() {
        let all = [FIRST, THIRD, "GET /d HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", THIRD].concat();
        let expected = [FIRST, THIRD, std::str::from_utf8(REFUSED).unwrap()].concat();
        for piece in 1..=all.len() {
            let refused = Some((2, "exactly one Host header is needed"));
            assert_eq!(handed_on(&all, piece).await, (expected.clone(), refused), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_request_that_was_handed_on() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut strict = StrictIo::new(server, Verdict::default(), Interims::default());
        for piece in [FIRST, &FIRST[..20], &FIRST[20..]] {
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut read = vec![0; 2 * FIRST.len()];
        strict.read_exact(&mut read).await.unwrap();
        assert_eq!(strict.arrived.capacity(), 0);
    }
}
