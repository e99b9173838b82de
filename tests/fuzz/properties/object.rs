//! What holds for any text that is to be an object.
//!
//! Used by the fuzz target, which looks for bytes that break it, and by `crates/wire/tests/corpus.rs`,
//! which replays the bytes once found.

use bytes::Bytes;
use trunkline_wire::{Json, Object};

/// An object writes back its own members, and changing one leaves the others alone.
pub(crate) fn check(input: &[u8]) {
    let Ok(json) = Json::parse(Bytes::copy_from_slice(input)) else { return };
    let Ok(object) = Object::parse(&json) else { return };
    let written = object.to_json();
    assert_eq!(Object::parse(&written).as_ref(), Ok(&object), "members changed");

    let mut changed = object.clone();
    changed.set("name", Json::from("x"));
    let changed = Object::parse(&changed.to_json()).expect("a changed object can be read");
    assert_eq!(changed.get_str("name").as_deref(), Some("x"));
    let others = |object: &Object| {
        object.iter().filter(|(key, _)| *key != "name").map(|(key, value)| (key.to_owned(), value.clone())).collect()
    };
    let (before, after): (Vec<_>, Vec<_>) = (others(&object), others(&changed));
    assert_eq!(before, after, "another member changed");
}
