//! The load: clients that each hold one connection and send one request after another.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Where clients knock.
pub(crate) const MCP: &str = "/mcp";

/// What one run of clients found.
pub(crate) struct Measured {
    pub(crate) calls: usize,
    pub(crate) seconds: f64,
    /// Sorted, in microseconds.
    pub(crate) latencies_us: Vec<u32>,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        as_f64(self.calls) / self.seconds
    }

    pub(crate) fn median_us(&self) -> f64 {
        self.latencies_us.get(self.latencies_us.len() / 2).copied().map_or(0.0, f64::from)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls stay far below 2^52")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Which era a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// With a handshake, as 2025-06-18.
    Legacy,
    /// 2026-07-28: each request says all; this is the tool it names in its headers.
    Modern(&'static str),
}

/// One client: a connection and, where the server gave one, a session.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    host: String,
    path: &'static str,
    session: Option<String>,
    speech: Speech,
}

async fn dial(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    crate::background(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    /// Connects and shakes hands as a 2025-06-18 client does.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        Self::open_at(address, MCP).await
    }

    /// The same at another path than `/mcp`.
    async fn open_at(address: SocketAddr, path: &'static str) -> Result<Self, Failure> {
        let mut client = Self { path, ..Self::connect(address, Speech::Legacy).await? };
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        let (session, _) = client.post(Bytes::from_static(hello.as_bytes())).await?;
        client.session = session;
        client.post(Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).await?;
        Ok(client)
    }

    /// Connects, and is done: what a modern client does.
    async fn connect(address: SocketAddr, speech: Speech) -> Result<Self, Failure> {
        let sender = dial(address).await?;
        Ok(Self { sender, address, host: address.to_string(), path: MCP, session: None, speech })
    }

    /// Connects again if the connection was ended, as one is that rested while the others had their turns.
    async fn wake(&mut self) -> Result<(), Failure> {
        if self.sender.is_closed() {
            self.sender = dial(self.address).await?;
        }
        Ok(())
    }

    /// Posts a message; returns the session id of the answer, if any, and the body.
    pub(crate) async fn post(&mut self, body: Bytes) -> Result<(Option<String>, Bytes), Failure> {
        let request = self.request("POST").body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()).into());
        }
        let session = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok((session, response.into_body().collect().await?.to_bytes()))
    }

    /// Opens the GET stream and keeps it: returns the response, whose body nobody reads.
    pub(crate) async fn listen(&mut self) -> Result<hyper::Response<hyper::body::Incoming>, Failure> {
        let request = self.request("GET").body(Full::new(Bytes::new()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()).into());
        }
        Ok(response)
    }

    fn request(&self, method: &str) -> hyper::http::request::Builder {
        let accept = if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        let mut request = Request::builder()
            .method(method)
            .uri(self.path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json");
        if let Speech::Modern(tool) = self.speech {
            request = request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", "tools/call");
            request = request.header("mcp-name", tool);
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-06-18");
        }
        request
    }
}

/// Clients that post at once.
pub(crate) struct Crowd(Vec<Client>);

impl Crowd {
    pub(crate) async fn open(
        address: SocketAddr,
        path: &'static str,
        clients: usize,
        speech: Speech,
    ) -> Result<Self, Failure> {
        let mut opened = Vec::with_capacity(clients);
        for _ in 0..clients {
            opened.push(match speech {
                Speech::Legacy => Client::open_at(address, path).await?,
                Speech::Modern(_) => Client { path, ..Client::connect(address, speech).await? },
            });
        }
        Ok(Self(opened))
    }

    /// Posts `body` again and again for `time`, and checks each answer's length against `answer_min`.
    pub(crate) async fn run(&mut self, time: Duration, body: &Bytes, answer_min: usize) -> Result<Measured, Failure> {
        for client in &mut self.0 {
            client.wake().await?;
        }
        let start = Instant::now();
        let end = start + time;
        let clients = self.0.drain(..);
        let tasks: Vec<_> =
            clients.map(|client| tokio::task::spawn_local(one(client, end, body.clone(), answer_min))).collect();
        let mut latencies_us = Vec::new();
        for task in tasks {
            let (client, latencies) = task.await??;
            self.0.push(client);
            latencies_us.extend(latencies);
        }
        let seconds = start.elapsed().as_secs_f64();
        latencies_us.sort_unstable();
        Ok(Measured { calls: latencies_us.len(), seconds, latencies_us })
    }
}

async fn one(mut client: Client, end: Instant, body: Bytes, answer_min: usize) -> Result<(Client, Vec<u32>), Failure> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let (_, answer) = client.post(body.clone()).await?;
        if answer.len() < answer_min {
            let start = String::from_utf8_lossy(&answer[..answer.len().min(300)]);
            return Err(format!("an answer of {} bytes: {start}", answer.len()).into());
        }
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok((client, latencies))
}
