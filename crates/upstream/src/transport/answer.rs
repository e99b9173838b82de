//! How a POST is answered: as one JSON body, or on a stream, and how that is resumed (mcp-protocol 4.3).
//!
//! A server may close the stream at any time and leave it to us to come back: then a GET that names the last event
//! id continues it, after the wait that the server asked for. Every event that comes resets the count of failures;
//! after three attempts without one the answer counts as lost (reliability 5, R-12). A server that has forgotten the
//! stream does not make the request unsent: the outcome is unknown, and it is not sent again.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use tokio::time::sleep;
use trunkline_wire::sse::Event;
use trunkline_wire::{Id, Message, parse_batch};

use super::body::{Body, BodyError, Bounds, Events};
use super::client::Answer;
use super::failure::{Failure, Seen};
use super::http::Connection;
use super::peer::{Peer, said};
use super::{Broken, FaultPoint, MessageStream, Sent};

/// Attempts in a row that may bring nothing.
pub(super) const FAILURES_MAX: u32 = 3;

/// What a server may ask us to wait.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// What we wait if it asks for nothing (mcp-protocol 4.3).
const RETRY_DEFAULT: Duration = Duration::from_secs(1);

/// How far a stream was read.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    pub(super) last_event_id: Option<Box<str>>,
    retry: Option<Duration>,
    /// Attempts in a row that brought nothing.
    pub(super) failures: u32,
}

impl Cursor {
    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event) {
        self.failures = 0;
        match &event.id {
            Some(id) if id.is_empty() => self.last_event_id = None,
            Some(id) => self.last_event_id = Some(id.clone()),
            None => {}
        }
        self.retry = event.retry.map(Duration::from_millis).or(self.retry);
    }

    /// How long to wait before the next attempt: what the server asked for, and from the second failure on more,
    /// spread at random so that many streams do not come back at the same moment.
    pub(super) fn pause(&self) -> Duration {
        let base = self.retry.unwrap_or(RETRY_DEFAULT).clamp(RETRY_MIN, RETRY_MAX);
        let most = base.saturating_mul(1 << self.failures.saturating_sub(1).min(7)).min(RETRY_MAX);
        base + most.saturating_sub(base).mul_f64(fastrand::f64())
    }
}

/// Whether an event holds a message, rather than a priming id or something that we do not know.
pub(super) fn is_message(event: &Event) -> bool {
    !event.data.is_empty() && event.event.as_deref().is_none_or(|kind| kind == "message")
}

/// The messages on the stream that answers `request`, up to and with the answer. `source`: where it can be resumed.
pub(super) fn answer_stream(
    bounds: Bounds,
    source: Option<Arc<Connection>>,
    body: Body,
    request: u64,
) -> MessageStream {
    Box::pin(stream! {
        let mut cursor = Cursor::default();
        let mut events = Events::new(body, bounds.clone());
        // Why the answer may be among what we could not read.
        let mut unreadable = None;
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    cursor.note(&event);
                    if !is_message(&event) {
                        continue;
                    }
                    match Message::parse(&event.data) {
                        Ok(message) if answers(&message, request) => {
                            events.discard();
                            yield Ok(message);
                            return;
                        }
                        Ok(message) => yield Ok(message),
                        Err(malformed) => unreadable = Some(format!("sent an event that is no message, {malformed}")),
                    }
                    continue;
                }
                Some(Err(error @ (BodyError::TooLarge(_) | BodyError::NoRoom))) => {
                    yield Err(broken(FaultPoint::Unreadable, error.to_string(), request));
                    return;
                }
                Some(Err(BodyError::Broke)) | None => {}
            }
            if let Some(text) = unreadable {
                yield Err(broken(FaultPoint::Unreadable, text, request));
                return;
            }
            match resume(source.as_deref(), &mut cursor).await {
                Ok(body) => events = Events::new(body, bounds.clone()),
                Err(text) => {
                    yield Err(broken(FaultPoint::BrokenMidway, text, request));
                    return;
                }
            }
        }
    })
}

/// Opens the stream again behind the last event. Fails with what was seen when that is of no use.
async fn resume(source: Option<&Connection>, cursor: &mut Cursor) -> Result<Body, String> {
    let (Some(connection), Some(last)) = (source, cursor.last_event_id.clone()) else {
        return Err("the stream of the answer ended without it".to_owned());
    };
    loop {
        cursor.failures += 1;
        if cursor.failures > FAILURES_MAX {
            return Err(
                "the stream of the answer ended without it, and could not be resumed in three attempts".to_owned()
            );
        }
        sleep(cursor.pause()).await;
        match connection.get(Some(&last)).await {
            Ok(body) => return Ok(body),
            Err(failure) => match failure.point {
                FaultPoint::NothingSent
                | FaultPoint::RefusedBeforeRun
                | FaultPoint::LostUnanswered
                | FaultPoint::ServerFailed => {}
                FaultPoint::BrokenMidway | FaultPoint::Unreadable | FaultPoint::SessionGone | FaultPoint::NeedsAuth => {
                    return Err(format!(
                        "the stream of the answer ended without it; asked to resume it, the server {}",
                        failure.text
                    ));
                }
            },
        }
    }
}

/// Reads an answer that is one JSON body.
pub(super) async fn json_answer(peer: &Peer, body: Body, request: u64) -> Result<Sent, Failure> {
    let text = body.collect(&peer.bounds).await.map_err(|error| body_failure(&error))?;
    if let Some(members) = parse_batch(&text) {
        // A server of 2025-03-26 may answer so; its members come one by one.
        let members: Vec<_> = members.into_iter().flatten().filter_map(Result::ok).map(Ok).collect();
        return Ok(Sent::OnOwnStream(Box::pin(futures_util::stream::iter(members))));
    }
    let unreadable = |what: &str| {
        let text = format!("{what}: {}", peer.excerpt(&text));
        Failure::new(FaultPoint::Unreadable, Seen::Other, text)
    };
    if text.is_empty() {
        return Err(Failure::new(FaultPoint::Unreadable, Seen::Other, "answered a request with an empty body"));
    }
    match Message::parse(&text) {
        Ok(Message::Response(mut response)) => {
            match &response.id {
                Some(id) if id.minted() == Some(request) => {}
                // The server could not read our id, or did not try: the answer to this POST it is.
                None if response.outcome.is_err() => response.id = Some(Id::from(request)),
                None | Some(_) => return Err(unreadable("answered another request than the one sent")),
            }
            Ok(Sent::Reply(Message::Response(response)))
        }
        Ok(Message::Request(_) | Message::Notification(_)) => Err(unreadable("answered a request with another")),
        Err(malformed) => Err(unreadable(&format!("answered with what is no message, {malformed}"))),
    }
}

/// What it means that a request was accepted with neither JSON nor a stream.
pub(super) async fn without_answer(peer: &Peer, answer: Answer) -> Failure {
    let what = match answer.status.as_u16() {
        202 | 204 => format!("answered a request with {}, which holds no answer", answer.status),
        _ => format!("answered with {} instead of JSON or a stream of events", said(&answer.headers)),
    };
    peer.unreadable(&what, answer.body).await
}

/// What it means for a request that the body of its answer cannot be read.
fn body_failure(error: &BodyError) -> Failure {
    let point = match error {
        BodyError::Broke => FaultPoint::BrokenMidway,
        BodyError::TooLarge(_) | BodyError::NoRoom => FaultPoint::Unreadable,
    };
    Failure::new(point, Seen::Other, error.to_string())
}

fn answers(message: &Message, request: u64) -> bool {
    matches!(message, Message::Response(response) if response.id.as_ref().and_then(Id::minted) == Some(request))
}

fn broken(fault: FaultPoint, text: String, request: u64) -> Broken {
    Broken { fault, text, request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r11_the_servers_wish_is_honoured_within_bounds() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.pause(), RETRY_DEFAULT);
        cursor.note(&Event { retry: Some(1), ..Event::default() });
        assert_eq!(cursor.pause(), RETRY_MIN);
        cursor.note(&Event { retry: Some(3_600_000), ..Event::default() });
        cursor.failures = 100;
        assert_eq!(cursor.pause(), RETRY_MAX);
    }

    #[test]
    fn an_empty_id_ends_resumability() {
        let mut cursor = Cursor::default();
        cursor.note(&Event { id: Some("7".into()), ..Event::default() });
        cursor.note(&Event::default());
        assert_eq!(cursor.last_event_id.as_deref(), Some("7"));
        cursor.note(&Event { id: Some("".into()), ..Event::default() });
        assert_eq!(cursor.last_event_id, None);
    }
}
