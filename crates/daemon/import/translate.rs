//! A client's entry in the words of our configuration.
//!
//! What means the same is carried over under our name for it; what is of the client alone and changes nothing here is left
//! out without a word; all else that is left out is told. What a person has to see to is told too, and the server is
//! written all the same: it shows up as misconfigured, with the sentence that says what is missing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::variables::Variables;
use crate::clients::{Client, Found, Surroundings};

/// A server in our words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Translated {
    /// Its keys, in the order that they are written.
    pub(super) block: Vec<(String, Value)>,
    /// What was left out, and why.
    pub(super) left_out: Vec<String>,
    /// What a person has to see to.
    pub(super) needs: Vec<String>,
}

impl Translated {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.block.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    pub(super) fn is_off(&self) -> bool {
        self.get("enabled") == Some(&Value::Bool(false))
    }

    /// What it is reached by: equal for the same server, wherever it was found.
    pub(super) fn reach(&self) -> Option<String> {
        if let Some(url) = self.get("url").and_then(Value::as_str) {
            return Some(url.trim_end_matches('/').to_owned());
        }
        let command = self.get("command").and_then(Value::as_str)?;
        let args = self.get("args").and_then(Value::as_array).into_iter().flatten();
        // A version that was named for a package makes no other server, and neither does the flag that asks nobody.
        let words = args.filter_map(Value::as_str).filter(|word| !matches!(*word, "-y" | "--yes"));
        let words: Vec<&str> = std::iter::once(command).chain(words).collect();
        let cwd = self.get("cwd").and_then(Value::as_str);
        Some(format!("{}\u{0}{}", words.join("\u{0}"), cwd.unwrap_or_default()))
    }
}

/// Keys of clients that change nothing here.
const OF_NO_WEIGHT: [&str; 16] = [
    "type",
    "transport",
    "source",
    "gallery",
    "version",
    "description",
    "name",
    "icon",
    "displayName",
    "dev",
    "$schema",
    "trust",
    "alwaysAllow",
    "autoApprove",
    "alwaysLoad",
    "settings",
];

/// Codex's keys, which are ours.
const OURS: [&str; 21] = [
    "command",
    "args",
    "env",
    "env_vars",
    "cwd",
    "url",
    "transport",
    "bearer_token_env_var",
    "bearer_token",
    "http_headers",
    "env_http_headers",
    "enabled",
    "startup_timeout_sec",
    "startup_timeout_ms",
    "tool_timeout_sec",
    "enabled_tools",
    "disabled_tools",
    "scopes",
    "oauth",
    "ca_file",
    "prefix",
];

/// Codex's keys that have no meaning here.
const CODEX_ALONE: [&str; 11] = [
    "required",
    "default_tools_approval_mode",
    "supports_parallel_tool_calls",
    "tools",
    "oauth_resource",
    "tool_input_schema_max_bytes",
    "startup_readiness",
    "environment_id",
    "name",
    "auth",
    "http_headers_helper",
];

/// Brings an entry into our words; an error says why there is no server in it.
pub(super) fn translate(found: &Found, at: &Surroundings, inputs: &Map<String, Value>) -> Result<Translated, String> {
    let mut work = Work::new(found, at, inputs);
    if found.client == Client::Codex { work.codex(Work::translated) } else { work.json() }?;
    if found.off && !work.block.iter().any(|(key, _)| key == "enabled") {
        work.put("enabled", json!(false));
    }
    work.place(found.project.as_deref());
    let Work { block, left_out, variables, .. } = work;
    Ok(Translated { block, left_out, needs: variables.needs })
}

/// A block of the configuration itself, whose references are what they are.
pub(super) fn own(found: &Found, at: &Surroundings) -> Result<Translated, String> {
    let inputs = Map::new();
    let mut work = Work::new(found, at, &inputs);
    work.codex(|_, _, value| value)?;
    Ok(Translated { block: work.block, left_out: Vec::new(), needs: Vec::new() })
}

struct Work<'a> {
    entry: Map<String, Value>,
    block: Vec<(String, Value)>,
    left_out: Vec<String>,
    variables: Variables<'a>,
}

impl<'a> Work<'a> {
    fn new(found: &'a Found, at: &'a Surroundings, inputs: &'a Map<String, Value>) -> Self {
        let variables = Variables::new(found.client, at, found.project.as_deref(), inputs);
        Self { entry: found.entry.clone(), block: Vec::new(), left_out: Vec::new(), variables }
    }

    fn put(&mut self, key: &str, value: Value) {
        if !value.is_null() {
            self.block.push((key.to_owned(), value));
        }
    }

    /// Codex's blocks are ours already, once `each` has seen their values.
    fn codex(&mut self, each: impl Fn(&mut Self, &str, Value) -> Value) -> Result<(), String> {
        for key in OURS {
            // Codex knows no `transport`, and does not say so (clients.md 4).
            if let Some(value) = self.entry.remove(key) {
                let value = each(self, key, value);
                self.put(key, value);
            }
        }
        let alone: Vec<String> = self.entry.keys().cloned().collect();
        for key in alone {
            let why = if CODEX_ALONE.contains(&key.as_str()) { "without meaning here" } else { "not known here" };
            self.left_out.push(format!("{key} ({why})"));
        }
        self.has_reach()
    }

    /// A value with the texts in it in our words.
    fn translated(&mut self, place: &str, value: Value) -> Value {
        match value {
            Value::String(text) => json!(self.ours(place, &text)),
            Value::Array(list) => list.into_iter().map(|value| self.translated(place, value)).collect(),
            Value::Object(pairs) => {
                let pairs = pairs.into_iter();
                Value::Object(pairs.map(|(key, value)| (key.clone(), self.translated(&key, value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn ours(&mut self, place: &str, text: &str) -> String {
        place.clone_into(&mut self.variables.place);
        self.variables.translate(text)
    }

    fn json(&mut self) -> Result<(), String> {
        let kind = self.text("type").or_else(|| self.text("transport"));
        self.command()?;
        self.address(kind.as_deref());
        self.has_reach()?;
        self.switches();
        self.sign_in();
        for key in OF_NO_WEIGHT {
            self.entry.remove(key);
        }
        let rest: Vec<String> = std::mem::take(&mut self.entry).into_iter().map(|(key, _)| key).collect();
        for key in rest {
            match key.as_str() {
                "envFile" => self.variables.needs.push(
                    "its variables stand in a file (`envFile`), which is not read here: write them into `env`"
                        .to_owned(),
                ),
                "headersHelper" => self.variables.needs.push(
                    "its headers come from a command (`headersHelper`), which is not run here: write them into \
                     `http_headers`"
                        .to_owned(),
                ),
                _ => self.left_out.push(format!("{key} (not known here)")),
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), String> {
        let mut command = self.entry.remove("command");
        // Zed wrote it as a table once.
        if let Some(Value::Object(table)) = &mut command {
            for key in ["args", "env"] {
                if let Some(value) = table.remove(key) {
                    self.entry.insert(key.to_owned(), value);
                }
            }
            command = table.remove("path");
        }
        let Some(command) = command else { return Ok(()) };
        let command = command.as_str().ok_or("`command` is no text")?;
        let command = self.in_place("command", command);
        self.put("command", json!(command));
        if let Some(args) = self.entry.remove("args") {
            let args = args.as_array().ok_or("`args` is no list")?;
            let mut ours = Vec::new();
            for arg in args {
                let arg = plain(arg).ok_or("`args` has something that is no text")?;
                ours.push(self.ours("argument", &arg));
            }
            if !ours.is_empty() {
                self.put("args", json!(ours));
            }
        }
        let env = self.pairs("env")?;
        self.put("env", env);
        if let Some(cwd) = self.text("cwd") {
            let cwd = self.in_place("cwd", &cwd);
            self.put("cwd", json!(cwd));
        }
        Ok(())
    }

    fn address(&mut self, kind: Option<&str>) {
        let by_http = self.text("httpUrl");
        let is_http = by_http.is_some();
        let Some(url) = by_http.or_else(|| self.text("serverUrl")).or_else(|| self.text("url")) else { return };
        let url = self.ours("url", &url);
        self.put("url", json!(url));
        match kind {
            Some("sse") => self.put("transport", json!("sse")),
            Some("http" | "streamable-http" | "streamableHttp" | "streamable_http") => {
                self.put("transport", json!("http"));
            }
            _ if is_http => self.put("transport", json!("http")),
            // Clients try one after the other, and so does the daemon.
            _ => {}
        }
        self.entry.remove("url");
        match self.pairs("headers") {
            Ok(headers) => self.headers(headers),
            Err(why) => self.left_out.push(format!("headers ({why})")),
        }
    }

    /// A bearer token that is a variable has a key of its own.
    fn headers(&mut self, headers: Value) {
        let Value::Object(mut headers) = headers else { return };
        let bearer = headers.iter().find_map(|(name, value)| {
            let variable = value.as_str()?.strip_prefix("Bearer ${env:")?.strip_suffix('}')?;
            (name.eq_ignore_ascii_case("authorization") && !variable.contains('$'))
                .then(|| (name.clone(), variable.to_owned()))
        });
        if let Some((name, variable)) = bearer {
            headers.remove(&name);
            self.put("bearer_token_env_var", json!(variable));
        }
        if !headers.is_empty() {
            self.put("http_headers", Value::Object(headers));
        }
    }

    fn switches(&mut self) {
        let off =
            self.entry.remove("disabled") == Some(json!(true)) || self.entry.get("enabled") == Some(&json!(false));
        self.entry.remove("enabled");
        if off {
            self.put("enabled", json!(false));
        }
        for (theirs, ours) in
            [("includeTools", "enabled_tools"), ("excludeTools", "disabled_tools"), ("disabledTools", "disabled_tools")]
        {
            let names =
                self.entry.remove(theirs).filter(|names| names.as_array().is_some_and(|names| !names.is_empty()));
            // Gemini takes arguments behind a name.
            let names = names.map(|names| {
                let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
                json!(names.map(|name| name.split('(').next().unwrap_or(name)).collect::<Vec<_>>())
            });
            if let Some(names) = names {
                self.put(ours, names);
            }
        }
        // In milliseconds, where it is documented.
        let timed = matches!(self.variables.client, Client::Gemini | Client::ClaudeCode);
        if let Some(timeout) = self.entry.remove("timeout") {
            match timeout.as_f64().filter(|ms| timed && (1000.0..=86_400_000.0).contains(ms)) {
                Some(ms) => self.put("tool_timeout_sec", json!((ms / 1000.0).ceil())),
                None => self.left_out.push("timeout (270 s without a sign of life is the default here)".to_owned()),
            }
        }
        for (theirs, ours) in [("startup_timeout_sec", "startup_timeout_sec"), ("tool_timeout_sec", "tool_timeout_sec")]
        {
            if let Some(seconds) = self.entry.remove(theirs).filter(Value::is_number) {
                self.put(ours, seconds);
            }
        }
    }

    /// As whom a person was registered by hand, if that is so.
    fn sign_in(&mut self) {
        let given = self.entry.remove("oauth").or_else(|| self.entry.remove("auth"));
        let Some(Value::Object(given)) = given else { return };
        let mut ours = Map::new();
        for (theirs, key) in [
            ("clientId", "client_id"),
            ("CLIENT_ID", "client_id"),
            ("clientSecret", "client_secret"),
            ("CLIENT_SECRET", "client_secret"),
        ] {
            if let Some(text) = given.get(theirs).and_then(Value::as_str) {
                ours.insert(key.to_owned(), json!(self.ours(theirs, text)));
            }
        }
        if let Some(port) = given.get("callbackPort").filter(|port| port.is_u64()) {
            ours.insert("callback_port".to_owned(), port.clone());
        }
        if let Some(scopes) = given.get("scopes").filter(|scopes| scopes.is_array()) {
            self.put("scopes", scopes.clone());
        }
        if !ours.is_empty() {
            self.put("oauth", Value::Object(ours));
        }
        self.variables.needs.push("sign in to it once for all clients, by `trunkline login`".to_owned());
    }

    fn has_reach(&self) -> Result<(), String> {
        let has = |key| {
            self.block.iter().any(|(own, value)| own == key && value.as_str().is_some_and(|text| !text.is_empty()))
        };
        match (has("command"), has("url")) {
            (true, false) | (false, true) => Ok(()),
            (true, true) => Err("it has a command and an address".to_owned()),
            (false, false)
                if self.entry.contains_key("settings") || self.entry.get("source") == Some(&json!("extension")) =>
            {
                Err("an extension runs it, so there is no command to take over".to_owned())
            }
            (false, false) => Err("it has neither command nor address".to_owned()),
        }
    }

    /// Clients start the servers of a project in it. That matters only to one that is named by a path from there.
    fn place(&mut self, project: Option<&Path>) {
        let Some(project) = project else { return };
        let relative = |text: &str| text == "." || text.starts_with("./") || text.starts_with("../");
        let texts = |key: &str| -> Vec<String> {
            let value = self.block.iter().find(|(own, _)| own == key).map(|(_, value)| value.clone());
            match value {
                Some(Value::String(text)) => vec![text],
                Some(Value::Array(list)) => list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
                _ => Vec::new(),
            }
        };
        let from_there = texts("command").iter().chain(&texts("args")).any(|text| {
            relative(text) || (text.contains('/') && !text.starts_with('/') && project.join(text).exists())
        });
        let cwd = self.block.iter_mut().find(|(key, _)| key == "cwd");
        match cwd {
            Some((_, Value::String(cwd))) if !cwd.starts_with(['/', '~']) => {
                *cwd = project.join(&*cwd).display().to_string();
            }
            Some(_) => {}
            None if from_there => self.put("cwd", json!(project.display().to_string())),
            None => {}
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let text = self.entry.get(key)?.as_str()?.to_owned();
        self.entry.remove(key);
        Some(text)
    }

    /// A value in which the configuration replaces nothing: what its variables stand for now is put in.
    fn in_place(&mut self, place: &str, text: &str) -> String {
        let ours = self.ours(place, text);
        let mut out = String::new();
        let mut rest = ours.as_str();
        while let Some((before, from)) = rest.split_once("${env:") {
            out.push_str(before);
            let Some((name, after)) = from.split_once('}') else { break };
            if let Some(value) = self.variables.at.variable(name) {
                out.push_str(value);
            } else {
                out.extend(["${env:", name, "}"]);
                self.variables.needs.push(format!("write what `${{env:{name}}}` stands for: it is not replaced there"));
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn pairs(&mut self, key: &str) -> Result<Value, String> {
        let Some(pairs) = self.entry.remove(key) else { return Ok(Value::Null) };
        let pairs = pairs.as_object().ok_or_else(|| format!("`{key}` is no table"))?;
        let mut ours = BTreeMap::new();
        for (name, value) in pairs {
            if value.is_null() {
                continue;
            }
            let text = plain(value).ok_or_else(|| format!("`{key}` has something that is no text"))?;
            ours.insert(name.clone(), self.ours(name, &text));
        }
        Ok(if ours.is_empty() { Value::Null } else { json!(ours) })
    }
}

/// Texts, and what people write without quotes where a text belongs.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
