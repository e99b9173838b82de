//! [`Pending`]: the requests of one connection that are not answered yet. Pure.
//!
//! A request's progress token is its id, so one table serves both.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mailbox::Mailbox;

/// Requests by the ids that we minted.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    closed: bool,
}

impl Pending {
    /// Notes a request. Returns whether that was possible: a lost connection takes none.
    pub(crate) fn insert(&mut self, id: u64, mailbox: Arc<Mailbox>) -> bool {
        if !self.closed {
            self.mailboxes.insert(id, mailbox);
        }
        !self.closed
    }

    /// The request of this id.
    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(&id)
    }

    /// Takes the request of this id out: it is answered, or nobody waits for it any more.
    pub(crate) fn take(&mut self, id: u64) -> Option<Arc<Mailbox>> {
        self.mailboxes.remove(&id)
    }

    /// Returns the id of the only request, if there is just one: what an answer without an id belongs to.
    pub(crate) fn only(&self) -> Option<u64> {
        if self.mailboxes.len() == 1 { self.mailboxes.keys().next().copied() } else { None }
    }

    /// Takes no more requests.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes all requests out.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<Mailbox>> {
        self.mailboxes.drain().map(|(_, mailbox)| mailbox).collect()
    }

    /// Whether no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
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
    async fn a_closed_table_keeps_what_it_has_and_takes_no_more() {
        let mut pending = Pending::default();
        pending.insert(1, Arc::default());
        pending.close();
        assert!(!pending.insert(2, Arc::default()));
        assert_eq!(pending.take_all().len(), 1);
        assert!(pending.is_empty());
    }
}
