//! [`Signals`]: up to eight marks that anyone may raise and one task awaits.
//!
//! In place of a channel where only the fact counts and not how often: nothing can fill up, and no mark is
//! ever lost.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// Marks, and a bell for the task that awaits them.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    marks: AtomicU8,
    bell: Notify,
}

impl Signals {
    /// Raises `marks`. Returns whether all of them were raised already.
    pub(crate) fn raise(&self, marks: u8) -> bool {
        let before = self.marks.fetch_or(marks, Ordering::AcqRel);
        self.bell.notify_one();
        before & marks == marks
    }

    /// Waits until a mark is raised and takes all there are. Safe to drop and call again; one caller at a time.
    pub(crate) async fn taken(&self) -> u8 {
        loop {
            let marks = self.marks.swap(0, Ordering::AcqRel);
            if marks != 0 {
                return marks;
            }
            self.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_raised_before_and_while_waiting_are_taken_once() {
        let signals = Signals::default();
        assert!(!signals.raise(1));
        assert!(!signals.raise(6));
        assert!(signals.raise(2));
        assert_eq!(signals.taken().await, 7);
        let (marks, ()) = tokio::join!(signals.taken(), async {
            signals.raise(4);
        });
        assert_eq!(marks, 4);
    }
}
