//! `x-mcp-header` in an `inputSchema`: which arguments are repeated in headers, and which annotations are not allowed
//! (mcp-protocol 3.5).
//!
//! A wrong annotation makes the whole tool invalid over HTTP. Elsewhere it is taken out and the tool kept, because
//! every modern HTTP client of ours would drop the tool otherwise.

use crate::json::Json;
use crate::object::Object;

use super::{PARAM_PREFIX, ParamHeader};

const KEY: &str = "x-mcp-header";

/// Why an annotation is not allowed. The text is a fragment that says where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its `inputSchema` has an `x-mcp-header` at `{place}` {why}")]
pub struct BadAnnotation {
    /// Where in the schema, as keys with dots between.
    pub place: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What was found in a schema.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotated {
    /// The annotations that are allowed, in the order of the schema.
    pub headers: Vec<ParamHeader>,
    /// The first that is not.
    pub bad: Option<BadAnnotation>,
    /// The schema without those, if there are any.
    pub cleaned: Option<Json>,
}

/// Returns the headers that calls of a tool with this `inputSchema` carry.
///
/// # Errors
/// An annotation that is not allowed: a client over HTTP does not use such a tool.
pub fn param_headers(schema: &Json) -> Result<Vec<ParamHeader>, BadAnnotation> {
    let found = annotated(schema);
    found.bad.map_or(Ok(found.headers), Err)
}

/// Looks for annotations in an `inputSchema`. Nearly none has any, and that costs one search through its bytes.
pub fn annotated(schema: &Json) -> Annotated {
    let mut search = Search::default();
    // The key may be spelled with escapes.
    let text = schema.as_bytes();
    if memchr::memmem::find(text, KEY.as_bytes()).is_some() || memchr::memmem::find(text, b"\\u").is_some() {
        let cleaned = search.schema(schema, &Place::Root);
        return Annotated { headers: search.headers, bad: search.bad, cleaned };
    }
    Annotated::default()
}

/// Where in the schema a subschema stands.
enum Place<'p> {
    /// It is the schema itself.
    Root,
    /// It describes the argument that these keys lead to.
    Argument(&'p [Box<str>]),
    /// It applies under a condition, or to more than one value.
    Elsewhere(&'p [Box<str>]),
}

#[derive(Default)]
struct Search {
    headers: Vec<ParamHeader>,
    bad: Option<BadAnnotation>,
}

impl Search {
    /// Searches one schema. Returns it without what is not allowed in it, if there is such.
    fn schema(&mut self, text: &Json, place: &Place<'_>) -> Option<Json> {
        let Ok(mut schema) = Object::parse(text) else { return self.unreadable(text, place) };
        let mut changed = false;
        if schema.get(KEY).is_some() && !self.annotation(&schema, place) {
            schema.remove(KEY);
            changed = true;
        }
        let members: Vec<(String, Json)> = schema.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        for (key, value) in members {
            if let Some(cleaned) = self.member(&key, &value, place) {
                schema.set(&key, cleaned);
                changed = true;
            }
        }
        changed.then(|| schema.to_json())
    }

    /// Searches what stands under one key of a schema.
    fn member(&mut self, key: &str, value: &Json, place: &Place<'_>) -> Option<Json> {
        match key {
            // Values, not schemas.
            "default" | "const" | "enum" | "examples" | KEY => None,
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                self.named(key, value, place)
            }
            _ if value.is_object() => self.schema(value, &Place::Elsewhere(&place.extended(key))),
            _ if value.as_bytes().first() == Some(&b'[') => self.listed(value, &Place::Elsewhere(&place.extended(key))),
            _ => None,
        }
    }

    /// Searches an object whose members are schemas.
    fn named(&mut self, key: &str, value: &Json, place: &Place<'_>) -> Option<Json> {
        let Ok(mut schemas) = Object::parse(value) else {
            return self.unreadable(value, &Place::Elsewhere(&place.extended(key)));
        };
        let mut changed = false;
        let members: Vec<(String, Json)> =
            schemas.iter().map(|(name, schema)| (name.to_owned(), schema.clone())).collect();
        for (name, schema) in members {
            let inner = place.extended(&name);
            let inner = match place {
                Place::Root | Place::Argument(_) if key == "properties" => Place::Argument(&inner),
                Place::Root | Place::Argument(_) | Place::Elsewhere(_) => Place::Elsewhere(&inner),
            };
            if let Some(cleaned) = self.schema(&schema, &inner) {
                schemas.set(&name, cleaned);
                changed = true;
            }
        }
        changed.then(|| schemas.to_json())
    }

    /// Of an object with a repeated key two readers see two things. With an annotation in it nothing of it is kept.
    fn unreadable(&mut self, text: &Json, place: &Place<'_>) -> Option<Json> {
        if !text.is_object() || memchr::memmem::find(text.as_bytes(), KEY.as_bytes()).is_none() {
            return None;
        }
        self.refuse(place, "among keys that are repeated");
        Some(Json::literal("{}"))
    }

    /// Searches an array whose members may be schemas.
    fn listed(&mut self, value: &Json, place: &Place<'_>) -> Option<Json> {
        let items: Vec<&serde_json::value::RawValue> = serde_json::from_slice(value.as_bytes()).ok()?;
        let mut changed = false;
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let item = Json::trusted(value.bytes().slice_ref(item.get().as_bytes()));
            let cleaned = self.schema(&item, place);
            changed |= cleaned.is_some();
            texts.push(cleaned.unwrap_or(item));
        }
        let texts: Vec<&[u8]> = texts.iter().map(Json::as_bytes).collect();
        changed.then(|| Json::trusted([b"[", texts.join(&b","[..]).as_slice(), b"]"].concat()))
    }

    /// Judges the annotation of one schema. Returns whether it may stay.
    fn annotation(&mut self, schema: &Object, place: &Place<'_>) -> bool {
        let kind = schema.get_str("type");
        let name = schema.get_str(KEY).unwrap_or_default();
        let why = if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            "on what is no string, integer or boolean"
        } else if name.is_empty() || !name.bytes().all(is_token) {
            "that is no name of a header"
        } else if self.headers.iter().any(|known| known.name[PARAM_PREFIX.len()..].eq_ignore_ascii_case(&name)) {
            "that stands on another argument too"
        } else if let Place::Argument(path) = place {
            let name = format!("{PARAM_PREFIX}{}", name.to_ascii_lowercase());
            self.headers.push(ParamHeader { name: name.into(), path: (*path).into() });
            return true;
        } else {
            "where no single argument is described"
        };
        self.refuse(place, why);
        false
    }

    fn refuse(&mut self, place: &Place<'_>, why: &'static str) {
        self.bad.get_or_insert_with(|| BadAnnotation { place: place.shown(), why });
    }
}

impl Place<'_> {
    fn keys(&self) -> &[Box<str>] {
        match self {
            Self::Root => &[],
            Self::Argument(keys) | Self::Elsewhere(keys) => keys,
        }
    }

    fn extended(&self, key: &str) -> Vec<Box<str>> {
        self.keys().iter().cloned().chain([key.into()]).collect()
    }

    fn shown(&self) -> String {
        let keys = self.keys().join(".");
        // A schema may hold anything, and this is shown to people.
        let shown: String = keys.chars().filter(|c| !c.is_control()).take(80).collect();
        if shown.is_empty() { "the root".to_owned() } else { shown }
    }
}

/// Whether it may stand in the name of a header (RFC 9110, `token`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
