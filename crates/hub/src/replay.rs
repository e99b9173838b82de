//! Answers on their way: what one request of a legacy client has produced and not yet delivered.
//!
//! An [`Outbox`] belongs to one request. Whoever works on the request puts notices and finally the answer in;
//! one reader at a time takes them out, at its own pace. As long as nothing but the answer is there, the reply
//! is one JSON body and the outbox is no stream. Once a notice comes first it is [committed](Outbox::commit):
//! it gets a number, its events get ids, and what was sent stays for a client that lost the connection and
//! resumes by `Last-Event-ID` (mcp-protocol 3.10, R-26). No ring, no ids.
//!
//! Every kept byte is charged to three purses: the session's, that of all replay, and the whole budget. When
//! they are empty the oldest notices go first and the answer last. A reader that comes late and finds notices
//! gone still gets the answer, which is what it waits for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tokio::time::Instant;
use trunkline_wire::{Budget, Charge, Id, Json, Pressure, Text};

use crate::limits::{REPLAY_STREAM_BYTES_MAX, REPLAY_STREAM_EVENTS_MAX};
use crate::refusal;

/// One event of an SSE stream toward a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's id, where the stream can be resumed.
    pub id: Option<Box<str>>,
    /// One JSON-RPC message on one line; empty for the priming event.
    pub data: Text,
    /// When a client may reconnect, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Where kept bytes are charged to.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    /// Of one session.
    pub session: Budget,
    /// Of all sessions.
    pub replay: Budget,
    /// Of everything buffered.
    pub whole: Budget,
}

/// What one request has produced and not yet delivered.
#[derive(Debug)]
pub(crate) struct Outbox {
    request: Id,
    purse: Purse,
    state: Mutex<State>,
}

/// What a request came to first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// Only the answer: a single body will do.
    Answer(Text),
    /// A notice: the reply is a stream.
    Notice,
}

/// The right to read an outbox. The newest reader has it.
#[derive(Debug)]
pub(crate) struct Reader {
    turn: u64,
    after: u64,
}

#[derive(Debug, Default)]
struct State {
    /// `s<stream>.<request>.`, once this is a stream.
    id_head: Option<Box<str>>,
    notices: VecDeque<Kept>,
    notice_bytes: usize,
    answer: Option<Kept>,
    answered_at: Option<Instant>,
    last: u64,
    turn: u64,
    read: bool,
    mute: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    /// A question: the call cannot go on without it, so it is not dropped for others.
    pinned: bool,
    data: Text,
    _charges: Vec<Charge>,
}

impl Outbox {
    /// An outbox for the answer to `request`.
    pub(crate) fn new(request: Id, purse: Purse) -> Self {
        Self { request, purse, state: Mutex::new(State { read: true, ..State::default() }) }
    }

    /// An outbox whose stream has no numbered events and is not resumed. Without `notices` those are dropped: the
    /// client takes one body and no stream.
    pub(crate) fn unnumbered(request: Id, purse: Purse, notices: bool) -> Self {
        let outbox = Self::new(request, purse);
        outbox.lock().mute = !notices;
        outbox
    }

    /// The request this belongs to.
    pub(crate) fn request(&self) -> &Id {
        &self.request
    }

    /// Puts a notice in. It is dropped if there is no room even after older notices are gone.
    pub(crate) fn notice(&self, data: Bytes) {
        self.put(data, false);
    }

    /// Puts a question to the client in. It stays until the stream is over.
    pub(crate) fn question(&self, data: Bytes) {
        self.put(data, true);
    }

    /// Whether somebody reads this now.
    pub(crate) fn is_read(&self) -> bool {
        self.lock().read
    }

    fn put(&self, data: Bytes, pinned: bool) {
        let waker = {
            let mut state = self.lock();
            if state.answer.is_some() || state.mute {
                return;
            }
            while (state.notices.len() >= REPLAY_STREAM_EVENTS_MAX
                || state.notice_bytes + data.len() > REPLAY_STREAM_BYTES_MAX)
                && state.drop_oldest()
            {}
            let charges = loop {
                match self.purse.take(data.len()) {
                    Some(charges) => break charges,
                    None if state.drop_oldest() => {}
                    // Without its place in the purse it still goes to a reader that is there.
                    None if pinned => break Vec::new(),
                    None => return,
                }
            };
            state.last += 1;
            state.notice_bytes += data.len();
            let number = state.last;
            state.notices.push_back(Kept { number, pinned, data: data.into(), _charges: charges });
            state.waker.take()
        };
        wake(waker);
    }

    /// Puts the answer in, the last event. A second answer is ignored.
    pub(crate) fn answer(&self, data: Text) {
        let waker = {
            let mut state = self.lock();
            if state.answer.is_some() {
                return;
            }
            let (data, charges) = self.keepable(&state, data);
            state.last += 1;
            let number = state.last;
            state.answer = Some(Kept { number, pinned: true, data, _charges: charges });
            state.answered_at = Some(Instant::now());
            state.waker.take()
        };
        wake(waker);
    }

    /// Wakes nobody until the next look: for a reader that is about to look.
    pub(crate) fn hush(&self) {
        self.lock().waker = None;
    }

    /// Returns what came first, for the reader that began with the request; else wakes `context` when it comes.
    pub(crate) fn poll_first(&self, context: &Context<'_>) -> Poll<First> {
        let mut state = self.lock();
        if !state.notices.is_empty() {
            return Poll::Ready(First::Notice);
        }
        if let Some(answer) = &state.answer {
            return Poll::Ready(First::Answer(answer.data.clone()));
        }
        state.wait(context);
        Poll::Pending
    }

    /// Makes this the stream `number` of its session: from now on events have ids.
    pub(crate) fn commit(&self, number: u64) -> Reader {
        let mut state = self.lock();
        let request = URL_SAFE_NO_PAD.encode(self.request.json().as_bytes());
        state.id_head = Some(format!("s{number}.{request}.").into());
        Reader { turn: state.turn, after: 0 }
    }

    /// The reader of a stream that is no numbered one, and gives no ids.
    pub(crate) fn reader(&self) -> Reader {
        Reader { turn: self.lock().turn, after: 0 }
    }

    /// The event without data that some clients want first (mcp-protocol 3.10).
    pub(crate) fn priming(&self) -> Event {
        Event { id: self.lock().event_id(0), data: Text::default(), retry_ms: None }
    }

    /// Lets a new reader go on after the event `after`; the reader before it ends.
    pub(crate) fn resume(&self, after: u64) -> Reader {
        let (reader, waker) = {
            let mut state = self.lock();
            state.turn += 1;
            state.read = true;
            (Reader { turn: state.turn, after }, state.waker.take())
        };
        wake(waker);
        reader
    }

    /// Says that the reply which began with the request is gone, whether or not it became a stream.
    pub(crate) fn deserted(&self) {
        let mut state = self.lock();
        if state.turn == 0 {
            state.read = false;
        }
    }

    /// Says that `reader` is gone.
    pub(crate) fn leave(&self, reader: &Reader) {
        let mut state = self.lock();
        if state.turn == reader.turn {
            state.read = false;
            state.waker = None;
        }
    }

    /// Returns the next event; `None` after the answer, or when another reader took over.
    pub(crate) fn poll_event(&self, reader: &mut Reader, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        if state.turn != reader.turn {
            return Poll::Ready(None);
        }
        if state.id_head.is_none() {
            state.forget_up_to(reader.after);
        }
        let at = state.notices.partition_point(|kept| kept.number <= reader.after);
        let next = state.notices.get(at).or(state.answer.as_ref().filter(|answer| answer.number > reader.after));
        if let Some(kept) = next {
            reader.after = kept.number;
            return Poll::Ready(Some(Event {
                id: state.event_id(kept.number),
                data: kept.data.clone(),
                retry_ms: None,
            }));
        }
        if state.answer.is_some() {
            return Poll::Ready(None);
        }
        state.wait(context);
        Poll::Pending
    }

    /// When the answer came, if it did.
    pub(crate) fn answered_at(&self) -> Option<Instant> {
        self.lock().answered_at
    }

    /// What of the answer can be kept: all of it, or, when every purse is empty and nobody reads, a word that it
    /// is gone.
    fn keepable(&self, state: &State, data: Text) -> (Text, Vec<Charge>) {
        if state.id_head.is_none() {
            return (data, Vec::new());
        }
        let whole = || self.purse.whole.charge(data.len()).ok().map(|charge| vec![charge]);
        match self.purse.take(data.len()).or_else(whole) {
            Some(charges) => (data, charges),
            None if state.read => (data, Vec::new()),
            None => (refusal::replay_gone(self.request.clone()).into(), Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self) -> bool {
        let at = self.notices.iter().position(|kept| !kept.pinned);
        let dropped = at.and_then(|at| self.notices.remove(at));
        self.notice_bytes -= dropped.as_ref().map_or(0, |kept| kept.data.len());
        dropped.is_some()
    }

    /// Drops what was read, questions too: nobody comes back for it.
    fn forget_up_to(&mut self, number: u64) {
        while let Some(read) = self.notices.pop_front_if(|kept| kept.number <= number) {
            self.notice_bytes -= read.data.len();
        }
    }

    fn event_id(&self, number: u64) -> Option<Box<str>> {
        self.id_head.as_ref().map(|head| format!("{head}{number}").into())
    }

    fn wait(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
    }
}

impl Purse {
    /// Whether `bytes` more fit what the session may keep.
    ///
    /// Near the bound of the process's memory that is a quarter of what it usually is.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let parts = if self.whole.pressure() >= Pressure::Shrink { 4 } else { 1 };
        let fits = |budget: &Budget| budget.used().saturating_add(bytes) <= budget.limit() / parts;
        fits(&self.session) && fits(&self.replay)
    }

    fn take(&self, bytes: usize) -> Option<Vec<Charge>> {
        let charges = [&self.session, &self.replay, &self.whole].map(|budget| budget.charge(bytes).ok());
        charges.into_iter().collect()
    }
}

/// An event id read back: `s<stream>.<request, Base64url>.<number>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventId {
    /// The stream, unique in its session.
    pub stream: u64,
    /// The request that the stream answers.
    pub request: Id,
    /// The event.
    pub number: u64,
}

impl EventId {
    /// Reads an id; `None` if this gateway did not make it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('s')?.split('.');
        let (stream, request, number) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let request = URL_SAFE_NO_PAD.decode(request).ok()?;
        let request = Id::new(Json::parse(request).ok()?).ok()?;
        Some(Self { stream: stream.parse().ok()?, request, number: number.parse().ok()? })
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;
    use proptest::prelude::*;

    use super::*;

    fn purse(session: usize) -> Purse {
        Purse { session: Budget::new(session), replay: Budget::new(1 << 20), whole: Budget::new(1 << 20) }
    }

    fn events(outbox: &Outbox, reader: &mut Reader) -> Vec<String> {
        let context = Context::from_waker(noop_waker_ref());
        let mut out = Vec::new();
        while let Poll::Ready(Some(event)) = outbox.poll_event(reader, &context) {
            out.push(format!(
                "{} {}",
                event.id.as_deref().unwrap_or("-"),
                std::str::from_utf8(&event.data.into_bytes()).expect("text")
            ));
        }
        out
    }

    #[test]
    fn a_resumed_stream_goes_on_after_the_event_it_names() {
        let outbox = Outbox::new(Id::from(7), purse(1000));
        let mut first = outbox.commit(3);
        outbox.notice("a".into());
        outbox.notice("b".into());
        assert_eq!(events(&outbox, &mut first), ["s3.Nw.1 a", "s3.Nw.2 b"]);
        let id = EventId::parse("s3.Nw.1").expect("an id of ours");
        assert_eq!(id, EventId { stream: 3, request: Id::from(7), number: 1 });
        let mut second = outbox.resume(id.number);
        outbox.answer("c".into());
        outbox.notice("late".into());
        assert_eq!(events(&outbox, &mut second), ["s3.Nw.2 b", "s3.Nw.3 c"]);
        assert_eq!(events(&outbox, &mut first), [""; 0], "the first reader lost its turn");
    }

    #[test]
    fn old_notices_give_way_and_the_answer_stays() {
        let outbox = Outbox::new(Id::from(7), purse(4));
        let mut reader = outbox.commit(1);
        for notice in ["aa", "bb", "cc"] {
            outbox.notice(notice.into());
        }
        outbox.answer("a long answer".into());
        assert_eq!(events(&outbox, &mut reader), ["s1.Nw.2 bb", "s1.Nw.3 cc", "s1.Nw.4 a long answer"]);
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let purse = purse(100);
        let outbox = Outbox::new(Id::from(7), purse.clone());
        outbox.commit(1);
        outbox.notice("abc".into());
        outbox.answer("d".into());
        assert_eq!((purse.session.used(), purse.replay.used(), purse.whole.used()), (4, 4, 4));
        drop(outbox);
        assert_eq!((purse.session.used(), purse.replay.used(), purse.whole.used()), (0, 0, 0));
    }

    #[test]
    fn an_answer_that_nobody_reads_and_no_purse_holds_is_replaced_by_the_truth() {
        let nothing = Purse { session: Budget::new(0), replay: Budget::new(0), whole: Budget::new(0) };
        let outbox = Outbox::new(Id::from(7), nothing);
        let reader = outbox.commit(1);
        outbox.leave(&reader);
        outbox.answer("x".into());
        let told = events(&outbox, &mut outbox.resume(0));
        assert!(told[0].contains("-31009"), "{told:?}");
    }

    #[test]
    fn what_an_unnumbered_reader_has_read_is_dropped_questions_too() {
        let purse = purse(100);
        let outbox = Outbox::new(Id::from(7), purse.clone());
        let mut reader = outbox.reader();
        outbox.question("asked".into());
        outbox.notice("told".into());
        assert_eq!(events(&outbox, &mut reader), ["- asked", "- told"]);
        assert_eq!((purse.session.used(), outbox.lock().notice_bytes), (0, 0));
        outbox.answer("answer".into());
        assert_eq!(events(&outbox, &mut reader), ["- answer"]);
    }

    proptest! {
        #[test]
        fn an_id_that_was_given_reads_back(stream in any::<u64>(), number in any::<u64>(), request in ".{0,20}") {
            let request = Id::new(Json::from(request.as_str())).expect("a string is an id");
            let text = format!("s{stream}.{}.{number}", URL_SAFE_NO_PAD.encode(request.json().as_bytes()));
            prop_assert_eq!(EventId::parse(&text), Some(EventId { stream, request, number }));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = EventId::parse(&text);
        }
    }
}
