//! [`Writer`]: the way to a server's stdin.
//!
//! Mostly the pipe has room. Then the sender itself writes its line, and the server has it without a task having been
//! woken. Where the pipe is full, the rest queues and the task [`Writer::flush`] writes it, everything queued at once.
//! A line is never left half written by a sender that gave up: what the pipe did not take belongs to the queue.
//!
//! A server that takes no byte for ten seconds is broken (reliability 9.8): the writer closes, and everybody hears of
//! it through [`Writer::closed`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::transport::{FaultPoint, SendError};

/// For the server to take at least one byte of what waits.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Lines that may wait. More than the calls that a server is ever given at once, so it bounds only what nobody waits
/// for: notifications and answers to a server that does not read them. A line beyond it is refused.
const QUEUE_MAX: usize = 4096;

/// Pieces given to the system at once.
const PIECES_MAX: usize = 64;

type Pipe = Pin<Box<dyn AsyncWrite + Send>>;

/// Writes lines. Shared by all senders and the flush task.
pub(super) struct Writer {
    state: Mutex<State>,
    /// There is something to flush.
    work: Notify,
    closed: CancellationToken,
}

struct State {
    /// `None` once closed.
    pipe: Option<Pipe>,
    /// Lines that wait, the first of them possibly in part.
    queue: VecDeque<Bytes>,
    /// Why it closed.
    why: Option<String>,
}

impl Writer {
    pub(super) fn new(pipe: impl AsyncWrite + Send + 'static) -> Self {
        let state = State { pipe: Some(Box::pin(pipe)), queue: VecDeque::new(), why: None };
        Self { state: Mutex::new(state), work: Notify::new(), closed: CancellationToken::new() }
    }

    /// Writes `line` and a line end, or queues what the pipe does not take now.
    pub(super) fn send(&self, line: Bytes) -> Result<(), SendError> {
        let mut state = self.state();
        if state.pipe.is_none() {
            let why = state.why.as_deref().unwrap_or("the connection is closed");
            return Err(refused(why));
        }
        if state.queue.len() >= QUEUE_MAX {
            return Err(refused("the server does not read its stdin and too much waits for it"));
        }
        let idle = state.queue.is_empty();
        state.queue.push_back(line);
        state.queue.push_back(Bytes::from_static(b"\n"));
        if !idle {
            return Ok(());
        }
        let before = state.waiting();
        match state.write(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => {
                let fault =
                    if state.waiting() == before { FaultPoint::NothingSent } else { FaultPoint::LostUnanswered };
                let text = format!("writing to its stdin failed: {error}");
                self.close_locked(&mut state, text.clone());
                Err(SendError { fault, text, retry_after: None })
            }
            Poll::Pending => {
                self.work.notify_one();
                Ok(())
            }
        }
    }

    /// Writes what senders had to leave, until the writer closes.
    pub(super) async fn flush(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = self.work.notified() => {}
            }
            if let Err(why) = self.flush_queue().await {
                self.close(why);
            }
        }
    }

    /// Closes the pipe, which the server sees as the end of its stdin. What still waits is dropped.
    pub(super) fn close(&self, why: impl Into<String>) {
        self.close_locked(&mut self.state(), why.into());
    }

    /// Cancelled once the writer is closed, for whatever reason.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Why it is closed.
    pub(super) fn why(&self) -> String {
        self.state().why.clone().unwrap_or_default()
    }

    async fn flush_queue(&self) -> Result<(), String> {
        let mut waiting = self.state().waiting();
        while waiting > 0 {
            // Done when all is written or when anything is: a slow server is not a stalled one.
            let step = poll_fn(|context| {
                let mut state = self.state();
                let written = state.write(context);
                if written.is_pending() && state.waiting() < waiting { Poll::Ready(Ok(())) } else { written }
            });
            let stepped = tokio::select! {
                biased;
                () = self.closed.cancelled() => return Ok(()),
                stepped = timeout(STALL_LIMIT, step) => stepped,
            };
            match stepped {
                Ok(Ok(())) => waiting = self.state().waiting(),
                Ok(Err(error)) => return Err(format!("writing to its stdin failed: {error}")),
                Err(_) => return Err(format!("it did not read its stdin for {} s", STALL_LIMIT.as_secs())),
            }
        }
        Ok(())
    }

    fn close_locked(&self, state: &mut State, why: String) {
        if state.pipe.take().is_some() {
            state.queue = VecDeque::new();
            state.why = Some(why);
            self.closed.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes until nothing waits, or the pipe takes no more.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        while !self.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.queue.len().min(PIECES_MAX);
            for (piece, line) in pieces.iter_mut().zip(&self.queue) {
                *piece = IoSlice::new(line);
            }
            let mut taken = match pipe.as_mut().poll_write_vectored(context, &pieces[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            while let Some(first) = self.queue.front_mut() {
                if taken < first.len() {
                    first.advance(taken);
                    break;
                }
                taken -= first.len();
                self.queue.pop_front();
            }
        }
        // A burst must not be remembered in memory.
        if self.queue.capacity() > PIECES_MAX * 2 {
            self.queue = VecDeque::new();
        }
        // A pipe needs no flush, but a wrapper around one may.
        pipe.as_mut().poll_flush(context)
    }

    fn waiting(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum()
    }
}

fn refused(why: &str) -> SendError {
    SendError { fault: FaultPoint::NothingSent, text: why.to_owned(), retry_after: None }
}
