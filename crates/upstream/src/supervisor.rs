//! The supervisor: one task per server that walks the state machine and does what it asks for.
//!
//! It owns the link. Whatever takes time (dialling, fetching lists, probing, closing) runs as a future in a slot of
//! its own beside the others, inside this one task; giving something up is emptying its slot. So a hanging server
//! never keeps it from hearing "restart" or "stop", and no two dials can run at once. Every transition is logged,
//! counted, kept in the journal and published; nobody outside ever waits for this task.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_config::{Connect, Server, Start};

use crate::backoff::Luck;
use crate::dial::Order;
use crate::error::{DialError, DialErrorKind, Disposition};
use crate::handle::{Shared, mark};
use crate::limits::{DIAL_SLACK, FIRST_START, LATER_START, LEVEL_QUIET, PROBE_TIMEOUT, SECRET_AGAIN, WAKE_PROBE};
use crate::link::Link;
use crate::lists::Lists;
use crate::offer::Kinds;
use crate::refresh::Refresh;
use crate::stale::Stale;
use crate::state::{Action, Event, Failure, Phase, Rules, State, step};
use crate::status::StateView;
use crate::transport::{Broken, Dialed, FaultPoint};

use change::{Replacement, Retiring, one_gone};

mod change;
mod lists;
mod probe;
mod rest;
mod tell;

/// How connections come about: the ladder of `dial.rs`, or a fake in tests.
pub(crate) trait Dialer: Send + Sync + 'static {
    /// Opens a connection. Dropping the future gives the attempt up and leaves nothing behind.
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>>;
}

/// Work under way, at most one of each kind.
type Slot<T> = Option<BoxFuture<'static, T>>;

struct Supervisor {
    shared: Arc<Shared>,
    dialer: Arc<dyn Dialer>,
    /// The configuration that was acted upon.
    in_use: Arc<Server>,
    /// The one by which the connection was made: another while the next connection is not ready.
    made_by: Arc<Server>,
    state: State,
    since: Instant,
    /// What was seen last that keeps the server from being ready.
    cause: Option<Arc<str>>,
    link: Option<Arc<Link>>,
    lists: Lists,
    /// The one by which `lists` came.
    listed: Arc<Server>,
    stale: Stale,
    refresh: Refresh,
    /// When a changed log level is to be sent.
    level_due: Option<Instant>,
    /// A dial is wanted as soon as the old connection is closed.
    dial_wanted: bool,
    /// When a refused credential was last looked up again.
    looked_up_again: Option<Instant>,
    dialing: Slot<Result<Dialed, DialError>>,
    fetching: Slot<Lists>,
    probing: Slot<Result<(), String>>,
    closing: Slot<()>,
    /// What is being closed, as long as calls may still run on it.
    leaving: Option<Arc<Link>>,
    /// A connection by the new configuration, while the old one serves.
    replacing: Slot<Replacement>,
    /// Connections whose place was taken, until their calls have ended.
    retiring: Vec<Retiring>,
    /// The old connection has to end before calls can be served again.
    changing: bool,
    /// The daemon stops.
    stopping: bool,
    /// When the server was last seen at work although it might have slept.
    seen_at_work: Instant,
    /// Telling a connection what clients want.
    telling: Slot<()>,
    listening: Slot<()>,
}

/// What the supervisor woke up for.
enum Woken {
    Stop,
    Marks(u8),
    Closed,
    Down(Arc<Broken>),
    Dialed(Result<Dialed, DialError>),
    Fetched(Box<Lists>),
    Probed(Result<(), String>),
    Told,
    Changed(Kinds),
    Replaced(Box<Replacement>),
    Retired,
    Timer,
}

/// Runs a server until `stop` and until nothing is left of its connection.
pub(crate) async fn supervise(shared: Arc<Shared>, dialer: Arc<dyn Dialer>, stop: CancellationToken) {
    let now = Instant::now();
    let server = shared.server();
    if server.enabled {
        // Switched on before this task looked.
        shared.recall(&server.connect);
    }
    let state = beginning(&shared, &server, now);
    let lists = Lists::of(&shared.offers.borrow());
    let mut supervisor = Supervisor {
        dial_wanted: state.phase == Phase::Starting,
        // One reading for all: what a reload changes from here on is marked, and found to differ.
        in_use: server.clone(),
        made_by: server.clone(),
        listed: server,
        shared,
        dialer,
        state,
        since: now,
        cause: None,
        link: None,
        lists,
        looked_up_again: None,
        stale: Stale::default(),
        refresh: Refresh::default(),
        level_due: None,
        dialing: None,
        fetching: None,
        probing: None,
        closing: None,
        leaving: None,
        replacing: None,
        retiring: Vec::new(),
        changing: false,
        stopping: false,
        seen_at_work: now,
        telling: None,
        listening: None,
    };
    supervisor.publish(supervisor.state.phase, "start");
    while supervisor.state.phase != Phase::Stopped || !supervisor.retiring.is_empty() {
        supervisor.start_work();
        let woken = supervisor.wait(&stop).await;
        supervisor.handle(woken);
    }
}

/// Where the configuration has a server begin. One that waits for its first call can only be listed if it is known what
/// it offers: else it is started once to find out.
fn beginning(shared: &Shared, server: &Server, now: Instant) -> State {
    // A further lane has its first call already.
    let known = shared.further.is_none() && shared.offers.borrow().revision.is_some();
    let state = match server.tuning.start {
        _ if !server.enabled => State::disabled(),
        Start::Lazy if known => State::idle(),
        Start::Lazy | Start::Eager => State::starting(now),
    };
    state.under(Rules::of(&server.tuning))
}

impl Supervisor {
    /// Waits for the next thing to happen. The end of the link comes before what else it may have caused.
    async fn wait(&mut self, stop: &CancellationToken) -> Woken {
        let due = self.due();
        let link = self.link.as_deref();
        tokio::select! {
            biased;
            () = stop.cancelled(), if !self.stopping => Woken::Stop,
            () = finished(&mut self.closing) => Woken::Closed,
            broken = down(link) => Woken::Down(broken),
            marks = self.shared.marks.taken() => Woken::Marks(marks),
            dialed = finished(&mut self.dialing) => Woken::Dialed(dialed),
            lists = finished(&mut self.fetching) => Woken::Fetched(Box::new(lists)),
            probed = finished(&mut self.probing) => Woken::Probed(probed),
            () = finished(&mut self.telling) => Woken::Told,
            () = finished(&mut self.listening) => Woken::Told,
            kinds = changed(link) => Woken::Changed(kinds),
            replacement = finished(&mut self.replacing) => Woken::Replaced(Box::new(replacement)),
            () = one_gone(&mut self.retiring) => Woken::Retired,
            () = at(due) => Woken::Timer,
        }
    }

    fn handle(&mut self, woken: Woken) {
        let now = Instant::now();
        match woken {
            Woken::Stop => {
                self.stopping = true;
                self.cut_retiring();
                self.apply(Event::Stop, "stop");
            }
            Woken::Marks(marks) => self.heed(marks, now),
            Woken::Closed => {
                self.leaving = None;
                self.apply(Event::Closed, "closed");
            }
            Woken::Down(broken) => self.lost(&broken),
            Woken::Dialed(Ok(dialed)) => self.connected(dialed),
            Woken::Dialed(Err(error)) => self.not_connected(&error),
            Woken::Fetched(lists) => self.fetched(*lists),
            Woken::Probed(Ok(())) => self.apply(Event::ProbeAnswered, "probe_answered"),
            Woken::Probed(Err(why)) => {
                self.cause = Some(self.shared.masked(&why));
                self.apply(Event::ProbeMissed, "probe_missed");
            }
            Woken::Told | Woken::Retired => {}
            Woken::Replaced(replacement) => self.replaced(*replacement),
            Woken::Changed(kinds) => {
                if self.refresh.changed(kinds, now) {
                    self.shared.environment.metrics.list_changed_coalesced(&self.shared.name);
                }
            }
            // Only the machine's own timer is an event; the others are looked at before each wait.
            Woken::Timer if self.state.wake_at().is_some_and(|wake| wake <= now) => {
                let (heard, busy) = self.link.as_ref().map_or((None, false), |l| (Some(l.heard()), l.is_busy()));
                self.apply(Event::Timer { heard, busy }, "timer");
            }
            Woken::Timer => {}
        }
    }

    fn heed(&mut self, marks: u8, now: Instant) {
        if marks & mark::LEVEL != 0 {
            self.level_due = Some(now + LEVEL_QUIET);
        }
        // What the configuration says means nothing to a daemon that stops.
        if marks & (mark::REMOVED | mark::CONFIG) != 0 && !self.stopping {
            if self.shared.is_listed() {
                self.reconfigured();
            } else {
                self.apply(Event::Removed, "removed");
            }
        }
        let busy = self.link.as_ref().is_some_and(|link| link.is_busy());
        // While calls end on an old connection no dial has begun that could hang, and they are not to be cut.
        let strict = self.is_remote() && self.leaving.is_none();
        for (wanted, event, reason) in [
            (mark::RESTART, Event::Restart, "restart"),
            (mark::WAKE, Event::Wake { strict, busy }, "wake"),
            (mark::TRIP, Event::Trip, "breaker"),
            (mark::DOUBT, Event::Doubt, "doubt"),
            (mark::DEMAND, Event::Demand, "demand"),
        ] {
            if marks & wanted != 0 {
                self.apply(event, reason);
            }
        }
    }

    fn lost(&mut self, broken: &Broken) {
        let auth = broken.fault == FaultPoint::NeedsAuth;
        let cause = self.shared.masked(&broken.text);
        // What follows the status of a refusal answers somebody's call, and may repeat it.
        let refusal = || cause.split(": ").next().unwrap_or_default();
        self.cause = Some(if auth { format!("{}; {}", refusal(), self.shared.key_to_set()).into() } else { cause });
        let now = Instant::now();
        // Its file or program may have a newer one: tried once, at once, by a new connection.
        let again = auth
            && self.shared.server().late.is_some()
            && self.looked_up_again.is_none_or(|last| now >= last + SECRET_AGAIN);
        if again {
            self.looked_up_again = Some(now);
        }
        let session_gone = broken.fault == FaultPoint::SessionGone || again;
        let exited = matches!(self.shared.server().connect, Connect::Stdio(_));
        let disposition = if auth && !again { Disposition::NeedsAuth } else { Disposition::Backoff };
        let reason = match (auth, session_gone, exited) {
            (true, _, _) => "auth",
            (_, true, _) => "session_gone",
            (_, _, true) => "exited",
            _ => "link_lost",
        };
        self.apply(Event::LinkDown(Failure { disposition, exited, session_gone, retry_after: None }), reason);
    }

    fn connected(&mut self, dialed: Dialed) {
        let shared = &self.shared;
        shared.environment.metrics.dial(&shared.name, "ok");
        if shared.ever_ready.load(Ordering::Relaxed) {
            shared.first().restarts.fetch_add(1, Ordering::Relaxed);
        }
        let link = Link::open(&shared.name, shared.key(), shared.declared(), dialed, &shared.environment);
        self.attend(link);
        self.apply(Event::Dialed, "dialed");
    }

    fn not_connected(&mut self, error: &DialError) {
        let reason = error.label();
        self.shared.environment.metrics.dial(&self.shared.name, reason);
        // What is wrong with the configuration is said in our own words alone.
        let own = error.kind == DialErrorKind::Config;
        self.cause = Some(if own { error.text.as_str().into() } else { self.shared.masked(&error.text) });
        let failure = Failure {
            disposition: error.disposition(),
            exited: error.kind == DialErrorKind::Exited,
            session_gone: false,
            retry_after: error.retry_after,
        };
        self.apply(Event::DialFailed(failure), reason);
    }

    /// Takes one step of the machine, publishes where it led and does what it asks for.
    fn apply(&mut self, event: Event, reason: &'static str) {
        let before = self.state.clone();
        let (after, actions) = step(before.clone(), event, Instant::now(), Luck(fastrand::f64()));
        self.state = after;
        // Calls wait for the new connection, but not for as long as those that run on the old one may take.
        self.changing |= matches!(event, Event::Reconfigured | Event::Enabled);
        for action in actions {
            match action {
                Action::Close => self.close(),
                Action::Leave => self.leave(),
                Action::Dial => self.dial_wanted = true,
                Action::Fetch => self.fetch(Kinds::ALL),
                Action::Renew => self.renew(),
                Action::Probe => self.probe(PROBE_TIMEOUT),
                Action::ProbeBriefly => self.probe(WAKE_PROBE),
            }
        }
        if let (true, Phase::Ready { .. }) = (before.phase.is_broken(), self.state.phase) {
            self.shared.health().recovered();
        }
        if self.state != before {
            self.publish(before.phase, reason);
        }
    }

    fn publish(&mut self, from: Phase, reason: &'static str) {
        let was_broken = from.is_broken();
        let (from, to) = (from.name(), self.state.phase.name());
        let shared = &self.shared;
        if from != to {
            let now = Instant::now();
            if was_broken {
                shared.environment.metrics.breaker_open(&shared.name, now.saturating_duration_since(self.since));
            }
            self.since = now;
            self.stale.note(self.state.phase, now);
        }
        let link = self.link.clone();
        let cause = if matches!(self.state.phase, Phase::Ready { .. }) { None } else { self.cause.clone() };
        let changing = self.changing && self.state.phase == Phase::Starting;
        let paused = shared.paused.load(Ordering::Acquire);
        let view = StateView { changing, paused, ..StateView::new(&self.state, self.since, cause, link) };
        if from != to {
            let sentence = view.sentence(&shared.name, self.since);
            let why = sentence.as_deref().unwrap_or(reason);
            let lane = shared.lane_label();
            shared.environment.metrics.transition(&shared.name, from, to, reason);
            let told = lane.as_ref().map(|lane| format!("lane of {lane}: {why}"));
            shared.environment.journal.transition(&shared.name, from, to, told.as_deref().unwrap_or(why));
            tracing::info!(server = %shared.name, lane, from, to, reason, "{why}");
        }
        shared.publish(view);
    }

    /// Gives up the connection and all work on it.
    fn close(&mut self) {
        if let Some(link) = self.leaving.take() {
            link.abandon();
        }
        let link = self.drop_work();
        // A dial waits for the close before it, so there is no link while one closes. What closes goes on: were each
        // restart to wrap it anew, a burst of them would nest without bound.
        self.closing.get_or_insert_with(|| {
            Box::pin(async move {
                if let Some(link) = link {
                    link.close().await;
                }
            })
        });
    }

    /// Gives up all work, and returns the connection it was done on.
    fn drop_work(&mut self) -> Option<Arc<Link>> {
        self.dial_wanted = false;
        self.dialing = None;
        self.replacing = None;
        self.fetching = None;
        self.probing = None;
        self.telling = None;
        self.listening = None;
        self.level_due = None;
        self.link.take()
    }

    /// Starts what is due and possible: a dial once nothing is left of the last connection, a refresh of lists.
    fn start_work(&mut self) {
        let now = Instant::now();
        self.rest(now);
        if self.dial_wanted && self.closing.is_none() {
            self.dial_wanted = false;
            if std::mem::take(&mut self.changing) {
                self.publish(self.state.phase, "closed");
            }
            self.dialing = Some(dial(self.shared.clone(), self.dialer.clone()));
        }
        let ready = matches!(self.state.phase, Phase::Ready { .. });
        if ready && self.fetching.is_none() && self.refresh.due().is_some_and(|due| due <= now) {
            let kinds = self.refresh.begin(now);
            self.fetch(kinds);
        }
        if ready && self.telling.is_none() && self.level_due.is_some_and(|due| due <= now) {
            self.tell(false);
        }
        if self.stale_due().is_some_and(|due| due <= now) {
            self.withdraw();
        }
    }

    /// When to wake up if nothing happens.
    fn due(&self) -> Option<Instant> {
        let ready = matches!(self.state.phase, Phase::Ready { .. });
        let refresh = self.refresh.due().filter(|_| ready && self.fetching.is_none());
        let level = self.level_due.filter(|_| ready && self.telling.is_none());
        [self.state.wake_at(), refresh, level, self.rest_due(), self.stale_due()].into_iter().flatten().min()
    }
}

impl Drop for Supervisor {
    /// After a panic nobody else could fail the calls that wait on the link.
    fn drop(&mut self) {
        for link in [self.link.take(), self.leaving.take()].into_iter().flatten() {
            link.abandon();
        }
    }
}

/// Dials, within a limit of its own, unless the configuration says that this cannot work.
fn dial(shared: Arc<Shared>, dialer: Arc<dyn Dialer>) -> BoxFuture<'static, Result<Dialed, DialError>> {
    Box::pin(async move {
        let server = &*shared.server();
        if let Some(problem) = &server.problem {
            return Err(DialError::new(DialErrorKind::Config, problem.clone()));
        }
        let first_start = !shared.proven.load(Ordering::Relaxed);
        // A child may be started twice, each time within its own limit.
        let (first, second) = match server.tuning.startup_timeout {
            Some(limit) => (limit, limit),
            None => (FIRST_START, LATER_START),
        };
        let limit = first + second + DIAL_SLACK;
        let (name, environment, memory) = (&shared.name, &shared.environment, &shared.era);
        let dialing = dialer.dial(Order { name, server, first_start, environment, memory });
        tokio::time::timeout(limit, dialing).await.unwrap_or_else(|_| {
            let text = format!("no connection within {} s", limit.as_secs());
            Err(DialError::new(DialErrorKind::Timeout, text))
        })
    })
}

/// Waits for the work in a slot and empties it; never ends where there is none.
async fn finished<T>(slot: &mut Slot<T>) -> T {
    match slot {
        Some(work) => {
            let result = work.await;
            *slot = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn down(link: Option<&Link>) -> Arc<Broken> {
    match link {
        Some(link) => link.down().await,
        None => std::future::pending().await,
    }
}

async fn changed(link: Option<&Link>) -> Kinds {
    match link {
        Some(link) => link.changed().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
