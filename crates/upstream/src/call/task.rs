//! A call whose answer is a task: followed to its end, asked for its result, given what a person said (mcp-protocol 5.14).
//!
//! The call has run from then on, so whatever fails, its fate is not known.

use tokio::time::{Instant, timeout_at};
use trunkline_wire::{Method, Object, Outcome};

use super::errand::{Errand, Failed, Next, Sent};
use super::modern::{self, Reply};
use super::place::Place;
use crate::error::CallError;
use crate::flight::Flight;
use crate::limits::ROUNDS_MAX;
use crate::questions::Question;
use crate::retry::Row;
use crate::tasks::{Task, Turn};
use crate::transport::{FaultPoint, SendError};

impl Errand {
    /// Follows a task to its end, or to its next questions. It keeps the request's place: the server is at work.
    pub(super) async fn follow(mut self: Box<Self>, mut task: Task, place: Place) -> (Box<Self>, Sent) {
        loop {
            let deadline = self.deadline.expect("it was sent");
            let turn = match timeout_at(deadline.at(Instant::now()), task.look(&self.shared)).await {
                Ok(turn) => turn,
                Err(_elapsed) => {
                    let error = self.timed_out(deadline, task.link());
                    return (self, Err(error));
                }
            };
            let next = match turn {
                Turn::Working => continue,
                Turn::Done(answer) => Ok(Next::Ended(answer)),
                Turn::Fetch => return self.fetch(task, place).await,
                Turn::Asks(requests) => match self.task_asks(&requests) {
                    Ok(questions) => Ok(Next::Asks(questions, task)),
                    Err(text) => Err(self.failed(Failed { fault: FaultPoint::Unreadable, ..lost(text) })),
                },
                Turn::Cancelled => Err(self.failed(lost("the server cancelled its task".to_owned()))),
                Turn::Lost(text) => Err(self.failed(lost(text))),
            };
            return (self, next);
        }
    }

    fn task_asks(&mut self, requests: &Object) -> Result<Vec<Question>, String> {
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(format!("its task asked for input more than {ROUNDS_MAX} times"));
        }
        modern::questions(requests).map_err(|why| format!("its task asks for input, {why}"))
    }

    /// Fetches the result of a task; what it has to ask, a server asks meanwhile.
    async fn fetch(mut self: Box<Self>, task: Task, place: Place) -> (Box<Self>, Sent) {
        let sent = loop {
            let failed = match self.fetch_once(&task).await {
                Ok(Ok(flight)) => break Ok(Next::Flying(flight, place)),
                Ok(Err(failed)) => failed,
                Err(error) => break Err(error),
            };
            if let Err(error) = self.pause_to_look(&task, failed).await {
                break Err(error);
            }
        };
        self.task = Some(task);
        (self, sent)
    }

    async fn fetch_once(&self, task: &Task) -> Result<Result<Flight, Failed>, CallError> {
        let failed = |SendError { fault, text, retry_after }| Failed { fault, text, retry_after };
        let mut flight = match Flight::register(task.link(), &Method::TasksResult, self.asker()) {
            Ok(flight) => flight,
            Err(error) => return Ok(Err(failed(error))),
        };
        let deadline = self.deadline.expect("it was sent");
        match timeout_at(deadline.at(Instant::now()), flight.send(task.params().to_json(), Vec::new())).await {
            Ok(Ok(())) => Ok(Ok(flight)),
            Ok(Err(error)) => Ok(Err(failed(error))),
            Err(_elapsed) => Err(self.timed_out(deadline, task.link())),
        }
    }

    /// Asks for the result of a task again: to read it twice is not to run it twice.
    pub(super) async fn look_again(mut self: Box<Self>, task: Task, failed: Failed) -> (Box<Self>, Sent) {
        if let Err(error) = self.pause_to_look(&task, failed).await {
            self.task = Some(task);
            return (self, Err(error));
        }
        match Place::take(&self.shared, self.ask.caller.share).await {
            Ok(place) => self.fetch(task, place).await,
            Err(error) => {
                let error = self.failed(lost(error.text));
                self.task = Some(task);
                (self, Err(error))
            }
        }
    }

    async fn pause_to_look(&mut self, task: &Task, failed: Failed) -> Result<(), CallError> {
        // A task lives and dies with its connection.
        if task.link().is_down() {
            return Err(self.failed(lost(failed.text)));
        }
        self.pause(Row::TaskLook, failed).await.map_err(|error| match error.outcome {
            // The look was not sent, but the call was.
            Outcome::NotSent | Outcome::Refused => self.failed(lost(error.text)),
            Outcome::Unknown | Outcome::Failed => error,
        })
    }

    /// Gives a task the answers that it waits for, and follows it on.
    pub(super) async fn with_task_reply(
        mut self: Box<Self>,
        mut task: Task,
        reply: Reply,
        since: Instant,
    ) -> (Box<Self>, Sent) {
        if let Some(deadline) = &mut self.deadline {
            deadline.forgive(since, Instant::now());
        }
        let place = match Place::take(&self.shared, self.ask.caller.share).await {
            Ok(place) => place,
            Err(error) => {
                let error = self.failed(lost(error.text));
                return (self, Err(error));
            }
        };
        if let Err(text) = task.update(&self.shared, &reply.responses).await {
            let error = self.failed(lost(text));
            return (self, Err(error));
        }
        self.follow(task, place).await
    }
}

fn lost(text: String) -> Failed {
    Failed { fault: FaultPoint::LostUnanswered, text, retry_after: None }
}
