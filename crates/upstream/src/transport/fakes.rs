//! Fakes of HTTP servers for the tests: on real sockets, each with the one fault that its test is about.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use trunkline_config::{Connect, Http, HttpTransport, Limits, Secret, Server};
use trunkline_telemetry::{Journal, Metrics};
use trunkline_wire::{Budget, Era, Message, ServerName};
use url::Url;

use super::{Broken, Dialed, MessageStream, Outgoing, SendError, Sent};
use crate::environment::{Environment, GuardProgram};
use crate::era::Memory;
use crate::error::DialError;

/// A request as a fake saw it.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    /// The other end of the connection it came on.
    pub(crate) from: SocketAddr,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Got {
    /// The JSON-RPC method, or the HTTP method where there is no body.
    pub(crate) fn asks(&self) -> &str {
        self.body["method"].as_str().unwrap_or(self.method.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The result that answers it.
    #[expect(clippy::needless_pass_by_value, reason = "called with `json!`")]
    pub(crate) fn result(&self, result: Value) -> Value {
        json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result})
    }
}

/// A server whose every answer is `respond`'s, and what it was asked.
pub(crate) struct Fake {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<Got>>>,
}

impl Fake {
    /// Serves on a free port of the IPv4 loopback, at `/mcp`.
    pub(crate) async fn new<F>(respond: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler = move |request: Request| {
            let (respond, log) = (respond.clone(), Arc::clone(&log));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 25).await.expect("a body");
                let ConnectInfo(from) = head.extensions.get().copied().expect("served with it");
                let got = Got {
                    from,
                    method: head.method,
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                log.lock().unwrap_or_else(PoisonError::into_inner).push(got.clone());
                respond(got).await
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("bound")).parse().expect("a URL");
        let router = axum::Router::new().fallback(handler);
        trunkline_telemetry::spawn("fake", async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await.expect("serves");
        });
        Self { url, seen }
    }

    /// What it was asked so far, in order.
    pub(crate) fn seen(&self) -> Vec<Got> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it was asked so far, in words.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|got| got.asks().to_owned()).collect()
    }
}

/// A socket that reads one request on each connection, answers with these bytes, and closes.
pub(crate) async fn raw(answer: &'static [u8]) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("bound")).parse().expect("a URL");
    trunkline_telemetry::spawn("raw", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer).await;
        }
    });
    url
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}/mcp", listener.local_addr().expect("bound")).parse().expect("a URL")
}

/// The result of `initialize`.
pub(crate) fn welcome(got: &Got) -> Value {
    got.result(json!({
        "protocolVersion": got.body["params"]["protocolVersion"],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "fake", "version": "1"},
    }))
}

/// A sound streamable HTTP server without GET stream; `tools/call` is answered by `call`.
pub(crate) async fn sound<F>(call: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Fake
where
    F: Future<Output = Response> + Send + 'static,
{
    sound_with_get(call, |_| async { status(405) }).await
}

/// The same, with every GET answered by `get`.
pub(crate) async fn sound_with_get<F, G>(
    call: impl Fn(Got) -> F + Clone + Send + Sync + 'static,
    get: impl Fn(Got) -> G + Clone + Send + Sync + 'static,
) -> Fake
where
    F: Future<Output = Response> + Send + 'static,
    G: Future<Output = Response> + Send + 'static,
{
    Fake::new(move |got| {
        let (call, get) = (call.clone(), get.clone());
        async move {
            match got.asks() {
                "initialize" => reply_with(&[("mcp-session-id", "s1")], &welcome(&got)),
                "notifications/initialized" => status(202),
                "tools/call" => call(got).await,
                "GET" => get(got).await,
                _ => status(405),
            }
        }
    })
    .await
}

/// What a modern server answers to `server/discover`.
pub(crate) fn discovered(got: &Got) -> Value {
    got.result(json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake", "version": "1"}},
    }))
}

/// A modern server; `tools/call` is answered by `call`.
pub(crate) async fn modern<F>(call: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Fake
where
    F: Future<Output = Response> + Send + 'static,
{
    Fake::new(move |got| {
        let call = call.clone();
        async move {
            match got.asks() {
                "server/discover" => json_reply(&discovered(&got)),
                "tools/call" => call(got).await,
                _ => status(405),
            }
        }
    })
    .await
}

pub(crate) fn status(code: u16) -> Response {
    reply(code, &[], Body::empty())
}

pub(crate) fn reply(code: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(code).expect("a status"));
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("a response")
}

pub(crate) fn json_reply(body: &Value) -> Response {
    reply_with(&[], body)
}

pub(crate) fn reply_with(headers: &[(&str, &str)], body: &Value) -> Response {
    let mut all = vec![("content-type", "application/json; charset=utf-8")];
    all.extend(headers);
    reply(200, &all, body.to_string())
}

/// A whole stream of events, which ends.
pub(crate) fn events(text: impl Into<String>) -> Response {
    reply(200, &[("content-type", "text/event-stream")], text.into())
}

/// A stream of events that a test writes as it goes; it ends when the sender is dropped.
pub(crate) fn live_events() -> (mpsc::Sender<String>, Response) {
    let (sender, receiver) = mpsc::channel::<String>(16);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (Ok::<_, std::io::Error>(Bytes::from(piece)), receiver))
    });
    (sender, reply(200, &[("content-type", "text/event-stream")], Body::from_stream(pieces)))
}

/// One event with a message.
pub(crate) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// A server that is said to be of the legacy era: most tests are about a transport, and not about finding it.
pub(crate) fn server(url: &Url, transport: HttpTransport) -> Server {
    let connect = Connect::Http(Http { transport, ..Http::new(url.clone()) });
    Server { era: Some(Era::Legacy), ..Server::new(connect) }
}

/// The same with a bearer token, which is a secret.
pub(crate) fn server_with_token(url: &Url, transport: HttpTransport, token: &str) -> Server {
    let http = Http {
        transport,
        bearer: Some(Secret::new(token)),
        bearer_source: Some("FAKE_TOKEN".to_owned()),
        ..Http::new(url.clone())
    };
    Server { era: Some(Era::Legacy), secrets: vec![Secret::new(token)], ..Server::new(Connect::Http(http)) }
}

pub(crate) fn environment(limits: Limits) -> Environment {
    Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::new()),
        budget: Budget::new(limits.buffer_bytes),
        limits,
        notices: mpsc::channel(1).0,
        guard: GuardProgram::new("/nonexistent", []),
        shelf: crate::Shelf::none(),
        signin: None,
        inherited: Vec::new(),
    }
}

pub(crate) async fn dial(server: &Server) -> Result<Dialed, DialError> {
    dial_within(server, Limits::default()).await
}

pub(crate) async fn dial_within(server: &Server, limits: Limits) -> Result<Dialed, DialError> {
    dial_order(server, limits, &Mutex::default()).await
}

/// Dials with what earlier dials showed.
pub(crate) async fn dial_remembering(server: &Server, memory: &Mutex<Memory>) -> Result<Dialed, DialError> {
    dial_order(server, Limits::default(), memory).await
}

async fn dial_order(server: &Server, limits: Limits, memory: &Mutex<Memory>) -> Result<Dialed, DialError> {
    let (name, environment) = (ServerName::new("fake").expect("a name"), environment(limits));
    let order = crate::dial::Order { name: &name, server, first_start: false, environment: &environment, memory };
    crate::dial::dial(order).await
}

/// Dials by one transport, which must succeed.
pub(crate) async fn connect(url: &Url, transport: HttpTransport) -> Dialed {
    dial(&server(url, transport)).await.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn call(id: u64) -> Outgoing {
    let text = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "t"}}).to_string();
    Outgoing::new(text.into(), Some(id), trunkline_wire::Method::ToolsCall)
}

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    Answer(Value),
    Unsent(SendError),
    Broken(Broken),
    Ended,
}

impl Fate {
    /// How far the call got, if it failed.
    pub(crate) fn fault(&self) -> Option<super::FaultPoint> {
        match self {
            Self::Unsent(error) => Some(error.fault),
            Self::Broken(broken) => Some(broken.fault),
            Self::Answer(_) | Self::Ended => None,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Unsent(error) => &error.text,
            Self::Broken(broken) => &broken.text,
            Self::Answer(_) | Self::Ended => "",
        }
    }
}

/// Sends `tools/call` and reads what comes until its fate is known; other messages go into `before`.
pub(crate) async fn call_collecting(dialed: &mut Dialed, id: u64, before: &mut Vec<Message>) -> Fate {
    match dialed.transport.send(call(id)).await {
        Err(error) => Fate::Unsent(error),
        Ok(Sent::Reply(message)) => Fate::Answer(value(&message)),
        Ok(Sent::OnOwnStream(mut stream)) => read_fate(&mut stream, before).await,
        Ok(Sent::OnSharedStream) => read_fate(&mut dialed.shared, before).await,
    }
}

pub(crate) async fn call_fate(dialed: &mut Dialed, id: u64) -> Fate {
    call_collecting(dialed, id, &mut Vec::new()).await
}

async fn read_fate(stream: &mut MessageStream, before: &mut Vec<Message>) -> Fate {
    while let Some(next) = stream.next().await {
        match next {
            Ok(message @ Message::Response(_)) => return Fate::Answer(value(&message)),
            Ok(message) => before.push(message),
            Err(broken) => return Fate::Broken(broken),
        }
    }
    Fate::Ended
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.encode()).expect("JSON")
}
