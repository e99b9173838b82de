//! [`Link`]: one live connection to a server, from the handshake to its end.
//!
//! It mints ids, keeps the table of pending requests, and routes what arrives (`link/routing.rs`): answers and progress
//! to the mailbox of their request, changes of lists to the supervisor, notices without owner to the hub. A server's own
//! requests go to the call they provably belong to, and are answered here where there is none (mcp-protocol 6.3, S-10).
//! Whoever reads never waits: mailboxes and queues are bounded; notices drop, counted, and questions are refused.
//!
//! Two tasks: the reader of the shared stream, and the courier, which sends answers and cancellations that have
//! no caller to wait for them. Both end with the link. It decides nothing about reconnecting.

mod routing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use trunkline_config::Declared;
use trunkline_telemetry::{Metrics, ServerMetrics, spawn};
use trunkline_wire::{Budget, Era, Id, Json, Method, Notification, Object, Request, Revision, ServerName};

use crate::envelope;
use crate::environment::{Environment, ServerNotice};
use crate::flight::Flight;
use crate::handshake::Handshake;
use crate::lanes::LaneKey;
use crate::limits::{
    CLOSE_GRACE, COURIER_GRACE, COURIER_MAX, COURIER_TIMEOUT, COURIER_WIDTH, LEAVE_GRACE, ROOTS_ASKED_IN, ROOTS_SETTLE,
};
use crate::listening::Overlap;
use crate::mailbox::{End, Mail, Mailbox};
use crate::offer::{Capabilities, Kinds};
use crate::pending::Pending;
use crate::questions::Asker;
use crate::repeat;
use crate::retry;
use crate::signals::Signals;
use crate::transport::{Broken, Dialed, Facts, FaultPoint, MessageStream, Outgoing, SendError, Transport};

/// A connection with the handshake done. Shared by its tasks, the supervisor and the calls.
pub(crate) struct Link {
    server: ServerName,
    /// Whose it is, where the server has lanes.
    lane: LaneKey,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) handshake: Handshake,
    pub(crate) capabilities: Capabilities,
    /// What the server may ask.
    declared: Mutex<Declared>,
    /// It was told its roots.
    told_roots: watch::Sender<bool>,
    /// It was said once why questions cannot be put to anybody.
    advised: AtomicBool,
    /// Answers come on streams of their own, which may outlive the shared one.
    answers_apart: bool,
    next_id: AtomicU64,
    pending: Mutex<Pending>,
    overlap: Mutex<Option<Overlap>>,
    down: watch::Sender<Option<Arc<Broken>>>,
    outbox: mpsc::Sender<(Outgoing, TaskTrackerToken)>,
    /// What the courier has not delivered yet.
    letters: TaskTracker,
    /// Lists that the server said have changed, as bits of [`Kinds`].
    changes: Signals,
    opened: Instant,
    heard_ms: AtomicU64,
    tasks: CancellationToken,
    metrics: ServerMetrics,
    budget: Budget,
    notices: mpsc::Sender<ServerNotice>,
    all_metrics: Metrics,
}

impl Link {
    /// Takes charge of a fresh connection.
    pub(crate) fn open(
        server: &ServerName,
        lane: LaneKey,
        declared: Declared,
        dialed: Dialed,
        environment: &Environment,
    ) -> Arc<Self> {
        let Dialed { transport, shared, handshake, next_id } = dialed;
        let (outbox, letters) = mpsc::channel(COURIER_MAX);
        let link = Arc::new(Self {
            server: server.clone(),
            lane,
            answers_apart: transport.facts().kind == "http",
            capabilities: Capabilities::read(&handshake.capabilities, handshake.revision),
            declared: Mutex::new(declared),
            told_roots: watch::Sender::new(false),
            advised: AtomicBool::new(false),
            transport: transport.clone(),
            handshake,
            next_id: AtomicU64::new(next_id),
            pending: Mutex::default(),
            overlap: Mutex::default(),
            down: watch::Sender::new(None),
            outbox,
            letters: TaskTracker::new(),
            changes: Signals::default(),
            opened: Instant::now(),
            heard_ms: AtomicU64::new(0),
            tasks: CancellationToken::new(),
            metrics: environment.metrics.server(server),
            all_metrics: environment.metrics.clone(),
            budget: environment.budget.clone(),
            notices: environment.notices.clone(),
        });
        let reader = read(link.clone(), shared);
        let stop = link.tasks.clone();
        spawn("link reader", async move {
            stop.run_until_cancelled(reader).await;
        });
        let stop = link.tasks.clone();
        spawn("link courier", async move {
            stop.run_until_cancelled(deliver(transport, letters)).await;
        });
        link
    }

    /// The revision, if it is a modern one.
    pub(crate) fn modern(&self) -> Option<Revision> {
        Some(self.handshake.revision).filter(|revision| revision.era() == Era::Modern)
    }

    /// Whether requests repeat themselves in headers: over modern HTTP.
    pub(crate) fn mirrors(&self) -> bool {
        self.answers_apart && self.modern().is_some()
    }

    /// What `status` shows of the transport.
    pub(crate) fn facts(&self) -> Facts {
        self.transport.facts()
    }

    /// Whether the connection is lost.
    pub(crate) fn is_down(&self) -> bool {
        self.down.borrow().is_some()
    }

    /// Waits until the connection is lost and says why. Safe to drop and call again.
    pub(crate) async fn down(&self) -> Arc<Broken> {
        let mut down = self.down.subscribe();
        loop {
            if let Some(broken) = down.borrow_and_update().clone() {
                return broken;
            }
            // The sender lives as long as `self`.
            let _ = down.changed().await;
        }
    }

    /// Waits for lists to change. Safe to drop and call again; one caller at a time.
    pub(crate) async fn changed(&self) -> Kinds {
        Kinds::from_bits(self.changes.taken().await)
    }

    /// When the server last said anything.
    pub(crate) fn heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    /// Its client works in other directories from now on. A server that cares asks for them when it is told.
    pub(crate) fn declare(&self, declared: Declared) {
        *self.declared() = declared;
        // A modern one asks within a request, when it wants to know.
        if self.modern().is_none() {
            self.told_roots.send_replace(false);
            let notice = Notification { method: Method::RootsListChanged, params: None };
            self.post(Outgoing::new(notice.encode(), None, Method::RootsListChanged));
        }
    }

    /// What the server may ask.
    fn declared(&self) -> MutexGuard<'_, Declared> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a server that has roots to ask for works by them, as far as can be told: it asks right after the
    /// handshake, and a call that comes in between finds it without any. One that does not ask is not waited for long.
    pub(crate) async fn settled(&self) {
        if self.declared().roots.is_empty() || self.modern().is_some() {
            return;
        }
        let mut told = self.told_roots.subscribe();
        if tokio::time::timeout(ROOTS_ASKED_IN, told.wait_for(|told| *told)).await.is_ok() {
            tokio::time::sleep(ROOTS_SETTLE).await;
        }
    }

    /// Whether any request waits for an answer.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pending().is_empty()
    }

    /// Gives the connection up: later requests are refused, pending ones fail with what `broken` says.
    ///
    /// Where answers have streams of their own, a lost session or a refused credential leaves those that run
    /// alone: they end by themselves. Only the first reason counts, for them too: the shared stream, which ends when
    /// the connection is closed behind it, says nothing new.
    pub(crate) fn give_up(&self, broken: &Broken) {
        let spare = self.answers_apart && matches!(broken.fault, FaultPoint::SessionGone | FaultPoint::NeedsAuth);
        let first = self.down.send_if_modified(|down| {
            let first = down.is_none();
            if first {
                *down = Some(Arc::new(broken.clone()));
            }
            first
        });
        if !first {
            return;
        }
        // Its text may be a server's answer that repeats somebody's request, which no log may hold (S-31).
        tracing::debug!(server = %self.server, fault = ?broken.fault, "connection given up");
        let orphans = {
            let mut pending = self.pending();
            pending.close();
            if spare { Vec::new() } else { pending.take_all() }
        };
        // That the session is gone says of the one request that was refused that it did not run, and nothing of the others
        // on the same pipe: they were accepted, and may have run.
        let fault = if broken.fault == FaultPoint::SessionGone { FaultPoint::LostUnanswered } else { broken.fault };
        for mailbox in orphans {
            mailbox.lost(Broken { fault, request: None, ..broken.clone() });
        }
    }

    /// Gives the connection up and ends its tasks, without taking leave of the server.
    pub(crate) fn abandon(&self) {
        self.give_up(&Broken {
            fault: FaultPoint::LostUnanswered,
            text: "the connection was closed by the gateway".to_owned(),
            request: None,
        });
        self.tasks.cancel();
    }

    /// Abandons the connection and takes leave of the server, within `CLOSE_GRACE` in all.
    pub(crate) async fn close(&self) {
        if !self.is_down() {
            // A cancellation that was just posted is the last thing that a server should miss.
            self.letters.close();
            let _ = tokio::time::timeout(COURIER_GRACE, self.letters.wait()).await;
        }
        self.abandon();
        // The transport keeps its own time; this is the last resort against one that does not.
        let _ = tokio::time::timeout(CLOSE_GRACE, self.transport.close(LEAVE_GRACE)).await;
    }

    /// Asks something on the gateway's own behalf and waits at most `limit` for the answer.
    pub(crate) async fn request(
        self: &Arc<Self>,
        method: Method,
        params: &Object,
        limit: Duration,
    ) -> Result<Result<Json, Json>, Broken> {
        let mut params = params.clone();
        if let Some(revision) = self.modern() {
            envelope::stamp(&mut params, revision);
        }
        self.request_dressed(method, params.to_json(), Vec::new(), limit).await
    }

    /// The same with `params` and headers as the server's era wants them.
    pub(crate) async fn request_dressed(
        self: &Arc<Self>,
        method: Method,
        params: Json,
        headers: Vec<(HeaderName, HeaderValue)>,
        limit: Duration,
    ) -> Result<Result<Json, Json>, Broken> {
        let asked = async {
            let mut flight = Flight::register(self, &method, None).map_err(broken)?;
            flight.send(params, headers).await.map_err(broken)?;
            loop {
                match flight.next().await {
                    // Nobody is asked on the gateway's own behalf.
                    Mail::Notice(_) | Mail::Question(_) | Mail::Withdrawn(_) => {}
                    Mail::End(End::Answer(answer)) => return Ok(answer),
                    Mail::End(End::Lost(broken)) => return Err(broken),
                }
            }
        };
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(Broken {
                fault: FaultPoint::LostUnanswered,
                text: format!("no answer to {method} within {} s", limit.as_secs()),
                request: None,
            })
        })
    }

    /// Allots an id and a place in the table. `None` if the connection is lost.
    pub(crate) fn register(&self, asker: Option<Asker>) -> Option<(u64, Arc<Mailbox>)> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::of(asker));
        self.pending().insert(id, mailbox.clone()).then_some((id, mailbox))
    }

    /// Notes that a request stays open for as long as it can.
    pub(crate) fn stands(&self, id: u64) {
        self.pending().stands(id);
    }

    /// Two listens stand now, by these ids, or one again.
    pub(crate) fn overlap(&self, ids: Option<(u64, u64)>) {
        let overlap = ids.map(|(old, new)| Overlap::new(old, new));
        *self.overlap.lock().unwrap_or_else(PoisonError::into_inner) = overlap;
    }

    /// Frees the place of a request.
    pub(crate) fn forget(&self, id: u64) {
        self.pending().take(id);
    }

    /// Ends a request without an answer.
    pub(crate) fn lost(&self, id: u64, broken: Broken) {
        let mailbox = self.pending().take(id);
        if let Some(mailbox) = mailbox {
            mailbox.lost(broken);
        }
    }

    /// Tells the server that nobody waits for the answer to `id` any more (mcp-protocol 2.8).
    pub(crate) fn tell_cancelled(&self, id: u64) {
        let params: Object =
            [("requestId", Json::from(id)), ("reason", Json::from("the caller gave up"))].into_iter().collect();
        let notification = Notification { method: Method::Cancelled, params: Some(params.to_json()) };
        self.post(Outgoing::new(notification.encode(), None, Method::Cancelled));
    }

    /// Sends a request whose answer matters to nobody.
    pub(crate) fn tell(&self, method: Method, params: Json, headers: Vec<(HeaderName, HeaderValue)>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { id: Id::from(id), method: method.clone(), params: Some(params) };
        self.post(Outgoing { headers, ..Outgoing::new(request.encode(), Some(id), method) });
    }

    /// Hands a message to the courier.
    fn post(&self, out: Outgoing) {
        if self.outbox.try_send((out, self.letters.token())).is_err() && !self.is_down() {
            self.dropped("a message that the server does not take");
        }
    }

    /// A request of the gateway's own is sent again.
    pub(crate) fn sent_again(&self, fault: FaultPoint) {
        self.all_metrics.retry(&self.server, retry::label(fault));
    }

    fn dropped(&self, what: &'static str) {
        tracing::debug!(server = %self.server, "dropped {what}");
        self.metrics.notice_dropped();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(error: SendError) -> Broken {
    Broken { fault: error.fault, text: error.text, request: None }
}

/// Reads the shared stream to its end.
async fn read(link: Arc<Link>, mut shared: MessageStream) {
    let end = loop {
        match shared.next().await {
            Some(Ok(message)) => link.route(message, None),
            Some(Err(broken)) if broken.fault == FaultPoint::Unreadable => link.unreadable(broken),
            Some(Err(broken)) => break broken,
            None => {
                let text = "the server closed the connection".to_owned();
                break Broken { fault: FaultPoint::LostUnanswered, text, request: None };
            }
        }
    };
    link.give_up(&end);
}

/// Sends what has no caller to wait for it, a few at a time.
async fn deliver(transport: Arc<dyn Transport>, letters: mpsc::Receiver<(Outgoing, TaskTrackerToken)>) {
    let letters = stream::unfold(letters, |mut letters| async move { Some((letters.recv().await?, letters)) });
    let transport = &transport;
    letters
        .for_each_concurrent(COURIER_WIDTH, |(letter, underway)| async move {
            let _underway = underway;
            let method = letter.method.clone();
            match tokio::time::timeout(COURIER_TIMEOUT, repeat::deliver(&**transport, letter)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%method, fault = ?error.fault, "not delivered"),
                Err(_) => tracing::debug!(%method, "not delivered in time"),
            }
        })
        .await;
}

#[cfg(test)]
mod tests;
