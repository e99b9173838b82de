//! Responses: a line of text, one JSON message, or a stream of events.
//!
//! An event is the message's own text on one line; `id` and `retry` come from the gateway alone (S-18). The
//! framing is written by hand, because it is four lines and a payload of many megabytes should be sent as it
//! lies. `event: message` is left out: it is what a nameless event is called. Only the HTTP+SSE transport, whose
//! oldest clients look for it, has it.
//!
//! A call's stream does not end before its answer (R-6): the hub's part of the stream ends with it, and if the
//! daemon must go first, the answer written here says so.

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use trunkline_hub::{Event, EventStream};
use trunkline_wire::{Fault, FaultCode, Id, Outcome, RpcError, Text};

use crate::body::Body;
use crate::limits::{EVENT_COPIED_BYTES, KEEP_ALIVE};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const UNCACHED: HeaderValue = HeaderValue::from_static("no-cache, no-transform");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// One line of text for people.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, TEXT, Body::whole(Bytes::from(format!("{text}\n"))))
}

/// A status alone.
pub(crate) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A value of our own as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    message(status, trunkline_wire::Json::encode(value).into_bytes())
}

/// One JSON-RPC message, or any JSON text.
pub(crate) fn message(status: StatusCode, text: impl Into<Text>) -> Response<Body> {
    respond(status, JSON, Body::whole(text))
}

/// A JSON-RPC error. `id` may be missing only where the body had none to read (mcp-protocol 2.1).
pub(crate) fn error(status: StatusCode, id: Option<Id>, error: &RpcError) -> Response<Body> {
    message(status, trunkline_wire::Response::error(id, error.to_json()).encode())
}

/// Text in a format of its own, such as that of metrics.
pub(crate) fn text_as(content_type: &'static str, text: String) -> Response<Body> {
    respond(StatusCode::OK, HeaderValue::from_static(content_type), Body::whole(Bytes::from(text)))
}

/// The whole messages of `texts` as a stream of one event each.
pub(crate) fn as_events(texts: Vec<Text>) -> Response<Body> {
    let pieces: Vec<Bytes> =
        texts.into_iter().flat_map(|data| write(Event { id: None, data, retry_ms: None })).collect();
    events(futures_util::stream::iter(pieces).boxed())
}

/// A stream of written events.
pub(crate) fn events(pieces: BoxStream<'static, Bytes>) -> Response<Body> {
    let mut response = respond(StatusCode::OK, EVENTS, Body::stream(pieces));
    response.headers_mut().insert(CACHE_CONTROL, UNCACHED);
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Writes the events of a call until its answer. When `stopped` comes first, `last` is its answer.
///
/// `held` lives as long as the stream does.
pub(crate) fn until_answered<H: Send + 'static>(
    events: EventStream,
    stopped: impl Future<Output = ()> + Send + 'static,
    last: impl FnOnce() -> Text + Send + 'static,
    held: H,
) -> BoxStream<'static, Bytes> {
    let last = move || Some(Event { id: None, data: last(), retry_ms: None });
    // A stream that is begun with nothing to say yet was begun to show that somebody is at work: at once.
    written(events, stopped, last, write, Duration::ZERO, held).boxed()
}

/// One event of the HTTP+SSE transport, whose clients are told what each is.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) data: Text,
}

/// Writes named events of a stream that has no end of its own until `stopped`, then tells the client when to come back.
pub(crate) fn named_until_stopped(
    events: BoxStream<'static, Named>,
    stopped: impl Future<Output = ()> + Send + 'static,
    retry: Duration,
) -> BoxStream<'static, Bytes> {
    let retry_ms = u64::try_from(retry.as_millis()).ok();
    let events = events.map(|Named { name, data }| (Some(name), Event { id: None, data, retry_ms: None }));
    let last = move || Some((None, Event { id: None, data: Text::default(), retry_ms }));
    written(events.boxed(), stopped, last, |(name, event)| write_as(name, event), KEEP_ALIVE, ()).boxed()
}

/// Writes named events until they end.
pub(crate) fn until_ended(events: BoxStream<'static, Named>) -> BoxStream<'static, Bytes> {
    let write = |Named { name, data }| write_as(Some(name), Event { id: None, data, retry_ms: None });
    written(events, std::future::pending(), || None, write, KEEP_ALIVE, ()).boxed()
}

/// Writes the events of a stream that has no end of its own until `stopped`, then tells the client when to
/// come back.
pub(crate) fn until_stopped(
    events: EventStream,
    stopped: impl Future<Output = ()> + Send + 'static,
    retry: Duration,
) -> BoxStream<'static, Bytes> {
    let retry_ms = u64::try_from(retry.as_millis()).ok();
    let last = move || Some(Event { id: None, data: Text::default(), retry_ms });
    written(events, stopped, last, write, KEEP_ALIVE, ()).boxed()
}

fn written<E, P, H>(
    mut events: BoxStream<'static, E>,
    stopped: impl Future<Output = ()> + Send + 'static,
    last: impl FnOnce() -> Option<E> + Send + 'static,
    write: impl Fn(E) -> P + Send + 'static,
    first_silence: Duration,
    held: H,
) -> impl Stream<Item = Bytes> + Send + 'static
where
    E: Send + 'static,
    P: Iterator<Item = Bytes> + Send + 'static,
    H: Send + 'static,
{
    enum Step<E> {
        Event(Option<E>),
        Stopped,
        Silent,
    }
    async_stream::stream! {
        let _held = held;
        let mut stopped = pin!(stopped);
        let mut silence = pin!(sleep(first_silence));
        loop {
            let step = tokio::select! {
                biased;
                event = events.next() => Step::Event(event),
                () = stopped.as_mut() => Step::Stopped,
                () = silence.as_mut() => Step::Silent,
            };
            match step {
                Step::Event(Some(event)) => {
                    for piece in write(event) {
                        yield piece;
                    }
                }
                Step::Event(None) => break,
                Step::Stopped => {
                    if let Some(event) = last() {
                        for piece in write(event) {
                            yield piece;
                        }
                    }
                    break;
                }
                Step::Silent => yield COMMENT,
            }
            silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
        }
    }
}

/// Writes one event of the default kind.
fn write(event: Event) -> impl Iterator<Item = Bytes> + Send {
    write_as(None, event)
}

/// Writes one event: in one piece if it is small, around the pieces of its message if it is not.
fn write_as(name: Option<&str>, event: Event) -> impl Iterator<Item = Bytes> + Send + use<> {
    let Event { id, data, retry_ms } = event;
    let copied = data.len() <= EVENT_COPIED_BYTES;
    let mut head = BytesMut::with_capacity(64 + if copied { data.len() } else { 0 });
    if let Some(name) = name {
        put_field(&mut head, b"event: ", name.as_bytes());
    }
    if let Some(id) = &id {
        put_field(&mut head, b"id: ", id.as_bytes());
    }
    if let Some(retry) = retry_ms {
        put_field(&mut head, b"retry: ", retry.to_string().as_bytes());
    }
    // A priming event has an id and an empty payload; a bare `retry` is no event at all.
    let bare_retry = id.is_none() && data.is_empty();
    if !bare_retry {
        head.put_slice(b"data: ");
    }
    let (body, tail) = if copied {
        for piece in data.into_pieces() {
            head.put_slice(&piece);
        }
        head.put_slice(if bare_retry { b"\n" } else { b"\n\n" });
        (Text::default(), Bytes::new())
    } else {
        (data, Bytes::from_static(b"\n\n"))
    };
    let pieces = [head.freeze()].into_iter().chain(body.into_pieces()).chain([tail]);
    pieces.filter(|piece| !piece.is_empty())
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(value);
    out.put_u8(b'\n');
}

/// The answer to a call that the daemon could not wait for (reliability 8).
pub(crate) fn cut_short(id: Id) -> Bytes {
    let fault = Fault {
        code: FaultCode::ShuttingDown,
        server: None,
        text: "the gateway stopped before the server had answered; check what was done before you repeat it".to_owned(),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    };
    trunkline_wire::Response::error(Some(id), fault.to_error().to_json()).encode()
}

/// Adds the verbs that a 405 must name.
pub(crate) fn with_allow(mut response: Response<Body>, verbs: &'static str) -> Response<Body> {
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(verbs));
    response
}

/// Adds when to try again, in whole seconds, at least one.
pub(crate) fn with_retry_after(mut response: Response<Body>, after: Duration) -> Response<Body> {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// Closes the connection behind this response: what the client is still sending is not wanted.
pub(crate) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(event: Event) -> String {
        let pieces: Vec<u8> = write(event).flatten().collect();
        String::from_utf8(pieces).expect("text")
    }

    fn event(id: Option<&str>, data: &str, retry_ms: Option<u64>) -> Event {
        Event { id: id.map(Into::into), data: Bytes::copy_from_slice(data.as_bytes()).into(), retry_ms }
    }

    #[test]
    fn events_are_framed_as_the_standard_says() {
        assert_eq!(text(event(None, "{}", None)), "data: {}\n\n");
        assert_eq!(text(event(Some("s1.MQ.2"), "{}", None)), "id: s1.MQ.2\ndata: {}\n\n");
        assert_eq!(text(event(Some("s1.MQ.0"), "", Some(500))), "id: s1.MQ.0\nretry: 500\ndata: \n\n", "priming");
        assert_eq!(text(event(None, "", Some(1000))), "retry: 1000\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn r6_a_stream_that_must_stop_ends_with_an_answer() {
        let endless = futures_util::stream::pending().boxed();
        let pieces = until_answered(endless, sleep(Duration::from_secs(20)), || cut_short(Id::from(7)).into(), ());
        let pieces: Vec<Bytes> = pieces.collect().await;
        assert_eq!(pieces[..2], [COMMENT, COMMENT], "there was nothing to say, at once and for 15 s");
        let last = std::str::from_utf8(&pieces[2]).expect("text");
        assert!(last.contains(r#""id":7"#) && last.contains("-31005"), "{last}");
        assert_eq!(pieces.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn comments_come_only_in_silence() {
        let spaced = futures_util::stream::unfold(0, |n| async move {
            sleep(Duration::from_secs(if n < 3 { 14 } else { 16 })).await;
            (n < 4).then(|| (event(None, "{}", None), n + 1))
        });
        let pieces: Vec<Bytes> =
            until_answered(spaced.boxed(), std::future::pending(), Text::default, ()).collect().await;
        let comments = pieces.iter().filter(|piece| **piece == COMMENT).count();
        assert_eq!((pieces.len(), comments), (7, 3), "at once, before the fourth event, and before the end");
    }

    proptest! {
        #[test]
        fn a_large_payload_reads_like_a_small_one(extra in 0_usize..40) {
            let data = "x".repeat(EVENT_COPIED_BYTES - 20 + extra);
            prop_assert_eq!(text(event(Some("a"), &data, None)), format!("id: a\ndata: {data}\n\n"));
        }
    }
}
