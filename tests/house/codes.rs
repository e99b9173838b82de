//! Every code of the doctor has a row in `docs/errors.md`, and every row there is a code that can come.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The codes in a text, each between these marks.
fn codes(text: &str, mark: char) -> BTreeSet<String> {
    let words = text.split(mark).skip(1).step_by(2);
    let is_code = |word: &&str| word.starts_with("TL-") && word.chars().all(|c| c.is_ascii_uppercase() || c == '-');
    words.filter(is_code).map(str::to_owned).collect()
}

fn sources(directory: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            // Line by line: a quote in a comment must not turn the rest inside out.
            all.extend(text.lines().flat_map(|line| codes(line, '"')));
        }
    }
}

#[test]
fn each_code_of_the_doctor_stands_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for crate_ in ["crates/daemon", "crates/edge/src"] {
        sources(&root.join(crate_), &mut known);
    }
    let page = fs::read_to_string(root.join("docs/errors.md")).expect("docs/errors.md");
    let told: BTreeSet<String> = page.lines().flat_map(|line| codes(line, '`')).collect();
    assert!(known.contains("TL-SIGN-IN") && known.len() > 15, "{known:?}");
    assert_eq!(known, told, "left: what can come, right: what docs/errors.md has");
}
