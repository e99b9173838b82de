//! The MCP server behind every transport: envelope in, answer out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::desk::Desk;
use crate::options::{Fault, Options};
use crate::tools;

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Where messages to the client go: the line writer, an event stream.
pub(crate) type Lines = mpsc::Sender<String>;

pub(crate) enum Answer {
    Nothing,
    Now(String),
    /// Ends with the reply, or with none when the call was cancelled.
    Later(Pin<Box<dyn Future<Output = Option<String>> + Send>>),
}

pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) desk: Desk,
    pub(crate) sessions: Mutex<Vec<Arc<Session>>>,
    /// Tools that the tool `change` added.
    pub(crate) added: Mutex<Vec<String>>,
    faults_left: AtomicU64,
}

/// One client's connection.
pub(crate) struct Session {
    /// For messages that belong to no request; replaced when an HTTP client opens its GET stream.
    pub(crate) unrelated: Mutex<Lines>,
    pub(crate) subscribed: Mutex<HashSet<String>>,
    pub(crate) level: Mutex<u8>,
    pub(crate) revision: Mutex<String>,
    running: Mutex<HashMap<String, oneshot::Sender<()>>>,
    asked: Mutex<HashMap<String, oneshot::Sender<String>>>,
    next_question: AtomicU64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// The members of `params` that any method here looks at.
#[derive(Deserialize, Default)]
pub(crate) struct Params<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "protocolVersion")]
    revision: Option<Cow<'a, str>>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "_meta")]
    pub(crate) meta: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) argument: Option<&'a RawValue>,
}

/// A tool call that may take its time: what it needs of the world.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) session: Arc<Session>,
    /// Messages that belong to this call.
    pub(crate) lines: Lines,
    pub(crate) progress_token: Option<String>,
}

impl Session {
    pub(crate) fn new(unrelated: Lines) -> Session {
        Session {
            unrelated: Mutex::new(unrelated),
            subscribed: Mutex::default(),
            level: Mutex::new(4),
            revision: Mutex::default(),
            running: Mutex::default(),
            asked: Mutex::default(),
            next_question: AtomicU64::new(1),
        }
    }

    /// Sends a message that belongs to no request.
    pub(crate) async fn tell(&self, message: String) {
        let lines = self.unrelated.lock().expect("short").clone();
        let _ = lines.send(message).await;
    }

    /// Asks the client something on the call's stream, and returns the whole answer's text.
    pub(crate) async fn ask(&self, lines: &Lines, method: &str, params: &str) -> String {
        let id = format!("\"q-{}\"", self.next_question.fetch_add(1, Ordering::Relaxed));
        let (answer, arrived) = oneshot::channel();
        self.asked.lock().expect("short").insert(id.clone(), answer);
        let question = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let _ = lines.send(question).await;
        arrived.await.unwrap_or_default()
    }
}

impl Server {
    pub(crate) fn new(options: Options) -> Server {
        let limit = options.fault.and_then(|(_, limit)| limit).unwrap_or(u64::MAX);
        Server {
            desk: Desk::new(options.desk.as_deref()),
            sessions: Mutex::default(),
            added: Mutex::default(),
            faults_left: AtomicU64::new(limit),
            options,
        }
    }

    /// The fault in force for what comes in now. Asking counts against a limited fault.
    pub(crate) fn fault(&self) -> Option<Fault> {
        if let Some(fault) = self.desk.fault() {
            return Some(fault);
        }
        let (fault, _) = self.options.fault?;
        let left = self.faults_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.ok().map(|_| fault)
    }

    pub(crate) fn adopt(&self, session: &Arc<Session>) {
        self.sessions.lock().expect("short").push(session.clone());
    }

    pub(crate) fn forget(&self, session: &Arc<Session>) {
        self.sessions.lock().expect("short").retain(|other| !Arc::ptr_eq(other, session));
    }

    /// Takes one message. `lines` is where messages go that belong to it.
    pub(crate) fn receive(self: &Arc<Self>, text: &str, session: &Arc<Session>, lines: &Lines) -> Answer {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            return Answer::Now(error("null", -32700, "not JSON"));
        };
        let Some(method) = envelope.method.as_deref() else {
            if let Some(id) = envelope.id
                && let Some(asker) = session.asked.lock().expect("short").remove(id.get())
            {
                let _ = asker.send(text.to_owned());
            }
            return Answer::Nothing;
        };
        let params: Params<'_> = match envelope.params {
            Some(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
            None => Params::default(),
        };
        let Some(id) = envelope.id.map(RawValue::get) else {
            self.notified(method, &params, text, session);
            return Answer::Nothing;
        };
        if method == "tools/call" {
            return self.call(id, &params, session, lines);
        }
        Answer::Now(match self.request(method, &params, session) {
            Ok(result) => success(id, &result),
            Err((code, text)) => error(id, code, &text),
        })
    }

    fn notified(&self, method: &str, params: &Params<'_>, text: &str, session: &Session) {
        if method != "notifications/cancelled" {
            return;
        }
        self.desk.note("cancelled", text);
        if let Some(id) = params.request_id {
            // Dropping the sender is the signal.
            session.running.lock().expect("short").remove(id.get());
        }
    }

    fn request(&self, method: &str, params: &Params<'_>, session: &Session) -> Result<String, (i64, String)> {
        match method {
            "initialize" => Ok(self.initialize(params, session)),
            "ping" => Ok("{}".into()),
            "tools/list" if self.fault() == Some(Fault::NoTools) => Err((-32603, "the tool index is broken".into())),
            "tools/list" => Ok(tools::list(self, params)),
            "prompts/list" => Ok(tools::prompts()),
            "prompts/get" => tools::prompt(params),
            "resources/list" => Ok(tools::resources(self)),
            "resources/templates/list" => Ok(tools::templates(self)),
            "resources/read" => tools::read(self, params),
            "resources/subscribe" | "resources/unsubscribe" => {
                let uri = params.uri.clone().unwrap_or_default().into_owned();
                let mut subscribed = session.subscribed.lock().expect("short");
                if method.ends_with("/subscribe") {
                    subscribed.insert(uri)
                } else {
                    subscribed.remove(&uri)
                };
                Ok("{}".into())
            }
            "completion/complete" => Ok(tools::complete(params)),
            "logging/setLevel" => {
                *session.level.lock().expect("short") = severity(params.level.as_deref().unwrap_or_default());
                Ok("{}".into())
            }
            _ => Err((-32601, format!("Method not found: {method}"))),
        }
    }

    fn initialize(&self, params: &Params<'_>, session: &Session) -> String {
        let asked = params.revision.as_deref().unwrap_or_default();
        let known = REVISIONS.contains(&asked) && asked <= self.options.revision.as_str();
        let revision = if known { asked } else { &self.options.revision };
        revision.clone_into(&mut session.revision.lock().expect("short"));
        format!(
            concat!(
                r#"{{"protocolVersion":"{}","capabilities":{{"tools":{{"listChanged":true}},"#,
                r#""prompts":{{"listChanged":true}},"resources":{{"subscribe":true,"listChanged":true}},"#,
                r#""completions":{{}},"logging":{{}}}},"serverInfo":{{"name":"{}","version":"1.0.0"}},"#,
                r#""instructions":"{} is a fake: it does what the test asks for."}}"#
            ),
            revision, self.options.name, self.options.name
        )
    }

    fn call(self: &Arc<Self>, id: &str, params: &Params<'_>, session: &Arc<Session>, lines: &Lines) -> Answer {
        if self.options.delay.is_zero()
            && let Some(result) = tools::at_once(params)
        {
            return Answer::Now(success(id, &result));
        }
        let call = Call {
            server: self.clone(),
            session: session.clone(),
            lines: lines.clone(),
            progress_token: params.meta.and_then(|meta| member(meta.get(), "progressToken")),
        };
        let (cancel, cancelled) = oneshot::channel();
        session.running.lock().expect("short").insert(id.to_owned(), cancel);
        let name = params.name.clone().unwrap_or_default().into_owned();
        let arguments = params.arguments.map_or("{}", RawValue::get).to_owned();
        let at_once = tools::at_once(params);
        let id = id.to_owned();
        Answer::Later(Box::pin(async move {
            let session = call.session.clone();
            let work = async {
                tokio::time::sleep(call.server.options.delay).await;
                match at_once {
                    Some(result) => Ok(result),
                    None => tools::run(&call, &name, &arguments).await,
                }
            };
            let reply = tokio::select! {
                outcome = work => Some(match outcome {
                    Ok(result) => success(&id, &result),
                    Err((code, text)) => error(&id, code, &text),
                }),
                _ = cancelled => None,
            };
            session.running.lock().expect("short").remove(&id);
            reply
        }))
    }
}

/// The raw text of a member of a JSON object, if it is there.
pub(crate) fn member(object: &str, key: &str) -> Option<String> {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(object).ok()?;
    members.get(key).map(|value| value.get().to_owned())
}

/// The place of a log level in the order of severity, `debug` being 0.
pub(crate) fn severity(level: &str) -> u8 {
    let levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    let place = levels.iter().position(|known| *known == level).unwrap_or(0);
    u8::try_from(place).expect("there are eight")
}

fn success(id: &str, result: &str) -> String {
    let mut text = String::with_capacity(id.len() + result.len() + 36);
    text.push_str(r#"{"jsonrpc":"2.0","id":"#);
    text.push_str(id);
    text.push_str(r#","result":"#);
    text.push_str(result);
    text.push('}');
    text
}

fn error(id: &str, code: i64, text: &str) -> String {
    let text = serde_json::to_string(text).expect("a string is JSON");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{text}}}}}"#)
}
