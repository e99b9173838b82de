//! Interest in resources, counted per server, lane and URI (mcp-protocol 5.5, 6.6).
//!
//! The first subscriber makes the gateway subscribe at the server, the last one to leave makes it unsubscribe
//! after a grace, since clients that re-render their view leave and come back at once. What a session or a listen is
//! subscribed to is its own; here stands how many are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use trunkline_config::Sharing;
use trunkline_telemetry::spawn;
use trunkline_upstream::{CallerFacts, Upstream};
use trunkline_wire::{Era, Json, Method, Notification, Object, Request, ServerName};

use crate::client::Caller;
use crate::lanes::{self, Source};
use crate::limits::{UNSUBSCRIBE_GRACE, URI_BYTES_MAX};
use crate::refusal;
use crate::renewal;
use crate::replay::Outbox;
use crate::resources::Place;
use crate::session::Session;
use crate::{Hub, View};

/// Who is interested in what.
#[derive(Debug, Default)]
pub(crate) struct Interest(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts(HashMap<Source, HashMap<Box<str>, Count>>);

#[derive(Debug, Default)]
struct Count {
    sessions: usize,
    /// Whether the server said yes.
    confirmed: bool,
    /// Grows when interest comes back: an older grace is void then.
    turn: u64,
}

/// What a subscriber who comes finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The server has not said yes yet.
    First,
    /// The server is subscribed.
    Standing,
}

/// Carries out `resources/subscribe` or `resources/unsubscribe` of a session.
pub(crate) async fn request(
    hub: Arc<Hub>,
    session: Arc<Session>,
    request: Request,
    ask_on: Option<Arc<Outbox>>,
) -> Result<Json, Json> {
    let params = request.params().map_err(|error| refusal::invalid_params(error.to_string()))?;
    let uri = params.get_str("uri").ok_or_else(|| refusal::invalid_params("`uri` is missing"))?;
    if uri.len() > URI_BYTES_MAX {
        return Err(refusal::invalid_params(format!("`uri` is longer than {} KiB", URI_BYTES_MAX / 1024)));
    }
    let Place { upstream, uri: own, .. } =
        hub.resource(session.view(), &uri).ok_or_else(|| refusal::unknown_resource(&uri, Era::Legacy))?;
    let server = upstream.name();
    if request.method == Method::ResourcesUnsubscribe {
        if let Some(lane) = session.unsubscribe(server, &own) {
            leave(&hub, &Source { server: server.clone(), lane }, &own);
            hub.note_settings(&session);
        }
        return Ok(Json::literal("{}"));
    }
    let tenure = upstream.tenure();
    let caller = Caller::Legacy(Arc::clone(&session));
    let mut facts = caller.facts(false);
    if upstream.sharing() != Sharing::Shared {
        lanes::seat(&hub, &upstream, session.view(), &caller, ask_on.as_ref(), &mut facts).await;
    }
    if let Some(lane) = session.subscribed_on(server, &own) {
        facts.lane = lane;
    }
    let source = Source { server: server.clone(), lane: facts.lane.clone() };
    let joined = hub
        .interest()
        .join_if(&source, &own, || session.subscribe(&source, &own))
        .ok_or_else(|| refusal::invalid_params("this session has too many subscriptions already"))?;
    let outcome = enter(&hub, &upstream, &facts, &own, joined).await;
    if outcome.is_ok() {
        hub.note_settings(&session);
    } else if let Some(lane) = session.unsubscribe(server, &own) {
        refused(&hub, &Source { lane, ..source }, &own);
    }
    if upstream.tenure() != tenure {
        // It was not looked at, since it was not there yet.
        renewal::follow(&hub, &upstream);
    }
    outcome
}

/// Subscribes at the server for a subscriber who was counted, unless that was done. One who fails is still counted: see
/// [`refused`].
pub(crate) async fn enter(
    hub: &Hub,
    upstream: &Upstream,
    caller: &CallerFacts,
    uri: &str,
    joined: Joined,
) -> Result<Json, Json> {
    if joined == Joined::Standing {
        return Ok(Json::literal("{}"));
    }
    match upstream.subscribe(uri, caller).await {
        Ok(Ok(result)) => {
            let source = Source { server: upstream.name().clone(), lane: caller.lane.clone() };
            hub.interest().confirm(&source, uri);
            Ok(result)
        }
        Ok(Err(error)) => Err(error),
        Err(error) => hub.dress(&Method::ResourcesSubscribe, &error.fault()),
    }
}

/// One subscriber less, whom the server refused: there is nothing to unsubscribe from, and no grace.
pub(crate) fn refused(hub: &Hub, source: &Source, uri: &str) {
    if let Some(turn) = hub.interest().part(source, uri) {
        hub.interest().forget(source, uri, turn);
    }
}

/// One subscriber less. The last one starts the grace.
pub(crate) fn leave(hub: &Arc<Hub>, source: &Source, uri: &str) {
    if let Some(turn) = hub.interest().part(source, uri) {
        after_a_grace(hub, source, uri, turn);
    }
}

/// Unsubscribes at the server unless somebody comes before the grace is over.
pub(crate) fn after_a_grace(hub: &Arc<Hub>, source: &Source, uri: &str, turn: u64) {
    let (hub, source, uri) = (Arc::downgrade(hub), source.clone(), uri.to_owned());
    spawn("unsubscribe", async move {
        tokio::time::sleep(UNSUBSCRIBE_GRACE).await;
        let Some(hub) = hub.upgrade() else { return };
        if !hub.interest().forget(&source, &uri, turn) {
            return;
        }
        if let Some(upstream) = hub.fleet().get(source.server.as_str()) {
            // Whatever the server says, nobody waits for it.
            let _ = upstream.unsubscribe(&uri, &source.lane).await;
        }
    });
}

/// Tells the sessions and listens that subscribed on this lane to `uri`, or else to the closest resource above it.
pub(crate) fn updated(hub: &Hub, source: &Source, uri: &str, params: &Json) {
    let Some(subscribed) = hub.interest().closest(source, uri) else { return };
    let (views, server) = (hub.views(), &source.server);
    let is_shown = |view: &View| views.of(view).has(server) && views.of(view).may_ask(uri);
    hub.listens().updated(hub, is_shown, (source, &subscribed), params);
    hub.each_session(|session| {
        if session.subscribed_on(server, &subscribed).is_some_and(|lane| lane == source.lane)
            && is_shown(session.view())
        {
            let published = views.of(session.view()).resources.published(server, uri);
            if let Some(message) = update(params, uri, &published) {
                session.updated(&published, message);
            }
        }
    });
}

/// The notice of an update, under the URI that its client knows.
fn update(params: &Json, uri: &str, published: &str) -> Option<Bytes> {
    let params = if published == uri {
        params.clone()
    } else {
        let mut params = Object::parse(params).ok()?;
        params.set("uri", Json::from(published));
        params.to_json()
    };
    Some(Notification { method: Method::ResourcesUpdated, params: Some(params) }.encode())
}

impl Interest {
    /// Counts a subscriber.
    pub(crate) fn join(&self, source: &Source, uri: &str) -> Joined {
        self.lock().join(source, uri, true)
    }

    /// Counts a subscriber who notes by `note` what he wants: `None` if he cannot, else whether it is new to him. Whoever
    /// has it taken from him at the same moment leaves after he has come, not before.
    pub(crate) fn join_if(&self, source: &Source, uri: &str, note: impl FnOnce() -> Option<bool>) -> Option<Joined> {
        let mut counts = self.lock();
        note().map(|is_new| counts.join(source, uri, is_new))
    }

    /// The server said yes.
    pub(crate) fn confirm(&self, source: &Source, uri: &str) {
        if let Some(count) = self.lock().0.get_mut(source).and_then(|uris| uris.get_mut(uri)) {
            count.confirmed = true;
        }
    }

    /// Whether the server said yes, for all that is known.
    pub(crate) fn is_confirmed(&self, source: &Source, uri: &str) -> bool {
        self.lock().0.get(source).and_then(|uris| uris.get(uri)).is_some_and(|count| count.confirmed)
    }

    /// What a server said yes to may hold no longer. Says whether there is anything.
    pub(crate) fn doubt(&self, server: &ServerName) -> bool {
        let mut counts = self.lock();
        let mut any = false;
        for (_, uris) in counts.0.iter_mut().filter(|(source, _)| source.server == *server) {
            any |= !uris.is_empty();
            for count in uris.values_mut() {
                count.confirmed = false;
            }
        }
        any
    }

    /// Counts a subscriber elsewhere who says by `shifts` that he goes there. Returns the turn of the grace if he was the last
    /// one here.
    pub(crate) fn shift(&self, from: &Source, to: &Source, uri: &str, shifts: impl FnOnce() -> bool) -> Option<u64> {
        let mut counts = self.lock();
        if !shifts() {
            return None;
        }
        counts.join(to, uri, true);
        counts.part(from, uri)
    }

    /// Counts one subscriber less. Returns the turn of the grace if it was the last one.
    fn part(&self, source: &Source, uri: &str) -> Option<u64> {
        self.lock().part(source, uri)
    }

    /// Ends the interest. `false` if it came back since, or has ended.
    fn forget(&self, source: &Source, uri: &str, turn: u64) -> bool {
        let mut counts = self.lock();
        let Some(uris) = counts.0.get_mut(source) else { return false };
        if !uris.get(uri).is_some_and(|count| count.sessions == 0 && count.turn == turn) {
            return false;
        }
        uris.remove(uri);
        if uris.is_empty() {
            counts.0.remove(source);
        }
        true
    }

    /// The URI subscribed to that an update of `uri` is about: itself, or the longest one above it.
    pub(crate) fn closest(&self, source: &Source, uri: &str) -> Option<Box<str>> {
        let counts = self.lock();
        let uris = counts.0.get(source)?;
        let is_above = |parent: &str| {
            let rest = uri.strip_prefix(parent);
            rest.is_some_and(|rest| rest.is_empty() || parent.ends_with('/') || rest.starts_with(['/', '#', '?']))
        };
        uris.keys().filter(|parent| is_above(parent)).max_by_key(|parent| parent.len()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn join(&mut self, source: &Source, uri: &str, is_new: bool) -> Joined {
        let count = self.0.entry(source.clone()).or_default().entry(uri.into()).or_default();
        count.sessions += usize::from(is_new);
        count.turn += 1;
        if count.confirmed { Joined::Standing } else { Joined::First }
    }

    fn part(&mut self, source: &Source, uri: &str) -> Option<u64> {
        let count = self.0.get_mut(source)?.get_mut(uri)?;
        count.sessions = count.sessions.saturating_sub(1);
        (count.sessions == 0).then_some(count.turn)
    }
}

#[cfg(test)]
mod tests {
    use trunkline_upstream::LaneKey;

    use super::*;

    fn server() -> Source {
        Source { server: ServerName::new("files").expect("a name"), lane: LaneKey::Common }
    }

    #[test]
    fn the_server_is_asked_once_and_left_with_the_last_subscriber() {
        let (interest, server) = (Interest::default(), server());
        assert_eq!(interest.join(&server, "file:///a"), Joined::First);
        interest.confirm(&server, "file:///a");
        assert_eq!(interest.join(&server, "file:///a"), Joined::Standing);
        assert_eq!(interest.part(&server, "file:///a"), None);
        let turn = interest.part(&server, "file:///a").expect("the last one");
        assert!(interest.forget(&server, "file:///a", turn));
        assert!(!interest.forget(&server, "file:///a", turn));
    }

    #[test]
    fn interest_that_comes_back_voids_the_grace() {
        let (interest, server) = (Interest::default(), server());
        interest.join(&server, "file:///a");
        let turn = interest.part(&server, "file:///a").expect("the last one");
        interest.join(&server, "file:///a");
        interest.part(&server, "file:///a");
        assert!(!interest.forget(&server, "file:///a", turn));
    }

    #[test]
    fn an_update_is_for_the_closest_resource_at_or_above_it() {
        let (interest, server) = (Interest::default(), server());
        for uri in ["file:///a", "file:///a/b", "file:///ab"] {
            interest.join(&server, uri);
        }
        assert_eq!(interest.closest(&server, "file:///a/b/c").as_deref(), Some("file:///a/b"));
        assert_eq!(interest.closest(&server, "file:///a").as_deref(), Some("file:///a"));
        assert_eq!(interest.closest(&server, "file:///abc"), None);
    }
}
