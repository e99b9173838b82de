//! Who is connected, for the owner of the gateway.
//!
//! Clients of legacy revisions have sessions, which are shown. Those of 2026-07-28 have none: they are shown by what they
//! call themselves, as long as they listed or discovered something lately.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_telemetry::RecentCalls;
use trunkline_wire::{Era, ServerName};

use crate::Hub;
use crate::session::{Connected, ConnectedBy};

/// A client without a session counts as gone after so much silence. Its calls are not heard of here, its lists are,
/// and those it renews within minutes (mcp-protocol 6.8).
const STATELESS_SILENCE_MAX: Duration = Duration::from_mins(15);

/// What a profile shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name, which ends its address.
    pub name: String,
    /// Its servers, but for those that are switched off.
    pub servers: Vec<ServerName>,
    /// How many tools clients see there.
    pub tools: usize,
    /// How many prompts.
    pub prompts: usize,
}

impl Hub {
    /// The clients that were heard of last, at most `max`, in the order in which they came. Those of 2026-07-28 come first.
    pub fn clients(&self, max: usize) -> Vec<Connected> {
        let now = Instant::now();
        let mut clients: Vec<Connected> = Vec::new();
        self.each_session(|session| clients.push(session.connected(now)));
        clients.sort_by_key(|seen| (seen.idle, seen.age));
        let known = self.acquaintances.named(None);
        let stateless = known.into_iter().filter(|it| it.revision.era() == Era::Modern).map(|it| Connected {
            label: (*it.name).into(),
            name: it.name,
            version: Box::default(),
            revision: it.revision,
            view: it.view,
            port: it.port,
            by: ConnectedBy::Stateless,
            age: now.saturating_duration_since(it.first),
            idle: now.saturating_duration_since(it.last),
            requests: None,
            streams: 0,
        });
        let mut shown: Vec<Connected> = stateless.filter(|seen| seen.idle <= STATELESS_SILENCE_MAX).collect();
        shown.truncate(max);
        clients.truncate(max - shown.len());
        // In an order that stays while they work.
        shown.sort_by(|one, other| (other.age, &one.label).cmp(&(one.age, &other.label)));
        clients.sort_by(|one, other| (other.age, &one.label).cmp(&(one.age, &other.label)));
        shown.append(&mut clients);
        shown
    }

    /// What each profile shows, by name.
    pub fn profiles(&self) -> Vec<Shown> {
        let views = self.views();
        let of_profiles = views.each().filter_map(|(view, catalog)| Some((view.profile()?.to_owned(), catalog)));
        let shown = of_profiles.map(|(name, catalog)| {
            let enabled = catalog.servers.iter().filter(|upstream| upstream.config().enabled);
            let servers = enabled.map(|upstream| upstream.name().clone()).collect();
            Shown { name, servers, tools: catalog.tools().len(), prompts: catalog.prompts().len() }
        });
        shown.collect()
    }

    /// The last tool calls, without what was said.
    pub fn recent_calls(&self) -> &RecentCalls {
        &self.recent
    }
}

#[cfg(test)]
mod tests {
    use trunkline_config::Config;
    use trunkline_wire::{Abilities, Object, Revision};

    use super::*;
    use crate::fakes;

    #[tokio::test(start_paused = true)]
    async fn those_that_were_heard_of_last_are_shown_in_the_order_in_which_they_came() {
        let hub = fakes::hub(&[], &Config::default());
        let first = fakes::session(&hub, "2025-06-18");
        tokio::time::advance(Duration::from_secs(5)).await;
        let _second = fakes::session(&hub, "2025-11-25");
        tokio::time::advance(Duration::from_secs(5)).await;
        first.touch();
        let all = hub.clients(9);
        let revisions: Vec<_> = all.iter().map(|seen| seen.revision.as_str()).collect();
        assert_eq!(revisions, ["2025-06-18", "2025-11-25"]);
        assert_eq!((all[0].age.as_secs(), all[0].idle.as_secs(), all[0].requests), (10, 0, Some(0)));
        assert_eq!((all[1].by, all[1].idle.as_secs()), (ConnectedBy::Session, 5));
        let one = hub.clients(1);
        assert_eq!(one[0].label, first.label(), "the one that spoke last");
        assert!(all.iter().all(|seen| !format!("{seen:?}").contains(first.id())), "an id is for its client alone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_session_is_shown_until_it_has_been_silent_for_long() {
        let hub = fakes::hub(&[], &Config::default());
        let abilities = std::sync::Arc::new(Abilities::read(&Object::new(), Revision::V2026_07_28));
        hub.acquaintances.met("codex", Revision::V2026_07_28, &abilities);
        tokio::time::advance(Duration::from_mins(1)).await;
        hub.acquaintances.met("codex", Revision::V2026_07_28, &abilities);
        let all = hub.clients(9);
        assert_eq!((all.len(), &*all[0].name, all[0].by), (1, "codex", ConnectedBy::Stateless));
        assert_eq!((all[0].age.as_secs(), all[0].idle.as_secs()), (60, 0));
        tokio::time::advance(STATELESS_SILENCE_MAX + Duration::from_secs(1)).await;
        assert!(hub.clients(9).is_empty());
    }
}
