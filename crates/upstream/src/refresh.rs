//! [`Refresh`]: when lists are fetched again after a server said that they changed. Pure.
//!
//! Notices come in bursts of hundreds, so a fetch waits until they pause for 300 ms, begins at most every 2 s,
//! and is put off no longer than that by notices that never pause. A notice during a fetch asks for another
//! one: the fetch may have read the list before it changed.

use tokio::time::Instant;

use crate::limits::{REFRESH_QUIET, REFRESH_SPACING};
use crate::offer::Kinds;

/// What is to be fetched again, and when.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    wanted: Kinds,
    due: Option<Instant>,
    latest: Option<Instant>,
    begun: Option<Instant>,
}

impl Refresh {
    /// Notes that lists changed. Returns whether a fetch was due already, so that this notice costs nothing.
    pub(crate) fn changed(&mut self, kinds: Kinds, now: Instant) -> bool {
        let coalesced = self.due.is_some();
        let latest = *self.latest.get_or_insert(now + REFRESH_SPACING);
        let earliest = self.begun.map_or(now, |begun| begun + REFRESH_SPACING);
        self.due = Some((now + REFRESH_QUIET).min(latest).max(earliest));
        self.wanted = self.wanted.with(kinds);
        coalesced
    }

    /// Asks for lists at a later time, unless they change before.
    pub(crate) fn later(&mut self, kinds: Kinds, at: Instant) {
        self.wanted = self.wanted.with(kinds);
        self.due.get_or_insert(at);
    }

    /// When the next fetch is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins a fetch: returns what it is to bring.
    pub(crate) fn begin(&mut self, now: Instant) -> Kinds {
        self.due = None;
        self.latest = None;
        self.begun = Some(now);
        std::mem::take(&mut self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_becomes_one_fetch_after_it_pauses() {
        let start = Instant::now();
        let mut refresh = Refresh::default();
        assert!(!refresh.changed(Kinds::TOOLS, start));
        assert!(refresh.changed(Kinds::PROMPTS, start + Duration::from_millis(200)));
        assert_eq!(refresh.due(), Some(start + Duration::from_millis(500)));
        assert_eq!(refresh.begin(start + Duration::from_millis(500)), Kinds::TOOLS.with(Kinds::PROMPTS));
        assert_eq!(refresh.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_fetch_asks_for_another_one_two_seconds_later() {
        let start = Instant::now();
        let mut refresh = Refresh::default();
        refresh.begin(start);
        refresh.changed(Kinds::TOOLS, start + Duration::from_millis(10));
        assert_eq!(refresh.due(), Some(start + REFRESH_SPACING));
    }

    proptest! {
        #[test]
        fn no_change_is_lost_and_fetches_keep_their_distance(gaps in proptest::collection::vec(0..900_u64, 1..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let _inside = runtime.enter();
            let start = Instant::now();
            let mut refresh = Refresh::default();
            let mut now = start;
            let mut begun: Vec<Instant> = Vec::new();
            for gap in gaps {
                let next = now + Duration::from_millis(gap);
                if let Some(due) = refresh.due().filter(|due| *due <= next) {
                    prop_assert!(!refresh.begin(due).is_empty());
                    begun.push(due);
                }
                now = next;
                refresh.changed(Kinds::TOOLS, now);
                let due = refresh.due();
                prop_assert!(due.is_some_and(|due| due >= now && due <= now + REFRESH_SPACING), "{due:?}");
            }
            for pair in begun.windows(2) {
                prop_assert!(pair[1] - pair[0] >= REFRESH_SPACING);
            }
        }
    }
}
