//! What Codex was allowed to do with the servers that Trunkline takes over: with its one entry that no longer holds.
//!
//! Codex keeps approvals per entry and per tool of it (clients.md 4). They are told, with the lines that say the same of our
//! entry, and not written: a mode for the whole entry would be one for every server behind it, those included that nobody
//! has approved. So a tool that was approved by its server's mode has to be named.

use serde_json::{Map, Value};

use crate::clients::Found;
use crate::render;

/// The modes that say something else than Codex does by itself.
fn mode(entry: &Map<String, Value>, key: &str) -> Option<String> {
    let mode = entry.get(key)?.as_str()?;
    (mode != "auto").then(|| render::field(mode))
}

/// What to say of them; nothing if there are none, or if our entry `own` has tools of its own settings already.
pub(super) fn note(taken_over: &[&Found], own: Option<&Map<String, Value>>, name: &str) -> Option<String> {
    let is_settled = |own: &Map<String, Value>| {
        own.contains_key("default_tools_approval_mode") || own.get("tools").is_some_and(Value::is_object)
    };
    if own.is_some_and(is_settled) {
        return None;
    }
    let (mut of_servers, mut lines) = (Vec::new(), Vec::new());
    for Found { name: server, entry, .. } in taken_over {
        let server = render::field(server);
        let mut lines_of = |tool: &str, mode: &str| {
            lines.push(format!("  [mcp_servers.{name}.tools.{server}__{tool}]\n  approval_mode = \"{mode}\""));
        };
        let default = mode(entry, "default_tools_approval_mode");
        let mut said: Vec<String> = default.iter().map(|mode| format!("`{mode}`")).collect();
        for (tool, settings) in entry.get("tools").and_then(Value::as_object).into_iter().flatten() {
            if let Some(mode) = settings.as_object().and_then(|settings| mode(settings, "approval_mode")) {
                let tool = render::field(tool);
                lines_of(&tool, &mode);
                said.push(format!("`{mode}` for {tool}"));
            }
        }
        if let Some(mode) = &default {
            lines_of("TOOL", mode);
        }
        if !said.is_empty() {
            of_servers.push(format!("{server} ({})", said.join(", ")));
        }
    }
    (!of_servers.is_empty()).then(|| {
        format!(
            "What Codex may do unasked is said per entry, and does not move: {}. For the same again add, for each\ntool \
             (`trunkline tools` names them):\n{}",
            of_servers.join(", "),
            lines.join("\n")
        )
    })
}
