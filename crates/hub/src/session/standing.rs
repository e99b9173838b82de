//! What a session's client is told that belongs to no call, and the GET streams on which it hears it.
//!
//! The streams are readers of one queue that holds the newest of each kind of notice; the newest stream takes from it and
//! the others wait their turn (mcp-protocol 3.11), so a client without a stream, a slow one and one with thirty cost the
//! same.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use trunkline_wire::Charge;

use super::Session;
use crate::catalog::List;
use crate::limits::{PENDING_BYTES_MAX, PENDING_EVENTS_MAX};
use crate::replay::Event;

/// An open GET stream; the last one is the target.
pub(super) struct Get {
    pub(super) number: u64,
    pub(super) waker: Option<Waker>,
}

impl Get {
    pub(super) fn new(number: u64) -> Self {
        Self { number, waker: None }
    }
}

/// What waits for a GET stream: the newest of each kind.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) lists: u8,
    pub(super) updates: VecDeque<(Box<str>, Bytes, Charge)>,
    pub(super) logs: VecDeque<(Bytes, Charge)>,
    pub(super) bytes: usize,
}

impl Pending {
    /// These lists changed.
    pub(super) fn announce(&mut self, lists: &[List]) {
        self.lists |= lists.iter().fold(0, |bits, list| bits | list.bit());
    }

    /// The newest of each URI is kept.
    pub(super) fn update(&mut self, uri: &str, message: Bytes, charge: Charge) {
        if let Some(at) = self.updates.iter().position(|(known, ..)| **known == *uri) {
            self.bytes -= self.updates.remove(at).map_or(0, |(_, old, _)| old.len());
        }
        self.bytes += message.len();
        self.updates.push_back((uri.into(), message, charge));
        self.shed();
    }

    pub(super) fn log(&mut self, message: Bytes, charge: Charge) {
        self.bytes += message.len();
        self.logs.push_back((message, charge));
        self.shed();
    }

    /// Nobody came for it; that a list changed is remembered in a bit.
    pub(super) fn forget(&mut self) {
        *self = Self { lists: self.lists, ..Self::default() };
    }

    /// Log messages go first, then the oldest updates.
    fn shed(&mut self) {
        while self.bytes > PENDING_BYTES_MAX || self.updates.len() + self.logs.len() > PENDING_EVENTS_MAX {
            let log = self.logs.pop_front().map(|(data, _)| data);
            let Some(dropped) = log.or_else(|| self.updates.pop_front().map(|(_, data, _)| data)) else { return };
            self.bytes -= dropped.len();
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if let Some(list) = List::NOTICES.into_iter().find(|list| self.lists & list.bit() != 0) {
            self.lists &= !list.bit();
            return Some(list.changed());
        }
        let next = self.updates.pop_front().map(|(_, data, _)| data);
        let next = next.or_else(|| self.logs.pop_front().map(|(data, _)| data))?;
        self.bytes -= next.len();
        Some(next)
    }

    fn is_empty(&self) -> bool {
        self.lists == 0 && self.updates.is_empty() && self.logs.is_empty()
    }
}

/// One open GET stream of a session. Ends with the session, or when too many newer ones are open.
pub(crate) struct GetEvents {
    session: Arc<Session>,
    number: u64,
}

impl GetEvents {
    pub(super) fn new(session: Arc<Session>, number: u64) -> Self {
        Self { session, number }
    }
}

impl Stream for GetEvents {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.session.lock();
        let Some(at) = state.gets.iter().position(|get| get.number == self.number) else {
            return Poll::Ready(None);
        };
        if at + 1 == state.gets.len()
            && let Some(data) = state.pending.next()
        {
            return Poll::Ready(Some(Event { id: None, data: data.into(), retry_ms: None }));
        }
        state.gets[at].waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for GetEvents {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.session.lock();
            state.gets.retain(|get| get.number != self.number);
            let waits = !state.pending.is_empty();
            state.gets.last_mut().filter(|_| waits).and_then(|get| get.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
