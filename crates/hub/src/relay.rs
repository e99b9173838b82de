//! [`Relay`]: one call in progress, driven for whoever made it.
//!
//! Notices go back as they come. When the server asks something, a legacy caller is asked on the stream of the call, and
//! the call goes on; for a modern one the questions are gathered for a moment and the relay ends with them: the caller
//! will come back with answers. Which era the server is of shows only in whether it holds the call open meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use trunkline_upstream::{Ask, Asked, Call, CallEvent, Question, Upstream};
use trunkline_wire::{Era, Fault, Json, Lack, Method, Notification, Object, Outcome};

use crate::Hub;
use crate::asking::{self, Answer, Leg};
use crate::call::Listener;
use crate::client::Caller;
use crate::gates::Leave;
use crate::limits::{QUESTIONS_MAX, ROUND_WINDOW, ROUNDS_MAX};
use crate::logging;
use crate::parked::{Parked, Room};
use crate::progress::Progress;
use crate::refusal;

/// How a relay ended.
pub(crate) enum Ended {
    /// With the server's answer.
    Answer(Result<Json, Json>),
    /// Without one.
    Fault(Fault),
    /// With questions for a modern caller.
    Input(Box<Input>),
}

/// What a modern caller is asked.
pub(crate) struct Input {
    /// The call, where the server holds it open.
    pub held: Option<Parked>,
    /// The questions of a server that holds nothing.
    pub asked: Option<Asked>,
}

/// One call in progress.
pub(crate) struct Relay<'a> {
    hub: &'a Hub,
    upstream: &'a Upstream,
    listener: Option<Listener>,
    progress: Option<Progress>,
    /// Questions under way to a legacy caller, and whether the server can be told of an error.
    legs: Vec<(Box<str>, bool, Leg)>,
    /// Questions gathered for a modern one, and until when.
    gathered: Vec<Question>,
    window: Option<Instant>,
    rounds: u32,
    /// How many questions there were in all.
    questions: usize,
    /// Leave for the call, until it is over.
    leave: Leave,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(
        hub: &'a Hub,
        upstream: &'a Upstream,
        listener: Option<Listener>,
        progress: Option<Progress>,
    ) -> Self {
        Self {
            hub,
            upstream,
            listener,
            progress,
            legs: Vec::new(),
            gathered: Vec::new(),
            window: None,
            rounds: 0,
            questions: 0,
            leave: Leave::default(),
        }
    }

    /// Makes a call that has leave to be made, and drives it.
    pub(crate) async fn run_with(&mut self, leave: Result<Leave, Fault>, ask: Ask) -> Ended {
        match leave {
            Ok(leave) => self.leave = leave,
            Err(fault) => return Ended::Fault(fault),
        }
        let ended = match self.upstream.call(ask).await {
            Ok(call) => self.drive(call).await,
            Err(error) => Ended::Fault(error.fault()),
        };
        if matches!(&ended, Ended::Fault(fault) if fault.outcome == Outcome::NotSent) {
            self.leave.give_turns_back();
        }
        ended
    }

    /// Goes on with a call that waited for `answers`, an object by the keys of the questions.
    pub(crate) async fn resume(&mut self, mut parked: Parked, answers: &Object) -> Ended {
        if let Some(listener) = &self.listener {
            parked.call.adopt(listener.caller.facts(listener.streams));
        }
        if let Some(notice) = parked.progress.take() {
            self.notice(&notice);
        }
        match parked.take_ended() {
            Some(Ok(outcome)) => return Ended::Answer(outcome),
            Some(Err(fault)) => return Ended::Fault(fault),
            None => {}
        }
        parked.questions.retain(|question| {
            let answer = answers.get(&question.key);
            answer.is_none_or(|answer| !parked.call.answer(&question.key, Ok(answer.clone())))
        });
        self.rounds = parked.rounds;
        // What is still open is asked again, by a token of its own (mcp-protocol 5.9 rule 9).
        if !parked.questions.is_empty() {
            return Ended::Input(Box::new(Input { held: Some(parked), asked: None }));
        }
        self.leave = parked.leave;
        self.drive(parked.call).await
    }

    async fn drive(&mut self, mut call: Call) -> Ended {
        loop {
            let due = self.progress.as_ref().and_then(Progress::due);
            let timer = [due, self.window].into_iter().flatten().min();
            let event = if timer.is_none() && self.legs.is_empty() {
                call.next().await
            } else {
                tokio::select! {
                    biased;
                    event = call.next() => event,
                    (key, plain, answer) = answered(&mut self.legs), if !self.legs.is_empty() => {
                        if let Err(fault) = self.give(&mut call, &key, plain, answer) {
                            return Ended::Fault(*fault);
                        }
                        continue;
                    }
                    () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                        if self.window.is_some_and(|window| window <= Instant::now()) {
                            // Others may have taken the last place while this round was gathered.
                            match self.room() {
                                Room::Some => return self.park(call),
                                Room::NoneOfItsOwn { waiting } => return self.too_many_wait(waiting),
                                Room::None => self.refuse(&mut call),
                            }
                            continue;
                        }
                        self.flush();
                        continue;
                    }
                }
            };
            if let Some(ended) = self.take(&mut call, event) {
                return ended;
            }
        }
    }

    /// Passes a notice on, puts a question, or says how the call ended; what was held back goes out before.
    fn take(&mut self, call: &mut Call, event: CallEvent) -> Option<Ended> {
        let ended = match event {
            CallEvent::Notice(notice) => {
                self.notice(&notice);
                return None;
            }
            CallEvent::Beat => {
                let beat = self.progress.as_mut().and_then(|progress| progress.beat(Instant::now()));
                self.tell(beat);
                return None;
            }
            CallEvent::Asked(asked) => return self.asked(call, asked),
            CallEvent::Withdrawn(key) => {
                self.legs.retain(|(asked, ..)| *asked != key);
                self.gathered.retain(|question| question.key != key);
                if self.gathered.is_empty() {
                    self.window = None;
                }
                return None;
            }
            CallEvent::Done(outcome) => Ended::Answer(outcome),
            CallEvent::Failed(error) => Ended::Fault(error.fault()),
        };
        // Nobody needs to answer any more; the client is told before the call's own answer.
        self.legs.clear();
        self.flush();
        Some(ended)
    }

    fn asked(&mut self, call: &mut Call, asked: Asked) -> Option<Ended> {
        self.questions += asked.questions.len();
        if self.questions > QUESTIONS_MAX {
            self.gathered.extend(asked.questions);
            self.refuse(call);
            return None;
        }
        if asked.questions.iter().any(asking::misleads) {
            return Some(Ended::Fault(refusal::unsafe_page(self.upstream.name())));
        }
        let Some(listener) = &self.listener else {
            return Some(Ended::Fault(refusal::nobody_to_ask(self.upstream.name())));
        };
        if let (Caller::Modern(client), true) = (&listener.caller, self.is_modern_server()) {
            let lack = asked.questions.iter().find_map(|question| lack(question, &client.abilities).err());
            if let Some(lack) = lack {
                return Some(Ended::Fault(refusal::undeclared(self.upstream.name(), lack)));
            }
        }
        match (&listener.caller, asked.held) {
            (Caller::Legacy(_), _) => self.put(call, &asked).err().map(|fault| Ended::Fault(*fault)),
            (Caller::Modern(_), false) => Some(Ended::Input(Box::new(Input { held: None, asked: Some(asked) }))),
            (Caller::Modern(_), true) => {
                self.gathered.extend(asked.questions);
                match self.room() {
                    Room::Some if self.rounds < ROUNDS_MAX => {
                        self.window.get_or_insert_with(|| Instant::now() + ROUND_WINDOW);
                    }
                    Room::NoneOfItsOwn { waiting } => return Some(self.too_many_wait(waiting)),
                    Room::Some | Room::None => self.refuse(call),
                }
                None
            }
        }
    }

    /// Asks a legacy caller. A round of a modern server is put as a whole or not at all (mcp-protocol 5.10 rule 2).
    fn put(&mut self, call: &mut Call, asked: &Asked) -> Result<(), Box<Fault>> {
        let Some(Listener { caller: Caller::Legacy(session), outbox, streams }) = &self.listener else { return Ok(()) };
        let (server, is_modern) = (self.upstream.name(), self.is_modern_server());
        if is_modern {
            let abilities = session.abilities();
            let abilities = if *streams { abilities } else { abilities.without_questions().into() };
            let lack = asked.questions.iter().find_map(|question| lack(question, &abilities).err());
            if let Some(lack) = lack {
                return Err(Box::new(refusal::lacking(server, lack)));
            }
        }
        for question in &asked.questions {
            match asking::for_legacy(question, server, session.revision()) {
                Some(params) => {
                    let leg = Leg::put(session, outbox, &question.method, &params);
                    self.legs.push((question.key.clone(), !is_modern, leg));
                }
                // A form that the client cannot show is closed unseen (mcp-protocol 5.18).
                None if !is_modern || question.method == Method::ElicitationCreate => {
                    call.answer(&question.key, asking::no_answer(&question.method));
                }
                None => return Err(Box::new(refusal::lacking(server, Lack::SamplingTools))),
            }
        }
        Ok(())
    }

    /// Gives the server what a legacy caller answered. A modern server can be told of no error: a refused form counts as
    /// closed, and without a model's answer the call is over (mcp-protocol 5.10 rule 5).
    fn give(&mut self, call: &mut Call, key: &str, plain: bool, answer: (Method, Answer)) -> Result<(), Box<Fault>> {
        let (method, answer) = answer;
        let answer = match answer {
            Err(_) if !plain && method == Method::ElicitationCreate => asking::no_answer(&method),
            Err(error) if !plain => return Err(Box::new(refusal::declined(self.upstream.name(), &method, &error))),
            answer => answer,
        };
        call.answer(key, answer);
        Ok(())
    }

    /// Answers what was gathered as somebody would who closes every form.
    fn refuse(&mut self, call: &mut Call) {
        self.window = None;
        for question in std::mem::take(&mut self.gathered) {
            call.answer(&question.key, asking::no_answer(&question.method));
        }
    }

    fn room(&self) -> Room {
        let places = self.upstream.config().tuning.in_flight_max;
        self.hub.parks().room(self.upstream.name(), places, self.share())
    }

    fn share(&self) -> u64 {
        self.listener.as_ref().map_or(0, |listener| listener.caller.share())
    }

    /// Whoever calls hears that, and not what its server makes of an answer that nobody gave.
    fn too_many_wait(&self, waiting: usize) -> Ended {
        Ended::Fault(refusal::too_many_wait(self.upstream.name(), waiting))
    }

    /// Whether the server is one that can be told of no error, and knows from the request what its caller can be asked.
    fn is_modern_server(&self) -> bool {
        self.upstream.offer().revision.is_some_and(|revision| revision.era() == Era::Modern)
    }

    fn park(&mut self, call: Call) -> Ended {
        let questions = std::mem::take(&mut self.gathered);
        self.flush();
        Ended::Input(Box::new(Input {
            held: Some(Parked::new(call, questions, self.rounds, std::mem::take(&mut self.leave), self.share())),
            asked: None,
        }))
    }

    fn notice(&mut self, notice: &Notification) {
        let Some(listener) = &self.listener else { return };
        let message = if notice.method == Method::Progress {
            self.progress.as_mut().and_then(|progress| progress.take(notice, Instant::now()))
        } else if notice.method == Method::LogMessage {
            let level = listener.level();
            let message = |params| logging::message(params, self.upstream.name(), level?);
            notice.params.as_ref().and_then(message)
        } else {
            None
        };
        self.tell(message);
    }

    fn flush(&mut self) {
        let held = self.progress.as_mut().and_then(|progress| progress.flush(Instant::now()));
        self.tell(held);
    }

    fn tell(&self, message: Option<Bytes>) {
        if let (Some(listener), Some(message)) = (&self.listener, message)
            && listener.streams
        {
            listener.outbox.notice(message);
        }
    }
}

/// Whether a question of a modern server can be put to a caller with these abilities.
pub(crate) fn lack(question: &Question, abilities: &trunkline_wire::Abilities) -> Result<(), Lack> {
    let params = question.params.as_ref().and_then(|params| Object::parse(params).ok()).unwrap_or_default();
    abilities.permits(&question.method, &params)
}

/// Waits for the next answer and takes its leg away. Never resolves without legs.
async fn answered(legs: &mut Vec<(Box<str>, bool, Leg)>) -> (Box<str>, bool, (Method, Answer)) {
    poll_fn(|context| {
        for at in 0..legs.len() {
            if let Poll::Ready(answer) = Pin::new(&mut legs[at].2).poll(context) {
                let (key, plain, leg) = legs.swap_remove(at);
                return Poll::Ready((key, plain, (leg.method().clone(), answer)));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
