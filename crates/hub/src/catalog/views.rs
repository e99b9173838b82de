//! [`Views`]: what each group of clients sees: everything at `/mcp`, and at `/mcp/NAME` what a profile shows; of both, what
//! the token reaches that was shown.
//!
//! A profile's view is a catalogue of its own, made as the whole one is, of what the profile's patterns leave of the offers.
//! So a list of it is rendered once, a name that it does not show is not known in it, and a call through it costs what any
//! call costs. Patterns go by the names of the whole catalogue, which people see, whatever a profile calls a tool itself.
//!
//! The views of limited tokens are catalogues too, so that no path can forget the limit. A view is named by the address and
//! the holder and not by what the limits are at the moment: sessions outlive a change of the limits, and hear of it (S-5).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trunkline_config::{Filter, Leads, Patterns, Profile, Reach, Surface as Wanted};
use trunkline_upstream::{Complaint, Entry as Offered, Offer, Upstream};
use trunkline_wire::ServerName;

use super::build::{self, Shape, Source};
use super::{Catalog, Entry};
use crate::Rules;
use crate::pins::Pins;
use crate::surface::Surface;

/// What is seen at an address: at `/mcp`, or at that of a profile, by whoever holds a token, or by anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    profile: Option<Arc<str>>,
    /// The name of the token, where one was asked for.
    holder: Option<Arc<str>>,
}

/// Whose a request is, and what he sees.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The name of the token that was shown, if one was asked for.
    pub owner: Option<&'a str>,
    /// What the address shows that was asked.
    pub view: &'a View,
}

/// The catalogue of each view, at one moment.
#[derive(Debug)]
pub(crate) struct Views {
    whole: Arc<Catalog>,
    profiles: BTreeMap<Arc<str>, Arc<Catalog>>,
    /// Of each limited token, what it sees at each address that is open to it.
    limited: BTreeMap<Arc<str>, Open>,
    /// The names of all tokens, where any are asked for.
    holders: Vec<Box<str>>,
    /// Of a profile that is no more, while its clients are still there.
    nothing: Arc<Catalog>,
}

/// What a limited token sees, by the profile at whose address it is shown; at `/mcp`: by none.
type Open = BTreeMap<Option<Arc<str>>, Arc<Catalog>>;

impl View {
    /// Everything.
    pub const WHOLE: View = View { profile: None, holder: None };

    /// The name of the profile whose address it is; `None` for `/mcp`.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Whose it is, where a token was asked for.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    /// The same address, whoever comes.
    pub(crate) fn of_anybody(&self) -> Self {
        Self { profile: self.profile.clone(), holder: None }
    }

    fn of_profile(name: &Arc<str>) -> Self {
        Self { profile: Some(Arc::clone(name)), holder: None }
    }
}

impl Guest<'_> {
    /// Whoever was asked for nothing, at `/mcp`.
    pub const ANYBODY: Guest<'static> = Guest { owner: None, view: &View::WHOLE };

    /// Whoever sees everything.
    #[cfg(test)]
    pub(crate) fn of_whole(owner: Option<&str>) -> Guest<'_> {
        Guest { owner, view: &View::WHOLE }
    }
}

impl Views {
    /// Builds the catalogues of `upstreams`, which are in the order of the configuration.
    pub(crate) fn build(version: u64, upstreams: &[Upstream], rules: &Rules, pins: &Pins) -> Self {
        let limits = &rules.limits;
        let own_tools = rules.surface != Wanted::All;
        let shape = Shape { name_chars: limits.name_chars, page_size: limits.page_size, bare_names: false, own_tools };
        let enabled: Vec<&Upstream> = upstreams.iter().filter(|upstream| upstream.config().enabled).collect();
        // Asked for before the offers: a server that gets ready in between is awaited once too often, never missed.
        // One that sleeps is not coming by itself.
        let coming = |upstream: &&&Upstream| !upstream.ever_ready() && upstream.states().borrow().state != "idle";
        let awaited: Vec<Upstream> = enabled.iter().filter(coming).map(|upstream| Upstream::clone(upstream)).collect();
        let judged = |upstream: &&Upstream| Source::judged(Upstream::clone(upstream), upstream.offer(), pins);
        let sources: Vec<_> = enabled.iter().map(judged).collect();
        let mut whole = Catalog { awaited, servers: upstreams.to_vec(), ..build::build(version, &sources, shape) };
        whole.surface = surface(&rules.surface, &whole, |pinned, entry| pinned.match_any(entry.name.as_str()));
        let whole = Arc::new(whole);
        let lens = Lens::of(&whole);
        let part = |profile: &Profile| {
            let of_it = |upstreams: &[Upstream]| {
                upstreams.iter().filter(|upstream| profile.has(upstream.name())).cloned().collect::<Vec<_>>()
            };
            let shown = lens.through(profile, &sources);
            // One that has something, and nothing that is shown, is not there.
            let is_hidden = |upstream: &Upstream| {
                let is_it = |source: &Source| source.upstream.name() == upstream.name();
                sources.iter().any(is_it) && !shown.iter().any(is_it)
            };
            let (awaited, mut servers) = (of_it(&whole.awaited), of_it(upstreams));
            servers.retain(|upstream| !is_hidden(upstream));
            let shape = Shape {
                name_chars: profile.name_chars.unwrap_or(shape.name_chars),
                bare_names: profile.bare_names,
                own_tools: profile.surface != Wanted::All,
                ..shape
            };
            let offers = build::build(version, &shown, shape);
            let mut catalog = Catalog { awaited, servers, uris: profile.resources.clone(), ..offers };
            let is_pinned = |pinned: &Patterns, entry: &Entry| {
                let public = lens.tools.get(&(entry.server(), &*entry.original));
                public.is_some_and(|public| pinned.match_any(public))
            };
            catalog.surface = surface(&profile.surface, &catalog, is_pinned);
            Arc::new(catalog)
        };
        let known: BTreeMap<Arc<str>, Arc<Catalog>> =
            rules.profiles.iter().map(|(name, profile)| (Arc::from(&**name), part(profile))).collect();
        complain_of(&whole, &known);
        let mut parts = Parts { made: BTreeMap::new(), whole: &whole, profiles: &known, rules, make: &part };
        let limited = rules.limited.iter().map(|(holder, reach)| (Arc::from(&**holder), parts.open(reach))).collect();
        Self {
            limited,
            holders: rules.holders.clone(),
            nothing: Arc::new(build::build(version, &[], shape)),
            profiles: known,
            whole,
        }
    }

    /// A whole, and no profiles.
    #[cfg(test)]
    pub(crate) fn holding(whole: Catalog) -> Self {
        let nothing =
            build::build(0, &[], Shape { name_chars: 48, page_size: None, bare_names: false, own_tools: false });
        let (profiles, limited) = (BTreeMap::new(), BTreeMap::new());
        Self { whole: Arc::new(whole), profiles, limited, holders: Vec::new(), nothing: Arc::new(nothing) }
    }

    /// Everything.
    pub(crate) fn whole(&self) -> &Arc<Catalog> {
        &self.whole
    }

    /// What a view shows.
    pub(crate) fn of(&self, view: &View) -> &Arc<Catalog> {
        if self.is_gone(view.holder.as_deref()) {
            return &self.nothing;
        }
        let limited = view.holder.as_ref().and_then(|holder| self.limited.get(holder));
        let found = match (limited, &view.profile) {
            (Some(open), address) => open.get(address),
            (None, None) => Some(&self.whole),
            (None, Some(profile)) => self.profiles.get(profile),
        };
        found.unwrap_or(&self.nothing)
    }

    /// Whether the holder's token was taken back. What was let in by it before is not shown more for that.
    fn is_gone(&self, holder: Option<&str>) -> bool {
        let known = |holder: &str| self.holders.iter().any(|known| **known == *holder);
        !self.holders.is_empty() && holder.is_some_and(|holder| !known(holder))
    }

    /// Each view that there is; those of tokens without limits are everybody's.
    pub(crate) fn each(&self) -> impl Iterator<Item = (View, &Arc<Catalog>)> {
        let profiles = self.profiles.iter().map(|(name, catalog)| (View::of_profile(name), catalog));
        let limited = self.limited.iter().flat_map(|(holder, open)| {
            open.iter().map(|(profile, catalog)| {
                (View { profile: profile.clone(), holder: Some(Arc::clone(holder)) }, catalog)
            })
        });
        std::iter::once((View::WHOLE, &self.whole)).chain(profiles).chain(limited)
    }

    /// Whether the holder's token is limited.
    pub(crate) fn limits(&self, view: &View) -> bool {
        view.holder.as_ref().is_some_and(|holder| self.limited.contains_key(holder))
    }

    /// Whether a session that was begun at `began` may go on at `comes`: the address is the same, and so is the holder,
    /// unless both see what everybody does there.
    pub(crate) fn are_one(&self, began: &View, comes: &View) -> bool {
        began == comes || (began.profile == comes.profile && !self.limits(began) && !self.limits(comes))
    }

    /// What is seen at the address of a profile, or at `/mcp`, by `holder` or by anybody. Fails with the addresses that are
    /// open to him.
    pub(crate) fn at(&self, holder: Option<Arc<str>>, profile: Option<&str>) -> Result<View, Vec<String>> {
        if let Some(open) = holder.as_ref().and_then(|holder| self.limited.get(holder)) {
            let found = open.keys().find(|known| known.as_deref() == profile).cloned();
            let addresses = || open.keys().map(|known| address(known.as_deref())).collect();
            return found.map(|profile| View { profile, holder }).ok_or_else(addresses);
        }
        if self.is_gone(holder.as_deref()) {
            return Err(Vec::new());
        }
        let Some(name) = profile else { return Ok(View { profile: None, holder }) };
        let found = self.profiles.get_key_value(name).map(|(name, _)| Arc::clone(name));
        let addresses = || std::iter::once(None).chain(self.profiles().map(Some)).map(address).collect();
        found.map(|name| View { profile: Some(name), holder }).ok_or_else(addresses)
    }

    /// The profile of this name.
    pub(crate) fn named(&self, profile: &str) -> Option<View> {
        self.profiles.get_key_value(profile).map(|(name, _)| View::of_profile(name))
    }

    /// The names of all profiles.
    pub(crate) fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(|name| &**name)
    }
}

/// What limited tokens see. Those that see the same share it.
struct Parts<'a, F> {
    made: BTreeMap<(Option<&'a str>, &'a [ServerName]), Arc<Catalog>>,
    whole: &'a Arc<Catalog>,
    profiles: &'a BTreeMap<Arc<str>, Arc<Catalog>>,
    rules: &'a Rules,
    make: &'a F,
}

impl<'a, F: Fn(&Profile) -> Arc<Catalog>> Parts<'a, F> {
    /// What a token sees at each address that it opens.
    fn open(&mut self, reach: &'a Reach) -> Open {
        let addresses = std::iter::once(None).chain(self.profiles.keys().map(Some));
        let open = addresses.filter_map(|address| {
            let profile = match reach.at(address.map(|name| &**name))? {
                Leads::Whole => None,
                Leads::Profile(name) => Some(self.rules.profiles.iter().find(|(known, _)| **known == *name)?),
            };
            Some((address.map(Arc::clone), self.part(profile, reach.servers.as_deref())))
        });
        open.collect()
    }

    fn part(&mut self, profile: Option<&'a (Box<str>, Profile)>, only: Option<&'a [ServerName]>) -> Arc<Catalog> {
        let name = profile.map(|(name, _)| &**name);
        let Some(only) = only else {
            let shown = name.map_or(Some(self.whole), |name| self.profiles.get(name));
            return Arc::clone(shown.unwrap_or(self.whole));
        };
        let make = || {
            let whole = || Profile { surface: self.rules.surface.clone(), ..Profile::default() };
            let profile = profile.map_or_else(whole, |(_, profile)| profile.clone());
            let kept = only.iter().filter(|server| profile.has(server)).cloned().collect();
            (self.make)(&Profile { servers: Some(kept), ..profile })
        };
        Arc::clone(self.made.entry((name, only)).or_insert_with(make))
    }
}

/// The path of a profile, or of everything.
pub(super) fn address(profile: Option<&str>) -> String {
    profile.map_or_else(|| "/mcp".to_owned(), |name| format!("/mcp/{name}"))
}

/// What stands in the list of tools of a catalogue. `is_pinned` goes by the names by which patterns go.
fn surface(wanted: &Wanted, catalog: &Catalog, is_pinned: impl Fn(&Patterns, &Entry) -> bool) -> Option<Surface> {
    match wanted {
        Wanted::All => None,
        Wanted::Search => Some(Surface::over(&catalog.tools, |_| false)),
        Wanted::Hybrid(pinned) => Some(Surface::over(&catalog.tools, |entry| is_pinned(pinned, entry))),
    }
}

/// Adds what is wrong in a profile alone to what people see of the whole.
fn complain_of(whole: &Catalog, profiles: &BTreeMap<Arc<str>, Arc<Catalog>>) {
    let mut all = whole.complaints.clone();
    for (name, profile) in profiles {
        for (server, complaints) in &profile.complaints {
            let known = whole.complaints(server.as_str());
            let new = complaints.iter().filter(|complaint| !known.contains(complaint));
            let placed =
                new.map(|it| Complaint { what: format!("{} in profile `{name}`", it.what), why: it.why.clone() });
            all.entry(server.clone()).or_default().extend(placed);
        }
    }
    let _ = whole.complaints_of_all.set(all);
}

/// The names by which patterns go.
struct Lens<'a> {
    tools: HashMap<(&'a ServerName, &'a str), &'a str>,
    prompts: HashMap<(&'a ServerName, &'a str), &'a str>,
}

impl<'a> Lens<'a> {
    fn of(whole: &'a Catalog) -> Self {
        Self { tools: whole.tools.names(), prompts: whole.prompts.names() }
    }

    /// What the profile shows of the offers.
    fn through(&self, profile: &Profile, sources: &[Source]) -> Vec<Source> {
        let sources = sources.iter().filter(|source| profile.has(source.upstream.name()));
        sources
            .filter_map(|source| {
                let name = source.upstream.name();
                let mut shown = Offer::clone(&source.offer);
                // What the whole catalogue left out, this one leaves out too.
                let known = |names: &HashMap<_, &str>, filter: &Filter, entry: &Offered| {
                    names.get(&(name, entry.name.as_str())).is_some_and(|public| filter.shows(public))
                };
                shown.tools.retain(|entry| known(&self.tools, &profile.tools, entry));
                shown.prompts.retain(|entry| known(&self.prompts, &profile.prompts, entry));
                shown.resources.retain(|entry| profile.resources.shows(&entry.name));
                shown.templates.retain(|entry| profile.resources.shows(&entry.name));
                let is_empty = |offer: &Offer| {
                    let lists = [&offer.tools, &offer.prompts, &offer.resources, &offer.templates];
                    lists.iter().all(|list| list.is_empty())
                };
                let is_hidden = is_empty(&shown) && !is_empty(&source.offer);
                (!is_hidden).then(|| Source { offer: Arc::new(shown), ..source.clone() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
