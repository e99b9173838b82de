//! The stream on which a POST is answered, and how it is resumed (mcp-protocol 4.3).
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
use trunkline_wire::{Id, Message};

use super::body::{Body, BodyError, Events};
use super::http::Connection;
use super::{Broken, FaultPoint, MessageStream};

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

/// The messages on the stream that answers `request`, up to and with the answer.
pub(super) fn answer_stream(connection: Arc<Connection>, body: Body, request: u64) -> MessageStream {
    Box::pin(stream! {
        let mut cursor = Cursor::default();
        let mut events = Events::new(body, connection.peer.bounds.clone());
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
            match resume(&connection, &mut cursor).await {
                Ok(body) => events = Events::new(body, connection.peer.bounds.clone()),
                Err(text) => {
                    yield Err(broken(FaultPoint::BrokenMidway, text, request));
                    return;
                }
            }
        }
    })
}

/// Opens the stream again behind the last event. Fails with what was seen when that is of no use.
async fn resume(connection: &Connection, cursor: &mut Cursor) -> Result<Body, String> {
    let Some(last) = cursor.last_event_id.clone() else {
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
    fn the_servers_wish_is_honoured_within_bounds() {
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
