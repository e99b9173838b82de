//! `trunkline check`: the configuration read as `serve` would read it, and what came of it.

use std::fmt::Write;
use std::process::ExitCode;

use trunkline_config::{Auth, Connect, HttpTransport, Loaded, Reach, Server, Sources};
use trunkline_telemetry::redact;

use crate::exit::{self, Failure};
use crate::render::{self, Table};

/// Loads the configuration and prints its problems, or a summary.
pub(crate) fn run(sources: &Sources) -> ExitCode {
    match trunkline_config::load(sources) {
        Ok(loaded) => exit::printed(&summary(&loaded), true),
        Err(errors) => {
            let count = errors.0.len();
            let problems = if count == 1 { "a problem".to_owned() } else { format!("{count} problems") };
            let text = format!("the configuration has {problems}:\n{errors}");
            exit::report(Err(Failure::config(render::safe(&text))))
        }
    }
}

fn summary(loaded: &Loaded) -> String {
    let mut out = String::new();
    let path = loaded.path.as_ref().map(|path| path.display().to_string());
    let path = path.unwrap_or_else(|| "no configuration file; defaults".to_owned());
    let servers = &loaded.config.servers;
    let _ = writeln!(out, "{}: {}", render::field(&path), render::counted(servers.len(), "server"));
    if !servers.is_empty() {
        let mut table = Table::new(&["SERVER", "TRANSPORT", "REACHED BY", ""]);
        for (name, server) in servers {
            let (transport, reached) = reached_by(server);
            let note = if server.enabled { "" } else { "disabled" };
            table.row([name.as_str(), transport, &reached, note].map(render::field));
        }
        let _ = write!(out, "\n{table}");
    }
    let holders = holders(&loaded.config.auth);
    if !holders.is_empty() {
        let mut table = Table::new(&["TOKEN", "REACHES"]);
        for (name, reaches) in &holders {
            table.row([*name, reaches].map(render::field));
        }
        let _ = write!(out, "\n{table}");
    }
    let problems = servers.iter().filter_map(|(name, server)| Some((name, server.problem.as_ref()?)));
    let mut notes: Vec<String> =
        problems.map(|(name, problem)| format!("server {name} will not start from here: {problem}")).collect();
    notes.extend(loaded.warnings.iter().map(|warning| format!("warning: {warning}")));
    if !notes.is_empty() {
        let _ = writeln!(out, "\n{}", render::safe(&notes.join("\n")));
    }
    out
}

/// Who holds a token, and how far it reaches, in words.
pub(crate) fn holders(auth: &Auth) -> Vec<(&str, String)> {
    let mut names: Vec<&str> = auth.tokens.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names.into_iter().map(|name| (name, auth.reach(name).map_or_else(|| "everything".to_owned(), reaches))).collect()
}

fn reaches(reach: &Reach) -> String {
    let own = reach.profile.as_ref().map(|profile| format!("profile {profile} at /mcp"));
    let others = reach.profiles.iter().flatten().filter(|name| reach.profile.as_ref() != Some(name));
    let others: Vec<String> = others.map(|name| format!("/mcp/{name}")).collect();
    let others = (!others.is_empty()).then(|| others.join(", "));
    let servers = reach.servers.as_ref().map(|servers| {
        let names: Vec<&str> = servers.iter().map(trunkline_wire::ServerName::as_str).collect();
        format!("of the servers only {}", names.join(", "))
    });
    [own, others, servers].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn reached_by(server: &Server) -> (&'static str, String) {
    match &server.connect {
        Connect::Stdio(stdio) => ("stdio", stdio.command.clone()),
        Connect::Http(http) => {
            let transport = match http.transport {
                HttpTransport::Auto => "auto",
                HttpTransport::Http => "http",
                HttpTransport::Sse => "sse",
            };
            (transport, redact::url(http.url.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use trunkline_config::Secret;

    use super::*;

    #[test]
    fn s5_how_far_each_token_reaches_is_told_in_words() {
        let name = |name: &str| trunkline_wire::ServerName::new(name).expect("a name");
        let one = Reach {
            profile: Some("ci".into()),
            profiles: Some(vec!["work".into(), "ci".into()]),
            servers: Some(vec![name("git"), name("web")]),
        };
        let only = Reach { profiles: Some(vec!["work".into()]), ..Reach::default() };
        let tokens = ["ci", "ci", "guest", "laptop"].map(|name| (name.to_owned(), Secret::new(name))).to_vec();
        let auth = Auth { tokens, limited: vec![("ci".into(), one), ("guest".into(), only)], ..Auth::default() };
        let told = holders(&auth);
        let told: Vec<(&str, &str)> = told.iter().map(|(name, reaches)| (*name, reaches.as_str())).collect();
        assert_eq!(
            told,
            [
                ("ci", "profile ci at /mcp; /mcp/work; of the servers only git, web"),
                ("guest", "/mcp/work"),
                ("laptop", "everything")
            ]
        );
    }

    #[test]
    fn the_summary_names_servers_problems_and_warnings() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        let text = r#"
[mcp_servers.linear]
url = "https://mcp.linear.app/mcp/secret-path?key=1"
bearer_token_env_var = "LINEAR_API_KEY"
required = true

[mcp_servers.files]
command = "npx"
args = ["-y", "files"]
enabled = false
"#;
        std::fs::write(&path, text).expect("written");
        let sources = Sources { file: Some(path), ..Sources::default() };
        let loaded = trunkline_config::load(&sources).expect("sound");
        let text = summary(&loaded).replace(&dir.path().display().to_string(), "…");
        assert_snapshot!(text, @r"
        …/config.toml: 2 servers

        SERVER  TRANSPORT  REACHED BY
        linear  auto       https://mcp.linear.app/mcp/…
        files   stdio      npx                           disabled

        server linear will not start from here: bearer_token_env_var: the environment variable LINEAR_API_KEY is not set for the daemon; set it where the daemon is started
        warning: keys of Codex's own, without effect here: required (of linear)
        ");
    }
}
