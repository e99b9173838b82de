//! The relay of one request to the server it is for (architecture 6).
//!
//! [`aim()`] finds the server and makes the request its own (`call/aim.rs`). [`run`] carries it out: notices go back as they come (`relay.rs`), the answer as the server wrote it. Results are not decoded;
//! where a rule wants to look into one, a byte search says first whether there can be anything to find.

mod aim;

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;
use trunkline_config::{Sharing, ToolRules};
use trunkline_telemetry::{Ended as Noted, Span, Trace};
use trunkline_upstream::{Ask, Upstream};
use trunkline_wire::{ExposedName, Json, Method, Needle, Object, Revision, ServerName};

use crate::asking;
use crate::catalog::output::Output;
use crate::client::Caller;
use crate::errors;
use crate::input::{self, Retry};
use crate::lanes;
use crate::logging::{self, LogLevel};
use crate::meta::Params;
use crate::progress::Progress;
use crate::refusal;
use crate::relay::{Ended, Relay};
use crate::replay::Outbox;
use crate::resources;
use crate::seal::Subject;
use crate::shapes::{self, Crossing};
use crate::tasks;
use crate::traces;
use crate::{Hub, View};
use aim::listed;
pub(crate) use aim::{aim, aim_at, to_be_read};

/// A request that knows where it goes.
#[derive(Debug)]
pub(crate) struct Errand {
    upstream: Upstream,
    method: Method,
    params: Params,
    /// The client's progress token.
    token: Option<Json>,
    /// The tool, as clients call it. `None` for other methods, and for a tool that is to be looked up once its
    /// server has listed it.
    tool: Option<ExposedName>,
    /// What holds for the calls of that tool.
    rules: Option<Arc<ToolRules>>,
    /// What stands in front of the URI the client asked for, if it was wrapped.
    wrapped: Option<Box<str>>,
    /// The client's.
    revision: Revision,
    /// For a modern caller: what makes the request the same one again, should it be asked something.
    subject: Option<Subject>,
    /// What its client sees.
    view: View,
    /// What the request brings back from an earlier round.
    retry: Option<Retry>,
    /// The task that it is about, as the client names it.
    task: Option<Json>,
    /// Its span, where requests are traced.
    span: Option<Box<Span>>,
    /// The tool was named to `call_tool`.
    searched: bool,
}

impl Errand {
    /// The server it goes to.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

/// Who hears the notices of a call.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// Who made it: whose threshold counts, and who can be asked.
    pub caller: Caller,
    /// Where they go.
    pub outbox: Arc<Outbox>,
    /// Whether they can: the client takes a stream of events. Without one it can be asked nothing either.
    pub streams: bool,
}

impl Listener {
    /// From which level on log messages go to the caller; `None` if none do. A session that never set one gets
    /// warnings of its own calls (mcp-protocol 5.7).
    pub(crate) fn level(&self) -> Option<LogLevel> {
        match &self.caller {
            Caller::Legacy(session) => Some(session.level().unwrap_or(logging::DEFAULT_LEVEL)),
            Caller::Modern(client) => client.level,
        }
    }
}

/// Carries the request out. Dropping the future gives it up, and the server is told.
pub(crate) async fn run(hub: &Hub, mut errand: Errand, listener: Option<Listener>) -> Result<Json, Json> {
    let mut span = errand.span.take();
    if let Some(span) = span.as_mut().filter(|span| span.is_recorded()) {
        if let Some(tool) = &errand.tool {
            span.of_tool(tool.as_str());
        }
        if let Some(listener) = &listener {
            span.set("dev.trunkline.client", listener.caller.label().to_string());
        }
    }
    let trace = span.as_ref().map(|span| span.trace());
    let outcome = carry_out(hub, errand, listener, trace).await;
    traces::end(span, &outcome);
    outcome
}

async fn carry_out(hub: &Hub, errand: Errand, listener: Option<Listener>, trace: Option<Trace>) -> Result<Json, Json> {
    let Errand { mut upstream, method, mut params, token, mut tool, mut rules, .. } = errand;
    let Errand { wrapped, revision, subject, view, retry, task, searched, .. } = errand;
    if method == Method::ToolsCall && tool.is_none() {
        match listed(hub, &upstream, &view, &mut params.members, searched).await {
            Ok((owner, name, its)) => (upstream, tool, rules) = (owner, Some(name), its),
            Err(outcome) => return outcome,
        }
    }
    let caller = listener.as_ref().map(|listener| listener.caller.clone());
    let round = match &retry {
        Some(Retry::Url { answers, .. }) if !input::all_accepted(answers) => {
            return hub.dress(&method, &refusal::not_visited(upstream.name()));
        }
        Some(Retry::Url { round, .. }) => *round,
        _ => 0,
    };
    let mut facts = listener.as_ref().map(|listener| listener.caller.facts(listener.streams)).unwrap_or_default();
    if upstream.sharing() != Sharing::Shared
        && let Some(listener) = &listener
    {
        let ask_on = listener.streams.then_some(&listener.outbox);
        Box::pin(lanes::seat(hub, &upstream, &view, &listener.caller, ask_on, &mut facts)).await;
    }
    let Params { members, meta } = params;
    let sent_bytes = members.get("arguments").map_or(0, |arguments| arguments.as_bytes().len());
    let ask = Ask { method: method.clone(), params: members, meta, progress: token.is_some(), caller: facts, trace };
    let progress = token.map(|token| Progress::new(token, hub.rules().limits.progress_per_sec));
    let mut relay = Relay::new(hub, &upstream, listener, progress);
    // One span a call, never its contents (reliability 10).
    let name = tool.as_ref().map(ExposedName::as_str);
    let span = tracing::debug_span!("call", server = %upstream.name(), method = method.label(), tool = name);
    let began = Instant::now();
    let driving = async {
        match retry {
            Some(Retry::Park { nonce, answers }) => match hub.parks().take(&nonce).await {
                Some(parked) => Ok(relay.resume(parked, &answers).await),
                None => Err(Err(input::used())),
            },
            Some(Retry::Lost) => Err(hub.dress(&method, &refusal::lost_with_the_process(upstream.name()))),
            Some(Retry::Pass { .. } | Retry::Url { .. }) | None => {
                let leave = hub.leave(&upstream, tool.is_some(), rules.as_deref(), caller.as_ref()).await;
                Ok(relay.run_with(leave, ask).await)
            }
        }
    };
    let (server, caller_of) = (upstream.name(), caller.as_ref());
    let noting =
        tool.as_ref().map(|tool| Noting { hub, server, tool, caller: caller_of, sent_bytes, began, over: None });
    let ended = tokio::select! {
        biased;
        ended = driving.instrument(span.clone()) => match ended {
            Ok(ended) => ended,
            Err(outcome) => {
                // There was nothing to be called.
                std::mem::forget(noting);
                return outcome;
            }
        },
        // What was driven is dropped with this, which tells the server.
        () = hub.cut_token().cancelled() => Ended::Fault(refusal::cut_short(upstream.name())),
    };
    let (outcome, lasted) = (outcome(&ended), began.elapsed());
    tracing::debug!(parent: &span, outcome, micros = lasted.as_micros(), "ended");
    if let Some(mut noting) = noting {
        noting.over = Some((outcome, size(&ended)));
    }
    let crossing = || Crossing { from: upstream.offer().revision.unwrap_or(Revision::NEWEST_LEGACY), to: revision };
    match ended {
        Ended::Answer(Ok(result)) if task.is_some() => {
            tasks::answered(hub, upstream.name(), &method, caller.as_ref(), task, &result)
        }
        Ended::Answer(Ok(result)) => {
            if method == Method::ToolsCall
                && let Some(created) = tasks::created(hub, &upstream, caller.as_ref(), &result)
            {
                return created;
            }
            resources::mentioned(&result, |uri| hub.note_resource(uri, upstream.name()));
            let result = match wrapped {
                Some(head) => resources::wrap_contents(&result, &head),
                None if method == Method::ToolsCall => with_content(result),
                None => result,
            };
            let output = || {
                let catalog = hub.view(&view);
                let entry = tool.as_ref().and_then(|tool| catalog.tools.get(tool.as_str()));
                entry.map_or(Output::Absent, |entry| entry.output)
            };
            Ok(shapes::result(crossing(), &method, result, output))
        }
        Ended::Answer(Err(error)) => refused(hub, &upstream, &method, caller.as_ref(), subject.as_ref(), round, error)
            .map_err(|error| shapes::error(crossing(), &method, error)),
        Ended::Fault(fault) => hub.dress(&method, &fault),
        Ended::Input(input) => {
            let subject = subject.expect("only modern callers are asked by a result");
            let owner = caller.as_ref().and_then(Caller::owner);
            Ok(input::required(hub, upstream.name(), &subject, owner, *input))
        }
    }
}

/// Notes a tool call when it is over: with its outcome, or, if nobody waits for that any more, as cancelled. What was sent
/// may have been done all the same. Holds nothing of its own.
struct Noting<'a> {
    hub: &'a Hub,
    server: &'a ServerName,
    tool: &'a ExposedName,
    caller: Option<&'a Caller>,
    sent_bytes: usize,
    began: Instant,
    /// The outcome, and the size of the answer.
    over: Option<(&'static str, usize)>,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        let (outcome, received_bytes) = self.over.unwrap_or(("cancelled", 0));
        self.hub.metrics().tool_call(self.server, self.tool.as_str(), outcome);
        self.hub.recent_calls().note(Noted {
            client: self.caller.map(Caller::label),
            token: self.caller.and_then(Caller::token),
            server: self.server.clone(),
            tool: self.tool.clone(),
            outcome,
            lasted: self.began.elapsed(),
            sent_bytes: self.sent_bytes,
            received_bytes,
        });
    }
}

/// How a request ended, as a label.
fn outcome(ended: &Ended) -> &'static str {
    match ended {
        Ended::Answer(Ok(_)) => "ok",
        Ended::Answer(Err(_)) => "error",
        Ended::Fault(_) => "fault",
        Ended::Input(_) => "input",
    }
}

/// Bytes of what a server answered.
fn size(ended: &Ended) -> usize {
    match ended {
        Ended::Answer(Ok(answer) | Err(answer)) => answer.as_bytes().len(),
        Ended::Fault(_) | Ended::Input(_) => 0,
    }
}

/// The outcome of a request that its server refused. Its errors are the server's own text, but for those that concern the
/// hop between server and gateway (mcp-protocol 5.11, 5.17).
fn refused(
    hub: &Hub,
    upstream: &Upstream,
    method: &Method,
    caller: Option<&Caller>,
    subject: Option<&Subject>,
    round: u32,
    error: Json,
) -> Result<Json, Json> {
    let Some(urls) = input::wanted_urls(&error) else { return errors::of_server(hub, upstream, method, caller, error) };
    let server = upstream.name();
    if urls.iter().any(asking::leads_astray) {
        return hub.dress(method, &refusal::unsafe_page(server));
    }
    let asked = match caller {
        Some(Caller::Legacy(session)) if session.may_visit_urls() => {
            // Word that one is done goes to whom it was shown.
            let ids = urls.iter().filter_map(|url| Object::parse(url).ok()?.get_str("elicitationId"));
            ids.for_each(|id| session.questions().show(&id));
            return Err(error);
        }
        Some(Caller::Modern(client)) => {
            subject.and_then(|subject| input::visit(hub, server, subject, client, &urls, round))
        }
        Some(Caller::Legacy(_)) | None => None,
    };
    asked.map_or_else(|| hub.dress(method, &refusal::url_first(server, &urls)), Ok)
}

/// Adds the `content` that every revision demands where a server sent `structuredContent` alone.
fn with_content(result: Json) -> Json {
    static STRUCTURED: Needle = Needle::new("\"structuredContent\"");
    let text = result.as_bytes();
    // Nearly every server writes `content` first; a look at the start saves reading the rest.
    if text.starts_with(b"{\"content\"") || !STRUCTURED.is_in(text) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
