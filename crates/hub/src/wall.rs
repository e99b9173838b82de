//! The wall clock, for what outlives the process.
//!
//! While the process runs, time is told by the monotonic clock and a jump of this one moves nothing. Only what is
//! read by the next process, which knows nothing of this one's clock, is dated: when a session began, when it was last
//! used, until when a link may be visited. Each reader of such a date leaves room for a day's jump.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the clock may have jumped between two readings.
pub(crate) const JUMP: Duration = Duration::from_hours(24);

/// Seconds of the Unix age.
#[expect(clippy::disallowed_methods, reason = "a date for another process, which shares no other clock with this one")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}
