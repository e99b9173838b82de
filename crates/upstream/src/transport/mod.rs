//! The one seam between a live connection and the ways it may be carried: stdio, HTTP+SSE, streamable HTTP of
//! either era.
//!
//! A transport moves single JSON-RPC messages and says, where the fact is known, how far a failed one got
//! ([`FaultPoint`]). It allots no ids, matches no answers, retries no call and knows no state machine: that is
//! `link.rs`, `retry.rs` and `supervisor.rs`. The answer to a request comes in one of the three ways of [`Sent`];
//! whatever belongs to no request of ours comes on the stream that stands beside the transport in [`Dialed`].

mod answer;
pub(crate) mod body;
mod carried;
pub(crate) mod client;
pub(crate) mod collector;
mod direct;
pub(crate) mod failure;
#[cfg(test)]
pub(crate) mod fakes;
pub(crate) mod http;
mod listen;
pub(crate) mod modern;
pub(crate) mod peer;
mod pooled;
pub(crate) mod process;
pub(crate) mod proxies;
pub(crate) mod sse;
pub(crate) mod stdio;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use trunkline_wire::{Message, Method, Revision};

use crate::handshake::Handshake;

/// A way to a server, once it stands.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Hands one message to the server.
    ///
    /// Resolves once it is known where the answer will come from; over HTTP that may be as late as the answer
    /// itself. Dropping the future gives the message up: it may have been sent.
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>>;

    /// Called once, when the handshake has agreed on `revision`: HTTP names it in every later request.
    fn agreed(&self, _revision: Revision) {}

    /// Uses no connection again that rests: it may be dead without a sign of it.
    fn renew(&self) {}

    /// Takes leave of the server and gives up what the transport holds, within `grace`. Later sends fail.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;

    /// What `status` shows of it.
    fn facts(&self) -> Facts;
}

/// A message on its way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The whole message, on one line, without the line end.
    pub(crate) text: Bytes,
    /// The id that we minted, if it is a request of ours.
    pub(crate) request: Option<u64>,
    /// Its method; for an answer to the server's own request, the method that is answered.
    pub(crate) method: Method,
    /// What modern HTTP repeats of it in headers, besides the method.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Outgoing {
    /// A message that nothing is repeated of.
    pub(crate) fn new(text: Bytes, request: Option<u64>, method: Method) -> Self {
        Self { text, request, method, headers: Vec::new() }
    }
}

/// Where the answer to a sent message comes from.
pub(crate) enum Sent {
    /// On the shared stream, or there is none to come.
    OnSharedStream,
    /// This is it.
    Reply(Message),
    /// On a stream of its own, which ends after the answer. Other messages may precede it.
    OnOwnStream(MessageStream),
}

/// Messages of the server in the order they came. Ends after an `Err`; an end without one is a clean close.
///
/// One `Err` is not the end: [`FaultPoint::Unreadable`] on a shared stream. A line that is too long or is no JSON
/// costs the request it would have answered, not the connection.
pub(crate) type MessageStream = BoxStream<'static, Result<Message, Broken>>;

/// Why a message could not be sent, or was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct SendError {
    /// How far it got.
    pub(crate) fault: FaultPoint,
    /// What was seen, as a fragment: no secret, no server name, no final stop.
    pub(crate) text: String,
    /// When the server asked to be tried again.
    pub(crate) retry_after: Option<Duration>,
}

/// Why a stream of messages ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Broken {
    /// What it means for the requests whose answers it owed.
    pub(crate) fault: FaultPoint,
    /// What was seen, as a fragment: no secret, no server name, no final stop.
    pub(crate) text: String,
    /// With [`FaultPoint::Unreadable`], the id of ours that the message would have answered, if that could still be
    /// read. Where it could not, the message answered the only request that is pending, if there is just one.
    pub(crate) request: Option<u64>,
}

/// Where a message failed: the columns A to G of the retry table (reliability 5), and two that need more than a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FaultPoint {
    /// A: no byte of it was written.
    NothingSent,
    /// B: the server refused it before doing anything.
    RefusedBeforeRun,
    /// C: written, then the connection died without a byte of answer.
    LostUnanswered,
    /// D: the server, or a proxy before it, failed.
    ServerFailed,
    /// E: the answer began and broke.
    BrokenMidway,
    /// G: the answer is no message, or too large.
    Unreadable,
    /// B, after a new handshake: the server no longer knows the session.
    SessionGone,
    /// The server wants a credential, or another one.
    NeedsAuth,
}

/// What `status` shows of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `stdio`, `http` or `sse`.
    pub(crate) kind: &'static str,
    /// Process id of the child, over stdio.
    pub(crate) pid: Option<u32>,
    /// `open`, `connecting` or `unsupported`, over streamable HTTP.
    pub(crate) get_stream: Option<&'static str>,
}

/// A connection with the handshake done.
pub(crate) struct Dialed {
    /// The way to the server.
    pub(crate) transport: Arc<dyn Transport>,
    /// What belongs to no request of ours: stdout, the SSE stream, or the GET stream. Its end is the connection's end.
    pub(crate) shared: MessageStream,
    /// What the server said of itself.
    pub(crate) handshake: Handshake,
    /// The first id that is still free.
    pub(crate) next_id: u64,
}
