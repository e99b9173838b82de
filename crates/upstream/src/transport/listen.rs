//! The GET stream of streamable HTTP: what the server says without being asked (mcp-protocol 4.3).
//!
//! It is the connection's shared stream, so it lasts as long as the connection: where the server offers none, it
//! waits in silence for the end. It ends with an error when the server forgot the session, or is no longer there.
//!
//! R-12 asks for a new handshake after three empty streams. A server that closes every GET stream at once would then
//! be shaken hands with for ever although its calls work; so the event id is dropped, and the stream is asked for
//! again ever less often, at last once a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_stream::stream;
use tokio::time::sleep;
use trunkline_wire::Message;

use super::answer::{Cursor, FAILURES_MAX, is_message};
use super::body::{BodyError, Events};
use super::failure::Seen;
use super::http::Connection;
use super::{Broken, FaultPoint, MessageStream};

/// How it stands with the GET stream, for `status`.
#[derive(Debug, Default)]
pub(super) struct GetStream(AtomicU8);

const CONNECTING: u8 = 0;
const OPEN: u8 = 1;
const UNSUPPORTED: u8 = 2;

impl GetStream {
    pub(super) fn label(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            OPEN => "open",
            UNSUPPORTED => "unsupported",
            _ => "connecting",
        }
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// The messages on the GET stream of `connection`.
pub(super) fn listen(connection: Arc<Connection>) -> MessageStream {
    Box::pin(stream! {
        let mut listener = Listener { connection: Arc::clone(&connection), events: None, cursor: Cursor::default(), was_open: false };
        loop {
            let next = tokio::select! {
                biased;
                () = connection.closed.cancelled() => return,
                () = connection.gone.cancelled() => {
                    Err(Broken { fault: FaultPoint::SessionGone, text: "the server no longer knows the session".to_owned(), request: None })
                }
                next = listener.next() => next,
            };
            let last = next.as_ref().is_err_and(|broken| broken.fault != FaultPoint::Unreadable);
            yield next;
            if last {
                return;
            }
        }
    })
}

struct Listener {
    connection: Arc<Connection>,
    events: Option<Events>,
    cursor: Cursor,
    /// It stood at least once, so the server offers it.
    was_open: bool,
}

impl Listener {
    /// The next message; waits for ever where the server offers no stream.
    async fn next(&mut self) -> Result<Message, Broken> {
        loop {
            let Some(events) = &mut self.events else {
                self.open().await?;
                continue;
            };
            match events.next().await {
                Some(Ok(event)) => {
                    self.cursor.note(&event);
                    if is_message(&event) {
                        let unreadable = |malformed| Broken {
                            fault: FaultPoint::Unreadable,
                            text: format!("sent an event that is no message, {malformed}"),
                            request: None,
                        };
                        return Message::parse(&event.data).map_err(unreadable);
                    }
                }
                Some(Err(error @ (BodyError::TooLarge(_) | BodyError::NoRoom))) => {
                    // The decoder skips what is too large; without room there is no point in reading on at once.
                    if error == BodyError::NoRoom {
                        self.events = None;
                    }
                    return Err(Broken { fault: FaultPoint::Unreadable, text: error.to_string(), request: None });
                }
                Some(Err(BodyError::Broke)) | None => {
                    self.events = None;
                    self.connection.get_stream.set(CONNECTING);
                    self.cursor.failures += 1;
                    if self.cursor.failures > FAILURES_MAX {
                        self.cursor.last_event_id = None;
                    }
                    sleep(self.cursor.pause()).await;
                }
            }
        }
    }

    /// Opens the stream, as often as it takes.
    async fn open(&mut self) -> Result<(), Broken> {
        loop {
            let failure = match self.connection.get(self.cursor.last_event_id.as_deref()).await {
                Ok(body) => {
                    self.connection.get_stream.set(OPEN);
                    self.was_open = true;
                    self.events = Some(Events::new(body, self.connection.peer.bounds.clone()));
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.cursor.failures += 1;
            match failure.seen {
                Seen::Status(status) if status == 404 && self.was_open && self.connection.in_session() => {
                    self.connection.gone.cancel();
                }
                Seen::Status(status)
                    if status.is_success() || status.is_client_error() && !is_transient(status) || status == 501 =>
                {
                    // no such stream. Remembered for this connection.
                    self.connection.get_stream.set(UNSUPPORTED);
                    std::future::pending::<()>().await;
                }
                // A stream that stood, and now twice nobody listens: the server is gone, and with it the session.
                Seen::Unreachable
                    if self.was_open && self.cursor.failures > 2 && failure.point == FaultPoint::NothingSent =>
                {
                    return Err(Broken { fault: FaultPoint::BrokenMidway, text: failure.text, request: None });
                }
                Seen::Unreachable | Seen::Tls | Seen::Setting | Seen::Status(_) | Seen::Other => {}
            }
            sleep(failure.retry_after.unwrap_or_default().max(self.cursor.pause())).await;
        }
    }
}

/// Statuses that say "later": 409 comes from a server that thinks a stream is still open.
fn is_transient(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 425 | 429)
}
