//! Subscriptions that are made again: of sessions that came back, and wherever the connections are gone that held them
//! (mcp-protocol 6.6, R-5).
//!
//! A connection that is lost is no matter of the hub: `upstream` tells the next one what the last was told. But lanes end
//! where their server is paused, switched off or shared in another way, and all is forgotten of a server that was taken out of
//! the configuration. Whoever subscribed there was told of it and will not ask again, since for its client nothing happened. So
//! each server has a [`Tenure`]; where that is another than before, its subscriptions move to the lanes that their owners have by
//! now, and are made again there. A server that is off is looked at when it is back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use trunkline_telemetry::spawn;
use trunkline_upstream::{CallerFacts, LaneKey, Renewed, Tenure, Upstream};
use trunkline_wire::ServerName;

use crate::client::Caller;
use crate::lanes::{self, Source};
use crate::listen::Listen;
use crate::{Hub, Session, logging, subscriptions};

/// The tenures of the servers at which subscriptions stand.
#[derive(Debug, Default)]
pub(crate) struct Tenures(Mutex<HashMap<ServerName, Tenure>>);

impl Tenures {
    /// Notes those of now. Returns the servers that have another than before.
    fn renew(&self, servers: &[Upstream]) -> Vec<Upstream> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| servers.iter().any(|upstream| upstream.name() == name));
        let is_other = |upstream: &&Upstream| {
            let now = upstream.tenure();
            // One that is off has nothing to say, and what it held may be there again when it is back.
            upstream.config().enabled && known.insert(upstream.name().clone(), now) != Some(now)
        };
        servers.iter().filter(is_other).cloned().collect()
    }
}

/// Has subscriptions follow their servers, until the hub ends.
pub(crate) async fn keep_current(hub: Weak<Hub>, mut changes: watch::Receiver<u64>) {
    loop {
        changes.mark_unchanged();
        let Some(hub) = hub.upgrade() else { return };
        let others = hub.tenures().renew(&hub.fleet().all());
        for upstream in &others {
            follow(&hub, upstream);
        }
        if !others.is_empty() {
            logging::apply(&hub);
        }
        drop(hub);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Moves the subscriptions at a server to the lanes that their owners have now, and makes them again.
pub(crate) fn follow(hub: &Arc<Hub>, upstream: &Upstream) {
    let server = upstream.name();
    if !hub.interest().doubt(server) {
        return;
    }
    let mut owners: Vec<Owner> = Vec::new();
    hub.each_session(|session| owners.push(Owner::Session(Arc::clone(session))));
    owners.extend(hub.listens().all().into_iter().map(Owner::Listen));
    let mut wanted = Vec::new();
    for owner in owners {
        let held = owner.held(server);
        if held.is_empty() {
            continue;
        }
        let facts = owner.facts(hub, upstream);
        for (uri, lane) in held {
            let source = |lane| Source { server: server.clone(), lane };
            let (from, to) = (source(lane), source(facts.lane.clone()));
            if from != to {
                let moved = hub.interest().shift(&from, &to, &uri, || owner.shift(&from, &to, &uri));
                if let Some(turn) = moved {
                    subscriptions::after_a_grace(hub, &from, &uri, turn);
                }
            }
            wanted.push(Wanted { owner: owner.clone(), upstream: upstream.clone(), uri, facts: facts.clone() });
        }
    }
    if !wanted.is_empty() {
        tracing::debug!(%server, count = wanted.len(), "its subscriptions are made again");
        spawn("resubscribe", resubscribe(Arc::clone(hub), wanted));
    }
}

/// Who subscribed to something.
#[derive(Clone)]
pub(crate) enum Owner {
    /// A session.
    Session(Arc<Session>),
    /// A listen.
    Listen(Arc<Listen>),
}

impl Owner {
    /// What it is subscribed to at a server, and on which lanes.
    fn held(&self, server: &ServerName) -> Vec<(Box<str>, LaneKey)> {
        match self {
            Self::Session(session) => session.subscribed_at(server),
            Self::Listen(listen) => listen.watched_at(server),
        }
    }

    fn on(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        match self {
            Self::Session(session) => session.subscribed_on(server, uri),
            Self::Listen(listen) => listen.watched_on(server, uri),
        }
    }

    pub(crate) fn facts(&self, hub: &Hub, upstream: &Upstream) -> CallerFacts {
        match self {
            Self::Session(session) => {
                let caller = Caller::Legacy(Arc::clone(session));
                let mut facts = caller.facts(false);
                lanes::sit(hub, upstream, session.view(), &caller, &mut facts);
                facts
            }
            Self::Listen(listen) => listen.facts(hub, upstream),
        }
    }

    /// Says whether it was subscribed there, and is here now.
    fn shift(&self, from: &Source, to: &Source, uri: &str) -> bool {
        match self {
            Self::Session(session) => session.shift(from, to, uri),
            Self::Listen(listen) => listen.shift(from, to, uri),
        }
    }

    /// Takes the subscription from it. Says on which lane there was one.
    fn drop(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        match self {
            Self::Session(session) => session.unsubscribe(server, uri),
            Self::Listen(listen) => listen.unwatch(server, uri),
        }
    }
}

/// A subscription that is to be made again.
pub(crate) struct Wanted {
    pub(crate) owner: Owner,
    pub(crate) upstream: Upstream,
    pub(crate) uri: Box<str>,
    pub(crate) facts: CallerFacts,
}

/// Tells servers of subscriptions that they do not know of, or not any more. One that a server refuses now is gone.
pub(crate) async fn resubscribe(hub: Arc<Hub>, wanted: Vec<Wanted>) {
    for Wanted { owner, upstream, uri, facts } in wanted {
        let server = upstream.name();
        let source = Source { server: server.clone(), lane: facts.lane.clone() };
        // It may have ended, or its client thought better of it, while others were waited for; or another made it.
        let is_wanted = || owner.on(server, &uri).is_some_and(|lane| lane == source.lane);
        if !is_wanted() || hub.interest().is_confirmed(&source, &uri) {
            continue;
        }
        let renewed = upstream.renew(&uri, &facts).await;
        if !is_wanted() {
            // On a lane of its own nobody else wants it, and one that is wanted for nothing would never end.
            if matches!(facts.lane, LaneKey::Session(_)) {
                let _ = upstream.unsubscribe(&uri, &facts.lane).await;
            }
            continue;
        }
        match renewed {
            Renewed::Stands => hub.interest().confirm(&source, &uri),
            Renewed::Later => {}
            Renewed::Refused => {
                if owner.drop(server, &uri).is_none() {
                    continue;
                }
                tracing::info!(%server, client = facts.client.as_deref(), "does not take a subscription again that it had taken");
                subscriptions::refused(&hub, &source, &uri);
                if let Owner::Session(session) = &owner {
                    hub.note_settings(session);
                }
            }
        }
    }
}
