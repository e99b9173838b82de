//! What people read of the daemon's answers: tables and plain text.
//!
//! Everything that came from a server is escaped (S-17), whatever it is: nothing a tool is called or answers can
//! move the cursor, forge a line or hide text. Answers are read leniently, since the daemon may be older or newer than
//! the command that asks it.

mod table;

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Deserialize;
use trunkline_telemetry::{date, redact};

pub(crate) use table::Table;

use crate::state::{Complaint, Report, Usage};

/// Longest cell of a table, in bytes (S-17).
const FIELD_BYTES_MAX: usize = 512;

/// A tool and whose it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tool {
    name: String,
    tool: Described,
}

/// Some of what clients are told of a tool.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Described {
    title: Option<String>,
}

/// What the clients seen so far cannot have of a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Explained {
    server: String,
    state: String,
    revision: Option<String>,
    clients: Vec<ExplainedClient>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ExplainedClient {
    client: String,
    revision: String,
    losses: Vec<Loss>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Loss {
    feature: String,
    due_to: String,
    text: String,
}

/// What the daemon remembers of a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Log {
    name: String,
    transitions: Vec<Transition>,
    stderr: String,
    stderr_dropped_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transition {
    at_unix_ms: u64,
    from: String,
    to: String,
    reason: String,
}

/// `trunkline status`.
pub(crate) fn status(report: &Report) -> String {
    let mut out = format!("trunkline {}", field(&report.version));
    for part in [
        format!("up {}", time(report.uptime_seconds)),
        report.listen.iter().map(|url| field(url)).collect::<Vec<_>>().join(" "),
        counted(report.sessions, "session"),
        format!("{} in flight", report.in_flight),
        if report.status == "ok" { String::new() } else { field(&report.status) },
    ] {
        if !part.is_empty() {
            let _ = write!(out, ", {part}");
        }
    }
    out.push('\n');
    if report.servers.is_empty() {
        out.push_str("\nNo servers are configured.\n");
    } else {
        let mut table =
            Table::new(&["SERVER", "STATE", "TRANSPORT", "REVISION", "TOOLS", "IN FLIGHT", "MEMORY", "CPU", "SINCE"]);
        for server in &report.servers {
            let [memory, cpu] = cost(server.usage.as_ref());
            let tools = format!("{}{}", server.tools, if server.stale { "*" } else { "" });
            table.row([
                field(&server.name),
                field(&server.state),
                field(server.transport.as_deref().unwrap_or("-")),
                field(server.revision.as_deref().unwrap_or("-")),
                tools,
                server.in_flight.to_string(),
                memory,
                cpu,
                time(server.since_seconds),
            ]);
            // Each beneath the server, of whose process it has one of its own.
            for lane in &server.lanes {
                let process = lane.pid.map_or_else(|| "-".to_owned(), |pid| format!("pid {pid}"));
                table.row([
                    format!("  {}", field(&lane.owner)),
                    field(&lane.state),
                    process,
                    "-".to_owned(),
                    "-".to_owned(),
                    lane.in_flight.to_string(),
                    "-".to_owned(),
                    "-".to_owned(),
                    time(lane.since_seconds),
                ]);
            }
        }
        let _ = write!(out, "\n{table}");
        if report.servers.iter().any(|server| server.stale) {
            out.push_str("* as an earlier connection listed them\n");
        }
    }
    let away = report.servers.iter().filter_map(|server| server.reason.as_deref().map(|reason| (server, reason)));
    let mut notes: Vec<String> = away
        .map(|(server, reason)| {
            // In a tool result the sentence must name the server; here the name stands in front, as in the table.
            let reason = reason.strip_prefix(&format!("server `{}` ", server.name)).unwrap_or(reason);
            format!("{}: {}", field(&server.name), field(reason))
        })
        .collect();
    for server in report.servers.iter().filter(|server| !server.complaints.is_empty()) {
        notes.push(format!("{}: {}", field(&server.name), counted(server.complaints.len(), "complaint")));
        notes.extend(
            server.complaints.iter().map(|Complaint { what, why }| format!("    {}: {}", field(what), field(why))),
        );
    }
    if let Some(error) = &report.config.error {
        notes.push(format!(
            "the configuration was changed and is not in force, because something is wrong with it:\n{}",
            safe(error)
        ));
    }
    notes.extend(report.warnings.iter().map(|warning| format!("warning: {}", field(warning))));
    if !notes.is_empty() {
        let _ = writeln!(out, "\n{}", notes.join("\n"));
    }
    out
}

/// `trunkline tools`.
pub(crate) fn tools(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return "No tools.\n".to_owned();
    }
    let mut table = Table::new(&["TOOL", "TITLE"]);
    for tool in tools {
        table.row([field(&tool.name), field(tool.tool.title.as_deref().unwrap_or_default())]);
    }
    table.to_string()
}

/// `trunkline logs`: what happened, oldest first, then the end of standard error.
pub(crate) fn logs(logs: &[Log]) -> String {
    let mut out = String::new();
    for (index, log) in logs.iter().enumerate() {
        let _ = writeln!(out, "{}{}", if index > 0 { "\n" } else { "" }, field(&log.name));
        for Transition { at_unix_ms, from, to, reason } in &log.transitions {
            let reason = if reason.is_empty() { String::new() } else { format!(": {}", field(reason)) };
            let _ = writeln!(out, "  {}  {} -> {}{reason}", date(*at_unix_ms), field(from), field(to));
        }
        if log.stderr_dropped_bytes > 0 {
            let _ = writeln!(out, "  | ({} bytes before this are gone)", log.stderr_dropped_bytes);
        }
        for line in log.stderr.lines() {
            let _ = writeln!(out, "  | {}", safe(line));
        }
        if log.transitions.is_empty() && log.stderr.is_empty() {
            out.push_str("  nothing yet\n");
        }
    }
    out
}

/// `trunkline explain`: what each client cannot have of a server.
pub(crate) fn explained(report: &Explained) -> String {
    let mut out = field(&report.server);
    match &report.revision {
        Some(revision) => drop(writeln!(out, " ({}, speaks {})", field(&report.state), field(revision))),
        None => drop(writeln!(out, " ({})", field(&report.state))),
    }
    if report.clients.is_empty() {
        out.push_str("  no client was seen yet; connect one and ask again\n");
    }
    for client in &report.clients {
        let _ = writeln!(out, "\n  {} (speaks {})", field(&client.client), field(&client.revision));
        if client.losses.is_empty() {
            out.push_str("    everything gets through\n");
        }
        for Loss { feature, due_to, text } in &client.losses {
            let _ = writeln!(out, "    {} [{}]: {}", field(feature), field(due_to), field(text));
        }
    }
    out
}

/// `trunkline reload`.
pub(crate) fn reloaded(reloaded: &trunkline_edge::Reloaded) -> String {
    let mut lines: Vec<String> = reloaded.changed.iter().map(|line| field(line)).collect();
    let later = |key: &String| format!("{}: holds from the next start of the daemon on", field(key));
    lines.extend(reloaded.after_restart.iter().map(later));
    if lines.is_empty() {
        lines.push("nothing changed".to_owned());
    }
    lines.extend(reloaded.warnings.iter().map(|warning| format!("warning: {}", field(warning))));
    lines.join("\n") + "\n"
}

/// The texts of a tool's result, if it has nothing but texts.
pub(crate) fn result_text(result: &serde_json::Value) -> Option<String> {
    let content = result.get("content")?.as_array().filter(|content| !content.is_empty())?;
    let texts: Option<Vec<&str>> = content
        .iter()
        .map(|block| block.get("text").filter(|_| block["type"] == "text").and_then(serde_json::Value::as_str))
        .collect();
    Some(safe(&texts?.join("\n")))
}

/// Prints to standard output what is not the last word: whether that could be written decides (`exit::printed`).
pub(crate) fn print(text: &str) {
    let _ = put(text);
}

/// Prints to standard output, and says whether it went there.
pub(crate) fn put(text: &str) -> std::io::Result<()> {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{newline}");
    // Among tests it is for those that fail.
    if cfg!(test) {
        print!("{text}");
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// One value on one line, escaped and bounded.
pub(crate) fn field(text: &str) -> String {
    redact::printable(text, FIELD_BYTES_MAX)
}

/// A text of several lines, escaped but for line ends and tabs.
pub(crate) fn safe(text: &str) -> String {
    let line = |line: &str| {
        let parts = line.strip_suffix('\r').unwrap_or(line).split('\t');
        parts.map(|part| redact::printable(part, usize::MAX)).collect::<Vec<_>>().join("\t")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// JSON that is the same JSON, with nothing in it that a terminal would act on.
pub(crate) fn safe_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' | '\n' | '\t' => out.push(c),
            // White space between values: inside a string it would be written as \r.
            '\r' => {}
            c if redact::printable(c.encode_utf8(&mut [0; 4]), usize::MAX).starts_with('\\') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// `1 server`, `2 servers`.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Memory now and processor time so far. What is below a MiB, or a second, does not matter to anybody. A server whose processes
/// have ended has neither.
fn cost(usage: Option<&Usage>) -> [String; 2] {
    let Some(usage) = usage.filter(|usage| usage.resident_bytes > 0) else { return ["-", "-"].map(str::to_owned) };
    [format!("{} MiB", usage.resident_bytes.div_ceil(1 << 20)), time(usage.cpu_seconds)]
}

/// A span of time in the two units that matter.
fn time(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast is bounded by its type")]
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn of<T: for<'de> Deserialize<'de>>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("readable")
    }

    #[test]
    fn status_is_a_table_and_then_what_to_do() {
        let report: Report = of(json!({
            "status": "ok", "version": "0.1.0", "uptime_seconds": 7384, "sessions": 3, "in_flight": 1,
            "listen": ["http://127.0.0.1:6270/mcp", "http://[::1]:6270/mcp"],
            "warnings": ["other users of this machine could connect"],
            "servers": [
                {"name": "linear", "state": "ready", "since_seconds": 312.4, "transport": "http", "revision": "2025-06-18",
                 "in_flight": 1, "tools": 22, "usage": {"resident_bytes": 88_000_000, "cpu_seconds": 12.34}, "complaints": [{"what": "tool `x`", "why": "it has no inputSchema"}]},
                {"name": "figma", "state": "backoff", "since_seconds": 12, "tools": 4, "stale": true,
                 "reason": "server `figma` is reconnecting, next attempt in 8 s: 503 Service Unavailable from its address"},
                {"name": "evil", "state": "misconfigured", "since_seconds": 90_000, "reason": "said \u{1b}[31mred\nline"},
                {"name": "old", "state": "disabled", "since_seconds": 1},
                {"name": "browser", "state": "ready", "since_seconds": 70, "transport": "stdio", "tools": 3, "sharing": "session",
                 "in_flight": 1, "lanes": [
                    {"owner": "claude-code#7", "state": "ready", "since_seconds": 70, "pid": 812, "in_flight": 1},
                    {"owner": "/srv/a b", "state": "idle", "since_seconds": 5}]},
            ],
        }));
        assert!(!report.is_well());
        assert_snapshot!(status(&report), @r"
        trunkline 0.1.0, up 2 h 3 min, http://127.0.0.1:6270/mcp http://[::1]:6270/mcp, 3 sessions, 1 in flight

        SERVER           STATE          TRANSPORT  REVISION    TOOLS  IN FLIGHT  MEMORY  CPU   SINCE
        linear           ready          http       2025-06-18  22     1          84 MiB  12 s  5 min
        figma            backoff        -          -           4*     0          -       -     12 s
        evil             misconfigured  -          -           0      0          -       -     1 d 1 h
        old              disabled       -          -           0      0          -       -     1 s
        browser          ready          stdio      -           3      1          -       -     1 min
          claude-code#7  ready          pid 812    -           -      1          -       -     1 min
          /srv/a b       idle           -          -           -      0          -       -     5 s
        * as an earlier connection listed them

        figma: is reconnecting, next attempt in 8 s: 503 Service Unavailable from its address
        evil: said \u{1b}[31mred\nline
        linear: 1 complaint
            tool `x`: it has no inputSchema
        warning: other users of this machine could connect
        ");
    }

    #[test]
    fn a_daemon_with_only_ready_and_disabled_servers_is_well() {
        let report: Report =
            of(json!({"status": "ok", "servers": [{"state": "ready"}, {"state": "disabled"}, {"state": "idle"}]}));
        assert!(report.is_well());
        let draining: Report = of(json!({"status": "draining"}));
        assert!(!draining.is_well());
        assert_snapshot!(status(&draining), @r"
        trunkline , up 0 s, 0 sessions, 0 in flight, draining

        No servers are configured.
        ");
    }

    #[test]
    fn tools_are_listed_by_the_names_clients_see() {
        let list: Vec<Tool> = of(json!([
            {"server": "linear", "name": "linear__get_issue", "tool": {"title": "Linear: Get issue"}},
            {"server": "fs", "name": "fs__read", "tool": {"title": "a\u{202e}b"}},
            {"server": "fs", "name": "fs__write", "tool": {}},
        ]));
        assert_snapshot!(tools(&list), @r"
        TOOL               TITLE
        linear__get_issue  Linear: Get issue
        fs__read           a\u{202e}b
        fs__write
        ");
        assert_snapshot!(tools(&[]), @"No tools.");
    }

    #[test]
    fn a_server_whose_processes_have_ended_costs_nothing_that_could_be_said() {
        let usage = |json| cost(Some(&of(json)));
        assert_eq!(usage(json!({"resident_bytes": 0, "cpu_seconds": 0.0})), ["-", "-"]);
        assert_eq!(usage(json!({"resident_bytes": 5_000_000, "cpu_seconds": 0.1})), ["5 MiB", "0 s"]);
    }

    #[test]
    fn logs_show_changes_and_the_end_of_standard_error() {
        let list: Vec<Log> = of(json!([
            {"name": "files", "stderr": "started\n\u{1b}[2Jgone\tx\r\n", "stderr_dropped_bytes": 100, "transitions": [
                {"at_unix_ms": 0, "from": "idle", "to": "starting", "reason": ""},
                {"at_unix_ms": 1_709_210_096_789_u64, "from": "starting", "to": "ready", "reason": "handshake\nforged"},
            ]},
            {"name": "linear"},
        ]));
        assert_snapshot!(logs(&list), @r"
        files
          1970-01-01 00:00:00Z  idle -> starting
          2024-02-29 12:34:56Z  starting -> ready: handshake\nforged
          | (100 bytes before this are gone)
          | started
          | \u{1b}[2Jgone	x

        linear
          nothing yet
        ");
    }

    #[test]
    fn an_explanation_names_client_feature_and_cause() {
        let report: Explained = of(json!({"server": "files", "state": "ready", "revision": "2025-11-25", "clients": [
            {"client": "codex-mcp-client", "revision": "2025-06-18", "losses": [
                {"feature": "elicitation.url", "due_to": "revision", "text": "the client cannot lead a person to a page"},
            ]},
            {"client": "other", "revision": "2025-11-25", "losses": []},
        ]}));
        assert_snapshot!(explained(&report), @r"
        files (ready, speaks 2025-11-25)

          codex-mcp-client (speaks 2025-06-18)
            elicitation.url [revision]: the client cannot lead a person to a page

          other (speaks 2025-11-25)
            everything gets through
        ");
    }

    #[test]
    fn only_a_result_of_texts_is_printed_as_text() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let plain = json!({"content": [text("a\u{9b}b"), text("second\tline\n")]});
        assert_eq!(result_text(&plain).as_deref(), Some("a\\u{9b}b\nsecond\tline\n"));
        let mixed = json!({"content": [text("a"), {"type": "image", "data": "", "mimeType": "image/png"}]});
        assert_eq!(result_text(&mixed), None);
        assert_eq!(result_text(&json!({"content": [], "structuredContent": {"a": 1}})), None);
    }

    #[test]
    fn s17_escaped_json_is_the_same_json() {
        let text = "{\"a\":\"\u{9b}31m \u{202e} é 🦀\"}\r\n";
        let safe = safe_json(text);
        assert_eq!(safe, "{\"a\":\"\\u009b31m \\u202e é 🦀\"}\n");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parsed(text), parsed(&safe));
    }
}
