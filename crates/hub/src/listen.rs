//! `subscriptions/listen`: what a modern client is told unasked (mcp-protocol 3.8, 6.6).
//!
//! A [`Listen`] is one open stream. Its first message says which of the wanted notices will come; a resource is among
//! them only if its server has subscriptions and took this one. Then come changes of lists, as they are announced, and
//! updates of resources under the URI that was subscribed to (mcp-protocol 5.5), each with the id of the listen request in
//! `_meta`. What a slow reader has not taken yet is kept as the newest of each kind, so that a listen never holds more
//! than its own filter. Interest in resources is counted together with that of legacy sessions.
//!
//! Changes of tasks are never among them, whoever asks: a client that follows tasks polls them (mcp-protocol 5.14).
//!
//! The stream has no end of its own. When it is dropped its interest ends; who serves it may end it in good order by
//! [`Reply::Listening::last`].

mod filter;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use trunkline_upstream::{CallerFacts, LaneKey, Upstream};
use trunkline_wire::{Charge, Fault, FaultCode, Json, Method, Notification, Object, Outcome, Request, ServerName, key};

use crate::catalog::List;
use crate::client::{Caller, ModernClient};
use crate::envelope::Envelope;
use crate::lanes::{self, Source};
use crate::limits::{LISTEN_ACK_WAIT, LISTEN_WIDTH, LISTENS_MAX, UPDATE_BYTES_MAX, URI_BYTES_MAX};
use crate::replay::Event;
use crate::resources::Place;
use crate::stamp::{self, Caching};
use crate::{Hub, Reply, View, refusal, renewal, subscriptions, tasks};
use filter::Filter;

/// All open listens.
#[derive(Debug, Default)]
pub(crate) struct Listens(Mutex<HashMap<u64, Arc<Listen>>>);

/// One open listen.
#[derive(Debug)]
pub(crate) struct Listen {
    /// The id of its request, which is that of the subscription.
    id: Json,
    /// Whose it is.
    client: Arc<ModernClient>,
    /// What its client sees.
    view: View,
    /// The lists whose changes it wants, as bits.
    lists: u8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The URIs of servers that it subscribed to, and each as the client wrote it.
    watched: HashMap<(Source, Box<str>), Box<str>>,
    /// What waits to be read.
    changed: u8,
    updated: VecDeque<Update>,
    waker: Option<Waker>,
}

/// The newest update of one URI. Without `params` the URI alone is told.
#[derive(Debug)]
struct Update {
    uri: Box<str>,
    params: Option<(Json, Charge)>,
}

/// Opens a listen. Fails with what is wrong with the request.
pub(crate) fn open(hub: &Arc<Hub>, envelope: &Envelope, request: &Request) -> Result<Reply, Json> {
    let params = request.params().map_err(|error| refusal::invalid_params(error.to_string()))?;
    let filter = Filter::read(&params)?;
    if filter.tasks && !envelope.abilities.tasks() {
        return Ok(tasks::undeclared(request, "a filter with `taskIds`"));
    }
    let listen = Arc::new(Listen {
        id: request.id.json().clone(),
        client: Arc::new(ModernClient::listening(envelope, hub.next_caller())),
        view: envelope.view.clone(),
        lists: filter.lists,
        state: Mutex::default(),
    });
    let number = hub.next_caller().0;
    let Some(count) = hub.listens().add(number, &listen) else { return Err(too_many().to_error().to_json()) };
    hub.metrics().listens(count);
    let acknowledging = Arc::clone(&listen).acknowledge(Arc::clone(hub), filter).boxed();
    let open = Open { hub: Arc::downgrade(hub), number, listen };
    let last = stamp::stamp(&request.id, &open.listen.stamped(Object::new()), Caching::Never).unwrap_or_default();
    Ok(Reply::Listening { events: Events { acknowledging: Some(acknowledging), open }.boxed(), last, number })
}

/// A limit of the gateway (mcp-protocol 6.12).
fn too_many() -> Fault {
    Fault {
        code: FaultCode::Overloaded,
        server: None,
        text: format!("{LISTENS_MAX} listens are open already; close one that nobody reads"),
        outcome: Outcome::NotSent,
        retryable: true,
        retry_after_ms: None,
    }
}

impl Listens {
    /// Adds one. Returns how many there are then, or `None` if there are too many.
    fn add(&self, number: u64, listen: &Arc<Listen>) -> Option<usize> {
        let mut all = self.lock();
        if all.len() >= LISTENS_MAX {
            return None;
        }
        all.insert(number, Arc::clone(listen));
        Some(all.len())
    }

    /// Announces to each the lists that changed for its view.
    pub(crate) fn announce(&self, mut changed: impl FnMut(&View) -> Vec<List>) {
        for listen in self.lock().values() {
            let bits = changed(&listen.view).iter().fold(0, |bits, list| bits | list.bit());
            if bits != 0 {
                listen.tell(|state| state.changed |= bits & listen.lists);
            }
        }
    }

    /// Tells of an update, which the server gave as `params`, whoever watches `uri` of `server` and may see it.
    pub(crate) fn updated(
        &self,
        hub: &Hub,
        is_shown: impl Fn(&View) -> bool,
        (source, uri): (&Source, &str),
        params: &Json,
    ) {
        let key = (source.clone(), Box::from(uri));
        for listen in self.lock().values().filter(|listen| is_shown(&listen.view)) {
            listen.tell(|state| state.update(&key, || hub.keep(params)));
        }
    }

    /// Those that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Listen>> {
        self.lock().values().cloned().collect()
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Listen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Takes what an update said into keeping, if it is small and there is room.
    fn keep(&self, params: &Json) -> Option<(Json, Charge)> {
        let bytes = params.as_bytes().len();
        let charge = (bytes <= UPDATE_BYTES_MAX).then(|| self.budget().charge(bytes).ok()).flatten()?;
        Some((params.clone(), charge))
    }
}

impl State {
    fn update(&mut self, key: &(Source, Box<str>), keep: impl FnOnce() -> Option<(Json, Charge)>) {
        let Some(uri) = self.watched.get(key) else { return };
        self.updated.retain(|waiting| waiting.uri != *uri);
        self.updated.push_back(Update { uri: uri.clone(), params: keep() });
    }
}

impl Listen {
    /// Changes what waits, and wakes the reader if something does.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            let waits = state.changed != 0 || !state.updated.is_empty();
            if waits { state.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Makes the subscriptions, and returns the first message: which of the wanted notices will come.
    async fn acknowledge(self: Arc<Self>, hub: Arc<Hub>, filter: Filter) -> Bytes {
        let until = Instant::now() + LISTEN_ACK_WAIT;
        let taken: Vec<String> = stream::iter(filter.uris)
            .map(|uri| {
                let (hub, this) = (Arc::clone(&hub), Arc::clone(&self));
                async move { this.watch(&hub, &uri, until).await.then_some(uri) }
            })
            .buffered(LISTEN_WIDTH)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let mut honoured = Object::new();
        for (name, list) in filter::LISTS {
            if self.lists & list.bit() != 0 {
                honoured.set(name, Json::literal("true"));
            }
        }
        if !taken.is_empty() {
            honoured.set(filter::RESOURCES, Json::encode(&taken));
        }
        let params = [("notifications", honoured.to_json())].into_iter().collect();
        self.notice(Method::SubscriptionsAcknowledged, params)
    }

    /// Who it is, as a server with lanes must know.
    pub(crate) fn facts(&self, hub: &Hub, upstream: &Upstream) -> CallerFacts {
        let caller = Caller::Modern(Arc::clone(&self.client));
        let mut facts = caller.facts(false);
        lanes::sit(hub, upstream, &self.view, &caller, &mut facts);
        facts
    }

    /// What it watches at a server, and on which lanes.
    pub(crate) fn watched_at(&self, server: &ServerName) -> Vec<(Box<str>, LaneKey)> {
        let state = self.lock();
        let here = state.watched.keys().filter(|(source, _)| source.server == *server);
        here.map(|(source, uri)| (uri.clone(), source.lane.clone())).collect()
    }

    /// On which lane it watches this.
    pub(crate) fn watched_on(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        let state = self.lock();
        let mut here = state.watched.keys().filter(|(source, own)| source.server == *server && **own == *uri);
        here.next().map(|(source, _)| source.lane.clone())
    }

    /// It watches this on another lane from now on. Says whether it did on that one.
    pub(crate) fn shift(&self, from: &Source, to: &Source, uri: &str) -> bool {
        let mut state = self.lock();
        let own = state.watched.remove(&(from.clone(), uri.into()));
        own.map(|own| state.watched.insert((to.clone(), uri.into()), own)).is_some()
    }

    /// Watches this no longer. Says on which lane it did.
    pub(crate) fn unwatch(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        let lane = self.watched_on(server, uri)?;
        let source = Source { server: server.clone(), lane };
        let was = self.lock().watched.remove(&(source.clone(), uri.into()));
        was.map(|_| source.lane)
    }

    /// Subscribes to one resource. Says whether its server took that in time.
    async fn watch(&self, hub: &Arc<Hub>, uri: &str, until: Instant) -> bool {
        let place = if uri.len() <= URI_BYTES_MAX { hub.resource(&self.view, uri) } else { None };
        let Some(Place { upstream, uri: own, .. }) = place else { return false };
        if !upstream.offer().capabilities.subscribe {
            return false;
        }
        let (tenure, facts) = (upstream.tenure(), self.facts(hub, &upstream));
        let source = Source { server: upstream.name().clone(), lane: facts.lane.clone() };
        let key = (source.clone(), own.clone());
        // Two URIs of the client may be one of the server's.
        if self.lock().watched.insert(key, uri.into()).is_some() {
            return true;
        }
        let joined = hub.interest().join(&source, &own);
        let asked = timeout_at(until, subscriptions::enter(hub, &upstream, &facts, &own, joined)).await;
        if matches!(asked, Ok(Ok(_))) {
            if upstream.tenure() != tenure {
                renewal::follow(hub, &upstream);
            }
            return true;
        }
        let Some(lane) = self.unwatch(upstream.name(), &own) else { return false };
        let source = Source { lane, ..source };
        match asked {
            Ok(_) => subscriptions::refused(hub, &source, &own),
            // It may take it yet: then it is to be left in good order.
            Err(_) => subscriptions::leave(hub, &source, &own),
        }
        false
    }

    /// The next message that waits.
    fn next(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if let Some(list) = List::NOTICES.into_iter().find(|list| state.changed & list.bit() != 0) {
            state.changed &= !list.bit();
            drop(state);
            return Some(self.notice(list.notice(), Object::new()));
        }
        let Update { uri, params } = state.updated.pop_front()?;
        drop(state);
        let mut params = params.and_then(|(params, _)| Object::parse(&params).ok()).unwrap_or_default();
        // Not the URI beneath it that the server may have named: some clients end a subscription at what is not
        // literally in its filter (mcp-protocol 5.5).
        params.set("uri", Json::from(&*uri));
        Some(self.notice(Method::ResourcesUpdated, params))
    }

    fn notice(&self, method: Method, params: Object) -> Bytes {
        Notification { method, params: Some(self.stamped(params)) }.encode()
    }

    /// Names the subscription in `_meta`, as everything on its stream does.
    fn stamped(&self, mut members: Object) -> Json {
        let mut meta = members.get_object("_meta").unwrap_or_default();
        meta.set(key::SUBSCRIPTION_ID, self.id.clone());
        members.set("_meta", meta.to_json());
        members.to_json()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listen that somebody reads. Dropping it ends it.
struct Open {
    hub: Weak<Hub>,
    number: u64,
    listen: Arc<Listen>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let count = {
            let mut all = hub.listens().lock();
            all.remove(&self.number);
            all.len()
        };
        hub.metrics().listens(count);
        let watched = std::mem::take(&mut self.listen.lock().watched);
        for (source, uri) in watched.into_keys() {
            subscriptions::leave(&hub, &source, &uri);
        }
    }
}

/// The stream of a listen: the acknowledgement, then notices.
struct Events {
    acknowledging: Option<BoxFuture<'static, Bytes>>,
    open: Open,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = |data: Bytes| Poll::Ready(Some(Event { id: None, data: data.into(), retry_ms: None }));
        if let Some(acknowledging) = &mut self.acknowledging {
            let Poll::Ready(first) = acknowledging.as_mut().poll(context) else { return Poll::Pending };
            self.acknowledging = None;
            return event(first);
        }
        let listen = &self.open.listen;
        // The waker stands before the look, so that nothing told in between is missed.
        listen.lock().waker = Some(context.waker().clone());
        listen.next().map_or(Poll::Pending, event)
    }
}

#[cfg(test)]
mod tests;
