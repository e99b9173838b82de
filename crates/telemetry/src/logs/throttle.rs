//! How much may be logged: pure, time is passed in. Both count in windows of a minute.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(1);

/// Lines per cause and window.
const REPEATS_MAX: u32 = 10;

/// Causes told apart in a window; those beyond are not logged. Far more than a healthy program has.
const CAUSES_MAX: usize = 4096;

/// Bytes of the log per window.
const BUDGET_BYTES: usize = 1024 * 1024;

/// Counts lines per cause.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    window: Window,
    counts: HashMap<u64, u32>,
}

/// Counts bytes.
#[derive(Debug, Default)]
pub(super) struct Budget {
    window: Window,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Window(Option<Instant>);

impl Repeats {
    pub(super) fn allow(&mut self, cause: u64, now: Instant) -> bool {
        if self.window.turned(now) {
            self.counts.clear();
        }
        if self.counts.len() >= CAUSES_MAX && !self.counts.contains_key(&cause) {
            return false;
        }
        let count = self.counts.entry(cause).or_default();
        *count = count.saturating_add(1);
        *count <= REPEATS_MAX
    }
}

impl Budget {
    pub(super) fn allow(&mut self, bytes: usize, now: Instant) -> bool {
        if self.window.turned(now) {
            self.bytes = 0;
        }
        let fits = self.bytes + bytes <= BUDGET_BYTES;
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Window {
    /// Returns whether a new window began.
    fn turned(&mut self, now: Instant) -> bool {
        let over = self.0.is_none_or(|start| now.duration_since(start) >= WINDOW);
        if over {
            self.0 = Some(now);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r40_ten_lines_of_a_cause_per_minute() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let allowed = |repeats: &mut Repeats, now| (0..30).filter(|_| repeats.allow(1, now)).count();
        assert_eq!(allowed(&mut repeats, start), 10);
        assert!(repeats.allow(2, start));
        assert_eq!(allowed(&mut repeats, start + WINDOW), 10);
    }

    #[test]
    fn r40_a_flood_of_causes_is_bounded() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        assert_eq!((0..10_000).filter(|cause| repeats.allow(*cause, now)).count(), CAUSES_MAX);
        assert!(repeats.allow(0, now));
    }

    #[test]
    fn r40_the_budget_is_per_minute() {
        let mut budget = Budget::default();
        let start = Instant::now();
        assert!(budget.allow(BUDGET_BYTES, start));
        assert!(!budget.allow(1, start));
        assert!(budget.allow(1, start + WINDOW));
    }
}
