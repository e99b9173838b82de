//! What a supervisor does about the lists of its server: when they are fetched, what stands in for those that cannot be had,
//! what is published and kept for the next process, and when the entries of a server that fails are withdrawn.
//!
//! How a list is fetched and taken apart stands in `crate::lists`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use trunkline_config::Server;

use super::Supervisor;
use crate::limits::REFRESH_RETRY;
use crate::lists::Lists;
use crate::offer::{Kinds, Offer};
use crate::state::{Event, Failure};

impl Supervisor {
    pub(super) fn fetch(&mut self, kinds: Kinds) {
        let Some(link) = self.link.clone() else { return };
        let (last, limit) = (self.last_lists(&self.made_by), self.shared.server().tuning.list_timeout);
        // Whoever begins a lane calls at once, and means his own directories.
        let settles = self.shared.further.is_some() && self.state.phase.is_opening();
        self.fetching = Some(Box::pin(async move {
            let lists = Lists::fetch(&link, kinds, &last, limit).await;
            if settles {
                link.settled().await;
            }
            lists
        }));
    }

    /// The offer is published before the state, so that whoever waits for "ready" finds it. A server that answers
    /// the handshake and none of its lists is not ready: "ready, without tools" would tell nobody why.
    pub(super) fn fetched(&mut self, lists: Lists) {
        let Some(link) = &self.link else { return };
        if self.state.phase.is_opening()
            && let Some(why) = lists.unanswered(link.capabilities)
        {
            self.cause = Some(self.shared.masked(&format!("its lists could not be had: {why}")));
            return self.apply(Event::LinkDown(Failure::SILENT), "no_lists");
        }
        let first = self.state.phase.is_opening();
        if first {
            self.cause = None;
            self.shared.timeouts.store(0, Ordering::Relaxed);
            self.shared.ever_ready.store(true, Ordering::Relaxed);
            self.shared.proven.store(true, Ordering::Relaxed);
        }
        self.offer(lists);
        if first {
            self.apply(Event::Fetched, "ready");
            self.tell(true);
        }
    }

    /// Publishes what the connection offers.
    pub(super) fn offer(&mut self, lists: Lists) {
        let Some(link) = &self.link else { return };
        let (now, offer) = (Instant::now(), lists.offer(link));
        let failed = lists.failed();
        if !failed.is_empty() {
            self.refresh.later(failed, now + REFRESH_RETRY);
        }
        self.lists = lists;
        self.listed = self.made_by.clone();
        let changed = self.shared.offers.send_if_modified(|current| {
            let changed = **current != offer;
            if changed {
                *current = Arc::new(offer);
            }
            changed
        });
        if self.shared.further.is_some() {
            // Lists of a lane are the server's where no other speaks for it.
            return self.shared.offered();
        }
        self.shared.keep_offer(&self.made_by.connect);
        if changed {
            self.shared.offers_changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// What stands for lists that the server of this configuration cannot give: what it gave before, but never another
    /// server's.
    pub(super) fn last_lists(&self, server: &Server) -> Lists {
        if self.listed.connect.leads_to_same(&server.connect) { self.lists.clone() } else { Lists::default() }
    }

    /// A server that is switched on is offered as an earlier process knew it.
    pub(super) fn recall(&mut self, server: &Arc<Server>) {
        if self.shared.recall(&server.connect) {
            (self.lists, self.listed) = (Lists::of(&self.shared.offers.borrow()), server.clone());
        }
    }

    pub(super) fn stale_due(&self) -> Option<Instant> {
        // What is listed is the server's, and its first lane sees to that.
        let keep = self.shared.server().tuning.stale_keep.filter(|_| self.shared.further.is_none());
        self.stale.due(keep)
    }

    /// Takes the entries of a server off the lists that has failed for too long. They are read again when it is back.
    pub(super) fn withdraw(&mut self) {
        self.stale.withdrawn();
        let shared = &self.shared;
        let changed = shared.offers.send_if_modified(|current| {
            let nothing = Offer { identity: current.identity.clone(), revision: current.revision, ..Offer::default() };
            let changed = **current != nothing;
            *current = Arc::new(nothing);
            changed
        });
        if changed {
            tracing::info!(server = %shared.name, "has failed for longer than `stale_keep_sec`; its entries are withdrawn");
            shared.offers_changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}
