//! `subscriptions/listen`: what changed, on a stream of its own (mcp-protocol 3.8).

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::ext_tasks;
use crate::message::{Failure, Params};
use crate::modern::KEY;
use crate::options::Mode;
use crate::protocol::{Answer, Server};
use crate::session::{Lines, Session};

pub(crate) struct Listen {
    /// The listen request's id, as text.
    id: String,
    /// What was honoured, as it was acknowledged.
    filter: Value,
    lines: Lines,
    end: Mutex<Option<oneshot::Sender<End>>>,
}

/// How the server ends a subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the result of the listen request.
    Graceful,
    /// Without: the stream breaks off; on pipes `notifications/cancelled` says so.
    Drop,
}

/// Acknowledges what can be honoured, and stays open until either side ends it.
pub(crate) fn open(
    server: &Arc<Server>,
    id: &str,
    params: &Params<'_>,
    session: &Arc<Session>,
    lines: &Lines,
) -> Answer {
    let wanted = params.notifications.and_then(|wanted| serde_json::from_str::<Value>(wanted.get()).ok());
    let Some(Value::Object(wanted)) = wanted else {
        server.desk.note("violations", "subscriptions/listen without notifications");
        return Answer::Now(Failure::from((-32602, "notifications is missing".to_owned())).reply(id));
    };
    let mut filter = json!({});
    for key in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        if wanted.get(key) == Some(&Value::Bool(true)) && !server.options.no_changes {
            filter[key] = true.into();
        }
    }
    for key in ["resourceSubscriptions", "taskIds"] {
        let allowed = if key == "taskIds" {
            ext_tasks::declared(&crate::modern::capabilities_of(params))
        } else {
            !server.options.no_changes
        };
        if let Some(list) = wanted.get(key).filter(|_| allowed) {
            filter[key] = list.clone();
        }
    }
    let (end, ended) = oneshot::channel();
    let listen = Arc::new(Listen {
        id: id.to_owned(),
        filter: filter.clone(),
        lines: lines.clone(),
        end: Mutex::new(Some(end)),
    });
    {
        // Nothing may come before the acknowledgment, and nothing after it be missed.
        let mut listens = server.listens.lock().expect("short");
        listen.send("notifications/subscriptions/acknowledged", json!({ "notifications": filter }));
        listens.push(listen.clone());
    }
    server.desk.note("listens", &format!(r#"{{"id":{id},"event":"open","filter":{filter}}}"#));
    ext_tasks::watch(server, &listen, &listen.filter["taskIds"]);
    let guard = Guard { server: server.clone(), listen: listen.clone() };
    let quiet_end = server.options.mode == Mode::Stdio;
    session.cancellable_quietly(id, async move {
        let how = ended.await.unwrap_or(End::Drop);
        let listen = &guard.listen;
        if how == End::Graceful {
            return Some(format!(
                r#"{{"jsonrpc":"2.0","id":{0},"result":{{"resultType":"complete","_meta":{{"{KEY}subscriptionId":{0}}}}}}}"#,
                listen.id
            ));
        }
        quiet_end.then(|| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{}}}}}"#, listen.id)
        })
    })
}

impl Listen {
    /// Sends a notification with the subscription's id. A reader that does not keep up loses it.
    pub(crate) fn send(&self, method: &str, mut params: Value) {
        let id: Value = serde_json::from_str(&self.id).expect("an id is JSON");
        params["_meta"] = json!({ format!("{KEY}subscriptionId"): id });
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let _ = self.lines.try_send(message.to_string());
    }
}

/// Tells everybody who asked that a list changed; `kind` is `tools`, `prompts` or `resources`.
pub(crate) fn changed(server: &Server, kind: &str) {
    let key = format!("{kind}ListChanged");
    for listen in server.listens.lock().expect("short").iter() {
        if listen.filter[&key] == true {
            listen.send(&format!("notifications/{kind}/list_changed"), json!({}));
        }
    }
}

/// Tells everybody who named this URI, or one above it, that it changed.
pub(crate) fn updated(server: &Server, uri: &str) {
    for listen in server.listens.lock().expect("short").iter() {
        let named = listen.filter["resourceSubscriptions"].as_array();
        let covers = |named: &Value| {
            let named = named.as_str().unwrap_or_default();
            uri == named || uri.strip_prefix(named).is_some_and(|rest| rest.starts_with('/'))
        };
        if named.is_some_and(|named| named.iter().any(covers)) {
            listen.send("notifications/resources/updated", json!({ "uri": uri, "x-odd": "kept" }));
        }
    }
}

pub(crate) fn end_all(server: &Server, how: End) {
    for listen in server.listens.lock().expect("short").iter() {
        if let Some(end) = listen.end.lock().expect("short").take() {
            let _ = end.send(how);
        }
    }
}

/// Takes the subscription off the list, however it ended.
struct Guard {
    server: Arc<Server>,
    listen: Arc<Listen>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.server.listens.lock().expect("short").retain(|other| !Arc::ptr_eq(other, &self.listen));
        let line = format!(r#"{{"id":{},"event":"closed"}}"#, self.listen.id);
        self.server.desk.note("listens", &line);
    }
}
