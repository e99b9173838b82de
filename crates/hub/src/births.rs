//! How fast sessions may begin: a burst at once, then a steady rate (S-24).

use std::time::Duration;

use tokio::time::Instant;
use trunkline_config::Limits;

use crate::pace::{Pace, Rate};

/// How many sessions may still begin.
#[derive(Debug)]
pub(crate) struct Births(Pace);

impl Births {
    /// The whole burst.
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self(Pace::new(rate(limits), now))
    }

    /// Takes one. Fails with when the next may begin.
    pub(crate) fn take(&self, limits: &Limits, now: Instant) -> Result<(), Duration> {
        self.0.take(rate(limits), Duration::ZERO, now).map(|_| ())
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are small numbers")]
fn rate(limits: &Limits) -> Rate {
    Rate { burst: limits.sessions_burst as f64, per_sec: limits.sessions_per_sec.max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s24_a_burst_begins_at_once_and_then_one_after_the_other() {
        let limits = Limits { sessions_burst: 3, sessions_per_sec: 2, ..Limits::default() };
        let start = Instant::now();
        let births = Births::new(&limits, start);
        for _ in 0..3 {
            assert_eq!(births.take(&limits, start), Ok(()));
        }
        assert_eq!(births.take(&limits, start), Err(Duration::from_millis(500)));
        assert_eq!(births.take(&limits, start + Duration::from_millis(500)), Ok(()));
        assert!(births.take(&limits, start + Duration::from_millis(600)).is_err());
    }
}
