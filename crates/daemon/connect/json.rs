//! Changes of a client's JSON file in one place: the rest stays byte for byte, comments, order and all.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

use super::change::Difference;
use super::ledger::{Named, Off};
use crate::clients::{Client, JSON};

/// Claude Code's list of what is off in a project; for its own servers it has no such word.
const OFF_IN_PROJECT: &str = "disabledMcpServers";

/// A file's text as a tree that remembers every byte.
pub(super) struct Document {
    root: CstRootNode,
    client: Client,
}

impl Document {
    /// Reads a text that was read before by `clients::read`, so nobody has to be told where a mistake is.
    pub(super) fn parse(client: Client, text: &str) -> Result<Self, String> {
        let options: ParseOptions = JSON;
        let text = if text.trim().is_empty() { "{}\n" } else { text };
        let root = CstRootNode::parse(text, &options).map_err(|error| format!("is no JSON: {}", error.kind()))?;
        root.object_value().ok_or("is no JSON object")?;
        Ok(Self { root, client })
    }

    pub(super) fn text(&self) -> String {
        self.root.to_string()
    }

    /// Brings an entry up to date where it stands, or writes it as the last.
    pub(super) fn put(&self, name: &str, change: &Difference) -> Result<(), String> {
        let key = self.client.key();
        let root = self.root.object_value().ok_or("is no JSON object")?;
        let servers = match root.get(key) {
            Some(property) => property.object_value().ok_or_else(|| format!("`{key}` is no object"))?,
            None => root.object_value_or_set(key),
        };
        let Some(entry) = servers.get(name).and_then(|property| property.object_value()) else {
            // In one piece: so it is laid out as its neighbours are.
            let whole = change.set.iter().map(|((key, _), value)| (key.clone(), input(value)));
            let whole = CstInputValue::Object(whole.collect());
            match servers.get(name) {
                Some(property) => property.set_value(whole),
                None => {
                    servers.append(name, whole);
                }
            }
            return Ok(());
        };
        for ((key, within), value) in &change.set {
            let (table, key) = match within {
                Some(name) => (entry.object_value_or_set(key), name),
                None => (entry.clone(), key),
            };
            match table.get(key) {
                Some(property) => property.set_value(input(value)),
                None => {
                    table.append(key, input(value));
                }
            }
        }
        for (key, within) in &change.unset {
            match within {
                Some(name) => {
                    let Some(table) = entry.object_value(key) else { continue };
                    table.get(name).into_iter().for_each(CstObjectProp::remove);
                    if table.properties().is_empty() {
                        entry.get(key).into_iter().for_each(CstObjectProp::remove);
                    }
                }
                None => entry.get(key).into_iter().for_each(CstObjectProp::remove),
            }
        }
        Ok(())
    }

    /// Takes an entry out. A table that is empty then stays: it means what none would.
    pub(super) fn remove(&self, name: &str) {
        if let Some(property) = self.server(name) {
            property.remove();
        }
    }

    /// Switches a server off, and says what it takes to switch it on again.
    pub(super) fn switch_off(&self, named: &Named) -> Option<Off> {
        let Named { name, project } = named.clone();
        let off = |key: &str, had: Option<Value>| Off {
            name: name.clone(),
            project: project.clone(),
            key: Some(key.to_owned()),
            had,
            raw: None,
            index: 0,
        };
        if let Some(project) = &project {
            let list = self.project(project)?.array_value_or_set(OFF_IN_PROJECT);
            list.append(CstInputValue::from(name.as_str()));
            return Some(off(OFF_IN_PROJECT, None));
        }
        let property = self.server(&name)?;
        match self.client {
            Client::Windsurf => Some(off("disabled", set(&property.object_value()?, "disabled", true))),
            Client::Zed => Some(off("enabled", set(&property.object_value()?, "enabled", false))),
            Client::Gemini => {
                let list = self.root.object_value()?.object_value_or_set("mcp").array_value_or_set("excluded");
                list.append(CstInputValue::from(name.as_str()));
                Some(off("excluded", None))
            }
            // They have no word for it in the file: it is moved out, and put back from what is kept.
            Client::ClaudeCode | Client::ClaudeDesktop | Client::Cursor | Client::Vscode | Client::Codex => {
                let raw = property.value()?.to_string();
                let index = property.property_index();
                property.remove();
                Some(Off { name, project, key: None, had: None, raw: Some(raw), index })
            }
        }
    }

    /// Switches a server on again, unless somebody has done so, or has taken it out.
    pub(super) fn switch_on(&self, off: &Off) -> Option<()> {
        if let Some(raw) = &off.raw {
            let root = self.root.object_value()?;
            let servers = root.object_value_or_set(self.client.key());
            if servers.get(&off.name).is_some() {
                return Some(());
            }
            // A text is put in first, and then takes the form that the entry had.
            let index = off.index.min(servers.properties().len());
            let property = servers.insert(index, &off.name, CstInputValue::from(""));
            property.value()?.as_string_lit()?.set_raw_value(raw.clone());
            return Some(());
        }
        let list = match &off.project {
            Some(project) => Some(self.project(project)?.array_value(OFF_IN_PROJECT)?),
            None if self.client == Client::Gemini => {
                Some(self.root.object_value()?.object_value("mcp")?.array_value("excluded")?)
            }
            None => None,
        };
        if let Some(list) = list {
            let is_it = |value: Option<Value>| value.as_ref().and_then(Value::as_str) == Some(&off.name);
            list.elements().into_iter().filter(|element| is_it(element.to_serde_value())).for_each(CstNode::remove);
            return Some(());
        }
        let key = off.key.as_deref()?;
        let property = self.server(&off.name)?.object_value()?.get(key)?;
        match &off.had {
            Some(had) => property.set_value(input(had)),
            None => property.remove(),
        }
        Some(())
    }

    /// What Claude Code keeps for one project.
    fn project(&self, directory: &str) -> Option<CstObject> {
        self.root.object_value()?.object_value("projects")?.object_value(directory)
    }

    fn server(&self, name: &str) -> Option<CstObjectProp> {
        self.root.object_value()?.object_value(self.client.key())?.get(name)
    }
}

/// Sets a switch of an entry; returns what it was.
fn set(entry: &CstObject, key: &str, value: bool) -> Option<Value> {
    if let Some(property) = entry.get(key) {
        let had = property.value().and_then(|value| value.to_serde_value());
        property.set_value(CstInputValue::from(value));
        return had;
    }
    entry.append(key, CstInputValue::from(value));
    None
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(yes) => CstInputValue::Bool(*yes),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(pairs) => {
            CstInputValue::Object(pairs.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}
