//! How a server falls asleep, and how any connection ends on which calls may still run.
//!
//! A server sleeps once nobody has wanted anything of it for `idle_stop_sec`: no request runs or waits, and nobody is
//! subscribed to anything. The next call wakes it (`call/ready.rs`). A connection that is left takes no new call from
//! the moment its state is published; those that run have [`DRAIN`], then it is closed like any other.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::Supervisor;
use crate::limits::{DRAIN, DRAIN_LEAST, DRAIN_LOOK};
use crate::link::Link;
use crate::state::{Event, Phase};

impl Supervisor {
    /// When to see whether anybody wants the server, if it may sleep.
    pub(super) fn rest_due(&self) -> Option<Instant> {
        let idle_stop = self.shared.server().tuning.idle_stop?;
        let ready = matches!(self.state.phase, Phase::Ready { .. });
        ready.then(|| self.since.max(self.seen_at_work).max(self.shared.last_used()) + idle_stop)
    }

    /// Lets the server sleep if it is time and nobody wants anything of it. One that is at work is looked at again as
    /// much later.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.rest_due().is_none_or(|due| due > now) {
            return;
        }
        if self.shared.is_wanted() || self.link.as_ref().is_some_and(|link| link.is_busy()) {
            self.seen_at_work = now;
        } else {
            self.apply(Event::Unused, "unused");
        }
    }

    /// Gives up the connection once what runs on it has ended, and all other work at once.
    pub(super) fn leave(&mut self) {
        let link = self.drop_work();
        self.leaving = link.clone().or(self.leaving.take());
        // As with a close, what closes already goes on.
        self.closing.get_or_insert_with(|| {
            Box::pin(async move {
                if let Some(link) = link {
                    drained(&link).await;
                    link.close().await;
                }
            })
        });
    }
}

/// Waits until nothing runs on a connection that takes no new calls, or it is lost, but not for ever.
pub(super) async fn drained(link: &Arc<Link>) {
    let quiet = async {
        sleep(DRAIN_LEAST).await;
        while link.is_busy() {
            sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        biased;
        _ = link.down() => {}
        _ = timeout(DRAIN, quiet) => {}
    }
}
