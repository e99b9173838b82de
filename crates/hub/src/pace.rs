//! [`Pace`]: how fast something may go on: a burst at once, then a steady rate, and no longer a wait than is allowed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is left of a burst.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Left>);

/// Below nothing while some wait for their turn.
#[derive(Debug)]
struct Left {
    count: f64,
    at: Instant,
}

/// A burst, and how many follow it in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    pub burst: f64,
    pub per_sec: f64,
}

impl Rate {
    /// So many within any minute, as nearly as a bucket can say it: all of them at once, then evenly.
    pub(crate) fn per_minute(count: u32) -> Self {
        let count = f64::from(count);
        Self { burst: count, per_sec: count / 60.0 }
    }
}

impl Pace {
    /// The whole burst.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self(Mutex::new(Left { count: rate.burst, at: now }))
    }

    /// Takes the next turn, and says how long it is until then. Fails with how long it would be, if that is longer than
    /// `patience`; then nothing is taken.
    pub(crate) fn take(&self, rate: Rate, patience: Duration, now: Instant) -> Result<Duration, Duration> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(left.at).as_secs_f64();
        left.count = (left.count + since * rate.per_sec).min(rate.burst);
        left.at = now;
        let wait = Duration::from_secs_f64(((1.0 - left.count) / rate.per_sec).max(0.0));
        if wait > patience {
            return Err(wait);
        }
        left.count -= 1.0;
        Ok(wait)
    }

    /// Gives a turn back that came to nothing. Who waits already keeps his; the next to ask has it.
    pub(crate) fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_then_each_waits_its_turn_and_nobody_longer_than_he_would() {
        let rate = Rate { burst: 3.0, per_sec: 2.0 };
        let start = Instant::now();
        let pace = Pace::new(rate, start);
        let take = |patience, after| {
            let now = start + Duration::from_millis(after);
            pace.take(rate, Duration::from_millis(patience), now)
                .map(|wait| wait.as_millis())
                .map_err(|w| w.as_millis())
        };
        for _ in 0..3 {
            assert_eq!(take(0, 0), Ok(0));
        }
        assert_eq!(take(0, 0), Err(500));
        assert_eq!((take(1000, 0), take(1000, 0), take(1000, 0)), (Ok(500), Ok(1000), Err(1500)));
        assert_eq!(take(1000, 500), Ok(1000), "who was refused took nothing");
        assert_eq!(take(0, 60_000), Ok(0));
        pace.give_back();
        pace.give_back();
        for _ in 0..3 {
            assert_eq!(take(0, 60_000), Ok(0), "what is given back can be taken");
        }
        assert!(take(0, 60_000).is_err(), "and is never more than the burst");
    }
}
