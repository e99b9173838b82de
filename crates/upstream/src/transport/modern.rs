//! Streamable HTTP of 2026-07-28 (mcp-protocol 4.4): one POST per request, answered as JSON or on a stream of events,
//! and nothing else. No session, no GET, no DELETE.
//!
//! Nothing is resumed: a stream that ends before its answer has lost it, and whoever may ask again does so with a new id
//! (`retry.rs`). Dropping the future of a POST, or the stream of its answer, is the way to cancel, because it closes
//! the connection. What the server has to say unasked comes on the stream of a `subscriptions/listen` (`listening.rs`).
//!
//! The headers repeat what the body says, so that whoever stands between can route by them.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use trunkline_wire::{Id, Message, Method, Response, Revision, headers};

use super::answer::{answer_stream, json_answer, without_answer};
use super::body::Kind;
use super::client::{Address, Answer};
use super::failure::Failure;
use super::peer::{MCP_PROTOCOL_VERSION, Peer};
use super::{Facts, MessageStream, Outgoing, SendError, Sent, Transport, body};
use crate::era;

const MCP_METHOD: HeaderName = HeaderName::from_static(headers::METHOD);
const MCP_NAME: HeaderName = HeaderName::from_static(headers::NAME);

/// A way to a modern server behind a URL.
pub(crate) struct ModernTransport {
    peer: Peer,
    /// What each POST carries, with room for the method.
    headers: HeaderMap,
    /// The same, with room for a name as well: a map that has to grow costs more than all else in it.
    named: HeaderMap,
    /// Where the server is, if a redirect within the origin led there.
    moved: OnceLock<Address>,
    /// We took our leave.
    closed: CancellationToken,
}

impl ModernTransport {
    /// A transport to `peer`, by this revision; nothing is sent yet.
    pub(crate) fn new(peer: Peer, revision: Revision) -> Self {
        let mut headers = peer.headers.clone();
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        headers.insert(MCP_METHOD, HeaderValue::from_static(""));
        let mut named = headers.clone();
        named.insert(MCP_NAME, HeaderValue::from_static(""));
        Self { peer, headers, named, moved: OnceLock::new(), closed: CancellationToken::new() }
    }

    /// Says nothing, and ends when we take our leave: no stream belongs to the connection as a whole.
    pub(crate) fn shared(&self) -> MessageStream {
        stream::once(self.closed.clone().cancelled_owned()).filter_map(|()| std::future::ready(None)).boxed()
    }

    /// Posts one message. As [`Transport::send`], with all that was seen of a failure.
    pub(crate) async fn post(&self, out: &Outgoing) -> Result<Sent, Failure> {
        let address = self.moved.get().unwrap_or(&self.peer.address);
        let mut own = Vec::with_capacity(1 + out.headers.len());
        own.push((MCP_METHOD, method_value(&out.method)));
        own.extend(out.headers.iter().cloned());
        let is_named = own.iter().any(|(name, _)| *name == MCP_NAME);
        let common = if is_named { &self.named } else { &self.headers };
        let answer = self.peer.client.send_with(http::Method::POST, address, common, &own, out.text.clone()).await?;
        if let Some(moved) = &answer.moved {
            let _ = self.moved.set(moved.clone());
        }
        if !answer.status.is_success() {
            return self.refused(answer, out).await.map(|response| Sent::Reply(Message::Response(response)));
        }
        let Some(request) = out.request else {
            answer.body.discard();
            return Ok(Sent::OnSharedStream);
        };
        match body::kind(&answer.headers) {
            Kind::Events => Ok(Sent::OnOwnStream(answer_stream(self.peer.bounds.clone(), None, answer.body, request))),
            Kind::Json => json_answer(&self.peer, answer.body, request).await,
            Kind::Other => Err(without_answer(&self.peer, answer).await),
        }
    }

    /// What a status other than 2xx means: an error in the body is the answer, whatever the status (reliability 5), but
    /// for want of a credential, and of the probe also for load and failure, which say nothing about the era.
    async fn refused(&self, answer: Answer, out: &Outgoing) -> Result<Response, Failure> {
        let status = answer.status.as_u16();
        let counts =
            if out.method == Method::Discover { era::says_something(status) } else { !matches!(status, 401 | 403) };
        let (seen, verdict) = self.peer.look_at_refusal(answer, false).await;
        let Some(request) = out.request.filter(|_| counts) else { return Err(verdict) };
        match Message::parse(&seen) {
            Ok(Message::Response(mut response)) if response.outcome.is_err() => match &response.id {
                Some(id) if id.minted() != Some(request) => Err(verdict),
                // A server that refuses before it reads the id has none to give back.
                None | Some(_) => {
                    response.id = Some(Id::from(request));
                    Ok(response)
                }
            },
            Ok(_) | Err(_) => Err(verdict),
        }
    }
}

/// What `Mcp-Method` says.
fn method_value(method: &Method) -> HeaderValue {
    if let Method::Other(name) = method {
        return HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
    HeaderValue::from_static(method.label())
}

impl Transport for ModernTransport {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(async move { self.post(&out).await.map_err(SendError::from) })
    }

    fn renew(&self) {
        self.peer.client.renew();
    }

    fn close(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        // There is nothing to take leave of.
        self.closed.cancel();
        std::future::ready(()).boxed()
    }

    fn facts(&self) -> Facts {
        Facts { kind: "http", pid: None, get_stream: None }
    }
}

#[cfg(test)]
mod tests;
