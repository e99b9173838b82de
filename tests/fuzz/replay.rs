//! Replays a corpus of this directory on the stable toolchain. Included by the tests of the crates whose code it is for.

use std::fs;
use std::path::Path;

/// Checks `property` for every file of a corpus, and for every beginning of it: a peer may die at any byte.
pub(crate) fn replay(corpus: &str, property: fn(&[u8])) {
    // Every crate lies two steps below the root.
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
