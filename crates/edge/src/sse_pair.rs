//! The transport of the oldest clients: `GET /sse` and `POST /messages` (mcp-protocol 3.13, G-54).
//!
//! A [`Pair`] is one open stream and the address of its other half. Whatever is posted there is accepted with 202
//! and answered on the stream, where the notices of calls and of the session go too. The session begins, at any
//! legacy revision, with the `initialize` that arrives, and ends with the stream: nothing is resumed here, so events
//! have no ids and nothing is kept for later.
//!
//! A request is looked at once before its POST is answered, so that a cancellation that comes next finds it; what
//! then takes time gets a task, and with it one of the places of `limits.in_flight`. Everything that is said goes
//! through one bounded queue. A client that does not read makes the tasks wait, and is cut by its connection's own
//! clock; a refusal that finds the queue full becomes a 503 of its POST.
//!
//! What is refused before a message is read is a status and a line of text. From there on errors go to the
//! stream with their request's id, because many of these clients wait there whatever status their POST got. A GET
//! on `/mcp` without a session is not taken for `/sse`: clients probe that address with GETs that must end.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use futures_util::{FutureExt, poll};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use trunkline_hub::{Envelope, EventStream, Refusal, Reply, Session, Wants};
use trunkline_telemetry::spawn;
use trunkline_wire::{
    Charge, Era, Json, Malformed, Message, Method, Request as Call, Response as Answer, Revision, RpcError, Text, code,
};

use crate::Edge;
use crate::body::Body;
use crate::incoming::{self, Incoming};
use crate::limits::{PAIR_GRACE, PAIR_QUEUE_MAX, STREAM_RETRY};
use crate::mcp::{Visitor, bad_body, error_text, idle_end, not_here, readable_id, refused_in_text, stopped};
use crate::reply::{self, Named, plain};
use crate::tokens::Needs;

/// Where messages are posted to.
pub(crate) const MESSAGES: &str = "/messages";

/// The name of the parameter that says which stream they belong to.
const PARAMETER: &str = "sessionId";

/// The form of a POST's `Accept` does not matter: everything goes to the stream.
const STREAMED: Wants = Wants { json: true, sse: true };

/// All open streams, by the id in their address. As many as there are connections, at most.
#[derive(Default)]
pub(crate) struct Pairs(Mutex<HashMap<Box<str>, Arc<Pair>>>);

/// One open stream.
struct Pair {
    /// Names the stream in the address for messages; 128 random bits. Not the session's own id, which nobody is told.
    id: Box<str>,
    queue: Sender<Out>,
    /// Who opened it, and may post to it (S-8), and what he sees.
    visitor: Visitor,
    /// Set by `initialize`.
    session: OnceLock<Arc<Session>>,
    /// The requests being worked on: a stop waits for them.
    working: TaskTracker,
}

/// What goes to the stream.
enum Out {
    Message(Text),
    /// The answer to `initialize`, and what the session will say of itself.
    Begun(Text, EventStream),
}

/// The reading end. When it is dropped, the client is gone.
struct Open {
    edge: Arc<Edge>,
    pair: Arc<Pair>,
    queue: Receiver<Out>,
}

/// Nobody reads the stream any more.
struct Gone;

/// Opens a stream: row 1 of mcp-protocol 3.13.
pub(crate) fn open(edge: &Arc<Edge>, visitor: Visitor, headers: &HeaderMap) -> Response<Body> {
    if !incoming::wants(headers).sse {
        return plain(StatusCode::NOT_ACCEPTABLE, "a GET on /sse opens an event stream: `Accept: text/event-stream`");
    }
    if edge.is_draining() {
        return refused_in_text(&Refusal::ShuttingDown);
    }
    let (sender, queue) = mpsc::channel(PAIR_QUEUE_MAX);
    let (session, working) = (OnceLock::new(), TaskTracker::new());
    let pair = Arc::new(Pair { id: random_id(), queue: sender, visitor, session, working });
    edge.pairs.lock().insert(pair.id.clone(), Arc::clone(&pair));
    reply::events(reply::until_ended(said(Open { edge: Arc::clone(edge), pair, queue })))
}

/// Takes what `visitor` posted: rows 2, 3 and 5 of mcp-protocol 3.13.
pub(crate) async fn post<B>(edge: &Arc<Edge>, visitor: Visitor, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let (parts, body) = request.into_parts();
    if !incoming::is_json(&parts.headers) {
        let text = "a POST to /messages needs `Content-Type: application/json`";
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    let Some(id) = stream_id(parts.uri.query().unwrap_or_default()) else {
        let text = "`sessionId` is missing or repeated; the first event of GET /sse has the address to post to";
        return plain(StatusCode::BAD_REQUEST, text);
    };
    let pair = edge.pairs.lock().get(id).cloned();
    let is_open = |pair: &Arc<Pair>| edge.hub.may_go_on(pair.visitor.guest(), visitor.guest());
    let Some(pair) = pair.filter(is_open) else { return unknown() };
    let Incoming { bytes, charge } =
        match incoming::read(body, &parts.headers, &edge.config().limits, &edge.budget).await {
            Ok(read) => read,
            Err(unread) => {
                edge.metrics.rejected(unread.reason());
                return unread.response();
            }
        };
    match trunkline_wire::parse_batch(&bytes) {
        Some(Ok(members)) => batch(edge, &pair, members).await,
        Some(Err(malformed)) => bad_body(&malformed, None),
        None => match Message::parse(&bytes) {
            Ok(message) => take(edge, &pair, message, Some(charge)).await,
            Err(malformed) => bad_body(&malformed, readable_id(&bytes)),
        },
    }
}

/// Takes one message.
async fn take(edge: &Arc<Edge>, pair: &Arc<Pair>, message: Message, charge: Option<Charge>) -> Response<Body> {
    match message {
        Message::Request(call) => {
            let method = call.method.clone();
            let response = request(edge, pair, call, charge).await;
            edge.metrics.client_request(Era::Legacy, Some(&method), response.status().as_u16());
            response
        }
        Message::Notification(_) | Message::Response(_) => {
            if let Some(session) = pair.session.get() {
                edge.hub.handle(session, message, STREAMED).await;
            }
            accepted()
        }
    }
}

/// Takes a request. Its answer, be it an error, goes to the stream.
async fn request(edge: &Arc<Edge>, pair: &Arc<Pair>, call: Call, charge: Option<Charge>) -> Response<Body> {
    // Before the look at the stop: one that comes between the two waits for this request.
    let working = pair.working.token();
    if edge.is_draining() {
        return refuse(pair, Refusal::ShuttingDown.response(Some(call.id)));
    }
    if Envelope::claim_of(call.params.as_ref()).is_some() {
        let text = "this transport speaks revisions up to 2025-11-25; requests of 2026-07-28 are served at /mcp";
        return refuse(pair, error_text(Some(call.id), &RpcError::new(code::INVALID_REQUEST, text)));
    }
    if call.method == Method::Initialize {
        return initialize(edge, pair, &call);
    }
    let Some(session) = pair.session.get() else { return before_initialize(pair, call) };
    let place = match edge.place() {
        Ok(place) => place,
        Err(none) => return refuse(pair, error_text(Some(call.id), &none.fault(edge).to_error())),
    };
    let answering = answering(Arc::clone(edge), Arc::clone(pair), Arc::clone(session), call, place);
    let mut answering = Box::pin(answering.map(move |()| drop((working, charge))));
    if poll!(&mut answering).is_pending() {
        spawn("pair call", answering);
    }
    accepted()
}

/// Begins the session.
fn initialize(edge: &Arc<Edge>, pair: &Arc<Pair>, call: &Call) -> Response<Body> {
    let refused = |refusal: &Refusal| refuse(pair, refusal.response(Some(call.id.clone())));
    if pair.session.get().is_some() {
        return refused(&Refusal::SecondInitialize);
    }
    let (session, response) = match edge.hub.open_pair(call, pair.visitor.guest()) {
        Ok(opened) => opened,
        Err(refusal) => return refused(&refusal),
    };
    if pair.session.set(Arc::clone(&session)).is_err() {
        edge.hub.end(&session);
        return refused(&Refusal::SecondInitialize);
    }
    session.came_from(pair.visitor.from);
    let begun = edge.hub.attach(&session, None).map(|events| pair.queue.try_send(Out::Begun(response.text(), events)));
    match begun {
        Ok(Ok(())) => {
            tracing::debug!(client = session.client_name(), revision = %session.revision(), "a session on a stream of /sse");
            accepted()
        }
        // Whoever set the session ends it, if the stream's end came too early to see it.
        Ok(Err(unsent)) => {
            edge.hub.end(&session);
            unsent_status(&unsent)
        }
        Err(refusal) => refused(&refusal),
    }
}

/// Answers what may come before the session has begun, which is a ping, and what nobody answers in it either.
fn before_initialize(pair: &Pair, call: Call) -> Response<Body> {
    let Call { id, method, .. } = call;
    if method == Method::Ping {
        return refuse(pair, Answer::result(id, Json::literal("{}")).encode());
    }
    // The answer after which clients of both eras go on with `initialize`.
    let is_modern = matches!(method, Method::Discover | Method::SubscriptionsListen);
    let (code, text) = if is_modern {
        (code::METHOD_NOT_FOUND, "method not found")
    } else {
        (code::INVALID_REQUEST, "begin with `initialize`")
    };
    refuse(pair, error_text(Some(id), &RpcError::new(code, text)))
}

/// Works on a request and says on the stream what comes of it.
async fn answering(edge: Arc<Edge>, pair: Arc<Pair>, session: Arc<Session>, call: Call, place: OwnedSemaphorePermit) {
    let _place = place;
    let id = call.id.clone();
    let handling = AssertUnwindSafe(edge.hub.handle(&session, Message::Request(call), STREAMED)).catch_unwind();
    let reply = tokio::select! {
        biased;
        reply = handling => reply.unwrap_or_else(|_| {
            edge.metrics.rejected("panic");
            let text = "the gateway failed at this request; its log says more";
            Reply::One(error_text(Some(id.clone()), &RpcError::new(code::INTERNAL_ERROR, text)).into())
        }),
        () = stopped(Arc::clone(&edge)) => Reply::Accepted,
    };
    let last = match reply {
        Reply::One(text) | Reply::Error { message: text, .. } => text,
        Reply::Refused(refusal) => refusal.response(Some(id)).into(),
        Reply::Events(events) => match pass_on(&edge, &pair, events).await {
            Passed::Whole => return,
            Passed::Cut => reply::cut_short(id).into(),
        },
        // No legacy client gets one.
        Reply::Listening { last, .. } => last,
        // The daemon could not wait; a request is never merely accepted.
        Reply::Accepted => reply::cut_short(id).into(),
    };
    // If nobody reads any more there is nobody to tell.
    let _ = pair.say(last).await;
}

enum Passed {
    /// The answer was among it, or nobody reads.
    Whole,
    Cut,
}

/// Passes a call's notices and its answer on.
async fn pass_on(edge: &Arc<Edge>, pair: &Pair, mut events: EventStream) -> Passed {
    let mut stop = std::pin::pin!(stopped(Arc::clone(edge)));
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = stop.as_mut() => return Passed::Cut,
        };
        let Some(event) = event else { return Passed::Whole };
        if pair.say(event.data).await.is_err() {
            return Passed::Whole;
        }
    }
}

/// Takes a batch: each member is answered by itself, in an event of its own (mcp-protocol 2.3).
async fn batch(edge: &Arc<Edge>, pair: &Arc<Pair>, members: Vec<Result<Message, Malformed>>) -> Response<Body> {
    if pair.session.get().is_none_or(|session| session.revision() != Revision::V2025_03_26) {
        return not_here("batches belong to sessions of revision 2025-03-26 alone");
    }
    for member in members {
        let response = match member {
            Ok(message) => take(edge, pair, message, None).await,
            Err(malformed) => refuse(pair, error_text(None, &RpcError::new(malformed.code(), malformed.to_string()))),
        };
        if response.status() != StatusCode::ACCEPTED {
            return response;
        }
    }
    accepted()
}

/// What the stream says: its address, then what comes, until the client or the daemon leaves.
fn said(mut open: Open) -> BoxStream<'static, Named> {
    enum Step {
        Out(Option<Out>),
        Own(Option<Text>),
        Over,
    }
    let message = |data| Named { name: "message", data };
    async_stream::stream! {
        let address = format!("{MESSAGES}?{PARAMETER}={}", open.pair.id);
        yield Named { name: "endpoint", data: Bytes::from(address).into() };
        let mut own: Option<EventStream> = None;
        let mut end = std::pin::pin!(over(&open.edge, &open.pair));
        loop {
            let step = tokio::select! {
                biased;
                out = open.queue.recv() => Step::Out(out),
                event = next(&mut own) => Step::Own(event),
                () = end.as_mut() => Step::Over,
            };
            match step {
                Step::Out(Some(Out::Message(text))) => yield message(text),
                Step::Out(Some(Out::Begun(text, events))) => {
                    own = Some(events);
                    yield message(text);
                }
                Step::Own(Some(text)) => yield message(text),
                // The session was ended elsewhere: it was the longest idle one where too many were open.
                Step::Own(None) | Step::Out(None) => break,
                Step::Over => {
                    // Nobody is left to add to it.
                    while let Ok(Out::Message(text) | Out::Begun(text, _)) = open.queue.try_recv() {
                        yield message(text);
                    }
                    break;
                }
            }
        }
    }
    .boxed()
}

/// The next thing that a session says of itself; nothing before it has begun.
async fn next(own: &mut Option<EventStream>) -> Option<Text> {
    match own {
        Some(events) => events.next().await.map(|event| event.data),
        None => std::future::pending().await,
    }
}

/// Resolves when the daemon stops and nothing is worked on any more.
fn over(edge: &Edge, pair: &Arc<Pair>) -> impl Future<Output = ()> + Send + use<> {
    let (soon, pair) = (idle_end(edge, &pair.id, pair.visitor.principal.clone(), Needs::Token), Arc::clone(pair));
    async move {
        soon.await;
        pair.working.close();
        pair.working.wait().await;
    }
}

impl Pair {
    /// Puts a message in the queue when there is room. An empty one means that nothing is to be said.
    async fn say(&self, text: Text) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        self.queue.send(Out::Message(text)).await.map_err(|_| Gone)
    }
}

impl Pairs {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Pair>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    /// The stream was the session: its address is forgotten at once, its calls are given up after a grace.
    fn drop(&mut self) {
        self.queue.close();
        self.edge.pairs.lock().remove(&self.pair.id);
        let Some(session) = self.pair.session.get().cloned() else { return };
        let hub = Arc::clone(&self.edge.hub);
        spawn("pair end", async move {
            sleep(PAIR_GRACE).await;
            hub.end(&session);
        });
    }
}

/// Says something at once, on the stream if it has room.
fn refuse(pair: &Pair, text: Bytes) -> Response<Body> {
    match pair.queue.try_send(Out::Message(text.into())) {
        Ok(()) => accepted(),
        Err(unsent) => unsent_status(&unsent),
    }
}

fn unsent_status(unsent: &mpsc::error::TrySendError<Out>) -> Response<Body> {
    match unsent {
        mpsc::error::TrySendError::Closed(_) => unknown(),
        mpsc::error::TrySendError::Full(_) => {
            let text = "the stream's reader is too slow for what waits to be said; read the stream, then try again";
            reply::with_retry_after(plain(StatusCode::SERVICE_UNAVAILABLE, text), STREAM_RETRY)
        }
    }
}

/// As SDK servers say it.
fn accepted() -> Response<Body> {
    plain(StatusCode::ACCEPTED, "Accepted")
}

fn unknown() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "session not found; it ended with its stream, so open GET /sse again")
}

/// The stream that a query names; `None` if it names none, or several.
fn stream_id(query: &str) -> Option<&str> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='));
    values.next().filter(|value| !value.is_empty() && values.next().is_none())
}

fn random_id() -> Box<str> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits).expect("the kernel gives random bytes");
    format!("{:032x}", u128::from_ne_bytes(bits)).into()
}

#[cfg(test)]
mod tests;
