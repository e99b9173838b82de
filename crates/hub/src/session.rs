//! A legacy client's session: its facts, what runs for it, and what waits for it.
//!
//! A session is small while nothing happens: no channel, no ring, no task. Its GET streams are `standing.rs`'s. Requests it runs are in [`Running`], answer streams that may be resumed are kept until they are too many, too
//! big or too old.
//!
//! How it got its id, and how it comes back by it, is the business of `sessions.rs`. The id is no credential.

mod connected;
mod settings;
mod standing;

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use trunkline_upstream::{CallerId, LaneKey};
use trunkline_wire::{Abilities, Budget, Id, Json, Method, Notification, Object, Revision, ServerName, Text};

use crate::asking::Questions;
use crate::catalog::List;
use crate::client::Facts;
use crate::lanes::Source;
use crate::limits::{GET_STREAMS_MAX, REPLAY_SESSION_BYTES_MAX, REPLAY_STREAMS_MAX, SESSION_BUFFERS_IDLE_MAX};
use crate::logging::LogLevel;
use crate::refusal;
use crate::replay::{Event, EventId, Outbox, Purse, Reader};
use crate::running::{AnswerEvents, Running};
use crate::sessions::Identity;
use crate::{Guest, View};

pub use connected::{Connected, ConnectedBy};
pub(crate) use standing::GetEvents;
use standing::{Get, Pending};

/// A server and its own URI of what a client subscribed to.
pub(crate) type Subscribed = (Box<str>, Box<str>);

/// The session of one legacy client.
pub struct Session {
    id: Box<str>,
    nonce: Option<Box<str>>,
    owner: Option<Arc<str>>,
    view: View,
    /// The last use that its record, or the id, knows of.
    noted: AtomicU64,
    label: Arc<str>,
    caller: CallerId,
    facts: Facts,
    born: Instant,
    purse: Purse,
    /// Milliseconds after `born`.
    used: AtomicU64,
    /// The port of this machine from which its last request came; 0: nobody knows.
    port: AtomicU16,
    initialized: AtomicBool,
    questions: Questions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: bool,
    running: HashMap<Bytes, Arc<Running>>,
    streams: VecDeque<(u64, Arc<Outbox>)>,
    last_stream: u64,
    gets: Vec<Get>,
    last_get: u64,
    pending: Pending,
    level: Option<LogLevel>,
    /// By server and its own URI: on which lane.
    subscriptions: HashMap<(ServerName, Box<str>), LaneKey>,
    /// The client's directories.
    roots: Option<Arc<OnceCell<Arc<[String]>>>>,
    /// What they were before.
    noted_roots: Option<Arc<[String]>>,
    lists_until: Option<Instant>,
}

impl Session {
    /// Begins, or takes up again, the session `number` of this process.
    pub(crate) fn begin(number: u64, identity: Identity, facts: Facts, replay: Budget, whole: Budget) -> Arc<Self> {
        let Identity { id, nonce, noted, revived, owner, view } = identity;
        // What the session of an earlier life numbered must not be taken for what this one does: neither the streams
        // that a client resumes nor the questions that it answers.
        let first = if revived { random_base() } else { 0 };
        Arc::new(Self {
            id,
            nonce,
            owner,
            view,
            noted: AtomicU64::new(noted),
            label: format!("{}#{number}", facts.name).into(),
            caller: CallerId(number),
            facts,
            born: Instant::now(),
            purse: Purse { session: Budget::new(REPLAY_SESSION_BYTES_MAX), replay, whole },
            used: AtomicU64::new(0),
            port: AtomicU16::new(0),
            initialized: AtomicBool::new(false),
            questions: Questions::after(first),
            state: Mutex::new(State { last_stream: first, ..State::default() }),
        })
    }

    /// The value of `Mcp-Session-Id`: visible ASCII that nobody guesses.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is: the name of the token that it was begun with, if one was asked for.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The same, to be kept.
    pub(crate) fn token(&self) -> Option<Arc<str>> {
        self.owner.clone()
    }

    /// What its client sees.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whose it is, and what is seen from it.
    pub(crate) fn guest(&self) -> Guest<'_> {
        Guest { owner: self.owner(), view: &self.view }
    }

    /// What it is known by beyond this process; `None` if it ends with its stream.
    pub(crate) fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// When it was last used, in seconds of the Unix age, if that is to be noted: the note before is older than `every`.
    /// It counts as noted then.
    pub(crate) fn use_to_note(&self, every: std::time::Duration, now: Instant, wall: u64) -> Option<u64> {
        let used = wall.saturating_sub(now.saturating_duration_since(self.used()).as_secs());
        let due = self.nonce.is_some() && used > self.noted.load(Ordering::Relaxed).saturating_add(every.as_secs());
        due.then(|| self.noted.store(used, Ordering::Relaxed)).map(|()| used)
    }

    /// The revision agreed on.
    pub fn revision(&self) -> Revision {
        self.facts.revision
    }

    /// What the client calls itself.
    pub fn client_name(&self) -> &str {
        &self.facts.name
    }

    /// The client's version.
    pub fn client_version(&self) -> &str {
        &self.facts.version
    }

    /// Tells this client from others where they share a server. No secret, unlike the id.
    pub(crate) fn label(&self) -> Arc<str> {
        Arc::clone(&self.label)
    }

    /// Tells it from other callers of a server.
    pub(crate) fn caller(&self) -> CallerId {
        self.caller
    }

    /// A number for its lanes, the same whenever it comes back.
    pub(crate) fn number(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.id.hash(&mut hasher);
        hasher.finish()
    }

    /// What the client can be asked.
    pub(crate) fn abilities(&self) -> Arc<Abilities> {
        self.facts.abilities.clone()
    }

    /// What the client was asked and has not answered.
    pub(crate) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Whether the client can be told to visit a URL (mcp-protocol 5.11).
    pub(crate) fn may_visit_urls(&self) -> bool {
        let url: Object = [("mode", Json::from("url"))].into_iter().collect();
        self.facts.abilities.permits(&Method::ElicitationCreate, &url).is_ok()
    }

    /// What a URL led to is done: told to the client that was shown it, and to no other.
    pub(crate) fn visited(&self, elicitation: &str, params: &Json) {
        if self.questions.was_shown(elicitation) {
            let notice = Notification { method: Method::ElicitationComplete, params: Some(params.clone()) };
            self.updated(elicitation, notice.encode());
        }
    }

    /// Notes that the client was heard of.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// When the client was last heard of.
    pub(crate) fn used(&self) -> Instant {
        self.born + std::time::Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// Whether nobody has spoken here for longer than `idle`, and nobody waits.
    pub(crate) fn is_forsaken(&self, now: Instant, idle: Duration) -> bool {
        now.saturating_duration_since(self.used()) > idle && !self.is_busy()
    }

    /// Whether somebody waits for something here: then it is not idle, however long ago it spoke.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.running.is_empty() || !state.gets.is_empty()
    }

    /// How many requests run here, and how many standing streams are open.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running.len(), state.gets.len())
    }

    /// The client said `notifications/initialized`: from now on it is told of changes.
    pub(crate) fn initialized(&self) {
        self.initialized.store(true, Ordering::Relaxed);
    }

    /// Where the kept answers of this session are charged to.
    pub(crate) fn purse(&self) -> &Purse {
        &self.purse
    }

    // -- requests ---------------------------------------------------------------------------------------

    /// Registers a request. `false` if the session has ended.
    pub(crate) fn start(&self, running: &Arc<Running>) -> bool {
        let mut state = self.lock();
        if !state.ended {
            state.running.insert(running.outbox.request().key(), Arc::clone(running));
        }
        !state.ended
    }

    /// Puts the answer to a request in its outbox and takes the request off the list.
    pub(crate) fn finish(&self, outbox: &Arc<Outbox>, answer: Text) {
        {
            let mut state = self.lock();
            let key = outbox.request().key();
            if state.running.get(&key).is_some_and(|running| Arc::ptr_eq(&running.outbox, outbox)) {
                state.running.remove(&key);
            }
            if !state.streams.is_empty() {
                state.make_room(&self.purse, answer.len());
            }
        }
        outbox.answer(answer);
    }

    /// Cancels the request with this id, if there is one (mcp-protocol 6.4).
    pub(crate) fn cancel(&self, id: &Id) {
        let running = self.lock().running.remove(&id.key());
        if let Some(running) = running {
            // The answer may have come just now; then that is the answer.
            if running.stop() {
                running.outbox.answer(self.cancelled(running.outbox.request()));
            }
        }
    }

    /// The answer to a cancelled request: a POST of its own must end with something, on the one stream of a pair
    /// nothing is said (mcp-protocol 2.8 note a).
    fn cancelled(&self, request: &Id) -> Text {
        if self.facts.one_stream { Text::default() } else { refusal::cancelled(request.clone()).into() }
    }

    /// Gives an answer stream its number. Returns its first reader, and the priming event if the client wants one.
    pub(crate) fn commit(&self, outbox: &Arc<Outbox>) -> (Reader, Option<Event>) {
        if self.facts.one_stream {
            return (outbox.reader(), None);
        }
        let number = {
            let mut state = self.lock();
            state.last_stream += 1;
            let number = state.last_stream;
            if state.streams.len() >= REPLAY_STREAMS_MAX {
                state.drop_finished();
            }
            if !state.ended {
                state.streams.push_back((number, Arc::clone(outbox)));
            }
            number
        };
        let reader = outbox.commit(number);
        // Older SDK clients try to parse the empty data (mcp-protocol 3.10).
        let priming = (self.revision() == Revision::V2025_11_25).then(|| outbox.priming());
        (reader, priming)
    }

    /// Goes on with the answer stream that `event` belongs to; `None` if it is no longer held.
    pub(crate) fn resume(&self, event: &EventId) -> Option<AnswerEvents> {
        let (outbox, running) = {
            let state = self.lock();
            let (_, outbox) = state.streams.iter().find(|(number, _)| *number == event.stream)?;
            if *outbox.request() != event.request {
                return None;
            }
            let running = state.running.get(&event.request.key());
            let running = running.filter(|running| Arc::ptr_eq(&running.outbox, outbox)).cloned();
            (Arc::clone(outbox), running)
        };
        // The POST that drives the work may be stalled, or about to learn that it lost its turn.
        if let Some(running) = running {
            running.detach();
        }
        Some(AnswerEvents::resumed(outbox, event.number))
    }

    // -- the GET stream ---------------------------------------------------------------------------------

    /// Opens a GET stream; it becomes the target. `None` if the session has ended.
    pub(crate) fn open_get(self: &Arc<Self>) -> Option<GetEvents> {
        let (number, dropped) = {
            let mut state = self.lock();
            if state.ended {
                return None;
            }
            state.last_get += 1;
            let number = state.last_get;
            let dropped = (state.gets.len() >= GET_STREAMS_MAX).then(|| state.gets.remove(0));
            state.gets.push(Get::new(number));
            (number, dropped)
        };
        if let Some(waker) = dropped.and_then(|get| get.waker) {
            waker.wake();
        }
        Some(GetEvents::new(Arc::clone(self), number))
    }

    /// Announces that these lists changed. Kept for the next GET stream if none is open.
    pub(crate) fn announce(&self, lists: &[List]) {
        if self.initialized.load(Ordering::Relaxed) {
            self.deliver(|pending| pending.announce(lists));
        }
    }

    /// Tells of an updated resource: the newest notice of each URI is kept.
    pub(crate) fn updated(&self, uri: &str, message: Bytes) {
        let Ok(charge) = self.purse.whole.charge(message.len()) else { return };
        self.deliver(|pending| pending.update(uri, message, charge));
    }

    /// Sends a message that belongs to a call whose own stream is gone. `false` if there is no GET stream either.
    pub(crate) fn tell(&self, id: &Id, message: &Bytes) -> bool {
        if self.lock().gets.is_empty() {
            return false;
        }
        let key = String::from_utf8_lossy(id.json().as_bytes()).into_owned();
        self.updated(&key, message.clone());
        true
    }

    /// Passes on a log message that belongs to no call; only to a client that set a level and listens (S-11).
    pub(crate) fn log(&self, level: LogLevel, message: &Bytes) {
        {
            let state = self.lock();
            if state.gets.is_empty() || state.level.is_none_or(|wanted| level < wanted) {
                return;
            }
        }
        let Ok(charge) = self.purse.whole.charge(message.len()) else { return };
        self.deliver(|pending| pending.log(message.clone(), charge));
    }

    fn deliver(&self, put: impl FnOnce(&mut Pending)) {
        let waker = {
            let mut state = self.lock();
            if state.ended {
                return;
            }
            put(&mut state.pending);
            state.gets.last_mut().and_then(|get| get.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    // -- lists ------------------------------------------------------------------------------------------

    /// Until when the lists of this session may wait for servers never seen before: they wait together.
    pub(crate) fn lists_until(&self, wait: std::time::Duration) -> Instant {
        *self.lock().lists_until.get_or_insert_with(|| Instant::now() + wait)
    }

    // -- end --------------------------------------------------------------------------------------------

    /// Ends the session: cancels what runs, closes its streams. Returns its subscriptions, once.
    pub(crate) fn end(&self) -> Vec<(Source, Box<str>)> {
        let old = {
            let mut state = self.lock();
            let old = std::mem::take(&mut *state);
            state.ended = true;
            old
        };
        self.questions.end();
        for running in old.running.into_values() {
            if running.stop() {
                running.outbox.answer(self.cancelled(running.outbox.request()));
            }
        }
        for waker in old.gets.into_iter().filter_map(|get| get.waker) {
            waker.wake();
        }
        let source = |server, lane| Source { server, lane };
        old.subscriptions.into_iter().map(|((server, uri), lane)| (source(server, lane), uri)).collect()
    }

    /// Lets go of what is too old to be asked for: answers after `replay_age`.
    pub(crate) fn sweep(&self, now: Instant, replay_age: Duration) {
        let idle = now.saturating_duration_since(self.used()) > SESSION_BUFFERS_IDLE_MAX;
        let old = |(_, outbox): &(u64, Arc<Outbox>)| {
            let answered = outbox.answered_at();
            answered.is_some_and(|at| idle || now.saturating_duration_since(at) > replay_age)
        };
        let mut state = self.lock();
        state.streams.retain(|stream| !old(stream));
        if idle {
            // A change of a list is remembered in a bit; the rest nobody came for.
            if state.gets.is_empty() {
                state.pending.forget();
            }
            state.running.shrink_to_fit();
            state.streams.shrink_to_fit();
            state.gets.shrink_to_fit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the id: who has it may speak as this client.
        out.debug_struct("Session").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl State {
    /// Drops finished streams, oldest first, until `bytes` more fit. What somebody still reads is given back
    /// when he is done.
    fn make_room(&mut self, purse: &Purse, bytes: usize) {
        while !purse.has_room(bytes) && self.drop_finished() {}
    }

    /// Drops the oldest stream that is finished. Says whether there was one.
    fn drop_finished(&mut self) -> bool {
        let finished = |(_, outbox): &(u64, Arc<Outbox>)| outbox.answered_at().is_some();
        let at = self.streams.iter().position(finished);
        at.and_then(|at| self.streams.remove(at)).is_some()
    }
}

/// Where the numbers of a session begin that had others before.
fn random_base() -> u64 {
    let mut bits = [0_u8; 8];
    getrandom::fill(&mut bits).expect("the kernel gives random bytes");
    // Room to count on.
    u64::from_le_bytes(bits) >> 8
}

#[cfg(test)]
mod tests;
