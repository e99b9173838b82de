//! Where a configuration comes from: [`Sources`] as given by the daemon, merged into [`Layers`].
//!
//! figment merges the layers (file, then `TRUNKLINE_*` variables, then flags; the defaults are those of the file
//! format itself) and remembers for each value which layer it came from. Two things it does not keep are read from
//! the text of the file with the parser that lies below figment's own: the order of the tables, because figment
//! sorts them and clients are to see servers in the order the operator wrote them; and line numbers.
//!
//! Variables: `TRUNKLINE_` and the key's path, joined by two underscores: `TRUNKLINE_LISTEN__PORT`,
//! `TRUNKLINE_MCP_SERVERS__LINEAR__URL`. Each is a layer of its own, so that an error names it. A variable with no
//! `__` that is no key either is left alone: it belongs to a script, or marks a child of ours.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use toml_edit::{ImDocument, Item};

use crate::error::{ConfigError, Source};
use crate::files;

/// What [`load`](crate::load) reads.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file the operator named; it must exist. `None`: the default path, which need not.
    pub file: Option<PathBuf>,
    /// The daemon's environment.
    pub env: Vec<(String, String)>,
    /// What the command line said.
    pub flags: Flags,
}

/// Settings from the command line. They win over everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`: a port, or `ADDRESS:PORT`.
    pub listen: Option<String>,
}

/// Where the configuration file is looked for when none was named: `$TRUNKLINE_CONFIG`, else
/// `$XDG_CONFIG_HOME/trunkline/config.toml`, else `~/.config/trunkline/config.toml`.
pub fn default_config_path(env: &[(String, String)]) -> PathBuf {
    match variable(env, "TRUNKLINE_CONFIG") {
        Some(path) => PathBuf::from(path),
        None => below(env, "XDG_CONFIG_HOME", ".config").join("config.toml"),
    }
}

/// Where the daemon keeps its state: `$XDG_STATE_HOME/trunkline`, else `~/.local/state/trunkline`.
pub fn state_dir(env: &[(String, String)]) -> PathBuf {
    below(env, "XDG_STATE_HOME", ".local/state")
}

/// A variable that is set and not empty.
pub(crate) fn variable<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// The home directory: `$HOME`, else what the system's user table says.
pub(crate) fn home(env: &[(String, String)]) -> PathBuf {
    variable(env, "HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_else(|| PathBuf::from("/"))
}

/// The layers, merged, and where each value came from.
pub(crate) struct Layers<'a> {
    /// The merged tree.
    pub(crate) tree: Dict,
    /// The file that was read, if any.
    pub(crate) path: Option<PathBuf>,
    figment: Figment,
    document: Option<ImDocument<String>>,
    env: &'a [(String, String)],
}

impl<'a> Layers<'a> {
    /// Reads and merges all sources.
    pub(crate) fn read(sources: &'a Sources) -> Result<Self, Vec<ConfigError>> {
        let named = sources.file.clone().or_else(|| variable(&sources.env, "TRUNKLINE_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| default_config_path(&sources.env));
        let text = match files::read(&path) {
            Ok(text) => Some(text),
            Err(files::FileError::Missing) if named.is_none() => None,
            Err(error) => return Err(vec![whole(Source::File(path, None), error.to_string(), None)]),
        };

        let mut layers =
            Self { tree: Dict::new(), path: None, figment: Figment::new(), document: None, env: &sources.env };
        if let Some(text) = text {
            let document = ImDocument::parse(text.clone()).map_err(|error| {
                // Only the message: the error's own text quotes the line, which may hold a secret.
                let line = error.span().map(|span| line_at(&text, span.start));
                vec![whole(
                    Source::File(path.clone(), line),
                    format!("not TOML: {}", error.message().trim().replace('\n', ", ")),
                    None,
                )]
            })?;
            layers.figment = layers.figment.merge(FileLayer { path: &path, text: &text });
            layers.document = Some(document);
            layers.path = Some(path);
        }
        let servers = layers.servers_in_order();
        let mut variables: Vec<_> = sources
            .env
            .iter()
            .filter_map(|(name, text)| {
                Some(SettingLayer { name, origin: "environment", key: key_of(name, &servers)?, value: value_of(text) })
            })
            .collect();
        variables.sort_by_key(|layer| layer.name);
        for layer in variables {
            layers.figment = layers.figment.merge(layer);
        }
        if let Some(listen) = &sources.flags.listen {
            for (key, value) in listen_flag(listen)? {
                let key = vec!["listen".to_owned(), key.to_owned()];
                layers.figment = layers.figment.merge(SettingLayer { name: "--listen", origin: "flag", key, value });
            }
        }
        layers.tree = match layers.figment.data() {
            Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
            Err(error) => {
                let source = layers.path.clone().map_or(Source::Flag("--config"), |path| Source::File(path, None));
                return Err(vec![whole(source, format!("cannot be read: {:?}", error.path), None)]);
            }
        };
        Ok(layers)
    }

    /// Whether no file says anything: there is none, or nothing but blanks and comments in it.
    pub(crate) fn is_blank(&self) -> bool {
        self.document.as_ref().is_none_or(|document| document.as_table().is_empty())
    }

    /// Names of the servers in the order the file has them. Those that only the environment knows are not in it.
    pub(crate) fn servers_in_order(&self) -> Vec<String> {
        let table = self.document.as_ref().and_then(|document| document.get("mcp_servers")?.as_table_like());
        table.map(|table| table.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default()
    }

    /// Where the value at a key came from; for a key that is not there, where its table did.
    pub(crate) fn source_of(&self, key: &[&str]) -> Source {
        let mut value = None;
        let mut table = Some(&self.tree);
        for part in key {
            let Some(found) = table.and_then(|table| table.get(*part)) else { break };
            table = found.as_dict();
            value = Some(found);
        }
        let metadata = value.and_then(|value: &Value| self.figment.get_metadata(value.tag()));
        match metadata.map(|metadata| (metadata.name.as_ref(), metadata.source.as_ref())) {
            Some((name, Some(figment::Source::Custom(origin)))) if origin == "environment" => {
                Source::Environment(name.to_owned())
            }
            Some((_, Some(figment::Source::Custom(_)))) => Source::Flag("--listen"),
            _ => Source::File(self.path.clone().unwrap_or_default(), self.line_of(key)),
        }
    }

    /// The text of the variable that the value at a key came from, as it was before it was read as a number.
    pub(crate) fn variable_text(&self, key: &[&str]) -> Option<&'a str> {
        match self.source_of(key) {
            Source::Environment(name) => variable(self.env, &name),
            Source::File(..) | Source::Flag(_) => None,
        }
    }

    /// The line of a key in the file, or of the nearest table above it.
    fn line_of(&self, key: &[&str]) -> Option<usize> {
        let document = self.document.as_ref()?;
        let mut item: &Item = document.as_item();
        let mut at = None;
        for part in key {
            let Some((key, below)) = item.as_table_like().and_then(|table| table.get_key_value(part)) else { break };
            at = key.span().or(at);
            item = below;
        }
        at.map(|span| line_at(document.raw(), span.start))
    }
}

/// The text of the file. It was read once, so that what is checked is what was read.
struct FileLayer<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Provider for FileLayer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", self.path)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(self.text).data()
    }
}

/// One variable or flag.
struct SettingLayer<'a> {
    name: &'a str,
    origin: &'static str,
    key: Vec<String>,
    value: Value,
}

impl Provider for SettingLayer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from(self.name.to_owned(), figment::Source::Custom(self.origin.to_owned()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self
            .key
            .iter()
            .rev()
            .fold(self.value.clone(), |value, part| Value::Dict(Tag::Default, Dict::from([(part.clone(), value)])));
        Ok(Map::from([(Profile::Default, nested.into_dict().unwrap_or_default())]))
    }
}

/// The key a variable sets. Variables are in capitals, so all of a key is read in small letters but for what is a
/// name of the operator's: a server, found without regard to case and to `-`, and what stands in its tables.
fn key_of(variable: &str, servers: &[String]) -> Option<Vec<String>> {
    let rest = variable.strip_prefix("TRUNKLINE_")?;
    if rest == "CONFIG" || !(rest.contains("__") || rest == "ERRORS") {
        return None;
    }
    let mut parts: Vec<String> = rest.splitn(4, "__").map(str::to_owned).collect();
    parts[0].make_ascii_lowercase();
    if parts[0] == "mcp_servers" {
        if let Some(name) = parts.get_mut(1) {
            let folded = |name: &str| name.to_ascii_lowercase().replace('-', "_");
            let known = servers.iter().find(|known| folded(known) == folded(name));
            *name = known.cloned().unwrap_or_else(|| name.to_ascii_lowercase());
        }
        if let Some(key) = parts.get_mut(2) {
            key.make_ascii_lowercase();
        }
        if parts.get(2).is_some_and(|key| key == "limits") {
            for part in &mut parts[3..] {
                part.make_ascii_lowercase();
            }
        }
    } else {
        for part in &mut parts {
            part.make_ascii_lowercase();
        }
    }
    Some(parts)
}

/// Reads a variable's text as a TOML value where it is one, else as text: `6270`, `true`, `[a, b]`, `linear`.
fn value_of(text: &str) -> Value {
    text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

/// What `--listen` sets: a bare port leaves the hosts as they are.
fn listen_flag(text: &str) -> Result<Vec<(&'static str, Value)>, Vec<ConfigError>> {
    let port = |text: &str| text.parse::<u16>().ok().map(|port| ("port", Value::from(port)));
    if let Some(port) = port(text) {
        return Ok(vec![port]);
    }
    let parts = text.rsplit_once(':').and_then(|(host, text)| Some((host, port(text)?)));
    match parts {
        Some(("localhost", port)) => Ok(vec![port]),
        Some((host, port)) if !host.is_empty() => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok(vec![port, ("hosts", Value::from(vec![host.to_owned()]))])
        }
        Some(_) | None => Err(vec![whole(
            Source::Flag("--listen"),
            "expected a port or ADDRESS:PORT".to_owned(),
            Some("for example 6270, 127.0.0.1:6270 or [::1]:6270".to_owned()),
        )]),
    }
}

fn below(env: &[(String, String)], base: &str, otherwise: &str) -> PathBuf {
    // A relative path in these variables is to be ignored (XDG base directory specification).
    let base = variable(env, base).map(PathBuf::from).filter(|path| path.is_absolute());
    base.unwrap_or_else(|| home(env).join(otherwise)).join("trunkline")
}

fn whole(source: Source, problem: String, hint: Option<String>) -> ConfigError {
    ConfigError { source, key: String::new(), problem, hint }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
