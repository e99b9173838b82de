//! [`Call`]: a request's way to a server and back, within its deadline (architecture 6, steps 6 to 9).
//!
//! In this order: wait until the server is ready (at most 10 s, and not at all if it cannot be by then), take one
//! of its places, send, listen. What fails before the server can have acted is sent again as `retry.rs`
//! allows, within the same deadline. A modern server that needs input has answered, and is asked again with what the
//! person said; in between nothing runs (mcp-protocol 5.10). No task is spawned: whoever holds the call drives it, and dropping it at any
//! point gives back its place and tells the server.

mod again;
mod errand;
mod modern;
mod place;
mod ready;
mod span;
mod task;
mod words;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use trunkline_telemetry::Trace;
use trunkline_wire::{Abilities, Json, Method, Notification, Object};

use crate::environment::LogLevel;
use crate::error::CallError;
use crate::flight::Flight;
use crate::handle::Shared;
use crate::lanes::{Hold, LaneKey};
use crate::limits::TASK_BEAT;
use crate::questions::{self, Asked, CallerId, Question};
use crate::tasks::Task;

use errand::{Errand, Heard, Next, Sent};
use modern::Reply;
use place::{Asking, Place};

/// A request for a server.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub method: Method,
    /// Its `params`, with names and URIs that are the server's own and without a progress token.
    pub params: Object,
    /// Their `_meta`, read: what is in here goes out in the place of what stands there.
    pub meta: Object,
    /// Whether the caller wants progress.
    pub progress: bool,
    /// Who asks.
    pub caller: CallerFacts,
    /// The span that attempts stand below, where the request is traced.
    pub trace: Option<Trace>,
}

impl Ask {
    /// A request that wants no progress, of nobody in particular.
    pub fn new(method: Method, params: Object) -> Self {
        let meta = params.get_object("_meta").unwrap_or_default();
        Self { method, params, meta, progress: false, caller: CallerFacts::default(), trace: None }
    }
}

/// Who makes a request, as far as a server's side of the gateway must know.
#[derive(Debug, Clone, Default)]
pub struct CallerFacts {
    /// The client, for logs.
    pub client: Option<Arc<str>>,
    /// Tells it from other callers.
    pub id: CallerId,
    /// What it shares the server's places by: callers of one client have one share.
    pub share: u64,
    /// What it can be asked during this request.
    pub abilities: Arc<Abilities>,
    /// What it can be asked at all: told to the server of a lane that is its alone.
    pub declared: Arc<Abilities>,
    /// From which level on it wants log messages; told to a modern server with the request.
    pub log_level: Option<LogLevel>,
    /// Whose lane it uses, where a server has several.
    pub lane: LaneKey,
    /// Its own directories, `file://` URIs, for a lane that is its alone.
    pub roots: Arc<[String]>,
    /// Whether those reach it with this request alone: one that came on no request's stream is for it if there is no
    /// other that it could be for (mcp-protocol 5.7).
    pub logs_with_request: bool,
}

/// A request on its way. Dropping it tells the server, if that may be working on it.
pub struct Call {
    stage: Stage,
    /// When the next [`CallEvent::Beat`] is due; none before a task does the work.
    beat: Option<Instant>,
}

/// What comes back on a [`Call`].
#[derive(Debug)]
pub enum CallEvent {
    /// Progress, with the gateway's own token, or a log message of this call.
    Notice(Notification),
    /// A task still does the work, of which the caller sees nothing but this (mcp-protocol 5.14). Only for whoever wants
    /// progress.
    Beat,
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
    Sending(BoxFuture<'static, (Box<Errand>, Sent)>),
    /// A modern server waits for answers; nothing runs there.
    Asked(Box<Errand>, Round),
    /// Ended.
    Over,
}

/// A round of questions of a modern server.
struct Round {
    open: Vec<Question>,
    reply: Reply,
    since: Instant,
    /// The task that asks; else it is the request, which has ended.
    task: Option<Task>,
    #[expect(dead_code, reason = "held for its drop")]
    asking: Asking,
}

impl Call {
    /// Sends the request.
    pub(crate) async fn begin(shared: Arc<Shared>, hold: Option<Hold>, ask: Ask) -> Result<Self, CallError> {
        let mut errand = Box::new(Errand::new(shared, hold, ask));
        match errand.send().await {
            Ok(Next::Flying(flight, place)) => Ok(Self { stage: Stage::Flying(errand, flight, place), beat: None }),
            Ok(Next::Ended(_) | Next::Asks(..)) => unreachable!("only a task ends so"),
            Err(error) => Err(errand.fail(error)),
        }
    }

    /// Waits for the next event. Safe to drop and call again; not to be called after the last event.
    pub async fn next(&mut self) -> CallEvent {
        loop {
            let heard = match &mut self.stage {
                Stage::Flying(errand, flight, _) => {
                    let Some(heard) = before(&mut self.beat, errand.listen(flight)).await else {
                        return CallEvent::Beat;
                    };
                    heard
                }
                Stage::Sending(sending) => {
                    let Some((mut errand, sent)) = before(&mut self.beat, sending).await else {
                        return CallEvent::Beat;
                    };
                    match sent {
                        Ok(Next::Flying(flight, place)) => {
                            self.stage = Stage::Flying(errand, flight, place);
                            continue;
                        }
                        Ok(Next::Ended(answer)) => Heard::Event(errand.ended(answer)),
                        Ok(Next::Asks(questions, task)) => {
                            let asked = Asked { questions: questions.clone(), state: None, held: true, raw: None };
                            let reply = Reply { responses: Object::new(), state: None };
                            let since = Instant::now();
                            let asking = Asking::begin(&errand.shared);
                            let round = Round { open: questions, reply, since, task: Some(task), asking };
                            self.stage = Stage::Asked(errand, round);
                            return CallEvent::Asked(asked);
                        }
                        Err(error) => Heard::Event(CallEvent::Failed(errand.fail(error))),
                    }
                }
                Stage::Asked(..) | Stage::Over => std::future::pending().await,
            };
            if let Heard::Event(event) = heard {
                if matches!(event, CallEvent::Done(_) | CallEvent::Failed(_)) {
                    self.stage = Stage::Over;
                }
                return event;
            }
            let Stage::Flying(errand, flight, place) = std::mem::replace(&mut self.stage, Stage::Over) else {
                unreachable!("only a request that was sent is heard of");
            };
            let link = flight.link().clone();
            drop(flight);
            if let Heard::Task(task) = heard {
                if errand.ask.progress {
                    self.beat.get_or_insert_with(|| Instant::now() + TASK_BEAT);
                }
                self.stage = Stage::Sending(Box::pin(errand.follow(task, place)));
                continue;
            }
            drop(place);
            match heard {
                Heard::Event(_) | Heard::Task(_) => unreachable!("it was dealt with"),
                Heard::Failed(failed) => self.stage = Stage::Sending(Box::pin(errand.again(failed))),
                Heard::BadHeaders => self.stage = Stage::Sending(Box::pin(errand.with_fresh_headers(link))),
                Heard::Asked(asked) if asked.questions.is_empty() => {
                    let reply = Reply { responses: Object::new(), state: asked.state };
                    self.stage = Stage::Sending(Box::pin(errand.after_a_pause(reply)));
                }
                Heard::Asked(asked) => {
                    let reply = Reply { responses: Object::new(), state: asked.state.clone() };
                    let since = Instant::now();
                    let asking = Asking::begin(&errand.shared);
                    let round = Round { open: asked.questions.clone(), reply, since, task: None, asking };
                    self.stage = Stage::Asked(errand, round);
                    return CallEvent::Asked(asked);
                }
            }
        }
    }

    /// Whoever comes back for a call that waited owns it from now on: the server's further questions go by what this
    /// caller can be asked (mcp-protocol 5.9 rule 10).
    pub fn adopt(&mut self, caller: CallerFacts) {
        match &mut self.stage {
            Stage::Flying(errand, flight, _) => {
                errand.ask.caller = caller;
                flight.adopt(errand.asker());
            }
            Stage::Asked(errand, _) => errand.ask.caller = caller,
            Stage::Sending(_) | Stage::Over => {}
        }
    }

    /// Gives the server the answer to its question `key`: the result that the client gave, or its error. Says whether it
    /// was still waiting for one.
    ///
    /// A legacy server hears of it at once, a modern one when the last question of the round is answered. To a modern one
    /// no error can be given: its question counts as cancelled by the person.
    pub fn answer(&mut self, key: &str, answer: Result<Json, Json>) -> bool {
        match &mut self.stage {
            Stage::Flying(errand, flight, _) => {
                let wanted = flight.answer(key, answer);
                if wanted {
                    errand.answered();
                }
                return wanted;
            }
            Stage::Asked(_, round) => {
                let Some(at) = round.open.iter().position(|question| *question.key == *key) else { return false };
                let question = round.open.swap_remove(at);
                let given = answer.or_else(|_| questions::abandoned(&question.method));
                round.reply.responses.set(key, given.unwrap_or_else(|_| Json::literal("{}")));
                if !round.open.is_empty() {
                    return true;
                }
            }
            Stage::Sending(_) | Stage::Over => return false,
        }
        if let Stage::Asked(errand, round) = std::mem::replace(&mut self.stage, Stage::Over) {
            let Round { reply, since, task, .. } = round;
            self.stage = match task {
                Some(task) => Stage::Sending(Box::pin(errand.with_task_reply(task, reply, since))),
                None => Stage::Sending(Box::pin(errand.with_reply(reply, since))),
            };
        }
        true
    }
}

/// What `work` comes to, or `None` if a beat is due before that: then the next one is a while away. What comes together
/// with a beat makes it needless.
async fn before<T>(beat: &mut Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    let Some(due) = beat else { return Some(work.await) };
    let ended = timeout_at(*due, work).await.ok();
    if ended.is_none() {
        *due = Instant::now() + TASK_BEAT;
    }
    ended
}

impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Flying(..) => "flying",
            Stage::Sending(_) => "sending",
            Stage::Asked(..) => "asked",
            Stage::Over => "over",
        };
        out.debug_tuple("Call").field(&stage).finish()
    }
}

#[cfg(test)]
mod modern_tests;
#[cfg(test)]
mod questions_tests;
#[cfg(test)]
mod tests;
