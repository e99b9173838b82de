//! What an import would change: for each server of the clients' files, whether it is new, known, another spelling of one that
//! is known, or none that can be taken.
//!
//! Two servers are the same if they are reached by the same command and arguments, or the same address, and are given the same
//! (`given.rs`): two accounts at one address are two servers, and so are one that may write and one that may not. What stands in the configuration is never changed: who wants
//! a client's version of it takes the other out first.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use trunkline_wire::ServerName;
use url::{Host, Url};

use super::given::{gives, otherwise};
use super::kept::{Files, Kept};
use super::secrets::{self, Places};
use super::translate::{self, Translated, translate};
use crate::clients::{Client, Found, Surroundings};

/// What becomes of a server.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It will be written, under this name.
    New,
    /// It stands in the configuration as it is here.
    Same,
    /// It stands in the configuration otherwise, in these keys, and stays so.
    Differs(Vec<String>),
    /// It is the server of this name.
    Duplicate(String),
    /// It is the gateway itself.
    Own,
    /// There is nothing in it that could be taken.
    LeftOut(String),
}

/// One server of one file.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) found: Found,
    /// What it is called here.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) translated: Option<Translated>,
    pub(super) kept: Vec<Kept>,
    /// Whether it is switched off in that file.
    pub(super) off_there: bool,
    /// Whose file has it on, if it is off in this one: then it arrives on.
    pub(super) on_in: Option<Client>,
    /// A server that is reached in the same way and given something else, and what that is.
    pub(super) unlike: Option<(String, Vec<String>)>,
}

/// What decides.
pub(super) struct Planner<'a> {
    pub(super) at: &'a Surroundings,
    pub(super) port: u16,
    pub(super) files: &'a Files,
    pub(super) keep_literal: bool,
}

struct Known {
    name: String,
    configured: bool,
    translated: Translated,
}

impl Row {
    /// It is in use somewhere: who switched it off in one client did not mean the others.
    fn switch_on(&mut self, client: Client) {
        if let Some(translated) = self.translated.as_mut().filter(|translated| translated.is_off()) {
            translated.block.retain(|(key, _)| key != "enabled");
            self.on_in = Some(client);
        }
    }
}

impl Planner<'_> {
    /// Goes through what was found, in its order. `configured`: what stands in the configuration.
    pub(super) fn plan(&self, configured: &[Found], found: Vec<(Found, Map<String, Value>)>) -> Vec<Row> {
        let mut known: Vec<Known> = configured.iter().filter_map(|found| self.known(found)).collect();
        let mut planned: BTreeMap<String, Kept> = BTreeMap::new();
        let mut rows = Vec::new();
        for (found, inputs) in found {
            let mut row = self.row(found, &inputs, &known);
            if row.verdict == Verdict::New {
                let translated = row.translated.as_mut().expect("what is new was translated");
                known.push(Known { name: row.name.clone(), configured: false, translated: translated.clone() });
                if !self.keep_literal {
                    let base = row.found.project.as_deref().unwrap_or(&self.at.project);
                    let places = Places { home: &self.at.home, base };
                    row.kept = secrets::take(&row.name, &mut translated.block, &places, &mut |file, text| {
                        planned.get(file).is_some_and(|kept| !kept.is(text)) || self.files.is_taken(file, text)
                    });
                    planned.extend(row.kept.iter().map(|kept| (kept.file.clone(), kept.clone())));
                }
            }
            if let (Verdict::Duplicate(of), false) = (&row.verdict, row.off_there) {
                let first = rows.iter_mut().find(|first: &&mut Row| first.verdict == Verdict::New && first.name == *of);
                if let Some(first) = first {
                    first.switch_on(row.found.client);
                }
            }
            rows.push(row);
        }
        rows
    }

    fn known(&self, found: &Found) -> Option<Known> {
        let name = found.name.clone();
        let mut translated = translate::own(found, self.at).ok()?;
        for (_, value) in &mut translated.block {
            self.expand(value);
        }
        Some(Known { name, configured: true, translated })
    }

    fn expand(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.files.expanded(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.expand(value)),
            Value::Object(pairs) => pairs.values_mut().for_each(|value| self.expand(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn row(&self, found: Found, inputs: &Map<String, Value>, known: &[Known]) -> Row {
        let row = |found: Found, verdict, name: &str, translated: Option<Translated>| Row {
            name: name.to_owned(),
            found,
            verdict,
            off_there: translated.as_ref().is_some_and(Translated::is_off),
            translated,
            kept: Vec::new(),
            on_in: None,
            unlike: None,
        };
        let name = found.name.clone();
        if is_own(&found.entry, self.port) {
            return row(found, Verdict::Own, &name, None);
        }
        let translated = match translate(&found, self.at, inputs) {
            Ok(translated) => translated,
            Err(why) => return row(found, Verdict::LeftOut(why), &name, None),
        };
        if is_own(&translated.block.iter().cloned().collect(), self.port) {
            return row(found, Verdict::Own, &name, None);
        }
        let reach = translated.reach();
        let alike: Vec<&Known> = known.iter().filter(|known| known.translated.reach() == reach).collect();
        let named = alike.iter().find(|other| other.configured && other.name == name);
        let keys = named.map(|other| differing(&translated, &other.translated));
        if keys.as_ref().is_some_and(Vec::is_empty) {
            return row(found, Verdict::Same, &name, Some(translated));
        }
        let whole = |other: &&&Known| differing(&translated, &other.translated).is_empty();
        let near = |other: &&&Known| keys.is_none() && otherwise(&translated, &other.translated).is_empty();
        if let Some(other) = alike.iter().find(whole).or_else(|| alike.iter().find(near)) {
            let verdict = Verdict::Duplicate(other.name.clone());
            return row(found, verdict, &other.name, Some(translated));
        }
        if let Some(keys) = keys {
            return row(found, Verdict::Differs(keys), &name, Some(translated));
        }
        let unlike = alike.first().map(|other| (other.name.clone(), otherwise(&translated, &other.translated)));
        match free_name(&found, known) {
            Some(name) => Row { unlike, ..row(found, Verdict::New, &name, Some(translated)) },
            None => row(found, Verdict::LeftOut("it has no name that can be used".to_owned()), &name, None),
        }
    }
}

/// In what a client's version is another than the one that is known. Whether it is on is the operator's choice, and how it is
/// spoken to is found out where it is not said.
fn differing(new: &Translated, known: &Translated) -> Vec<String> {
    let same = |key: &str, value: &Value| match (known.get(key), value) {
        (None, _) => key == "transport",
        (Some(Value::Number(one)), Value::Number(two)) => one.as_f64() == two.as_f64(),
        (Some(known), value) => known == value,
    };
    let keys = new.block.iter().filter(|(key, value)| key != "enabled" && !gives(key) && !same(key, value));
    keys.map(|(key, _)| key.clone()).chain(otherwise(new, known)).collect()
}

/// Its own name if that is free; else with its client's, else with a number. Names that clients cannot tell apart, once `-` is
/// read as `_`, are one name (clients.md 3).
fn free_name(found: &Found, known: &[Known]) -> Option<String> {
    let folded =
        |name: &str| ServerName::new(name).ok().map(|name| name.namespace().to_ascii_lowercase().replace('-', "_"));
    let base: String = found.name.trim().chars().map(|c| if c.is_whitespace() { '-' } else { c }).collect();
    let client = found.client.word();
    // Twenty characters of it stand in front of the names of its tools.
    let short: String = base.chars().take(15).collect();
    let tries = [base.clone(), format!("{base}-{client}")].into_iter();
    let tries = tries.chain((2..1000).map(|number| format!("{short}-{number}")));
    tries.into_iter().find(|name| {
        folded(name).is_some_and(|own| known.iter().all(|other| folded(&other.name).as_ref() != Some(&own)))
    })
}

/// Whether an entry leads to this gateway: by its address, through another bridge too, or by our own.
pub(crate) fn is_own(entry: &Map<String, Value>, port: u16) -> bool {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    if ["url", "serverUrl", "httpUrl"].iter().filter_map(|key| text(key)).any(|url| is_own_url(url, port)) {
        return true;
    }
    let command = text("command").or_else(|| entry.get("command")?.get("path")?.as_str());
    let args = entry.get("args").or_else(|| entry.get("command")?.get("args"));
    let args: Vec<&str> = args.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let program = command.and_then(|command| Path::new(command).file_name()).and_then(|name| name.to_str());
    (program.is_some_and(|name| name.starts_with("trunkline")) && args.contains(&"stdio"))
        || args.iter().any(|arg| is_own_url(arg, port))
}

fn is_own_url(text: &str, port: u16) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let path = url.path();
    let ours = path == "/sse" || path == "/mcp" || path.starts_with("/mcp/");
    here && url.port_or_known_default() == Some(port) && ours
}

/// Whether two clients' entries mean one server: asked before one of them is switched off.
pub(crate) fn is_served(found: &Found, at: &Surroundings, configured: &[Found], beside: &Path) -> bool {
    let (files, port) = (Files::beside(beside), 0);
    let planner = Planner { at, port, files: &files, keep_literal: true };
    let Ok(translated) = translate(found, at, &Map::new()) else { return false };
    configured.iter().filter_map(|known| planner.known(known)).any(|known| {
        !known.translated.is_off()
            && known.translated.reach() == translated.reach()
            && otherwise(&translated, &known.translated).is_empty()
    })
}
