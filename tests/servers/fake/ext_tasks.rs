//! Tasks as the extension of 2026-07-28 has them: the server decides, the client polls (mcp-protocol 5.14).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::listen::Listen;
use crate::message::{Failure, Outcome, Params, member};
use crate::protocol::Server;
use crate::questions;
use crate::tasks::{Status, Task, Tasks};

pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The entry of the tool `task`: a task for those who understand tasks, an ordinary call for all others.
pub(crate) const ENTRY: &str =
    r#"{"name":"task","description":"Works in the background","inputSchema":{"type":"object"}}"#;

/// The one key under which a task asks.
const KEY: &str = "account?";

pub(crate) fn declared(capabilities: &str) -> bool {
    member(capabilities, "extensions").and_then(|extensions| member(&extensions, EXTENSION)).is_some()
}

/// Starts the tool `task`, if the client can follow it.
pub(crate) fn call(server: &Arc<Server>, params: &Params<'_>, capabilities: &str) -> Option<Outcome> {
    if params.name.as_deref() != Some("task") || !declared(capabilities) {
        return None;
    }
    let task = Tasks::start(server, params.arguments());
    Some(Ok(format!(r#"{{"resultType":"task",{}}}"#, times(&task))))
}

fn times(task: &Task) -> String {
    format!(r#"{},"ttlMs":null,"pollIntervalMs":50"#, task.head())
}

/// The members of a task with what it came to or what it needs.
fn whole(task: &Task) -> String {
    let more = match task.status() {
        Status::Completed(result) => format!(r#","result":{{"resultType":"complete",{}"#, &result[1..]),
        Status::Failed(error) => format!(r#","error":{error}"#),
        Status::Input => {
            let rounds = questions::script("2026-07-28", "tools/call", "ask_form", "{}").expect("it asks");
            let question = &rounds[0][0];
            let request = format!(r#"{{"method":"{}","params":{}}}"#, question.method, question.params);
            format!(r#","inputRequests":{{"{KEY}":{request}}}"#)
        }
        Status::Working | Status::Cancelled => String::new(),
    };
    times(task) + &more
}

pub(crate) fn request(server: &Arc<Server>, method: &str, params: &Params<'_>, capabilities: &str) -> Outcome {
    server.desk.note("tasks", &format!(r#"{{"method":"{method}"}}"#));
    if !declared(capabilities) {
        return Err(Failure {
            code: -32021,
            message: "tasks were not declared".into(),
            data: Some(format!(r#"{{"requiredCapabilities":{{"extensions":{{"{EXTENSION}":{{}}}}}}}}"#)),
        });
    }
    let Some(task) = server.tasks.get(params.task_id.as_deref().unwrap_or_default()) else {
        return Err((-32602, "no such task".to_owned()).into());
    };
    match method {
        "tasks/get" => Ok(format!(r#"{{"resultType":"complete",{}}}"#, whole(&task))),
        "tasks/cancel" => {
            task.cancel();
            Ok("{}".into())
        }
        "tasks/update" => {
            let responses: BTreeMap<String, &RawValue> = params
                .input_responses
                .and_then(|responses| serde_json::from_str(responses.get()).ok())
                .unwrap_or_default();
            let Some(answer) = responses.get(KEY) else {
                server.desk.note("violations", &format!("tasks/update without an answer to {KEY:?}"));
                return Err((-32602, format!("no answer to {KEY:?}")).into());
            };
            server.desk.note("answers", &format!(r#"{{"key":"{KEY}","answer":{{"result":{answer}}}}}"#));
            task.answer(answer.get().to_owned());
            Ok("{}".into())
        }
        _ => Err((-32601, format!("Method not found: {method}")).into()),
    }
}

/// Tells a subscription of every turn that these tasks take.
pub(crate) fn watch(server: &Arc<Server>, listen: &Arc<Listen>, ids: &Value) {
    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
    for task in ids.filter_map(|id| server.tasks.get(id)) {
        let listen = Arc::downgrade(listen);
        tokio::spawn(async move {
            let mut turns = task.watch();
            while turns.changed().await.is_ok() {
                let Some(listen) = listen.upgrade() else { return };
                let text = format!("{{{}}}", whole(&task));
                listen.send("notifications/tasks", serde_json::from_str(&text).expect("JSON of our own"));
            }
        });
    }
}
