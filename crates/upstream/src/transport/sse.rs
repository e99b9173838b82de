//! Legacy HTTP+SSE (mcp-protocol 4.2): one stream of events from the server, and an address to post to that the
//! stream announces first.
//!
//! The announced address is text that the server chose, so it must lie within the stream's own origin, and nothing is
//! sent to it otherwise (S-39). A POST is only acknowledged; its answer comes on the stream. The stream is the
//! session: when it ends, or announces another address, the connection is over and a new one is dialled. Silence on
//! it is no fault.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_stream::stream;
use futures_util::future::BoxFuture;
use http::header::{HeaderMap, HeaderValue};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_wire::{Message, Revision};

use super::answer::is_message;
use super::body::{BodyError, Events};
use super::client::{Address, Strayed};
use super::failure::{Failure, Seen};
use super::peer::{MCP_PROTOCOL_VERSION, Peer};
use super::{Broken, Facts, FaultPoint, MessageStream, Outgoing, SendError, Sent, Transport};

/// How long the stream may take to announce the address (S-39).
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection by HTTP+SSE.
pub(crate) struct SseTransport {
    peer: Peer,
    endpoint: Address,
    /// The headers of every POST once the revision is agreed on.
    settled: OnceLock<HeaderMap>,
    /// The server forgot the session.
    gone: CancellationToken,
    /// We took our leave.
    closed: CancellationToken,
}

impl SseTransport {
    /// Opens the stream and waits for the address to post to.
    pub(crate) async fn connect(peer: Peer) -> Result<(Arc<Self>, MessageStream), Failure> {
        let answer = peer.events(&peer.address, peer.headers.clone(), None).await?;
        let stream_address = answer.moved.unwrap_or_else(|| peer.address.clone());
        let mut events = Events::new(answer.body, peer.bounds.clone());
        let announced = timeout(ENDPOINT_TIMEOUT, announcement(&mut events)).await.unwrap_or_else(|_| {
            let text = "opened a stream of events but announced no `endpoint` on it within 10 s".to_owned();
            Err(Failure::new(FaultPoint::NothingSent, Seen::Other, text))
        })?;
        let endpoint = stream_address.resolve(announced.trim()).map_err(|Strayed(target)| {
            let text = format!("announced {target} to post to, which is not where its stream comes from; refused");
            Failure::new(FaultPoint::NothingSent, Seen::Other, text)
        })?;
        let transport = Arc::new(Self {
            peer,
            endpoint,
            settled: OnceLock::new(),
            gone: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        let shared = messages(events, transport.gone.clone(), transport.closed.clone());
        Ok((transport, shared))
    }

    /// Posts one message. As [`Transport::send`], with all that was seen of a failure.
    pub(crate) async fn post(&self, out: Outgoing) -> Result<Sent, Failure> {
        let headers = self.settled.get().unwrap_or(&self.peer.headers);
        let answer = self.peer.client.send(http::Method::POST, &self.endpoint, headers, out.text).await?;
        if answer.status.is_success() {
            answer.body.discard();
            return Ok(Sent::OnSharedStream);
        }
        match self.peer.refusal_or_error(answer, out.request, true).await {
            Ok(response) => Ok(Sent::Reply(Message::Response(response))),
            Err(failure) => {
                if failure.point == FaultPoint::SessionGone {
                    self.gone.cancel();
                }
                Err(failure)
            }
        }
    }
}

impl Transport for SseTransport {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(async move { self.post(out).await.map_err(SendError::from) })
    }

    fn agreed(&self, revision: Revision) {
        // Older servers know no such header, and some refuse what they do not know.
        if revision >= Revision::V2025_06_18 {
            let mut headers = self.peer.headers.clone();
            headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
            let _ = self.settled.set(headers);
        }
    }

    fn renew(&self) {
        self.peer.client.renew();
    }

    fn close(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        // The stream is the session: closing it is the farewell.
        self.closed.cancel();
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> Facts {
        Facts { kind: "sse", pid: None, get_stream: None }
    }
}

/// Reads up to the `endpoint` event. Older servers may send comments or unknown events before it.
async fn announcement(events: &mut Events) -> Result<String, Failure> {
    loop {
        let text = match events.next().await {
            Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => match std::str::from_utf8(&event.data) {
                Ok(address) => return Ok(address.to_owned()),
                Err(_) => "announced an `endpoint` that is no text".to_owned(),
            },
            Some(Ok(event)) if is_message(&event) => "sent a message before it announced an `endpoint`".to_owned(),
            Some(Ok(_)) => continue,
            Some(Err(error)) => error.to_string(),
            None => "opened a stream of events and ended it before it announced an `endpoint`".to_owned(),
        };
        return Err(Failure::new(FaultPoint::NothingSent, Seen::Other, text));
    }
}

/// The messages on the stream, after the announcement.
fn messages(mut events: Events, gone: CancellationToken, closed: CancellationToken) -> MessageStream {
    Box::pin(stream! {
        loop {
            let next = tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = gone.cancelled() => {
                    let text = "the server no longer knows the session".to_owned();
                    yield Err(Broken { fault: FaultPoint::SessionGone, text, request: None });
                    return;
                }
                next = events.next() => next,
            };
            let (fault, text) = match next {
                Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => {
                    (FaultPoint::BrokenMidway, "the server began a new session on the stream".to_owned())
                }
                Some(Ok(event)) if is_message(&event) => match Message::parse(&event.data) {
                    Ok(message) => {
                        yield Ok(message);
                        continue;
                    }
                    Err(malformed) => {
                        (FaultPoint::Unreadable, format!("sent an event that is no message, {malformed}"))
                    }
                },
                Some(Ok(_)) => continue,
                Some(Err(error @ BodyError::TooLarge(_))) => (FaultPoint::Unreadable, error.to_string()),
                Some(Err(error @ (BodyError::Broke | BodyError::NoRoom))) => {
                    (FaultPoint::BrokenMidway, error.to_string())
                }
                None => (FaultPoint::BrokenMidway, "the server ended its stream of events".to_owned()),
            };
            yield Err(Broken { fault, text, request: None });
            // What cannot be read costs a request, not the stream.
            if fault != FaultPoint::Unreadable {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests;
