//! What `find_tools` and `describe_tool` answer: both as structure and, in the same words, as text, for some clients show their
//! model the one and some the other (clients.md 1.12).

use trunkline_wire::{Json, Object, Revision};

use super::Own;
use crate::Hub;
use crate::catalog::output::{self, Class};
use crate::catalog::{Catalog, Entry, List};
use crate::limits::{FIND_DESCRIPTION_CHARS, FIND_LIMIT, FIND_LIMIT_MAX, FIND_SCHEMAS, FIND_SCHEMAS_BYTES_MAX};
use crate::refusal;

/// Tools that are named where one is not known.
const LIKE_IT: usize = 3;

/// The outcome of a call of one of the gateway's own tools, for a client of this revision.
pub(crate) fn answer(
    hub: &Hub,
    catalog: &Catalog,
    own: Own,
    params: &Object,
    revision: Revision,
) -> Result<Json, Json> {
    let said = params.get_object("arguments").unwrap_or_default();
    let found = match own {
        Own::Find => find(catalog, &said),
        Own::Describe => describe(catalog, &said, revision),
        Own::Call => unreachable!("it is aimed at a tool"),
    };
    match found {
        Ok(found) => {
            hub.metrics().own_tool_call(own.name(), "ok");
            Ok(result(&found, Class::of(revision)))
        }
        Err(why) => misused(hub, own, &why),
    }
}

/// The outcome of a call of one of these tools that asks for what cannot be.
pub(crate) fn misused(hub: &Hub, own: Own, why: &str) -> Result<Json, Json> {
    hub.metrics().own_tool_call(own.name(), "refused");
    refusal::for_the_model(why, hub.rules().errors)
}

/// A result that holds this.
fn result(found: &Object, class: Class) -> Json {
    let found = found.to_json();
    let mut block = Object::new();
    block.set("type", Json::literal("\"text\""));
    block.set("text", Json::from(&*String::from_utf8_lossy(found.as_bytes())));
    let mut result = Object::new();
    result.set("content", list([block.to_json()]));
    // The oldest clients may refuse what they do not know.
    if class != Class::Bare {
        result.set("structuredContent", found);
    }
    result.to_json()
}

pub(super) fn find(catalog: &Catalog, said: &Object) -> Result<Object, String> {
    let query = match said.get("query") {
        None => String::new(),
        Some(query) => query.decode_str().ok_or("`query` is no text: say in a few words what you want to do")?,
    };
    let server = match said.get("server").filter(|server| server.as_bytes() != b"null") {
        None => None,
        Some(server) => Some(known_server(catalog, server)?),
    };
    let limit = limit(said)?;
    let counts = |tool: &Entry| server.as_deref().is_none_or(|server| tool.server().as_str() == server);
    let searched = catalog.tools().iter().filter(|tool| counts(tool)).count();
    let tools: Vec<&Entry> = match (query.trim(), &server) {
        ("", None) => return Err("`query` is missing: say in a few words what you want to do".to_owned()),
        ("", Some(_)) => catalog.tools().iter().filter(|tool| counts(tool)).take(limit).collect(),
        (query, _) => catalog.find(query, limit, counts),
    };
    let (mut room, mut left) = (FIND_SCHEMAS_BYTES_MAX, FIND_SCHEMAS);
    let mut out = Object::new();
    let tools_told = tools.iter().map(|tool| {
        // What stands further down is rarely called.
        room = if left == 0 { 0 } else { room };
        left = left.saturating_sub(1);
        brief(tool, &mut room)
    });
    out.set("tools", list(tools_told));
    out.set("searched", Json::encode(&searched));
    if tools.is_empty() {
        out.set("hint", Json::literal("\"no tool fits these words: try others, or fewer\""));
    }
    Ok(out)
}

/// The name of the server that is meant. Models write names as they write products.
fn known_server(catalog: &Catalog, server: &Json) -> Result<String, String> {
    let wanted = server.decode_str().unwrap_or_default();
    let mut names: Vec<&str> = catalog.tools().iter().map(|tool| tool.server().as_str()).collect();
    names.dedup();
    match names.iter().find(|name| name.eq_ignore_ascii_case(&wanted)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(format!("no such server has tools here; those that have are: {}", names.join(", "))),
    }
}

/// How many are wanted: more than there may be is as many as there may be.
fn limit(said: &Object) -> Result<usize, String> {
    let Some(limit) = said.get("limit").filter(|limit| limit.as_bytes() != b"null") else { return Ok(FIND_LIMIT) };
    match limit.decode::<u64>() {
        Ok(wanted) if wanted > 0 => Ok(usize::try_from(wanted).map_or(FIND_LIMIT_MAX, |it| it.min(FIND_LIMIT_MAX))),
        Ok(_) | Err(_) => Err(format!("`limit` is no whole number from 1 to {FIND_LIMIT_MAX}")),
    }
}

/// A tool in brief: what it takes to call it. Schemas share `room`.
fn brief(tool: &Entry, room: &mut usize) -> Json {
    let body = Object::parse(&tool.body).unwrap_or_default();
    let mut out = Object::new();
    out.set("name", Json::from(tool.name.as_str()));
    out.set("server", Json::from(tool.server().as_str()));
    if let Some(description) = body.get_str("description") {
        out.set("description", Json::from(first_line(&description).as_str()));
    }
    if let Some(schema) = body.get("inputSchema")
        && let Some(left) = room.checked_sub(schema.as_bytes().len())
    {
        *room = left;
        out.set("inputSchema", schema.clone());
    }
    if let Some(annotations) = body.get("annotations").filter(|annotations| annotations.is_object()) {
        out.set("annotations", annotations.clone());
    }
    out.to_json()
}

/// The first line of a text, or as much of it as is shown.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim_end();
    match line.char_indices().nth(FIND_DESCRIPTION_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.trim().len() => format!("{line} …"),
        None => line.to_owned(),
    }
}

fn describe(catalog: &Catalog, said: &Object, revision: Revision) -> Result<Object, String> {
    let name =
        said.get_str("name").ok_or("`name` is missing: it takes the name of a tool, as `find_tools` gives it")?;
    let Some(tool) = catalog.tools.get(&name) else {
        return Err(format!("unknown tool: {}{}", refusal::shown(&name), like_it(catalog, &name)));
    };
    let shown = output::shown(&tool.body, tool.output, catalog.class(List::Tools, revision));
    Object::parse(&shown).map_err(|error| error.to_string())
}

/// Which tools may have been meant by a name that there is not.
pub(crate) fn like_it(catalog: &Catalog, name: &str) -> String {
    if !catalog.is_read() {
        return "; `find_tools` finds those that there are".to_owned();
    }
    let like: Vec<&str> = catalog.find(name, LIKE_IT, |_| true).into_iter().map(|tool| tool.name.as_str()).collect();
    match &like[..] {
        [] => "; `find_tools` finds those that there are".to_owned(),
        like => format!("; like it are: {}", like.join(", ")),
    }
}

fn list(members: impl IntoIterator<Item = Json>) -> Json {
    let mut out = vec![b'['];
    for (at, member) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member.as_bytes());
    }
    out.push(b']');
    Json::trusted(out)
}
