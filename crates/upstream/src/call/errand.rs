//! [`Errand`]: one request from its first attempt to its last. What follows a failed attempt stands in `again.rs`, what
//! follows an answer that is a task in `task.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_telemetry::Span;
use trunkline_wire::{Class, Json, Method, Object, code, key};

use super::modern::{self, Meaning, Reply};
use super::place::{Bill, Place};
use super::{Ask, CallEvent, CallerFacts};
use crate::breaker::Sign;
use crate::deadline::Deadline;
use crate::error::CallError;
use crate::flight::Flight;
use crate::handle::Shared;
use crate::lanes::Hold;
use crate::limits::{HEADERS_WAIT, READY_WAIT, ROUNDS_MAX, STATE_PAUSE};
use crate::link::Link;
use crate::mailbox::{End, Mail};
use crate::offer::Kinds;
use crate::questions::{Asked, Asker, CallerId, Question};
use crate::tasks::{self, Task};
use crate::transport::{Broken, FaultPoint};

/// What a request needs from its first attempt to its last.
pub(super) struct Errand {
    pub(super) shared: Arc<Shared>,
    #[expect(dead_code, reason = "held for its drop")]
    hold: Option<Hold>,
    pub(super) ask: Ask,
    class: Class,
    pub(super) bill: Bill,
    begun: Instant,
    /// Runs from the first attempt to send.
    pub(super) deadline: Option<Deadline>,
    /// Since when the server waits for answers, and for how many.
    waiting: Option<(Instant, usize)>,
    pub(super) resends: u32,
    /// Those of them after which it may have run twice.
    pub(super) replays: u32,
    /// What failed in the first attempt that may have run.
    pub(super) lost: Option<Failed>,
    /// The size of its `params` as they were sent last.
    pub(super) bytes: usize,
    /// Nothing of the answer went to the caller yet.
    pub(super) quiet: bool,
    /// What the person said to the last round of a modern server's questions.
    pub(super) reply: Option<Reply>,
    /// Rounds of questions so far.
    pub(super) rounds: u32,
    /// What a modern server held against the request was put right once already.
    repaired: bool,
    /// It went out as a call of a tool that has to be a task.
    as_task: bool,
    /// The task whose result is being fetched.
    pub(super) task: Option<Task>,
    /// That of the attempt under way.
    pub(super) span: Option<Box<Span>>,
}

/// What failed in one attempt.
pub(super) struct Failed {
    pub(super) fault: FaultPoint,
    pub(super) text: String,
    pub(super) retry_after: Option<Duration>,
}

/// What came of sending it, or of waiting for what it left behind at the server.
pub(super) type Sent = Result<Next, CallError>;

/// How it goes on.
pub(super) enum Next {
    /// It was sent.
    Flying(Flight, Place),
    /// A task brought the answer.
    Ended(Result<Json, Json>),
    /// A task waits for answers.
    Asks(Vec<Question>, Task),
}

/// What came back.
pub(super) enum Heard {
    /// To be told to the caller.
    Event(CallEvent),
    /// The attempt failed, and the table decides.
    Failed(Failed),
    /// A modern server needs answers, or time, before it can go on. The request has ended.
    Asked(Asked),
    /// A task does the work.
    Task(Task),
    /// A modern server holds against the request that its headers are not those of the tool's schema.
    BadHeaders,
}

impl Errand {
    pub(super) fn new(shared: Arc<Shared>, hold: Option<Hold>, ask: Ask) -> Self {
        Self {
            class: ask.method.class(),
            bill: Bill::open(&shared, &ask.method),
            shared,
            hold,
            ask,
            begun: Instant::now(),
            deadline: None,
            waiting: None,
            resends: 0,
            replays: 0,
            lost: None,
            bytes: 0,
            quiet: true,
            reply: None,
            rounds: 0,
            repaired: false,
            as_task: false,
            task: None,
            span: None,
        }
    }

    /// Sends until it is sent, or may not be tried any more.
    pub(super) async fn send(&mut self) -> Sent {
        loop {
            match self.attempt().await? {
                Ok((flight, place)) => return Ok(Next::Flying(flight, place)),
                Err(failed) => self.before_again(failed).await?,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Result<(Flight, Place), Failed>, CallError> {
        let (link, place) = loop {
            let link = self.ready().await?;
            let place = Place::take(&self.shared, self.ask.caller.share).await?;
            // It may have died, or been left for another, while this request stood in the queue.
            if !link.is_down() && self.shared.carries(&link) {
                break (link, place);
            }
        };
        let now = Instant::now();
        let deadline =
            *self.deadline.get_or_insert_with(|| Deadline::new(self.class, &self.shared.server().tuning, now));
        let failed = |error: crate::transport::SendError| Failed {
            fault: error.fault,
            text: error.text,
            retry_after: error.retry_after,
        };
        let mut flight = match Flight::register(&link, &self.ask.method, self.asker()) {
            Ok(flight) => flight,
            Err(error) => return Ok(Err(failed(error))),
        };
        self.begin_span(&link);
        let (params, headers) = self.params(&link, flight.id());
        self.bytes = params.as_bytes().len();
        match timeout_at(deadline.at(now), flight.send(params, headers)).await {
            Ok(Ok(())) => Ok(Ok((flight, place))),
            Ok(Err(error)) => {
                self.note(error.fault, &link);
                self.end_span(error.fault);
                Ok(Err(failed(error)))
            }
            Err(_elapsed) => {
                self.end_span_with(Some("timeout".into()));
                Err(self.timed_out(deadline, &link))
            }
        }
    }

    /// The request's `params`, and what a modern server wants repeated in headers. The progress token is the request's
    /// id: unique on the connection, and one table serves both.
    fn params(&mut self, link: &Link, id: u64) -> (Json, Vec<(HeaderName, HeaderValue)>) {
        let Some(revision) = link.modern() else {
            let Ask { params, meta, progress, .. } = &mut self.ask;
            let token = Json::from(id);
            if *progress {
                params.set("_meta", meta.to_json_with(&[(key::PROGRESS_TOKEN, &token)]));
            } else if !meta.is_empty() {
                params.set("_meta", meta.to_json());
            }
            self.as_task = self.demands_task(link);
            if self.as_task {
                self.ask.params.set("task", Json::literal("{}"));
            }
            return (self.ask.params.to_json(), Vec::new());
        };
        let level = self.ask.caller.log_level.filter(|_| link.capabilities.logging);
        let capabilities = self.capabilities(link);
        let params = modern::dress(&mut self.ask, revision, &capabilities, level, id, self.reply.as_ref());
        let headers = if link.mirrors() {
            modern::mirrored(&self.ask.method, &self.ask.params, &self.shared.offers.borrow())
        } else {
            Vec::new()
        };
        (params, headers)
    }

    /// What a modern server is told that the caller can be asked, and that a task is fine.
    pub(super) fn capabilities(&self, link: &Link) -> Json {
        let declared = self.ask.caller.abilities.declaration();
        if self.ask.method == Method::ToolsCall { tasks::declare(link, declared) } else { declared.clone() }
    }

    fn demands_task(&self, link: &Link) -> bool {
        let offer = self.shared.offers.borrow();
        // Nearly no server has such a tool, and the name is only looked at for one that has.
        self.ask.method == Method::ToolsCall
            && !offer.as_tasks.is_empty()
            && self.ask.params.get_str("name").is_some_and(|tool| tasks::demanded(link, &offer, &tool))
    }

    /// Who can be asked: these three kinds of request allow it (mcp-protocol 6.3).
    pub(super) fn asker(&self) -> Option<Asker> {
        let CallerFacts { id, abilities, log_level, logs_with_request, .. } = &self.ask.caller;
        let allowed = matches!(self.ask.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead);
        (allowed && *id != CallerId::default()).then(|| Asker {
            id: *id,
            abilities: abilities.clone(),
            logs: *logs_with_request && log_level.is_some(),
        })
    }

    /// One question is answered, or taken back. With the last one the clock runs again.
    pub(super) fn answered(&mut self) {
        let Some((since, count)) = self.waiting else { return };
        self.waiting = (count > 1).then_some((since, count - 1));
        if self.waiting.is_none()
            && let Some(deadline) = &mut self.deadline
        {
            deadline.forgive(since, Instant::now());
        }
    }

    /// Waits for what comes back.
    pub(super) async fn listen(&mut self, flight: &mut Flight) -> Heard {
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
                    return Heard::Event(CallEvent::Notice(notice));
                }
                Ok(Mail::Question(question)) => {
                    self.quiet = false;
                    let (since, count) = self.waiting.unwrap_or((Instant::now(), 0));
                    self.waiting = Some((since, count + 1));
                    let asked = Asked { questions: vec![question], state: None, held: true, raw: None };
                    return Heard::Event(CallEvent::Asked(asked));
                }
                Ok(Mail::Withdrawn(key)) => {
                    self.answered();
                    return Heard::Event(CallEvent::Withdrawn(key));
                }
                Ok(Mail::End(End::Answer(answer))) => {
                    self.end_span_answered(&answer);
                    if self.shared.ended(Sign::Answer, flight.link()) {
                        self.shared.timeouts.store(0, Ordering::Relaxed);
                    }
                    return match flight.link().modern() {
                        Some(_) => self.modern_answer(answer, flight.link()),
                        None => self.legacy_answer(answer, flight.link()),
                    };
                }
                Ok(Mail::End(End::Lost(broken))) => {
                    self.note(broken.fault, flight.link());
                    self.end_span(broken.fault);
                    return Heard::Failed(Failed { fault: broken.fault, text: broken.text, retry_after: None });
                }
                // Something came on another stream meanwhile.
                Err(_elapsed) if deadline.at(flight.heard().unwrap_or(self.begun)) > Instant::now() => {}
                Err(_elapsed) => {
                    self.end_span_with(Some("timeout".into()));
                    let error = self.timed_out(deadline, flight.link());
                    return Heard::Event(CallEvent::Failed(self.fail(error)));
                }
            }
        }
    }

    fn done(&mut self, answer: Result<Json, Json>) -> Heard {
        Heard::Event(self.ended(answer))
    }

    /// The answer of a legacy server may tell of a task, or be the result of one.
    fn legacy_answer(&mut self, answer: Result<Json, Json>, link: &Arc<Link>) -> Heard {
        if let Some(mut task) = self.task.take() {
            task.over();
            return self.done(answer.map(tasks::plain));
        }
        let result = answer.as_ref().ok().filter(|_| self.as_task).and_then(|result| Object::parse(result).ok());
        match result.and_then(|result| Task::read(&result, link, None)) {
            Some(task) => Heard::Task(task),
            None => self.done(answer),
        }
    }

    /// What the answer of a modern server means. Errors that concern this hop alone go no further (mcp-protocol 5.17).
    fn modern_answer(&mut self, answer: Result<Json, Json>, link: &Arc<Link>) -> Heard {
        let error = match &answer {
            Ok(result) => match modern::meaning(&self.ask.method, result) {
                Meaning::Answer => return self.done(answer),
                // Who declared the extension follows the task itself (mcp-protocol 5.14).
                Meaning::Task(_) if self.ask.caller.abilities.tasks() => return self.done(answer),
                Meaning::Input(asked) => {
                    self.rounds += 1;
                    if self.rounds <= ROUNDS_MAX {
                        return Heard::Asked(asked);
                    }
                    return self.unusable(format!("it asked for input more than {ROUNDS_MAX} times in one call"));
                }
                Meaning::Task(result) => {
                    let task = Task::read(&result, link, Some(self.capabilities(link)));
                    return match task {
                        Some(task) => Heard::Task(task),
                        None => self.unusable("it tells of a task and does not name it".to_owned()),
                    };
                }
                Meaning::Bad(why) => return self.unusable(why),
            },
            Err(error) => error,
        };
        let said = || modern::message_of(error);
        match modern::code_of(error) {
            Some(code::HEADER_MISMATCH) if self.may_repair() && self.ask.method == Method::ToolsCall => {
                Heard::BadHeaders
            }
            Some(code::HEADER_MISMATCH) => self.unusable(format!("it refuses the headers of the request: {}", said())),
            Some(code::UNSUPPORTED_PROTOCOL_VERSION) if self.may_repair() => {
                let text = format!("it no longer takes the revision that was agreed on: {}", said());
                // Whatever it speaks now is found out with the next connection.
                link.give_up(&Broken { fault: FaultPoint::SessionGone, text: text.clone(), request: None });
                Heard::Failed(Failed { fault: FaultPoint::SessionGone, text, retry_after: None })
            }
            Some(code::UNSUPPORTED_PROTOCOL_VERSION) => {
                self.unusable(format!("it refuses the revision that it agreed on: {}", said()))
            }
            Some(_) | None => self.done(answer),
        }
    }

    /// Whether what the server holds against the request may be put right: once.
    fn may_repair(&mut self) -> bool {
        !std::mem::replace(&mut self.repaired, true)
    }

    fn unusable(&mut self, text: String) -> Heard {
        let error = self.failed(Failed { fault: FaultPoint::Unreadable, text, retry_after: None });
        Heard::Event(CallEvent::Failed(self.fail(error)))
    }

    /// Sends the request again with what the person said, who took the time since `since`.
    pub(super) async fn with_reply(mut self: Box<Self>, reply: Reply, since: Instant) -> (Box<Self>, Sent) {
        if let Some(deadline) = &mut self.deadline {
            deadline.forgive(since, Instant::now());
        }
        self.next_round(reply);
        let sent = self.send().await;
        (self, sent)
    }

    /// What went wrong before the answer that asked is over with that answer.
    fn next_round(&mut self, reply: Reply) {
        (self.reply, self.lost, self.resends) = (Some(reply), None, 0);
    }

    /// Closes the bill with the answer that a task brought.
    pub(super) fn ended(&mut self, answer: Result<Json, Json>) -> CallEvent {
        self.bill.outcome = if answer.is_ok() { "ok" } else { "error" };
        CallEvent::Done(answer.map(|result| self.marked(result)))
    }

    /// Sends the request again to a server that asked for nothing but its state back.
    pub(super) async fn after_a_pause(mut self: Box<Self>, reply: Reply) -> (Box<Self>, Sent) {
        tokio::time::sleep(STATE_PAUSE).await;
        self.next_round(reply);
        let sent = self.send().await;
        (self, sent)
    }

    /// Sends the request again with headers by the schema that the tool has now (mcp-protocol 4.4).
    pub(super) async fn with_fresh_headers(mut self: Box<Self>, link: Arc<Link>) -> (Box<Self>, Sent) {
        let mut offers = self.shared.offers.subscribe();
        offers.mark_unchanged();
        link.refresh(Kinds::TOOLS);
        // Where the list is the same, no news comes; then the headers are the same as well, and the answer final.
        let _ = timeout(self.shared.server().tuning.list_timeout.min(HEADERS_WAIT), offers.changed()).await;
        let sent = self.send().await;
        (self, sent)
    }

    /// Waits until the server is ready, within the deadline.
    async fn ready(&mut self) -> Result<Arc<Link>, CallError> {
        let now = Instant::now();
        let most = now + READY_WAIT;
        self.shared.ready(self.deadline.map_or(most, |deadline| deadline.at(now).min(most))).await
    }
}
