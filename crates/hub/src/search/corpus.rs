//! The tools that the search is tried on: `corpus/tools.txt`, made into definitions as servers write them.
//!
//! A line `@server style | parameters` begins a server. `noun / plural | what it is | verbs` stands for one tool per verb;
//! `!name | description | parameters` for one tool as it is. The style says how the server writes its names. The kinds of servers
//! are those that people use; names, texts and parameters are written for this file, and neighbours are meant to be confusable:
//! eight servers create an issue or a ticket, nine have files, six send mail.

use serde_json::{Map, Value, json};
use trunkline_wire::Json;

use super::{Document, Index};

const TOOLS: &str = include_str!("corpus/tools.txt");

/// The lists of questions; what they are is told in `tests.rs`.
pub(crate) const QUESTIONS: &str = include_str!("corpus/questions.txt");
pub(crate) const HELD_OUT: &str = include_str!("corpus/held_out.txt");
pub(crate) const OTHERS: &str = include_str!("corpus/others.txt");
pub(crate) const UNSEEN: &str = include_str!("corpus/unseen.txt");

/// A tool of the corpus.
pub(crate) struct Tool {
    pub(crate) server: String,
    pub(crate) name: String,
    pub(crate) body: Json,
}

impl Tool {
    /// The name that clients see.
    pub(crate) fn exposed(&self) -> String {
        format!("{}__{}", self.server, self.name)
    }
}

/// All tools, in the order of the file.
pub(crate) fn tools() -> Vec<Tool> {
    let (mut server, mut style, mut shared) = ("", "", "");
    let mut out = Vec::new();
    for line in TOOLS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut fields = line.split('|').map(str::trim);
        let mut field = || fields.next().unwrap_or_default();
        if let Some(head) = line.strip_prefix('@') {
            (server, style) = head.split('|').next().and_then(|head| head.trim().split_once(' ')).expect("a server");
            field();
            shared = field();
        } else if line.starts_with('!') {
            let (name, description, own) = (&field()[1..], field(), field());
            out.push(tool(server, name, description, &format!("{own};{shared}")));
        } else {
            let ((noun, plural), what, verbs) = (field().split_once(" / ").expect("a plural"), field(), field());
            for verb in verbs.split(' ') {
                let many = matches!(verb, "list" | "search");
                let (name, own) = (named(style, verb, if many { plural } else { noun }), parameters(verb));
                out.push(tool(server, &name, &described(verb, noun, plural, what), &format!("{own};{shared}")));
            }
        }
    }
    out
}

/// The questions of a list, each with the tools that are right.
pub(crate) fn questions(list: &'static str) -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once(" | ").expect("a question and its tools"))
        .map(|(question, right)| (question, right.split(' ').collect()))
}

/// The index over all of them.
pub(crate) fn index(tools: &[Tool]) -> Index {
    Index::new(tools.iter().map(|tool| Document { name: &tool.name, server: &tool.server, body: &tool.body }))
}

fn named(style: &str, verb: &str, noun: &str) -> String {
    let words: Vec<&str> = std::iter::once(verb).chain(noun.split(' ')).collect();
    match style {
        "camel" => {
            words.iter().skip(1).fold(verb.to_owned(), |name, word| name + &word[..1].to_uppercase() + &word[1..])
        }
        "kebab" => words.join("-"),
        _ => words.join("_"),
    }
}

fn described(verb: &str, noun: &str, plural: &str, what: &str) -> String {
    let does = match verb {
        "list" => format!("List {plural}, page by page"),
        "get" => format!("Get one {noun} with all its fields"),
        "search" => format!("Search {plural} by text and filters"),
        "create" => format!("Create a {noun}"),
        "update" | "edit" => format!("Change fields of a {noun}"),
        other => format!("{}{} a {noun}", other[..1].to_uppercase(), &other[1..]),
    };
    format!("{does}. {noun}: {}{}.", what[..1].to_lowercase(), &what[1..])
}

fn parameters(verb: &str) -> &'static str {
    match verb {
        "list" => "limit: How many; cursor: Where to go on",
        "search" => "query: Text to look for; limit: How many",
        "create" => "name: Name or title; fields: Further fields",
        "update" | "edit" => "id: Which one; fields: New values",
        "move" | "copy" | "duplicate" => "id: Which one; target: Where to",
        _ => "id: Which one",
    }
}

fn tool(server: &str, name: &str, description: &str, parameters: &str) -> Tool {
    let parameters = parameters.split(';').filter_map(|parameter| parameter.trim().split_once(':'));
    let typed = |(name, text): (&str, &str)| (name.to_owned(), json!({ "type": "string", "description": text.trim() }));
    let properties: Map<String, Value> = parameters.map(typed).collect();
    let required: Vec<String> = properties.keys().take(1).cloned().collect();
    let title = format!("{}: {}", in_words(server), in_words(name));
    let reads = ["get", "list", "search", "read"].iter().any(|verb| name.starts_with(verb));
    let body = json!({
        "name": format!("{server}__{name}"), "title": title, "description": description,
        "inputSchema": { "type": "object", "properties": properties, "required": required },
        "annotations": { "readOnlyHint": reads },
    });
    Tool { server: server.to_owned(), name: name.to_owned(), body: Json::encode(&body) }
}

fn in_words(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '_' | '-' => out.push(' '),
            c if c.is_uppercase() => out.extend([' ', c.to_ascii_lowercase()]),
            c => out.push(c),
        }
    }
    out[..1].to_uppercase() + &out[1..]
}
