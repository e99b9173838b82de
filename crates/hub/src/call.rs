//! The relay of one request to the server it is for (architecture 6).
//!
//! [`aim`] finds the server and makes the request its own: one shallow look at `params`, one lookup. [`run`]
//! carries it out: notices go back as they come, the answer as the server wrote it. Results are not decoded;
//! where a rule wants to look into one, a byte search says first whether there can be anything to find.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;
use trunkline_upstream::{Ask, CallEvent, Upstream};
use trunkline_wire::{ExposedName, Fault, Json, Method, Notification, Object, Request, Revision};

use crate::Hub;
use crate::catalog::Table;
use crate::catalog::output::Output;
use crate::client::Caller;
use crate::logging::{self, LogLevel};
use crate::meta;
use crate::progress::Progress;
use crate::refusal;
use crate::replay::Outbox;
use crate::resources::{self, Place};
use crate::shapes::{self, Crossing};

/// How long after a server became ready its list may still be missing from the catalogue.
const LIST_LAG: Duration = Duration::from_secs(1);

/// A request that knows where it goes.
#[derive(Debug)]
pub(crate) struct Errand {
    upstream: Upstream,
    method: Method,
    params: Object,
    /// The client's progress token.
    token: Option<Json>,
    /// The tool, as clients call it. `None` for other methods, and for a tool that is to be looked up once its
    /// server has listed it.
    tool: Option<ExposedName>,
    /// What stands in front of the URI the client asked for, if it was wrapped.
    wrapped: Option<Box<str>>,
    /// The client's.
    revision: Revision,
}

/// Who hears the notices of a call.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Who made it: whose threshold counts, and who can be asked.
    pub caller: Caller,
    /// Where they go.
    pub outbox: Arc<Outbox>,
}

impl Listener {
    /// From which level on log messages go to the caller; `None` if none do. A session that never set one gets
    /// warnings of its own calls (mcp-protocol 5.7).
    fn level(&self) -> Option<LogLevel> {
        match &self.caller {
            Caller::Legacy(session) => Some(session.level().unwrap_or(logging::DEFAULT_LEVEL)),
            Caller::Modern(client) => client.level,
        }
    }
}

/// Finds out where a request goes: a tool, a prompt, a completion, or a resource to be read. Fails with the outcome,
/// where the gateway knows it without asking anybody. The outcome will be in the shapes of `revision`.
pub(crate) fn aim(hub: &Hub, request: &Request, revision: Revision) -> Result<Errand, Result<Json, Json>> {
    let invalid = |text: String| Err(refusal::invalid_params(text));
    let mut params = request.params().map_err(|error| invalid(error.to_string()))?;
    let catalog = hub.catalog();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sends four methods here")]
    let (upstream, tool, wrapped) = match &request.method {
        Method::ToolsCall => match by_name(hub, &catalog.tools, &mut params, "tool") {
            Ok((upstream, name)) => (upstream, Some(name), None),
            Err(text) => match unlisted(hub, &catalog.tools, &params) {
                Some(upstream) => (upstream, None, None),
                None => return Err(invalid(text)),
            },
        },
        Method::PromptsGet => {
            let (upstream, _) = by_name(hub, &catalog.prompts, &mut params, "prompt").map_err(invalid)?;
            (upstream, None, None)
        }
        Method::CompletionComplete => {
            let upstream = by_reference(hub, &mut params).map_err(invalid)?;
            if !upstream.offer().capabilities.completions {
                return Err(Ok(Json::literal(r#"{"completion":{"values":[],"total":0,"hasMore":false}}"#)));
            }
            (upstream, None, None)
        }
        _ => {
            let uri = params.get_str("uri").ok_or_else(|| invalid("`uri` is missing".to_owned()))?;
            let place = hub.resource(&uri).ok_or_else(|| Err(refusal::unknown_resource(&uri, revision.era())))?;
            params.set("uri", Json::from(&*place.uri));
            let Place { upstream, head, .. } = place;
            (upstream, None, head)
        }
    };
    let token = meta::forward(&mut params)
        .map_err(|meta::TooManyHops| hub.dress(&request.method, &refusal::too_many_hops(upstream.name())))?;
    Ok(Errand { upstream, method: request.method.clone(), params, token, tool, wrapped, revision })
}

/// Carries the request out. Dropping the future gives it up, and the server is told.
pub(crate) async fn run(hub: &Hub, errand: Errand, listener: Option<Listener>) -> Result<Json, Json> {
    let Errand { mut upstream, method, mut params, token, mut tool, wrapped, revision } = errand;
    if method == Method::ToolsCall && tool.is_none() {
        match listed(hub, &upstream, &mut params).await {
            Ok((owner, name)) => (upstream, tool) = (owner, Some(name)),
            Err(outcome) => return outcome,
        }
    }
    let caller = listener.as_ref().map(|listener| listener.caller.facts(true)).unwrap_or_default();
    let ask = Ask { method: method.clone(), params, progress: token.is_some(), caller };
    let mut relay = Relay { upstream: &upstream, listener, progress: token.map(Progress::new) };
    // One span a call, never its contents (reliability 10).
    let name = tool.as_ref().map(ExposedName::as_str);
    let span = tracing::debug_span!("call", server = %upstream.name(), method = method.label(), tool = name);
    let began = Instant::now();
    let ended = relay.run(ask).instrument(span.clone()).await;
    let outcome = match &ended {
        Ok(Ok(_)) => "ok",
        Ok(Err(_)) => "error",
        Err(_) => "fault",
    };
    tracing::debug!(parent: &span, outcome, micros = began.elapsed().as_micros(), "ended");
    if let Some(tool) = &tool {
        hub.metrics().tool_call(upstream.name(), tool.as_str(), outcome);
    }
    let crossing = || Crossing { from: upstream.offer().revision.unwrap_or(Revision::NEWEST_LEGACY), to: revision };
    match ended {
        Ok(Ok(result)) => {
            resources::mentioned(&result, |uri| hub.note_resource(uri, upstream.name()));
            let result = match wrapped {
                Some(head) => resources::wrap_contents(&result, &head),
                None if method == Method::ToolsCall => with_content(result),
                None => result,
            };
            let output = || {
                let catalog = hub.catalog();
                let entry = tool.as_ref().and_then(|tool| catalog.tools.get(tool.as_str()));
                entry.map_or(Output::Absent, |entry| entry.output)
            };
            Ok(shapes::result(crossing(), &method, result, output))
        }
        Ok(Err(error)) => Err(shapes::error(crossing(), &method, error)),
        Err(fault) => hub.dress(&method, &fault),
    }
}

/// One call in progress.
struct Relay<'a> {
    upstream: &'a Upstream,
    listener: Option<Listener>,
    progress: Option<Progress>,
}

impl Relay<'_> {
    async fn run(&mut self, ask: Ask) -> Result<Result<Json, Json>, Fault> {
        let mut call = self.upstream.call(ask).await.map_err(|error| error.fault())?;
        loop {
            let event = match self.progress.as_ref().and_then(Progress::due) {
                None => call.next().await,
                Some(due) => tokio::select! {
                    biased;
                    event = call.next() => event,
                    () = sleep_until(due) => {
                        self.flush();
                        continue;
                    }
                },
            };
            if let Some(ended) = self.take(event) {
                return ended;
            }
        }
    }

    /// Passes a notice on, or says how the call ended; what was held back goes out before.
    fn take(&mut self, event: CallEvent) -> Option<Result<Result<Json, Json>, Fault>> {
        let ended = match event {
            CallEvent::Notice(notice) => {
                self.notice(&notice);
                return None;
            }
            // Nobody can be asked yet.
            CallEvent::Asked(_) | CallEvent::Withdrawn(_) => return None,
            CallEvent::Done(outcome) => Ok(outcome),
            CallEvent::Failed(error) => Err(error.fault()),
        };
        self.flush();
        Some(ended)
    }

    fn notice(&mut self, notice: &Notification) {
        let Some(listener) = &self.listener else { return };
        let message = if notice.method == Method::Progress {
            self.progress.as_mut().and_then(|progress| progress.take(notice, Instant::now()))
        } else if notice.method == Method::LogMessage {
            notice.params.as_ref().and_then(|params| logging::message(params, self.upstream.name(), listener.level()?))
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
        if let (Some(listener), Some(message)) = (&self.listener, message) {
            listener.outbox.notice(message);
        }
    }
}

/// Looks the member `name` up and puts the server's own name in its place.
fn by_name(hub: &Hub, table: &Table, params: &mut Object, noun: &str) -> Result<(Upstream, ExposedName), String> {
    let name = params.get_str("name").ok_or("`name` is missing or no string")?;
    let entry = table.get(&name).ok_or_else(|| unknown(hub, noun, &name))?;
    params.set("name", entry.original_json.clone());
    Ok((entry.upstream.clone(), entry.name.clone()))
}

/// Says that there is no such name, and if its server is away, which may be the reason, what is the matter with that.
fn unknown(hub: &Hub, noun: &str, name: &str) -> String {
    let is_of = |it: &&Upstream| has_prefix_of(name, it);
    let away = hub.fleet().all().iter().filter(is_of).find_map(|it| it.status().reason);
    let away = away.map_or_else(String::new, |reason| format!("; {reason}"));
    format!("unknown {noun}: {}{away}", shown(name))
}

/// Whether this name would be one of the server's. For texts and waits alone: no call is ever routed by a prefix.
fn has_prefix_of(name: &str, upstream: &Upstream) -> bool {
    name.strip_prefix(&upstream.name().namespace()).is_some_and(|rest| rest.starts_with("__"))
}

/// The server that may list the tool as soon as it lists anything: clients know its tools from before the daemon was
/// started, and do not list again (clients 1.2).
fn unlisted(hub: &Hub, tools: &Table, params: &Object) -> Option<Upstream> {
    let name = params.get_str("name")?;
    let is_it = |it: &&Upstream| it.config().enabled && has_prefix_of(&name, it) && !tools.has_any_of(it.name());
    hub.fleet().all().iter().find(is_it).cloned()
}

/// Waits for that server, as a call does, and then for its list to be in the catalogue.
async fn listed(
    hub: &Hub,
    upstream: &Upstream,
    params: &mut Object,
) -> Result<(Upstream, ExposedName), Result<Json, Json>> {
    let mut catalogs = hub.catalogs();
    upstream.ready().await.map_err(|error| hub.dress(&Method::ToolsCall, &error.fault()))?;
    let until = Instant::now() + LIST_LAG;
    loop {
        let catalog = Arc::clone(&catalogs.borrow_and_update());
        match by_name(hub, &catalog.tools, params, "tool") {
            Ok(found) => return Ok(found),
            Err(text) if !matches!(timeout_at(until, catalogs.changed()).await, Ok(Ok(()))) => {
                return Err(Err(refusal::invalid_params(text)));
            }
            Err(_) => {}
        }
    }
}

/// Looks the reference of a completion up and makes it the server's own (mcp-protocol 5.6).
fn by_reference(hub: &Hub, params: &mut Object) -> Result<Upstream, String> {
    let mut reference = params.get_object("ref").ok_or("`ref` is missing or no object")?;
    let upstream = match reference.get_str("type").as_deref() {
        Some("ref/prompt") => {
            reference.remove("title");
            by_name(hub, &hub.catalog().prompts, &mut reference, "prompt")?.0
        }
        Some("ref/resource") => {
            let uri = reference.get_str("uri").ok_or("`ref.uri` is missing or no string")?;
            let place = hub.reference(&uri).ok_or_else(|| format!("unknown resource: {}", shown(&uri)))?;
            reference.set("uri", Json::from(&*place.uri));
            place.upstream
        }
        _ => return Err("`ref.type` is neither `ref/prompt` nor `ref/resource`".to_owned()),
    };
    params.set("ref", reference.to_json());
    if upstream.offer().revision.is_some_and(|revision| revision < Revision::V2025_06_18) {
        params.remove("context");
    }
    Ok(upstream)
}

/// Adds the `content` that every revision demands where a server sent `structuredContent` alone.
fn with_content(result: Json) -> Json {
    let text = result.as_bytes();
    // Nearly every server writes `content` first; a look at the start saves reading the rest.
    if text.starts_with(b"{\"content\"") || memchr::memmem::find(text, b"\"structuredContent\"").is_none() {
        return result;
    }
    match Object::parse(&result) {
        Ok(mut object) if object.get("content").is_none() && object.get("structuredContent").is_some() => {
            object.set("content", Json::literal("[]"));
            object.to_json()
        }
        _ => result,
    }
}

/// A client's text, cut for an error message.
fn shown(text: &str) -> String {
    trunkline_telemetry::redact::printable(text, 128)
}

#[cfg(test)]
mod tests {
    use trunkline_wire::Id;

    use super::*;
    use crate::fakes;

    fn notice(method: Method, params: &'static str) -> CallEvent {
        CallEvent::Notice(Notification { method, params: Some(Json::literal(params)) })
    }

    #[tokio::test(start_paused = true)]
    async fn notices_come_back_in_the_clients_terms_and_before_the_answer() {
        let hub = fakes::hub(&[("git", fakes::server())], &trunkline_config::Config::default());
        let session = fakes::session(&hub, "2025-06-18");
        let outbox = Arc::new(Outbox::new(Id::from(7), session.purse().clone()));
        let caller = Caller::Legacy(session);
        let listener = Some(Listener { caller, outbox: Arc::clone(&outbox) });
        let progress = Some(Progress::new(Json::from("mine")));
        let mut relay = Relay { upstream: &hub.fleet().all()[0], listener, progress };
        for event in [
            notice(Method::Progress, r#"{"progressToken":3,"progress":1}"#),
            notice(Method::LogMessage, r#"{"level":"debug","data":"beneath the threshold"}"#),
            notice(Method::LogMessage, r#"{"level":"error","data":"x"}"#),
            notice(Method::ToolsListChanged, "{}"),
            notice(Method::Progress, r#"{"progressToken":3,"progress":2}"#),
        ] {
            assert!(relay.take(event).is_none());
        }
        let answer = Json::literal(r#"{ "content":[],"n":1e2 }"#);
        assert_eq!(relay.take(CallEvent::Done(Ok(answer.clone()))), Some(Ok(Ok(answer))));
        let mut reader = outbox.commit(1);
        outbox.answer("answer".into());
        let context = std::task::Context::from_waker(futures_util::task::noop_waker_ref());
        let mut sent = Vec::new();
        while let std::task::Poll::Ready(Some(event)) = outbox.poll_event(&mut reader, &context) {
            sent.push(String::from_utf8(event.data.into_bytes().to_vec()).expect("text"));
        }
        assert_eq!(
            sent,
            [
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x","logger":"git"}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":2}}"#,
                "answer",
            ]
        );
    }

    #[test]
    fn content_is_added_only_where_it_lacks() {
        let with = |text: &'static str| with_content(Json::literal(text));
        assert_eq!(
            with(r#"{"structuredContent":{"content":1}}"#),
            Json::literal(r#"{"structuredContent":{"content":1},"content":[]}"#)
        );
        for fine in [
            r#"{ "structuredContent":{},"content":[] }"#,
            r#"{"content":[],"structuredContent":{}}"#,
            r#"{"content":[{"type":"text","text":"\"structuredContent\""}]}"#,
            r#"{"toolResult":1}"#,
        ] {
            assert_eq!(with(fine), Json::literal(fine));
        }
    }
}
