//! Joins both sides: what clients ask is answered from the catalogue or relayed to the server it is for.
//!
//! [`Hub::handle`] takes one message of a legacy session, [`Hub::handle_modern`] one request of a modern client, and
//! resolves at the first thing that can be said about it: one answer, or a stream where a notice comes before the
//! answer. An ordinary `tools/call` costs one shallow look at `params`, one lookup and no task; payloads cross as text.
//!
//! # What a client may rely on
//! * Every request gets exactly one final answer, on its own reply, also if its server is away.
//! * `initialize` and lists wait for no server, but for one that was never seen before, and then briefly.
//! * A lost connection cancels nothing in a session; `notifications/cancelled` and its end do. A modern client that
//!   goes has cancelled.
//!
//! # What this crate does not do
//! It knows no HTTP status and no socket, starts no child, retries nothing (that is `upstream`'s), and never
//! asks two servers for one thing.

mod asking;
mod births;
mod call;
mod catalog;
mod chores;
mod client;
mod clients;
mod dispatch;
mod envelope;
mod errors;
mod explain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gates;
mod input;
mod instructions;
mod keep;
mod lanes;
mod limits;
mod listen;
mod logging;
mod meta;
mod modern;
mod pace;
mod parked;
mod parts;
mod pins;
mod progress;
mod records;
mod refusal;
mod relay;
mod renewal;
mod replay;
mod reply;
mod resources;
mod rules;
mod running;
mod seal;
mod search;
mod session;
mod sessions;
mod shapes;
mod stamp;
mod subscriptions;
mod surface;
mod tasks;
mod traces;
mod wall;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use dashmap::DashMap;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_config::Config;
use trunkline_telemetry::{Metrics, RecentCalls, Tracer, spawn};
use trunkline_upstream::{Fleet, ServerNotice, Upstream};
use trunkline_wire::headers::ParamHeader;
use trunkline_wire::{Budget, Id, Json, Message, Method, Object, Request, Revision};

pub use catalog::published::ToolList;
pub use catalog::views::{Guest, View};
pub use catalog::{Catalog, Entry};
pub use client::ModernClient;
pub use clients::Shown;
pub use envelope::Envelope;
pub use explain::{Cause, Explained, Loss};
pub use gates::Holder;
pub use keep::Keep;
pub use meta::Params;
pub use pins::{Changed, Difference, Drift, NotAccepted, Standing};
pub use refusal::Refusal;
pub use replay::Event;
pub use reply::{EventStream, Reply, Wants};
pub use session::{Connected, ConnectedBy, Session};

use births::Births;
use catalog::build;
use catalog::told::Told;
use catalog::views::Views;
use explain::Acquaintances;
use gates::Gates;
use limits::{FINISHED_EVERY, REPLAY_BYTES_MAX};
use listen::Listens;
use parked::Parks;
use pins::Pins;
use records::Records;
use renewal::Tenures;
use replay::EventId;
use resources::Seen;
use rules::Rules;
use seal::Sealer;
use subscriptions::Interest;

/// What all sessions together are at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Sessions with a request or a stream open.
    pub sessions: usize,
    /// Requests being worked on.
    pub requests: usize,
    /// Standing streams.
    pub gets: usize,
}

/// Everything between the clients and the servers.
pub struct Hub {
    fleet: Arc<Fleet>,
    metrics: Metrics,
    budget: Budget,
    replay: Budget,
    /// What a reload may change.
    rules: watch::Sender<Arc<Rules>>,
    views: watch::Sender<Arc<Views>>,
    told: Told,
    /// Definitions of tools as they were seen first.
    pins: Pins,
    /// Held while a catalogue is built.
    publishing: Mutex<()>,
    sessions: DashMap<Box<str>, Arc<Session>>,
    begun: AtomicU64,
    births: Births,
    gates: Gates,
    interest: Interest,
    /// Which servers hold the interest.
    tenures: Tenures,
    listens: Listens,
    seen: Seen,
    /// Which levels modern requests want. Held while the servers are told, so that none hears an older word last.
    levels: Mutex<logging::Running>,
    /// The clients that were seen, for the loss report.
    acquaintances: Acquaintances,
    /// The last calls, for people.
    recent: RecentCalls,
    /// Who traces requests, if anybody does.
    tracer: OnceLock<Tracer>,
    /// Calls that wait for a modern client's answers.
    parks: Parks,
    sealer: Sealer,
    /// What is known of sessions beyond their ids.
    records: Records,
    /// Tells this process from others in what clients carry.
    process: Box<str>,
    began: Instant,
    draining: AtomicBool,
    /// The drain is over: what still runs is given up.
    cut: CancellationToken,
}

impl Hub {
    /// Joins `fleet` to clients, and starts the tasks that keep the catalogue current, pass the servers' notices on
    /// and clear up. They end with the hub. Nothing outlives it.
    pub fn new(
        fleet: Arc<Fleet>,
        config: &Config,
        metrics: Metrics,
        budget: Budget,
        notices: mpsc::Receiver<ServerNotice>,
    ) -> Arc<Self> {
        Self::keeping(&Keep::nowhere(), fleet, config, metrics, budget, notices)
    }

    /// As [`Hub::new`]; the sessions of clients outlive the hub in `keep`.
    pub fn keeping(
        keep: &Keep,
        fleet: Arc<Fleet>,
        config: &Config,
        metrics: Metrics,
        budget: Budget,
        notices: mpsc::Receiver<ServerNotice>,
    ) -> Arc<Self> {
        let rules = Rules::of(config);
        let offers = fleet.offers_changed();
        let pins = Pins::in_directory(keep.dir.as_ref(), metrics.clone());
        let first = Views::build(1, &fleet.all(), &rules, &pins);
        let births = Births::new(&rules.limits, Instant::now());
        let parks = Parks::new(budget.clone(), metrics.clone());
        keep.save_key(&metrics);
        let records = Records::new(keep.dir.clone(), metrics.clone());
        let told = Told::since(keep.dir.as_ref(), &first, metrics.clone());
        let hub = Arc::new(Self {
            fleet,
            metrics,
            replay: Budget::new(REPLAY_BYTES_MAX.min(budget.limit())),
            budget,
            rules: watch::Sender::new(Arc::new(rules)),
            views: watch::Sender::new(Arc::new(first)),
            told,
            pins,
            publishing: Mutex::default(),
            sessions: DashMap::new(),
            begun: AtomicU64::new(1),
            births,
            gates: Gates::default(),
            interest: Interest::default(),
            tenures: Tenures::default(),
            listens: Listens::default(),
            seen: Seen::default(),
            levels: Mutex::default(),
            acquaintances: Acquaintances::default(),
            recent: RecentCalls::new(),
            tracer: OnceLock::new(),
            parks,
            sealer: Sealer::new(&keep.key),
            records,
            process: sessions::random_nonce(),
            began: Instant::now(),
            draining: AtomicBool::new(false),
            cut: CancellationToken::new(),
        });
        // What an earlier process kept stands in it, and may stay as it is; or a server was quicker than this.
        hub.count_entries();
        spawn("subscriptions", renewal::keep_current(Arc::downgrade(&hub), offers.clone()));
        spawn("catalogue", build::keep_current(Arc::downgrade(&hub), offers));
        spawn("server notices", chores::pass_on(Arc::downgrade(&hub), notices));
        spawn("sweeper", chores::sweep(Arc::downgrade(&hub)));
        hub
    }

    /// Answers one message of a session; resolves at the first thing that can be said.
    ///
    /// If the future or the stream it returned is dropped, a call that runs goes on, and what it brings is kept
    /// for a client that resumes.
    pub async fn handle(self: &Arc<Self>, session: &Arc<Session>, message: Message, wants: Wants) -> Reply {
        session.touch();
        dispatch::message(self, session, message, wants).await
    }

    /// Answers one request of a modern client; resolves at the first thing that can be said. `envelope` is the
    /// request's own, and agrees with what the transport says of the request.
    ///
    /// If the future or the stream it returned is dropped, the request is given up and its server told.
    pub async fn handle_modern(self: &Arc<Self>, envelope: Envelope, request: Request, wants: Wants) -> Reply {
        modern::request(self, envelope, request, wants).await
    }

    /// The arguments that a modern call of this tool repeats in headers, by its published schema (mcp-protocol 3.5).
    pub fn param_headers(&self, view: &View, tool: &str) -> Arc<[ParamHeader]> {
        self.views.borrow().of(view).tools.get(tool).map(|entry| entry.param_headers().clone()).unwrap_or_default()
    }

    /// Opens the stream that a GET asks for: the session's own, or the rest of the answer stream that
    /// `last_event_id` belongs to (mcp-protocol 3.11).
    pub fn attach(&self, session: &Arc<Session>, last_event_id: Option<&str>) -> Result<EventStream, Refusal> {
        session.touch();
        let Some(last) = last_event_id else {
            return Ok(session.open_get().ok_or(Refusal::UnknownSession)?.boxed());
        };
        let event = EventId::parse(last).ok_or(Refusal::ForeignEventId)?;
        if let Some(events) = session.resume(&event) {
            return Ok(events.boxed());
        }
        // Never an empty stream: the client would wait for the answer for ever.
        let gone = Event { id: None, data: refusal::replay_gone(event.request).into(), retry_ms: None };
        Ok(stream::iter([gone]).boxed())
    }

    /// Calls a tool by its exposed name, on behalf of nobody's session: for the command line.
    ///
    /// Fails with a JSON-RPC error object.
    pub async fn call_direct(self: &Arc<Self>, name: &str, arguments: Option<Json>) -> Result<Json, Json> {
        if self.draining.load(Ordering::Relaxed) {
            return self.dress(&Method::ToolsCall, &refusal::shutting_down());
        }
        let mut params = Object::new();
        params.set("name", Json::from(name));
        if let Some(arguments) = arguments {
            params.set("arguments", arguments);
        }
        let request = Request { id: Id::from(0), method: Method::ToolsCall, params: Some(params.to_json()) };
        if let Some(catalog) = call::to_be_read(self, &request, &View::WHOLE) {
            Box::pin(catalog.indexed()).await;
        }
        // As the server wrote it: the newest revision knows every shape.
        match call::aim(self, &request, Revision::V2026_07_28, Guest::ANYBODY) {
            Ok(errand) => Box::pin(call::run(self, errand, None)).await,
            Err(outcome) => outcome,
        }
    }

    /// Goes by another configuration from now on, whose servers the fleet has already.
    pub fn reload(&self, config: &Config) {
        self.rules.send_replace(Arc::new(Rules::of(config)));
        self.publish();
    }

    /// Refuses new sessions and requests from now on, and requests that wait for a server; those that servers work on
    /// go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.fleet.drain();
    }

    /// Ends what still runs: each server is told to give up, each request answered, with an outcome that is unknown.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits until no session has work under way any more, or all of it was cut. There may be some without a connection:
    /// a legacy client that went away has cancelled nothing.
    pub async fn finished(&self) {
        while self.busy().requests > 0 {
            tokio::select! {
                biased;
                () = self.cut.cancelled() => return,
                () = tokio::time::sleep(FINISHED_EVERY) => {}
            }
        }
    }

    /// What the clients seen so far cannot have of a server, those seen last first: all of them, or those of this name.
    pub fn explain(&self, upstream: &Upstream, client: Option<&str>) -> Vec<Explained> {
        let clients = self.acquaintances.named(client);
        clients.iter().map(|client| explain::explain(upstream, client)).collect()
    }

    /// How the tools of a server stand against their pins (S-15).
    pub fn pins(&self, upstream: &Upstream) -> Standing {
        self.pins.standing(upstream)
    }

    /// Takes the definitions that a server offers now for the pinned ones: of all its tools, or of the one that it calls
    /// `tool`. Returns the names of those that were not pinned so.
    pub fn accept_pins(&self, upstream: &Upstream, tool: Option<&str>) -> Result<Vec<String>, NotAccepted> {
        let taken = self.pins.accept(upstream, tool)?;
        self.publish();
        Ok(taken)
    }

    /// The servers with tools that are not as they were pinned.
    pub fn drift(&self) -> Vec<Drift> {
        self.pins.drift(&self.fleet.all())
    }

    /// What all servers offer now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.views.borrow().whole().clone()
    }

    /// What a profile shows now.
    pub fn view(&self, view: &View) -> Arc<Catalog> {
        self.views.borrow().of(view).clone()
    }

    /// The profile of this name. Fails with the names there are.
    pub fn profile(&self, name: &str) -> Result<View, Vec<Box<str>>> {
        let views = self.views.borrow();
        views.named(name).ok_or_else(|| views.profiles().map(Into::into).collect())
    }

    /// What the holder of a token, or anybody where none is asked for, sees at the address of a profile, or at `/mcp`. Fails
    /// with the addresses that are open to him.
    pub fn view_at(&self, holder: Option<Arc<str>>, profile: Option<&str>) -> Result<View, Vec<String>> {
        self.views.borrow().at(holder, profile)
    }

    /// The list of tools at each address.
    pub fn tool_lists(&self) -> Vec<ToolList> {
        self.views().tool_lists()
    }

    /// The tokens that are good for so many calls.
    pub fn holders(&self) -> Vec<Holder> {
        let rules = self.rules();
        let allowances = rules.allowances.iter();
        allowances.map(|(name, allowance)| self.gates.holder(name, *allowance, &self.metrics)).collect()
    }

    /// How many sessions live.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What sessions are at, for a look from outside.
    pub fn busy(&self) -> Busy {
        let mut busy = Busy::default();
        self.each_session(|session| {
            let (requests, gets) = session.load();
            busy.sessions += usize::from(requests + gets > 0);
            busy.requests += requests;
            busy.gets += gets;
        });
        busy
    }

    /// How many streams of modern clients are open that listen for changes.
    pub fn listening(&self) -> usize {
        self.listens.count()
    }

    /// The servers.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hub").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
