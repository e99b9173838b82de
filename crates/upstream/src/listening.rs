//! What a modern server has to say unasked: one `subscriptions/listen` per server, kept open (mcp-protocol 3.8, 6.6).
//!
//! It asks for the changes of the lists that the server announces, and for updates of all resources that clients want.
//! Its filter cannot be edited: when clients want other resources, a second one is opened, and the first is ended a
//! moment after the second was acknowledged, so that nothing falls between them; what came on both is told once. One
//! that ended is opened again, with a growing wait, and since what was said meanwhile is lost, the lists are read again.
//!
//! Runs as a future of the supervisor, for as long as the connection, and spawns nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use trunkline_wire::{Json, Method, Object, code};

use crate::backoff::{self, Luck};
use crate::envelope;
use crate::flight::Flight;
use crate::handle::Shared;
use crate::limits::{HEALTHY_AFTER, LISTEN_GRACE, LISTEN_OVERLAP, LISTEN_QUIET, SUBSCRIPTIONS_MAX};
use crate::link::Link;
use crate::mailbox::{End, Mail};
use crate::offer::Kinds;

/// Numbers the sets of resources that clients want, so that whoever subscribes can wait until its wish stands.
#[derive(Debug)]
pub(crate) struct Wanted {
    wanted: watch::Sender<u64>,
    standing: watch::Sender<u64>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { wanted: watch::Sender::new(0), standing: watch::Sender::new(0) }
    }
}

impl Wanted {
    /// Clients want other resources. Returns the number of that set.
    pub(crate) fn changed(&self) -> u64 {
        self.wanted.send_modify(|number| *number += 1);
        *self.wanted.borrow()
    }

    /// Waits until a listen with this set, or a later one, stands; not for long, and not for ever in vain.
    pub(crate) async fn stands(&self, number: u64, limit: Duration) {
        let mut standing = self.standing.subscribe();
        let _ = timeout(limit, standing.wait_for(|standing| *standing >= number)).await;
    }
}

/// An acknowledged listen.
struct Standing {
    flight: Flight,
    uris: BTreeSet<String>,
    since: Instant,
}

/// Why there is no listen.
enum Refused {
    /// The server has none; asking again would not help.
    Never(String),
    /// It may have one later.
    Later(String),
}

type Opening = Option<BoxFuture<'static, (u64, Result<Standing, Refused>)>>;

/// Keeps a listen open on `link`. Returns when the server turns out to have none.
pub(crate) async fn listen(shared: Arc<Shared>, link: Arc<Link>) {
    let Some(lists) = announced(&link) else { return };
    let mut listener = Listener {
        wanted: shared.listen.wanted.subscribe(),
        shared,
        link,
        lists,
        current: None,
        leaving: None,
        opening: None,
        due: Some(Instant::now()),
        failures: 0,
    };
    while listener.step().await {}
}

/// The kinds of changes that the server announces, as members of a filter; `None` if it has nothing to say at all.
fn announced(link: &Link) -> Option<Object> {
    let declared = &link.handshake.capabilities;
    let says = |key: &str| {
        let changed = declared.get_object(key).and_then(|capability| capability.get("listChanged").cloned());
        changed.is_some_and(|changed| changed.as_bytes() == b"true")
    };
    let kinds =
        [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")];
    let filter: Object = kinds
        .into_iter()
        .filter(|(capability, _)| says(capability))
        .map(|(_, member)| (member, Json::literal("true")))
        .collect();
    (!filter.is_empty() || link.capabilities.subscribe).then_some(filter)
}

struct Listener {
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// The filter but for the resources.
    lists: Object,
    wanted: watch::Receiver<u64>,
    current: Option<Standing>,
    /// The one before, which is still read for a moment.
    leaving: Option<(Standing, Instant)>,
    opening: Opening,
    /// When the next one is opened.
    due: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Listener {
    /// Waits for the next thing to happen. Returns whether to go on.
    async fn step(&mut self) -> bool {
        let idle = self.opening.is_none();
        let leaves = self.leaving.as_ref().map(|(_, at)| *at);
        tokio::select! {
            biased;
            (number, opened) = finished(&mut self.opening) => return self.opened(number, opened),
            ended = ended(self.current.as_mut()) => self.ended(&ended),
            _ = ended(self.leaving.as_mut().map(|(standing, _)| standing)) => self.leave(),
            () = at(leaves) => self.leave(),
            _ = self.wanted.changed() => self.reconsider(),
            () = at(self.due), if idle => self.open(),
        }
        true
    }

    /// Clients want other resources, perhaps.
    fn reconsider(&mut self) {
        if self.opening.is_some() || self.due.is_some() {
            // The one to come takes them up, or is followed by another.
            return;
        }
        let number = *self.wanted.borrow_and_update();
        if self.current.as_ref().is_some_and(|current| current.uris == self.uris()) {
            self.shared.listen.standing.send_replace(number);
        } else {
            self.due = Some(Instant::now() + LISTEN_QUIET);
        }
    }

    fn uris(&self) -> BTreeSet<String> {
        if self.link.capabilities.subscribe { self.shared.wishes().subscriptions.clone() } else { BTreeSet::new() }
    }

    fn open(&mut self) {
        self.due = None;
        let number = *self.wanted.borrow_and_update();
        let uris = self.uris();
        if uris.is_empty() && self.lists.is_empty() {
            // Nobody wants to hear anything.
            self.current = None;
            self.shared.listen.standing.send_replace(number);
            return;
        }
        let mut filter = self.lists.clone();
        if !uris.is_empty() {
            filter.set("resourceSubscriptions", Json::encode(&uris));
        }
        let (link, limit) = (self.link.clone(), self.shared.server().tuning.list_timeout);
        self.opening = Some(Box::pin(async move {
            let opened = timeout(limit, open(&link, &filter)).await;
            let late = || Err(Refused::Later(format!("no acknowledgement within {} s", limit.as_secs())));
            (number, opened.unwrap_or_else(|_| late()).map(|flight| Standing { flight, uris, since: Instant::now() }))
        }));
    }

    fn opened(&mut self, number: u64, opened: Result<Standing, Refused>) -> bool {
        let server = &self.shared.name;
        match opened {
            Ok(standing) => {
                tracing::debug!(%server, resources = standing.uris.len(), "listening");
                // After a failure, and where the lists were read before it stood, changes may have been missed.
                let ready = matches!(self.shared.states.borrow().phase, crate::state::Phase::Ready { .. });
                if self.current.is_none() && ready {
                    self.link.refresh(Kinds::ALL);
                }
                if let Some(before) = self.current.replace(standing) {
                    let ids = self.current.as_ref().map(|current| (before.flight.id(), current.flight.id()));
                    self.link.overlap(ids);
                    self.leaving = Some((before, Instant::now() + LISTEN_OVERLAP));
                }
                self.shared.listen.standing.send_replace(number);
                self.reconsider();
            }
            Err(Refused::Never(why)) => {
                tracing::info!(%server, %why, "does not tell of changes, although it says that it does");
                return false;
            }
            Err(Refused::Later(why)) => {
                tracing::debug!(%server, %why, "not listening");
                self.back_off(Duration::ZERO);
            }
        }
        true
    }

    /// The listen ended. A server that says good-bye is about to restart, and is not asked at once.
    fn ended(&mut self, end: &End) {
        let lived = self.current.take().map(|current| current.since.elapsed()).unwrap_or_default();
        if lived >= HEALTHY_AFTER {
            self.failures = 0;
        }
        let least = match end {
            End::Answer(_) => LISTEN_GRACE,
            End::Lost(_) => Duration::ZERO,
        };
        tracing::debug!(server = %self.shared.name, ?end, "the listen ended");
        if self.opening.is_none() {
            self.back_off(least);
        }
    }

    fn back_off(&mut self, least: Duration) {
        let wait = backoff::quick(self.failures, Luck(fastrand::f64())).max(least);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(Instant::now() + wait);
    }

    fn leave(&mut self) {
        self.leaving = None;
        self.link.overlap(None);
    }
}

/// Opens a listen and waits for its acknowledgement.
async fn open(link: &Arc<Link>, filter: &Object) -> Result<Flight, Refused> {
    let later = |text: String| Refused::Later(text);
    let mut flight = Flight::register(link, &Method::SubscriptionsListen, None).map_err(|error| later(error.text))?;
    let mut params: Object = [("notifications", filter.to_json())].into_iter().collect();
    if let Some(revision) = link.modern() {
        envelope::stamp(&mut params, revision);
    }
    flight.send(params.to_json(), Vec::new()).await.map_err(|error| later(error.text))?;
    loop {
        match flight.next().await {
            Mail::Notice(notice) if notice.method == Method::SubscriptionsAcknowledged => return Ok(flight),
            Mail::Notice(_) | Mail::Question(_) | Mail::Withdrawn(_) => {}
            Mail::End(End::Answer(Ok(_))) => return Err(later("it was ended before it was acknowledged".to_owned())),
            Mail::End(End::Answer(Err(error))) => {
                let read = Object::parse(&error).unwrap_or_default();
                let number: i64 = read.get("code").and_then(|code| code.decode().ok()).unwrap_or_default();
                let text = format!("refused with error {number}");
                return Err(if number == code::METHOD_NOT_FOUND { Refused::Never(text) } else { later(text) });
            }
            Mail::End(End::Lost(broken)) => return Err(later(broken.text)),
        }
    }
}

/// Reads a listen to its end. What it has to say goes its own way, by the link.
async fn ended(standing: Option<&mut Standing>) -> End {
    let Some(standing) = standing else { return std::future::pending().await };
    loop {
        if let Mail::End(end) = standing.flight.next().await {
            return end;
        }
    }
}

async fn finished<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(work) => {
            let done = work.await;
            *slot = None;
            done
        }
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Two listens stand for a moment, and what is said on both is told once. Pure.
#[derive(Debug)]
pub(crate) struct Overlap {
    old: u64,
    new: u64,
    /// How much more often the old one told of a resource than the new one.
    ahead: HashMap<String, i64>,
}

impl Overlap {
    pub(crate) fn new(old: u64, new: u64) -> Self {
        Self { old, new, ahead: HashMap::new() }
    }

    /// Whether an update of `uri` that came on the listen `id` was not told yet.
    pub(crate) fn is_news(&mut self, id: u64, uri: &str) -> bool {
        let step = if id == self.old {
            1
        } else if id == self.new {
            -1
        } else {
            return true;
        };
        if !self.ahead.contains_key(uri) && self.ahead.len() >= SUBSCRIPTIONS_MAX {
            return true;
        }
        let ahead = self.ahead.entry(uri.to_owned()).or_default();
        let told = ahead.signum() == -step;
        *ahead += step;
        !told
    }
}

#[cfg(test)]
mod tests;
