//! Tasks as the core of 2025-11-25 has them: the client asks for one, and fetches what came of it.

use std::sync::Arc;

use crate::message::{Failure, Outcome, Params, member};
use crate::protocol::{Answer, Server};
use crate::questions;
use crate::session::{Lines, Session};
use crate::tasks::{Status, Task, Tasks};

/// A further member of the server's capabilities.
pub(crate) const CAPABILITY: &str = r#","tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#;

/// The entry of the tool `task`, which can only be called as a task here.
pub(crate) const ENTRY: &str = concat!(
    r#"{"name":"task","description":"Works in the background","inputSchema":{"type":"object"},"#,
    r#""execution":{"taskSupport":"required"}}"#
);

/// Starts the tool `task`, or refuses to without `task` in the params. No other tool is for it.
pub(crate) fn call(server: &Arc<Server>, params: &Params<'_>) -> Option<Outcome> {
    if server.options.revision != "2025-11-25" || params.name.as_deref() != Some("task") {
        return None;
    }
    if params.task.is_none() {
        return Some(Err((-32601, "this tool can only be called as a task".to_owned()).into()));
    }
    let task = Tasks::start(server, params.arguments());
    Some(Ok(format!(r#"{{"task":{}}}"#, shown(&task))))
}

fn shown(task: &Task) -> String {
    format!(r#"{{{},"ttl":null,"pollInterval":50}}"#, task.head())
}

pub(crate) fn request(
    server: &Arc<Server>,
    method: &str,
    id: &str,
    params: &Params<'_>,
    session: &Arc<Session>,
    lines: &Lines,
) -> Answer {
    server.desk.note("tasks", &format!(r#"{{"method":"{method}"}}"#));
    let Some(task) = server.tasks.get(params.task_id.as_deref().unwrap_or_default()) else {
        return Answer::Now(Failure::from((-32602, "no such task".to_owned())).reply(id));
    };
    let outcome: Outcome = match method {
        "tasks/get" => Ok(shown(&task)),
        "tasks/cancel" if task.cancel() => Ok(shown(&task)),
        "tasks/cancel" => Err((-32602, "the task is over".to_owned()).into()),
        "tasks/result" => {
            let work = result(server.clone(), session.clone(), lines.clone(), task);
            return session.cancellable(id, work);
        }
        _ => Err((-32601, format!("Method not found: {method}")).into()),
    };
    Answer::Now(outcome.map_or_else(|failure| failure.reply(id), |result| crate::message::success(id, &result)))
}

/// Blocks until the task is over; asks on the way what the task needs to know.
async fn result(server: Arc<Server>, session: Arc<Session>, lines: Lines, task: Arc<Task>) -> Outcome {
    let related = format!(r#""_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{}"}}}}"#, task.id);
    let mut watch = task.watch();
    loop {
        let status = watch.borrow_and_update().clone();
        match status {
            Status::Working => {}
            Status::Input => {
                let rounds = questions::script("2025-11-25", "tools/call", "ask_form", "{}").expect("it asks");
                let question = &rounds[0][0];
                let params = format!("{{{related},{}", &question.params[1..]);
                let response = session.ask(&lines, &question.method, &params).await;
                server.desk.note("answers", &format!(r#"{{"method":"elicitation/create","answer":{response}}}"#));
                task.answer(member(&response, "result").unwrap_or_default());
            }
            Status::Completed(result) => return Ok(format!("{{{related},{}", &result[1..])),
            Status::Failed(_) => return Err((-32050, "the task broke".to_owned()).into()),
            Status::Cancelled => return Err((-32051, "the task was cancelled".to_owned()).into()),
        }
        if watch.changed().await.is_err() {
            return Err((-32603, "the task is gone".to_owned()).into());
        }
    }
}
