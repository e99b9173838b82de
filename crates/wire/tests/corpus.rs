//! Replays the corpora of `tests/fuzz` on the stable toolchain.

#[path = "../../../tests/fuzz/properties/headers.rs"]
mod headers;
#[path = "../../../tests/fuzz/properties/message.rs"]
mod message;
#[path = "../../../tests/fuzz/properties/object.rs"]
mod object;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/properties/sse.rs"]
mod sse;

use replay::replay;

#[test]
fn headers_are_written_as_they_are_checked() {
    replay("headers", headers::check);
}

#[test]
fn messages_are_read_and_written_alike() {
    replay("message", message::check);
}

#[test]
fn objects_keep_their_members() {
    replay("object", object::check);
}

#[test]
fn streams_are_decoded_whatever_the_chunks() {
    replay("sse", sse::check);
}
