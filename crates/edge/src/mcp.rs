//! The endpoint: POST, GET and DELETE on `/mcp` (mcp-protocol 3.2, 3.9, 3.11, 3.12).
//!
//! It reads a request as far as HTTP goes, finds the session, hands the message to the hub and gives back what
//! the hub says, as JSON or as events. Which status goes with which refusal is decided here and nowhere else.
//! Every error to a request carries the request's id; what was no request is refused with a line of text.
//!
//! # The two eras
//! Both are served here. `ingress` finds the era of each message by its body; those of the modern era go to `modern`,
//! what stands here is the legacy one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::time::sleep;
use trunkline_hub::{Guest, Refusal, Reply, Session, View, Wants};
use trunkline_wire::{Era, Id, Malformed, Message, Method, Request as Call, Revision, RpcError, Text, code};

use crate::Edge;
use crate::batch;
use crate::body::Body;
use crate::incoming::{self, Incoming};
use crate::ingress::{self, PROTOCOL_VERSION, Refused, SESSION_ID, Speech, names_modern};
use crate::limits::{LAST_WORDS, STREAM_END_SPREAD, STREAM_RETRY};
use crate::modern;
use crate::reply::{self, bare, plain};
use crate::tokens::{Needs, Principal};
use crate::trace;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The words that SDK servers use and clients look for.
const NO_SESSION: &str = "Bad Request: No valid session ID provided";

/// A GET or DELETE, whose `Accept` says nothing of JSON.
const STREAMED: Wants = Wants { json: true, sse: true };

/// The headers that matter once the body is read.
pub(crate) struct Head {
    session: Option<HeaderValue>,
    revision: Option<HeaderValue>,
    pub(crate) wants: Wants,
    visitor: Visitor,
}

/// Who asks, and at which address.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) principal: Principal,
    pub(crate) view: View,
    /// The port of this machine that it came from; 0: of another machine.
    pub(crate) from: u16,
}

impl Visitor {
    pub(crate) fn guest(&self) -> Guest<'_> {
        Guest { owner: owner(&self.principal), view: &self.view }
    }
}

/// Answers a request of `visitor` to the endpoint. Its verb is one that the route offers.
pub(crate) async fn answer<B>(edge: &Arc<Edge>, visitor: Visitor, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    match *request.method() {
        // Boxed, so that a connection that only holds an event stream does not carry the room for a call.
        http::Method::POST => Box::pin(post(edge, visitor, request)).await,
        http::Method::DELETE => Box::pin(delete(edge, visitor, request.headers())).await,
        _ => get(edge, visitor, request.headers()),
    }
}

async fn post<B>(edge: &Arc<Edge>, visitor: Visitor, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let (parts, body) = request.into_parts();
    if !incoming::is_json(&parts.headers) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a POST to /mcp needs `Content-Type: application/json`");
    }
    let wants = incoming::wants(&parts.headers);
    if !wants.json && !wants.sse {
        let text = "`Accept` must list application/json and text/event-stream";
        return plain(StatusCode::NOT_ACCEPTABLE, text);
    }
    let Incoming { bytes, charge } =
        match incoming::read(body, &parts.headers, &edge.config().limits, &edge.budget).await {
            Ok(read) => read,
            Err(unread) => {
                edge.metrics.rejected(unread.reason());
                return unread.response();
            }
        };
    let response = match trunkline_wire::parse_batch(&bytes) {
        Some(Ok(members)) => {
            let head = Head::of(&parts.headers, visitor, wants);
            drop(parts);
            Box::pin(batch::answer(edge, &head, members)).await
        }
        Some(Err(malformed)) => bad_body(&malformed, None),
        None => match Message::parse(&bytes) {
            // Apart: each connection has room for what is awaited in place, also while it is idle.
            Ok(message) => Box::pin(of_era(edge, parts.headers, visitor, wants, message)).await,
            Err(malformed) => bad_body(&malformed, readable_id(&bytes)),
        },
    };
    drop(charge);
    response
}

/// Answers one message in the terms of its era.
async fn of_era(
    edge: &Arc<Edge>,
    headers: HeaderMap,
    visitor: Visitor,
    wants: Wants,
    mut message: Message,
) -> Response<Body> {
    let mut speech = ingress::speech(&headers, &message);
    if let Ok(speech) = &mut speech {
        trace::adopt(&edge.hub, &headers, speech, &mut message);
    }
    match speech {
        Ok(Speech::Modern(params)) => match message {
            Message::Request(call) => modern::answer(edge, headers, &visitor, wants, call, params).await,
            Message::Notification(_) | Message::Response(_) => bare(StatusCode::ACCEPTED),
        },
        Ok(Speech::Notice) => bare(StatusCode::ACCEPTED),
        Ok(Speech::Legacy) => {
            let head = Head::of(&headers, visitor, wants);
            // The head's buffer is not needed for the time of a call.
            drop(headers);
            single(edge, &head, message).await
        }
        Err(Refused { status, error }) => {
            let Message::Request(call) = message else { return plain(status, &error.message) };
            edge.metrics.client_request(Era::Modern, Some(&call.method), status.as_u16());
            reply::error(status, Some(call.id), &error)
        }
    }
}

/// Answers a request, also if working on it panics. No `async fn`: that would keep room for `answering` twice.
pub(crate) fn guarded(
    edge: &Edge,
    id: Id,
    answering: impl Future<Output = Response<Body>>,
) -> impl Future<Output = Response<Body>> {
    AssertUnwindSafe(answering).catch_unwind().map(move |answer| {
        answer.unwrap_or_else(|_| {
            edge.metrics.rejected("panic");
            let error = RpcError::new(code::INTERNAL_ERROR, "the gateway failed at this request; its log says more");
            reply::error(StatusCode::INTERNAL_SERVER_ERROR, Some(id), &error)
        })
    })
}

/// Answers one message: rows 1, 2, 4-12 and 14 of mcp-protocol 3.9.
async fn single(edge: &Arc<Edge>, head: &Head, message: Message) -> Response<Body> {
    match message {
        Message::Request(call) => {
            let (id, method) = (call.id.clone(), call.method.clone());
            let answering = async {
                if method == Method::Initialize {
                    initialize(edge, head, &call)
                } else {
                    request(edge, head, call).await
                }
            };
            let response = guarded(edge, id, answering).await;
            edge.metrics.client_request(Era::Legacy, Some(&method), response.status().as_u16());
            response
        }
        Message::Response(response) if head.session.is_none() => {
            let text = "an answer to a server's question belongs to a session: `Mcp-Session-Id` is missing";
            reply::error(StatusCode::BAD_REQUEST, response.id, &RpcError::new(code::INVALID_REQUEST, text))
        }
        Message::Notification(_) | Message::Response(_) => {
            let session = match find(edge, head) {
                Ok(session) => session,
                Err(no) => return plain(no.status, &no.error.message),
            };
            let reply = edge.hub.handle(&session, message, head.wants).await;
            let response = match reply {
                Reply::Refused(refusal) => refused_in_text(&refusal),
                Reply::Accepted | Reply::One(_) | Reply::Error { .. } | Reply::Events(_) | Reply::Listening { .. } => {
                    bare(StatusCode::ACCEPTED)
                }
            };
            in_session(response, &session)
        }
    }
}

/// Opens a session. A modern `MCP-Protocol-Version` does not matter here: a client that falls back may still
/// send it (mcp-protocol 3.3 row 7).
fn initialize(edge: &Arc<Edge>, head: &Head, call: &Call) -> Response<Body> {
    if head.session.is_some() {
        let known = session(edge, head).is_some();
        let refusal = if known { Refusal::SecondInitialize } else { Refusal::UnknownSession };
        return refused(&refusal, &call.id);
    }
    if edge.is_draining() {
        return refused(&Refusal::ShuttingDown, &call.id);
    }
    if let Err(none) = edge.room() {
        return none.response(edge, call.id.clone());
    }
    match edge.hub.open(call, head.visitor.guest()) {
        Ok((session, response)) => {
            session.came_from(head.visitor.from);
            in_session(one(head.wants, response.text()), &session)
        }
        Err(refusal) => refused(&refusal, &call.id),
    }
}

async fn request(edge: &Arc<Edge>, head: &Head, call: Call) -> Response<Body> {
    let id = call.id.clone();
    let session = match find(edge, head) {
        Ok(session) => session,
        Err(no) => return reply::error(no.status, Some(id), &no.error),
    };
    let response =
        in_flight(edge, &None, head.wants, id, || edge.hub.handle(&session, Message::Request(call), head.wants)).await;
    in_session(response, &session)
}

/// Waits for the first thing that the hub knows of the answer to a request. Begun here, its future is kept in one place.
pub(crate) async fn in_flight<F: Future<Output = Reply>>(
    edge: &Arc<Edge>,
    principal: &Principal,
    wants: Wants,
    id: Id,
    handle: impl FnOnce() -> F,
) -> Response<Body> {
    if edge.is_draining() {
        return refused(&Refusal::ShuttingDown, &id);
    }
    let place = match edge.place() {
        Ok(place) => place,
        Err(none) => return none.response(edge, id),
    };
    let reply = tokio::select! {
        biased;
        reply = handle() => reply,
        () = stopped(edge.clone()) => Reply::One(reply::cut_short(id.clone()).into()),
    };
    match reply {
        Reply::One(text) => one(wants, text),
        Reply::Error { code, message } => match ingress::status_of(code) {
            StatusCode::OK => one(wants, message),
            status => reply::message(status, message),
        },
        Reply::Events(events) => reply::events(reply::until_answered(
            events,
            stopped(edge.clone()),
            move || reply::cut_short(id).into(),
            place,
        )),
        // It holds no place among the calls: it may stay for days.
        Reply::Listening { events, last, number } => {
            let end = idle_end(edge, &number.to_string(), principal.clone(), Needs::Token);
            reply::events(reply::until_answered(events, end, move || last, ()))
        }
        Reply::Refused(refusal) => refused(&refusal, &id),
        // A request is never merely accepted; should a bug say so, the client is not left waiting.
        Reply::Accepted => one(wants, reply::cut_short(id)),
    }
}

/// Resolves when the daemon cannot wait any longer: a moment after the hard stop, so that the hub's own
/// final answers, which know more, get through first.
pub(crate) async fn stopped(edge: Arc<Edge>) {
    edge.stop.hard.cancelled().await;
    sleep(LAST_WORDS / 2).await;
}

fn get(edge: &Arc<Edge>, visitor: Visitor, headers: &HeaderMap) -> Response<Body> {
    if let Some(refusal) = modern_verb(headers) {
        return refusal;
    }
    if !incoming::wants(headers).sse {
        return plain(StatusCode::NOT_ACCEPTABLE, "a GET on /mcp opens an event stream: `Accept: text/event-stream`");
    }
    let head = Head::of(headers, visitor, STREAMED);
    let session = match find(edge, &head) {
        Ok(session) => session,
        Err(no) => return plain(no.status, &no.error.message),
    };
    let resumed = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    // An id with bytes beyond ASCII is none that we gave.
    let last_event_id = resumed.map(|id| id.to_str().unwrap_or("?"));
    if edge.is_draining() && resumed.is_none() {
        return refused_in_text(&Refusal::ShuttingDown);
    }
    let response = match edge.hub.attach(&session, last_event_id) {
        Ok(events) if resumed.is_some() => {
            let hard = edge.stop.hard.clone();
            reply::events(reply::until_stopped(events, async move { hard.cancelled().await }, STREAM_RETRY))
        }
        Ok(events) => {
            let end = idle_end(edge, session.id(), head.visitor.principal, Needs::Token);
            reply::events(reply::until_stopped(events, end, STREAM_RETRY))
        }
        Err(refusal) => refused_in_text(&refusal),
    };
    in_session(response, &session)
}

/// Resolves some time in the second after the soft stop, at a moment that differs from session to session; and when the
/// token is taken back that it was opened with, or does not reach any more what the stream needs.
pub(crate) fn idle_end(
    edge: &Edge,
    session: &str,
    principal: Principal,
    needs: Needs,
) -> impl Future<Output = ()> + Send + use<> {
    let (soft, taken_back) = (edge.stop.soft.clone(), edge.taken_back(principal, needs));
    let part = session.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
    async move {
        tokio::select! {
            biased;
            () = soft.cancelled() => {}
            () = taken_back => return,
        }
        sleep(STREAM_END_SPREAD / 100 * part).await;
    }
}

/// Ends a session. It is answered once the end is on disk: no restart brings the session back.
async fn delete(edge: &Arc<Edge>, visitor: Visitor, headers: &HeaderMap) -> Response<Body> {
    if let Some(refusal) = modern_verb(headers) {
        return refusal;
    }
    match find(edge, &Head::of(headers, visitor, STREAMED)) {
        Ok(session) => {
            edge.hub.end(&session);
            edge.hub.remembered().await;
            in_session(bare(StatusCode::OK), &session)
        }
        Err(no) => plain(no.status, &no.error.message),
    }
}

/// Refuses GET and DELETE of the modern era, which has neither (mcp-protocol 3.3 row 1, G-31).
fn modern_verb(headers: &HeaderMap) -> Option<Response<Body>> {
    names_modern(headers.get(PROTOCOL_VERSION)?).then(|| {
        let text = "revision 2026-07-28 has neither GET nor DELETE";
        reply::with_allow(plain(StatusCode::METHOD_NOT_ALLOWED, text), "POST")
    })
}

impl Head {
    fn of(headers: &HeaderMap, visitor: Visitor, wants: Wants) -> Self {
        let (session, revision) = (headers.get(SESSION_ID).cloned(), headers.get(PROTOCOL_VERSION).cloned());
        Self { session, revision, wants, visitor }
    }
}

/// Rows 4 to 9 of mcp-protocol 3.9.
pub(crate) fn find(edge: &Edge, head: &Head) -> Result<Arc<Session>, Refused> {
    if head.session.is_none() {
        let error = RpcError::new(code::BAD_SESSION_REQUEST, NO_SESSION);
        return Err(Refused { status: StatusCode::BAD_REQUEST, error });
    }
    let Some(session) = session(edge, head) else {
        return Err(Refused { status: StatusCode::NOT_FOUND, error: Refusal::UnknownSession.error() });
    };
    if head.revision.as_ref().is_some_and(|revision| legacy(revision).is_none()) {
        let supported = Revision::ALL.into_iter().filter(|revision| revision.era() == Era::Legacy);
        let supported = supported.map(Revision::as_str).collect::<Vec<_>>().join(", ");
        let text = format!("Bad Request: Unsupported protocol version (supported versions: {supported})");
        return Err(Refused { status: StatusCode::BAD_REQUEST, error: RpcError::new(code::BAD_SESSION_REQUEST, text) });
    }
    session.came_from(head.visitor.from);
    Ok(session)
}

/// The name that a session belongs to.
pub(crate) fn owner(principal: &Principal) -> Option<&str> {
    principal.as_deref().map(|holder| &**holder.name())
}

/// The session that a request names, if there is one that is open to who sent it (S-8).
fn session(edge: &Edge, head: &Head) -> Option<Arc<Session>> {
    edge.hub.session(head.session.as_ref()?.to_str().ok()?, head.visitor.guest())
}

fn legacy(revision: &HeaderValue) -> Option<Revision> {
    revision.to_str().ok().and_then(Revision::parse).filter(|revision| revision.era() == Era::Legacy)
}

/// The id of a body that is no valid message, if it can be read all the same (mcp-protocol 2.1).
pub(crate) fn readable_id(bytes: &Bytes) -> Option<Id> {
    let value = trunkline_wire::Json::parse(bytes.clone()).ok()?;
    let mut members = trunkline_wire::Object::parse(&value).ok()?;
    Id::new(members.remove("id")?).ok()
}

pub(crate) fn bad_body(malformed: &Malformed, id: Option<Id>) -> Response<Body> {
    reply::error(StatusCode::BAD_REQUEST, id, &RpcError::new(malformed.code(), malformed.to_string()))
}

pub(crate) fn not_here(text: &str) -> Response<Body> {
    reply::error(StatusCode::BAD_REQUEST, None, &RpcError::new(code::INVALID_REQUEST, text))
}

/// The HTTP status of a refusal (mcp-protocol 3.9, 3.14).
fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownSession => StatusCode::NOT_FOUND,
        Refusal::SecondInitialize | Refusal::BadInitialize(_) | Refusal::ForeignEventId => StatusCode::BAD_REQUEST,
        Refusal::TooManySessions { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refused(refusal: &Refusal, id: &Id) -> Response<Body> {
    let response = reply::message(status(refusal), refusal.response(Some(id.clone())));
    match refusal.retry_after() {
        Some(after) => reply::with_retry_after(response, after),
        None => response,
    }
}

/// The same where no request has an id: a line of text.
pub(crate) fn refused_in_text(refusal: &Refusal) -> Response<Body> {
    let response = plain(status(refusal), &refusal.to_string());
    match refusal.retry_after() {
        Some(after) => reply::with_retry_after(response, after),
        None => response,
    }
}

pub(crate) fn error_text(id: Option<Id>, error: &RpcError) -> Bytes {
    trunkline_wire::Response::error(id, error.to_json()).encode()
}

/// One message as the client can take it.
fn one(wants: Wants, text: impl Into<Text>) -> Response<Body> {
    if wants.json { reply::message(StatusCode::OK, text) } else { reply::as_events(vec![text.into()]) }
}

/// Names the session on a response, as SDK servers do on every one.
pub(crate) fn in_session(mut response: Response<Body>, session: &Session) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(session.id()) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    response
}
