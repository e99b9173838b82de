//! What the clients of this machine have in their files: an entry that leads here, one that leads to another port, or
//! servers of their own that are served here as well. Files are read, and never written; `trunkline connect` does that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use url::{Host, Url};

use super::report::{Finding, Mark, Report};
use crate::clients::{self, Client, Found, Surroundings};
use crate::import;

/// What is served, as the configuration has it, and where that lies.
pub(super) struct Served {
    pub(super) servers: Vec<Found>,
    pub(super) config: PathBuf,
    /// Whether the door wants a token.
    pub(super) wants_token: bool,
}

/// One server in a client's file.
#[derive(Debug)]
struct Entry {
    name: String,
    /// Whether it is served here too, by the same word that `connect --switch-off` goes by.
    served: bool,
    url: Option<String>,
    command: Option<String>,
    args: Vec<String>,
    /// Whether it shows a token, or names a variable that has it.
    token: bool,
}

/// Reads the files of this user. `port` is where the daemon is, or would be.
pub(super) fn examine(at: &Surroundings, served: &Served, port: u16, report: &mut Report) {
    let (mut findings, mut here) = (Vec::new(), BTreeSet::new());
    let (mut found, mut unread) = (false, Vec::new());
    for client in Client::ALL {
        let path = client.user_file(at);
        match clients::read(client, &path, None) {
            Ok(None) => {}
            Ok(Some(reading)) => {
                found = true;
                let on = reading.servers.iter().filter(|server| !is_off(server));
                let entries: Vec<Entry> = on.map(|found| entry(found, at, served)).collect();
                look(client, &path, &entries, port, &mut here, &mut findings);
                if served.wants_token {
                    findings.extend(without_token(client, &path, &entries, port));
                }
            }
            Err(problem) => unread.push(format!("{} ({problem})", client.title())),
        }
    }
    let mut says = match (here.is_empty(), found) {
        (true, false) => "no client's file was found".to_owned(),
        (true, true) => "none leads here yet; `trunkline connect codex` makes an entry".to_owned(),
        (false, _) => format!("these lead here: {}", here.iter().copied().collect::<Vec<_>>().join(", ")),
    };
    if !unread.is_empty() {
        says = format!("{says}; not understood: {}", unread.join(", "));
    }
    if here.is_empty() && findings.is_empty() {
        return report.note("clients", Mark::Absent, says);
    }
    report.part("clients", says, findings);
}

fn look(
    client: Client,
    path: &Path,
    entries: &[Entry],
    port: u16,
    here: &mut BTreeSet<&'static str>,
    findings: &mut Vec<Finding>,
) {
    let (name, connect) = (client.title(), format!("trunkline connect {}", client.word()));
    let ports: Vec<(&Entry, u16)> = entries.iter().filter_map(|entry| Some((entry, gateway_port(entry)?))).collect();
    let leads_here = ports.iter().any(|(_, led)| *led == port) || entries.iter().any(is_bridge);
    if leads_here {
        here.insert(name);
    }
    for (entry, led) in ports.iter().filter(|(entry, led)| *led != port && is_ours_by_name(entry)) {
        let says =
            format!("{name} has an entry `{}` for port {led} ({}); the daemon's is {port}", entry.name, path.display());
        findings.push(Finding::error("TL-CLIENT-PORT", says, "Have its entry lead to the daemon.").by(connect.clone()));
    }
    let twice: Vec<&str> = entries.iter().filter(|entry| entry.served).map(|entry| entry.name.as_str()).collect();
    // Before it leads here its own servers are what it has; after that they are started twice.
    if leads_here && !twice.is_empty() {
        let says = format!("{name} starts what is served here as well: {} ({})", twice.join(", "), path.display());
        let advice = "Switch those entries off, so that each server runs once; `--undo` brings them back.";
        findings.push(Finding::warning("TL-CLIENT-TWICE", says, advice).by(format!("{connect} --switch-off")));
    }
}

/// An entry that leads here and shows no token, where one is wanted: the client is refused, and most say only that a login failed.
fn without_token(client: Client, path: &Path, entries: &[Entry], port: u16) -> Option<Finding> {
    let entry = entries.iter().find(|entry| gateway_port(entry) == Some(port) && !entry.token)?;
    let says = format!(
        "{}'s entry `{}` has no token, and the daemon wants one (`[auth]`): it is refused ({})",
        client.title(),
        entry.name,
        path.display()
    );
    let advice = "Have its entry written anew, and set the variable that it names where the client is started.";
    let connect = format!("trunkline connect {}", client.word());
    Some(Finding::error("TL-CLIENT-TOKEN", says, advice).by(connect))
}

/// Whether an entry has a header or a variable for a token, by the keys that any of the clients reads.
fn has_token(entry: &Map<String, Value>) -> bool {
    let tables = ["headers", "http_headers", "env_http_headers", "requestInit"];
    let mut headers = tables.iter().filter_map(|table| entry.get(*table)?.as_object()).flat_map(Map::keys);
    ["bearer_token_env_var", "bearer_token", "headersHelper"].iter().any(|key| entry.get(*key).is_some())
        || headers.any(|header| header.eq_ignore_ascii_case("authorization"))
}

/// The port, if an entry leads to an endpoint of this machine that looks like a gateway's.
fn gateway_port(entry: &Entry) -> Option<u16> {
    let url = Url::parse(entry.url.as_deref()?).ok()?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let path = url.path();
    let is_endpoint = path == "/mcp" || path.starts_with("/mcp/") || path == "/sse";
    (is_loopback && is_endpoint).then(|| url.port_or_known_default())?
}

/// Whether an entry starts `trunkline stdio`.
fn is_bridge(entry: &Entry) -> bool {
    let program = entry.command.as_deref().map(std::path::Path::new).and_then(std::path::Path::file_name);
    program.is_some_and(|name| name == "trunkline") && entry.args.iter().any(|arg| arg == "stdio")
}

fn is_ours_by_name(entry: &Entry) -> bool {
    ["tl", "trunkline"].contains(&entry.name.to_ascii_lowercase().as_str())
}

fn entry(found: &Found, at: &Surroundings, served: &Served) -> Entry {
    let text = |key: &str| found.entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let args = found.entry.get("args").and_then(Value::as_array).into_iter().flatten();
    let args = args.filter_map(Value::as_str).map(str::to_owned).collect();
    let url = text("url").or_else(|| text("serverUrl")).or_else(|| text("httpUrl"));
    let name = match found.project.as_deref().and_then(Path::file_name) {
        Some(project) => format!("{} ({})", found.name, project.to_string_lossy()),
        None => found.name.clone(),
    };
    let is_served = import::is_served(found, at, &served.servers, &served.config);
    Entry { name, served: is_served, url, command: text("command"), args, token: has_token(&found.entry) }
}

fn is_off(found: &Found) -> bool {
    let is = |key: &str| found.entry.get(key).and_then(Value::as_bool);
    found.off || is("enabled") == Some(false) || is("disabled") == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[mcp_servers.linear]\nurl = \"https://mcp.linear.app/mcp\"\n[mcp_servers.git]\ncommand = \"npx\"\n\
                          args = [\"-y\", \"git-mcp\"]\n";

    fn examined(files: &[(&str, &str)]) -> Report {
        guarded(files, false)
    }

    fn guarded(files: &[(&str, &str)], wants_token: bool) -> Report {
        let home = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let config = home.path().join("config.toml");
        std::fs::write(&config, CONFIG).expect("written");
        let servers = clients::read(Client::Codex, &config, None).expect("sound").expect("there").servers;
        let mut report = Report::default();
        let at = Surroundings { home: home.path().to_owned(), project: home.path().to_owned(), env: Vec::new() };
        examine(&at, &Served { servers, config, wants_token }, 6270, &mut report);
        report
    }

    #[test]
    fn a_client_that_leads_here_and_starts_the_same_servers_is_told() {
        let codex = "[mcp_servers.tl]\nurl = \"http://127.0.0.1:6270/mcp\"\n[mcp_servers.git]\ncommand = \"npx\"\nargs = \
                     [\"-y\", \"git-mcp\"]\n[mcp_servers.linear]\nurl = \"https://mcp.linear.app/mcp\"\nenabled = false\n";
        let report = examined(&[(".codex/config.toml", codex)]);
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        assert_eq!(
            (finding.code.as_str(), finding.command.as_deref()),
            ("TL-CLIENT-TWICE", Some("trunkline connect codex --switch-off"))
        );
        assert!(finding.says.contains("git (") && !finding.says.contains("linear"), "{finding:?}");
    }

    #[test]
    fn an_entry_without_a_token_is_told_where_one_is_wanted() {
        let bare = r#"{"mcpServers":{"trunkline":{"url":"http://localhost:6270/mcp"}}}"#;
        let report = guarded(&[(".cursor/mcp.json", bare)], true);
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        let command = finding.command.as_deref();
        assert_eq!((finding.code.as_str(), command), ("TL-CLIENT-TOKEN", Some("trunkline connect cursor")));
        assert!(examined(&[(".cursor/mcp.json", bare)]).findings.is_empty(), "none is wanted");
        let shown =
            r#"{"mcpServers":{"trunkline":{"url":"http://localhost:6270/mcp","headers":{"authorization":"x"}}}}"#;
        let codex = "[mcp_servers.tl]\nurl = \"http://127.0.0.1:6270/mcp\"\nbearer_token_env_var = \"X\"\n";
        let bridge = r#"{"mcpServers":{"trunkline":{"command":"/bin/trunkline","args":["stdio"]}}}"#;
        for file in [(".cursor/mcp.json", shown), (".codex/config.toml", codex), (".cursor/mcp.json", bridge)] {
            assert!(guarded(&[file], true).findings.is_empty(), "{file:?}");
        }
    }

    #[test]
    fn an_entry_for_another_port_is_told() {
        let cursor = r#"{"mcpServers":{"trunkline":{"url":"http://localhost:7000/mcp"}}}"#;
        let report = examined(&[(".cursor/mcp.json", cursor)]);
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        assert_eq!(finding.code, "TL-CLIENT-PORT");
        assert!(finding.says.contains("port 7000"), "{finding:?}");
        let ide = r#"{"mcpServers":{"webstorm":{"url":"http://localhost:64342/sse"}}}"#;
        assert!(examined(&[(".cursor/mcp.json", ide)]).findings.is_empty(), "an IDE's own port is no mistake");
    }

    #[test]
    fn servers_of_projects_count_and_servers_of_a_client_that_does_not_lead_here_are_its_own() {
        let claude = r#"{"numStartups":3,"projects":{"/home/you/x":{"mcpServers":{"git":{"command":"npx","args":["-y","git-mcp"]}}}}}"#;
        assert!(examined(&[(".claude.json", claude)]).findings.is_empty());
        let leading = claude.replacen('{', r#"{"mcpServers":{"tl":{"type":"http","url":"http://[::1]:6270/mcp"}},"#, 1);
        let report = examined(&[(".claude.json", &leading)]);
        let finding = &report.findings[0];
        assert_eq!(finding.code, "TL-CLIENT-TWICE");
        assert!(finding.says.contains("git (x) ("), "{finding:?}");
        let off = leading.replace(r#""mcpServers":{"git""#, r#""disabledMcpServers":["git"],"mcpServers":{"git""#);
        assert!(examined(&[(".claude.json", &off)]).findings.is_empty(), "it is off there");
        let broken = examined(&[(".cursor/mcp.json", "{ mine }")]);
        assert!(broken.findings.is_empty() && broken.text("0").contains("not understood: Cursor ("), "{broken:?}");
    }
}
