//! Makes a [`Catalog`] out of what the servers offer, and keeps it current.
//!
//! [`build`] is a function of the offers and the configuration. [`keep_current`] is the task around it: it
//! publishes a new catalogue as soon as an offer changed, and announces, after a quiet moment, the lists whose
//! text is another than what was announced last. A server that went away changes nothing here: its offer
//! outlives it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use trunkline_config::{Expose, Filter, ToolRules};
use trunkline_upstream::{Complaint, Entry as Offered, Offer, Upstream};
use trunkline_wire::extensions::TASKS;
use trunkline_wire::{ExposedName, Json, Object, ServerName};

use crate::Hub;
use crate::catalog::arguments;
use crate::catalog::clean::{clean, clean_text};
use crate::catalog::names::{self, Named, Rules};
use crate::catalog::output::{self, Output};
use crate::catalog::pages::Book;
use crate::catalog::views::{View, Views};
use crate::catalog::{Catalog, Entry, List, Table, Withheld};
use crate::instructions;
use crate::limits::{ANNOUNCE_LATEST, ANNOUNCE_QUIET, DESCRIPTION_BYTES_MAX, SCHEMA_BYTES_MAX};
use crate::pins::{Pins, Verdict, Why};
use crate::resources::Resources;
use crate::surface::Own;

/// What of the configuration decides a catalogue, besides what is said of each server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Longest name.
    pub name_chars: usize,
    /// Entries to a page; all if none.
    pub page_size: Option<usize>,
    /// Names are the servers' own, whatever stands in front of them elsewhere.
    pub bare_names: bool,
    /// The gateway's own tools are listed, whose names no other tool may have.
    pub own_tools: bool,
}

/// An entry that passed, not yet named.
struct Candidate {
    original: Box<str>,
    body: Object,
    /// Why it is withheld; it has a name all the same.
    withheld: Option<Why>,
    /// What holds for its calls.
    rules: Option<Arc<ToolRules>>,
}

/// A server that may be listed: what it offers, and what of that is not as it was pinned.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub upstream: Upstream,
    pub offer: Arc<Offer>,
    pub verdict: Option<Arc<Verdict>>,
}

impl Source {
    /// What a server offers now; what is new of it is pinned.
    pub(crate) fn judged(upstream: Upstream, offer: Arc<Offer>, pins: &Pins) -> Self {
        let verdict = pins.judge(&upstream, &offer);
        Self { upstream, offer, verdict }
    }
}

/// The catalogue of these offers, all of which are seen for the first time.
#[cfg(test)]
pub(crate) fn of_offers(version: u64, offers: &[(Upstream, Arc<Offer>)], shape: Shape) -> Catalog {
    let pins = Pins::at(crate::pins::Place::Nowhere, trunkline_telemetry::Metrics::new());
    of_judged(version, offers, shape, &pins)
}

/// The same, with these pins.
#[cfg(test)]
fn of_judged(version: u64, offers: &[(Upstream, Arc<Offer>)], shape: Shape, pins: &Pins) -> Catalog {
    let judged = |(upstream, offer): &(Upstream, Arc<Offer>)| Source::judged(upstream.clone(), offer.clone(), pins);
    build(version, &offers.iter().map(judged).collect::<Vec<_>>(), shape)
}

/// Builds the catalogue of these offers.
pub(crate) fn build(version: u64, sources: &[Source], shape: Shape) -> Catalog {
    let mut complaints: HashMap<ServerName, Vec<Complaint>> = HashMap::new();
    let mut complain = |server: &ServerName, what: String, why: String| {
        complaints.entry(server.clone()).or_default().push(Complaint { what, why });
    };
    let resources = Resources::collect(sources.iter().map(|source| (&source.upstream, &*source.offer)));
    let tools = table(sources, shape, Kind::Tool, &resources, &mut complain);
    let prompts = table(sources, shape, Kind::Prompt, &resources, &mut complain);
    let said = sources.iter().map(|it| (it.upstream.name().as_str(), it.offer.instructions.as_deref()));
    let instructions = Json::from(instructions::compose(said, shape.own_tools).as_str());
    let book = Book::new(shape.page_size);
    let searched = super::Searched::default();
    let extensions = extensions(sources);
    let servers = sources.iter().map(|source| source.upstream.clone()).collect();
    Catalog {
        version,
        tools,
        prompts,
        resources,
        book,
        digests: Default::default(),
        searched,
        instructions,
        surface: None,
        extensions,
        servers,
        uris: Filter::default(),
        awaited: Vec::new(),
        complaints,
        complaints_of_all: OnceLock::new(),
    }
}

/// The extensions of all servers. Of settings that differ, those of the first server in the configuration are told.
fn extensions(sources: &[Source]) -> Object {
    let mut all = Object::new();
    for (id, settings) in sources.iter().flat_map(|source| source.offer.extensions.iter()) {
        if all.get(id).is_none() {
            // What is told of tasks is the gateway's own word: it has no settings.
            all.set(id, if id == TASKS { Json::literal("{}") } else { settings.clone() });
        }
    }
    all
}

/// Builds anew whenever an offer changed, and announces what is new, until the hub is gone.
pub(crate) async fn keep_current(hub: Weak<Hub>, mut offers: watch::Receiver<u64>) {
    let begun = hub.upgrade().map(|hub| (hub.views(), hub.catalogs()));
    let Some((mut announced, mut published)) = begun else { return };
    // Quiet until, and at the latest.
    let mut due: Option<(Instant, Instant)> = None;
    loop {
        let quiet = async {
            match due {
                Some((quiet, latest)) => sleep_until(quiet.min(latest)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = quiet => {
                due = None;
                let Some(hub) = hub.upgrade() else { return };
                let now = hub.views();
                announce(&hub, &announced, &now);
                announced = now;
            }
            changed = offers.changed() => {
                let Some(hub) = hub.upgrade().filter(|_| changed.is_ok()) else { return };
                hub.publish();
            }
            // By this task, or by a reload.
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Instant::now();
                let latest = due.map_or(now + ANNOUNCE_LATEST, |(_, latest)| latest);
                due = Some((now + ANNOUNCE_QUIET, latest));
            }
        }
    }
}

/// Tells every session and listen which lists of its view changed, if any did.
fn announce(hub: &Hub, before: &Views, now: &Views) {
    let mut between = Changes { before, now, known: Vec::new() };
    // First, so that a session that comes back at this moment hears of it in one way or the other. The views of a token that
    // is limited no more are told of as everybody's.
    let gone = before.each().map(|(view, _)| view).filter(|view| before.limits(view) && !now.limits(view));
    let mut told_of = 0;
    for view in now.each().map(|(view, _)| view).chain(gone) {
        let changed = between.of(&view);
        if !changed.is_empty() {
            told_of = changed.iter().fold(told_of, |bits, list| bits | list.bit());
            let (profile, holder) = (view.profile(), view.holder());
            tracing::debug!(?changed, version = now.whole().version, profile, holder, "the catalogue changed");
            let told = if now.limits(&view) { view } else { view.of_anybody() };
            hub.told().announced(&told, changed, now.of(&told));
        }
    }
    for list in List::NOTICES.into_iter().filter(|list| told_of & list.bit() != 0) {
        hub.metrics().list_announced(list.key());
    }
    hub.each_session(|session| match between.of(session.view()) {
        [] => {}
        changed => session.announce(changed),
    });
    hub.listens().announce(|view| between.of(view).to_vec());
}

/// Which lists differ between two moments, for whoever sees what. Many see the same.
struct Changes<'a> {
    before: &'a Views,
    now: &'a Views,
    known: Vec<([*const Catalog; 2], Vec<List>)>,
}

impl Changes<'_> {
    fn of(&mut self, view: &View) -> &[List] {
        let (before, now) = (self.before.of(view), self.now.of(view));
        let pair = [Arc::as_ptr(before), Arc::as_ptr(now)];
        let found = self.known.iter().position(|(known, _)| *known == pair).unwrap_or_else(|| {
            let differs = |list: &List| !before.lists_alike(now, *list);
            self.known.push((pair, List::ALL.into_iter().filter(differs).collect()));
            self.known.len() - 1
        });
        &self.known[found].1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tool,
    Prompt,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
        }
    }
}

fn table(
    sources: &[Source],
    shape: Shape,
    kind: Kind,
    resources: &Resources,
    complain: &mut impl FnMut(&ServerName, String, String),
) -> Table {
    let none = BTreeMap::new();
    let configs: Vec<_> = sources.iter().map(|source| source.upstream.config()).collect();
    let spaces: Vec<(String, String)> = sources.iter().map(|source| spaces(&source.upstream, shape)).collect();
    let candidates: Vec<Vec<Candidate>> = sources.iter().map(|source| candidates(source, kind, complain)).collect();
    let mut sets: Vec<(Rules<'_>, Vec<&str>, Vec<Named>)> = configs
        .iter()
        .zip(&spaces)
        .zip(&candidates)
        .map(|((config, (space, prefix)), candidates)| {
            let rename = if kind == Kind::Tool { &config.expose.rename } else { &none };
            let rules = Rules { space, prefix, budget: shape.name_chars, rename };
            let originals: Vec<&str> = candidates.iter().map(|candidate| &*candidate.original).collect();
            let given = names::assign(rules, &originals);
            (rules, originals, given)
        })
        .collect();
    let own_tools = if kind == Kind::Tool && shape.own_tools { &Own::ALL[..] } else { &[] };
    let is_taken = |named: &Named| !own_tools.is_empty() && Own::is_like(&named.name);
    for (at, index) in names::settle(&mut sets, |named| is_taken(named)) {
        let (plain, now) = (clean_text(sets[at].1[index]), &sets[at].2[index].name);
        let why = format!("is called `{now}` here: its name is that of one of the gateway's own tools (`expose`)");
        complain(sources[at].upstream.name(), format!("{} `{plain}`", kind.noun()), why);
    }
    let given: Vec<Vec<ExposedName>> =
        sets.into_iter().map(|(_, _, names)| names.into_iter().map(|named| named.name).collect()).collect();
    let (mut entries, mut withheld) = (Vec::new(), Vec::new());
    for ((Source { upstream, .. }, (_, prefix)), (candidates, names)) in
        sources.iter().zip(&spaces).zip(candidates.into_iter().zip(given))
    {
        let titled = (!prefix.is_empty()).then(|| capitalised(upstream.name().as_str()));
        for (mut candidate, name) in candidates.into_iter().zip(names) {
            if let Some(why) = candidate.withheld {
                let (server, original) = (upstream.name().clone(), candidate.original);
                withheld.push((name, Withheld { server, original, why }));
                continue;
            }
            if kind == Kind::Tool {
                point_to_view(&mut candidate.body, upstream.name(), resources);
            }
            entries.push(finish(upstream, candidate, name, titled.as_deref()));
        }
    }
    Table::new(entries, withheld)
}

/// What enters the hashes of a server's names, and its prefix, empty for none.
fn spaces(upstream: &Upstream, shape: Shape) -> (String, String) {
    match upstream.config().expose.namespace(upstream.name()) {
        Some(prefix) if !shape.bare_names => (prefix.clone(), prefix),
        _ => (upstream.name().to_string(), String::new()),
    }
}

/// Reads the entries that may be shown.
fn candidates(
    Source { upstream, offer, verdict }: &Source,
    kind: Kind,
    complain: &mut impl FnMut(&ServerName, String, String),
) -> Vec<Candidate> {
    let offered = if kind == Kind::Tool { &offer.tools } else { &offer.prompts };
    let config = upstream.config();
    let expose = &config.expose;
    let mut known: HashSet<&str> = HashSet::with_capacity(offered.len());
    let mut out = Vec::with_capacity(offered.len());
    for entry in offered {
        if kind == Kind::Tool && !is_shown(expose, entry) {
            continue;
        }
        let read = if known.insert(&entry.name) {
            candidate(entry, kind, expose.describe.get(&entry.name))
        } else {
            Err("listed twice; the first one stays".to_owned())
        };
        let what = || format!("{} `{}`", kind.noun(), clean_text(&entry.name));
        match read {
            Ok(mut candidate) => {
                let verdict = verdict.as_ref().filter(|_| kind == Kind::Tool);
                if let Some((verdict, why)) = verdict.and_then(|it| Some((it, it.of(&entry.name)?))) {
                    let server = upstream.name();
                    let why_then = format!(
                        "{}; `trunkline pins diff {server}` shows the change, `trunkline pins accept {server}` takes it",
                        why.text()
                    );
                    complain(server, what(), why_then);
                    candidate.withheld = verdict.blocks.then_some(why);
                }
                if kind == Kind::Tool {
                    candidate.rules = expose.rules.get(&entry.name).cloned();
                    if let Some(unknown) = unseen(&mut candidate) {
                        let why = format!("has no arguments {unknown}, which the configuration names in `tools`");
                        complain(upstream.name(), what(), why);
                    }
                }
                out.push(candidate);
            }
            Err(why) => complain(upstream.name(), what(), why),
        }
    }
    if kind == Kind::Tool && !offered.is_empty() {
        for name in expose.rules.keys().filter(|name| !known.contains(name.as_str()) && expose.tools.shows(name)) {
            let what = format!("tool `{}`", clean_text(name));
            complain(upstream.name(), what, "is named in `tools`, and the server lists none of that name".to_owned());
        }
    }
    out
}

/// Takes out of a tool's schema what clients do not see. Returns the arguments that it does not have.
fn unseen(tool: &mut Candidate) -> Option<String> {
    let rules = tool.rules.as_ref().filter(|rules| rules.shapes_arguments())?;
    let (schema, unknown) = arguments::trim(tool.body.get("inputSchema")?, rules);
    tool.body.set("inputSchema", schema);
    let unknown: Vec<String> = unknown.iter().map(|name| format!("`{}`", clean_text(name))).collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

/// Whether a server's block lets this tool be shown.
pub(crate) fn is_shown(expose: &Expose, tool: &Offered) -> bool {
    let only_reads = || {
        let annotations = Object::parse(&tool.body).ok().and_then(|body| body.get_object("annotations"));
        annotations.is_some_and(|annotations| annotations.get("readOnlyHint") == Some(&Json::literal("true")))
    };
    expose.tools.shows(&tool.name) && (!expose.readonly || only_reads())
}

fn candidate(entry: &Offered, kind: Kind, described: Option<&String>) -> Result<Candidate, String> {
    let mut body = Object::parse(&entry.body).map_err(|error| error.to_string())?;
    if kind == Kind::Tool {
        if !body.get("inputSchema").is_some_and(Json::is_object) {
            return Err("has no `inputSchema` that is an object".to_owned());
        }
        let too_long = |key| body.get(key).is_some_and(|schema| schema.as_bytes().len() > SCHEMA_BYTES_MAX);
        if let Some(key) = ["inputSchema", "outputSchema"].into_iter().find(|key| too_long(key)) {
            return Err(format!("its `{key}` is longer than {} KiB", SCHEMA_BYTES_MAX / 1024));
        }
        // Tasks are not offered to clients (mcp-protocol 5.3).
        body.remove("execution");
        if body.get("outputSchema").is_some_and(|schema| !output::is_schema(schema)) {
            body.remove("outputSchema");
        }
        if let Some(described) = described {
            body.set("description", Json::from(described.as_str()));
        }
    }
    if body.get("description").is_some_and(|text| text.as_bytes().len() > DESCRIPTION_BYTES_MAX) {
        return Err(format!("its description is longer than {} KiB", DESCRIPTION_BYTES_MAX / 1024));
    }
    clean(&mut body);
    Ok(Candidate { original: entry.name.as_str().into(), body, withheld: None, rules: None })
}

/// Names the view of a tool as clients find it, where its URI is wrapped (mcp-protocol 5.15).
fn point_to_view(tool: &mut Object, server: &ServerName, resources: &Resources) {
    let Some(mut meta) = tool.get_object("_meta") else { return };
    let Some(mut ui) = meta.get_object("ui") else { return };
    let Some(uri) = ui.get_str("resourceUri") else { return };
    let published = resources.published(server, &uri);
    if published != uri {
        ui.set("resourceUri", Json::from(published.as_str()));
        meta.set("ui", ui.to_json());
        tool.set("_meta", meta.to_json());
    }
}

/// Sets name and title, and nothing else.
fn finish(upstream: &Upstream, candidate: Candidate, name: ExposedName, titled: Option<&str>) -> Entry {
    let Candidate { original, mut body, withheld: _, rules } = candidate;
    body.set("name", Json::from(name.as_str()));
    if let Some(server) = titled {
        let own = body.get_str("title").or_else(|| body.get_object("annotations")?.get_str("title"));
        let own = own.filter(|title| !title.trim().is_empty()).unwrap_or_else(|| in_words(&original));
        body.set("title", Json::from(format!("{server}: {own}").as_str()));
    }
    let output = Output::of(&body);
    Entry::new(name, original, body.to_json(), upstream.clone(), output).ruled(rules)
}

/// A name in words: `get_issue` and `getIssue` read "Get issue". Search in clients splits at spaces, not at
/// underscores (clients.md 1.9).
fn in_words(name: &str) -> String {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut letters = name.chars().peekable();
    let mut before = ' ';
    while let Some(c) = letters.next() {
        let hump = before.is_lowercase() && c.is_uppercase();
        if hump {
            spaced.push(' ');
        }
        // An acronym keeps its capitals.
        if hump && letters.peek().is_none_or(|next| !next.is_uppercase()) {
            spaced.extend(c.to_lowercase());
        } else {
            spaced.push(c);
        }
        before = c;
    }
    capitalised(&spaced)
}

/// The name of a server for people: `my-server` reads "My server"; humps stay, since names like `GitHub` are
/// written with one.
fn capitalised(name: &str) -> String {
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words = words.join(" ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
