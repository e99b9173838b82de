//! How fast sessions may begin: a burst at once, then a steady rate (S-24).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use trunkline_config::Limits;

/// How many sessions may still begin.
#[derive(Debug)]
pub(crate) struct Births(Mutex<Left>);

#[derive(Debug)]
struct Left {
    count: f64,
    at: Instant,
}

impl Births {
    /// The whole burst.
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self(Mutex::new(Left { count: burst(limits), at: now }))
    }

    /// Takes one. Fails with when the next may begin.
    pub(crate) fn take(&self, limits: &Limits, now: Instant) -> Result<(), Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a rate is a small number")]
        let rate = limits.sessions_per_sec.max(1) as f64;
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.count = (left.count + now.duration_since(left.at).as_secs_f64() * rate).min(burst(limits));
        left.at = now;
        if left.count < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left.count) / rate));
        }
        left.count -= 1.0;
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a burst is a small number")]
fn burst(limits: &Limits) -> f64 {
    limits.sessions_burst as f64
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
