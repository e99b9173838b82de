//! [`Stale`]: how long a server has failed, and when that is too long to go on listing what it offered.
//!
//! Without `stale_keep_sec` that is never: what a server offered outlives its failures, and a call to it says why it
//! is away. One that starts, sleeps or waits for a credential is not failing, whatever it did before it was told to.

use std::time::Duration;

use tokio::time::Instant;

use crate::state::Phase;

/// Since when a server fails, and whether its entries are still listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stale {
    since: Option<Instant>,
    withdrawn: bool,
}

impl Stale {
    /// The server came to this state. Attempts in between do not end a time of failure.
    pub(crate) fn note(&mut self, phase: Phase, now: Instant) {
        match phase {
            Phase::Backoff { .. } | Phase::Open { .. } | Phase::Misconfigured { .. } => {
                self.since.get_or_insert(now);
            }
            Phase::Ready { .. } | Phase::Idle | Phase::NeedsAuth { .. } => *self = Self::default(),
            Phase::Disabled
            | Phase::Starting
            | Phase::Handshake
            | Phase::Suspect { .. }
            | Phase::Probing { .. }
            | Phase::Draining { .. }
            | Phase::Stopped => {}
        }
    }

    /// When its entries go.
    pub(crate) fn due(&self, keep: Option<Duration>) -> Option<Instant> {
        Some(self.since.filter(|_| !self.withdrawn)? + keep?)
    }

    /// Its entries went.
    pub(crate) fn withdrawn(&mut self) {
        self.withdrawn = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Fuse;

    #[tokio::test(start_paused = true)]
    async fn r22_a_time_of_failure_goes_on_over_attempts_and_ends_when_the_server_is_back() {
        let now = Instant::now();
        let keep = Some(Duration::from_mins(1));
        let backoff = Phase::Backoff { until: now, told: false };
        let mut stale = Stale::default();
        stale.note(Phase::Starting, now);
        assert_eq!(stale.due(keep), None);
        for (phase, after) in
            [(backoff, 1), (Phase::Starting, 2), (Phase::Open { until: now, fuse: Fuse::CrashLoop, linked: false }, 3)]
        {
            stale.note(phase, now + Duration::from_secs(after));
            assert_eq!(stale.due(keep), Some(now + Duration::from_secs(61)));
        }
        assert_eq!(stale.due(None), None, "without end");
        stale.withdrawn();
        assert_eq!(stale.due(keep), None);
        for healed in [Phase::Ready { check_at: now }, Phase::NeedsAuth { until: now }] {
            stale.note(backoff, now);
            stale.note(healed, now);
            assert_eq!(stale, Stale::default());
        }
    }
}
