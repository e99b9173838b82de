//! Holds `docs/reliability.md` and `docs/security.md` against the tests: what a page names exists, what names a promise in its
//! own name stands on the page, and no row is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The last promise and the last fault of the contract.
const LAST: [(char, u32); 2] = [('R', 47), ('F', 75)];

/// The last promise about security.
const LAST_OF_SECURITY: u32 = 40;

/// One row of a table.
struct Row {
    proof: String,
    tests: Vec<String>,
    reason: String,
}

/// Rows by letter and number, as `R-7`.
fn rows() -> BTreeMap<(char, u32), Row> {
    let text = std::fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, proof, tests] = cells.as_slice() else { continue };
        let Some(number) = name.get(2..).and_then(|number| number.parse().ok()) else { continue };
        let letter = name.chars().next().expect("not empty");
        let quoted = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let row = Row { proof: (*proof).to_owned(), tests: quoted, reason: (*tests).to_owned() };
        assert!(rows.insert((letter, number), row).is_none(), "{name} has two rows");
    }
    rows
}

/// The tests of each promise about security, by its number.
fn security_rows() -> BTreeMap<u32, Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/security.md")).expect("the page");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| S-")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, tests] = cells.as_slice() else { panic!("a row has three cells: {line}") };
        let number = name["S-".len()..].parse().expect("a number");
        let quoted = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(rows.insert(number, quoted).is_none(), "{name} has two rows");
    }
    rows
}

/// The paths of all tests, as the page writes them.
fn all_tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["crates", "tests"] {
        look(Path::new(directory), &mut found);
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn look(directory: &Path, found: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(root().join(directory)).expect("a directory of ours");
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), directory.join(entry.file_name()));
        let name = name.to_str().expect("our names are UTF-8");
        if entry.path().is_dir() {
            // Installed parts, build output and hidden directories hold nothing of ours.
            if !name.starts_with('.') && !["node_modules", "target", "house"].contains(&name) {
                look(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "house.rs" {
            let text = std::fs::read_to_string(entry.path()).expect("a source file");
            found.extend(tests_in(&text).map(|test| format!("{}::{test}", module(&path))));
        }
    }
}

/// The names of a file's tests, with the module inside the file.
fn tests_in(text: &str) -> impl Iterator<Item = String> {
    let (mut inside, mut marked) = (String::new(), false);
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inside = format!("{name}::");
        }
        marked |= line == "#[test]" || line.starts_with("#[tokio::test");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split(['(', '<']).next()?;
        std::mem::take(&mut marked).then(|| format!("{inside}{name}"))
    })
}

/// The module path of a file, with the crate in front as the page calls it.
fn module(path: &Path) -> String {
    let path = path.with_extension("");
    let mut parts: Vec<&str> = path.iter().map(|part| part.to_str().expect("UTF-8")).collect();
    match parts[..] {
        ["crates", "daemon", ..] => drop(parts.drain(..1)),
        ["crates", _, "src", ..] => {
            parts.remove(2);
            parts.remove(0);
        }
        ["tests", "soak", ..] => drop(parts.drain(..1)),
        _ => parts[0] = "blackbox",
    }
    if parts.last().is_some_and(|last| ["lib", "main", "mod"].contains(last)) {
        parts.pop();
    }
    parts.join("::")
}

/// The promises and faults that a test names in its own name: `r07_f03_...`.
fn tags(test: &str) -> impl Iterator<Item = (char, u32)> {
    let name = test.rsplit("::").next().unwrap_or_default();
    name.split('_').map_while(|word| {
        let letter = word.chars().next().filter(char::is_ascii_lowercase)?;
        word[1..].parse().ok().map(|number| (letter.to_ascii_uppercase(), number))
    })
}

#[test]
fn each_promise_and_each_fault_has_a_test_or_a_reason() {
    let (rows, tests) = (rows(), all_tests());
    for (letter, last) in LAST {
        for number in 1..=last {
            let name = format!("{letter}-{number}");
            let row = rows.get(&(letter, number)).unwrap_or_else(|| panic!("docs/reliability.md has no row {name}"));
            assert_eq!(row.tests.is_empty(), row.proof == "none", "{name}: the proof is `{}`", row.proof);
            assert!(!row.reason.is_empty(), "{name}: neither a test nor a reason");
            for test in &row.tests {
                assert!(tests.contains(test), "{name}: there is no test {test}");
            }
            let outside = |test: &String| test.starts_with("blackbox::") || test.starts_with("soak::");
            let kinds =
                [(row.tests.iter().any(|test| !outside(test)), "unit"), (row.tests.iter().any(outside), "black box")];
            for (there, kind) in kinds {
                assert_eq!(row.proof.contains(kind), there, "{name}: the proof is `{}`", row.proof);
            }
        }
    }
    let numbers: u32 = LAST.iter().map(|(_, last)| last).sum();
    assert_eq!(rows.len(), usize::try_from(numbers).expect("small"), "a row is of no number of the contract");
}

#[test]
fn each_test_that_is_named_for_a_promise_stands_on_the_page() {
    let rows = rows();
    for test in all_tests() {
        for (letter, number) in tags(&test).filter(|(letter, _)| LAST.iter().any(|(known, _)| known == letter)) {
            let listed = rows.get(&(letter, number)).is_some_and(|row| row.tests.contains(&test));
            assert!(listed, "the row {letter}-{number} of docs/reliability.md lacks {test}");
        }
    }
}

#[test]
fn each_promise_about_security_has_tests_and_those_that_are_named_for_it_stand_on_the_page() {
    let (rows, tests) = (security_rows(), all_tests());
    let numbers: Vec<u32> = rows.keys().copied().collect();
    assert_eq!(numbers, (1..=LAST_OF_SECURITY).collect::<Vec<_>>(), "each promise has a row, and no other");
    for (number, listed) in &rows {
        let named = |test: &&String| tags(test).any(|tag| tag == ('S', *number));
        assert!(tests.iter().any(|test| named(&test)), "no test is named for S-{number}");
        for test in listed {
            assert!(tests.contains(test), "S-{number}: there is no test {test}");
        }
        for test in tests.iter().filter(named) {
            assert!(listed.contains(test), "the row S-{number} of docs/security.md lacks {test}");
        }
    }
}
