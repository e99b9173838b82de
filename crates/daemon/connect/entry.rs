//! The one entry, in each client's words, and what its user should know.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Map, Value, json};
use trunkline_config::{Config, Listen, Sources, Surface};
use url::Url;

use super::Connect;
use super::ledger::Named;
use crate::clients::{Client, Surroundings};
use crate::exit::Failure;
use crate::render;

/// The variable that clients are told to take a token from, where tokens are asked for.
pub(super) const TOKEN: &str = "TRUNKLINE_TOKEN";

/// The keys of the entry.
pub(super) fn of(
    connect: &Connect,
    config: &Config,
    file: &Path,
    sources: &Sources,
) -> Result<Vec<(String, Value)>, Failure> {
    if config.listen.port == 0 {
        let text = "`listen.port` is 0, so the address is another with each start; give it a number first";
        return Err(Failure::config(text.to_owned()));
    }
    let url = url(config);
    let token = !config.auth.tokens.is_empty();
    let bearer = |reference: String| json!({ "Authorization": format!("Bearer {reference}") });
    let mut entry: Vec<(&str, Value)> = Vec::new();
    let mut by_url = |fixed: &[(&'static str, &str)], key: &'static str, reference: String| {
        entry.extend(fixed.iter().map(|(key, value)| (*key, json!(value))));
        entry.push((key, json!(url)));
        if token {
            entry.push(("headers", bearer(reference)));
        }
    };
    match connect.client {
        Client::Codex => {
            entry.push(("url", json!(url)));
            if token {
                entry.push(("bearer_token_env_var", json!(TOKEN)));
            }
            if connect.parallel {
                entry.push(("supports_parallel_tool_calls", json!(true)));
            }
        }
        Client::ClaudeCode => by_url(&[("type", "http")], "url", format!("${{{TOKEN}}}")),
        Client::Vscode => by_url(&[("type", "http")], "url", format!("${{env:{TOKEN}}}")),
        Client::Cursor => by_url(&[], "url", format!("${{env:{TOKEN}}}")),
        Client::Windsurf => by_url(&[], "serverUrl", format!("${{env:{TOKEN}}}")),
        Client::Gemini => by_url(&[], "httpUrl", format!("${TOKEN}")),
        Client::Zed if !token => by_url(&[("source", "custom")], "url", String::new()),
        // It starts programs only; or, as Zed, has no word for a variable, and the bridge needs no token.
        Client::ClaudeDesktop | Client::Zed => {
            if connect.client == Client::Zed {
                entry.push(("source", json!("custom")));
            }
            let program = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
            entry.push(("command", json!(program.unwrap_or_else(|| "trunkline".to_owned()))));
            let mut args = vec![json!("stdio")];
            let at = Surroundings::here(&sources.env);
            let named = sources.file.is_some() || at.variable("TRUNKLINE_CONFIG").is_some();
            if named {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
                args.extend([json!("--config"), json!(file)]);
            }
            entry.push(("args", json!(args)));
            let elsewhere = elsewhere(&at, named);
            if !elsewhere.is_empty() {
                entry.push(("env", Value::Object(elsewhere)));
            }
        }
    }
    Ok(entry.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Variables that say where configuration and state are, and where those are without them, in the home directory.
const PLACES: [(&str, &str); 2] = [("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state")];

/// Whether the entry's own environment has it from us.
pub(super) fn is_variable_of_ours(name: &str) -> bool {
    PLACES.iter().any(|(own, _)| *own == name)
}

/// Where configuration and state are, if not where everybody's are: a client that is started from a desktop has nothing of
/// what a shell sets, and its bridge would find no daemon, and start another.
fn elsewhere(at: &Surroundings, config_is_named: bool) -> Map<String, Value> {
    let set = PLACES.into_iter().filter(|(name, _)| !(config_is_named && *name == "XDG_CONFIG_HOME"));
    let set = set.filter_map(|(name, usual)| Some((name, usual, at.variable(name)?)));
    // A relative one counts for nothing (XDG base directory specification).
    let others = set.filter(|(_, usual, set)| Path::new(set).is_absolute() && Path::new(set) != at.home.join(usual));
    others.map(|(name, _, set)| (name.to_owned(), json!(set))).collect()
}

fn url(config: &Config) -> String {
    format!("http://{}/mcp", SocketAddr::new(host(&config.listen), config.listen.port))
}

/// The address that clients of this machine are told.
pub(super) fn host(listen: &Listen) -> IpAddr {
    let host = listen.hosts.iter().find(|host| host.is_ipv4()).or(listen.hosts.first());
    host.copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Whether an entry was ours, before the port was another.
pub(super) fn was_ours(entry: &Map<String, Value>) -> bool {
    let urls = ["url", "serverUrl", "httpUrl"].into_iter().filter_map(|key| entry.get(key)?.as_str());
    urls.filter_map(|url| Url::parse(url).ok()).any(|url| {
        (url.path() == "/mcp" || url.path().starts_with("/mcp/"))
            && url.port().is_some()
            && matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
    })
}

/// What to know about it, a paragraph each.
pub(super) fn notes(connect: &Connect, config: &Config, twice: &[Named], switched_off: bool) -> String {
    let mut notes: Vec<String> = Vec::new();
    let word = connect.client.word();
    if !twice.is_empty() && !switched_off {
        let names: Vec<String> = twice.iter().map(Named::shown).collect();
        notes.push(format!(
            "It has {} of its own that Trunkline serves too: {}.\n`trunkline connect {word}{} --switch-off` switches \
             off what it has twice.",
            render::counted(twice.len(), "server"),
            names.join(", "),
            if connect.project { " --project" } else { "" },
        ));
    }
    if !config.auth.tokens.is_empty() && !matches!(connect.client, Client::ClaudeDesktop | Client::Zed) {
        notes.push(format!(
            "The daemon asks for a token (`[auth]`): {} takes it from the variable {TOKEN}, which has to be set where it \
             is started.",
            connect.client.title()
        ));
    }
    if connect.client == Client::Codex && config.surface != Surface::All {
        notes.push(
            "With `expose` other than \"all\" every call is one of `call_tool`, of which Codex cannot know what it does: it \
             asks before\neach, or refuses it where it may not ask."
                .to_owned(),
        );
    }
    match connect.client {
        Client::Codex if !connect.parallel => notes.push(
            "Codex sends calls of one entry one after the other, but for tools that say that they only read. `--parallel` \
             writes\n`supports_parallel_tool_calls = true`: then it sends all at once, and every server behind Trunkline \
             gets them so."
                .to_owned(),
        ),
        Client::ClaudeCode if !connect.project => notes.push(
            "Claude Code writes this file too while it runs. If the entry is not there at its next start, close it and \
             connect again."
                .to_owned(),
        ),
        Client::ClaudeDesktop => {
            notes.push("Claude Desktop reads the file when it starts; quit it and open it again.".to_owned());
        }
        Client::Codex
        | Client::ClaudeCode
        | Client::Cursor
        | Client::Vscode
        | Client::Windsurf
        | Client::Zed
        | Client::Gemini => {}
    }
    let mut out = String::new();
    for note in notes {
        out.push('\n');
        out.push_str(&note);
        out.push('\n');
    }
    out
}
