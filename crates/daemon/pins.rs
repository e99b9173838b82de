//! `trunkline pins`: which tools are not as they were when they were seen first, and what a person says to that (S-15).
//!
//! The daemon compares; here it is shown, line by line, with nothing cut off: what is hidden at the end of a long
//! description is the very thing to be looked for. All of it is text of servers, and escaped (S-17).

use std::fmt::Write as _;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::ask::{Printed, Socket, escaped, good, of_server, raw, read, soon};
use crate::exit::Failure;
use crate::render::{self, Table};

pub(crate) const EXAMPLES: &str = "\
The definition of each tool (name, title, description, schemas, annotations) is remembered
as it was seen first. Where `pin` of its server is `warn`, the default, a change is told of;
with `block` the tool is withheld until it is accepted; with `off` nothing is remembered.
Exits with 1 if a tool is not as it was pinned.

Examples:
  trunkline pins                             of all servers
  trunkline pins diff linear                 what changed
  trunkline pins accept linear               take all of it
  trunkline pins accept linear get_issue     take one tool, by the server's own name of it";

#[derive(Debug, Args)]
pub(crate) struct Pins {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print it as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what changed since it was pinned
    Diff {
        /// Only of this server
        server: Option<String>,
    },
    /// Pin what a server lists now
    Accept {
        /// The server, by its name in the configuration
        server: String,
        /// Only this tool, by the server's own name of it
        tool: Option<String>,
    },
}

#[derive(Deserialize)]
struct Standings {
    #[serde(default)]
    servers: Vec<Standing>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Standing {
    server: String,
    pin: String,
    pinned: u64,
    lost: bool,
    changed: Vec<Changed>,
    unpinned: Vec<String>,
    vanished: Vec<String>,
}

#[derive(Deserialize)]
struct Changed {
    tool: String,
    #[serde(default)]
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    member: String,
    was: Option<String>,
    now: Option<String>,
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(default)]
    taken: Vec<String>,
}

/// Asks the daemon.
pub(crate) async fn answer(socket: &Socket<'_>, asked: &Pins) -> Result<Printed, Failure> {
    let server = match &asked.action {
        None => None,
        Some(Action::Diff { server }) => server.as_deref(),
        Some(Action::Accept { server, tool }) => {
            let tool = tool.as_deref().map(|tool| format!("?tool={}", escaped(tool))).unwrap_or_default();
            let path = format!("/api/v1/servers/{}/pins/accept{tool}", escaped(server));
            let body = soon(socket.post(&path, Bytes::new())).await?;
            let accepted: Accepted = read(&body)?;
            return Ok(good(if asked.json { raw(&body) } else { taken(server, &accepted.taken) }));
        }
    };
    let body = soon(socket.get(&format!("/api/v1/pins{}", of_server(server)))).await?;
    let Standings { servers } = read(&body)?;
    let well = servers.iter().all(Standing::is_well);
    let text = match &asked.action {
        _ if asked.json => raw(&body),
        None => overview(&servers),
        Some(_) => diff(&servers),
    };
    Ok(Printed { text, well })
}

impl Standing {
    fn is_well(&self) -> bool {
        self.changed.is_empty() && self.unpinned.is_empty() && !self.lost
    }

    /// In a few words.
    fn words(&self) -> String {
        let mut words = Vec::new();
        if self.pin == "off" {
            return "nothing is compared".to_owned();
        }
        if self.lost {
            words.push("its pins cannot be read any more".to_owned());
        }
        if !self.changed.is_empty() {
            let names: Vec<String> = self.changed.iter().map(|changed| render::field(&changed.tool)).collect();
            words.push(format!("changed: {}", names.join(", ")));
        }
        if !self.unpinned.is_empty() {
            words.push(format!("{} not pinned", render::counted(self.unpinned.len(), "tool")));
        }
        if words.is_empty() {
            words.push("as pinned".to_owned());
        }
        if !self.vanished.is_empty() {
            words.push(format!("{} not listed now", self.vanished.len()));
        }
        words.join("; ")
    }
}

fn overview(servers: &[Standing]) -> String {
    if servers.is_empty() {
        return "No servers.\n".to_owned();
    }
    let mut table = Table::new(&["SERVER", "PIN", "PINNED", "TOOLS"]);
    for server in servers {
        table.row([
            render::field(&server.server),
            render::field(&server.pin),
            server.pinned.to_string(),
            server.words(),
        ]);
    }
    let mut out = table.to_string();
    if let Some(first) = servers.iter().find(|server| !server.is_well()) {
        let name = render::field(&first.server);
        let _ =
            writeln!(out, "\n`trunkline pins diff {name}` shows the change, `trunkline pins accept {name}` takes it.");
    }
    out
}

fn diff(servers: &[Standing]) -> String {
    let mut out = String::new();
    for server in servers {
        let name = render::field(&server.server);
        if server.lost {
            let _ = writeln!(out, "{name}: its pins cannot be read any more, so nothing can be compared");
        }
        for Changed { tool, differences } in &server.changed {
            let _ = writeln!(out, "{name}: {}", render::field(tool));
            for Difference { member, was, now } in differences {
                let _ = writeln!(out, "  {}", render::field(member));
                lines(&mut out, was.as_deref(), now.as_deref());
            }
        }
        for tool in &server.unpinned {
            let _ = writeln!(out, "{name}: {} is not pinned", render::field(tool));
        }
    }
    if out.is_empty() {
        out.push_str("All tools are as they were pinned.\n");
    }
    out
}

/// The lines between the first and the last that differ.
fn lines(out: &mut String, was: Option<&str>, now: Option<&str>) {
    let split = |text: Option<&str>| text.map(|text| text.split('\n').map(str::to_owned).collect()).unwrap_or_default();
    let (was, now): (Vec<String>, Vec<String>) = (split(was), split(now));
    let head = was.iter().zip(&now).take_while(|(one, other)| one == other).count();
    let (was, now) = (&was[head..], &now[head..]);
    let tail = was.iter().rev().zip(now.iter().rev()).take_while(|(one, other)| one == other).count();
    for (sign, side) in [('-', &was[..was.len() - tail]), ('+', &now[..now.len() - tail])] {
        for line in side {
            let _ = writeln!(out, "    {sign} {}", render::safe(line));
        }
    }
}

fn taken(server: &str, taken: &[String]) -> String {
    let server = render::field(server);
    if taken.is_empty() {
        return format!("the tools of {server} were as they were pinned; nothing changed");
    }
    let names: Vec<String> = taken.iter().map(|tool| render::field(tool)).collect();
    format!("pinned {} of {server} as listed now: {}", render::counted(taken.len(), "tool"), names.join(", "))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn standing(text: &str) -> Vec<Standing> {
        vec![serde_json::from_str(text).expect("a standing")]
    }

    #[test]
    fn s15_a_diff_shows_the_lines_that_differ_whole_and_escaped() {
        let long = "x".repeat(2000);
        let text = serde_json::json!({
            "server": "git", "pin": "block", "pinned": 2, "lost": false, "vanished": [], "unpinned": ["n\u{1b}ew"],
            "changed": [{ "tool": "log", "differences": [
                { "member": "description", "was": "a\nb\nc", "now": format!("a\nB\u{1b}[2J{long}end\nc") },
                { "member": "outputSchema", "was": null, "now": "{}" },
            ]}],
        });
        let shown = diff(&standing(&text.to_string()));
        assert_snapshot!(shown.replace(&long, "…"), @r"
        git: log
          description
            - b
            + B\u{1b}[2J…end
          outputSchema
            + {}
        git: n\u{1b}ew is not pinned
        ");
    }

    #[test]
    fn the_overview_says_how_each_server_stands_and_what_to_do() {
        let text = r#"{"server":"git","pin":"warn","pinned":3,"changed":[{"tool":"log"}],"vanished":["old"]}"#;
        let mut servers = standing(text);
        servers.extend(standing(r#"{"server":"memory","pin":"warn","pinned":9}"#));
        servers.extend(standing(r#"{"server":"x","pin":"off"}"#));
        assert_snapshot!(overview(&servers), @r"
        SERVER  PIN   PINNED  TOOLS
        git     warn  3       changed: log; 1 not listed now
        memory  warn  9       as pinned
        x       off   0       nothing is compared

        `trunkline pins diff git` shows the change, `trunkline pins accept git` takes it.
        ");
        assert_eq!(diff(&servers[1..]), "All tools are as they were pinned.\n");
    }
}
