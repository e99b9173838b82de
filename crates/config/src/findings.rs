//! [`Findings`]: what the checks found, gathered so that the operator sees all of it at once; and the reading of
//! the merged tree into the file format, which adds most of it.

use std::collections::BTreeMap;

use figment::error::{Actual, Kind};
use figment::value::{Dict, Tag, Value};

use crate::clients;
use crate::error::ConfigError;
use crate::schema::File;
use crate::sources::Layers;

/// More problems than anybody reads; it also bounds the reading of a hostile file.
const ERRORS_MAX: usize = 50;

/// Problems found so far.
pub(crate) struct Findings<'a> {
    /// Where values came from.
    pub(crate) layers: &'a Layers<'a>,
    /// What keeps the configuration from being used.
    pub(crate) errors: Vec<ConfigError>,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// Keys of Codex's without meaning here, with the servers that have them.
    pub(crate) ignored: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(layers: &'a Layers<'a>) -> Self {
        Self { layers, errors: Vec::new(), warnings: Vec::new(), ignored: BTreeMap::new() }
    }

    /// Adds a problem with the value at a key.
    pub(crate) fn error(&mut self, key: &[&str], problem: impl Into<String>) {
        self.push(key, problem.into(), None);
    }

    /// Adds a problem and what to do about it.
    pub(crate) fn error_with_hint(&mut self, key: &[&str], problem: impl Into<String>, hint: impl Into<String>) {
        self.push(key, problem.into(), Some(hint.into()));
    }

    /// Whether a problem was found at a key or below it.
    pub(crate) fn has_error_in(&self, key: &[&str]) -> bool {
        let key = written(key);
        self.errors
            .iter()
            .any(|error| error.key.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// Reads the tree as far as it can be read. What cannot is reported and left out, one value at a time, since
    /// serde stops at the first.
    pub(crate) fn read_file(&mut self) -> File {
        let mut tree = Value::Dict(Tag::Default, self.layers.tree.clone());
        // Each round leaves an error or turns a number into a text, so it ends.
        while self.errors.len() < ERRORS_MAX {
            let error = match tree.deserialize::<File>() {
                Ok(file) => return file,
                Err(error) => error,
            };
            let key: Vec<&str> = error.path.iter().map(String::as_str).collect();
            let repaired = wants_text(&error.kind)
                && self.layers.variable_text(&key).is_some_and(|text| {
                    // `TRUNKLINE_..._BEARER_TOKEN=1234` was read as a number, but a text is wanted.
                    replace(&mut tree, &key, Some(Value::from(text)))
                });
            if !repaired {
                let (problem, hint) = explain(&error.kind, &key);
                self.push(&key, problem, hint);
                if !replace(&mut tree, &key, None) {
                    break;
                }
            }
        }
        File::default()
    }

    fn push(&mut self, key: &[&str], problem: String, hint: Option<String>) {
        let source = self.layers.source_of(key);
        self.errors.push(ConfigError { source, key: written(key), problem, hint });
    }
}

/// A key as it stands in TOML, with quotes where TOML wants them.
fn written(key: &[&str]) -> String {
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let parts: Vec<String> =
        key.iter().map(|part| if plain(part) { (*part).to_owned() } else { format!("{part:?}") }).collect();
    parts.join(".")
}

/// Puts a value in the place of the one at a key, or takes that out. `false` if there is no such key. A key that
/// goes into a list stands for the whole list.
fn replace(tree: &mut Value, key: &[&str], with: Option<Value>) -> bool {
    let Some((part, below)) = key.split_first() else { return false };
    let Value::Dict(_, table) = tree else { return false };
    let deeper = !below.is_empty() && table.get(*part).is_some_and(|value| value.as_dict().is_some());
    if deeper {
        return table.get_mut(*part).is_some_and(|value| replace(value, below, with));
    }
    replace_in(table, part, with)
}

fn replace_in(table: &mut Dict, part: &str, with: Option<Value>) -> bool {
    match with {
        // The tag goes with the value, and with it where the value came from.
        Some(value) => table.get_mut(part).is_some_and(|old| {
            let changed = *old != value;
            *old = value;
            changed
        }),
        None => table.remove(part).is_some(),
    }
}

fn wants_text(kind: &Kind) -> bool {
    matches!(kind, Kind::InvalidType(Actual::Bool(_) | Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_), _))
}

/// Says what is wrong without quoting the value.
fn explain(kind: &Kind, key: &[&str]) -> (String, Option<String>) {
    match kind {
        Kind::UnknownField(name, known) => clients::unknown_key(name, known, key),
        Kind::UnknownVariant(_, known) => (format!("must be one of: {}", clients::main_words(known).join(", ")), None),
        Kind::InvalidValue(Actual::Signed(_) | Actual::Unsigned(_), wanted) => {
            (format!("out of range: expected {}", type_name(wanted)), None)
        }
        Kind::InvalidValue(found, wanted) | Kind::InvalidType(found, wanted) => {
            (format!("expected {}, found {}", type_name(wanted), found_name(found)), None)
        }
        Kind::Message(text) if text.contains("untagged enum") => {
            ("expected a name, or a table with a name".to_owned(), None)
        }
        // Texts of our own, or of serde about the form of a value; neither quotes it.
        Kind::Message(text) => (text.clone(), None),
        Kind::InvalidLength(_, wanted) => (format!("wrong length: expected {wanted}"), None),
        Kind::MissingField(name) => (format!("`{name}` is missing"), None),
        Kind::DuplicateField(name) => (format!("`{name}` is given twice"), None),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => ("out of range".to_owned(), None),
        Kind::Unsupported(found) | Kind::UnsupportedKey(found, _) => {
            (format!("{} is of no use here", found_name(found)), None)
        }
    }
}

/// serde's words for what it wanted, in those of TOML.
fn type_name(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "a list",
        "a string" | "str" | "string" => "a text in quotes",
        "a boolean" | "bool" => "true or false",
        "f64" | "f32" => "a number",
        "u16" => "a whole number from 0 to 65535",
        "u64" | "usize" | "u32" => "a whole number, zero or more",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") => "one of its names in quotes",
        other => other,
    }
}

fn found_name(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        Actual::Bytes(_)
        | Actual::Unit
        | Actual::Option
        | Actual::NewtypeStruct
        | Actual::Enum
        | Actual::UnitVariant
        | Actual::NewtypeVariant
        | Actual::TupleVariant
        | Actual::StructVariant
        | Actual::Other(_) => "something else",
    }
}
