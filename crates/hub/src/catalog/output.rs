//! `outputSchema` of a tool, as clients of each class may see it (mcp-protocol 5.16, G-79).
//!
//! Before 2025-06-18 nobody knew it. Up to 2025-11-25 its root is an object, and what a tool returns besides text is
//! one too; since 2026-07-28 both may be anything. For the clients in between a schema with another root is wrapped:
//! it describes the member `result` of an object, and results are wrapped alike. Where the wrapping would break a
//! reference inside the schema, the tool is shown without one, and its results without structure.
//!
//! References are found the way JSON Schema reads: a `$ref` below `const` or among the names of `properties` is none.
//! Nothing is ever dereferenced.

use serde_json::value::RawValue;
use trunkline_wire::{Json, Object, Revision};

/// What of `outputSchema` the clients of a revision know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing.
    Bare,
    /// Roots that are objects.
    Objects,
    /// Any schema: the server's own text.
    Any,
}

impl Class {
    /// All of them, as [`Catalog`](crate::catalog::Catalog) holds their pages.
    pub(crate) const COUNT: usize = 3;

    /// The class of a client's revision.
    pub(crate) fn of(revision: Revision) -> Self {
        match revision {
            Revision::V2024_11_05 | Revision::V2025_03_26 => Self::Bare,
            Revision::V2025_06_18 | Revision::V2025_11_25 => Self::Objects,
            Revision::V2026_07_28 => Self::Any,
        }
    }
}

/// What becomes of a tool's `outputSchema` for the class [`Class::Objects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// There is none.
    Absent,
    /// Its root is an object: it stays.
    Object,
    /// It is wrapped, and so is `structuredContent`.
    Wrapped,
    /// It can't be wrapped: both are left out.
    Dropped,
}

impl Output {
    /// Judges the entry of a tool.
    pub(crate) fn of(tool: &Object) -> Self {
        match tool.get("outputSchema") {
            None => Self::Absent,
            Some(schema) if has_object_root(schema) => Self::Object,
            Some(schema) if wrapped(schema).is_some() => Self::Wrapped,
            Some(_) => Self::Dropped,
        }
    }
}

/// Whether a value can be a schema at all. Some servers write `null` where they mean none.
pub(crate) fn is_schema(value: &Json) -> bool {
    value.is_object() || matches!(value.as_bytes(), b"true" | b"false")
}

/// The entry of a tool, shared if it needs no change.
pub(crate) fn shown(tool: &Json, output: Output, class: Class) -> Json {
    let change: fn(&mut Object) = match (class, output) {
        (Class::Any, _) | (_, Output::Absent) | (Class::Objects, Output::Object) => return tool.clone(),
        (Class::Bare, _) | (Class::Objects, Output::Dropped) => |tool| {
            tool.remove("outputSchema");
        },
        (Class::Objects, Output::Wrapped) => |tool| {
            if let Some(schema) = tool.get("outputSchema").and_then(wrapped) {
                tool.set("outputSchema", schema);
            }
        },
    };
    let Ok(mut entry) = Object::parse(tool) else { return tool.clone() };
    change(&mut entry);
    entry.to_json()
}

fn has_object_root(schema: &Json) -> bool {
    let root = schema.is_object().then(|| Object::parse(schema).ok()).flatten();
    root.and_then(|root| root.get_str("type")).is_some_and(|kind| kind == "object")
}

/// The schema of an object whose member `result` is what `schema` says; `None` where that cannot be said.
fn wrapped(schema: &Json) -> Option<Json> {
    let mut outer = Object::new();
    let mut inner = schema.clone();
    if schema.is_object() {
        let mut root = Object::parse(schema).ok()?;
        if let Some(dialect) = root.remove("$schema") {
            outer.set("$schema", dialect);
            inner = root.to_json();
        }
        // A schema with an id is its own document, wherever it stands.
        if root.get("$id").is_none() {
            inner = moved(&inner, Place::Schema)?;
        }
    }
    outer.set("type", Json::literal("\"object\""));
    outer.set("properties", [("result", inner)].into_iter().collect::<Object>().to_json());
    outer.set("required", Json::literal("[\"result\"]"));
    Some(outer.to_json())
}

/// What a value within a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A schema, or a list of such.
    Schema,
    /// Schemas under names that anybody may choose.
    Named,
}

/// Keywords whose members are named by the author.
const NAMED: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Keywords whose values are data.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// Rewrites references to the root of the document, which has become `#/properties/result`. `None` if one cannot be.
fn moved(value: &Json, place: Place) -> Option<Json> {
    let text = value.as_bytes();
    if memchr::memmem::find(text, b"\"$").is_none() && memchr::memchr(b'\\', text).is_none() {
        return Some(value.clone());
    }
    match text.first() {
        Some(b'{') => moved_object(value, place),
        Some(b'[') => moved_list(value),
        _ => Some(value.clone()),
    }
}

fn moved_object(value: &Json, place: Place) -> Option<Json> {
    let object = Object::parse(value).ok()?;
    // What has an id of its own is another document.
    if place == Place::Schema && object.get_str("$id").is_some() {
        return Some(value.clone());
    }
    let mut out = object.clone();
    for (key, member) in object.iter() {
        let rewritten = match place {
            Place::Named => moved(member, Place::Schema)?,
            Place::Schema if DATA.contains(&key) => continue,
            Place::Schema if NAMED.contains(&key) => moved(member, Place::Named)?,
            // The older dynamic reference always means the root, whatever stands there now.
            Place::Schema if key == "$recursiveRef" => return None,
            Place::Schema if matches!(key, "$ref" | "$dynamicRef") => match member.decode_str() {
                Some(reference) => reference_moved(&reference),
                None => return None,
            },
            Place::Schema => moved(member, Place::Schema)?,
        };
        out.set(key, rewritten);
    }
    Some(if out == object { value.clone() } else { out.to_json() })
}

fn moved_list(value: &Json) -> Option<Json> {
    let members: Vec<&RawValue> = serde_json::from_slice(value.as_bytes()).ok()?;
    let mut out = String::from("[");
    for member in members {
        let member = moved(&Json::trusted(member.get().to_owned()), Place::Schema)?;
        out.push_str(if out.len() > 1 { "," } else { "" });
        out.push_str(std::str::from_utf8(member.as_bytes()).ok()?);
    }
    out.push(']');
    Some(Json::trusted(out))
}

/// A pointer from the root gets a longer way; an anchor is found wherever it stands, and so is another document.
fn reference_moved(reference: &str) -> Json {
    match reference.strip_prefix('#') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            Json::from(format!("#/properties/result{rest}").as_str())
        }
        _ => Json::from(reference),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tool(schema: &str) -> (Json, Output) {
        let body = Json::parse(format!(r#"{{"name":"a","outputSchema":{schema},"x":1.0}}"#)).expect("JSON");
        let output = Output::of(&Object::parse(&body).expect("an object"));
        (body, output)
    }

    fn seen(schema: &str, class: Class) -> String {
        let (body, output) = tool(schema);
        String::from_utf8(shown(&body, output, class).as_bytes().to_vec()).expect("text")
    }

    fn wrapping(schema: &str) -> Option<String> {
        let (_, output) = tool(schema);
        let text = seen(schema, Class::Objects);
        let tool = Object::parse(&Json::parse(text).expect("JSON")).expect("an object");
        assert_eq!(output == Output::Wrapped, tool.get("outputSchema").is_some());
        tool.get("outputSchema").map(|schema| String::from_utf8(schema.as_bytes().to_vec()).expect("text"))
    }

    #[test]
    fn each_class_sees_what_it_knows() {
        let object = r##"{"type":"object","oneOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{}}}"##;
        let own = format!(r#"{{"name":"a","outputSchema":{object},"x":1.0}}"#);
        assert_eq!((seen(object, Class::Any), seen(object, Class::Objects)), (own.clone(), own));
        assert_eq!(seen(object, Class::Bare), r#"{"name":"a","x":1.0}"#);
        let list = r#"{"type":"array"}"#;
        assert_eq!(seen(list, Class::Any), format!(r#"{{"name":"a","outputSchema":{list},"x":1.0}}"#));
        assert_eq!(seen(list, Class::Bare), r#"{"name":"a","x":1.0}"#);
        assert_eq!(Class::of(Revision::V2025_03_26), Class::Bare);
        assert_eq!(Class::of(Revision::V2025_06_18), Class::Objects);
    }

    #[test]
    fn g79_another_root_is_wrapped_under_result() {
        for (schema, inner) in [
            (r#"{"type":"array","items":{"type":"number"}}"#, r#"{"type":"array","items":{"type":"number"}}"#),
            (r#"{"type":["object","null"]}"#, r#"{"type":["object","null"]}"#),
            ("true", "true"),
            ("{}", "{}"),
            (
                r##"{"$ref":"#/$defs/a%20b","$defs":{"a b":{"items":{"$ref":"#"}}}}"##,
                r##"{"$ref":"#/properties/result/$defs/a%20b","$defs":{"a b":{"items":{"$ref":"#/properties/result"}}}}"##,
            ),
            (
                r##"{"anyOf":[{"$dynamicRef":"#node"},{"$ref":"https://a.example/b#/c"}]}"##,
                r##"{"anyOf":[{"$dynamicRef":"#node"},{"$ref":"https://a.example/b#/c"}]}"##,
            ),
        ] {
            let expected = format!(r#"{{"type":"object","properties":{{"result":{inner}}},"required":["result"]}}"#);
            assert_eq!(wrapping(schema).as_deref(), Some(expected.as_str()), "{schema}");
        }
        let with_dialect = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"string"}"#;
        assert_eq!(
            wrapping(with_dialect).as_deref(),
            Some(
                r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"result":{"type":"string"}},"required":["result"]}"#
            )
        );
    }

    #[test]
    fn s25_only_references_are_rewritten_and_only_those_to_this_document() {
        for schema in [
            // An id makes a document of its own, at the root or below it.
            r##"{"$id":"https://a.example/s","type":"array","items":{"$ref":"#/$defs/x"},"$defs":{"x":{}}}"##,
            r##"{"type":"array","items":{"$id":"https://a.example/s","items":{"$ref":"#/$defs/x"},"$defs":{"x":{}}}}"##,
            // Data, and names that look like keywords.
            r##"{"enum":[{"$ref":"#/x"}],"default":{"$ref":"#/x"},"const":{"$ref":"#"},"examples":[{"$ref":"#"}]}"##,
            r#"{"items":{"properties":{"$ref":{"type":"string"},"const":{"type":"null"}}}}"#,
        ] {
            let wrapped = wrapping(schema).expect("wrapped");
            assert!(wrapped.contains(&format!(r#"{{"result":{schema}}}"#)), "{wrapped}");
        }
        let named = wrapping(r##"{"items":{"properties":{"default":{"$ref":"#/x"}}}}"##).expect("wrapped");
        assert!(named.contains(r##"{"default":{"$ref":"#/properties/result/x"}}"##), "{named}");
        let escaped = wrapping(r##"{"items":{"\u0024ref":"#/x"}}"##).expect("wrapped");
        assert!(escaped.contains("#/properties/result/x"), "{escaped}");
    }

    #[test]
    fn what_cannot_be_wrapped_is_left_out() {
        for schema in
            [r##"{"items":{"$recursiveRef":"#"}}"##, r#"{"items":{"$ref":7}}"#, r#"{"items":{"$a":1,"$a":2}}"#]
        {
            assert_eq!((tool(schema).1, wrapping(schema)), (Output::Dropped, None), "{schema}");
        }
    }

    fn schema() -> impl Strategy<Value = serde_json::Value> {
        let reference = proptest::sample::select(vec!["#", "#/$defs/a", "#a", "x#/b", "#/a\"b"]);
        let leaf = prop_oneof![
            Just(serde_json::json!(true)),
            reference.prop_map(|to| serde_json::json!({ "$ref": to })),
            Just(serde_json::json!({ "type": "array" })),
            Just(serde_json::json!({ "const": { "$ref": "#" } })),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            let keys = proptest::sample::select(vec!["properties", "items", "anyOf", "$defs", "not", "$id", "enum"]);
            proptest::collection::btree_map(keys.prop_map(str::to_owned), inner, 0..3)
                .prop_map(|members| serde_json::to_value(members).expect("JSON"))
        })
    }

    /// Every reference of a wrapped schema leads to where it led before.
    fn leads_on(before: &serde_json::Value, after: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => {
                before.len() == after.len() && before.iter().all(|(key, value)| leads_on(value, &after[key]))
            }
            (Value::Array(before), Value::Array(after)) => before.iter().zip(after).all(|(a, b)| leads_on(a, b)),
            (Value::String(before), Value::String(after)) => {
                before == after || after.strip_prefix("#/properties/result") == before.strip_prefix('#')
            }
            (before, after) => before == after,
        }
    }

    proptest! {
        #[test]
        fn wrapping_changes_nothing_but_where_references_begin(schema in schema()) {
            let text = schema.to_string();
            let Some(wrapped) = wrapping(&text) else { return Ok(()) };
            let wrapped: serde_json::Value = serde_json::from_str(&wrapped).expect("JSON");
            let inner = if wrapped == schema { &wrapped } else { &wrapped["properties"]["result"] };
            prop_assert!(leads_on(&schema, inner), "{} became {}", schema, wrapped);
        }
    }
}
