//! [`Pending`]: the requests of one connection that are not answered yet. Pure.
//!
//! A request's progress token is its id, so one table serves both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::mailbox::Mailbox;
use crate::questions::CallerId;

/// Requests by the ids that we minted. There are few at a time: nothing is hashed for them.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    mailboxes: BTreeMap<u64, Arc<Mailbox>>,
    /// Those of them that stay open for as long as they can: they are no work, and wait for no answer.
    standing: BTreeSet<u64>,
    closed: bool,
}

/// Which request a server's question belongs to (mcp-protocol 6.3).
#[derive(Debug)]
pub(crate) enum Owner {
    /// This one, provably or because it does not matter which.
    One(Arc<Mailbox>),
    /// None that is known here.
    Nobody,
    /// It may be one of several callers', and is not guessed.
    Ambiguous,
}

impl Pending {
    /// Finds out to whom a question belongs. `on`: the request on whose own stream it came.
    ///
    /// A question on a shared pipe is whose call alone runs there. Of several calls of one caller it goes to the oldest
    /// that is not being asked already: the answer finds its way back by the server's own id in any case.
    pub(crate) fn owner(&self, on: Option<u64>) -> Owner {
        if let Some(id) = on {
            return self.mailboxes.get(&id).map_or(Owner::Nobody, |mailbox| Owner::One(mailbox.clone()));
        }
        let mut caller: Option<CallerId> = None;
        let mut best: Option<(bool, u64, &Arc<Mailbox>)> = None;
        for (id, mailbox) in &self.mailboxes {
            let Some(asker) = mailbox.asker() else { continue };
            if caller.is_some_and(|other| other != asker.id) {
                return Owner::Ambiguous;
            }
            caller = Some(asker.id);
            let rank = (mailbox.is_asking(), *id);
            if best.is_none_or(|(asking, id, _)| rank < (asking, id)) {
                best = Some((rank.0, rank.1, mailbox));
            }
        }
        best.map_or(Owner::Nobody, |(.., mailbox)| Owner::One(mailbox.clone()))
    }

    /// All requests.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.mailboxes.values()
    }

    /// Notes a request. Returns whether that was possible: a lost connection takes none.
    pub(crate) fn insert(&mut self, id: u64, mailbox: Arc<Mailbox>) -> bool {
        if !self.closed {
            self.mailboxes.insert(id, mailbox);
        }
        !self.closed
    }

    /// Notes that a request stays open for as long as it can.
    pub(crate) fn stands(&mut self, id: u64) {
        self.standing.insert(id);
    }

    /// The request of this id.
    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(&id)
    }

    /// Takes the request of this id out: it is answered, or nobody waits for it any more.
    pub(crate) fn take(&mut self, id: u64) -> Option<Arc<Mailbox>> {
        self.standing.remove(&id);
        self.mailboxes.remove(&id)
    }

    /// Returns the id of the only request, if there is just one: what an answer without an id belongs to.
    pub(crate) fn only(&self) -> Option<u64> {
        let mut working = self.mailboxes.keys().filter(|id| !self.standing.contains(id));
        working.next().copied().filter(|_| working.next().is_none())
    }

    /// Takes no more requests.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes all requests out.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<Mailbox>> {
        self.standing.clear();
        std::mem::take(&mut self.mailboxes).into_values().collect()
    }

    /// Whether no request waits for an answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.mailboxes.len() == self.standing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_id_belongs_to_the_only_request() {
        let mut pending = Pending::default();
        assert_eq!(pending.only(), None);
        assert!(pending.insert(7, Arc::default()));
        assert_eq!(pending.only(), Some(7));
        assert!(pending.insert(8, Arc::default()));
        assert_eq!(pending.only(), None);
        assert!(pending.take(8).is_some() && pending.take(8).is_none());
    }

    #[tokio::test]
    async fn a_request_that_stands_is_no_work() {
        let mut pending = Pending::default();
        pending.insert(1, Arc::default());
        pending.stands(1);
        assert!(pending.is_empty() && pending.only().is_none());
        pending.insert(2, Arc::default());
        assert_eq!(pending.only(), Some(2));
        assert!(pending.take(1).is_some() && !pending.is_empty());
    }

    #[tokio::test]
    async fn a_closed_table_keeps_what_it_has_and_takes_no_more() {
        let mut pending = Pending::default();
        pending.insert(1, Arc::default());
        pending.close();
        assert!(!pending.insert(2, Arc::default()));
        assert_eq!(pending.take_all().len(), 1);
        assert!(pending.is_empty());
    }
}
