//! A server's places: how many requests it works on at a time, who waits for one, and the bill of each request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use trunkline_wire::{Method, Outcome};

use crate::error::{CallError, CallErrorKind};
use crate::handle::Shared;

impl Place {
    /// Takes a place at the server: at once, or from a bounded queue in the order of asking.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, CallError> {
        let tuning = &shared.server().tuning;
        if let Ok(permit) = shared.places.clone().try_acquire_owned() {
            return Ok(Place::new(permit, shared));
        }
        let full = |why: String| {
            let text = format!("server `{}` has {} requests to work on and {why}", shared.name, tuning.in_flight_max);
            shared.error(CallErrorKind::Overloaded, Outcome::NotSent, text)
        };
        let Some(_queued) = Queued::enter(shared, tuning.queue_max) else {
            return Err(full(format!("{} more waiting; try again later", tuning.queue_max)));
        };
        let until = Instant::now() + tuning.queue_wait;
        let place = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return Err(shared.stopping()),
            place = timeout_at(until, shared.places.clone().acquire_owned()) => place,
        };
        match place {
            Ok(Ok(permit)) => Ok(Place::new(permit, shared)),
            Ok(Err(_)) | Err(_) => {
                Err(full(format!("none was done within {} s; try again later", tuning.queue_wait.as_secs_f64())))
            }
        }
    }
}

/// One of a server's places, given back on drop.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, shared: &Arc<Shared>) -> Self {
        shared.metrics.inflight(1);
        Self { _permit: permit, shared: shared.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.metrics.inflight(-1);
        self.shared.used();
    }
}

/// A request in the queue for a place, out of it on drop.
struct Queued<'a>(&'a Shared);

impl<'a> Queued<'a> {
    fn enter(shared: &'a Shared, most: usize) -> Option<Self> {
        let fits = |waiting: usize| (waiting < most).then_some(waiting + 1);
        shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        shared.metrics.queue_depth(1);
        Some(Self(shared))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.queue_depth(-1);
    }
}

/// Counts a request once, when it is over in whatever way.
pub(super) struct Bill {
    shared: Arc<Shared>,
    method: Method,
    begun: Instant,
    pub(super) outcome: &'static str,
}

impl Bill {
    /// The bill of a request that begins now.
    pub(super) fn open(shared: &Arc<Shared>, method: &Method) -> Self {
        // What nobody says otherwise is a caller who left.
        Self { shared: shared.clone(), method: method.clone(), begun: Instant::now(), outcome: "cancelled" }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.shared.metrics.request(&self.method, self.outcome, self.begun.elapsed().as_secs_f64());
    }
}
