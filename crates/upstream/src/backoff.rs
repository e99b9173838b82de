//! How long to wait before the next attempt. Pure: the caller brings the number of failures and the luck.
//!
//! Three ladders: the quick one for what may pass by itself, the slow one for what a person must change
//! the crash loop's for a child that keeps exiting. What a server says itself (`Retry-After`)
//! takes the place of the quick one. And the short pause before a request that failed is sent again.

use std::time::Duration;

/// First step of the quick ladder.
const QUICK_BASE: Duration = Duration::from_millis(500);
/// Last step of the quick ladder.
const QUICK_CAP: Duration = Duration::from_mins(1);
/// First step of the slow ladder.
const SLOW_BASE: Duration = Duration::from_mins(1);
/// Last step of the slow ladder.
const SLOW_CAP: Duration = Duration::from_mins(15);
/// First step of the crash loop's ladder.
const CRASH_BASE: Duration = Duration::from_mins(1);
/// Last step of the crash loop's ladder.
const CRASH_CAP: Duration = Duration::from_mins(5);
/// First pause before a request is sent again (reliability 5).
const RESEND_BASE: Duration = Duration::from_millis(100);
/// Servers that are all looked at for one reason are so within this time.
const STAGGER: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that is honoured.
const TOLD_CAP: Duration = Duration::from_mins(5);

/// A random number in `[0, 1)`, drawn by whoever calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Luck(pub(crate) f64);

/// Full jitter: anything from nothing to 0.5 s, doubling with each failure to 60 s.
///
/// Full, because servers that fail together must not come back together.
pub(crate) fn quick(failures: u32, luck: Luck) -> Duration {
    doubled(QUICK_BASE, failures, QUICK_CAP).mul_f64(luck.0)
}

/// 60 s, doubling with each failure to 15 min.
pub(crate) fn slow(failures: u32) -> Duration {
    doubled(SLOW_BASE, failures, SLOW_CAP)
}

/// 60 s, doubling with each return to 300 s.
pub(crate) fn crash_loop(returns: u32) -> Duration {
    doubled(CRASH_BASE, returns, CRASH_CAP)
}

/// Before a request is sent again for the `resends`-th time: 100 ms, more each time, and up to twice that.
pub(crate) fn resend(resends: u32, luck: Luck) -> Duration {
    RESEND_BASE.mul_f64(f64::from(resends) * (1.0 + luck.0))
}

/// A moment, so that many servers do not do the same thing in the same instant.
pub(crate) fn stagger(luck: Luck) -> Duration {
    STAGGER.mul_f64(luck.0)
}

/// What the server asked for, at most 300 s, and up to a fifth more.
pub(crate) fn told(retry_after: Duration, luck: Luck) -> Duration {
    retry_after.min(TOLD_CAP).mul_f64(1.0 + luck.0 / 5.0)
}

fn doubled(base: Duration, times: u32, cap: Duration) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(times)).min(cap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladders_double_up_to_their_caps() {
        let most = |failures| quick(failures, Luck(1.0));
        assert_eq!([most(0), most(1), most(4)].map(|wait| wait.as_millis()), [500, 1000, 8000]);
        assert_eq!(most(7), QUICK_CAP);
        assert_eq!([slow(0), slow(1), slow(9)].map(|wait| wait.as_secs()), [60, 120, 900]);
        assert_eq!([crash_loop(0), crash_loop(1), crash_loop(3)].map(|wait| wait.as_secs()), [60, 120, 300]);
    }

    proptest! {
        #[test]
        fn r11_no_wait_leaves_its_bounds(failures: u32, luck in 0.0..1.0_f64, asked in 0..1_000_000_u64) {
            let luck = Luck(luck);
            prop_assert!(quick(failures, luck) <= QUICK_CAP);
            prop_assert!((SLOW_BASE..=SLOW_CAP).contains(&slow(failures)));
            prop_assert!((CRASH_BASE..=CRASH_CAP).contains(&crash_loop(failures)));
            let asked = Duration::from_secs(asked);
            let wait = told(asked, luck);
            prop_assert!(wait >= asked.min(TOLD_CAP) && wait <= TOLD_CAP.mul_f64(1.2));
        }
    }
}
