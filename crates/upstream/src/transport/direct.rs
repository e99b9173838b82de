//! [`Direct`]: HTTP/1 to one server near by, over connections that whoever asks drives himself.
//!
//! The library's own client gives each connection a task, and a call then goes through two of them and a third that
//! puts the connection back. Here the connection is polled by the caller, in the same poll as the request and later
//! the body, so that the answer wakes just one task: his. Nobody drives a connection that rests. When it is taken up
//! again it is polled once before anything is sent, which shows what happened to it meanwhile.
//!
//! Rules: a connection that has rested for 15 s is not used again, and a sweeper closes it; one whose answer was
//! not read to its end is closed; a request is sent over another connection only when not a byte of it was written, and
//! never again over a fresh one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tower::util::ServiceExt;
use trunkline_telemetry::Rounds;

use super::client::Connector;

/// A resting connection may have died unseen, and a tool call must not be the one to find out.
pub(super) const REST_MAX: Duration = Duration::from_secs(15);

/// As many as may be in flight at one server (reliability 7); more would lie idle.
pub(super) const RESTING_MAX: usize = 64;

/// Sends requests to one server. Cloning shares its connections.
#[derive(Debug, Clone)]
pub(super) struct Direct(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    /// The newest last.
    resting: Mutex<Vec<Resting>>,
    swept: AtomicBool,
}

#[derive(Debug)]
struct Resting {
    line: Box<Line>,
    since: Instant,
}

/// A connection.
#[derive(Debug)]
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it is over.
    connection: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    rounds: Rounds,
}

/// The body of an answer, with the connection that it comes over.
#[derive(Debug)]
pub(crate) struct Answering {
    body: Incoming,
    /// The end was seen.
    ended: bool,
    /// Taken on drop.
    line: Option<Box<Line>>,
    home: Arc<Shared>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// No connection could be made.
    Unreachable(<Connector as tower::Service<Uri>>::Error),
    /// The connection failed the request.
    Broke(hyper::Error),
}

impl Direct {
    /// Connects to nothing yet.
    pub(super) fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared { connector, resting: Mutex::default(), swept: AtomicBool::new(false) }))
    }

    /// Sends a request, whose target is a path alone, to the server at `to`, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        to: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answering>, NoAnswer> {
        loop {
            let rested = self.0.take();
            let is_fresh = rested.is_none();
            let mut line = match rested {
                Some(line) => line,
                None => self.connect(to).await?,
            };
            let mut failed = match line.ask(request).await {
                Ok(answer) => {
                    let home = self.0.clone();
                    return Ok(answer.map(|body| Answering { body, ended: false, line: Some(line), home }));
                }
                Err(failed) => failed,
            };
            // Each turn uses up a resting connection, so there is an end to it.
            match failed.take_message().filter(|_| !is_fresh) {
                Some(unsent) => request = unsent,
                None => return Err(NoAnswer::Broke(failed.into_error())),
            }
        }
    }

    /// Closes what rests.
    pub(super) fn renew(&self) {
        let resting = std::mem::take(&mut *self.0.resting());
        // Closes sockets, so outside the lock.
        drop(resting);
    }

    async fn connect(&self, to: &Uri) -> Result<Box<Line>, NoAnswer> {
        let stream = self.0.connector.clone().oneshot(to.clone()).await.map_err(NoAnswer::Unreachable)?;
        let (sender, connection) = http1::handshake(stream).await.map_err(NoAnswer::Broke)?;
        if !self.0.swept.swap(true, Ordering::Relaxed) {
            trunkline_telemetry::spawn("idle connections", sweep(Arc::downgrade(&self.0)));
        }
        Ok(Box::new(Line { sender, connection: Some(connection), rounds: Rounds::default() }))
    }
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Box<TrySendError<Request<Full<Bytes>>>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| self.poll(context, |context| answer.as_mut().poll(context))).await.map_err(Box::new)
    }

    /// Goes on with the connection, and with the part of it that is waited for.
    fn poll<T>(&mut self, context: &mut Context<'_>, mut part: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Self { connection, rounds, .. } = self;
        rounds.poll(context, |context| {
            // A body comes when it is asked for; asked for now, it comes in this round.
            if let Poll::Ready(ready) = part(context) {
                return Poll::Ready(ready);
            }
            // How it ended, the part is told as well.
            if connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(context).is_ready()) {
                *connection = None;
            }
            part(context)
        })
    }

    /// Whether the next request may go over it. Notices if the server has closed it.
    fn is_usable(&mut self) -> bool {
        let _ = self.poll(&mut Context::from_waker(Waker::noop()), |_| Poll::<()>::Pending);
        self.connection.is_some() && self.sender.is_ready()
    }
}

impl Shared {
    /// Takes the connection that rested last, if it still stands.
    fn take(&self) -> Option<Box<Line>> {
        loop {
            // One at a time: what is dropped here closes a socket, and is dropped outside the lock.
            let Resting { mut line, since } = self.resting().pop()?;
            if since.elapsed() < REST_MAX && line.is_usable() {
                return Some(line);
            }
        }
    }

    fn rest(&self, mut line: Box<Line>) {
        line.rounds.rest();
        let mut resting = self.resting();
        if resting.len() < RESTING_MAX {
            resting.push(Resting { line, since: Instant::now() });
        }
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what has rested for too long, until the last user of the connections is gone.
async fn sweep(shared: Weak<Shared>) {
    let mut next = Instant::now() + REST_MAX;
    loop {
        sleep_until(next).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        let mut resting = shared.resting();
        let fresh = resting.partition_point(|resting| resting.since + REST_MAX <= now);
        let old: Vec<Resting> = resting.drain(..fresh).collect();
        // Those that begin to rest from now on are due later still.
        next = resting.first().map_or(now, |oldest| oldest.since) + REST_MAX;
        drop(resting);
        drop(old);
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, ended, line, .. } = self.get_mut();
        let polled = match line {
            Some(line) => line.poll(context, |context| Pin::new(&mut *body).poll_frame(context)),
            None => Poll::Ready(None),
        };
        *ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(line) = self.line.take().filter(|_| self.is_end_stream())
            && line.connection.is_some()
            && line.sender.is_ready()
        {
            self.home.rest(line);
        }
    }
}

#[cfg(test)]
mod tests;
