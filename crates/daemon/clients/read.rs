//! A client's file, as the servers that stand in it: each the client's own words for it, as JSON, in the order of the file.
//!
//! Files are a stranger's: bounded in size, read leniently as their clients do (comments and trailing commas), and a mistake
//! is told with file and line, without a word of the text, which may be a secret.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstObject, CstRootNode};
use serde_json::{Map, Value, json};
use toml_edit::{DocumentMut, Item, TableLike};

use super::Client;
use crate::edit::shown;

/// Claude Code keeps its history in the same file, which has been seen to reach tens of megabytes.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Servers of one file: far more than any client could use.
const SERVERS_MAX: usize = 500;

/// JSON as editors take it: with comments and trailing commas, and without what only JSON5 has.
pub(crate) const JSON: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A server as a client's file has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) client: Client,
    pub(crate) file: PathBuf,
    /// The project it is for, if it is for one alone.
    pub(crate) project: Option<PathBuf>,
    pub(crate) name: String,
    /// In the client's own words. What is no table of keys has none.
    pub(crate) entry: Map<String, Value>,
    /// Whether something beside the entry switches it off.
    pub(crate) off: bool,
}

/// What a file has.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) servers: Vec<Found>,
    /// What the client asks a person for: by its id, what it says of it.
    pub(crate) inputs: Map<String, Value>,
    pub(crate) notes: Vec<String>,
}

/// The bytes of a file; `None` if there is none.
pub(crate) fn bytes(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let fail = |why: &str| Err(format!("{}: {why}", shown(path)));
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return fail(&format!("cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return fail("is no regular file");
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => fail(&format!("cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            fail(&format!("is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024))
        }
        Ok(_) => Ok(Some(bytes)),
    }
}

/// Reads a file of this client's; `None` if there is none. `project`: the one it lies in.
pub(crate) fn read(client: Client, path: &Path, project: Option<&Path>) -> Result<Option<Reading>, String> {
    let Some(bytes) = bytes(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| format!("{}: is no UTF-8 text", shown(path)))?;
    // Some editors write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut reading = Reading::default();
    if client == Client::Codex {
        toml(client, path, project, text, &mut reading)?;
    } else {
        json(client, path, project, text, &mut reading)?;
    }
    if reading.servers.len() > SERVERS_MAX {
        reading.servers.truncate(SERVERS_MAX);
        reading.notes.push(format!("{}: only the first {SERVERS_MAX} servers are looked at", shown(path)));
    }
    Ok(Some(reading))
}

/// A mistake in a file, by its line and without its text.
fn unreadable(path: &Path, text: &str, at: usize, what: &str) -> String {
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    format!("{}:{line}: {}", shown(path), what.lines().next().unwrap_or_default())
}

fn toml(client: Client, path: &Path, project: Option<&Path>, text: &str, out: &mut Reading) -> Result<(), String> {
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        unreadable(path, text, error.span().map_or(0, |span| span.start), &format!("is no TOML: {}", error.message()))
    })?;
    let Some(servers) = document.get(client.key()) else { return Ok(()) };
    let Some(servers) = servers.as_table_like() else {
        return Err(format!("{}: `{}` is no table", shown(path), client.key()));
    };
    for (name, item) in servers.iter() {
        let entry = item.as_table_like().map(table_as_json).unwrap_or_default();
        let file = path.to_path_buf();
        let project = project.map(Path::to_path_buf);
        out.servers.push(Found { client, file, project, name: name.to_owned(), entry, off: false });
    }
    Ok(())
}

fn table_as_json(table: &dyn TableLike) -> Map<String, Value> {
    table.iter().map(|(key, item)| (key.to_owned(), item_as_json(item))).collect()
}

fn item_as_json(item: &Item) -> Value {
    match item {
        Item::Value(value) => value_as_json(value),
        Item::Table(table) => Value::Object(table_as_json(table)),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| Value::Object(table_as_json(table))).collect(),
        Item::None => Value::Null,
    }
}

fn value_as_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => json!(text.value()),
        toml_edit::Value::Integer(number) => json!(number.value()),
        toml_edit::Value::Float(number) => json!(number.value()),
        toml_edit::Value::Boolean(yes) => json!(yes.value()),
        toml_edit::Value::Datetime(time) => json!(time.to_string()),
        toml_edit::Value::Array(array) => array.iter().map(value_as_json).collect(),
        toml_edit::Value::InlineTable(table) => Value::Object(table_as_json(table)),
    }
}

fn json(client: Client, path: &Path, project: Option<&Path>, text: &str, out: &mut Reading) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let root = CstRootNode::parse(text, &JSON)
        .map_err(|error| unreadable(path, text, error.range().start, &format!("is no JSON: {}", error.kind())))?;
    let Some(root) = root.object_value() else {
        return Err(format!("{}: is no JSON object", shown(path)));
    };
    let before = out.servers.len();
    servers(client, path, project, &root, out);
    match client {
        // Those that it keeps for one project each.
        Client::ClaudeCode => {
            for (directory, settings) in root.object_value("projects").iter().flat_map(named_objects) {
                servers(client, path, Some(Path::new(&directory)), &settings, out);
            }
        }
        Client::Gemini => {
            let lists = root.object_value("mcp").and_then(|mcp| mcp.to_serde_value()).unwrap_or_default();
            let has = |list: &str, name: &str| lists[list].as_array().map(|names| names.iter().any(|has| has == name));
            for found in &mut out.servers[before..] {
                found.off = has("excluded", &found.name) == Some(true) || has("allowed", &found.name) == Some(false);
            }
        }
        Client::Vscode => {
            let inputs = root.get("inputs").and_then(|inputs| inputs.value()?.to_serde_value()).unwrap_or_default();
            for input in inputs.as_array().into_iter().flatten() {
                if let Some(id) = input["id"].as_str() {
                    out.inputs.insert(id.to_owned(), input.clone());
                }
            }
        }
        Client::Codex | Client::ClaudeDesktop | Client::Cursor | Client::Windsurf | Client::Zed => {}
    }
    Ok(())
}

fn servers(client: Client, path: &Path, project: Option<&Path>, within: &CstObject, out: &mut Reading) {
    let off: Vec<String> = ["disabledMcpServers", "disabledMcpjsonServers"]
        .iter()
        .filter_map(|key| within.get(key)?.value()?.to_serde_value())
        .flat_map(|list| list.as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let Some(servers) = within.object_value(client.key()) else { return };
    for property in servers.properties() {
        let Some(name) = property.decoded_name() else { continue };
        let entry = property.value().and_then(|value| value.to_serde_value());
        let entry = entry.and_then(|value| value.as_object().cloned()).unwrap_or_default();
        let project = project.map(Path::to_path_buf);
        let off = off.contains(&name);
        out.servers.push(Found { client, file: path.to_path_buf(), project, name, entry, off });
    }
}

fn named_objects(within: &CstObject) -> Vec<(String, CstObject)> {
    let objects = within.properties().into_iter();
    objects.filter_map(|property| Some((property.decoded_name()?, property.object_value()?))).collect()
}
