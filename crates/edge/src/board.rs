//! The dashboard: one page, what it shows, and the few things it can do (S-34, S-36).
//!
//! The page and its parts are in the binary (`assets.rs`). What it shows is one document (`scene.rs`), whole at
//! `/api/v1/state`, and at `/api/v1/events` whole once and then what changed (`events.rs`). What is wrong and what helps is
//! said by `../advice.rs`. What it does is what the owner's socket offers too (`api.rs`): try a tool, restart, pause or resume a
//! server, sign in or out, read the configuration anew.
//!
//! The same callers pass as at `/mcp`; where `auth.tokens` are set, the page asks for one and shows it with each request. It
//! keeps it for its tab: a cookie would go to whatever else listens on this host, since cookies know no ports. Beyond that, pages of other origins have no business here, not even those that
//! `listen.origins` lists, and whoever changes something proves that he is our own page (`proof.rs`). No request says what
//! is run, where it leads or with which key: that stands in the file. So the switch of a server writes nothing: it pauses what
//! runs, until it is resumed or the daemon begins anew, and what is off in the file cannot be switched on here.

mod assets;
mod clients;
mod events;
mod holders;
mod proof;
mod scene;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use trunkline_telemetry::{STEP, Trends};

use crate::body::Body;
use crate::guard::Guard;
use crate::limits::{BOARD_STREAMS_MAX, OVERLOAD_RETRY};
use crate::tokens::Principal;
use crate::{Edge, api, incoming, reply};

use assets::Asset;
use scene::Scenery;
pub(crate) use scene::whole;

/// What the dashboard keeps between requests.
pub(crate) struct Board {
    trends: Trends,
    scenery: Scenery,
    /// Places for streams of events.
    streams: Arc<Semaphore>,
}

/// What a path of the dashboard stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// A part of the page.
    Asset(&'static Asset),
    State,
    Events,
    History,
    Tools,
    /// Something that is done.
    Act,
}

impl Default for Board {
    fn default() -> Self {
        let streams = Arc::new(Semaphore::new(BOARD_STREAMS_MAX));
        Self { trends: Trends::new(), scenery: Scenery::default(), streams }
    }
}

impl Spot {
    /// What is at this path; `None` if it is not the dashboard's.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if let Some(asset) = assets::at(path) {
            return Some(Self::Asset(asset));
        }
        match path.strip_prefix("/api/v1/")? {
            "state" => Some(Self::State),
            "events" => Some(Self::Events),
            "history" => Some(Self::History),
            "tools" => Some(Self::Tools),
            "call" | "reload" => Some(Self::Act),
            other => {
                let (name, action) = other.strip_prefix("servers/")?.split_once('/')?;
                (!name.is_empty() && matches!(action, "restart" | "pause" | "resume" | "login" | "logout"))
                    .then_some(Self::Act)
            }
        }
    }

    /// Whether this verb is offered here.
    pub(crate) fn offers(self, method: &Method) -> bool {
        match self {
            Self::Asset(_) | Self::State | Self::History | Self::Tools => matches!(*method, Method::GET | Method::HEAD),
            Self::Events => *method == Method::GET,
            Self::Act => *method == Method::POST,
        }
    }

    /// The verbs that are.
    pub(crate) fn verbs(self) -> &'static str {
        match self {
            Self::Asset(_) | Self::State | Self::History | Self::Tools => "GET, HEAD",
            Self::Events => "GET",
            Self::Act => "POST",
        }
    }
}

/// Answers a request of a permitted caller, whose verb is one that the spot offers.
pub(crate) async fn answer<B>(
    edge: &Arc<Edge>,
    guard: &Guard,
    principal: Principal,
    spot: Spot,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    if let Err(text) = proof::check(spot, guard, request.headers()) {
        edge.metrics.rejected("cross_site");
        return armoured(reply::plain(StatusCode::FORBIDDEN, text));
    }
    armoured(match spot {
        Spot::Asset(asset) => return asset.response(edge.version, request.headers()),
        Spot::State => scene::whole(edge).await,
        Spot::Events => events::open(edge, principal),
        Spot::History => reply::json(StatusCode::OK, &edge.board.trends.history()),
        Spot::Tools => api::route(edge, request).await,
        Spot::Act => act(edge, request).await,
    })
}

/// Does what the owner's socket does at the same path.
async fn act<B>(edge: &Arc<Edge>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    if request.uri().path() != "/api/v1/call" {
        return Box::pin(api::route(edge, request)).await;
    }
    if !incoming::is_json(request.headers()) {
        let text = "a POST that calls a tool needs `Content-Type: application/json`";
        return reply::json(StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!({ "error": text }));
    }
    // A place among all calls, as every client needs one.
    let _place = match edge.place() {
        Ok(place) => place,
        Err(none) => {
            let refused = json!({ "error": none.fault(edge).text });
            return reply::with_retry_after(reply::json(StatusCode::SERVICE_UNAVAILABLE, &refused), OVERLOAD_RETRY);
        }
    };
    Box::pin(api::route(edge, request)).await
}

/// Ends a step of the trends every ten seconds, until the daemon stops.
pub(crate) async fn keep_trends(edge: Arc<Edge>) {
    let mut ticks = interval_at(Instant::now() + STEP, STEP);
    // After a sleep there is one step, not one for each that was missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = edge.stop.soft.cancelled() => return,
            _ = ticks.tick() => edge.board.trends.step(edge.metrics.figures()),
        }
    }
}

/// What every answer of the dashboard says to browsers: nothing in here runs, frames, is taken for something else or is
/// kept, and nobody learns from where a link was followed.
fn armoured(mut response: Response<Body>) -> Response<Body> {
    let policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    arm(response.headers_mut(), HeaderValue::from_static(policy));
    if !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn arm(headers: &mut HeaderMap, policy: HeaderValue) {
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
