//! Reading a POST: what its headers say of form, and its body within bounds of size, time and memory.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Response, StatusCode};
use tokio::time::timeout;
use trunkline_config::Limits;
use trunkline_hub::Wants;
use trunkline_wire::{Budget, Charge};

use crate::body::Body;
use crate::limits::DISCARD_TIMEOUT;
use crate::reply::{closing, plain, with_retry_after};

/// A body, and what it takes of the budget while it is worked on.
pub(crate) struct Incoming {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Why a body was not read. The connection is of no use any more, for the rest of the body stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge,
    TooSlow,
    Broken,
    NoRoom,
}

/// Whether the body is declared as JSON. Parameters do not matter (S-4, G-5).
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// What forms of answer `Accept` allows. None at all, or `*/*`, allows both.
pub(crate) fn wants(headers: &HeaderMap) -> Wants {
    let mut wants = Wants { json: false, sse: false };
    let mut listed = false;
    for range in headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let essence = parts.next().unwrap_or_default();
        listed |= !essence.is_empty();
        if parts.any(is_zero_quality) {
            continue;
        }
        let is = |text: &str| essence.eq_ignore_ascii_case(text.as_bytes());
        wants.json |= is("application/json") || is("application/*") || is("*/*");
        wants.sse |= is("text/event-stream") || is("text/*") || is("*/*");
    }
    if listed { wants } else { Wants { json: true, sse: true } }
}

/// `q=0` in any of its spellings: this form is refused.
fn is_zero_quality(parameter: &[u8]) -> bool {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    value.is_some_and(|value| value.first() == Some(&b'0') && value.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

/// Reads a body within the limits of its size and time.
pub(crate) async fn read<B>(
    mut body: B,
    headers: &HeaderMap,
    limits: &Limits,
    budget: &Budget,
) -> Result<Incoming, Unread>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (limit, time) = (limits.request_body_bytes, limits.body_read);
    let outcome = {
        let mut collected = pin!(collect(&mut body, limit, budget));
        match at_once(collected.as_mut()).await {
            Some(outcome) => outcome,
            None => timeout(time, collected).await.unwrap_or(Err(Unread::TooSlow)),
        }
    };
    // A client that is cut off in mid-body often never reads the answer. Unless it asked before sending,
    // it gets a moment to finish.
    if outcome.as_ref().err() == Some(&Unread::TooLarge) && !headers.contains_key(EXPECT) {
        let _ = timeout(DISCARD_TIMEOUT, async { while next(&mut body).await.is_some() {} }).await;
    }
    outcome
}

/// Asks for what comes when it is asked for: a small body came with its head, and the library hands it over in the
/// next round. So it needs neither a clock nor to wake anybody: the first asking leaves no waker, and comes back.
async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(None);
        }
        let answer = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if answer.is_pending() {
            context.waker().wake_by_ref();
        }
        answer.map(Some)
    })
    .await
}

async fn collect<B>(body: &mut B, limit: usize, budget: &Budget) -> Result<Incoming, Unread>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit {
        return Err(Unread::TooLarge);
    }
    let mut charge = budget.charge(declared).map_err(|_| Unread::NoRoom)?;
    let mut charged = declared;
    let Some(first) = next(body).await.transpose()? else { return Ok(Incoming { bytes: Bytes::new(), charge }) };
    // The usual request came in one piece, which is taken as it lies.
    if first.len() == declared {
        return Ok(Incoming { bytes: first, charge });
    }
    let mut bytes = BytesMut::with_capacity(declared.max(first.len()));
    let mut piece = Some(first);
    while let Some(data) = piece {
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(Unread::TooLarge);
        }
        if length > charged {
            charge.grow(length - charged).map_err(|_| Unread::NoRoom)?;
            charged = length;
        }
        bytes.extend_from_slice(&data);
        piece = next(body).await.transpose()?;
    }
    Ok(Incoming { bytes: bytes.freeze(), charge })
}

/// The next piece of data; trailers are passed over.
async fn next<B>(body: &mut B) -> Option<Result<Bytes, Unread>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_trailers) => {}
            },
            Err(_) => return Some(Err(Unread::Broken)),
        }
    }
}

impl Unread {
    /// The label under which it is counted.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "body_size",
            Self::TooSlow => "body_time",
            Self::Broken => "body_broken",
            Self::NoRoom => "buffers",
        }
    }

    /// What the client hears. No id is known yet, so it is text.
    pub(crate) fn response(self) -> Response<Body> {
        let (status, text) = match self {
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than `limits.request_body_bytes` allows")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive within `limits.body_read_sec`"),
            Self::Broken => (StatusCode::BAD_REQUEST, "the body ended before its end"),
            Self::NoRoom => {
                let text = "the gateway's buffers are full (`limits.buffer_bytes`); try again in a second";
                let response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
                return closing(with_retry_after(response, std::time::Duration::from_secs(1)));
            }
        };
        closing(plain(status, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(values: &[&str]) -> (bool, bool) {
        let headers = values.iter().map(|value| (ACCEPT, value.parse().expect("a value"))).collect();
        let Wants { json, sse } = wants(&headers);
        (json, sse)
    }

    #[test]
    fn accept_is_read_leniently() {
        for (values, expected) in [
            (&[][..], (true, true)),
            (&[""], (true, true)),
            (&["*/*"], (true, true)),
            (&["application/json, text/event-stream"], (true, true)),
            (&["text/event-stream", "application/json"], (true, true)),
            (&["Text/Event-Stream;q=0.5, APPLICATION/*"], (true, true)),
            (&["application/json"], (true, false)),
            (&["text/event-stream"], (false, true)),
            (&["application/json;q=0.0, text/*"], (false, true)),
            (&["text/html"], (false, false)),
            (&["application/json;q=0"], (false, false)),
        ] {
            assert_eq!(accept(values), expected, "{values:?}");
        }
    }

    #[test]
    fn s04_g5_only_json_is_json() {
        let is = |value: &str| is_json(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().expect("a value"))]));
        for fine in ["application/json", "application/json; charset=utf-8", "Application/JSON ;x=y"] {
            assert!(is(fine), "{fine}");
        }
        for not in ["text/plain", "application/json-rpc", "application/x-www-form-urlencoded", ""] {
            assert!(!is(not), "{not}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
