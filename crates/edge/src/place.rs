//! A place among the calls that the gateway works on: how many there may be, and when none is given.
//!
//! Near the bound of its memory the gateway refuses new work, so that what it has begun gets done. But it always takes
//! one request if it has no other: memory that is not given back, by a leak or by an allocator that holds on to it,
//! must not make it deaf.

use http::{Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use trunkline_wire::{Fault, FaultCode, Id, Outcome, Pressure};

use crate::Edge;
use crate::body::Body;
use crate::limits::OVERLOAD_RETRY;
use crate::reply;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// As many requests are worked on as may be.
    Taken,
    /// The process is near the bound of its memory.
    Memory,
}

impl Edge {
    /// Takes a place for a request. It is given back on drop.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, NoPlace> {
        self.room()?;
        self.in_flight.clone().try_acquire_owned().map_err(|_| NoPlace::Taken)
    }

    /// Whether there is memory for work that needs no place.
    pub(crate) fn room(&self) -> Result<(), NoPlace> {
        let refuses = self.budget.pressure() == Pressure::Refuse && self.calls() > 0;
        if refuses { Err(NoPlace::Memory) } else { Ok(()) }
    }

    /// Requests that are worked on.
    pub(crate) fn calls(&self) -> usize {
        self.config().limits.in_flight.saturating_sub(self.in_flight.available_permits())
    }
}

impl NoPlace {
    /// What the request is answered, and counts it.
    pub(crate) fn fault(self, edge: &Edge) -> Fault {
        let (reason, text) = match self {
            Self::Taken => ("in_flight", "the gateway works on as many requests as it may (`limits.in_flight`)"),
            Self::Memory => ("memory", "the gateway is near the bound of its memory (`limits.memory_bytes`)"),
        };
        edge.metrics.rejected(reason);
        Fault {
            code: FaultCode::Overloaded,
            server: None,
            text: format!("{text}; try again in a second"),
            outcome: Outcome::NotSent,
            retryable: true,
            retry_after_ms: Some(u64::try_from(OVERLOAD_RETRY.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The same as a response of its own.
    pub(crate) fn response(self, edge: &Edge, id: Id) -> Response<Body> {
        let error = self.fault(edge).to_error();
        reply::with_retry_after(reply::error(StatusCode::SERVICE_UNAVAILABLE, Some(id), &error), OVERLOAD_RETRY)
    }
}
