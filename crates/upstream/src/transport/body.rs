//! The body of a response: read whole within bounds, read as events, shown in part, or discarded.
//!
//! A body that was not read to its end costs the connection, and a server that streams its answers would cost one
//! connection per call: the end marker often comes a moment after the answer. So what is discarded is read on for a
//! short while by a task of its own.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use memmap2::MmapMut;
use tokio::sync::Semaphore;
use trunkline_telemetry::redact::{self, Scrubber};
use trunkline_wire::sse::{Decoder, Event};
use trunkline_wire::{Budget, Charge};

use super::direct::Answering;

/// As much of a foreign body as is ever shown (S-13).
const EXCERPT_BYTES: usize = 2 * 1024;

/// How long the body of a refusal may take, and how long and how far a discarded one is read on for its end.
const DISCARD_TIME: Duration = Duration::from_secs(2);
const DISCARD_BYTES: usize = 64 * 1024;

/// From this size on a body of known length gets memory of its own; below it a mapping costs more than it gives back.
const MAPPED_BYTES_MIN: usize = 4 * 1024 * 1024;

/// Bodies discarded at the same time; beyond it the connections are given up.
static DISCARDS: Semaphore = Semaphore::const_new(128);

/// What is still to come of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// From a connection of our own stack.
    Direct(Answering),
    /// From reqwest.
    Full(reqwest::Body),
}

/// What may be buffered: per message, and charged to the gateway's budget.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) message_bytes: usize,
    pub(crate) budget: Budget,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection broke.
    #[error("the connection broke while the answer came")]
    Broke,
    /// Larger than a message may be.
    #[error("the answer is larger than {0} bytes (`limits.upstream_message_bytes`)")]
    TooLarge(usize),
    /// Too much is buffered already.
    #[error("the answer found no room in the buffers (`limits.buffer_bytes`)")]
    NoRoom,
}

impl Body {
    /// The next piece of the body; `None` at its end.
    async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match self.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    // Trailers mean nothing to us.
                    Err(_trailers) => {}
                },
                Err(_) => return Some(Err(BodyError::Broke)),
            }
        }
    }

    /// Reads the whole body into one piece of memory; without a copy if it came in one piece.
    pub(crate) async fn collect(mut self, bounds: &Bounds) -> Result<Bytes, BodyError> {
        let too_large = || BodyError::TooLarge(bounds.message_bytes);
        let expected = usize::try_from(self.size_hint().lower()).map_err(|_| too_large())?;
        if expected > bounds.message_bytes {
            return Err(too_large());
        }
        let Some(first) = self.chunk().await else {
            return Ok(Bytes::new());
        };
        let first = first?;
        if self.is_end_stream() && first.len() <= bounds.message_bytes {
            return Ok(first);
        }
        let mut charge = bounds.budget.charge(expected.max(first.len())).map_err(|_| BodyError::NoRoom)?;
        if self.size_hint().exact().is_some() && expected >= MAPPED_BYTES_MIN {
            return self.collect_mapped(first, expected).await;
        }
        let mut whole = BytesMut::with_capacity(charge.bytes());
        whole.extend_from_slice(&first);
        drop(first);
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            let wanted = whole.len() + chunk.len();
            if wanted > bounds.message_bytes {
                return Err(too_large());
            }
            if wanted > charge.bytes() {
                charge.grow(wanted - charge.bytes()).map_err(|_| BodyError::NoRoom)?;
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Reads a large body, `first` and what follows it, `length` bytes in all, into memory of its own.
    ///
    /// The allocator would keep such pieces for later, once per thread: two clients with answers of 16 MiB made that
    /// 89 MiB. A mapping goes back to the system with its last reader.
    async fn collect_mapped(mut self, first: Bytes, length: usize) -> Result<Bytes, BodyError> {
        let mut whole = MmapMut::map_anon(length).map_err(|_| BodyError::NoRoom)?;
        let mut filled = 0;
        let mut chunk = first;
        loop {
            let room = whole.get_mut(filled..filled + chunk.len()).ok_or(BodyError::Broke)?;
            room.copy_from_slice(&chunk);
            filled += chunk.len();
            let Some(next) = self.chunk().await else { break };
            chunk = next?;
        }
        Ok(Bytes::from_owner(whole).slice(..filled))
    }

    /// Reads at most `max` bytes of the body, for a look at what it may be. Does not wait for long.
    pub(crate) async fn peek(mut self, max: usize) -> Bytes {
        let mut seen = BytesMut::new();
        let look = async {
            while seen.len() < max
                && let Some(Ok(chunk)) = self.chunk().await
            {
                seen.extend_from_slice(&chunk[..chunk.len().min(max - seen.len())]);
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, look).await;
        self.discard();
        seen.freeze()
    }

    /// Lets the rest go by, so that the connection can be used again.
    pub(crate) fn discard(mut self) {
        // The end is often there already.
        if self.is_end_stream() || matches!(self.chunk().now_or_never(), Some(None | Some(Err(_)))) {
            return;
        }
        let Ok(permit) = DISCARDS.try_acquire() else {
            return;
        };
        trunkline_telemetry::spawn("discard", async move {
            let read_on = async {
                let mut left = DISCARD_BYTES;
                while let Some(Ok(chunk)) = self.chunk().await {
                    left = left.saturating_sub(chunk.len());
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(DISCARD_TIME, read_on).await;
            drop(permit);
        });
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Direct(body) => Pin::new(body).poll_frame(cx).map_err(|_| BodyError::Broke),
            Self::Full(body) => Pin::new(body).poll_frame(cx).map_err(|_| BodyError::Broke),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Direct(body) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Direct(body) => body.size_hint(),
            Self::Full(body) => body.size_hint(),
        }
    }
}

/// The events of a response (mcp-protocol 4.10).
#[derive(Debug)]
pub(crate) struct Events {
    body: Body,
    decoder: Decoder,
    bounds: Bounds,
    /// For what the decoder holds back.
    charge: Option<Charge>,
}

impl Events {
    /// Reads `body` as a stream of events.
    pub(crate) fn new(body: Body, bounds: Bounds) -> Self {
        Self { body, decoder: Decoder::new(bounds.message_bytes), bounds, charge: None }
    }

    /// The next event; `None` at the end. An event that is too large is skipped with [`BodyError::TooLarge`], the
    /// other errors are the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, BodyError>> {
        loop {
            match self.decoder.next() {
                Some(Ok(event)) => return Some(Ok(event)),
                Some(Err(too_large)) => return Some(Err(BodyError::TooLarge(too_large.limit))),
                None => {}
            }
            if self.hold().is_err() {
                return Some(Err(BodyError::NoRoom));
            }
            match self.body.chunk().await? {
                Ok(chunk) => self.decoder.push(chunk),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Lets the rest of the body go by.
    pub(crate) fn discard(self) {
        self.body.discard();
    }

    /// Charges what the decoder holds back to the budget.
    fn hold(&mut self) -> Result<(), trunkline_wire::OutOfBudget> {
        let held = self.decoder.held();
        match &mut self.charge {
            charge if held == 0 => *charge = None,
            Some(charge) if held > charge.bytes() => charge.grow(held - charge.bytes())?,
            Some(_) => {}
            charge @ None => *charge = Some(self.bounds.budget.charge(held)?),
        }
        Ok(())
    }
}

/// What a response is, by its `Content-Type`. The essence alone counts (mcp-protocol 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Events,
    Other,
}

/// Reads the content type.
pub(crate) fn kind(headers: &HeaderMap) -> Kind {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Kind::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Kind::Events
    } else {
        Kind::Other
    }
}

/// As much of a foreign body as may be shown: without secrets, control characters, and mark-up.
pub(crate) fn excerpt(body: &[u8], scrubber: &Scrubber) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]);
    let text = text.trim();
    if text.starts_with('<') {
        return "an HTML page".to_owned();
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    redact::printable(&scrubber.scrub(&words), EXCERPT_BYTES)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_essence_of_a_content_type_counts() {
        let of = |value| kind(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]));
        assert_eq!(of("Application/JSON; charset=utf-8"), Kind::Json);
        assert_eq!(of("text/event-stream;charset=utf-8"), Kind::Events);
        assert_eq!(of("application/jsonp"), Kind::Other);
        assert_eq!(kind(&HeaderMap::new()), Kind::Other);
    }

    #[test]
    fn s13_an_excerpt_holds_neither_secrets_nor_pages() {
        let scrubber = Scrubber::new(["hunter2!".to_owned()]);
        assert_eq!(excerpt(b"bad token\n hunter2!\x1b[2J", &scrubber), "bad token ***\\u{1b}[2J");
        assert_eq!(excerpt(b" <!doctype html>...", &scrubber), "an HTML page");
        assert!(excerpt(&[b'x'; 10_000], &scrubber).len() < 2100);
    }
}
