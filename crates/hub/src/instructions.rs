//! The text that `initialize` gives to a client's model (mcp-protocol 6.7).
//!
//! Its first 240 characters name the servers, because that is all some clients show (clients.md 1.10). Then
//! each server's own instructions follow under its name.

use crate::catalog::clean::clean_text;
use crate::limits::{INSTRUCTIONS_BYTES, INSTRUCTIONS_HEAD_CHARS, INSTRUCTIONS_SERVER_BYTES};

/// Writes the instructions for these servers, given with what each said itself. `searched`: their tools are found by the gateway's
/// own (`surface`).
pub(crate) fn compose<'a>(servers: impl Iterator<Item = (&'a str, Option<&'a str>)>, searched: bool) -> String {
    let servers: Vec<(&str, Option<&str>)> = servers.collect();
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let mut out = head(&names);
    if searched && !names.is_empty() {
        out.push_str(SEARCHED);
    }
    for (name, said) in servers {
        let Some(said) = said.map(clean_text).filter(|said| !said.trim().is_empty()) else { continue };
        let section = format!("\n\n## {name}\n{}", cut(said.trim(), INSTRUCTIONS_SERVER_BYTES));
        if out.len() + section.len() > INSTRUCTIONS_BYTES {
            break;
        }
        out.push_str(&section);
    }
    out
}

/// Where tools are not listed. Short, so that it stands within what every client shows while servers are few.
const SEARCHED: &str = " Their tools are not all listed: find_tools finds them, call_tool calls them.";

/// One line with as many whole names as fit.
fn head(names: &[&str]) -> String {
    if names.is_empty() {
        return "Trunkline: no servers are configured yet.".to_owned();
    }
    let line = |shown: usize| {
        let rest = names.len() - shown;
        let listed = names[..shown].join(", ");
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("Tools, prompts and resources of these MCP servers: {listed}{more}.")
    };
    let fits = |shown: &usize| line(*shown).chars().count() <= INSTRUCTIONS_HEAD_CHARS;
    line((1..=names.len()).rev().find(fits).unwrap_or(1))
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_are_named_first_and_speak_after() {
        let text = compose([("linear", Some("Use ids.")), ("git", None)].into_iter(), false);
        assert_eq!(text, "Tools, prompts and resources of these MCP servers: linear, git.\n\n## linear\nUse ids.");
    }

    #[test]
    fn names_that_do_not_fit_are_counted() {
        let names: Vec<String> = (0..40).map(|at| format!("server-{at}")).collect();
        let text = compose(names.iter().map(|name| (name.as_str(), None)), false);
        assert!(text.chars().count() <= INSTRUCTIONS_HEAD_CHARS);
        assert!(text.ends_with(" more.") && text.contains("server-0, server-1"));
    }

    #[test]
    fn no_server_talks_for_all() {
        let long = "é".repeat(INSTRUCTIONS_BYTES);
        let text = compose((0..20).map(|_| ("s", Some(long.as_str()))), false);
        assert!(text.len() <= INSTRUCTIONS_BYTES);
        assert!(text.matches("## s").count() > 5);
    }
}
