//! Tasks, absorbed: a server that answers a call with a task is asked for its state until it has the result, and the
//! caller sees a call (mcp-protocol 5.14).
//!
//! Two designs that share the words alone. Of 2025-11-25, a tool may demand to be called as a task; what it has to ask
//! it asks while `tasks/result` is open. Of the extension of 2026-07-28, the server decides, and questions and the
//! result come with its state. A task that nobody wants any more is cancelled, whatever became of its caller.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, sleep};
use trunkline_telemetry::redact;
use trunkline_wire::extensions::TASKS;
use trunkline_wire::{Json, Method, Object, key};

use crate::envelope::{self, Envelope};
use crate::handle::Shared;
use crate::limits::{READY_WAIT, TASK_MISSES, TASK_POLL, TASK_POLL_MAX, TASK_POLL_MIN};
use crate::link::Link;
use crate::offer::Offer;
use crate::transport::Broken;

/// A task of a server. Dropping it has the task cancelled, unless it is over.
pub(crate) struct Task {
    link: Arc<Link>,
    id: String,
    poll: Duration,
    /// What the caller can be asked, told with each request; `None` for a task of 2025-11-25.
    capabilities: Option<Json>,
    misses: u32,
    over: bool,
}

/// What a look at a task showed.
pub(crate) enum Turn {
    /// It goes on.
    Working,
    /// It has this result, or this error.
    Done(Result<Json, Json>),
    /// Its result, or what it has to ask, is to be had by `tasks/result`.
    Fetch,
    /// It waits for answers.
    Asks(Object),
    /// It was cancelled, and not by us.
    Cancelled,
    /// Nothing is known of it any more; why, for people.
    Lost(String),
}

/// Whether a call of this tool has to be a task: it says so, and the server knows how.
pub(crate) fn demanded(link: &Link, offer: &Offer, tool: &str) -> bool {
    let declared = || {
        let tasks = link.handshake.capabilities.get_object("tasks")?;
        tasks.get_object("requests")?.get_object("tools")?.get("call").cloned()
    };
    offer.as_tasks.contains(tool) && link.modern().is_none() && declared().is_some()
}

/// Adds the extension to the capabilities that a modern server is told with a call: whoever calls, the gateway absorbs.
pub(crate) fn declare(link: &Link, declared: &Json) -> Json {
    if !link.capabilities.tasks {
        return declared.clone();
    }
    let mut capabilities = Object::parse(declared).unwrap_or_default();
    let mut extensions = capabilities.get_object("extensions").unwrap_or_default();
    extensions.set(TASKS, Json::literal("{}"));
    capabilities.set("extensions", extensions.to_json());
    capabilities.to_json()
}

impl Task {
    /// Reads the result that tells of a task: flat in the extension, which comes with `capabilities`, else under `task`.
    pub(crate) fn read(result: &Object, link: &Arc<Link>, capabilities: Option<Json>) -> Option<Self> {
        let inner;
        let (task, interval) = if capabilities.is_some() {
            (result, "pollIntervalMs")
        } else {
            inner = result.get_object("task")?;
            (&inner, "pollInterval")
        };
        let id = task.get_str("taskId")?;
        let poll = poll(task, interval).unwrap_or(TASK_POLL);
        Some(Self { link: link.clone(), id, poll, capabilities, misses: 0, over: false })
    }

    /// The connection that it is on.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The `params` that name it.
    pub(crate) fn params(&self) -> Object {
        [("taskId", Json::from(self.id.as_str()))].into_iter().collect()
    }

    /// Nothing of it is left at the server that could be cancelled.
    pub(crate) fn over(&mut self) {
        self.over = true;
    }

    /// Waits until it is time, and looks how the task is doing.
    pub(crate) async fn look(&mut self, shared: &Shared) -> Turn {
        // Spread, so that many tasks of one server are not looked at in the same moment.
        sleep(self.poll.mul_f64(1.0 + fastrand::f64() / 5.0)).await;
        let state = match self.ask(shared, Method::TasksGet, self.params()).await {
            Ok(Ok(state)) => Object::parse(&state).unwrap_or_default(),
            Ok(Err(error)) => {
                self.over = true;
                return Turn::Lost(format!("asked for the task, it answered: {}", message_of(&error)));
            }
            Err(broken) => {
                self.misses += 1;
                if self.misses >= TASK_MISSES {
                    return Turn::Lost(broken.text);
                }
                return Turn::Working;
            }
        };
        self.misses = 0;
        let status = state.get_str("status").unwrap_or_default();
        if self.capabilities.is_none() {
            self.poll = poll(&state, "pollInterval").unwrap_or(self.poll);
            return match status.as_str() {
                "working" => Turn::Working,
                "cancelled" => self.ended(Turn::Cancelled),
                "completed" | "failed" => self.ended(Turn::Fetch),
                "input_required" => Turn::Fetch,
                other => unknown(other),
            };
        }
        self.poll = poll(&state, "pollIntervalMs").unwrap_or(self.poll);
        match status.as_str() {
            "working" => Turn::Working,
            "cancelled" => self.ended(Turn::Cancelled),
            "completed" => match state.get("result").filter(|result| result.is_object()) {
                Some(result) => self.ended(Turn::Done(Ok(result.clone()))),
                None => self.ended(Turn::Lost("the task is completed and has no result".to_owned())),
            },
            "failed" => match state.get("error").filter(|error| error.is_object()) {
                Some(error) => self.ended(Turn::Done(Err(error.clone()))),
                None => self.ended(Turn::Lost("the task failed and does not say why".to_owned())),
            },
            "input_required" => match state.get_object("inputRequests").filter(|requests| !requests.is_empty()) {
                Some(requests) => Turn::Asks(requests),
                // Answered already, and not noticed yet.
                None => Turn::Working,
            },
            other => unknown(other),
        }
    }

    /// Gives the server the answers that the task waits for.
    pub(crate) async fn update(&mut self, shared: &Shared, responses: &Object) -> Result<(), String> {
        let mut params = self.params();
        params.set("inputResponses", responses.to_json());
        match self.ask(shared, Method::TasksUpdate, params).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("it refused the answers: {}", message_of(&error))),
            Err(broken) => Err(broken.text),
        }
    }

    async fn ask(&mut self, shared: &Shared, method: Method, params: Object) -> Result<Result<Json, Json>, Broken> {
        // A modern server behind a URL knows its tasks on any connection; all others lose them with it.
        if self.link.is_down()
            && self.link.mirrors()
            && let Ok(link) = shared.ready(Instant::now() + READY_WAIT).await
            && link.mirrors()
        {
            self.link = link;
        }
        let (params, headers) = dressed(&self.link, params, self.capabilities.clone(), &self.id);
        self.link.request_dressed(method, params, headers, shared.server().tuning.read_timeout).await
    }

    fn ended(&mut self, turn: Turn) -> Turn {
        self.over = true;
        turn
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.over {
            let (params, headers) = dressed(&self.link, self.params(), self.capabilities.clone(), &self.id);
            self.link.tell(Method::TasksCancel, params, headers);
        }
    }
}

/// A request about a task, as the server's era wants it.
fn dressed(
    link: &Link,
    mut params: Object,
    capabilities: Option<Json>,
    id: &str,
) -> (Json, Vec<(HeaderName, HeaderValue)>) {
    let Some(revision) = link.modern() else { return (params.to_json(), Vec::new()) };
    let capabilities = capabilities.unwrap_or_else(|| Json::literal("{}"));
    let said = params.get_object("_meta").unwrap_or_default();
    let envelope = Envelope { revision, capabilities: &capabilities, level: None, token: None };
    params.set("_meta", envelope.around(&said));
    (params.to_json(), envelope::name_header(id))
}

/// The result of a call that was a task, without the trace of it (mcp-protocol 2.6).
pub(crate) fn plain(result: Json) -> Json {
    if memchr::memmem::find(result.as_bytes(), key::RELATED_TASK.as_bytes()).is_none() {
        return result;
    }
    let Ok(mut object) = Object::parse(&result) else { return result };
    let Some(mut meta) = object.get_object("_meta") else { return result };
    meta.remove(key::RELATED_TASK);
    if meta.is_empty() {
        object.remove("_meta");
    } else {
        object.set("_meta", meta.to_json());
    }
    object.to_json()
}

/// How long to wait between two looks, if the server says it.
fn poll(task: &Object, key: &str) -> Option<Duration> {
    let wanted: u64 = task.get(key)?.decode().ok()?;
    Some(Duration::from_millis(wanted).clamp(TASK_POLL_MIN, TASK_POLL_MAX))
}

fn unknown(status: &str) -> Turn {
    Turn::Lost(format!("the task is in the unknown state `{}`", redact::printable(status, 40)))
}

fn message_of(error: &Json) -> String {
    let message = Object::parse(error).ok().and_then(|error| error.get_str("message"));
    redact::printable(&message.unwrap_or_else(|| "an error without a message".to_owned()), 200)
}

#[cfg(test)]
mod tests;
