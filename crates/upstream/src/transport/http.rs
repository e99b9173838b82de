//! Streamable HTTP, the revisions with a handshake (mcp-protocol 4.3): one POST per message, the answer as JSON or on
//! a stream of events, and one GET stream beside them for what belongs to no request.
//!
//! Two things are taken from the answer to `initialize` and from nowhere else: the session id, and the address, if a
//! redirect within the origin led to it. Both go with every later request.
//!
//! A stream that ends before its answer is resumed where the server gave its events ids; reading an answer again is
//! not running the tool again. Without ids the answer is lost, and nothing is ever posted twice here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_wire::{Message, Method, Revision};

use super::answer::{answer_stream, json_answer, without_answer};
use super::body::{self, Body, Kind};
use super::client::{Address, Answer};
use super::failure::Failure;
use super::listen::{GetStream, listen};
use super::peer::{MCP_PROTOCOL_VERSION, Peer};
use super::{Facts, FaultPoint, MessageStream, Outgoing, SendError, Sent, Transport};

/// Names the session, on every request of any verb once the server gave one.
const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// A server that is not there any more must not delay our own end (reliability 5).
const DELETE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection by streamable HTTP.
pub(crate) struct HttpTransport(Arc<Connection>);

/// What the transport, its answer streams and its GET stream share.
pub(super) struct Connection {
    pub(super) peer: Peer,
    /// What the answer to `initialize` brought.
    opened: OnceLock<Opened>,
    /// The headers of every POST once the revision is agreed on.
    settled: OnceLock<HeaderMap>,
    pub(super) get_stream: GetStream,
    /// The server forgot the session.
    pub(super) gone: CancellationToken,
    /// We took our leave.
    pub(super) closed: CancellationToken,
}

struct Opened {
    session: Option<HeaderValue>,
    moved: Option<Address>,
}

impl HttpTransport {
    /// A transport to `peer`; nothing is sent yet.
    pub(crate) fn new(peer: Peer) -> Self {
        Self(Arc::new(Connection {
            peer,
            opened: OnceLock::new(),
            settled: OnceLock::new(),
            get_stream: GetStream::default(),
            gone: CancellationToken::new(),
            closed: CancellationToken::new(),
        }))
    }

    /// The GET stream, opened when it is first polled: after the handshake.
    pub(crate) fn shared(&self) -> MessageStream {
        listen(Arc::clone(&self.0))
    }

    /// Posts one message. As [`Transport::send`], with all that was seen of a failure.
    pub(crate) async fn post(&self, out: &Outgoing) -> Result<Sent, Failure> {
        let connection = &self.0;
        let answer = connection.exchange(http::Method::POST, out.text.clone()).await?;
        if !answer.status.is_success() {
            let refused = connection.peer.refusal_or_error(answer, out.request, connection.in_session()).await;
            return match refused {
                Ok(response) => Ok(Sent::Reply(Message::Response(response))),
                Err(failure) => {
                    if failure.point == FaultPoint::SessionGone {
                        connection.gone.cancel();
                    }
                    Err(failure)
                }
            };
        }
        let Some(request) = out.request else {
            answer.body.discard();
            return Ok(Sent::OnSharedStream);
        };
        if out.method == Method::Initialize {
            connection.open(&answer);
        }
        match body::kind(&answer.headers) {
            Kind::Events => {
                let (bounds, source) = (connection.peer.bounds.clone(), Some(Arc::clone(connection)));
                Ok(Sent::OnOwnStream(answer_stream(bounds, source, answer.body, request)))
            }
            Kind::Json => json_answer(&connection.peer, answer.body, request).await,
            Kind::Other => Err(without_answer(&connection.peer, answer).await),
        }
    }
}

impl Transport for HttpTransport {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(async move { self.post(&out).await.map_err(SendError::from) })
    }

    fn agreed(&self, revision: Revision) {
        let mut headers = self.0.headers();
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        let _ = self.0.settled.set(headers);
    }

    fn renew(&self) {
        self.0.peer.client.renew();
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.closed.cancel();
            if !self.0.in_session() || self.0.gone.is_cancelled() {
                return;
            }
            let farewell = self.0.exchange(http::Method::DELETE, Bytes::new());
            // Whatever comes of it: 405 is as good as 200, and a server that is down needs none.
            if let Ok(Ok(answer)) = timeout(grace.min(DELETE_TIMEOUT), farewell).await {
                answer.body.discard();
            }
        })
    }

    fn facts(&self) -> Facts {
        Facts { kind: "http", pid: None, get_stream: Some(self.0.get_stream.label()) }
    }
}

impl Connection {
    /// Sends a request to where the server is, with what it wants to see in each.
    async fn exchange(&self, method: http::Method, body: Bytes) -> Result<Answer, Failure> {
        match self.settled.get() {
            Some(headers) => self.peer.client.send(method, self.address(), headers, body).await,
            None => self.peer.client.send(method, self.address(), &self.headers(), body).await,
        }
    }

    /// Opens a stream of events, after `last_event_id` if there is one.
    pub(super) async fn get(&self, last_event_id: Option<&str>) -> Result<Body, Failure> {
        Ok(self.peer.events(self.address(), self.headers(), last_event_id).await?.body)
    }

    fn open(&self, answer: &Answer) {
        let session = answer.headers.get(MCP_SESSION_ID).cloned().map(|mut id| {
            id.set_sensitive(true);
            id
        });
        let _ = self.opened.set(Opened { session, moved: answer.moved.clone() });
    }

    fn address(&self) -> &Address {
        self.opened.get().and_then(|opened| opened.moved.as_ref()).unwrap_or(&self.peer.address)
    }

    fn session(&self) -> Option<&HeaderValue> {
        self.opened.get()?.session.as_ref()
    }

    pub(super) fn in_session(&self) -> bool {
        self.session().is_some()
    }

    fn headers(&self) -> HeaderMap {
        if let Some(settled) = self.settled.get() {
            return settled.clone();
        }
        let mut headers = self.peer.headers.clone();
        if let Some(session) = self.session() {
            headers.insert(MCP_SESSION_ID, session.clone());
        }
        headers
    }
}

#[cfg(test)]
mod tests;
