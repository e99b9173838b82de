//! [`Views`]: what each group of clients sees: everything at `/mcp`, and at `/mcp/NAME` what a profile shows.
//!
//! A profile's view is a catalogue of its own, made as the whole one is, of what the profile's patterns leave of the offers.
//! So a list of it is rendered once, a name that it does not show is not known in it, and a call through it costs what any
//! call costs. Patterns go by the names of the whole catalogue, which people see, whatever a profile calls a tool itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use trunkline_config::{Filter, Profile};
use trunkline_upstream::{Entry as Offered, Offer, Upstream};
use trunkline_wire::ServerName;

use super::Catalog;
use super::build::{self, Shape, Source};
use crate::pins::Pins;

/// Everything, or a profile by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct View(Option<Arc<str>>);

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
    /// Of a profile that is no more, while its clients are still there.
    nothing: Arc<Catalog>,
}

impl View {
    /// Everything.
    pub const WHOLE: View = View(None);

    /// The profile's name; `None` for everything.
    pub fn profile(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<'a> Guest<'a> {
    /// Whoever was asked for nothing, at `/mcp`.
    pub const ANYBODY: Guest<'static> = Guest { owner: None, view: &View::WHOLE };

    /// Whoever sees everything.
    pub fn of_whole(owner: Option<&'a str>) -> Self {
        Self { owner, view: &View::WHOLE }
    }
}

impl Views {
    /// Builds the catalogues of `upstreams`, which are in the order of the configuration.
    pub(crate) fn build(
        version: u64,
        upstreams: &[Upstream],
        shape: Shape,
        profiles: &[(Box<str>, Profile)],
        pins: &Pins,
    ) -> Self {
        let enabled: Vec<&Upstream> = upstreams.iter().filter(|upstream| upstream.config().enabled).collect();
        // Asked for before the offers: a server that gets ready in between is awaited once too often, never missed.
        // One that sleeps is not coming by itself.
        let coming = |upstream: &&&Upstream| !upstream.ever_ready() && upstream.states().borrow().state != "idle";
        let awaited: Vec<Upstream> = enabled.iter().filter(coming).map(|upstream| Upstream::clone(upstream)).collect();
        let judged = |upstream: &&Upstream| Source::judged(Upstream::clone(upstream), upstream.offer(), pins);
        let sources: Vec<_> = enabled.iter().map(judged).collect();
        let whole = Catalog { awaited, servers: upstreams.to_vec(), ..build::build(version, &sources, shape) };
        let lens = Lens::of(&whole);
        let view = |(name, profile): &(Box<str>, Profile)| {
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
                ..shape
            };
            let offers = build::build(version, &shown, shape);
            let catalog = Catalog { awaited, servers, uris: profile.resources.clone(), ..offers };
            (Arc::from(&**name), Arc::new(catalog))
        };
        let profiles = profiles.iter().map(view).collect();
        Self { profiles, nothing: Arc::new(build::build(version, &[], shape)), whole: Arc::new(whole) }
    }

    /// A whole, and no profiles.
    #[cfg(test)]
    pub(crate) fn holding(whole: Catalog) -> Self {
        let nothing = build::build(0, &[], Shape { name_chars: 48, page_size: None, bare_names: false });
        Self { whole: Arc::new(whole), profiles: BTreeMap::new(), nothing: Arc::new(nothing) }
    }

    /// Everything.
    pub(crate) fn whole(&self) -> &Arc<Catalog> {
        &self.whole
    }

    /// What a view shows.
    pub(crate) fn of(&self, view: &View) -> &Arc<Catalog> {
        match &view.0 {
            None => &self.whole,
            Some(profile) => self.profiles.get(profile).unwrap_or(&self.nothing),
        }
    }

    /// Each view that there is.
    pub(crate) fn each(&self) -> impl Iterator<Item = (View, &Arc<Catalog>)> {
        let profiles = self.profiles.iter().map(|(name, catalog)| (View(Some(Arc::clone(name))), catalog));
        std::iter::once((View::WHOLE, &self.whole)).chain(profiles)
    }

    /// The profile of this name.
    pub(crate) fn named(&self, profile: &str) -> Option<View> {
        self.profiles.get_key_value(profile).map(|(name, _)| View(Some(Arc::clone(name))))
    }

    /// The names of all profiles.
    pub(crate) fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(|name| &**name)
    }
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
