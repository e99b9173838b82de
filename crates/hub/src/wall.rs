//! The wall clock, for what outlives the process.
//!
//! While the process runs, time is told by the monotonic clock and a jump of this one moves nothing. Only what is
//! read by the next process, which knows nothing of this one's clock, is dated: when a session began, when it was last
//! used, until when a link may be visited. Each reader of such a date leaves room for a day's jump.

use std::time::Duration;

pub(crate) use trunkline_config::wall_clock as now;

/// How far the clock may have jumped between two readings.
pub(crate) const JUMP: Duration = Duration::from_hours(24);
