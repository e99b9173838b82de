//! A server's lanes: how many connections it has, and which of them is whose (mcp-protocol 6.2, R-32).
//!
//! A lane is a connection with everything that belongs to one: a [`Shared`], a supervisor, a state, an offer. Each server
//! has its *first* lane. With `sharing = "shared"` that is all there is, and [`Shared::lane_of`] is one branch. Otherwise
//! whoever comes with a [`LaneKey`] gets the lane of that key, which begins with him; the first lane is for those without
//! one, and the server is asked on it what it offers if nobody knows yet.
//!
//! * A further lane starts at once and sleeps after `idle_stop_sec`, like any server; the next call of its owner wakes it. It
//!   ends when its key is released, when the configuration takes the server away or shares it in another way, or when it
//!   gives way: at the cap the one that was unused for the longest time does. If all are in use the caller is refused.
//! * What is used: a call from its first moment to its last ([`Hold`]), a person's time to answer included, and a
//!   subscription. A lane in use neither sleeps nor gives way.
//! * A lane that ends is out of the table at once; the one in its place, or of the same key, is opened when nothing is left
//!   of it. So there are never more processes than the cap says, and never two of one key.
//! * What counts per server counts over its lanes: places, breaker and budget, metrics, the journal. The server's offer is
//!   that of its first ready lane, what is shown of it the best of their states. Nothing else knows how many there are.

mod shown;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_config::{Connect, Declared, Server, Sharing};
use trunkline_telemetry::spawn;
use trunkline_wire::{Abilities, Era, Outcome};

use crate::call::CallerFacts;
use crate::error::{CallError, CallErrorKind};
use crate::handle::{Shared, Upstream, mark};
use crate::limits::{READY_WAIT, SUPERVISOR_RESTART};
use crate::state::Phase;
use crate::status::LaneStatus;
use crate::supervisor::{Dialer, supervise};

/// Whose lane a caller's is. The hub says; here it is only compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum LaneKey {
    /// That of all who have none of their own.
    #[default]
    Common,
    /// That of one session, by a number that no other has.
    Session(u64),
    /// That of a client without sessions, as far as it can be told from others.
    Client(Arc<str>),
    /// That of those who work in these directories, `file://` URIs, and come with this token.
    Roots(Option<Arc<str>>, Arc<[String]>),
    /// That of the clients of this profile who come with this token.
    Profile(Option<Arc<str>>, Arc<str>),
}

/// What a server has been, without a break, for whoever subscribed to something there: while two of it are equal, the
/// connections that hold the subscriptions are the same ones, each still of the callers that it was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    number: u64,
    sharing: Sharing,
}

/// Numbers tenures, over all servers: one that was taken away and put back is another.
static TENURES: AtomicU64 = AtomicU64::new(0);

/// The lanes of a server beyond the first; of a further lane, none.
pub(crate) struct Lanes {
    sharing: AtomicU8,
    tenure: AtomicU64,
    table: Mutex<Table>,
    dialer: Option<Arc<dyn Dialer>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    /// Those that callers find, the oldest first.
    lanes: Vec<Arc<Shared>>,
    /// Those of which something is left.
    ending: Vec<Arc<Shared>>,
    last: u64,
}

/// What makes a lane a further one.
pub(crate) struct Further {
    /// The first lane of its server.
    pub(crate) first: Arc<Shared>,
    pub(crate) key: LaneKey,
    /// Who began it, for people.
    owner: Arc<str>,
    number: u64,
    /// What the owner can be asked.
    abilities: Arc<Abilities>,
    /// The owner's own directories, which may change while the connection stands.
    roots: Mutex<Arc<[String]>>,
    /// Nothing is left of it.
    gone: CancellationToken,
}

/// A use of a lane, over on drop.
pub(crate) struct Hold(Arc<Shared>);

impl Hold {
    fn on(lane: &Arc<Shared>) -> Self {
        lane.holds.fetch_add(1, Ordering::Relaxed);
        Self(lane.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.used();
        self.0.holds.fetch_sub(1, Ordering::Release);
    }
}

impl Lanes {
    /// Those of a server that is shared so.
    pub(crate) fn new(sharing: Sharing, dialer: Arc<dyn Dialer>, stop: CancellationToken) -> Self {
        Self { sharing: AtomicU8::new(sharing as u8), dialer: Some(dialer), stop, ..Self::none() }
    }

    fn none() -> Self {
        Self {
            sharing: AtomicU8::new(Sharing::Shared as u8),
            tenure: AtomicU64::new(TENURES.fetch_add(1, Ordering::Relaxed)),
            table: Mutex::default(),
            dialer: None,
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn sharing(&self) -> Sharing {
        match self.sharing.load(Ordering::Relaxed) {
            shared if shared == Sharing::Shared as u8 => Sharing::Shared,
            session if session == Sharing::Session as u8 => Sharing::Session,
            _ => Sharing::Project,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises a mark on every further lane.
    pub(crate) fn raise(&self, mark: u8) {
        for lane in &self.table().lanes {
            lane.marks.raise(mark);
        }
    }

    /// Has all further lanes end.
    pub(crate) fn end_all(&self) {
        self.end_those_of(&mut self.table());
    }

    /// With the lanes go the subscriptions that they hold.
    fn end_those_of(&self, table: &mut Table) {
        if !table.lanes.is_empty() {
            self.tenure.store(TENURES.fetch_add(1, Ordering::Relaxed), Ordering::Release);
        }
        table.end_all();
    }

    /// Has the lane of this key end, if there is one.
    pub(crate) fn release(&self, key: &LaneKey) {
        let mut table = self.table();
        if let Some(at) = table.at(key) {
            let lane = table.lanes.remove(at);
            table.end(lane);
        }
    }

    /// The server was configured anew: lanes follow, or end if they are shared in another way or not at all.
    pub(crate) fn follow(&self, server: &Server) {
        // Within the table: whoever looks for his lane was here before, or finds the new configuration.
        let mut table = self.table();
        let before = self.sharing();
        self.sharing.store(server.sharing as u8, Ordering::Relaxed);
        if before != server.sharing || !server.enabled {
            return self.end_those_of(&mut table);
        }
        for lane in &table.lanes {
            if let Some(further) = &lane.further {
                lane.reconfigure(further.own(server));
            }
        }
    }

    /// Waits until nothing is left of the lanes that end: of all, where the daemon stops.
    pub(crate) async fn gone(&self) {
        let ending: Vec<_> = {
            let table = self.table();
            let all = self.stop.is_cancelled().then_some(&table.lanes).into_iter().flatten();
            all.chain(&table.ending).filter_map(|lane| Some(lane.further.as_ref()?.gone.clone())).collect()
        };
        for lane in ending {
            lane.cancelled().await;
        }
    }

    /// The lanes, and of how many that end something is left.
    pub(crate) fn status(&self) -> Vec<LaneStatus> {
        let (lanes, ending) = {
            let table = self.table();
            (table.lanes.clone(), table.ending.clone())
        };
        lanes.iter().chain(&ending).filter_map(|lane| Some(LaneStatus::of(lane, lane.further.as_ref()?))).collect()
    }
}

impl Table {
    fn at(&self, key: &LaneKey) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.has_key(key))
    }

    fn end_all(&mut self) {
        while let Some(lane) = self.lanes.pop() {
            self.end(lane);
        }
    }

    /// Takes leave of a lane that is out of the table.
    fn end(&mut self, lane: Arc<Shared>) {
        lane.leave_configuration();
        self.ending.push(lane);
    }

    /// Makes room for one more lane, if it can be done without taking one from somebody.
    fn make_room(&mut self, most: usize) -> bool {
        while self.lanes.len() >= most {
            let unused = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_wanted());
            let Some((at, _)) = unused.min_by_key(|(_, lane)| lane.last_used()) else { return false };
            let lane = self.lanes.remove(at);
            tracing::info!(server = %lane.name, lane = lane.lane_label(), "gives way to another lane: it was unused for the longest time");
            self.end(lane);
        }
        true
    }

    /// What must be gone before a lane of this key may be opened.
    fn before(&self, key: &LaneKey, most: usize) -> Vec<CancellationToken> {
        let spare = most.saturating_sub(self.lanes.len() + 1);
        let too_many = self.ending.len().saturating_sub(spare);
        let ending = self.ending.iter().enumerate().filter(|(at, lane)| *at < too_many || lane.has_key(key));
        ending.filter_map(|(_, lane)| Some(lane.further.as_ref()?.gone.clone())).collect()
    }
}

impl Further {
    fn roots(&self) -> MutexGuard<'_, Arc<[String]>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration of this lane: the server's, with what its owner brings.
    fn own(&self, server: &Server) -> Server {
        let mut own = server.clone();
        match &self.key {
            LaneKey::Roots(_, roots) => {
                own.declared.roots = roots.to_vec();
                let directory = own.declared.directory().filter(|directory| directory.is_dir());
                if let Connect::Stdio(stdio) = &mut own.connect
                    && stdio.cwd.is_none()
                {
                    stdio.cwd = directory;
                }
            }
            LaneKey::Session(_) | LaneKey::Client(_) => {
                own.declared.own = Some(self.abilities.clone());
            }
            LaneKey::Profile(..) | LaneKey::Common => {}
        }
        own
    }
}

impl Upstream {
    /// What it is now for those who subscribed to something there.
    pub fn tenure(&self) -> Tenure {
        Tenure { number: self.0.lanes.tenure.load(Ordering::Acquire), sharing: self.sharing() }
    }
}

impl Shared {
    /// The first lane of its server, which may be this one.
    pub(crate) fn first(&self) -> &Self {
        self.further.as_ref().map_or(self, |further| &*further.first)
    }

    /// Whose it is.
    pub(crate) fn key(&self) -> LaneKey {
        self.further.as_ref().map(|further| further.key.clone()).unwrap_or_default()
    }

    fn has_key(&self, key: &LaneKey) -> bool {
        self.further.as_ref().is_some_and(|further| further.key == *key)
    }

    /// Whose it is, for people; `None` of a first lane.
    pub(crate) fn lane_label(&self) -> Option<String> {
        self.further.as_ref().map(Further::label)
    }

    /// What its server may ask: as the configuration says, and of the owner's directories those of now.
    pub(crate) fn declared(&self) -> Declared {
        let declared = self.server().declared.clone();
        let roots = self.further.as_ref().map(|further| further.roots().to_vec()).unwrap_or_default();
        if roots.is_empty() { declared } else { Declared { roots, ..declared } }
    }

    /// The owner of this lane works in these directories now. If they are others than before its server is told, keeps what
    /// it has, and is given a moment to ask for them.
    async fn works_in(&self, roots: &Arc<[String]>) {
        let Some(further) = &self.further else { return };
        if std::mem::replace(&mut *further.roots(), roots.clone()) == *roots {
            return;
        }
        if let Some(link) = self.usable() {
            link.declare(self.declared());
            link.settled().await;
        }
    }

    /// Whether its server has lanes.
    pub(crate) fn has_lanes(&self) -> bool {
        self.further.is_some() || self.lanes.sharing() != Sharing::Shared
    }

    /// The lane of a caller, and the use that he makes of it. Called on a first lane.
    pub(crate) async fn lane_of(
        self: &Arc<Self>,
        caller: &CallerFacts,
    ) -> Result<(Arc<Self>, Option<Hold>), CallError> {
        if self.lanes.sharing() == Sharing::Shared {
            return Ok((self.clone(), None));
        }
        if caller.lane != LaneKey::Common && self.may_be_stateless() {
            // What it speaks says whether it has lanes at all.
            drop(self.ready(Instant::now() + READY_WAIT).await?);
        }
        let (lane, hold) = self.lane_of_key(caller)?;
        lane.works_in(&caller.roots).await;
        Ok((lane, Some(hold)))
    }

    /// The lane of this key, if there is one, and a use of it.
    pub(crate) fn present_lane(self: &Arc<Self>, key: &LaneKey) -> Option<(Arc<Self>, Option<Hold>)> {
        let has_none = self.lanes.sharing() == Sharing::Shared;
        if *key == LaneKey::Common {
            return Some((self.clone(), (!has_none).then(|| Hold::on(self))));
        }
        if has_none || self.is_stateless() {
            // It was another's when there were lanes, and is not to be taken for everybody's.
            return None;
        }
        let table = self.lanes.table();
        let lane = &table.lanes[table.at(key)?];
        Some((lane.clone(), Some(Hold::on(lane))))
    }

    /// Every lane of the server, this first one included.
    pub(crate) fn all_lanes(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let further = self.lanes.table().lanes.clone();
        std::iter::once(self.clone()).chain(further).collect()
    }

    /// A modern server behind a URL knows no connections: what it is to keep is in each request (mcp-protocol 6.2).
    pub(crate) fn is_stateless(&self) -> bool {
        let is_modern = |offer: &crate::Offer| offer.revision.is_some_and(|revision| revision.era() == Era::Modern);
        matches!(self.server().connect, Connect::Http(_)) && is_modern(&self.offers.borrow())
    }

    /// It is behind a URL, and nobody has seen it yet.
    fn may_be_stateless(&self) -> bool {
        matches!(self.server().connect, Connect::Http(_)) && self.offers.borrow().revision.is_none()
    }

    fn lane_of_key(self: &Arc<Self>, caller: &CallerFacts) -> Result<(Arc<Self>, Hold), CallError> {
        if caller.lane == LaneKey::Common || self.is_stateless() {
            return Ok((self.clone(), Hold::on(self)));
        }
        let mut table = self.lanes.table();
        // Within the table: whoever ends all lanes was here before, or sees this one.
        let server = self.server();
        let over = self.draining.is_cancelled() || self.lanes.stop.is_cancelled();
        if over || !server.enabled || !self.is_listed() || self.lanes.sharing() == Sharing::Shared {
            // The first lane says what is the matter.
            return Ok((self.clone(), Hold::on(self)));
        }
        if let Some(at) = table.at(&caller.lane) {
            let lane = &table.lanes[at];
            return Ok((lane.clone(), Hold::on(lane)));
        }
        let most = server.tuning.lanes_max;
        if !table.make_room(most) {
            return Err(self.no_lane_left(server.sharing, most));
        }
        let before = table.before(&caller.lane, most);
        let lane = self.begin_lane(caller, &server, &mut table.last);
        let hold = Hold::on(&lane);
        table.lanes.push(lane.clone());
        drop(table);
        tracing::info!(server = %self.name, lane = lane.lane_label(), "a lane begins");
        spawn("lane", keep(lane.clone(), before));
        Ok((lane, hold))
    }

    fn begin_lane(self: &Arc<Self>, caller: &CallerFacts, server: &Server, last: &mut u64) -> Arc<Self> {
        *last += 1;
        let further = Further {
            first: self.clone(),
            key: caller.lane.clone(),
            owner: caller.client.clone().unwrap_or_else(|| "nobody".into()),
            number: *last,
            abilities: caller.declared.clone(),
            roots: Mutex::new(caller.roots.clone()),
            gone: CancellationToken::new(),
        };
        let own = further.own(server);
        Arc::new(Self::further(self, further, own, Lanes::none()))
    }

    fn no_lane_left(&self, sharing: Sharing, most: usize) -> CallError {
        let (whose, word) = match sharing {
            Sharing::Project => ("projects", "project"),
            Sharing::Session | Sharing::Shared => ("sessions", "session"),
        };
        let text = format!(
            "server `{0}` has a connection of its own for each {word}, and all {most} are in use by other {whose}; try again \
             later, end one of them, or raise `limits.lanes` of [mcp_servers.{0}]",
            self.name
        );
        self.environment.metrics.lane_refused(&self.name);
        self.error(CallErrorKind::Overloaded, Outcome::NotSent, text)
    }
}

/// Keeps a lane running until it is to end, again after a panic of its supervisor. It begins when nothing is left of those
/// `before` it.
async fn keep(lane: Arc<Shared>, before: Vec<CancellationToken>) {
    let Some(Further { first, gone, .. }) = &lane.further else { return };
    let Some(dialer) = first.lanes.dialer.clone() else { return };
    let stop = first.lanes.stop.clone();
    for earlier in before {
        earlier.cancelled().await;
    }
    loop {
        let supervisor = supervise(lane.clone(), dialer.clone(), stop.clone());
        if spawn("supervisor", supervisor).await.is_err() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(SUPERVISOR_RESTART) => {}
            }
        }
        if stop.is_cancelled() || !lane.is_listed() {
            break;
        }
    }
    {
        let mut table = first.lanes.table();
        table.lanes.retain(|other| !Arc::ptr_eq(other, &lane));
        table.ending.retain(|other| !Arc::ptr_eq(other, &lane));
    }
    gone.cancel();
    first.show();
}

/// Raises a mark on a server as a whole.
pub(crate) fn raise(first: &Shared, mark: u8) {
    // One that nobody uses need not be woken to be started anew, unless it is all there is.
    let asleep = first.has_lanes() && first.states.borrow().phase == Phase::Idle;
    if mark != mark::RESTART || !asleep || first.lanes.table().lanes.is_empty() {
        first.marks.raise(mark);
    }
    first.lanes.raise(mark);
}

#[cfg(test)]
mod tests;
