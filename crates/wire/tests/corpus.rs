//! Replays the corpora of `tests/fuzz` on the stable toolchain.

#[path = "../../../tests/fuzz/properties/headers.rs"]
mod headers;
#[path = "../../../tests/fuzz/properties/message.rs"]
mod message;
#[path = "../../../tests/fuzz/properties/object.rs"]
mod object;
#[path = "../../../tests/fuzz/properties/sse.rs"]
mod sse;

use std::fs;
use std::path::Path;

/// Checks `property` for every file of a corpus, and for every beginning of it: a peer may die at any byte.
fn replay(corpus: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(corpus);
    let files: Vec<_> =
        fs::read_dir(&folder).expect("the corpus is checked in").map(|file| file.expect("readable").path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let input = fs::read(&file).expect("readable");
        for end in 0..=input.len() {
            let (property, input) = (property, &input[..end]);
            let held = std::panic::catch_unwind(|| property(input));
            assert!(held.is_ok(), "broken by the first {end} bytes of {}", file.display());
        }
    }
}

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
