//! What several lanes make of one server: its offer is that of the first one that is ready, its shown state the best of
//! theirs, and each is shown with whose it is.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use url::Url;

use super::{Further, LaneKey};
use crate::handle::Shared;
use crate::state::Phase;
use crate::status::{LaneStatus, StateView};

impl Further {
    /// Whose it is, for people: a client, or a project.
    pub(crate) fn label(&self) -> String {
        match &self.key {
            LaneKey::Roots(_, roots) => roots.first().map_or_else(String::new, |root| {
                let more = if roots.len() > 1 { format!(" and {} more", roots.len() - 1) } else { String::new() };
                let path = Url::parse(root).ok().and_then(|url| url.to_file_path().ok());
                format!("{}{more}", path.map_or_else(|| root.clone(), |path| path.display().to_string()))
            }),
            LaneKey::Profile(_, profile) if profile.is_empty() => "no project".to_owned(),
            LaneKey::Profile(_, profile) => format!("profile {profile}"),
            // Its calls come and go, each under a number of its own.
            LaneKey::Client(whole) => whole.split('\0').next().unwrap_or_default().to_owned(),
            LaneKey::Session(_) | LaneKey::Common => self.owner.to_string(),
        }
    }
}

impl Shared {
    /// The offer of a further lane has changed. It is the server's if no earlier lane is there to speak for it.
    pub(crate) fn offered(&self) {
        let Some(Further { first, number, .. }) = &self.further else { return };
        let is_up = |lane: &Self| lane.usable().is_some();
        let earlier = first.lanes.table().lanes.iter().any(|lane| lane.number() < *number && is_up(lane));
        if earlier || is_up(first) {
            return;
        }
        let own = self.offers.borrow().clone();
        let changed = first.offers.send_if_modified(|current| {
            let changed = **current != *own;
            if changed {
                *current = own;
            }
            changed
        });
        first.ever_ready.store(true, Ordering::Relaxed);
        first.keep_offer(&first.server().connect);
        if changed {
            first.offers_changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn number(&self) -> u64 {
        self.further.as_ref().map_or(0, |further| further.number)
    }

    /// Publishes where this lane stands, and what that makes of its server.
    pub(crate) fn publish(&self, view: StateView) {
        let first = self.first();
        if !self.has_lanes() {
            self.states.send_replace(view.clone());
            self.shown.send_replace(view);
            return;
        }
        self.states.send_replace(view);
        first.show();
    }

    /// Shows the best of the lanes; the first one counts where no further one is awake.
    pub(super) fn show(&self) {
        let table = self.lanes.table();
        let own = self.states.borrow().clone();
        let views = table.lanes.iter().map(|lane| lane.states.borrow().clone());
        let awake = views.filter(|view| view.phase != Phase::Idle);
        let best = awake.chain(std::iter::once(own.clone()).filter(|own| own.phase != Phase::Idle));
        // Of equals the first.
        let best = best.min_by_key(|view| view.phase.rank()).unwrap_or(own);
        self.environment.metrics.state(&self.name, best.state);
        self.environment.metrics.lanes(&self.name, table.lanes.len());
        // Within the table, so that whoever saw less does not speak last.
        self.shown.send_replace(best);
        drop(table);
    }
}

impl LaneStatus {
    pub(super) fn of(lane: &Shared, further: &Further) -> Self {
        let now = Instant::now();
        let view = lane.states.borrow().clone();
        Self {
            owner: further.label(),
            state: view.state,
            reason: view.sentence(&lane.name, now),
            since: now.saturating_duration_since(view.since),
            pid: view.link.as_ref().and_then(|link| link.facts().pid),
            in_flight: lane.holds.load(Ordering::Relaxed),
            unused: now.saturating_duration_since(lane.last_used()),
        }
    }
}
