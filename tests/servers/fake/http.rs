//! Streamable HTTP (`/mcp`) and HTTP+SSE (`/sse`, `/messages`), on hyper.

use std::collections::HashMap;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use crate::modern_http;
use crate::options::{Fault, Mode};
use crate::protocol::{Answer, Server};
use crate::session::Session;

/// What the tool `half` sends in place of a message: the stream ends here, without an answer.
pub(crate) const CUT: &str = "\0cut";

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

struct Site {
    server: Arc<Server>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Answer streams that may be resumed, by number.
    streams: Mutex<HashMap<u64, Arc<Recording>>>,
    next: AtomicU64,
}

/// What was sent on one answer stream, and what is yet to come.
#[derive(Default)]
struct Recording {
    events: Mutex<Vec<String>>,
    ended: std::sync::atomic::AtomicBool,
    more: Notify,
}

pub(crate) async fn serve(server: Arc<Server>) -> ExitCode {
    tokio::time::sleep(server.options.slow_start).await;
    let listener = match TcpListener::bind(&server.options.listen).await {
        Ok(listener) => listener,
        Err(problem) => {
            eprintln!("fake-upstream: cannot listen on {}: {problem}", server.options.listen);
            return ExitCode::FAILURE;
        }
    };
    let address = listener.local_addr().expect("a bound socket has an address");
    let path = if server.options.mode == Mode::Sse { "/sse" } else { "/mcp" };
    if let Some(file) = &server.options.ready_file {
        // Written aside and renamed: a reader sees the whole URL or nothing.
        let draft = file.with_extension("draft");
        std::fs::write(&draft, format!("http://{address}{path}\n")).expect("the ready file can be written");
        std::fs::rename(&draft, file).expect("the ready file can be named");
    }
    let site =
        Arc::new(Site { server, sessions: Mutex::default(), streams: Mutex::default(), next: AtomicU64::new(1) });
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let site = site.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let site = site.clone();
                async move { Ok::<_, Infallible>(site.answer(request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Site {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return status(StatusCode::BAD_REQUEST, "the body broke off");
        };
        if self.server.desk.exists() {
            self.record(&head, &body);
        }
        if let Some(fault) = self.server.fault()
            && let Some(response) = faulty(fault).await
        {
            return response;
        }
        if let Some(token) = &self.server.options.bearer
            && header(&head.headers, "authorization") != Some(&format!("Bearer {token}"))
        {
            return unauthorized();
        }
        if self.server.options.mode == Mode::Http
            && let Some(response) = modern_http::answer(&self.server, &head, &body).await
        {
            return response;
        }
        let path = head.uri.path();
        match (self.server.options.mode, &head.method, path) {
            (Mode::Http, &Method::POST, "/mcp") => self.post(&head.headers, &body),
            (Mode::Http, &Method::GET, "/mcp") if !self.server.options.no_get => self.get(&head.headers),
            (Mode::Http, &Method::DELETE, "/mcp") => {
                let session = header(&head.headers, "mcp-session-id")
                    .and_then(|id| self.sessions.lock().expect("short").remove(id));
                if let Some(session) = session {
                    self.server.forget(&session);
                }
                status(StatusCode::NO_CONTENT, "")
            }
            (Mode::Sse, &Method::GET, "/sse") => self.open(),
            (Mode::Sse, &Method::POST, "/messages") => self.message(head.uri.query().unwrap_or_default(), &body),
            (_, _, "/mcp" | "/sse" | "/messages") => status(StatusCode::METHOD_NOT_ALLOWED, "not here"),
            _ => status(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    fn record(&self, head: &http::request::Parts, body: &Bytes) {
        let headers: HashMap<&str, &str> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
        let headers = serde_json::to_string(&headers).expect("strings are JSON");
        let body = if body.is_empty() { "null".into() } else { String::from_utf8_lossy(body) };
        let line = format!(r#"{{"verb":"{}","path":"{}","headers":{headers},"body":{body}}}"#, head.method, head.uri);
        self.server.desk.note("received", &line);
    }

    fn post(self: &Arc<Self>, headers: &HeaderMap, body: &Bytes) -> Response<Body> {
        let Ok(text) = std::str::from_utf8(body) else {
            return status(StatusCode::BAD_REQUEST, "not UTF-8");
        };
        if self.server.desk.take("forget") {
            self.sessions.lock().expect("short").clear();
        }
        // Good enough here: no other message of ours carries this text.
        let opening = text.contains(r#""method":"initialize""#);
        let mut fresh = None;
        let session = if opening || self.server.options.no_session {
            let (nowhere, _) = mpsc::channel(1);
            let session = Arc::new(Session::new(nowhere));
            if !self.server.options.no_session {
                let id = format!("fake-session-{}", self.next.fetch_add(1, Ordering::Relaxed));
                self.server.adopt(&session);
                self.sessions.lock().expect("short").insert(id.clone(), session.clone());
                fresh = Some(id);
            }
            session
        } else {
            match self.session(headers) {
                Ok(session) => session,
                Err(response) => return *response,
            }
        };
        let (lines, related) = mpsc::channel(256);
        let mut response = match self.server.receive(text, &session, &lines) {
            Answer::Nothing => status(StatusCode::ACCEPTED, ""),
            Answer::Now(reply) if self.server.options.streams => event_stream(full(event(None, &reply))),
            Answer::Now(reply) => {
                let mut response = Response::new(full(reply));
                response.headers_mut().insert("content-type", "application/json".parse().expect("valid"));
                response
            }
            Answer::Later(work) => {
                tokio::spawn(async move {
                    if let Some(reply) = work.await {
                        let _ = lines.send(reply).await;
                    }
                });
                self.answer_stream(related)
            }
        };
        if let Some(id) = fresh {
            response.headers_mut().insert("mcp-session-id", id.parse().expect("valid"));
        }
        response
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Box<Response<Body>>> {
        let Some(id) = header(headers, "mcp-session-id") else {
            return Err(Box::new(status(StatusCode::BAD_REQUEST, "Bad Request: No valid session ID provided")));
        };
        let known = self.sessions.lock().expect("short").get(id).cloned();
        known.ok_or_else(|| Box::new(status(StatusCode::NOT_FOUND, "Session not found")))
    }

    /// The stream of one call: what belongs to it, then its answer.
    fn answer_stream(self: &Arc<Self>, mut related: mpsc::Receiver<String>) -> Response<Body> {
        let recording = Arc::new(Recording::default());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let resumable = self.server.options.resumable;
        if resumable {
            recording.events.lock().expect("short").push(String::new());
            self.streams.lock().expect("short").insert(number, recording.clone());
        }
        tokio::spawn({
            let recording = recording.clone();
            async move {
                while let Some(message) = related.recv().await {
                    recording.events.lock().expect("short").push(message);
                    recording.more.notify_waiters();
                }
                recording.ended.store(true, Ordering::Release);
                recording.more.notify_waiters();
            }
        });
        event_stream(follow(recording, 0, resumable.then_some(number)))
    }

    fn get(&self, headers: &HeaderMap) -> Response<Body> {
        if let Some(id) = header(headers, "last-event-id") {
            let place = id
                .split_once('-')
                .and_then(|(stream, event)| Some((stream.parse().ok()?, event.parse::<usize>().ok()?)));
            let Some((stream, event)) = place else {
                return status(StatusCode::BAD_REQUEST, "no event of ours");
            };
            let Some(recording) = self.streams.lock().expect("short").get(&stream).cloned() else {
                return status(StatusCode::NOT_FOUND, "that stream is gone");
            };
            let cut = recording.events.lock().expect("short").get(event + 1).is_some_and(|next| next == CUT);
            return event_stream(follow(recording, event + 1 + usize::from(cut), Some(stream)));
        }
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(response) => return *response,
        };
        let (lines, unrelated) = mpsc::channel(256);
        *session.unrelated.lock().expect("short") = lines;
        event_stream(live(unrelated, None, ()))
    }

    fn open(&self) -> Response<Body> {
        let (lines, messages) = mpsc::channel(1024);
        let session = Arc::new(Session::new(lines));
        let id = format!("fake-{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.server.adopt(&session);
        self.sessions.lock().expect("short").insert(id.clone(), session);
        let endpoint = format!("event: endpoint\ndata: /messages?session={id}\n\n");
        event_stream(live(messages, Some(endpoint), ()))
    }

    fn message(&self, query: &str, body: &Bytes) -> Response<Body> {
        let session =
            query.strip_prefix("session=").and_then(|id| self.sessions.lock().expect("short").get(id).cloned());
        let Some(session) = session else {
            return status(StatusCode::NOT_FOUND, "Session not found");
        };
        let Ok(text) = std::str::from_utf8(body) else {
            return status(StatusCode::BAD_REQUEST, "not UTF-8");
        };
        let lines = session.unrelated.lock().expect("short").clone();
        match self.server.receive(text, &session, &lines) {
            Answer::Nothing => {}
            Answer::Now(reply) => {
                if let Err(mpsc::error::TrySendError::Full(reply)) = lines.try_send(reply) {
                    tokio::spawn(async move { lines.send(reply).await });
                }
            }
            Answer::Later(work) => {
                tokio::spawn(async move {
                    if let Some(reply) = work.await {
                        let _ = lines.send(reply).await;
                    }
                });
            }
        }
        status(StatusCode::ACCEPTED, "Accepted")
    }
}

/// The response that a fault makes of any request, if it is one of HTTP.
async fn faulty(fault: Fault) -> Option<Response<Body>> {
    Some(match fault {
        Fault::Hang => std::future::pending().await,
        Fault::Garbage => {
            let mut response = Response::new(full("{\"jsonrpc\": oops".to_owned()));
            response.headers_mut().insert("content-type", "application/json".parse().expect("valid"));
            response
        }
        Fault::Html => {
            let mut response = Response::new(full("<html><title>Sign in to continue</title></html>".to_owned()));
            response.headers_mut().insert("content-type", "text/html".parse().expect("valid"));
            response
        }
        Fault::Empty => {
            let mut response = Response::new(full(String::new()));
            response.headers_mut().insert("content-type", "application/json".parse().expect("valid"));
            response
        }
        Fault::Swallow => status(StatusCode::ACCEPTED, ""),
        Fault::Unauthorized => unauthorized(),
        Fault::Busy => {
            let mut response = status(StatusCode::SERVICE_UNAVAILABLE, "come back later");
            response.headers_mut().insert("retry-after", "1".parse().expect("valid"));
            response
        }
        Fault::Status(code) => status(StatusCode::from_u16(code).expect("a status"), "as the test asked"),
        Fault::Exit | Fault::Loud | Fault::NoTools => return None,
    })
}

fn unauthorized() -> Response<Body> {
    let mut response = status(StatusCode::UNAUTHORIZED, "who are you?");
    let challenge = r#"Bearer realm="fake", error="invalid_token""#;
    response.headers_mut().insert("www-authenticate", challenge.parse().expect("valid"));
    response
}

pub(crate) fn status(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(text.to_owned()));
    *response.status_mut() = code;
    response
}

pub(crate) fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed_unsync()
}

pub(crate) fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", "text/event-stream".parse().expect("valid"));
    response
}

pub(crate) fn event(id: Option<String>, message: &str) -> String {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    let message = message.trim_end().replace(['\r', '\n'], " ");
    format!("{id}event: message\ndata: {message}\n\n")
}

/// A recording from a place on, and what is added to it, until it ends or is cut.
fn follow(recording: Arc<Recording>, from: usize, number: Option<u64>) -> Body {
    let events = stream::unfold((recording, from), move |(recording, place)| async move {
        let message = recording.event(place).await.filter(|message| message != CUT)?;
        let id = number.map(|number| format!("{number}-{place}"));
        let text = match id {
            Some(id) if message.is_empty() => format!("id: {id}\nretry: 50\ndata:\n\n"),
            id => event(id, &message),
        };
        Some((text, (recording, place + 1)))
    });
    body(events)
}

impl Recording {
    /// The event at a place, as soon as there is one; none once the stream has ended before it.
    async fn event(&self, place: usize) -> Option<String> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let ended = self.ended.load(Ordering::Acquire);
            let event = self.events.lock().expect("short").get(place).cloned();
            if event.is_some() || ended {
                return event;
            }
            more.await;
        }
    }
}

/// What arrives on a channel, as events. `held` is dropped with the stream, however that ends.
pub(crate) fn live(messages: mpsc::Receiver<String>, first: Option<String>, held: impl Send + 'static) -> Body {
    let rest = stream::unfold((messages, held), |(mut messages, held)| async move {
        let message = messages.recv().await?;
        (message != CUT).then(|| (event(None, &message), (messages, held)))
    });
    body(stream::iter(first).chain(rest))
}

pub(crate) fn body(events: impl Stream<Item = String> + Send + 'static) -> Body {
    UnsyncBoxBody::new(StreamBody::new(events.map(|text| Ok(Frame::data(Bytes::from(text))))))
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
