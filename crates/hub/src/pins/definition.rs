//! [`Definition`]: what of a tool is pinned, and how two of them are compared.
//!
//! It is everything by which a model or a person decides: name, title, description, both schemas, annotations. Each member
//! is kept as the server wrote it. Two are the same if they say the same, in whatever order keys stand.

use serde::Serialize;
use serde_json::Value;
use trunkline_telemetry::redact::printable;
use trunkline_wire::{Json, Object};

use crate::limits::{DESCRIPTION_BYTES_MAX, SCHEMA_BYTES_MAX};

/// The members of an entry that are pinned.
const MEMBERS: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// Bytes of an excerpt in a log, from a little before the first difference on.
const EXCERPT_BYTES_MAX: usize = 160;
const EXCERPT_LEAD_CHARS: usize = 20;

/// The definition of a tool, as its server wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition(Json);

/// A member in which two definitions differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its key.
    pub member: &'static str,
    /// What was pinned, in lines: a text as it is, anything else as JSON with its keys in order. `None`: it was not there.
    pub was: Option<String>,
    /// What is there now.
    pub now: Option<String>,
}

impl Definition {
    /// The definition in an entry; `None` if it is none, or too large to be offered at all (S-16).
    pub(crate) fn of(entry: &Json) -> Option<Self> {
        let entry = Object::parse(entry).ok()?;
        let pinned: Object =
            MEMBERS.iter().filter_map(|key| entry.get(key).map(|value| (*key, value.clone()))).collect();
        let text = pinned.to_json();
        (text.as_bytes().len() <= DESCRIPTION_BYTES_MAX * 4 + SCHEMA_BYTES_MAX * 2).then_some(Self(text))
    }

    /// What was written of one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Json::parse(text.to_owned()).ok().filter(Json::is_object).map(Self)
    }

    pub(crate) fn text(&self) -> &Json {
        &self.0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.as_bytes().len()
    }

    /// Whether both say the same.
    pub(crate) fn says(&self, other: &Self) -> bool {
        self == other || sorted(&self.0) == sorted(&other.0)
    }

    /// In what they differ.
    pub(crate) fn differences(&self, now: &Self) -> Vec<Difference> {
        let (was, now) = (sorted(&self.0), sorted(&now.0));
        let differs = |member: &&&'static str| was.get(**member) != now.get(**member);
        let lines = |value: Option<&Value>| {
            let value = value?;
            value.as_str().map_or_else(|| serde_json::to_string_pretty(value).ok(), |text| Some(text.to_owned()))
        };
        MEMBERS
            .iter()
            .filter(differs)
            .map(|member| Difference { member, was: lines(was.get(*member)), now: lines(now.get(*member)) })
            .collect()
    }
}

impl Difference {
    /// Both sides from where they part, short and escaped, for a log.
    pub(crate) fn excerpts(&self) -> (String, String) {
        let (was, now) = (self.was.as_deref().unwrap_or_default(), self.now.as_deref().unwrap_or_default());
        let common = was.chars().zip(now.chars()).take_while(|(one, other)| one == other).count();
        let from = common.saturating_sub(EXCERPT_LEAD_CHARS);
        let excerpt = |text: &str| printable(&text.chars().skip(from).collect::<String>(), EXCERPT_BYTES_MAX);
        (excerpt(was), excerpt(now))
    }
}

/// The value with the keys of each object in order.
fn sorted(text: &Json) -> Value {
    let mut value: Value = text.decode().unwrap_or_default();
    value.sort_all_objects();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(text: &str) -> Definition {
        Definition::of(&Json::parse(text.to_owned()).expect("JSON")).expect("a definition")
    }

    #[test]
    fn s15_what_a_tool_says_of_itself_counts_and_how_it_is_written_does_not() {
        let one =
            definition(r#"{"name":"a","description":"d","inputSchema":{"x":1,"y":{"b":2,"a":1}},"_meta":{"v":1}}"#);
        for same in [
            r#"{"description":"d","name":"a","inputSchema":{"y":{"a":1,"b":2},"x":1}}"#,
            r#"{"name":"a","description":"\u0064","inputSchema":{ "x":1,"y":{"b":2,"a":1}},"icons":[],"execution":{}}"#,
        ] {
            assert!(one.says(&definition(same)), "{same}");
        }
        for (other, member) in [
            (r#"{"name":"a","description":"D","inputSchema":{"x":1,"y":{"b":2,"a":1}}}"#, "description"),
            (r#"{"name":"a","description":"d","inputSchema":{"x":1,"y":{"b":2,"a":[1]}}}"#, "inputSchema"),
            (r#"{"name":"a","description":"d","inputSchema":{"x":1,"y":{"b":2,"a":1}},"title":"t"}"#, "title"),
            (
                r#"{"name":"a","description":"d","inputSchema":{"x":1,"y":{"b":2,"a":1}},"annotations":{"readOnlyHint":true}}"#,
                "annotations",
            ),
            (
                r#"{"name":"a","description":"d","inputSchema":{"x":1,"y":{"b":2,"a":1}},"outputSchema":{}}"#,
                "outputSchema",
            ),
        ] {
            let other = definition(other);
            assert!(!one.says(&other), "{member}");
            let differences = one.differences(&other);
            assert_eq!(differences.iter().map(|it| it.member).collect::<Vec<_>>(), [member]);
        }
    }

    #[test]
    fn s17_an_excerpt_begins_where_the_texts_part_and_disturbs_no_terminal() {
        let long = "x".repeat(400);
        let was = definition(&format!(r#"{{"name":"a","description":"{long} reads"}}"#));
        let now = definition(&format!(r#"{{"name":"a","description":"{long} writes\u001b[2J{long}"}}"#));
        let differences = was.differences(&now);
        let (was, now) = differences[0].excerpts();
        assert!(was.ends_with(" reads") && was.len() < 40, "{was}");
        assert!(now.contains(r" writes\u{1b}[2J") && now.len() < 200, "{now}");
    }
}
