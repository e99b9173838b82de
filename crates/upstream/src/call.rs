//! [`Call`]: a request's way to a server and back, within its deadline (architecture 6, steps 6 to 9).
//!
//! In this order: wait until the server is ready (at most 10 s, and not at all if it cannot be by then), take one
//! of its places, send, listen. What fails before the server can have acted is sent again as `retry.rs`
//! allows, within the same deadline. No task is spawned: whoever holds the call drives it, and dropping it at any
//! point gives back its place and tells the server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use trunkline_wire::{Abilities, Class, Json, Method, Notification, Object, Outcome, key};

use crate::backoff::{self, Luck};
use crate::deadline::Deadline;
use crate::environment::LogLevel;
use crate::error::{CallError, CallErrorKind};
use crate::flight::Flight;
use crate::handle::{Shared, mark};
use crate::limits::{READY_WAIT, RETRY_AFTER_MAX, TIMEOUTS_IN_A_ROW};
use crate::link::Link;
use crate::mailbox::{End, Mail};
use crate::questions::{Asked, Asker, CallerId};
use crate::retry;
use crate::state::Phase;
use crate::status::StateView;
use crate::transport::FaultPoint;

/// A request for a server.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub method: Method,
    /// Its `params`, with names and URIs that are the server's own and without a progress token.
    pub params: Object,
    /// Whether the caller wants progress.
    pub progress: bool,
    /// Who asks.
    pub caller: CallerFacts,
}

/// Who makes a request, as far as a server's side of the gateway must know.
#[derive(Debug, Clone, Default)]
pub struct CallerFacts {
    /// The client, for logs.
    pub client: Option<Arc<str>>,
    /// Tells it from other callers.
    pub id: CallerId,
    /// What it can be asked during this request.
    pub abilities: Arc<Abilities>,
    /// From which level on it wants log messages; told to a modern server with the request.
    pub log_level: Option<LogLevel>,
}

/// A request on its way. Dropping it tells the server, if that may be working on it.
pub struct Call {
    stage: Stage,
}

/// What comes back on a [`Call`].
#[derive(Debug)]
pub enum CallEvent {
    /// Progress, with the gateway's own token, or a log message of this call.
    Notice(Notification),
    /// The server asks something of whoever made the request, and the deadline stands still until it is answered.
    Asked(Asked),
    /// The server does not want the answer to this question any more.
    Withdrawn(Box<str>),
    /// The server's answer, `result` or `error`, as sent. The last event.
    Done(Result<Json, Json>),
    /// There will be no answer. The last event.
    Failed(CallError),
}

enum Stage {
    /// Sent, and waiting for what comes.
    Flying(Box<Errand>, Flight, Place),
    /// Being sent again. Kept here, so that dropping [`Call::next`] loses nothing.
    Resending(BoxFuture<'static, Resent>),
    /// Ended.
    Over,
}

/// What became of sending a request again.
type Resent = (Box<Errand>, Result<(Flight, Place), CallError>);

/// What a request needs from its first attempt to its last.
struct Errand {
    shared: Arc<Shared>,
    ask: Ask,
    class: Class,
    bill: Bill,
    begun: Instant,
    /// Runs from the first attempt to send.
    deadline: Option<Deadline>,
    /// Since when the server waits for answers, and for how many.
    waiting: Option<(Instant, usize)>,
    resends: u32,
    /// Nothing of the answer went to the caller yet.
    quiet: bool,
}

/// What failed in one attempt.
struct Failed {
    fault: FaultPoint,
    text: String,
    retry_after: Option<Duration>,
}

impl Call {
    /// Sends the request.
    pub(crate) async fn begin(shared: Arc<Shared>, ask: Ask) -> Result<Self, CallError> {
        let mut errand = Box::new(Errand::new(shared, ask));
        match errand.send().await {
            Ok((flight, place)) => Ok(Self { stage: Stage::Flying(errand, flight, place) }),
            Err(error) => Err(errand.fail(error)),
        }
    }

    /// Waits for the next event. Safe to drop and call again; not to be called after the last event.
    pub async fn next(&mut self) -> CallEvent {
        loop {
            let event = match &mut self.stage {
                Stage::Flying(errand, flight, _) => errand.listen(flight).await,
                Stage::Resending(sending) => {
                    let (errand, sent) = sending.await;
                    match sent {
                        Ok((flight, place)) => {
                            self.stage = Stage::Flying(errand, flight, place);
                            continue;
                        }
                        Err(error) => {
                            let mut errand = errand;
                            Ok(CallEvent::Failed(errand.fail(error)))
                        }
                    }
                }
                Stage::Over => std::future::pending().await,
            };
            match event {
                Ok(last @ (CallEvent::Done(_) | CallEvent::Failed(_))) => {
                    self.stage = Stage::Over;
                    return last;
                }
                Ok(event) => return event,
                Err(failed) => {
                    let Stage::Flying(errand, flight, place) = std::mem::replace(&mut self.stage, Stage::Over) else {
                        unreachable!("only a request that was sent fails here");
                    };
                    drop((flight, place));
                    self.stage = Stage::Resending(Box::pin(errand.again(failed)));
                }
            }
        }
    }
}

impl Call {
    /// Gives the server the answer to its question `key`: the result that the client gave, or its error. Says whether it
    /// was still waiting for one.
    pub fn answer(&mut self, key: &str, answer: Result<Json, Json>) -> bool {
        let Stage::Flying(errand, flight, _) = &mut self.stage else { return false };
        let wanted = flight.answer(key, answer);
        if wanted {
            errand.answered();
        }
        wanted
    }
}

impl Errand {
    fn new(shared: Arc<Shared>, ask: Ask) -> Self {
        let begun = Instant::now();
        let bill = Bill { shared: shared.clone(), method: ask.method.clone(), begun, outcome: "cancelled" };
        Self {
            class: ask.method.class(),
            shared,
            ask,
            bill,
            begun,
            deadline: None,
            waiting: None,
            resends: 0,
            quiet: true,
        }
    }

    /// Sends until it is sent, or may not be tried any more.
    async fn send(&mut self) -> Result<(Flight, Place), CallError> {
        loop {
            match self.attempt().await? {
                Ok(sent) => return Ok(sent),
                Err(failed) => self.before_again(failed).await?,
            }
        }
    }

    /// Goes on after an attempt that failed while the answer was awaited.
    async fn again(mut self: Box<Self>, failed: Failed) -> Resent {
        let sent = match self.before_again(failed).await {
            Ok(()) => self.send().await,
            Err(error) => Err(error),
        };
        (self, sent)
    }

    async fn attempt(&mut self) -> Result<Result<(Flight, Place), Failed>, CallError> {
        let (link, place) = loop {
            let link = self.ready().await?;
            let place = self.place().await?;
            // It may have died while this request stood in the queue.
            if !link.is_down() {
                break (link, place);
            }
        };
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert_with(|| Deadline::new(self.class, &self.shared.server.tuning, now));
        let failed = |error: crate::transport::SendError| Failed {
            fault: error.fault,
            text: error.text,
            retry_after: error.retry_after,
        };
        let mut flight = match Flight::register(&link, &self.ask.method, self.asker()) {
            Ok(flight) => flight,
            Err(error) => return Ok(Err(failed(error))),
        };
        let params = self.params(flight.id());
        match timeout_at(deadline.at(now), flight.send(params)).await {
            Ok(Ok(())) => Ok(Ok((flight, place))),
            Ok(Err(error)) => Ok(Err(failed(error))),
            Err(_elapsed) => Err(self.timed_out(deadline)),
        }
    }

    /// The request's `params`. Its progress token is its id: unique on the connection, and one table serves both.
    fn params(&mut self, id: u64) -> Json {
        if self.ask.progress {
            let mut meta = self.ask.params.get_object("_meta").unwrap_or_default();
            meta.set(key::PROGRESS_TOKEN, Json::from(id));
            self.ask.params.set("_meta", meta.to_json());
        }
        self.ask.params.to_json()
    }

    /// Who can be asked: these three kinds of request allow it (mcp-protocol 6.3).
    fn asker(&self) -> Option<Asker> {
        let CallerFacts { id, abilities, .. } = &self.ask.caller;
        let allowed = matches!(self.ask.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead);
        (allowed && *id != CallerId::default()).then(|| Asker { id: *id, abilities: abilities.clone() })
    }

    /// One question is answered, or taken back. With the last one the clock runs again.
    fn answered(&mut self) {
        let Some((since, count)) = self.waiting else { return };
        self.waiting = (count > 1).then_some((since, count - 1));
        if self.waiting.is_none()
            && let Some(deadline) = &mut self.deadline
        {
            deadline.forgive(since, Instant::now());
        }
    }

    /// Waits for what comes back. `Err`: the attempt failed, and the table decides.
    async fn listen(&mut self, flight: &mut Flight) -> Result<CallEvent, Failed> {
        loop {
            let deadline = self.deadline.expect("it was sent");
            let due = deadline.at(flight.heard().unwrap_or(self.begun));
            let next = match self.waiting {
                None => timeout_at(due, flight.next()).await,
                Some(_) => Ok(flight.next().await),
            };
            match next {
                Ok(Mail::Notice(notice)) => {
                    self.quiet = false;
                    return Ok(CallEvent::Notice(notice));
                }
                Ok(Mail::Question(question)) => {
                    self.quiet = false;
                    let (since, count) = self.waiting.unwrap_or((Instant::now(), 0));
                    self.waiting = Some((since, count + 1));
                    return Ok(CallEvent::Asked(Asked {
                        questions: vec![question],
                        state: None,
                        held: true,
                        raw: None,
                    }));
                }
                Ok(Mail::Withdrawn(key)) => {
                    self.answered();
                    return Ok(CallEvent::Withdrawn(key));
                }
                Ok(Mail::End(End::Answer(answer))) => {
                    self.shared.timeouts.store(0, Ordering::Relaxed);
                    self.bill.outcome = if answer.is_ok() { "ok" } else { "error" };
                    return Ok(CallEvent::Done(answer));
                }
                Ok(Mail::End(End::Lost(broken))) => {
                    return Err(Failed { fault: broken.fault, text: broken.text, retry_after: None });
                }
                // Something came on another stream meanwhile.
                Err(_elapsed) if deadline.at(flight.heard().unwrap_or(self.begun)) > Instant::now() => {}
                Err(_elapsed) => {
                    let error = self.timed_out(deadline);
                    return Ok(CallEvent::Failed(self.fail(error)));
                }
            }
        }
    }

    /// Waits until the server is ready, within the deadline.
    async fn ready(&mut self) -> Result<Arc<Link>, CallError> {
        let now = Instant::now();
        let most = now + READY_WAIT;
        self.shared.ready(self.deadline.map_or(most, |deadline| deadline.at(now).min(most))).await
    }

    /// Takes a place at the server: at once, or from a bounded queue in the order of asking.
    async fn place(&mut self) -> Result<Place, CallError> {
        let shared = &self.shared;
        let tuning = &shared.server.tuning;
        if let Ok(permit) = shared.places.clone().try_acquire_owned() {
            return Ok(Place::new(permit, shared));
        }
        let full = |why: String| {
            let text = format!("server `{}` has {} requests to work on and {why}", shared.name, tuning.in_flight_max);
            shared.error(CallErrorKind::Overloaded, Outcome::NotSent, text)
        };
        let Some(_queued) = Queued::enter(shared, tuning.queue_max) else {
            return Err(full(format!("{} more waiting; try again later", tuning.queue_max)));
        };
        match timeout_at(Instant::now() + tuning.queue_wait, shared.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place::new(permit, shared)),
            Ok(Err(_)) | Err(_) => {
                Err(full(format!("none was done within {} s; try again later", tuning.queue_wait.as_secs_f64())))
            }
        }
    }

    /// After a failed attempt: waits a little if it may be made again, or says what the caller is told.
    async fn before_again(&mut self, failed: Failed) -> Result<(), CallError> {
        if matches!(failed.fault, FaultPoint::NothingSent | FaultPoint::LostUnanswered) {
            self.shared.marks.raise(mark::DOUBT);
        }
        if !retry::resend(self.class, failed.fault, self.resends, self.quiet) {
            return Err(self.failed(failed));
        }
        let pause = match failed.retry_after {
            Some(wait) if wait > RETRY_AFTER_MAX => return Err(self.failed(failed)),
            Some(wait) => wait,
            // The new handshake is wait enough.
            None if failed.fault == FaultPoint::SessionGone => Duration::ZERO,
            None => backoff::resend(1 + self.resends, Luck(fastrand::f64())),
        };
        let end = self.deadline.map(|deadline| deadline.at(Instant::now()));
        if end.is_some_and(|end| Instant::now() + pause >= end) {
            return Err(self.failed(failed));
        }
        self.resends += 1;
        tracing::debug!(
            server = %self.shared.name, method = self.ask.method.label(), fault = ?failed.fault,
            client = self.ask.caller.client.as_deref(), "sent again"
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Closes the bill with an error, and hands the error on.
    fn fail(&mut self, error: CallError) -> CallError {
        self.bill.outcome = match error.kind {
            CallErrorKind::Unavailable => "unavailable",
            CallErrorKind::OutcomeUnknown => "unknown",
            CallErrorKind::Timeout => "timeout",
            CallErrorKind::Overloaded => "overloaded",
            CallErrorKind::ShuttingDown => "shutting_down",
            CallErrorKind::AuthRequired => "auth_required",
            CallErrorKind::Protocol => "protocol",
        };
        if error.kind == CallErrorKind::OutcomeUnknown {
            self.shared.environment.metrics.outcome_unknown(&self.shared.name);
        }
        error
    }

    fn timed_out(&self, deadline: Deadline) -> CallError {
        let shared = &self.shared;
        if shared.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW {
            shared.timeouts.store(0, Ordering::Relaxed);
            shared.marks.raise(mark::DOUBT);
        }
        let method = &self.ask.method;
        let text = match self.class {
            Class::Effect => format!(
                "server `{}` did not finish {method} within {}; it was told to stop, but may have acted: check before \
                 you call it again, or raise `tool_timeout_sec`",
                shared.name,
                deadline.describe(Instant::now()),
            ),
            Class::Handshake | Class::Probe | Class::List | Class::Read | Class::State => {
                format!("server `{}` did not answer {method} within {}", shared.name, deadline.describe(Instant::now()))
            }
        };
        CallError {
            retryable: self.class != Class::Effect,
            ..shared.error(CallErrorKind::Timeout, Outcome::Unknown, text)
        }
    }

    /// What the caller is told about an attempt that is not made again.
    fn failed(&self, failed: Failed) -> CallError {
        let Failed { fault, text, retry_after } = failed;
        let (name, method) = (&self.shared.name, &self.ask.method);
        let (kind, outcome, text) = match fault {
            FaultPoint::NothingSent => {
                let text = format!("server `{name}` could not be reached: {text}");
                (CallErrorKind::Unavailable, Outcome::NotSent, text)
            }
            FaultPoint::RefusedBeforeRun => {
                let text = format!("server `{name}` refused {method} for now: {text}");
                (CallErrorKind::Unavailable, Outcome::Refused, text)
            }
            FaultPoint::SessionGone => {
                let text = format!("server `{name}` lost its session twice during {method}: {text}");
                (CallErrorKind::Unavailable, Outcome::Refused, text)
            }
            FaultPoint::NeedsAuth => {
                let text = format!("server `{name}` refuses the credential: {text}; {}", self.shared.key_to_set());
                (CallErrorKind::AuthRequired, Outcome::Refused, text)
            }
            FaultPoint::Unreadable => {
                let text = format!("server `{name}` gave no usable answer to {method}: {text}");
                (CallErrorKind::Protocol, Outcome::Unknown, text)
            }
            FaultPoint::LostUnanswered | FaultPoint::ServerFailed | FaultPoint::BrokenMidway => {
                let advice = match self.class {
                    Class::Effect => "; it may have acted: check before you call it again",
                    Class::Handshake | Class::Probe | Class::List | Class::Read | Class::State => "",
                };
                let text = format!("server `{name}` was sent {method} and gave no result: {text}{advice}");
                (CallErrorKind::OutcomeUnknown, Outcome::Unknown, text)
            }
        };
        let error = self.shared.error(kind, outcome, text);
        let safe = self.class != Class::Effect && kind == CallErrorKind::OutcomeUnknown;
        CallError { retryable: error.retryable || safe, retry_after, ..error }
    }
}

impl Shared {
    /// Waits until the server is ready, not beyond `until`, and not at all where that is known to be in vain.
    ///
    /// A server that backs off is asked for one attempt at once. If that fails, the planned one is waited for
    /// only if it is near: a server that has been away for long costs its callers 2 s and not ten.
    pub(crate) async fn ready(&self, until: Instant) -> Result<Arc<Link>, CallError> {
        if let Some(link) = usable(&self.states.borrow()) {
            return Ok(link);
        }
        let waiting_since = Instant::now();
        let mut states = self.states.subscribe();
        let first_seen = states.borrow().since;
        loop {
            let view = states.borrow_and_update().clone();
            if let Some(link) = usable(&view) {
                self.metrics.ready_wait(waiting_since.elapsed().as_secs_f64());
                return Ok(link);
            }
            let may_demand = view.since == first_seen;
            if view.next_chance(may_demand, Instant::now()).is_none_or(|chance| chance > until) {
                return Err(self.away(&view));
            }
            if may_demand && view.demand_from.is_some() {
                self.marks.raise(mark::DEMAND);
            }
            if timeout_at(until, states.changed()).await.is_err() {
                return Err(self.away(&states.borrow()));
            }
        }
    }

    /// The server is not there, and will not be in time.
    fn away(&self, view: &StateView) -> CallError {
        let now = Instant::now();
        let text = view.sentence(&self.name, now);
        let text = text.unwrap_or_else(|| format!("server `{}` lost its connection", self.name));
        let kind = match view.phase {
            Phase::NeedsAuth { .. } => CallErrorKind::AuthRequired,
            Phase::Draining { .. } | Phase::Stopped => CallErrorKind::ShuttingDown,
            Phase::Disabled
            | Phase::Starting
            | Phase::Handshake
            | Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Backoff { .. }
            | Phase::Open { .. }
            | Phase::Misconfigured { .. } => CallErrorKind::Unavailable,
        };
        CallError {
            retry_after: view.next_attempt.map(|at| at.saturating_duration_since(now)),
            ..self.error(kind, Outcome::NotSent, text)
        }
    }
}

/// The connection, if calls may use it.
fn usable(view: &StateView) -> Option<Arc<Link>> {
    view.link.as_ref().filter(|link| matches!(view.phase, Phase::Ready { .. }) && !link.is_down()).cloned()
}

/// One of a server's places, given back on drop.
struct Place {
    _permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, shared: &Arc<Shared>) -> Self {
        shared.metrics.inflight(1);
        Self { _permit: permit, shared: shared.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.metrics.inflight(-1);
    }
}

/// A request in the queue for a place, out of it on drop.
struct Queued<'a>(&'a Shared);

impl<'a> Queued<'a> {
    fn enter(shared: &'a Shared, most: usize) -> Option<Self> {
        let fits = |waiting: usize| (waiting < most).then_some(waiting + 1);
        shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        shared.metrics.queue_depth(1);
        Some(Self(shared))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.queue_depth(-1);
    }
}

/// Counts a request once, when it is over in whatever way.
struct Bill {
    shared: Arc<Shared>,
    method: Method,
    begun: Instant,
    outcome: &'static str,
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.shared.metrics.request(&self.method, self.outcome, self.begun.elapsed().as_secs_f64());
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Flying(..) => "flying",
            Stage::Resending(_) => "resending",
            Stage::Over => "over",
        };
        out.debug_tuple("Call").field(&stage).finish()
    }
}

#[cfg(test)]
mod questions_tests;
#[cfg(test)]
mod tests;
