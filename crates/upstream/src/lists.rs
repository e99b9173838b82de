//! Fetching a server's lists, page by page, and taking them apart.
//!
//! One bad entry is left out alone, with a complaint; a list that cannot be had keeps the entries it had last
//! (R-22). What a hostile server may cost is bounded: pages, entries, bytes, time (mcp-protocol 2.11).

mod steady;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use trunkline_telemetry::redact;
use trunkline_wire::extensions::relayed;
use trunkline_wire::headers::{self, ParamHeader};
use trunkline_wire::{Json, Method, Object, code};

use crate::limits::{
    COMPLAINTS_MAX, DESCRIPTION_BYTES_MAX, ITEMS_MAX, LIST_BYTES_MAX, PAGES_MAX, SCHEMA_BYTES_MAX, TOOLS_MAX,
};
use crate::link::Link;
use crate::offer::{Capabilities, Complaint, Entry, Kinds, Offer};
use crate::repeat;

/// Longest name quoted in a complaint, in characters.
const QUOTED_MAX: usize = 80;

/// How many times the limit of one page a whole list may take.
const PAGES_IN_TIME: u32 = 4;

/// The four lists of a server as they were last had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    tools: List,
    prompts: List,
    resources: List,
    templates: List,
}

/// One list.
#[derive(Debug, Clone, Default)]
struct List {
    entries: Vec<Entry>,
    mirrored: HashMap<String, Arc<[ParamHeader]>>,
    as_tasks: HashSet<String>,
    repeatable: HashSet<String>,
    complaints: Vec<Complaint>,
    had: Had,
}

/// How reading a list went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Had {
    /// Read to its end, or not declared.
    #[default]
    Whole,
    /// The server refused it or sent something unusable; the entries are those of an earlier time.
    Refused,
    /// No answer came; the entries are those of an earlier time.
    Unanswered,
}

/// What tells the four lists apart.
#[derive(Debug, Clone, Copy)]
struct Kind {
    bit: Kinds,
    method: fn() -> Method,
    /// Key of the list in the result.
    list: &'static str,
    /// Key of an entry's name.
    name: &'static str,
    /// What an entry is called in complaints.
    word: &'static str,
    is_tool: bool,
}

const TOOLS: Kind =
    Kind { bit: Kinds::TOOLS, method: || Method::ToolsList, list: "tools", name: "name", word: "tool", is_tool: true };
const PROMPTS: Kind = Kind {
    bit: Kinds::PROMPTS,
    method: || Method::PromptsList,
    list: "prompts",
    name: "name",
    word: "prompt",
    is_tool: false,
};
const RESOURCES: Kind = Kind {
    bit: Kinds::RESOURCES,
    method: || Method::ResourcesList,
    list: "resources",
    name: "uri",
    word: "resource",
    is_tool: false,
};
const TEMPLATES: Kind = Kind {
    bit: Kinds::TEMPLATES,
    method: || Method::ResourcesTemplatesList,
    list: "resourceTemplates",
    name: "uriTemplate",
    word: "resource template",
    is_tool: false,
};

impl Lists {
    /// Fetches the lists of `wanted` that the server declared, all at the same time; the others stay as in `last`.
    ///
    /// A list that was not declared is empty. `limit` holds for one page.
    pub(crate) async fn fetch(link: &Arc<Link>, wanted: Kinds, last: &Self, limit: Duration) -> Self {
        let Capabilities { tools, prompts, resources, .. } = link.capabilities;
        let one = |kind: Kind, declared: bool, before: &List| {
            let before = before.clone();
            async move {
                if !declared {
                    return List::default();
                }
                if !wanted.has(kind.bit) {
                    return before;
                }
                fetch(link, kind, before, limit).await
            }
        };
        let (tools, prompts, resources, templates) = futures_util::join!(
            one(TOOLS, tools, &last.tools),
            one(PROMPTS, prompts, &last.prompts),
            one(RESOURCES, resources, &last.resources),
            one(TEMPLATES, resources, &last.templates),
        );
        Self { tools, prompts, resources, templates }
    }

    /// The lists that could not be had.
    pub(crate) fn failed(&self) -> Kinds {
        let lists = [(TOOLS, &self.tools), (PROMPTS, &self.prompts), (RESOURCES, &self.resources)];
        let lists = lists.into_iter().chain([(TEMPLATES, &self.templates)]);
        lists
            .filter(|(_, list)| list.had != Had::Whole)
            .fold(Kinds::default(), |failed, (kind, _)| failed.with(kind.bit))
    }

    /// If none of the lists that the server declared was answered: why.
    pub(crate) fn unanswered(&self, declared: Capabilities) -> Option<&str> {
        let Capabilities { tools, prompts, resources, .. } = declared;
        let lists = [
            (tools, &self.tools),
            (prompts, &self.prompts),
            (resources, &self.resources),
            (resources, &self.templates),
        ];
        let mut declared = lists.into_iter().filter(|(declared, _)| *declared).map(|(_, list)| list).peekable();
        let first = *declared.peek()?;
        let why = first.complaints.first().map_or("", |complaint| complaint.why.as_str());
        declared.all(|list| list.had == Had::Unanswered).then_some(why)
    }

    /// The lists of an offer: what is kept of them should they not be had again (R-22).
    pub(crate) fn of(offer: &Offer) -> Self {
        let list = |entries: &Vec<Entry>| List { entries: entries.clone(), ..List::default() };
        let tools = List { mirrored: offer.mirrored.clone(), as_tasks: offer.as_tasks.clone(), ..list(&offer.tools) };
        let (prompts, resources, templates) = (list(&offer.prompts), list(&offer.resources), list(&offer.templates));
        Self { tools, prompts, resources, templates }
    }

    /// Reads lists that were kept, each the JSON array of its entries, as those of a server are read. `None` if they are
    /// none.
    pub(crate) fn read_back([tools, prompts, resources, templates]: [&str; 4]) -> Option<Self> {
        let read = |kind: Kind, entries: &str| {
            let mut reading = Reading::new(kind, false);
            let page = Json::parse(format!(r#"{{"{}":{entries}}}"#, kind.list)).ok()?;
            reading.page(&page).ok()?;
            Some(reading.finish())
        };
        Some(Self {
            tools: read(TOOLS, tools)?,
            prompts: read(PROMPTS, prompts)?,
            resources: read(RESOURCES, resources)?,
            templates: read(TEMPLATES, templates)?,
        })
    }

    /// The entries as an offer, without anything that a handshake said.
    pub(crate) fn entries(&self) -> Offer {
        let lists = [&self.tools, &self.prompts, &self.resources, &self.templates];
        Offer {
            tools: self.tools.entries.clone(),
            prompts: self.prompts.entries.clone(),
            resources: self.resources.entries.clone(),
            templates: self.templates.entries.clone(),
            mirrored: self.tools.mirrored.clone(),
            as_tasks: self.tools.as_tasks.clone(),
            repeatable: self.tools.repeatable.clone(),
            complaints: lists.into_iter().flat_map(|list| list.complaints.iter().cloned()).collect(),
            ..Offer::default()
        }
    }

    /// The offer that they make, with what the handshake said.
    pub(crate) fn offer(&self, link: &Link) -> Offer {
        Offer {
            instructions: link.handshake.instructions.clone(),
            identity: link.handshake.identity.clone(),
            capabilities: link.capabilities,
            extensions: link
                .modern()
                .map(|revision| relayed(&link.handshake.capabilities, revision))
                .unwrap_or_default(),
            revision: Some(link.handshake.revision),
            ..self.entries()
        }
    }
}

async fn fetch(link: &Arc<Link>, kind: Kind, last: List, limit: Duration) -> List {
    let mut reading = Reading::new(kind, link.mirrors());
    let pages = read_pages(link, &mut reading, limit);
    let whole = limit.saturating_mul(PAGES_IN_TIME);
    let read = tokio::time::timeout(whole, pages).await;
    match read.unwrap_or_else(|_| Err((Had::Unanswered, format!("not complete within {} s", whole.as_secs())))) {
        Ok(()) => {
            let mut read = reading.finish();
            steady::keep(&mut read.entries, &last.entries);
            read
        }
        Err((had, why)) => {
            let what = (kind.method)().to_string();
            let kept = if last.entries.is_empty() { "" } else { "; the entries it gave before are kept" };
            let complaint = Complaint { what, why: format!("{why}{kept}") };
            List { complaints: vec![complaint], had, ..last }
        }
    }
}

async fn read_pages(link: &Arc<Link>, reading: &mut Reading, limit: Duration) -> Result<(), (Had, String)> {
    let mut cursor: Option<Json> = None;
    let mut seen = HashSet::new();
    for _ in 0..PAGES_MAX {
        let params: Object = cursor.iter().map(|cursor| ("cursor", cursor.clone())).collect();
        let answer = repeat::ask(link, (reading.kind.method)(), &params, limit).await;
        let answer = answer.map_err(|broken| (Had::Unanswered, broken.text))?;
        let result = match answer {
            Ok(result) => result,
            // A list that the server does not have has no entries.
            Err(error) if is_method_not_found(&error) && cursor.is_none() => return Ok(()),
            Err(error) => return Err((Had::Refused, format!("answered with an error: {}", message_of(&error)))),
        };
        let Some(next) = reading.page(&result).map_err(|why| (Had::Refused, why))? else { return Ok(()) };
        if reading.full {
            return Ok(());
        }
        if !seen.insert(next.bytes().clone()) {
            reading.complain("the list".to_owned(), "a cursor came twice; the list ends there".to_owned());
            return Ok(());
        }
        cursor = Some(next);
    }
    reading.complain("the list".to_owned(), format!("more than {PAGES_MAX} pages; the rest is left out"));
    Ok(())
}

pub(crate) fn is_method_not_found(error: &Json) -> bool {
    let number = Object::parse(error).ok().and_then(|error| error.get("code").cloned());
    number.is_some_and(|number| number == Json::trusted(code::METHOD_NOT_FOUND.to_string()))
}

fn message_of(error: &Json) -> String {
    let message = Object::parse(error).ok().and_then(|error| error.get_str("message"));
    redact::printable(&message.unwrap_or_else(|| "without a message".to_owned()), 200)
}

/// A list being read.
struct Reading {
    kind: Kind,
    /// Calls repeat arguments in headers, so a tool that says wrongly which is of no use.
    mirrors: bool,
    entries: Vec<Entry>,
    mirrored: HashMap<String, Arc<[ParamHeader]>>,
    as_tasks: HashSet<String>,
    repeatable: HashSet<String>,
    names: HashSet<String>,
    complaints: Vec<Complaint>,
    withheld: usize,
    bytes: usize,
    /// A limit is reached; further pages would bring nothing.
    full: bool,
}

impl Reading {
    fn new(kind: Kind, mirrors: bool) -> Self {
        Self {
            kind,
            mirrors,
            entries: Vec::new(),
            mirrored: HashMap::new(),
            as_tasks: HashSet::new(),
            repeatable: HashSet::new(),
            names: HashSet::new(),
            complaints: Vec::new(),
            withheld: 0,
            bytes: 0,
            full: false,
        }
    }

    /// Takes one page apart. Returns the cursor of the next: any string, the empty one too.
    fn page(&mut self, result: &Json) -> Result<Option<Json>, String> {
        let result = Object::parse(result).map_err(|error| format!("an unreadable result: {error}"))?;
        let key = self.kind.list;
        let list = result.get(key).ok_or_else(|| format!("a result without `{key}`"))?;
        let items: Vec<&RawValue> =
            serde_json::from_slice(list.as_bytes()).map_err(|_| format!("`{key}` is no list"))?;
        for item in items {
            if self.is_full(item.get().len()) {
                break;
            }
            // A copy, so that a small entry does not hold on to a page of megabytes.
            let taken = Json::parse(Bytes::copy_from_slice(item.get().as_bytes())).map_err(|error| error.to_string());
            if let Err((what, why)) = taken.map_err(|why| (self.nth(), why)).and_then(|item| self.take(item)) {
                self.complain(what, why);
            }
        }
        Ok(result.get("nextCursor").filter(|cursor| cursor.as_bytes().first() == Some(&b'"')).cloned())
    }

    fn is_full(&mut self, bytes: usize) -> bool {
        if self.full {
            return true;
        }
        self.bytes += bytes;
        let most = if self.kind.is_tool { TOOLS_MAX } else { ITEMS_MAX };
        let reached = if self.entries.len() >= most {
            format!("more than {most} entries")
        } else if self.bytes > LIST_BYTES_MAX {
            format!("more than {} MiB", LIST_BYTES_MAX / 1024 / 1024)
        } else {
            return false;
        };
        self.full = true;
        self.complain("the list".to_owned(), format!("{reached}; the rest is left out"));
        true
    }

    fn take(&mut self, body: Json) -> Result<(), (String, String)> {
        let entry = Object::parse(&body).map_err(|error| (self.nth(), error.to_string()))?;
        let key = self.kind.name;
        let name = entry.get_str(key).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| (self.nth(), format!("it has no `{key}`")))?;
        let what = format!("{} `{}`", self.kind.word, redact::printable(&name, QUOTED_MAX));
        if let Some(why) = self.defect(&entry) {
            return Err((what, why));
        }
        let hints = entry.get_object("annotations").filter(|_| self.kind.is_tool).unwrap_or_default();
        let hinted = |key| hints.get(key).is_some_and(|hint| hint.as_bytes() == b"true");
        let repeatable = hinted("readOnlyHint") || hinted("idempotentHint");
        let support = entry.get_object("execution").and_then(|execution| execution.get_str("taskSupport"));
        let (body, headers) = self.annotations(body, entry).map_err(|why| (what.clone(), why))?;
        if !self.names.insert(name.clone()) {
            return Err((what, format!("the `{key}` stands twice in the list; the first counts")));
        }
        if repeatable {
            self.repeatable.insert(name.clone());
        }
        if support.as_deref() == Some("required") {
            self.as_tasks.insert(name.clone());
        }
        if !headers.is_empty() {
            self.mirrored.insert(name.clone(), headers.into());
        }
        self.entries.push(Entry { name, body });
        Ok(())
    }

    fn defect(&self, entry: &Object) -> Option<String> {
        let size = |key| entry.get(key).map_or(0, |value| value.as_bytes().len());
        if size("description") > DESCRIPTION_BYTES_MAX {
            return Some(format!("its description is longer than {} KiB", DESCRIPTION_BYTES_MAX / 1024));
        }
        if !self.kind.is_tool {
            return None;
        }
        if !entry.get("inputSchema").is_some_and(Json::is_object) {
            return Some("it has no `inputSchema` that is an object".to_owned());
        }
        let large = ["inputSchema", "outputSchema"].into_iter().find(|key| size(key) > SCHEMA_BYTES_MAX)?;
        Some(format!("its `{large}` is larger than {} KiB", SCHEMA_BYTES_MAX / 1024))
    }

    /// Which arguments of a tool are repeated in headers. Where they are, a tool that says it wrongly is left out;
    /// elsewhere what is wrong is taken out, or modern clients of ours would leave the tool out (mcp-protocol 3.5).
    fn annotations(&self, body: Json, mut entry: Object) -> Result<(Json, Vec<ParamHeader>), String> {
        let Some(schema) = entry.get("inputSchema").filter(|_| self.kind.is_tool) else {
            return Ok((body, Vec::new()));
        };
        let found = headers::annotated(schema);
        match (found.bad, found.cleaned) {
            (Some(bad), _) if self.mirrors => Err(bad.to_string()),
            (Some(_), Some(cleaned)) => {
                entry.set("inputSchema", cleaned);
                Ok((entry.to_json(), found.headers))
            }
            (Some(_) | None, _) => Ok((body, found.headers)),
        }
    }

    fn nth(&self) -> String {
        format!("{} number {}", self.kind.word, self.entries.len() + self.complaints.len() + self.withheld + 1)
    }

    fn complain(&mut self, what: String, why: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            let what = if what == "the list" { (self.kind.method)().to_string() } else { what };
            self.complaints.push(Complaint { what, why });
        } else {
            self.withheld += 1;
        }
    }

    fn finish(mut self) -> List {
        if self.withheld > 0 {
            let what = (self.kind.method)().to_string();
            self.complaints.push(Complaint { what, why: format!("{} more entries were left out", self.withheld) });
        }
        let Self { entries, mirrored, as_tasks, repeatable, complaints, .. } = self;
        List { entries, mirrored, as_tasks, repeatable, complaints, had: Had::Whole }
    }
}

#[cfg(test)]
mod tests;
