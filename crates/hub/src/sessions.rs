//! The legacy sessions of a hub: how they begin, are found, come back and end.
//!
//! A session's id says all that its birth decided, under the hub's seal. So whoever presents one is served, whether or not
//! this process has ever seen it: after a restart, a crash, or when the session had given way to newer ones, it is made
//! again from its id and its record (`records.rs`). A client never has to initialize twice; many cannot. Not restored
//! are streams and calls: those ended with what held them.
//!
//! An id is refused that was not made here, whose session was ended, or that nobody has used for longer than
//! `limits.session_idle_sec`. A session of the pair of HTTP+SSE is bound to its stream and is none of this
//! (mcp-protocol 3.13).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::Entry;
use tokio::time::{Instant, timeout};
use trunkline_config::Sharing;
use trunkline_telemetry::spawn;
use trunkline_upstream::{LaneKey, Upstream};
use trunkline_wire::{Request, Response};

use crate::client::Facts;
use crate::lanes::Source;
use crate::limits::{RECORD_BYTES_MAX, RECORDS_WAIT, SESSION_ID_BYTES_MAX};
use crate::logging::LogLevel;
use crate::records::Record;
use crate::refusal::Refusal;
use crate::renewal::{self, Owner, Wanted};
use crate::seal::{Opened, State, is_open};
use crate::subscriptions::Joined;
use crate::{Guest, Hub, Session, View, logging, subscriptions, wall};

/// What a session is called, and since when.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The value of `Mcp-Session-Id`.
    pub id: Box<str>,
    /// What it is known by beyond this process; `None` if it ends with its stream.
    pub nonce: Option<Box<str>>,
    /// Its last use that will be known after this process: its birth, or one in its record.
    pub noted: u64,
    /// Its streams of another life are numbered already.
    pub revived: bool,
    /// Whose it is: the name of the token it was begun with, if one was asked for.
    pub owner: Option<Arc<str>>,
    /// What its client sees.
    pub view: View,
}

impl Identity {
    /// Of a session that is bound to one stream.
    pub(crate) fn of_stream(id: Box<str>, guest: Guest<'_>) -> Self {
        let (owner, view) = (guest.owner.map(Into::into), guest.view.clone());
        Self { id, nonce: None, noted: 0, revived: false, owner, view }
    }
}

impl Hub {
    /// Begins a session: the answer to a legacy `initialize`. Waits for no server.
    pub fn open(self: &Arc<Self>, initialize: &Request, guest: Guest<'_>) -> Result<(Arc<Session>, Response), Refusal> {
        self.begin(initialize, guest, false)
    }

    /// As [`Hub::open`], for a client that hears everything on one stream: its events have no ids, nothing is kept
    /// for a resume, and a cancelled request is answered with an empty text, which is not to be sent
    /// (mcp-protocol 2.8, 3.13).
    pub fn open_pair(
        self: &Arc<Self>,
        initialize: &Request,
        guest: Guest<'_>,
    ) -> Result<(Arc<Session>, Response), Refusal> {
        self.begin(initialize, guest, true)
    }

    fn begin(
        self: &Arc<Self>,
        initialize: &Request,
        guest: Guest<'_>,
        one_stream: bool,
    ) -> Result<(Arc<Session>, Response), Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::ShuttingDown);
        }
        let facts = Facts { one_stream, ..Facts::read(initialize)? };
        self.admit()?;
        self.make_room();
        self.acquaintances.met(&facts.name, facts.revision, &facts.abilities);
        let result = facts.welcome(&self.view(guest.view).instructions);
        let identity =
            if one_stream { Identity::of_stream(random_nonce(), guest) } else { self.identity(&facts, guest) };
        let session = self.live(identity, facts);
        self.sessions.insert(session.id().into(), Arc::clone(&session));
        self.metrics.sessions(self.sessions.len());
        Ok((session, Response::result(initialize.id.clone(), result)))
    }

    /// Whether `comes` may go on with what `began` has begun: it is the same address, he is the same or one of the two was
    /// asked for no token, and neither sees more there than the other (S-5, S-8).
    pub fn may_go_on(&self, began: Guest<'_>, comes: Guest<'_>) -> bool {
        is_open(began.owner, comes.owner) && self.views.borrow().are_one(began.view, comes.view)
    }

    /// The session with this id, made again if need be, if it was begun at the same address and is open to whoever showed
    /// this token: who began it, and everybody where one of the two was not asked for a token (S-8).
    pub fn session(self: &Arc<Self>, id: &str, guest: Guest<'_>) -> Option<Arc<Session>> {
        if let Some(entry) = self.sessions.get(id) {
            if !self.may_go_on(entry.guest(), guest) {
                return None;
            }
            // While the map holds it, so that it does not give way to another at this moment.
            entry.touch();
            return Some(Arc::clone(entry.value()));
        }
        self.revive(id, guest)
    }

    /// Ends a session for good: what it runs is cancelled, its streams close, its id is refused from now on.
    pub fn end(self: &Arc<Self>, session: &Arc<Session>) {
        if let Some(nonce) = session.nonce() {
            // Before it leaves the map: whoever comes with its id in between finds it over.
            self.records.over(nonce, wall::now());
        }
        let removed = self.sessions.remove(session.id());
        for session in removed.as_ref().map(|(_, removed)| removed).into_iter().chain([session]) {
            self.close(session);
        }
        self.release_lanes(session);
        self.metrics.sessions(self.sessions.len());
    }

    /// Ends a session that nobody used for too long, unless somebody does now.
    pub(crate) fn expire(self: &Arc<Self>, session: &Arc<Session>) {
        let (now, idle) = (Instant::now(), self.rules().limits.session_idle);
        let removed = self.sessions.remove_if(session.id(), |_, session| {
            // Whoever comes with its id waits for this, and finds it over, or was here before.
            let over = session.is_forsaken(now, idle);
            if let (true, Some(nonce)) = (over, session.nonce()) {
                self.records.over(nonce, wall::now());
            }
            over
        });
        if let Some((_, removed)) = removed {
            self.close(&removed);
            self.release_lanes(&removed);
            self.metrics.sessions(self.sessions.len());
        }
    }

    /// With a session go the lanes that were its alone. One that only gave way in the table keeps them: it may be back.
    fn release_lanes(&self, session: &Session) {
        for upstream in self.fleet.all().iter().filter(|upstream| upstream.sharing() == Sharing::Session) {
            upstream.release(&LaneKey::Session(session.number()));
        }
    }

    /// Waits until the ends of sessions and the pins of tools are on disk, so that a restart cannot undo them; not for long
    /// where a disk fails.
    pub async fn remembered(&self) {
        let all = async { tokio::join!(self.records.settled(), self.pins.settled()) };
        if timeout(RECORDS_WAIT, all).await.is_err() {
            tracing::warn!("the state directory takes its time; a restart now may bring an ended session back");
        }
    }

    /// Keeps what the client of a session has set, for when the session is made again.
    pub(crate) fn note_settings(&self, session: &Session) {
        let Some(nonce) = session.nonce() else { return };
        // Without subscriptions they are of no use: a call asks for those of its time.
        let roots = session.known_roots();
        let bytes: usize = roots.iter().map(String::len).sum();
        let left = RECORD_BYTES_MAX.checked_sub(bytes);
        let Some((level, subscriptions)) = session.settings(left.unwrap_or(RECORD_BYTES_MAX)) else { return };
        let roots = if left.is_some() && !subscriptions.is_empty() { roots.to_vec() } else { Vec::new() };
        self.records.change(nonce, |record| {
            record.level = level.map(|level| level.as_str().into());
            record.subscriptions = subscriptions;
            record.roots = roots;
            record.used = wall::now();
        });
    }

    /// How long after its last noted use an id is refused. Uses are noted seldom, and the wall clock may have jumped.
    pub(crate) fn id_lifetime(&self) -> Duration {
        self.rules().limits.session_idle + self.uses_noted_every() + wall::JUMP
    }

    /// How old the note of a session's last use may be.
    pub(crate) fn uses_noted_every(&self) -> Duration {
        self.rules().limits.session_idle / 4
    }

    /// Takes up a session by its id.
    fn revive(self: &Arc<Self>, id: &str, guest: Guest<'_>) -> Option<Arc<Session>> {
        if id.len() > SESSION_ID_BYTES_MAX {
            return None;
        }
        let Ok(Opened { state, owner }) = self.sealer.open(id, guest.owner) else { return None };
        let State::Session { nonce, born, facts, profile } = state else { return None };
        if profile.as_deref() != guest.view.profile() {
            return None;
        }
        self.make_room();
        let (session, record) = match self.sessions.entry(id.into()) {
            // Others came with the same id.
            Entry::Occupied(entry) => {
                let is_same = self.views.borrow().are_one(entry.get().view(), guest.view);
                return is_same.then(|| Arc::clone(entry.get()));
            }
            Entry::Vacant(entry) => {
                let record = self.records.of(&nonce)?;
                let last = born.max(record.used);
                if wall::now().saturating_sub(last) > self.id_lifetime().as_secs() {
                    return None;
                }
                let facts = Facts::carried(facts.as_ref().or(record.carried.as_ref())?)?;
                let (owner, view) = (owner.map(Into::into), guest.view.clone());
                let identity = Identity { id: id.into(), nonce: Some(nonce), noted: last, revived: true, owner, view };
                let session = self.live(identity, facts);
                session.initialized();
                session.announce(&self.told().since_birth(session.view(), born));
                entry.insert(Arc::clone(&session));
                (session, record)
            }
        };
        self.acquaintances.met(session.client_name(), session.revision(), &session.abilities());
        self.metrics.session_revived();
        self.metrics.sessions(self.sessions.len());
        tracing::debug!(client = session.client_name(), "a session is taken up again by its id");
        self.restore(&session, &record);
        Some(session)
    }

    /// Gives a session back what its client had set, and tells the servers.
    fn restore(self: &Arc<Self>, session: &Arc<Session>, record: &Record) {
        if let Some(level) = record.level.as_deref().and_then(LogLevel::parse) {
            session.set_level(level);
            logging::apply(self);
        }
        if !record.roots.is_empty() {
            session.recall_roots(&record.roots);
        }
        let mut wanted = Vec::new();
        let seen = self.view(session.view());
        for (server, uri) in &record.subscriptions {
            // One that is not configured any more has nothing to say.
            let is_seen =
                |upstream: &Upstream| upstream.config().enabled && seen.has(upstream.name()) && seen.may_ask(uri);
            let Some(upstream) = self.fleet.get(server).filter(is_seen) else { continue };
            let owner = Owner::Session(Arc::clone(session));
            let facts = owner.facts(self, &upstream);
            let source = Source { server: upstream.name().clone(), lane: facts.lane.clone() };
            let joined = self.interest.join_if(&source, uri, || session.subscribe(&source, uri));
            if joined == Some(Joined::First) {
                wanted.push(Wanted { owner, upstream: upstream.clone(), uri: uri.clone(), facts });
            }
        }
        if !wanted.is_empty() {
            spawn("resubscribe", renewal::resubscribe(Arc::clone(self), wanted));
        }
    }

    /// A session of these facts; in no table yet.
    fn live(&self, identity: Identity, facts: Facts) -> Arc<Session> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Session::begin(number, identity, facts, self.replay.clone(), self.budget.clone())
    }

    /// Names a session that begins now.
    fn identity(&self, facts: &Facts, guest: Guest<'_>) -> Identity {
        let (nonce, born) = (random_nonce(), wall::now());
        let carried = facts.carry();
        let profile: Option<Box<str>> = guest.view.profile().map(Into::into);
        let seal = |facts| {
            let state = State::Session { nonce: nonce.clone(), born, facts, profile: profile.clone() };
            self.sealer.seal(&state, guest.owner)
        };
        let mut id = seal(Some(carried.clone()));
        if id.len() > SESSION_ID_BYTES_MAX {
            id = seal(None);
            if carried.bytes() <= RECORD_BYTES_MAX {
                self.records.change(&nonce, |record| {
                    record.used = born;
                    record.carried = Some(carried);
                });
            } else {
                tracing::warn!(client = %facts.name, "declares too much to be kept; its session ends with this process");
            }
        }
        let (owner, view) = (guest.owner.map(Into::into), guest.view.clone());
        Identity { id: id.into(), nonce: Some(nonce), noted: born, revived: false, owner, view }
    }

    /// Takes one of the sessions that may begin now (S-24).
    fn admit(&self) -> Result<(), Refusal> {
        self.births.take(&self.rules().limits, Instant::now()).map_err(|retry_after| {
            self.metrics.rejected("session_rate");
            Refusal::TooManySessions { retry_after }
        })
    }

    /// Lets the session give way that nobody used for the longest time, if there are too many; one with an open stream or
    /// call, or whose request is just coming, only if all are such. Its id stays good.
    fn make_room(self: &Arc<Self>) {
        while self.sessions.len() >= self.rules().limits.sessions {
            // Here a session is in the map and in this hand; whoever found it for his request holds it, too.
            let is_held = |session: &Arc<Session>| Arc::strong_count(session) > 2 || session.is_busy();
            let all = self.sessions.iter().map(|entry| Arc::clone(entry.value()));
            let Some((held, used, longest)) = all
                .map(|session| (is_held(&session), session.used(), session))
                .min_by_key(|(held, used, _)| (*held, *used))
            else {
                return;
            };
            // Not if it was used in this very moment.
            let is_as_seen = |session: &Arc<Session>| session.used() == used && (held || !is_held(session));
            if self.sessions.remove_if(longest.id(), |_, session| is_as_seen(session)).is_some() {
                self.close(&longest);
            }
        }
    }

    pub(crate) fn close(self: &Arc<Self>, session: &Session) {
        let had_level = session.level().is_some();
        for (source, uri) in session.end() {
            subscriptions::leave(self, &source, &uri);
        }
        if had_level {
            logging::apply(self);
        }
    }
}

/// 144 random bits as 24 characters.
pub(crate) fn random_nonce() -> Box<str> {
    let mut bits = [0_u8; 18];
    getrandom::fill(&mut bits).expect("the kernel gives random bytes");
    URL_SAFE_NO_PAD.encode(bits).into()
}

#[cfg(test)]
mod tests;
