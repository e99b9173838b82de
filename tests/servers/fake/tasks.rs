//! Work that outlives its request: what a task is, whatever the wire calls it (mcp-protocol 5.14).
//!
//! `core_tasks.rs` shows it as 2025-11-25 has it, `ext_tasks.rs` as the extension of 2026-07-28.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::protocol::Server;
use crate::tools::{integer, member_is, text};

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Status {
    Working,
    /// Waits for the answer to a form.
    Input,
    /// The result of the tool, as text.
    Completed(String),
    /// The members of a JSON-RPC error, as text.
    Failed(String),
    Cancelled,
}

pub(crate) struct Task {
    pub(crate) id: String,
    status: watch::Sender<Status>,
    answer: Mutex<Option<oneshot::Sender<String>>>,
}

#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<String, Arc<Task>>>);

impl Tasks {
    /// Starts the tool `task`. Its arguments: `ms` (how long it works), `ask` (it needs a form filled in),
    /// `error` (it fails), `tool_error` (its result says `isError`).
    pub(crate) fn start(server: &Arc<Server>, arguments: &str) -> Arc<Task> {
        let task = Arc::new(Task {
            id: format!("task/{} \u{e9}", server.number()),
            status: watch::Sender::new(Status::Working),
            answer: Mutex::default(),
        });
        server.tasks.0.lock().expect("short").insert(task.id.clone(), task.clone());
        let arguments = arguments.to_owned();
        tokio::spawn({
            let task = task.clone();
            async move { task.live(&arguments).await }
        });
        task
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Task>> {
        self.0.lock().expect("short").get(id).cloned()
    }
}

impl Task {
    async fn live(&self, arguments: &str) {
        tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
        let mut said = "the task is done".to_owned();
        if member_is(arguments, "ask", "true") {
            let (answer, arrived) = oneshot::channel();
            *self.answer.lock().expect("short") = Some(answer);
            self.turn(Status::Input);
            said = arrived.await.unwrap_or_default();
        }
        if member_is(arguments, "error", "true") {
            self.turn(Status::Failed(r#"{"code":-32050,"message":"the task broke"}"#.into()));
        } else if member_is(arguments, "tool_error", "true") {
            let result = text("the tool is unhappy");
            self.turn(Status::Completed(format!(r#"{{"isError":true,{}"#, &result[1..])));
        } else {
            self.turn(Status::Completed(text(&said)));
        }
    }

    /// Goes on to a status, unless the task is over.
    fn turn(&self, next: Status) -> bool {
        self.status.send_if_modified(|status| {
            let open = matches!(status, Status::Working | Status::Input);
            if open {
                *status = next;
            }
            open
        })
    }

    pub(crate) fn cancel(&self) -> bool {
        self.turn(Status::Cancelled)
    }

    /// Gives the answer that the task waits for; false when it waits for none.
    pub(crate) fn answer(&self, answer: String) -> bool {
        let waiting = self.answer.lock().expect("short").take();
        let Some(waiting) = waiting else { return false };
        self.turn(Status::Working);
        waiting.send(answer).is_ok()
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// `taskId`, `status` and the times: the members that both wires share.
    pub(crate) fn head(&self) -> String {
        let status = match self.status() {
            Status::Working => "working",
            Status::Input => "input_required",
            Status::Completed(_) => "completed",
            Status::Failed(_) => "failed",
            Status::Cancelled => "cancelled",
        };
        format!(
            concat!(
                r#""taskId":"{}","status":"{}","createdAt":"2026-07-28T00:00:00Z","#,
                r#""lastUpdatedAt":"2026-07-28T00:00:00Z""#
            ),
            self.id, status
        )
    }
}
