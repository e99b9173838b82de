//! What holds for any bytes of an event stream.
//!
//! Used by the fuzz target, which looks for bytes that break it, and by `crates/wire/tests/corpus.rs`,
//! which replays the bytes once found.

use bytes::{Bytes, BytesMut};
use trunkline_wire::sse::{self, Decoder, Event, TooLarge};

/// How a stream is cut into chunks makes no difference, and no event is larger than the limit. The first two
/// bytes are the limit and the size of the chunks.
pub(crate) fn check(input: &[u8]) {
    let [limit, size, stream @ ..] = input else { return };
    let limit = usize::from(*limit);
    let whole = events(stream, stream.len(), limit);
    assert_eq!(events(stream, usize::from(*size), limit), whole, "chunks make a difference");
    for event in whole.into_iter().flatten() {
        assert!(event.data.len() <= limit, "an event beyond the limit");
        rewrite(&event);
    }
}

fn events(stream: &[u8], size: usize, limit: usize) -> Vec<Result<Event, TooLarge>> {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for chunk in stream.chunks(size.max(1)) {
        decoder.push(Bytes::copy_from_slice(chunk));
        events.extend(decoder.by_ref());
        assert!(decoder.held() <= limit + size, "more is held than the limit");
    }
    events
}

/// What we write is one event, whatever its data and id.
fn rewrite(event: &Event) {
    let mut out = BytesMut::new();
    sse::encode(&mut out, event.id.as_deref(), event.retry, &event.data);
    let mut decoder = Decoder::new(usize::MAX);
    decoder.push(out.freeze());
    let again = decoder.next().expect("an event").expect("no limit");
    assert_eq!((&again.id, again.retry, again.data.len()), (&event.id, event.retry, event.data.len()));
    assert!(decoder.next().is_none(), "two events");
}
