//! Questions on their way to a legacy client: real requests on the stream of the call they belong to.
//!
//! The gateway mints the ids of its questions, one series per session, and keeps who waits for which answer. A [`Leg`] is
//! one question under way; dropping it takes the question back, and the client is told. Where the connection of the call is
//! gone the question goes on the session's GET stream, if there is one; else it waits for the client to resume.
//!
//! What a question may look like differs by revision: [`for_legacy`] and [`for_modern`] rewrite what must be, and leave the
//! rest the server's own text (mcp-protocol 5.8).

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use trunkline_upstream::Question;
use trunkline_wire::{Id, Json, Method, Notification, Object, Request, Revision, RpcError, ServerName, code, key};

use crate::limits::{ANSWER_WAIT, SHOWN_URLS_MAX};
use crate::replay::Outbox;
use crate::session::Session;

/// What a client answered: its `result` or its `error`, as sent.
pub(crate) type Answer = Result<Json, Json>;

/// The questions that a session's client has not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// By the id that the client sees.
    answers: HashMap<Bytes, oneshot::Sender<Answer>>,
    /// Ids of the URLs shown last: word that one is done goes to whom it was shown.
    shown: VecDeque<Box<str>>,
}

/// One question under way to a legacy client. Resolves to the answer, or after [`ANSWER_WAIT`] to what a person would say
/// who closed the form.
pub(crate) struct Leg {
    session: Arc<Session>,
    outbox: Arc<Outbox>,
    id: Id,
    method: Method,
    answer: oneshot::Receiver<Answer>,
    patience: Pin<Box<Sleep>>,
    over: bool,
}

impl Leg {
    /// Puts a question to the client of `session`, on the stream of the call that `outbox` belongs to.
    pub(crate) fn put(session: &Arc<Session>, outbox: &Arc<Outbox>, method: &Method, params: &Object) -> Self {
        let (tell, answer) = oneshot::channel();
        let id = session.questions().mint(tell);
        if let Some(elicitation) = params.get_str("elicitationId") {
            session.questions().show(&elicitation);
        }
        let params = (!params.is_empty()).then(|| params.to_json());
        let question = Request { id: id.clone(), method: method.clone(), params }.encode();
        if outbox.is_read() || !session.tell(&id, &question) {
            outbox.question(question);
        }
        let (session, outbox, method) = (Arc::clone(session), Arc::clone(outbox), method.clone());
        Self { session, outbox, id, method, answer, patience: Box::pin(sleep(ANSWER_WAIT)), over: false }
    }

    /// What was asked.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }
}

impl Future for Leg {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(context) {
            self.over = true;
            // The session ended, and with it whoever could answer.
            return Poll::Ready(answer.unwrap_or_else(|_| no_answer(&self.method)));
        }
        self.patience.as_mut().poll(context).map(|()| no_answer(&self.method))
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.session.questions().forget(&self.id);
        let params = [("requestId", self.id.json().clone()), ("reason", Json::from("no answer is needed any more"))];
        let params: Object = params.into_iter().collect();
        let notice = Notification { method: Method::Cancelled, params: Some(params.to_json()) };
        self.outbox.notice(notice.encode());
    }
}

impl Questions {
    /// None yet; their ids are numbered from here on.
    pub(crate) fn after(last: u64) -> Self {
        Self(Mutex::new(Waiting { last, ..Waiting::default() }))
    }

    /// Takes what a client sent as an answer. `false` if nothing of that id was asked, or it was answered.
    pub(crate) fn answered(&self, id: &Id, answer: Answer) -> bool {
        let waiting = self.lock().answers.remove(&id.key());
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// Ends all questions: the session is over.
    pub(crate) fn end(&self) {
        self.lock().answers.clear();
    }

    /// Notes that the client was shown a URL of this id.
    pub(crate) fn show(&self, elicitation: &str) {
        let mut waiting = self.lock();
        if waiting.shown.len() >= SHOWN_URLS_MAX {
            waiting.shown.pop_front();
        }
        waiting.shown.push_back(elicitation.into());
    }

    /// Whether the client was shown a URL of this id.
    pub(crate) fn was_shown(&self, elicitation: &str) -> bool {
        self.lock().shown.iter().any(|shown| **shown == *elicitation)
    }

    /// Names a question; `tell` gets the answer.
    pub(crate) fn mint(&self, tell: oneshot::Sender<Answer>) -> Id {
        let mut waiting = self.lock();
        waiting.last += 1;
        let id = Id::new(Json::from(format!("tl-{}", waiting.last).as_str())).expect("a string is an id");
        waiting.answers.insert(id.key(), tell);
        id
    }

    fn forget(&self, id: &Id) {
        self.lock().answers.remove(&id.key());
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a question sends a person to a page that nobody should be sent to: by other means than TLS, unless it is on this
/// machine, or to no page at all (S-40).
pub(crate) fn misleads(question: &Question) -> bool {
    let params = question.params.as_ref().filter(|_| question.method == Method::ElicitationCreate);
    params.is_some_and(leads_astray)
}

/// The same, of the parameters of a question.
pub(crate) fn leads_astray(params: &Json) -> bool {
    let Ok(params) = Object::parse(params) else { return false };
    params.get_str("mode").as_deref() == Some("url") && !params.get_str("url").is_some_and(|url| is_safe_page(&url))
}

fn is_safe_page(url: &str) -> bool {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return false;
    }
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    // As browsers read it: a backslash ends the host, too, and what stands before an `@` is none.
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let here = || {
        let name = host.strip_prefix('[').map_or_else(|| host.split(':').next(), |rest| rest.split(']').next());
        let name = name.unwrap_or_default();
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
    };
    !host.is_empty() && (scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") && here())
}

/// What stands for the answer of a person who is not there (mcp-protocol 5.9 rule 12).
pub(crate) fn no_answer(method: &Method) -> Answer {
    if *method == Method::ElicitationCreate {
        return Ok(Json::literal(r#"{"action":"cancel"}"#));
    }
    if *method == Method::RootsList {
        return Ok(Json::literal(r#"{"roots":[]}"#));
    }
    Err(RpcError::new(code::USER_REJECTED, "nobody answered").to_json())
}

/// The `params` of a question for a legacy client of `revision`; `None` if it has no form that the client could show.
pub(crate) fn for_legacy(question: &Question, server: &ServerName, revision: Revision) -> Option<Object> {
    let mut params = owned(question, server)?;
    let newest = revision >= Revision::V2025_11_25;
    if question.method == Method::ElicitationCreate {
        if params.get_str("mode").as_deref() == Some("url") {
            // Required by 2025-11-25, unknown to modern servers.
            if params.get("elicitationId").is_none() {
                params.set("elicitationId", Json::from(random_uuid().as_str()));
            }
        } else if !newest {
            params.remove("mode");
            if let Some(schema) = params.get("requestedSchema").filter(|schema| needs_older_form(schema)) {
                let older = older_form(schema)?;
                params.set("requestedSchema", older);
            }
        }
    } else if question.method == Method::SamplingCreateMessage && !newest {
        single_contents(&mut params)?;
    }
    Some(params)
}

/// The `params` of a question for a modern client.
pub(crate) fn for_modern(question: &Question, server: &ServerName) -> Object {
    let mut params = owned(question, server).unwrap_or_default();
    // Modern clients have no such notion (mcp-protocol 1.3).
    params.remove("elicitationId");
    params
}

/// What holds for every client: the keys of this hop stay here, and a person sees who asks.
fn owned(question: &Question, server: &ServerName) -> Option<Object> {
    let mut params = match &question.params {
        Some(params) => Object::parse(params).ok()?,
        None => Object::new(),
    };
    params.remove("task");
    if let Some(mut meta) = params.get_object("_meta") {
        meta.retain(|name| name != key::PROGRESS_TOKEN && name != key::RELATED_TASK);
        if meta.is_empty() { drop(params.remove("_meta")) } else { params.set("_meta", meta.to_json()) }
    }
    if question.method == Method::ElicitationCreate
        && let Some(message) = params.get_str("message")
    {
        params.set("message", Json::from(format!("[{server}] {message}").as_str()));
    }
    // "This server" would mean the whole gateway to the client.
    if question.method == Method::SamplingCreateMessage
        && matches!(params.get_str("includeContext").as_deref(), Some("thisServer" | "allServers"))
    {
        params.set("includeContext", Json::from("none"));
    }
    Some(params)
}

/// Whether a form has anything that 2025-06-18 does not know.
fn needs_older_form(schema: &Json) -> bool {
    let text = schema.as_bytes();
    [&b"\"oneOf\""[..], b"\"anyOf\"", b"\"array\"", b"\"default\""]
        .into_iter()
        .any(|word| memchr::memmem::find(text, word).is_some())
}

/// A form as 2025-06-18 knows it: titled choices by `enumNames`, defaults of booleans alone. `None` if a field lets a
/// person choose several values, which that revision cannot show.
fn older_form(schema: &Json) -> Option<Json> {
    let mut schema: Value = schema.decode().ok()?;
    for field in schema.get_mut("properties")?.as_object_mut()?.values_mut() {
        let field = field.as_object_mut()?;
        if field.get("type") == Some(&json!("array")) {
            return None;
        }
        if field.get("type") != Some(&json!("boolean")) {
            field.remove("default");
        }
        if let Some(Value::Array(choices)) = field.remove("oneOf") {
            let each = |key: &str| choices.iter().map(|choice| choice.get(key).cloned()).collect::<Option<Vec<_>>>();
            field.insert("enum".to_owned(), each("const")?.into());
            field.insert("enumNames".to_owned(), each("title")?.into());
        }
    }
    Some(Json::encode(&schema))
}

/// Messages whose `content` is a list get its one block; `None` if one has several, or a block of tools.
fn single_contents(params: &mut Object) -> Option<()> {
    let Some(messages) = params.get("messages") else { return Some(()) };
    let mut messages: Vec<Value> = messages.decode().ok()?;
    let mut changed = false;
    for message in &mut messages {
        let content = message.get_mut("content")?;
        if let Value::Array(blocks) = content {
            if blocks.len() != 1 {
                return None;
            }
            *content = blocks.pop()?;
            changed = true;
        }
        if matches!(content.get("type").and_then(Value::as_str), Some("tool_use" | "tool_result")) {
            return None;
        }
    }
    if changed {
        params.set("messages", Json::encode(&messages));
    }
    Some(())
}

/// A random UUID, as text.
fn random_uuid() -> String {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits).expect("the kernel gives random bytes");
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bits));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests;
