//! [`Upstream`]: the handle by which everyone else reaches a server, and what it shares with the supervisor.
//!
//! The supervisor publishes ([`StateView`], [`Offer`]); the handle reads, and raises marks when it wants something
//! of the supervisor. Neither waits for the other. How a request travels stands in `call.rs`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_config::{Connect, Parts, Secret, Server, Sharing};
use trunkline_telemetry::ServerMetrics;
use trunkline_telemetry::redact::Scrubber;
use trunkline_wire::{Outcome, ServerName};

use crate::breaker::{Health, Sign};
use crate::call::{Ask, Call};
use crate::environment::Environment;
use crate::era::Memory;
use crate::error::{CallError, CallErrorKind};
use crate::lanes::{self, Further, LaneKey, Lanes};
use crate::limits::{READY_WAIT, RESTART_WAIT};
use crate::link::Link;
use crate::listening::Wanted;
use crate::offer::Offer;
use crate::places::Places;
use crate::signals::Signals;
use crate::state::{Phase, State};
use crate::status::{StateView, Status};
use crate::wishes::Wishes;

/// A configured server. Cloning shares it.
#[derive(Clone)]
pub struct Upstream(pub(crate) Arc<Shared>);

/// What the handle, the calls and the supervisor of a lane share: of a server that is shared, of that server.
pub(crate) struct Shared {
    pub(crate) name: ServerName,
    /// Its configuration, which a reload may change.
    pub(crate) server: watch::Sender<Arc<Server>>,
    pub(crate) environment: Environment,
    pub(crate) metrics: ServerMetrics,
    /// Where the lane stands.
    pub(crate) states: watch::Sender<StateView>,
    /// Where the server stands. Of a first lane.
    pub(crate) shown: watch::Sender<StateView>,
    pub(crate) offers: watch::Sender<Arc<Offer>>,
    /// Counts changes of any server's offer.
    pub(crate) offers_changed: watch::Sender<u64>,
    /// What is wanted of the supervisor: see [`mark`].
    pub(crate) marks: Signals,
    /// Whether it is in the configuration. Marks have no order among them, so this says which of two reloads was the
    /// later one.
    wanted: AtomicBool,
    /// Whether somebody switched it off until further notice, whatever the configuration says.
    pub(crate) paused: AtomicBool,
    /// Places at the server.
    pub(crate) places: Arc<Places>,
    /// What the last requests say of the server.
    health: Arc<Mutex<Health>>,
    /// When a place was given back last, in milliseconds since `born`.
    used_ms: AtomicU64,
    /// Calls of it that wait for a person.
    asking: AtomicUsize,
    born: Instant,
    /// The daemon stops: nothing waits here any more for a place or for the server to be ready.
    pub(crate) draining: CancellationToken,
    /// Timeouts of calls since the last answer.
    pub(crate) timeouts: AtomicU32,
    pub(crate) ever_ready: AtomicBool,
    /// What is kept of it for the next process.
    pub(crate) kept: Mutex<Option<Kept>>,
    /// It was looked for what an earlier process kept of it.
    pub(crate) looked_up: AtomicBool,
    /// Whether it was ever ready by its present configuration.
    pub(crate) proven: AtomicBool,
    /// Connections made after the first.
    pub(crate) restarts: AtomicU64,
    /// Which era it was found to speak (mcp-protocol 4.8).
    pub(crate) era: Mutex<Memory>,
    /// Which of the wished resources a modern server was told of.
    pub(crate) listen: Wanted,
    wishes: Mutex<Wishes>,
    /// What makes it another lane than the server's first.
    pub(crate) further: Option<Further>,
    /// The lanes beyond it, if it is the first.
    pub(crate) lanes: Lanes,
    /// Uses of it, where there are lanes.
    pub(crate) holds: AtomicUsize,
}

/// What is on the shelf, or on its way there.
pub(crate) type Kept = (Arc<Offer>, Memory, Secret);

/// Marks that are raised for the supervisor.
pub(crate) mod mark {
    /// A person wants the server connected anew.
    pub(crate) const RESTART: u8 = 1;
    /// A call wants the server.
    pub(crate) const DEMAND: u8 = 2;
    /// Calls go wrong in a way that casts doubt on the connection.
    pub(crate) const DOUBT: u8 = 4;
    /// The wanted log level changed.
    pub(crate) const LEVEL: u8 = 8;
    /// Too many requests failed on their way.
    pub(crate) const TRIP: u8 = 16;
    /// The machine slept, or its network changed.
    pub(crate) const WAKE: u8 = 32;
    /// The configuration was changed.
    pub(crate) const CONFIG: u8 = 64;
    /// The server left the configuration.
    pub(crate) const REMOVED: u8 = 128;
}

impl Upstream {
    pub(crate) fn new(
        name: ServerName,
        server: Server,
        environment: Environment,
        offers_changed: watch::Sender<u64>,
        draining: CancellationToken,
        lanes: Lanes,
    ) -> Self {
        let now = Instant::now();
        let state = if server.enabled { State::starting(now) } else { State::disabled() };
        let kept = environment.shelf.take(&name, &server.connect).filter(|_| server.enabled);
        let kept = kept.map(|kept| (kept.offer, kept.era, kept.signature));
        let (offer, era) = kept.clone().map(|(offer, era, _)| (offer, era)).unzip();
        let metrics = environment.metrics.server(&name);
        environment.metrics.state(&name, state.phase.name());
        let view = StateView::new(&state, now, None, None);
        Self(Arc::new(Shared {
            states: watch::Sender::new(view.clone()),
            shown: watch::Sender::new(view),
            offers: watch::Sender::new(offer.clone().unwrap_or_default()),
            offers_changed,
            marks: Signals::default(),
            wanted: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            places: Places::new(server.tuning.in_flight_max),
            health: Arc::new(Mutex::new(Health::new(now))),
            used_ms: AtomicU64::new(0),
            asking: AtomicUsize::new(0),
            born: now,
            draining,
            timeouts: AtomicU32::new(0),
            ever_ready: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            era: Mutex::new(era.unwrap_or_default()),
            kept: Mutex::new(kept),
            looked_up: AtomicBool::new(server.enabled),
            listen: Wanted::default(),
            wishes: Mutex::default(),
            further: None,
            lanes,
            holds: AtomicUsize::new(0),
            name,
            server: watch::Sender::new(Arc::new(server)),
            environment,
            metrics,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.0.name
    }

    /// Its configuration as of now.
    pub fn config(&self) -> Arc<Server> {
        self.0.server()
    }

    /// Whether it is off until it is resumed; its configuration says that it is off, too.
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Acquire)
    }

    /// Gives it another configuration, with effect from the next call; the supervisor sees to the connection. If it had
    /// left the configuration, it is back.
    pub(crate) fn reconfigure(&self, server: Server) {
        self.0.places.resize(server.tuning.in_flight_max);
        self.0.reconfigure(server);
        self.0.lanes.follow(&self.0.server());
    }

    /// Whether this is the same server, not just one of the same name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Has it end: it left the configuration.
    pub(crate) fn remove(&self) {
        self.0.leave_configuration();
        self.0.lanes.end_all();
    }

    /// Who shares a connection to it, as of now. Everybody does where there are no connections to be told apart.
    pub fn sharing(&self) -> Sharing {
        match self.0.lanes.sharing() {
            Sharing::Session | Sharing::Project if self.0.is_stateless() => Sharing::Shared,
            sharing @ (Sharing::Shared | Sharing::Session | Sharing::Project) => sharing,
        }
    }

    /// Nobody will use the lane of this key any more: it ends once what runs on it has ended.
    pub fn release(&self, key: &LaneKey) {
        self.0.lanes.release(key);
    }

    /// What it offers now.
    pub fn offer(&self) -> Arc<Offer> {
        self.0.offers.borrow().clone()
    }

    /// What it offers, now and later.
    pub fn offers(&self) -> watch::Receiver<Arc<Offer>> {
        self.0.offers.subscribe()
    }

    /// The state it is in, now and later.
    pub fn states(&self) -> watch::Receiver<StateView> {
        self.0.shown.subscribe()
    }

    /// Whether it was ever ready, in this process or in an earlier one: then its offer stands, and nobody waits for it
    ///
    pub fn ever_ready(&self) -> bool {
        self.0.ever_ready.load(Ordering::Relaxed)
            || self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// All that is shown of it.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let view = self.0.shown.borrow().clone();
        let offer = self.offer();
        let facts = view.link.as_ref().map(|link| link.facts());
        Status {
            state: view.state,
            reason: view.sentence(&self.0.name, now),
            retry_in: view.next_attempt.map(|at| at.saturating_duration_since(now)),
            since: now.saturating_duration_since(view.since),
            transport: facts.map(|facts| facts.kind),
            revision: offer.revision,
            identity: offer.identity.clone(),
            pid: facts.and_then(|facts| facts.pid),
            in_flight: self.0.places.taken(),
            restarts: self.0.restarts.load(Ordering::Relaxed),
            get_stream: facts.and_then(|facts| facts.get_stream),
            tools: offer.tools.len(),
            prompts: offer.prompts.len(),
            resources: offer.resources.len(),
            templates: offer.templates.len(),
            complaints: offer.complaints.clone(),
            lanes: self.0.lanes.status(),
            stale: !matches!(view.phase, Phase::Ready { .. } | Phase::Suspect { .. }) && offer.revision.is_some(),
        }
    }

    /// Sends a request: waits for the server to be ready and for a free place, both within bounds.
    ///
    /// Resolves when it is known where the answer will come from; over HTTP that may be as late as the answer.
    /// Dropping the future gives the request up; if the server may be working on it, it is told.
    ///
    /// # Errors
    /// The request was not sent, was refused, or its fate is unknown: see [`CallError::outcome`].
    pub async fn call(&self, ask: Ask) -> Result<Call, CallError> {
        let (lane, hold) = self.0.lane_of(&ask.caller).await?;
        Call::begin(lane, hold, ask).await
    }

    /// Waits until it is ready, as a call would: within the same bounds, and with the same effect on its next
    /// attempt.
    ///
    /// # Errors
    /// It did not become ready, and nothing was sent.
    pub async fn ready(&self) -> Result<(), CallError> {
        self.0.ready(Instant::now() + READY_WAIT).await.map(drop)
    }

    /// Closes the connection and opens a new one at once, whatever the state. Does nothing if it is disabled.
    pub fn restart(&self) {
        lanes::raise(&self.0, mark::RESTART);
    }
}

impl Shared {
    /// A further lane of the server that `first` is the first lane of.
    pub(crate) fn further(first: &Self, further: Further, server: Server, lanes: Lanes) -> Self {
        let now = Instant::now();
        let view = StateView::new(&State::starting(now), now, None, None);
        let level = first.wishes().level;
        Self {
            states: watch::Sender::new(view.clone()),
            shown: watch::Sender::new(view),
            offers: watch::Sender::new(first.offers.borrow().clone()),
            offers_changed: first.offers_changed.clone(),
            marks: Signals::default(),
            wanted: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            places: first.places.clone(),
            health: first.health.clone(),
            used_ms: AtomicU64::new(0),
            asking: AtomicUsize::new(0),
            born: now,
            draining: first.draining.clone(),
            timeouts: AtomicU32::new(0),
            ever_ready: AtomicBool::new(false),
            proven: AtomicBool::new(first.proven.load(Ordering::Relaxed)),
            restarts: AtomicU64::new(0),
            era: Mutex::new(*first.era.lock().unwrap_or_else(PoisonError::into_inner)),
            kept: Mutex::new(None),
            looked_up: AtomicBool::new(true),
            listen: Wanted::default(),
            wishes: Mutex::new(Wishes { level, ..Wishes::default() }),
            further: Some(further),
            lanes,
            holds: AtomicUsize::new(0),
            name: first.name.clone(),
            server: watch::Sender::new(Arc::new(server)),
            environment: first.environment.clone(),
            metrics: first.metrics.clone(),
        }
    }

    /// Takes another configuration, with effect from the next call; its supervisor sees to the connection.
    pub(crate) fn reconfigure(&self, server: Server) {
        let server = Arc::new(server);
        let old = self.server.send_replace(server.clone());
        if Parts::between(&old, &server).is_some_and(|parts| parts.reconnect) {
            // Another address may speak another era, and another command may be downloaded first.
            *self.era.lock().unwrap_or_else(PoisonError::into_inner) = Memory::default();
            self.proven.store(false, Ordering::Relaxed);
        }
        self.wanted.store(true, Ordering::Release);
        self.marks.raise(mark::CONFIG);
    }

    /// Has it end.
    pub(crate) fn leave_configuration(&self) {
        self.wanted.store(false, Ordering::Release);
        self.marks.raise(mark::REMOVED);
    }

    /// Its configuration as of now.
    pub(crate) fn server(&self) -> Arc<Server> {
        self.server.borrow().clone()
    }

    /// Whether it is in the configuration as of now.
    pub(crate) fn is_listed(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Waits until it is in the configuration again. Only while no supervisor runs, whose marks these are: the next one
    /// looks at everything anew.
    pub(crate) async fn returned(&self) {
        while !self.is_listed() {
            self.marks.taken().await;
        }
    }

    /// Notes that a request is over.
    pub(crate) fn used(&self) {
        let at = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(at, Ordering::Relaxed);
    }

    /// When a request was over last; when the server became known if there was none.
    pub(crate) fn last_used(&self) -> Instant {
        self.born + Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// Notes that a call of it begins to wait for a person, or ends to.
    pub(crate) fn asks(&self, begins: bool) {
        if begins {
            self.asking.fetch_add(1, Ordering::Relaxed);
        } else {
            self.asking.fetch_sub(1, Ordering::Relaxed);
            self.used();
        }
    }

    /// Whether anybody wants anything of it right now: a request that runs or waits, for a person too, or a subscription.
    pub(crate) fn is_wanted(&self) -> bool {
        let subscribed = !self.wishes().subscriptions.is_empty();
        if self.has_lanes() {
            // Its places are those of all lanes.
            return subscribed || self.holds.load(Ordering::Acquire) > 0;
        }
        subscribed || self.places.wanted() || self.asking.load(Ordering::Relaxed) > 0
    }

    /// What clients want now.
    pub(crate) fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last requests say of the server.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how an attempt at a request ended. What happens on a connection that is lost, or whose place was
    /// taken, says nothing of the one in use. Returns whether it did say something.
    pub(crate) fn ended(&self, sign: Sign, link: &Arc<Link>) -> bool {
        let tells = self.carries(link) && (sign != Sign::Fault || !link.is_down());
        let opens = self.health().ended(if tells { sign } else { Sign::Neither }, Instant::now());
        if opens {
            lanes::raise(self.first(), mark::TRIP);
        }
        tells
    }

    /// A failure of a request to this server. What was refused for now may be tried again.
    pub(crate) fn error(&self, kind: CallErrorKind, outcome: Outcome, text: String) -> CallError {
        let retryable =
            matches!(kind, CallErrorKind::Unavailable | CallErrorKind::Overloaded | CallErrorKind::ShuttingDown);
        CallError { server: self.name.clone(), kind, outcome, text, retryable, retry_after: None }
    }

    /// The daemon stops, and this request was not sent yet (reliability 8).
    pub(crate) fn stopping(&self) -> CallError {
        let text = format!(
            "the gateway is stopping and did not pass the request on to server `{}`; repeat it once it is back",
            self.name
        );
        let error = self.error(CallErrorKind::ShuttingDown, Outcome::NotSent, text);
        CallError { retry_after: Some(RESTART_WAIT), ..error }
    }

    /// What a server said of a failure, without what it was sent to let us in, which some repeat (S-31).
    pub(crate) fn masked(&self, text: &str) -> Arc<str> {
        let server = self.server();
        let text = match (&server.connect, &self.environment.signin) {
            (Connect::Http(http), Some(signin)) => {
                signin.key(&self.name, http).map_or_else(|| text.to_owned(), |key| key.hide(text))
            }
            (Connect::Http(_) | Connect::Stdio(_), _) => text.to_owned(),
        };
        Scrubber::new(server.secrets.iter().map(|secret| secret.expose().to_owned())).scrub(&text).into()
    }

    /// What a person is to do about a refused credential.
    pub(crate) fn key_to_set(&self) -> String {
        let server = self.server();
        let source = match &server.connect {
            Connect::Http(http) => http.bearer_source.as_deref(),
            Connect::Stdio(_) => None,
        };
        let signs_in = match (&server.connect, &self.environment.signin) {
            (Connect::Http(http), Some(signin)) => signin.key(&self.name, http).is_some(),
            (Connect::Http(_) | Connect::Stdio(_), _) => false,
        };
        match source {
            None if signs_in => format!(
                "run `trunkline login {0}`, or set `bearer_token_env_var` in [mcp_servers.{0}] if it takes a key",
                self.name
            ),
            Some(source) => format!("put a valid token into `{source}` of [mcp_servers.{}]", self.name),
            None => format!("set `bearer_token_env_var` or `http_headers` in [mcp_servers.{}]", self.name),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Upstream").field(&self.0.name).finish()
    }
}
