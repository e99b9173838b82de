//! A server's places: how many requests it works on at a time, who waits for one, and the bill of each request.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use trunkline_wire::{Method, Outcome};

use crate::error::{CallError, CallErrorKind};
use crate::handle::Shared;
use crate::places::{Seat, Taken};

impl Place {
    /// Takes a place at the server for the client `share`: at once, or in its turn from a bounded queue.
    pub(super) async fn take(shared: &Arc<Shared>, share: u64) -> Result<Self, CallError> {
        let server = shared.server();
        let tuning = &server.tuning;
        let full = |why: String| {
            let text = format!("server `{}` has {} requests to work on and {why}", shared.name, tuning.in_flight_max);
            shared.error(CallErrorKind::Overloaded, Outcome::NotSent, text)
        };
        let mut ticket = match shared.places.take(share, tuning.queue_max) {
            Taken::Seat(seat) => return Ok(Place::new(seat, shared)),
            Taken::Ticket(ticket) => ticket,
            Taken::Full => return Err(full(format!("{} more waiting; try again later", tuning.queue_max))),
        };
        let _queued = Queued::enter(shared);
        let until = Instant::now() + tuning.queue_wait;
        let seated = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return Err(shared.stopping()),
            seated = timeout_at(until, ticket.seated()) => seated,
        };
        let late = |_| full(format!("none was done within {} s; try again later", tuning.queue_wait.as_secs_f64()));
        seated.map(|seat| Place::new(seat, shared)).map_err(late)
    }
}

/// One of a server's places, given back on drop.
pub(super) struct Place {
    _seat: Seat,
    shared: Arc<Shared>,
}

impl Place {
    fn new(seat: Seat, shared: &Arc<Shared>) -> Self {
        shared.metrics.inflight(1);
        Self { _seat: seat, shared: shared.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.metrics.inflight(-1);
        self.shared.used();
    }
}

/// A request in the queue for a place, as the metrics show it.
struct Queued<'a>(&'a Shared);

impl<'a> Queued<'a> {
    fn enter(shared: &'a Shared) -> Self {
        shared.metrics.queue_depth(1);
        Self(shared)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.metrics.queue_depth(-1);
    }
}

/// A call that waits for a person. What its server remembers of it, be it a task, must not end meanwhile.
pub(super) struct Asking(Arc<Shared>);

impl Asking {
    /// From now until it is dropped.
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        shared.asks(true);
        Self(shared.clone())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asks(false);
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
