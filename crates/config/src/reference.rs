//! The reference of the configuration, for people: made of the schema, so that it cannot say anything else than what is
//! read. It is checked in as `docs/configuration.md`; a test fails when the two drift apart.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const HEAD: &str = "\
# The configuration, key by key

Written by `make reference` from the same definitions that read the file; `config/default.toml` has each key at its default
with the reason, `config/schema.json` is for editors, and `trunkline check` says what is wrong with a file.

The file is `--config FILE`, else `$TRUNKLINE_CONFIG`, else `$XDG_CONFIG_HOME/trunkline/config.toml`, else
`~/.config/trunkline/config.toml`. Nothing in it is needed. Every key can be set by a variable too: `TRUNKLINE_` and its path,
joined by two underscores, as in `TRUNKLINE_LISTEN__PORT=7000`. Flags win over variables, and variables over the file.

`${env:NAME}` and `${file:PATH}`, where a text may have them, are replaced by the variable and by what stands in the file: keys
need not stand in the configuration. What a server starts with may also come from a program, `${cmd:…}`, or from the machine's
keychain, `${keyring:NAME}`: docs/signing-in.md.
";

/// The words with which the schema says that a key of Codex's does nothing here.
const IGNORED: &str = "#/$defs/Ignored";

/// The reference as Markdown.
pub fn reference() -> String {
    let schema: Value = serde_json::from_str(&crate::schema()).expect("our own schema");
    let mut out = HEAD.to_owned();
    let pages = Pages { defs: &schema["$defs"] };
    let (single, tables): (Vec<_>, Vec<_>) = members(&schema).partition(|(_, value)| pages.table_of(value).is_none());
    let single: Map<String, Value> = single.into_iter().filter(|(key, _)| *key != "mcp_servers").map(owned).collect();
    out.push_str("\n## Of its own\n\n");
    pages.rows(&mut out, &single);
    for (key, value) in tables {
        pages.section(&mut out, 2, key, value);
    }
    for (key, value) in members(&schema).filter(|(key, _)| *key != "mcp_servers") {
        pages.section_of_each(&mut out, 2, key, value);
    }
    let servers = &schema["properties"]["mcp_servers"];
    pages.section(&mut out, 2, "mcp_servers.NAME", &with_description(&servers["additionalProperties"], servers));
    out
}

struct Pages<'a> {
    defs: &'a Value,
}

impl<'a> Pages<'a> {
    /// A table of the file: what it says of itself, its keys, and then the tables in it.
    fn section(&self, out: &mut String, depth: usize, name: &str, value: &Value) {
        let Some(table) = self.table_of(value) else { return };
        let _ = write!(out, "\n{} `[{name}]`\n\n{}\n\n", "#".repeat(depth), described(value));
        let is_ignored = |value: &Value| value["anyOf"][0]["$ref"] == IGNORED;
        let (ignored, keys): (Vec<_>, Vec<_>) = members(table).partition(|(_, value)| is_ignored(value));
        let (below, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(_, value)| self.table_of(value).is_some());
        self.rows(out, &keys.into_iter().map(owned).collect());
        if !ignored.is_empty() {
            let names: Vec<String> = ignored.iter().map(|(key, _)| format!("`{key}`")).collect();
            let _ = writeln!(out, "\nCodex's own, accepted and without effect here: {}.", names.join(", "));
        }
        for (key, value) in below {
            self.section(out, depth + 1, &format!("{name}.{key}"), value);
        }
        for (key, value) in members(table) {
            self.section_of_each(out, depth + 1, &format!("{name}.{key}"), value);
        }
    }

    /// The tables that a key has by name.
    fn section_of_each(&self, out: &mut String, depth: usize, name: &str, value: &Value) {
        let each = &value["additionalProperties"];
        let forms = self.resolved(each).and_then(|known| known["anyOf"].as_array());
        let table = std::iter::once(each).chain(forms.into_iter().flatten()).find(|form| self.table_of(form).is_some());
        if let Some(table) = table {
            let of_its_own = self.table_of(table).unwrap_or(table);
            self.section(out, depth, &format!("{name}.NAME"), &with_description(table, of_its_own));
        }
    }

    fn rows(&self, out: &mut String, keys: &Map<String, Value>) {
        out.push_str("| key | what it takes | default | what it does |\n|---|---|---|---|\n");
        for (key, value) in keys {
            let default = &value["default"];
            let default = if default.is_null() { String::new() } else { format!("`{default}`") };
            let _ = writeln!(out, "| `{key}` | {} | {default} | {} |", self.takes(value), self.does(value));
        }
    }

    /// The definition of a value that is a table with keys of its own.
    fn table_of(&self, value: &Value) -> Option<&'a Value> {
        let table = self.resolved(value)?;
        table["properties"].is_object().then_some(table)
    }

    /// What a value refers to, be it optional or not.
    fn resolved(&self, value: &Value) -> Option<&'a Value> {
        let name = value["$ref"].as_str().or_else(|| value["anyOf"][0]["$ref"].as_str())?;
        self.defs.get(name.strip_prefix("#/$defs/")?)
    }

    fn takes(&self, value: &Value) -> String {
        if let Some(known) = self.resolved(value) {
            if let Some(words) = words(known) {
                return words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
            }
            if known["properties"].is_object() {
                return "table".to_owned();
            }
            let forms = known["anyOf"].as_array().into_iter().flatten();
            return forms.map(|form| self.takes(form)).collect::<Vec<_>>().join(" or ");
        }
        let kind = value["type"].as_str().or_else(|| value["type"][0].as_str()).unwrap_or("anything");
        match kind {
            "array" => format!("list of: {}", self.takes(&value["items"])),
            "object" if value["additionalProperties"].is_object() => {
                format!("table of: {}", self.takes(&value["additionalProperties"]))
            }
            "object" => "table".to_owned(),
            "string" => "text".to_owned(),
            "boolean" => "`true`, `false`".to_owned(),
            "integer" => "whole number".to_owned(),
            other => other.to_owned(),
        }
    }

    /// What a key does, and what each of its words means.
    fn does(&self, value: &Value) -> String {
        let mut text = described(value);
        let words = self.resolved(value).and_then(words).unwrap_or_default();
        if !words.is_empty() {
            let each = words.iter().map(|(word, meaning)| format!("`{word}`: {}", decapitalised(meaning)));
            let _ = write!(text, " {}", each.collect::<Vec<_>>().join("; "));
        }
        text.replace('|', "\\|")
    }
}

/// The words that a value may be, each with its meaning.
fn words(known: &Value) -> Option<Vec<(&str, String)>> {
    let forms = known["oneOf"].as_array()?;
    forms.iter().map(|form| Some((form["const"].as_str()?, described(form)))).collect()
}

fn members(table: &Value) -> impl Iterator<Item = (&String, &Value)> {
    table["properties"].as_object().into_iter().flatten()
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn with_description(value: &Value, of: &Value) -> Value {
    let mut value = value.clone();
    value["description"] = of["description"].clone();
    value
}

/// The description without what only those who work on the code can look up.
fn described(value: &Value) -> String {
    let text = value["description"].as_str().unwrap_or_default().replace('\n', " ");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(begin) = rest.find(" (") {
        let inside = &rest[begin + 2..];
        let end = inside.find(')').unwrap_or(inside.len());
        let is_reference = ["R-", "S-", "G-", "F-", "mcp-protocol", "reliability", "clients.md"]
            .iter()
            .any(|of| inside.starts_with(of));
        if is_reference {
            out.push_str(&rest[..begin]);
            rest = inside.get(end + 1..).unwrap_or_default();
        } else {
            out.push_str(&rest[..begin + 2]);
            rest = inside;
        }
    }
    out + rest
}

fn decapitalised(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_checked_in_reference_is_that_of_the_file_format() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let checked_in = std::fs::read_to_string(path).expect("docs/configuration.md is there");
        assert!(checked_in == reference(), "docs/configuration.md is out of date; write it anew with: make reference");
    }

    #[test]
    fn every_key_of_the_schema_stands_in_it() {
        let text = reference();
        let schema: Value = serde_json::from_str(&crate::schema()).expect("JSON");
        let tables = ["Auth", "LimitedToken", "Limits", "Listen", "Log", "OAuth", "Profile", "Server", "ServerLimits"];
        for key in tables.iter().flat_map(|table| members(&schema["$defs"][table]).map(|(key, _)| key)) {
            let is_there = text.contains(&format!("`{key}`")) || text.contains(&format!(".{key}]`"));
            assert!(is_there, "{key}");
        }
        assert!(!text.contains("anything"), "each key says what it takes");
    }

    #[test]
    fn references_to_the_contract_are_left_out_and_other_brackets_stay() {
        let text = |text: &str| described(&json!({ "description": text }));
        assert_eq!(text("Open (S-23).\nAnd shut (R-1, R-2)"), "Open. And shut");
        assert_eq!(text("Asks the model (sampling)."), "Asks the model (sampling).");
        assert_eq!(decapitalised("JSON it is."), "JSON it is");
        assert_eq!(decapitalised("For people."), "for people");
    }
}
