//! [`Watched`]: a connection's bytes, with the three clocks that the HTTP library does not have, or has for a price.
//!
//! *The head's clock.* The library's one timer bounds the silence before a head and the head itself alike.
//! A kept-alive connection may rest for a minute and more, but a head that has begun, and the first one on a fresh
//! connection (S-23: silent sockets and halves of an HTTP/2 preface included), must be complete within seconds.
//! *The clock of rest.* It counts that minute. The library would allot and cancel a timer with each request; this one
//! runs on through them, and only when it ends asks whether the connection has rested all the while.
//! *The writer's clock.* A reader that takes no byte for 30 s is cut; while it stalls, nothing is
//! pulled from the stream behind it, so what it costs is what lies in the socket.
//!
//! It also lets [`Framing`] look at each head. All clocks end as an I/O error, which closes the connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::body::Phase;
use crate::framing::Framing;
use crate::limits::STALL_TIMEOUT;

/// What the clocks of a connection allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a head, from its first byte on.
    pub(crate) head: Duration,
    /// Between two requests.
    pub(crate) rest: Duration,
}

/// A socket under watch.
pub(crate) struct Watched<S> {
    inner: S,
    phase: Arc<Phase>,
    patience: Patience,
    /// The number of complete heads when the head now open began; `None` between requests.
    head: Option<u32>,
    framing: Framing,
    head_clock: Option<Pin<Box<Sleep>>>,
    /// When the connection has rested for too long; `None` while a request is open.
    rest_end: Option<Instant>,
    rest_clock: Option<Pin<Box<Sleep>>>,
    write_clock: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Watches `inner`. The clock of the first head runs from the first poll.
    pub(crate) fn new(inner: S, phase: Arc<Phase>, patience: Patience) -> Self {
        Self {
            inner,
            phase,
            patience,
            head: Some(0),
            framing: Framing::default(),
            head_clock: None,
            rest_end: None,
            rest_clock: None,
            write_clock: None,
        }
    }

    /// The first bytes after a response open the next head; later ones do not restart its clock.
    fn read_head(&mut self, bytes: &[u8]) {
        self.rest_end = None;
        let heads = self.phase.heads();
        if self.head != Some(heads) {
            self.head = Some(heads);
            self.framing = Framing::default();
            self.head_clock = None;
        }
        self.framing.feed(bytes);
        if self.framing.conflicts() {
            self.phase.note_conflict();
        }
    }

    /// The peer has sent nothing for now: fails if it owes us the rest of a head for too long, or has nothing to say.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.head == Some(self.phase.heads()) {
            return poll_clock(&mut self.head_clock, self.patience.head, cx, "the request's head took too long");
        }
        self.head = None;
        self.head_clock = None;
        self.poll_rest(cx)
    }

    /// Fails when no request has been open for too long.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase.is_busy() {
            self.rest_end = None;
            return Poll::Pending;
        }
        let rest = self.patience.rest;
        let end = *self.rest_end.get_or_insert_with(|| Instant::now() + rest);
        let clock = self.rest_clock.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(clock.as_mut().poll(cx));
            if clock.deadline() >= end {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")));
            }
            clock.as_mut().reset(end);
        }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_clock = None;
            return outcome;
        }
        let stalled = ready!(poll_clock(&mut self.write_clock, STALL_TIMEOUT, cx, "the reader has stalled"));
        Poll::Ready(Err(stalled.expect_err("a clock ends as an error")))
    }
}

/// Starts the clock if it is not running; an error when it has run out.
fn poll_clock(
    clock: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    cx: &mut Context<'_>,
    text: &'static str,
) -> Poll<io::Result<()>> {
    let clock = clock.get_or_insert_with(|| Box::pin(sleep(limit)));
    ready!(clock.as_mut().poll(cx));
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                if buf.filled().len() > before && !this.phase.is_busy() {
                    this.read_head(&buf.filled()[before..]);
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => this.poll_silence(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.wrote(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        ready!(self.wrote(cx, outcome))?;
        // The library flushes when a response is complete, and does not read again before something comes.
        if self.head != Some(self.phase.heads())
            && let Poll::Ready(Err(error)) = self.poll_rest(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
