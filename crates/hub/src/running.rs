//! One request of a legacy client that is being worked on.
//!
//! The work is a future that ends by putting the answer into the request's [`Outbox`]. Nobody owns it for good:
//! the reply to the POST drives it inline, so that an ordinary call costs no task. When that reply is dropped
//! the client has gone, which is no cancellation (mcp-protocol 2.8, R-44): the work then moves into a task of
//! its own. Cancelling takes the future away and drops it, which tells the server.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;

use crate::replay::{Event, First, Outbox, Reader};
use crate::session::Session;

/// A request being worked on.
pub(crate) struct Running {
    /// Where its notices and its answer go.
    pub outbox: Arc<Outbox>,
    work: Mutex<Work>,
}

struct Work {
    future: Option<BoxFuture<'static, ()>>,
    has_task: bool,
}

impl Running {
    /// Work that has not begun: the future puts the answer into `outbox` before it ends.
    pub(crate) fn new(outbox: Arc<Outbox>, future: BoxFuture<'static, ()>) -> Arc<Self> {
        Arc::new(Self { outbox, work: Mutex::new(Work { future: Some(future), has_task: false }) })
    }

    /// Goes on with the work on behalf of a reply, unless a task does. Were both to, the work would wake
    /// whoever looked last, and that may be a reply that nobody reads any more.
    fn go_on(&self, context: &mut Context<'_>) {
        let work = self.lock();
        if !work.has_task {
            let _ = Self::poll(work, context);
        }
    }

    /// Goes on with the work. Ready when there is none left.
    fn poll(mut work: MutexGuard<'_, Work>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut work.future else { return Poll::Ready(()) };
        if future.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        work.future = None;
        Poll::Ready(())
    }

    /// Gives the work a task of its own, unless it is done or has one.
    pub(crate) fn detach(self: &Arc<Self>) {
        {
            let mut work = self.lock();
            if work.future.is_none() || work.has_task {
                return;
            }
            work.has_task = true;
        }
        let this = Arc::clone(self);
        trunkline_telemetry::spawn(
            "legacy call",
            std::future::poll_fn(move |context| Self::poll(this.lock(), context)),
        );
    }

    /// Takes the work away. Says whether there was any left.
    pub(crate) fn stop(&self) -> bool {
        let future = self.lock().future.take();
        // Dropped here, outside the lock: it may call back into the session.
        future.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives the work for the reply to a POST; hands it over when the reply is dropped.
pub(crate) struct Driver(pub Arc<Running>);

impl Driver {
    /// Waits for what the request comes to first.
    pub(crate) async fn first(&self) -> First {
        std::future::poll_fn(|context| {
            // Nobody else reads yet, and what the work brings is looked for right behind it.
            self.0.outbox.hush();
            self.0.go_on(context);
            self.0.outbox.poll_first(context)
        })
        .await
    }

    /// Goes on as the answer stream of `session`.
    pub(crate) fn into_events(self, session: &Session) -> AnswerEvents {
        let (reader, primed) = session.commit(&self.0.outbox);
        AnswerEvents { priming: primed, reader, outbox: Arc::clone(&self.0.outbox), driver: Some(self) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.outbox.deserted();
        self.0.detach();
    }
}

/// An answer stream, read by the POST that asked or by a GET that resumed it.
pub(crate) struct AnswerEvents {
    priming: Option<Event>,
    reader: Reader,
    outbox: Arc<Outbox>,
    /// Only the POST drives; a resumed stream has a task by then.
    driver: Option<Driver>,
}

impl AnswerEvents {
    /// The stream as a GET reads it on, after the event `after`.
    pub(crate) fn resumed(outbox: Arc<Outbox>, after: u64) -> Self {
        Self { priming: None, reader: outbox.resume(after), outbox, driver: None }
    }
}

impl Stream for AnswerEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        if let Some(priming) = this.priming.take() {
            return Poll::Ready(Some(priming));
        }
        if let Some(driver) = &this.driver {
            driver.0.go_on(context);
        }
        this.outbox.poll_event(&mut this.reader, context)
    }
}

impl Drop for AnswerEvents {
    fn drop(&mut self) {
        self.outbox.leave(&self.reader);
    }
}
