//! What the gateway's own tools say of themselves. Written for models: when to use which, and where it leads.
//!
//! The texts change only with what they tell, the servers and how many tools each has: clients keep them in the caches of their
//! prompts.

use std::fmt::Write as _;

use serde_json::{Value, json};
use trunkline_wire::Json;

use super::Own;
use crate::limits::{FIND_LIMIT, FIND_LIMIT_MAX, FIND_SCHEMAS, SEARCH_SERVERS_TOLD_MAX};

/// The servers that tools belong to, given in the order of the list, each with how many it has.
pub(super) fn summary<'a>(servers: impl Iterator<Item = &'a str>) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for server in servers {
        match counted.iter_mut().rfind(|(name, _)| *name == server) {
            Some((_, count)) => *count += 1,
            None => counted.push((server, 1)),
        }
    }
    if counted.is_empty() {
        return "No server has tools now.".to_owned();
    }
    let all: usize = counted.iter().map(|(_, count)| count).sum();
    let mut out = format!("{all} {} of ", if all == 1 { "tool" } else { "tools" });
    for (at, (name, count)) in counted.iter().take(SEARCH_SERVERS_TOLD_MAX).enumerate() {
        let _ = write!(out, "{}{name} ({count})", if at > 0 { ", " } else { "" });
    }
    if let Some(more) = counted.len().checked_sub(SEARCH_SERVERS_TOLD_MAX).filter(|more| *more > 0) {
        let _ = write!(out, " and {more} more servers");
    }
    out.push('.');
    out
}

/// The definition of a tool, over tools of which `summary` tells; `besides` says whether some of them are listed.
pub(super) fn definition(own: Own, summary: &str, besides: bool) -> Json {
    Json::encode(&match own {
        Own::Find => find(summary, besides),
        Own::Describe => describe(),
        Own::Call => call(),
    })
}

fn find(summary: &str, besides: bool) -> Value {
    let listed = if besides { "Most are not listed here" } else { "They are not listed here" };
    json!({
        "name": Own::Find.name(),
        "title": "Find tools",
        "description": format!(
            "Finds tools by what you want to do. There are {summary} {listed}: search before you say that something cannot be done. \
             Ask in a few words and name the product if you know it, such as \"create github issue\"; if nothing fits, try other \
             words. The first {FIND_SCHEMAS} come with their inputSchema: call one by `call_tool`. `describe_tool` has that of the others."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": { "type": "string", "description": "What you want to do, in a few words. Empty with `server`: its tools in order." },
                "server": { "type": "string", "description": "Only tools of this server." },
                "limit": {
                    "type": "integer", "minimum": 1, "maximum": FIND_LIMIT_MAX, "default": FIND_LIMIT,
                    "description": "How many tools at most.",
                },
            },
            "required": ["query"],
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "tools": {
                    "type": "array",
                    "description": "The best first.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": { "type": "string" },
                            "server": { "type": "string" },
                            "description": { "type": "string" },
                            "inputSchema": { "type": "object", "description": "Missing further down and where it is too long: `describe_tool` has it." },
                            "annotations": { "type": "object" },
                        },
                        "required": ["name", "server"],
                    },
                },
                "searched": { "type": "integer", "description": "How many tools there are to be found." },
                "hint": { "type": "string" },
            },
            "required": ["tools", "searched"],
        },
        "annotations": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
    })
}

fn describe() -> Value {
    json!({
        "name": Own::Describe.name(),
        "title": "Describe a tool",
        "description": "Shows the whole definition of one tool: its full description, input and output schema and annotations. Of use \
                        where what `find_tools` says of it was cut or is not enough.",
        "inputSchema": {
            "type": "object",
            "properties": { "name": { "type": "string", "description": "The tool's name, as `find_tools` gives it." } },
            "required": ["name"],
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "title": { "type": "string" },
                "description": { "type": "string" },
                "inputSchema": { "type": "object" },
                "annotations": { "type": "object" },
            },
            "required": ["name", "inputSchema"],
        },
        "annotations": { "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
    })
}

fn call() -> Value {
    json!({
        "name": Own::Call.name(),
        "title": "Call a tool",
        "description": "Calls a tool that `find_tools` found, with arguments that fit its inputSchema. The answer is the tool's own.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "The tool's name, as `find_tools` gives it." },
                "arguments": { "type": "object", "description": "The tool's arguments, by its inputSchema." },
            },
            "required": ["name"],
        },
    })
}
