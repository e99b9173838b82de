//! What the doctor has to say: what was looked at, what is wrong, and what mends it; for people and for scripts.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_edge::advice::Trouble;

use crate::render;

/// One thing that is wrong. The daemon's own troubles have the same members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Finding {
    /// The same whatever the sentences become; `docs/errors.md` has a paragraph for each.
    pub(crate) code: String,
    /// `error`: something does not work; `warning`: it may not.
    pub(crate) level: String,
    /// The server it concerns, if it is one.
    pub(crate) server: Option<String>,
    /// What was seen.
    pub(crate) says: String,
    /// What helps.
    pub(crate) advice: String,
    /// The command that does it or says more.
    pub(crate) command: Option<String>,
}

impl Finding {
    pub(crate) fn error(code: &str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        let (says, advice) = (says.into(), advice.into());
        Self { code: code.to_owned(), level: "error".to_owned(), server: None, says, advice, command: None }
    }

    pub(crate) fn warning(code: &str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: "warning".to_owned(), ..Self::error(code, says, advice) }
    }

    pub(crate) fn by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    pub(crate) fn of(self, server: impl Into<String>) -> Self {
        Self { server: Some(server.into()), ..self }
    }
}

impl From<Trouble> for Finding {
    fn from(trouble: Trouble) -> Self {
        let Trouble { code, server, level, says, advice, command, action: _ } = trouble;
        Self { code: code.to_owned(), level: level.to_owned(), server, says, advice, command }
    }
}

/// How a part was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// As it should be.
    Well,
    /// A finding says why not.
    Wrong,
    /// Not there, and need not be.
    Absent,
}

/// A part that was looked at, in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    about: &'static str,
    mark: Mark,
    says: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Notes a part that is as it should be, or that is not there and need not be.
    pub(crate) fn note(&mut self, about: &'static str, mark: Mark, says: impl Into<String>) {
        self.checks.push(Check { about, mark, says: says.into() });
    }

    /// Notes a part with what is wrong about it; without anything wrong it is well.
    pub(crate) fn part(&mut self, about: &'static str, says: impl Into<String>, findings: Vec<Finding>) {
        let mark = if findings.is_empty() { Mark::Well } else { Mark::Wrong };
        self.note(about, mark, says);
        self.findings.extend(findings);
    }

    /// What fails comes before what may, and what concerns everything before one server.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (finding.level != "error", finding.server.is_some()));
    }

    /// For scripts.
    pub(crate) fn json(&self, version: &str) -> String {
        let well = self.findings.is_empty();
        let report = json!({ "version": version, "well": well, "checks": self.checks, "findings": self.findings });
        render::safe_json(&format!("{report:#}"))
    }

    /// For people.
    pub(crate) fn text(&self, version: &str) -> String {
        let mut out = format!("trunkline {version}\n\n");
        let width = self.checks.iter().map(|check| check.about.len()).max().unwrap_or_default();
        for Check { about, mark, says } in &self.checks {
            let mark = match mark {
                Mark::Well => "ok",
                Mark::Wrong => "!!",
                Mark::Absent => "--",
            };
            let _ = writeln!(out, "  {mark}  {about:width$}  {}", render::field(says));
        }
        for Finding { code, level, server, says, advice, command } in &self.findings {
            let server = server.as_ref().map(|server| format!("  {}", render::field(server))).unwrap_or_default();
            let level = if level == "warning" { "  (warning)" } else { "" };
            let _ = writeln!(out, "\n{}{server}{level}", render::field(code));
            for line in says.lines().chain([advice.as_str()]) {
                let _ = writeln!(out, "    {}", render::safe(line));
            }
            if let Some(command) = command {
                let _ = writeln!(out, "    $ {}", render::field(command));
            }
        }
        let _ = match self.findings.len() {
            0 => writeln!(out, "\nAll is well."),
            count => {
                writeln!(out, "\n{}; docs/errors.md says more about each code.", render::counted(count, "finding"))
            }
        };
        out
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.part("config", "/home/you/config.toml: 2 servers", Vec::new());
        report.note("service", Mark::Absent, "not installed");
        let late = Finding::warning("TL-CLIENT-PORT", "no client", "Connect one.");
        let server = Finding::error("TL-SIGN-IN", "401 \u{1b}[2J", "Sign in once.").of("linear");
        let all = Finding::error("TL-PORT-TAKEN", "taken", "Stop it.");
        report.part("servers", "1 of 2 is well", vec![late, server.by("trunkline login linear"), all]);
        report.sort();
        report
    }

    #[test]
    fn people_see_what_was_looked_at_and_then_what_is_wrong() {
        assert_snapshot!(report().text("0.1.0"), @r"
        trunkline 0.1.0

          ok  config   /home/you/config.toml: 2 servers
          --  service  not installed
          !!  servers  1 of 2 is well

        TL-PORT-TAKEN
            taken
            Stop it.

        TL-SIGN-IN  linear
            401 \u{1b}[2J
            Sign in once.
            $ trunkline login linear

        TL-CLIENT-PORT  (warning)
            no client
            Connect one.

        3 findings; docs/errors.md says more about each code.
        ");
    }

    #[test]
    fn scripts_get_all_of_it() {
        let read: serde_json::Value = serde_json::from_str(&report().json("0.1.0")).expect("JSON");
        assert_eq!(read["well"], false);
        assert_eq!(read["checks"][1], json!({ "about": "service", "mark": "absent", "says": "not installed" }));
        assert_eq!(read["findings"][1]["server"], "linear");
        assert_eq!(read["findings"][1]["command"], "trunkline login linear");
    }
}
