//! What all servers offer together, under the names that clients see.
//!
//! A [`Catalog`] never changes: a new one takes its place, and readers go on with the one they hold. Which
//! server an exposed name or a URI belongs to is looked up here and nowhere else; names are never split.

pub(crate) mod arguments;
pub(crate) mod build;
pub(crate) mod clean;
mod found;
pub(crate) mod names;
pub(crate) mod output;
pub(crate) mod pages;
pub(crate) mod published;
pub(crate) mod told;
pub(crate) mod views;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use trunkline_config::{Filter, ToolRules};
use trunkline_upstream::{Complaint, Upstream};
use trunkline_wire::headers::{self, ParamHeader};
use trunkline_wire::{ExposedName, Json, Method, Object, Revision, ServerName};

use crate::pins::Why;
use crate::resources::{self, Resources};
use crate::surface::Surface;
pub(crate) use found::Searched;
use output::{Class, Output};
use pages::{Book, Pages};
use published::Digest;

/// All entries of all servers, at one moment.
#[derive(Debug)]
pub struct Catalog {
    pub(crate) version: u64,
    pub(crate) tools: Table,
    pub(crate) prompts: Table,
    pub(crate) resources: Resources,
    pub(crate) book: Book,
    /// What tells each list from any other, once somebody asked.
    pub(crate) digests: [OnceLock<Digest>; List::ALL.len()],
    pub(crate) searched: Searched,
    pub(crate) instructions: Json,
    /// What stands in the list of tools in their place, if not all do.
    pub(crate) surface: Option<Surface>,
    /// The extensions that any server has, of those that are relayed (mcp-protocol 5.15).
    pub(crate) extensions: Object,
    /// The servers whose entries these are, in the order of the configuration, and those that are switched off.
    pub(crate) servers: Vec<Upstream>,
    /// Which URIs may be asked for.
    pub(crate) uris: Filter,
    /// Servers that were never ready: their entries are missing here, and may come soon (R-3).
    pub(crate) awaited: Vec<Upstream>,
    pub(crate) complaints: HashMap<ServerName, Vec<Complaint>>,
    /// The same, and what is wrong in profiles alone; of the whole.
    pub(crate) complaints_of_all: OnceLock<HashMap<ServerName, Vec<Complaint>>>,
}

/// A tool or prompt toward clients.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name that clients call it by.
    pub name: ExposedName,
    /// The name that its server calls it by.
    pub original: Box<str>,
    /// The entry as it stands in the list.
    pub body: Json,
    pub(crate) upstream: Upstream,
    pub(crate) original_json: Json,
    pub(crate) output: Output,
    /// What holds for its calls, if anything does.
    pub(crate) rules: Option<Arc<ToolRules>>,
    /// Looked for when the first modern call needs to know: most tools have none.
    param_headers: OnceLock<Arc<[ParamHeader]>>,
}

/// Entries in the order of the list, found by name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    by_name: HashMap<ExposedName, usize>,
    /// Tools that are not as they were pinned, by the names that they would have (S-15).
    withheld: HashMap<ExposedName, Withheld>,
    /// Whether any entry has an `outputSchema`, and whether any has one that older clients do not know.
    has_output: bool,
    has_odd_output: bool,
    /// Whether anything holds for the calls of any entry.
    has_rules: bool,
}

/// A tool that is withheld.
#[derive(Debug)]
pub(crate) struct Withheld {
    /// Whose it is.
    pub server: ServerName,
    /// What its server calls it.
    pub original: Box<str>,
    /// Why.
    pub why: Why,
}

/// The four lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Catalog {
    /// Counts the catalogues that were published.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All tools, in the order of the list.
    pub fn tools(&self) -> &[Entry] {
        &self.tools.entries
    }

    /// All prompts, in the order of the list.
    pub fn prompts(&self) -> &[Entry] {
        &self.prompts.entries
    }

    /// What of a server's entries was left out or changed here, and why. The server's own status has what was
    /// left out before.
    pub fn complaints(&self, server: &str) -> &[Complaint] {
        self.complaints_of_all.get().unwrap_or(&self.complaints).get(server).map_or(&[], Vec::as_slice)
    }

    /// Whether the server's entries may be among these.
    pub(crate) fn has(&self, server: &ServerName) -> bool {
        self.servers.iter().any(|upstream| upstream.name() == server)
    }

    /// Whether a server's URI may be asked for. Where only some may, one that could be spelled otherwise may not: what a
    /// pattern hides is not had by way of `..` or `%`.
    pub(crate) fn may_ask(&self, uri: &str) -> bool {
        self.uris == Filter::default() || (self.uris.shows(uri) && resources::is_plain(uri))
    }

    /// A list as clients of this revision may see it: rendered when the first of them asks.
    pub(crate) fn page(&self, list: List, revision: Revision) -> &Pages {
        let class = self.class(list, revision);
        self.book.pages(list, class, || self.bodies(list, class))
    }

    /// The class of clients of a revision; the widest one where nothing in the list tells the two apart.
    pub(crate) fn class(&self, list: List, revision: Revision) -> Class {
        match Class::of(revision) {
            _ if list != List::Tools => Class::Any,
            Class::Bare if self.tools.has_output || self.surface.is_some() => Class::Bare,
            Class::Objects if self.tools.has_odd_output => Class::Objects,
            Class::Bare | Class::Objects | Class::Any => Class::Any,
        }
    }

    /// Whether two catalogues have the same entries in a list, for every class of clients.
    pub(crate) fn lists_alike(&self, other: &Self, list: List) -> bool {
        self.bodies(list, Class::Any).eq(other.bodies(list, Class::Any))
    }

    pub(crate) fn bodies(&self, list: List, class: Class) -> Box<dyn Iterator<Item = Json> + '_> {
        match list {
            List::Tools if let Some(surface) = &self.surface => Box::new(surface.listed(&self.tools, class)),
            List::Tools => {
                let shown = move |entry: &Entry| output::shown(&entry.body, entry.output, class);
                Box::new(self.tools.entries.iter().map(shown))
            }
            List::Prompts => Box::new(self.prompts.entries.iter().map(|entry| entry.body.clone())),
            List::Resources => Box::new(self.resources.entries.iter().cloned()),
            List::Templates => Box::new(self.resources.templates.iter().cloned()),
        }
    }
}

impl Entry {
    /// An entry under its names.
    pub(crate) fn new(name: ExposedName, original: Box<str>, body: Json, upstream: Upstream, output: Output) -> Self {
        let original_json = Json::from(&*original);
        Self { name, original, body, upstream, original_json, output, rules: None, param_headers: OnceLock::new() }
    }

    /// The same, with what holds for its calls.
    pub(crate) fn ruled(self, rules: Option<Arc<ToolRules>>) -> Self {
        Self { rules, ..self }
    }

    /// The arguments that a modern call repeats in headers: those that the published schema annotates.
    pub(crate) fn param_headers(&self) -> &Arc<[ParamHeader]> {
        self.param_headers.get_or_init(|| {
            let schema = Object::parse(&self.body).ok().and_then(|body| body.get("inputSchema").cloned());
            schema.map(|schema| headers::annotated(&schema).headers.into()).unwrap_or_default()
        })
    }

    /// The server it belongs to.
    pub fn server(&self) -> &ServerName {
        self.upstream.name()
    }
}

impl Table {
    /// Takes the entries; names are distinct by then.
    pub(crate) fn new(entries: Vec<Entry>, withheld: Vec<(ExposedName, Withheld)>) -> Self {
        let by_name = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        let has_output = entries.iter().any(|entry| entry.output != Output::Absent);
        let has_odd_output = entries.iter().any(|entry| matches!(entry.output, Output::Wrapped | Output::Dropped));
        let has_rules = entries.iter().any(|entry| entry.rules.is_some());
        Self { entries, by_name, withheld: withheld.into_iter().collect(), has_output, has_odd_output, has_rules }
    }

    /// All of them.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|at| &self.entries[*at])
    }

    /// What holds for the calls of this one, if anything does.
    pub(crate) fn rules(&self, name: &ExposedName) -> Option<Arc<ToolRules>> {
        if self.has_rules { self.get(name.as_str())?.rules.clone() } else { None }
    }

    /// The tool of this name, if it is withheld.
    pub(crate) fn withheld(&self, name: &str) -> Option<&Withheld> {
        self.withheld.get(name)
    }

    /// The name toward clients of each entry, withheld or not, by its server and what that calls it.
    pub(crate) fn names(&self) -> HashMap<(&ServerName, &str), &str> {
        let listed = self.entries.iter().map(|entry| ((entry.server(), &*entry.original), entry.name.as_str()));
        let withheld = self.withheld.iter().map(|(name, it)| ((&it.server, &*it.original), name.as_str()));
        listed.chain(withheld).collect()
    }

    pub(crate) fn has_any_of(&self, server: &ServerName) -> bool {
        self.entries.iter().any(|entry| entry.server() == server)
    }
}

impl List {
    /// All of them, as [`Catalog`] holds their pages.
    pub(crate) const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];
    /// One of each kind of notice; templates are announced as resources.
    pub(crate) const NOTICES: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    /// The list that a method asks for.
    pub(crate) fn asked_by(method: &Method) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.method() == *method)
    }

    fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Prompts => Method::PromptsList,
            Self::Resources => Method::ResourcesList,
            Self::Templates => Method::ResourcesTemplatesList,
        }
    }

    /// The member of the result that holds the entries.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// One bit per kind of notice.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Tools => 1,
            Self::Prompts => 2,
            Self::Resources | Self::Templates => 4,
        }
    }

    /// The method of the notification that the list changed.
    pub(crate) fn notice(self) -> Method {
        match self {
            Self::Tools => Method::ToolsListChanged,
            Self::Prompts => Method::PromptsListChanged,
            Self::Resources | Self::Templates => Method::ResourcesListChanged,
        }
    }

    /// The notification that the list changed, toward sessions.
    pub(crate) fn changed(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Tools => br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            Self::Prompts => br#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
            Self::Resources | Self::Templates => {
                br#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#
            }
        })
    }
}
