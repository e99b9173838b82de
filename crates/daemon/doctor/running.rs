//! What a running daemon says of itself: over the owner's socket, and read leniently, since it may be of another version.

use std::path::Path;

use serde::Deserialize;
use trunkline_config::Loaded;

use super::report::{Finding, Report};
use crate::ask::{self, Socket};
use crate::state::{self, Server};

/// The daemon's report, with what it says is wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Running {
    #[serde(flatten)]
    pub(super) report: state::Report,
    wrong: Vec<Finding>,
}

/// The daemon of this state directory; `None` if none answers.
pub(super) async fn ask(state_dir: &Path) -> Option<Running> {
    let path = state_dir.join(ask::SOCKET);
    let socket = Socket { path: &path };
    // One that is older knows its state alone.
    let body = match ask::soon(socket.get("/api/v1/board")).await {
        Ok(body) => body,
        Err(_) => ask::soon(socket.get("/api/v1/state")).await.ok()?,
    };
    ask::read(&body).ok()
}

impl Running {
    /// Whether it is of this version, of this file, and reads the configuration that is looked at.
    pub(super) fn examine(&self, version: &str, loaded: Option<&Loaded>, report: &mut Report) {
        let daemon = &self.report;
        let restart = "trunkline service restart";
        let mut findings = Vec::new();
        if daemon.version != version {
            let says = format!("the running daemon is version {}, this command is {version}", daemon.version);
            let advice = "Restart the daemon, so that both are the same; sessions of clients go on.";
            findings.push(Finding::warning("TL-VERSION", says, advice).by(restart));
        } else if is_replaced(daemon.pid) {
            let says = "the daemon's file was replaced since it started";
            let advice = "Restart the daemon, so that it is the new one; sessions of clients go on.";
            findings.push(Finding::warning("TL-VERSION", says, advice).by(restart));
        }
        let ours = loaded.and_then(|loaded| loaded.path.as_ref()).map(|path| path.display().to_string());
        if let (Some(theirs), Some(ours)) = (&daemon.config.path, ours)
            && !same(theirs, &ours)
        {
            let says = format!("the running daemon reads {theirs}, this command {ours}");
            let advice = "Look at one and the same file: give both the same `--config` or TRUNKLINE_CONFIG.";
            findings.push(Finding::warning("TL-OTHER-CONFIG", says, advice));
        }
        let says = format!("runs as pid {}, version {}, at {}", daemon.pid, daemon.version, daemon.listen.join(" "));
        report.part("daemon", says, findings);
    }

    /// How its servers are. Those in `explained` have a finding that says more than the daemon can.
    pub(super) fn servers(self, explained: &[Finding], report: &mut Report) {
        let servers = &self.report.servers;
        let away: Vec<&str> =
            servers.iter().filter(|server| !server.is_well()).map(|server| server.name.as_str()).collect();
        let count = servers.len();
        let says = match (count, away.is_empty()) {
            (0, _) => "none are configured".to_owned(),
            (_, true) => format!("all {count} are ready, or asleep until they are needed"),
            (_, false) => format!("{} of {count} are ready; not {}", count - away.len(), away.join(", ")),
        };
        let told = |finding: &Finding| explained.iter().any(|other| other.server == finding.server);
        let mut wrong = self.wrong;
        for server in servers.iter().filter(|server| !server.is_well()) {
            let Server { name, state, reason, .. } = server;
            if wrong.iter().any(|finding| finding.server.as_ref() == Some(name)) {
                continue;
            }
            let says = reason.clone().unwrap_or_else(|| state.clone());
            let away = if ["needs_auth", "misconfigured", "backoff", "open"].contains(&state.as_str()) {
                Finding::error("TL-AWAY", says, "Do what the sentence says; it is tried again by itself.")
            } else {
                // It may be well in a moment; it is not yet.
                Finding::warning("TL-AWAY", says, "It is not ready yet: look again in a moment.")
            };
            wrong.push(away.of(name).by("trunkline status"));
        }
        wrong.retain(|finding| finding.server.is_none() || !told(finding));
        report.part("servers", says, wrong.into_iter().map(coded).collect());
    }
}

/// An older daemon has no codes.
fn coded(finding: Finding) -> Finding {
    let code = if finding.code.is_empty() { "TL-AWAY".to_owned() } else { finding.code };
    Finding { code, ..finding }
}

/// Whether the file that this process runs is not there any more; an upgrade puts another in its place.
fn is_replaced(pid: u32) -> bool {
    let file = std::fs::read_link(format!("/proc/{pid}/exe"));
    file.is_ok_and(|file| file.to_string_lossy().ends_with(" (deleted)"))
}

fn same(one: &str, other: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).ok();
    one == other || (real(one).is_some() && real(one) == real(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(text: &str) -> Running {
        serde_json::from_str(text).expect("a report")
    }

    #[test]
    fn a_daemon_of_another_version_is_told_with_the_restart() {
        let mut report = Report::default();
        running(r#"{"version":"0.0.1","pid":0,"listen":["http://x/mcp"],"new_member":1}"#).examine(
            "0.1.0",
            None,
            &mut report,
        );
        assert_eq!(report.findings[0].code, "TL-VERSION");
        assert_eq!(report.findings[0].command.as_deref(), Some("trunkline service restart"));
        let mut same = Report::default();
        running(r#"{"version":"0.1.0"}"#).examine("0.1.0", None, &mut same);
        assert!(same.findings.is_empty());
    }

    #[test]
    fn what_the_daemon_says_is_wrong_is_told_once_and_has_a_code() {
        let text = r#"{"servers":[{"name":"a","state":"ready"},{"name":"b","state":"backoff"},{"name":"d","state":"open"}],
            "wrong":[{"server":"b","level":"error","says":"away","advice":"…"},{"code":"TL-COMMAND","server":"c"}]}"#;
        let mut report = Report::default();
        let explained = [Finding::error("TL-INTERPRETER", "no node", "…").of("c")];
        running(text).servers(&explained, &mut report);
        let told: Vec<_> = report.findings.iter().map(|it| (it.code.as_str(), it.server.as_deref())).collect();
        assert_eq!(told, [("TL-AWAY", Some("b")), ("TL-AWAY", Some("d"))]);
    }

    #[test]
    fn all_is_well_only_when_every_server_is() {
        let mut report = Report::default();
        running(r#"{"servers":[{"name":"a","state":"idle"},{"name":"demo","state":"starting"},{"name":"c","state":"disabled"}]}"#)
            .servers(&[], &mut report);
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        let told = (finding.level.as_str(), finding.server.as_deref(), finding.says.as_str());
        assert_eq!(told, ("warning", Some("demo"), "starting"));
        assert!(!report.text("0").contains("All is well"), "{}", report.text("0"));
    }
}
