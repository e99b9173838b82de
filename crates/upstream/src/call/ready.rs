//! Waiting until a server is ready, and the sentence for when it will not be in time.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use trunkline_wire::Outcome;

use crate::error::{CallError, CallErrorKind};
use crate::handle::{Shared, mark};
use crate::limits::CHANGE_WAIT;
use crate::link::Link;
use crate::state::Phase;
use crate::status::StateView;

impl Shared {
    /// The connection, if calls may use it now.
    pub(crate) fn usable(&self) -> Option<Arc<Link>> {
        usable(&self.states.borrow())
    }

    /// Waits until the server is ready, not beyond `until`, and not at all where that is known to be in vain.
    ///
    /// A server that backs off is asked for one attempt at once. If that fails, the planned one is waited for
    /// only if it is near: a server that has been away for long costs its callers 2 s and not ten.
    pub(crate) async fn ready(&self, until: Instant) -> Result<Arc<Link>, CallError> {
        if let Some(link) = usable(&self.states.borrow()) {
            return Ok(link);
        }
        let waiting_since = Instant::now();
        let mut states = self.states.subscribe();
        let first_seen = states.borrow().since;
        loop {
            let view = states.borrow_and_update().clone();
            if let Some(link) = usable(&view) {
                self.metrics.ready_wait(waiting_since.elapsed().as_secs_f64());
                return Ok(link);
            }
            // Those that run on the old connection may take longer than others care to wait.
            let until = if view.changing { until.min(waiting_since + CHANGE_WAIT) } else { until };
            let may_demand = view.since == first_seen;
            if view.next_chance(may_demand, Instant::now()).is_none_or(|chance| chance > until) {
                return Err(self.away(&view));
            }
            // One that fell asleep is woken as often as it takes; that is no failure.
            if view.phase == Phase::Idle || (may_demand && view.demand_from.is_some()) {
                self.marks.raise(mark::DEMAND);
            }
            let changed = tokio::select! {
                biased;
                () = self.draining.cancelled() => return Err(self.stopping()),
                changed = timeout_at(until, states.changed()) => changed,
            };
            if changed.is_err() {
                return Err(self.away(&states.borrow()));
            }
        }
    }

    /// Whether new requests still go by this connection.
    pub(crate) fn carries(&self, link: &Arc<Link>) -> bool {
        self.states.borrow().link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
    }

    /// The server is not there, and will not be in time.
    fn away(&self, view: &StateView) -> CallError {
        let now = Instant::now();
        let text = view.sentence(&self.name, now);
        let text = text.unwrap_or_else(|| format!("server `{}` lost its connection", self.name));
        let kind = match view.phase {
            Phase::NeedsAuth { .. } => CallErrorKind::AuthRequired,
            Phase::Draining { .. } | Phase::Stopped => CallErrorKind::ShuttingDown,
            Phase::Disabled
            | Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Backoff { .. }
            | Phase::Open { .. }
            | Phase::Probing { .. }
            | Phase::Misconfigured { .. } => CallErrorKind::Unavailable,
        };
        CallError {
            retry_after: view.next_attempt.map(|at| at.saturating_duration_since(now)),
            ..self.error(kind, Outcome::NotSent, text)
        }
    }
}

/// The connection, if calls may use it.
fn usable(view: &StateView) -> Option<Arc<Link>> {
    view.link.as_ref().filter(|link| matches!(view.phase, Phase::Ready { .. }) && !link.is_down()).cloned()
}
