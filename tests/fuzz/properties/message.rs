//! What holds for any text that is to be a message.
//!
//! Used by the fuzz target, which looks for bytes that break it, and by `crates/wire/tests/corpus.rs`,
//! which replays the bytes once found.

use bytes::Bytes;
use serde_json::value::RawValue;
use trunkline_wire::{Id, Malformed, Message, parse_batch};

/// A message that can be read can be written, on one line, and reads back the same.
pub(crate) fn check(input: &[u8]) {
    let text = Bytes::copy_from_slice(input);
    check_one(Message::parse(&text));
    if let Some(Ok(members)) = parse_batch(&text) {
        members.into_iter().for_each(check_one);
    }
}

fn check_one(read: Result<Message, Malformed>) {
    let Ok(message) = read else { return };
    let written = message.encode();
    assert!(!written.contains(&b'\n') && !written.contains(&b'\r'), "more than one line");
    assert!(serde_json::from_slice::<&RawValue>(&written).is_ok(), "no JSON any more");
    let again = Message::parse(&written).expect("what we wrote can be read");
    assert_eq!(again.encode(), written, "it changes when written again");
    assert_eq!(again.id().map(Id::key), message.id().map(Id::key), "the id changed");
}
