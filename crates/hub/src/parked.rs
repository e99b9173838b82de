//! Calls that wait for a modern client to come back with answers (mcp-protocol 5.9).
//!
//! A legacy server holds its call open while it waits for an answer; a modern client has no open request meanwhile. So the
//! call is parked: a task drives it on, keeps its newest progress, notes questions taken back or added, and holds an
//! outcome that comes early. Who brings the nonce takes the call, once. After [`ANSWER_WAIT`] nobody will come: dropping the
//! call answers the server's questions as a person would who closed the form, and cancels it.
//!
//! What the token that names a parked call is worth is `seal.rs`'s business; here a nonce that is not known was used, or
//! came too late.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::oneshot;
use tokio::time::sleep;
use trunkline_telemetry::{Metrics, spawn};
use trunkline_upstream::{Call, CallEvent, Question};
use trunkline_wire::{Budget, Charge, Fault, FaultCode, Json, Method, Notification, Outcome, ServerName};

use crate::asking;
use crate::gates::Leave;
use crate::limits::{ANSWER_WAIT, PARKS_MAX, PARKS_OWN_MAX};
use crate::sessions::random_nonce;

/// The parked calls of a hub.
#[derive(Clone)]
pub(crate) struct Parks {
    tickets: Arc<DashMap<Box<str>, Ticket>>,
    budget: Budget,
    metrics: Metrics,
}

/// How a parked call is asked for.
#[derive(Debug)]
struct Ticket {
    server: ServerName,
    /// Whose it is, as in [`Caller::share`](crate::client::Caller::share).
    share: u64,
    take: oneshot::Sender<oneshot::Sender<Parked>>,
}

/// A call that waits, and what happened to it meanwhile.
#[derive(Debug)]
pub(crate) struct Parked {
    /// The call.
    pub call: Call,
    /// What the server still waits to be told.
    pub questions: Vec<Question>,
    /// Questions were asked in so many rounds.
    pub rounds: u32,
    /// The newest progress.
    pub progress: Option<Notification>,
    /// How the call ended already.
    pub ended: Option<Result<Result<Json, Json>, Fault>>,
    /// Leave for the call, until it has ended.
    pub leave: Leave,
    /// By whose share it waits.
    share: u64,
    charge: Option<Charge>,
}

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may.
    Some,
    /// Too many wait.
    None,
    /// So many wait of its own client, which is its share.
    NoneOfItsOwn { waiting: usize },
}

impl Parked {
    /// A call by the share of `share` that waits for the answers to `questions`.
    pub(crate) fn new(call: Call, questions: Vec<Question>, rounds: u32, leave: Leave, share: u64) -> Self {
        Self { call, questions, rounds, progress: None, ended: None, leave, share, charge: None }
    }

    /// Gives back what the early outcome took of the budget, and returns the outcome.
    pub(crate) fn take_ended(&mut self) -> Option<Result<Result<Json, Json>, Fault>> {
        self.charge = None;
        self.ended.take()
    }

    fn note(&mut self, event: CallEvent, server: &ServerName, budget: &Budget) {
        if matches!(event, CallEvent::Failed(_) | CallEvent::Done(_)) {
            self.leave = Leave::default();
        }
        match event {
            CallEvent::Notice(notice) if notice.method == Method::Progress => self.progress = Some(notice),
            // A log line has no stream to go on (mcp-protocol 5.9 rule 4).
            CallEvent::Notice(_) | CallEvent::Beat => {}
            CallEvent::Asked(asked) => {
                for question in asked.questions {
                    if asking::misleads(&question) {
                        self.call.answer(&question.key, asking::no_answer(&question.method));
                    } else {
                        self.questions.push(question);
                    }
                }
            }
            CallEvent::Withdrawn(key) => self.questions.retain(|question| question.key != key),
            CallEvent::Failed(error) => self.ended = Some(Err(error.fault())),
            CallEvent::Done(outcome) => {
                let (Ok(text) | Err(text)) = &outcome;
                self.ended = Some(match budget.charge(text.as_bytes().len()) {
                    Ok(charge) => {
                        self.charge = Some(charge);
                        Ok(outcome)
                    }
                    Err(full) => Err(no_room(server, &full.to_string())),
                });
            }
        }
    }
}

impl Parks {
    /// None yet.
    pub(crate) fn new(budget: Budget, metrics: Metrics) -> Self {
        Self { tickets: Arc::default(), budget, metrics }
    }

    /// Whether one more call of `server` may wait, which has so many places, for the client with this share.
    ///
    /// A call that waits keeps its place, and half of them stay for calls that work. Of the other half one client gets half,
    /// so that one who asks a person and never comes back does not keep others from asking.
    pub(crate) fn room(&self, server: &ServerName, places: usize, share: u64) -> Room {
        let all = places.div_ceil(2);
        let own = all.div_ceil(2).min(PARKS_OWN_MAX);
        let of_client = |ticket: &Ticket| ticket.share == share;
        let here = self.tickets.iter().filter(|ticket| ticket.server == *server && of_client(ticket)).count();
        let anywhere = self.tickets.iter().filter(|ticket| of_client(ticket)).count();
        if self.tickets.len() >= PARKS_MAX || self.count(server) >= all {
            Room::None
        } else if here >= own || anywhere >= PARKS_OWN_MAX {
            Room::NoneOfItsOwn { waiting: anywhere }
        } else {
            Room::Some
        }
    }

    /// How many calls of `server` wait.
    pub(crate) fn count(&self, server: &ServerName) -> usize {
        self.tickets.iter().filter(|ticket| ticket.server == *server).count()
    }

    /// Parks a call of `server`. Returns the nonce that it is taken back by.
    pub(crate) fn park(&self, server: &ServerName, parked: Parked) -> Box<str> {
        let nonce = random_nonce();
        let (take, taken) = oneshot::channel();
        let ticket = Ticket { server: server.clone(), share: parked.share, take };
        self.tickets.insert(nonce.clone(), ticket);
        self.metrics.parked_calls(server, self.count(server));
        spawn("parked call", keep(self.clone(), server.clone(), nonce.clone(), parked, taken));
        nonce
    }

    /// Takes a call back. `None` if the nonce was used, or its time is over.
    pub(crate) async fn take(&self, nonce: &str) -> Option<Parked> {
        let ticket = self.remove(nonce)?;
        let (give, given) = oneshot::channel();
        ticket.take.send(give).ok()?;
        given.await.ok()
    }

    fn remove(&self, nonce: &str) -> Option<Ticket> {
        let (_, ticket) = self.tickets.remove(nonce)?;
        self.metrics.parked_calls(&ticket.server, self.count(&ticket.server));
        Some(ticket)
    }
}

/// Drives a parked call until it is taken back, or nobody will come any more.
async fn keep(
    parks: Parks,
    server: ServerName,
    nonce: Box<str>,
    mut parked: Parked,
    mut taken: oneshot::Receiver<oneshot::Sender<Parked>>,
) {
    let expiry = sleep(ANSWER_WAIT);
    tokio::pin!(expiry);
    loop {
        tokio::select! {
            biased;
            give = &mut taken => {
                if let Ok(give) = give {
                    // Should the retry be gone again, the call ends here, and the server is told.
                    let _ = give.send(parked);
                }
                return;
            }
            () = &mut expiry => {
                parks.remove(&nonce);
                tracing::debug!(%server, "nobody came back with answers; the call is given up");
                return;
            }
            event = parked.call.next(), if parked.ended.is_none() => parked.note(event, &server, &parks.budget),
        }
    }
}

fn no_room(server: &ServerName, why: &str) -> Fault {
    Fault {
        code: FaultCode::OutcomeUnknown,
        server: Some(server.clone()),
        text: format!(
            "server `{server}` finished while nobody waited, and its answer could not be kept: {why}; check what was done \
             before you call it again"
        ),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    }
}
