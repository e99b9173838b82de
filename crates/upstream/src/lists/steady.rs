//! What keeps a list that says the same the same text (R-22, mcp-protocol 6.8).
//!
//! Servers that hold their tools, or the properties of a schema, in a hash table write them in another order each time they
//! start. To a model nothing changed, but what is cached of a prompt begins with the list, and is lost with its first byte that
//! differs. So an entry that was listed before keeps its place, and its text too if it differs in nothing but the order of keys;
//! what is new follows. It is a list's own earlier self that is followed, over restarts as well, since that is kept on disk.

use std::collections::HashMap;

use serde_json::Value;
use trunkline_wire::Json;

use crate::offer::Entry;

/// Gives entries that were in `last` the places and, where they say the same, the texts that they had there.
pub(super) fn keep(entries: &mut [Entry], last: &[Entry]) {
    let places: HashMap<&str, usize> = last.iter().enumerate().map(|(at, entry)| (entry.name.as_str(), at)).collect();
    let place = |entry: &Entry| places.get(entry.name.as_str()).copied();
    entries.sort_by_key(|entry| place(entry).unwrap_or(usize::MAX));
    for entry in entries {
        let before = place(entry).map(|at| &last[at].body);
        if let Some(before) = before.filter(|before| **before != entry.body && say_the_same(before, &entry.body)) {
            entry.body = before.clone();
        }
    }
}

/// Whether two texts differ only in the order of keys: that changes no length, and a look at it spares reading most of what
/// is really new.
fn say_the_same(one: &Json, other: &Json) -> bool {
    let value = |text: &Json| text.decode::<Value>().ok();
    one.as_bytes().len() == other.as_bytes().len() && value(one).is_some_and(|one| value(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, rest: &str) -> Entry {
        let body = Json::parse(format!(r#"{{"name":"{name}"{rest}}}"#)).expect("JSON");
        Entry { name: name.to_owned(), body }
    }

    #[test]
    fn r22_keys_in_another_order_are_no_change_and_whatever_else_differs_is() {
        let last =
            [entry("a", r#","inputSchema":{"properties":{"x":{"k":1,"l":[1,2]},"y":{}}}"#), entry("b", r#","n":1"#)];
        let mut same =
            [entry("b", r#","n":1"#), entry("a", r#","inputSchema":{"properties":{"y":{},"x":{"l":[1,2],"k":1}}}"#)];
        keep(&mut same, &last);
        assert_eq!(same, last);
        for other in [
            r#","inputSchema":{"properties":{"y":{},"x":{"l":[2,1],"k":1}}}"#,
            r#","inputSchema":{"properties":{"y":{},"x":{"l":[1,2],"k":2}}}"#,
            r#","inputSchema":{"properties":{"z":{},"x":{"l":[1,2],"k":1}}}"#,
            r#","inputSchema":{"properties":{"x":{"k":1,"l":[1,2]},"y":{}}},"title":"T""#,
        ] {
            let mut changed = [entry("a", other)];
            keep(&mut changed, &last);
            assert_eq!(changed[0], entry("a", other));
        }
    }

    #[test]
    fn r22_numbers_that_no_double_holds_are_compared_as_what_they_are() {
        let last = [entry("a", r#","n":9007199254740993"#)];
        let mut changed = [entry("a", r#","n":9007199254740992"#)];
        keep(&mut changed, &last);
        assert_eq!(changed[0], entry("a", r#","n":9007199254740992"#));
        // What cannot be read as values is never taken for the same.
        let huge = [entry("a", r#","n":1e400"#)];
        let mut other = [entry("a", r#","n":2e400"#)];
        keep(&mut other, &huge);
        assert_eq!(other[0], entry("a", r#","n":2e400"#));
    }
}
