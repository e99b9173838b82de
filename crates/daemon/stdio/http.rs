//! One request to the daemon's endpoint, on a connection of its own: on loopback that costs little, and a request that is
//! cancelled ends with its connection (mcp-protocol 3.6).

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::sync::DropGuard;
use trunkline_wire::headers;
use trunkline_wire::sse::{Decoder, Event};

use super::Bridge;
use crate::limits::BRIDGE_ANSWER_BYTES_MAX;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Unsent {
    /// Nothing was sent; why in a sentence.
    NoDaemon(String),
    /// It was sent, perhaps whole, and the connection broke.
    Broken,
}

/// A response, and its connection.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    /// Ends the connection with it.
    connection: DropGuard,
}

/// Headers of a request.
pub(super) type Head = Vec<(HeaderName, String)>;

/// The headers that every request with a claimed or negotiated revision has.
pub(super) fn revision(revision: &str) -> (HeaderName, String) {
    (HeaderName::from_static(headers::PROTOCOL_VERSION), revision.to_owned())
}

impl Bridge {
    /// Sends a request, and reads the head of its response.
    pub(super) async fn send(&self, method: Method, head: Head, body: Bytes) -> Result<Reply, Unsent> {
        let (stream, address) = self.door.open().await.map_err(Unsent::NoDaemon)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Unsent::Broken)?;
        let ended = self.stop.child_token();
        let end = ended.clone();
        let run = async move {
            tokio::select! {
                biased;
                () = end.cancelled() => {}
                _ = connection => {}
            }
        };
        trunkline_telemetry::spawn("stdio connection", run);
        let guard = ended.drop_guard();
        let mut request =
            Request::builder().method(method).uri("/mcp").body(Full::new(body)).map_err(|_| Unsent::Broken)?;
        let fields = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&address.to_string()) {
            fields.insert(HOST, host);
        }
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(token) = self.door.token()
            && let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        {
            bearer.set_sensitive(true);
            fields.insert(AUTHORIZATION, bearer);
        }
        for (name, value) in head {
            // What cannot stand in a header is left out, and the daemon says what it misses.
            if let Ok(value) = HeaderValue::from_str(&value) {
                fields.insert(name, value);
            }
        }
        let response = sender.send_request(request).await.map_err(|_| Unsent::Broken)?;
        let (parts, body): (http::response::Parts, Incoming) = Response::into_parts(response);
        Ok(Reply { status: parts.status, headers: parts.headers, body, connection: guard })
    }
}

impl Reply {
    pub(super) fn is(&self, kind: &str) -> bool {
        let said = self.headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
        said.split(';').next().is_some_and(|said| said.trim().eq_ignore_ascii_case(kind))
    }

    /// The whole body; `None` if it broke off or is larger than any message.
    pub(super) async fn whole(self) -> Option<Bytes> {
        Some(Limited::new(self.body, BRIDGE_ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes())
    }

    /// The body as events.
    pub(super) fn events(self) -> Events {
        Events { body: self.body, decoder: Decoder::new(BRIDGE_ANSWER_BYTES_MAX), connection: self.connection }
    }
}

/// The events of a stream.
pub(super) struct Events {
    body: Incoming,
    decoder: Decoder,
    #[expect(dead_code, reason = "ends the connection with the stream")]
    connection: DropGuard,
}

impl Events {
    /// The next event that has something; `None` where the stream ends, in order or not.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.decoder.next() {
                Some(Ok(event)) => return Some(event),
                // Larger than any message may be: the stream goes on behind it.
                Some(Err(_)) => continue,
                None => {}
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.decoder.push(data);
            }
        }
    }
}
