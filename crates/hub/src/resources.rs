//! Which server a resource URI belongs to (mcp-protocol 6.10, mode `keep`).
//!
//! URIs stay as the servers write them. The owner of one is found in this order: listed, seen in a result,
//! matched by a listed template, the only server of that scheme and authority. Servers are never tried in turn:
//! that would leak URIs and read twice. A URI that two servers list stays with the first in the configuration;
//! that of the other is wrapped, `<namespace>+<uri>`, and unwrapped on the way in. A `ui://` URI stays one, since
//! clients know views by it: there the namespace goes before the authority (mcp-protocol 6.10).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use trunkline_upstream::{Offer, Upstream};
use trunkline_wire::{Json, Needle, Object, ServerName};

use crate::catalog::clean::clean;
use crate::limits::SEEN_URIS_MAX;

/// What the URIs of views begin with.
const VIEW: &str = "ui://";

/// All listed resources and templates, and who owns them.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// The entries of `resources/list`.
    pub entries: Vec<Json>,
    /// The entries of `resources/templates/list`.
    pub templates: Vec<Json>,
    listed: HashMap<Box<str>, Place>,
    patterns: Vec<Pattern>,
    /// By scheme and authority; `None` where several servers share one.
    authorities: HashMap<Box<str>, Option<Upstream>>,
    /// What is wrapped: server and its own URI.
    wrapped: HashSet<(ServerName, Box<str>)>,
}

/// Where a URI leads.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The server.
    pub upstream: Upstream,
    /// The server's own URI.
    pub uri: Box<str>,
    /// What stands in front of the URI toward clients, if it is wrapped.
    pub head: Option<Box<str>>,
}

/// A listed template: its text toward clients, cut at the expressions.
#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    literals: Vec<Box<str>>,
    place: Place,
}

impl Resources {
    /// Reads the resources of all servers, given in the order of the configuration.
    pub(crate) fn collect<'a>(sources: impl Iterator<Item = (&'a Upstream, &'a Offer)>) -> Self {
        let mut all = Self::default();
        let mut templates: HashSet<Box<str>> = HashSet::new();
        for (upstream, offer) in sources {
            for entry in &offer.resources {
                let Ok(mut body) = Object::parse(&entry.body) else { continue };
                let place = place(upstream, &entry.name, |uri| all.listed.contains_key(uri));
                let published = place.published();
                if all.listed.contains_key(&published) {
                    continue;
                }
                all.note_authority(&entry.name, upstream);
                all.entries.push(render(&mut body, "uri", &place, &entry.body));
                if place.head.is_some() {
                    all.wrapped.insert((upstream.name().clone(), entry.name.as_str().into()));
                }
                all.listed.insert(published, place);
            }
            for entry in &offer.templates {
                let Ok(mut body) = Object::parse(&entry.body) else { continue };
                let place = place(upstream, &entry.name, |text| templates.contains(text));
                let published = place.published();
                if !templates.insert(published.clone()) {
                    continue;
                }
                all.note_authority(&entry.name, upstream);
                all.templates.push(render(&mut body, "uriTemplate", &place, &entry.body));
                all.patterns.push(Pattern { literals: literals(&published), text: published, place });
            }
        }
        all
    }

    /// Finds where `uri`, as a client wrote it, leads.
    pub(crate) fn owner(&self, uri: &str, seen: &Seen, servers: &[Upstream]) -> Option<Place> {
        if let Some(place) = self.listed.get(uri) {
            return Some(place.clone());
        }
        let plain = |upstream: &Upstream| Place { upstream: upstream.clone(), uri: uri.into(), head: None };
        let teller = seen.get(uri).and_then(|server| servers.iter().find(|upstream| *upstream.name() == server));
        if let Some(teller) = teller {
            return Some(plain(teller));
        }
        let best = self
            .patterns
            .iter()
            .filter(|pattern| pattern.matches(uri))
            .reduce(|best, next| if next.weight() > best.weight() { next } else { best });
        if let Some(pattern) = best {
            let head = pattern.place.head.clone();
            let own = head.as_deref().map_or_else(|| Some(uri.into()), |head| unwrapped(head, uri))?;
            return Some(Place { upstream: pattern.place.upstream.clone(), uri: own, head });
        }
        self.authorities.get(authority(uri)?)?.as_ref().map(plain)
    }

    /// Finds where the template or URI of a completion reference leads.
    pub(crate) fn reference(&self, uri: &str, seen: &Seen, servers: &[Upstream]) -> Option<Place> {
        let listed = self.patterns.iter().find(|pattern| *pattern.text == *uri);
        listed.map(|pattern| pattern.place.clone()).or_else(|| self.owner(uri, seen, servers))
    }

    /// Whether clients know the URI of a server already.
    pub(crate) fn is_listed(&self, uri: &str) -> bool {
        self.listed.contains_key(uri)
    }

    /// The URI toward clients of a server's own URI.
    pub(crate) fn published(&self, server: &ServerName, uri: &str) -> String {
        if self.wrapped.is_empty() || !self.wrapped.contains(&(server.clone(), uri.into())) {
            return uri.to_owned();
        }
        wrapped(&head(server), uri)
    }

    fn note_authority(&mut self, uri: &str, upstream: &Upstream) {
        let Some(authority) = authority(uri) else { return };
        let holder = self.authorities.entry(authority.into()).or_insert_with(|| Some(upstream.clone()));
        if holder.as_ref().is_some_and(|holder| holder.name() != upstream.name()) {
            *holder = None;
        }
    }
}

/// Where an entry leads; wrapped if an earlier server has its URI.
fn place(upstream: &Upstream, uri: &str, taken: impl Fn(&str) -> bool) -> Place {
    let head = taken(uri).then(|| head(upstream.name()));
    Place { upstream: upstream.clone(), uri: uri.into(), head }
}

impl Place {
    fn published(&self) -> Box<str> {
        match &self.head {
            Some(head) => wrapped(head, &self.uri).into(),
            None => self.uri.clone(),
        }
    }
}

impl Pattern {
    /// Whether the literals stand in `uri` in this order, the first at its start and the last at its end.
    ///
    /// An expression may stand for anything, so the leftmost place of each literal is as good as any later one
    /// and nothing is ever tried twice (S-25).
    fn matches(&self, uri: &str) -> bool {
        let Some((first, others)) = self.literals.split_first() else { return false };
        let Some(mut rest) = uri.strip_prefix(&**first) else { return false };
        let Some((last, between)) = others.split_last() else { return rest.is_empty() };
        for literal in between {
            match rest.find(&**literal) {
                Some(at) => rest = &rest[at + literal.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }

    /// The more literal characters, the closer the template.
    fn weight(&self) -> usize {
        self.literals.iter().map(|literal| literal.len()).sum()
    }
}

/// URIs that stood in results, and whose they were. The newest are kept, within a bound.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Generations>);

/// Two halves: when the young one is full, the old one goes. As good as a strict order of use, and smaller.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, ServerName>,
    old: HashMap<Box<str>, ServerName>,
}

impl Seen {
    /// Notes that `uri` stood in a result of `server`. The first server to show it keeps it.
    pub(crate) fn note(&self, uri: &str, server: &ServerName) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.young.contains_key(uri) {
            return;
        }
        let server = seen.old.remove(uri).unwrap_or_else(|| server.clone());
        if seen.young.len() >= SEEN_URIS_MAX / 2 {
            seen.old = std::mem::take(&mut seen.young);
        }
        seen.young.insert(uri.into(), server);
    }

    fn get(&self, uri: &str) -> Option<ServerName> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.young.get(uri).or_else(|| seen.old.get(uri)).cloned()
    }
}

/// Calls `found` with each URI of a resource that a result of `tools/call`, `prompts/get` or `resources/read`
/// refers to. Costs a byte search where there is none.
pub(crate) fn mentioned(result: &Json, mut found: impl FnMut(&str)) {
    static URI: Needle = Needle::new("\"uri\"");
    if !URI.is_in(result.as_bytes()) {
        return;
    }
    let Ok(read) = result.decode::<Mentions>() else { return };
    for block in read.content.into_iter().chain(read.messages.into_iter().map(|message| message.content)) {
        match block.kind.as_str() {
            "resource_link" => found(&block.uri),
            "resource" => found(&block.resource.uri),
            _ => {}
        }
    }
    for content in read.contents {
        found(&content.uri);
    }
}

/// Wraps the URI of each of `contents` with `head`.
pub(crate) fn wrap_contents(result: &Json, head: &str) -> Json {
    let rewritten = || {
        let mut result = Object::parse(result).ok()?;
        let contents: Vec<&serde_json::value::RawValue> =
            serde_json::from_slice(result.get("contents")?.as_bytes()).ok()?;
        let mut out = String::from("[");
        for content in contents {
            let mut content = Object::parse(&Json::trusted(content.get().to_owned())).ok()?;
            let uri = content.get_str("uri")?;
            content.set("uri", Json::from(wrapped(head, &uri).as_str()));
            out.push_str(if out.len() > 1 { "," } else { "" });
            out.push_str(std::str::from_utf8(content.to_json().as_bytes()).ok()?);
        }
        out.push(']');
        result.set("contents", Json::trusted(out));
        Some(result.to_json())
    };
    rewritten().unwrap_or_else(|| result.clone())
}

/// The few members of a result that name resources. Whatever has another shape is passed over.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Mentions {
    content: Vec<Block>,
    messages: Vec<Spoken>,
    contents: Vec<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spoken {
    content: Block,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    uri: String,
    resource: Named,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    uri: String,
}

/// What wraps a URI. A scheme may not hold `_`.
fn head(server: &ServerName) -> Box<str> {
    format!("{}+", server.namespace().replace('_', "-")).into()
}

/// The URI toward clients.
fn wrapped(head: &str, uri: &str) -> String {
    match uri.strip_prefix(VIEW) {
        Some(rest) => format!("{VIEW}{head}{rest}"),
        None => format!("{head}{uri}"),
    }
}

/// The server's own URI.
fn unwrapped(head: &str, uri: &str) -> Option<Box<str>> {
    match uri.strip_prefix(VIEW) {
        Some(rest) => rest.strip_prefix(head).map(|rest| format!("{VIEW}{rest}").into()),
        None => uri.strip_prefix(head).map(Into::into),
    }
}

/// Renders an entry: untouched but for a wrapped URI and what must be cleaned.
fn render(body: &mut Object, key: &str, place: &Place, untouched: &Json) -> Json {
    let before = body.clone();
    clean(body);
    if place.head.is_some() {
        body.set(key, Json::from(&*place.published()));
    }
    if *body == before { untouched.clone() } else { body.to_json() }
}

/// Whether a URI has no other spelling: no segments of dots, and no escapes of characters that need none (RFC 3986, 6.2.2).
pub(crate) fn is_plain(uri: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let needless = |pair: &str| u8::from_str_radix(pair, 16).is_ok_and(unreserved);
    let dots = uri.split(['/', '\\']).any(|segment| matches!(segment.split(['?', '#']).next(), Some("." | "..")));
    !dots && !uri.split('%').skip(1).any(|rest| rest.get(..2).is_some_and(needless))
}

/// `scheme://authority`, or `scheme:` where there is no authority.
fn authority(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let end = scheme.len() + 1;
    let Some(rest) = rest.strip_prefix("//") else { return Some(&uri[..end]) };
    let length = rest.find(['/', '?', '#', '{']).unwrap_or(rest.len());
    Some(&uri[..end + 2 + length])
}

/// The text of a template between its expressions: one piece more than there are expressions.
fn literals(template: &str) -> Vec<Box<str>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        pieces.push(literal.into());
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    pieces.push(rest.into());
    pieces
}

#[cfg(test)]
mod tests;
