//! The door: HTTP for clients, health for people and probes, a private socket for the owner's own commands.
//!
//! A request passes, in this order (mcp-protocol 3.2): the names and origins in [`guard`], the route, the
//! verb, who the peer is ([`peer`]) and what it shows ([`tokens`]), and then the handler. Everything refused up to
//! there, and by the handler before it has read a body, is answered with one line of text: there is no request id
//! yet, and a JSON-RPC error without one makes Codex wait for its whole tool timeout (clients.md 1.3).
//!
//! Routes and checks are plain functions, not a router with layers: there are nine routes, the ladder can be
//! read from top to bottom in [`answer`], and a call pays for none of it twice.
//!
//! Reading order: [`mod@serve`] (connections), `answer` below, `mcp` (the endpoint), `sse_pair` (the older one),
//! `reply` (JSON or events), `board` (the dashboard).
//!
//! Absences that hold: no knowledge of servers or names beyond what `hub` says, no payload is decoded, no
//! client's header reaches a server, no CORS for origins that nobody listed.

mod serve;

mod listen;

mod stop;

mod socket;

mod framing;

mod guard;

mod peer;

mod strain;

mod tokens;

mod cors;

mod place;

mod incoming;

mod ingress;

mod mcp;

mod batch;

mod modern;
mod trace;

mod sse_pair;

mod reply;

mod body;

mod api;

mod signin;

mod callback;

mod board;

pub mod advice;

mod configuration;

mod health;

mod limits;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::USER_AGENT;
use http::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use trunkline_config::{Config, Listen};
use trunkline_hub::{Hub, View};
use trunkline_telemetry::{Journal, Metrics};
use trunkline_wire::Budget;

pub use configuration::{Configuration, Origin, Reloaded};
pub use health::PID_HEADER;
pub use listen::{BindError, Listeners, OwnerSocket, bind};
pub use serve::serve;
pub use stop::Steps;

use crate::board::{Board, Spot};
use crate::body::Body;
use crate::guard::Guard;
use crate::limits::{OVERLOAD_RETRY, TARGET_BYTES_MAX};
use crate::mcp::Visitor;
use crate::peer::{Arrival, Peer, Peers};
use crate::reply::plain;
use crate::socket::Patience;
use crate::sse_pair::Pairs;
use crate::strain::Strain;
use crate::tokens::{Failures, Needs, Principal, Tokens};

/// What the door opens onto.
pub struct Door {
    /// Answers clients.
    pub hub: Arc<Hub>,
    /// Names, origins, limits, and how they change.
    pub configuration: Configuration,
    /// Listeners that take the place of those in use. A sender that is gone means there will be none.
    pub relocations: mpsc::Receiver<Listeners>,
    /// Counts, and renders `/metrics`.
    pub metrics: Metrics,
    /// The recent past of each server, for health and logs.
    pub journal: Arc<Journal>,
    /// Request bodies are charged to it while they are read and worked on.
    pub budget: Budget,
    /// The program's version, for health.
    pub version: &'static str,
    /// One permit for each connection that may be open at a time.
    pub slots: Arc<Semaphore>,
}

/// The door with all that is known once it listens.
pub(crate) struct Edge {
    hub: Arc<Hub>,
    configuration: Configuration,
    metrics: Metrics,
    journal: Arc<Journal>,
    budget: Budget,
    version: &'static str,
    guard: watch::Sender<Arc<Guard>>,
    tokens: watch::Sender<Arc<Tokens>>,
    failures: Failures,
    strain: Strain,
    slots: Arc<Semaphore>,
    peers: Peers,
    addresses: watch::Sender<Vec<SocketAddr>>,
    /// Calls that clients wait for, in the whole gateway (reliability 7).
    in_flight: Arc<Semaphore>,
    /// Sessions of the HTTP+SSE transport.
    pairs: Pairs,
    started: Instant,
    stop: Steps,
    board: Board,
}

impl Edge {
    fn new(door: Door, addresses: Vec<SocketAddr>, stop: Steps) -> Arc<Self> {
        let Door { hub, configuration, metrics, journal, budget, version, relocations: _, slots } = door;
        let config = configuration.now();
        let guard = Guard::new(&Guard::names(&config.listen), &config.listen.origins);
        let in_flight = Arc::new(Semaphore::new(config.limits.in_flight));
        let peers = Peers::probe();
        let started = Instant::now();
        Arc::new(Self {
            hub,
            configuration,
            metrics,
            journal,
            budget,
            version,
            guard: watch::Sender::new(Arc::new(guard)),
            tokens: watch::Sender::new(Arc::new(Tokens::new(&config.auth))),
            failures: Failures::default(),
            strain: Strain::default(),
            slots,
            peers,
            addresses: watch::Sender::new(addresses),
            in_flight,
            pairs: Pairs::default(),
            started,
            stop,
            board: Board::default(),
        })
    }

    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        self.configuration.now()
    }

    /// How long a connection that comes now may take for what it owes.
    fn patience(&self) -> Patience {
        let limits = &self.config().limits;
        Patience { head: limits.head_read, rest: limits.idle_connection }
    }

    /// Goes by the names, origins and tokens of `config` from now on.
    fn go_by(&self, config: &Config) {
        let Listen { origins, .. } = &config.listen;
        self.guard.send_replace(Arc::new(Guard::new(&Guard::names(&config.listen), origins)));
        self.tokens.send_replace(Arc::new(Tokens::new(&config.auth)));
    }

    /// Resolves when what was shown for a request that goes on would not be let in any more.
    fn taken_back(&self, principal: Principal, needs: Needs) -> impl Future<Output = ()> + Send + use<> {
        let mut tokens = self.tokens.subscribe();
        async move {
            // The sender is gone with the daemon.
            if tokens.wait_for(|tokens| !tokens.admit(&principal, needs)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the daemon has begun to stop.
    fn is_stopping(&self) -> bool {
        self.stop.doors.is_cancelled() || self.is_draining()
    }

    /// Whether new work is refused because the daemon is stopping.
    fn is_draining(&self) -> bool {
        self.stop.soft.is_cancelled()
    }
}

/// Answers one request that came over TCP. A bug that panics costs this request, not its connection; where the
/// request's id is known, `mcp` has caught it before.
pub(crate) async fn answer<B>(edge: &Arc<Edge>, arrival: Arrival, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    AssertUnwindSafe(ladder(edge, arrival, request)).catch_unwind().await.unwrap_or_else(|_| {
        edge.metrics.rejected("panic");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed at this request; its log says more")
    })
}

async fn ladder<B>(edge: &Arc<Edge>, arrival: Arrival, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let Arrival { peer, port, address, from } = arrival;
    // Before the route, against the ladder's letter: S-2 wants it so, and a rebound page learns nothing.
    let guard = edge.guard.borrow().clone();
    if let Err(refusal) = guard.check(port, request.uri(), request.headers()) {
        return reject(edge, StatusCode::FORBIDDEN, "host_or_origin", refusal.0);
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return reject(edge, StatusCode::URI_TOO_LONG, "target", "the target is longer than 2 KiB");
    }
    let route = Route::of(request.uri().path()).filter(|route| edge.config().listen.legacy_sse || !route.is_pair());
    let Some(route) = route else {
        return plain(StatusCode::NOT_FOUND, nothing_here(edge, request.uri().path()));
    };
    if let Some(preflight) = cors::preflight(&guard, &request) {
        return preflight;
    }
    if !route.offers(request.method()) {
        let text = format!("{} is not offered here; {} is", request.method(), route.verbs());
        return reply::with_allow(plain(StatusCode::METHOD_NOT_ALLOWED, &text), route.verbs());
    }
    let tokens = edge.tokens.borrow().clone();
    let may_connect = peer == Peer::Permitted || (peer == Peer::Remote && !tokens.is_empty());
    if route.is_owners() && peer == Peer::Unasked {
        let text = "the gateway has no file descriptor left to look up who connects; try again";
        let busy = reject(edge, StatusCode::SERVICE_UNAVAILABLE, "descriptors", text);
        // The next connection is looked up anew.
        return reply::closing(reply::with_retry_after(busy, OVERLOAD_RETRY));
    }
    if route.is_owners() && !may_connect {
        let text = "this gateway answers only processes of the user who runs it";
        return reject(edge, StatusCode::FORBIDDEN, "peer", text);
    }
    let principal = match tokens.judge(request.headers(), address, &edge.failures) {
        Ok(principal) => principal,
        Err(_) if !route.wants_token(tokens.any_limited()) => None,
        Err(denied) => {
            edge.metrics.rejected(denied.reason());
            let agent = request.headers().get(USER_AGENT).map(http::HeaderValue::as_bytes);
            edge.strain.no_token(agent, denied.reason());
            let response = denied.response();
            return match guard.listed_origin(request.headers()) {
                Some(origin) => cors::exposed(response, origin.clone()),
                None => response,
            };
        }
    };
    let limited = principal.as_deref().filter(|holder| holder.is_limited());
    if let Some(holder) = limited.filter(|_| route.tells_of_all()) {
        return reject(edge, StatusCode::FORBIDDEN, "token_limits", &tokens::limits_text(holder));
    }
    let origin = guard.listed_origin(request.headers()).cloned();
    let response = match route {
        Route::Mcp | Route::Profile | Route::Sse | Route::Messages => {
            match view(edge, &principal, request.uri().path()) {
                Ok(view) => by_visitor(edge, route, Visitor { principal, view, from }, request).await,
                Err(closed) => plain(StatusCode::NOT_FOUND, &closed),
            }
        }
        Route::Callback => signin::callback(edge, request.uri()).await,
        Route::Health => health::report(edge, may_connect && limited.is_none()).await,
        Route::Live => health::live(),
        Route::Ready => health::ready(edge),
        Route::Metrics => health::metrics(edge).await,
        // No page of another origin is let in here, so there is nothing to expose.
        Route::Board(spot) => return Box::pin(board::answer(edge, &guard, principal, spot, request)).await,
    };
    match origin {
        Some(origin) => cors::exposed(response, origin),
        None => response,
    }
}

/// What a path says at which there is nothing. A client that was refused for want of a token looks for a sign-in next, and
/// shows its person what it finds there in place of the refusal (clients.md 1.14).
fn nothing_here(edge: &Edge, path: &str) -> &'static str {
    let looks_for_signin = guard::is_well_known(path) || ["/register", "/authorize", "/token"].contains(&path);
    if looks_for_signin && !edge.tokens.borrow().is_empty() {
        "there is no sign-in here: this gateway wants a token of its `auth.tokens`; `trunkline connect CLIENT`, as in \
         `trunkline connect claude-code`, writes it into the client's entry"
    } else {
        "nothing is here; MCP is at /mcp, the dashboard at /, and health at /health, /health/live, /health/ready and /metrics"
    }
}

/// Answers a client, whose view is known.
async fn by_visitor<B>(edge: &Arc<Edge>, route: Route, visitor: Visitor, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    if route == Route::Sse {
        sse_pair::open(edge, visitor, request.headers())
    } else if route == Route::Messages {
        Box::pin(sse_pair::post(edge, visitor, request)).await
    } else {
        mcp::answer(edge, visitor, request).await
    }
}

/// Finds what whoever comes sees at a path; fails with what to tell a client for which nothing is there.
fn view(edge: &Edge, principal: &Principal, path: &str) -> Result<View, String> {
    let name = path.strip_prefix(PROFILES).map(|name| name.strip_suffix('/').unwrap_or(name));
    let holder = principal.as_deref().map(|holder| Arc::clone(holder.name()));
    // That a profile is there that is closed to him does not tell it from one that is not.
    let closed = |open: Vec<String>| {
        let what =
            if name.is_some_and(|name| !name.is_empty()) { "there is no such profile" } else { "nothing is here" };
        format!("{what}; open to you: {}", open.join(", "))
    };
    edge.hub.view_at(holder, name.filter(|name| !name.is_empty())).map_err(closed)
}

/// Refuses with one line of text, and counts it.
fn reject(edge: &Edge, status: StatusCode, reason: &'static str, text: &str) -> Response<Body> {
    edge.metrics.rejected(reason);
    plain(status, text)
}

/// What stands in front of a profile's name.
const PROFILES: &str = "/mcp/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Mcp,
    Profile,
    Sse,
    Messages,
    Callback,
    Health,
    Live,
    Ready,
    Metrics,
    Board(Spot),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        if guard::is_well_known(path) {
            return None;
        }
        match path {
            // With the slash too: some clients and people add it, and a redirect would lose the POST.
            "/mcp" | "/mcp/" => Some(Self::Mcp),
            path if path.starts_with(PROFILES) => Some(Self::Profile),
            "/sse" | "/sse/" => Some(Self::Sse),
            sse_pair::MESSAGES => Some(Self::Messages),
            signin::CALLBACK => Some(Self::Callback),
            "/health" => Some(Self::Health),
            "/health/live" => Some(Self::Live),
            "/health/ready" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            path => Spot::of(path).map(Self::Board),
        }
    }

    /// Whether it is a half of the HTTP+SSE pair, which can be switched off.
    fn is_pair(self) -> bool {
        matches!(self, Self::Sse | Self::Messages)
    }

    /// Whether servers are reached through it, looked at or signed in to: then it is for the owner alone.
    fn is_owners(self) -> bool {
        matches!(self, Self::Mcp | Self::Profile | Self::Sse | Self::Messages | Self::Callback | Self::Board(_))
    }

    /// Whether it is for holders of a token, where there are any. Probes have none, nor has the browser that comes back from
    /// a sign-in, which shows that it began there, nor one that fetches the page which asks for the token.
    /// Metrics tell of all servers: once somebody is kept from some of them, they are no probe's any more.
    fn wants_token(self, any_limited: bool) -> bool {
        match self {
            Self::Callback | Self::Live | Self::Ready | Self::Board(Spot::Asset(_)) => false,
            Self::Metrics => any_limited,
            Self::Mcp | Self::Profile | Self::Sse | Self::Messages | Self::Health | Self::Board(_) => true,
        }
    }

    /// Whether it tells of all servers, or acts on them: then it is closed to limited tokens. `/health` has a short form.
    fn tells_of_all(self) -> bool {
        match self {
            Self::Metrics => true,
            Self::Board(spot) => !matches!(spot, Spot::Asset(_)),
            Self::Mcp
            | Self::Profile
            | Self::Sse
            | Self::Messages
            | Self::Callback
            | Self::Health
            | Self::Live
            | Self::Ready => false,
        }
    }

    fn offers(self, method: &Method) -> bool {
        match self {
            Self::Mcp | Self::Profile => matches!(*method, Method::POST | Method::GET | Method::DELETE),
            Self::Sse | Self::Callback => *method == Method::GET,
            Self::Messages => *method == Method::POST,
            Self::Health | Self::Live | Self::Ready | Self::Metrics => matches!(*method, Method::GET | Method::HEAD),
            Self::Board(spot) => spot.offers(method),
        }
    }

    fn verbs(self) -> &'static str {
        match self {
            Self::Mcp | Self::Profile => "POST, GET, DELETE",
            Self::Sse | Self::Callback => "GET",
            Self::Messages => "POST",
            Self::Health | Self::Live | Self::Ready | Self::Metrics => "GET, HEAD",
            Self::Board(spot) => spot.verbs(),
        }
    }
}

#[cfg(test)]
mod tests;
