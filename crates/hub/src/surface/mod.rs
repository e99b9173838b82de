//! The search surface: three tools of the gateway's own by which the others are found, looked at and called, for clients whose
//! model would drown in definitions (`expose = "search"`, or `"hybrid"` with some tools listed besides).
//!
//! `find_tools` and `describe_tool` are answered here, from the catalogue of the client's view: what that does not show is not
//! found either. `call_tool` is no call of its own: [`aim`] puts the tool and its arguments in the place of the client's, before
//! anything else is looked at, and from there it is a call like any other: what comes back is the tool's, and progress,
//! cancellation, questions, tasks, metrics and the audit file know nothing else. A client that comes again with answers comes with
//! `call_tool`, and is known by that (`seal::Subject` is taken before).
//!
//! What a model gets wrong is told to the model, as a result with `isError` (mcp-protocol 5.3): an error of the protocol most clients
//! keep from it. Arguments are looked at as far as a look is cheap: they are an object and hold what the schema requires; the rest is
//! the server's to judge, who knows.
//!
//! The tools that are not listed are there all the same, under their names: a client that listed them before the surface was
//! switched on goes on as ever.

mod answers;
mod texts;

use trunkline_wire::{ExposedName, Json, Object};

use crate::catalog::output::{self, Class, Output};
use crate::catalog::{Catalog, Entry, Table};
use crate::limits::SEARCH_SCHEMA_BYTES_MAX;

pub(crate) use answers::{answer, like_it, misused};

/// A tool of the gateway's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Find,
    Describe,
    Call,
}

/// What a view lists in place of its tools.
#[derive(Debug)]
pub(crate) struct Surface {
    /// The definitions of [`Own::ALL`].
    own: [Json; 3],
    /// The tools that are listed besides, by their places.
    pinned: Vec<usize>,
}

impl Own {
    pub(crate) const ALL: [Self; 3] = [Self::Find, Self::Describe, Self::Call];

    /// Plain names, which models know what to do with. Names of servers' tools have `__` in them, or make way
    /// (`catalog/names.rs`).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Find => "find_tools",
            Self::Describe => "describe_tool",
            Self::Call => "call_tool",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    /// Whether clients could take a tool of this name for one of them.
    pub(crate) fn is_like(name: &ExposedName) -> bool {
        Self::named(&name.folded()).is_some()
    }
}

impl Surface {
    /// The surface over these tools, with those listed that are `pinned`.
    pub(crate) fn over(tools: &Table, pinned: impl Fn(&Entry) -> bool) -> Self {
        let entries = tools.entries();
        let pinned: Vec<usize> = (0..entries.len()).filter(|at| pinned(&entries[*at])).collect();
        let summary = texts::summary(entries.iter().map(|entry| entry.server().as_str()));
        Self { own: Own::ALL.map(|own| texts::definition(own, &summary, !pinned.is_empty())), pinned }
    }

    /// The list: the gateway's own tools first.
    pub(crate) fn listed<'a>(&'a self, tools: &'a Table, class: Class) -> impl Iterator<Item = Json> + 'a {
        let own = self.own.iter().map(move |body| output::shown(body, Output::Object, class));
        let pinned = self.pinned.iter().map(|at| &tools.entries()[*at]);
        own.chain(pinned.map(move |entry| output::shown(&entry.body, entry.output, class)))
    }
}

impl Catalog {
    /// The definitions that stand in place of all tools with `expose = "search"`.
    pub fn in_place_of_all(&self) -> Vec<Json> {
        Surface::over(&self.tools, |_| false).listed(&self.tools, Class::Any).collect()
    }

    /// Which of the gateway's own tools a call is for, if these are shown here.
    pub(crate) fn own_tool(&self, params: &Object) -> Option<Own> {
        self.surface.as_ref()?;
        Own::named(&params.get_str("name")?)
    }
}

/// Aims a `call_tool` at the tool that it names. Fails with what is wrong with it, for the model.
pub(crate) fn aim(params: &mut Object) -> Result<(), String> {
    let said = params.get_object("arguments").unwrap_or_default();
    let name = said.get("name").filter(|name| name.decode_str().is_some_and(|name| !name.is_empty()));
    let name = name.ok_or("`name` is missing: `call_tool` takes the name of a tool, as `find_tools` gives it")?;
    if let Some(own) = name.decode_str().and_then(|name| Own::named(&name)) {
        return Err(format!("`{}` is not called by way of `call_tool`; call it itself", own.name()));
    }
    match arguments(&said)? {
        Some(arguments) => params.set("arguments", arguments),
        None => drop(params.remove("arguments")),
    }
    params.set("name", name.clone());
    Ok(())
}

/// The arguments of the inner call. Models write an object now and then as a text that holds it.
fn arguments(said: &Object) -> Result<Option<Json>, String> {
    let Some(arguments) = said.get("arguments").filter(|arguments| arguments.as_bytes() != b"null") else {
        return Ok(None);
    };
    let written = || Json::parse(arguments.decode_str()?).ok();
    let object = if arguments.is_object() { Some(arguments.clone()) } else { written().filter(Json::is_object) };
    object.map(Some).ok_or_else(|| "`arguments` is no object: write them as the tool's `inputSchema` says".to_owned())
}

/// What a call of this tool lacks of what its schema requires, for the model.
pub(crate) fn lacking(tool: &Entry, params: &Object) -> Option<String> {
    let schema = Object::parse(&tool.body).ok()?.get("inputSchema")?.clone();
    let required: Vec<String> = Object::parse(&schema).ok()?.get("required")?.decode().ok()?;
    let given = params.get_object("arguments").unwrap_or_default();
    let lacking: Vec<String> =
        required.iter().filter(|key| given.get(key).is_none()).map(|key| format!("`{key}`")).collect();
    if lacking.is_empty() {
        return None;
    }
    let name = tool.name.as_str();
    let schema = schema.as_bytes();
    let more = if schema.len() > SEARCH_SCHEMA_BYTES_MAX {
        "`describe_tool` shows its `inputSchema`".to_owned()
    } else {
        format!("its `inputSchema` is {}", String::from_utf8_lossy(schema))
    };
    Some(format!("`{name}` was not called: `arguments` lacks {}; {more}", lacking.join(", ")))
}

#[cfg(test)]
mod measured;
#[cfg(test)]
mod tests;
