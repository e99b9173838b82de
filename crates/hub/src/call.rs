//! The relay of one request to the server it is for (architecture 6).
//!
//! [`aim`] finds the server and makes the request its own: one shallow look at `params`, one lookup. [`run`]
//! carries it out: notices go back as they come (`relay.rs`), the answer as the server wrote it. Results are not decoded;
//! where a rule wants to look into one, a byte search says first whether there can be anything to find.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use trunkline_config::{Sharing, ToolRules};
use trunkline_telemetry::{Ended as Noted, Span, Trace};
use trunkline_upstream::{Ask, Upstream};
use trunkline_wire::{Era, ExposedName, Fault, Json, Method, Needle, Object, Request, Revision, ServerName};

use crate::asking;
use crate::catalog::arguments;
use crate::catalog::output::Output;
use crate::catalog::{Catalog, Table};
use crate::client::Caller;
use crate::errors;
use crate::input::{self, Retry};
use crate::lanes;
use crate::logging::{self, LogLevel};
use crate::meta::{self, Params};
use crate::progress::Progress;
use crate::refusal;
use crate::relay::{Ended, Relay};
use crate::replay::Outbox;
use crate::resources::{self, Place};
use crate::seal::Subject;
use crate::shapes::{self, Crossing};
use crate::surface::{self, Own, misused};
use crate::tasks;
use crate::traces;
use crate::{Guest, Hub, View};

/// How long after a server became ready its list may still be missing from the catalogue.
const LIST_LAG: Duration = Duration::from_secs(1);

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

/// Finds out where a request goes: a tool, a prompt, a completion, a resource to be read, or a task. Fails with the outcome,
/// where the gateway knows it without asking anybody. The outcome will be in the shapes of `revision`; `guest` says whose
/// request it is, and what he sees.
pub(crate) fn aim(
    hub: &Hub,
    request: &Request,
    revision: Revision,
    guest: Guest<'_>,
) -> Result<Errand, Result<Json, Json>> {
    let params = Params::read(request.params.as_ref());
    let params = params.map_err(|error| Err(refusal::invalid_params(error.to_string())))?;
    aim_at(hub, &request.method, params, revision, guest)
}

/// As [`aim`], for a request whose `params` were read before.
pub(crate) fn aim_at(
    hub: &Hub,
    method: &Method,
    params: Params,
    revision: Revision,
    guest: Guest<'_>,
) -> Result<Errand, Result<Json, Json>> {
    let span = hub.span(method, &params.meta, revision);
    match aimed(hub, method, params, revision, guest) {
        Ok(errand) => Ok(Errand { span, ..errand }),
        Err(outcome) => {
            traces::end(span, &outcome);
            Err(outcome)
        }
    }
}

fn aimed(
    hub: &Hub,
    method: &Method,
    mut params: Params,
    revision: Revision,
    guest: Guest<'_>,
) -> Result<Errand, Result<Json, Json>> {
    let invalid = |text: String| Err(refusal::invalid_params(text));
    let members = &mut params.members;
    let subject = (revision.era() == Era::Modern).then(|| Subject::of(method, members, guest.view.profile()));
    let catalog = hub.view(guest.view);
    let mut task = None;
    let own = (*method == Method::ToolsCall).then(|| catalog.own_tool(members)).flatten();
    match own {
        Some(Own::Call) => surface::aim(members).map_err(|why| misused(hub, Own::Call, &why))?,
        Some(own) => return Err(surface::answer(hub, &catalog, own, members, revision)),
        None => {}
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the callers send no other methods here")]
    let (upstream, tool, wrapped) = match method {
        Method::ToolsCall => match by_name(&catalog, &catalog.tools, members, "tool") {
            Ok((upstream, name)) => {
                if own.is_some()
                    && let Some(why) = catalog.tools.get(name.as_str()).and_then(|tool| surface::lacking(tool, members))
                {
                    return Err(misused(hub, Own::Call, &why));
                }
                (upstream, Some(name), None)
            }
            Err(text) => {
                if let Some(fault) = withheld(&catalog.tools, members) {
                    return Err(hub.dress(method, &fault));
                }
                match unlisted(hub, &catalog, members) {
                    Some(upstream) => (upstream, None, None),
                    None => return Err(unknown_tool(hub, &catalog, own.is_some(), members, text)),
                }
            }
        },
        Method::PromptsGet => {
            let (upstream, _) = by_name(&catalog, &catalog.prompts, members, "prompt").map_err(invalid)?;
            (upstream, None, None)
        }
        Method::CompletionComplete => {
            let upstream = by_reference(hub, guest.view, members).map_err(invalid)?;
            if !upstream.offer().capabilities.completions {
                return Err(Ok(Json::literal(r#"{"completion":{"values":[],"total":0,"hasMore":false}}"#)));
            }
            (upstream, None, None)
        }
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
            let tasks::Known { upstream, token } = tasks::find(hub, members, guest).map_err(Err)?;
            task = Some(token);
            (upstream, None, None)
        }
        _ => {
            let uri = members.get_str("uri").ok_or_else(|| invalid("`uri` is missing".to_owned()))?;
            let place = hub.resource(guest.view, &uri);
            let place = place.ok_or_else(|| Err(refusal::unknown_resource(&uri, revision.era())))?;
            members.set("uri", Json::from(&*place.uri));
            let Place { upstream, head, .. } = place;
            (upstream, None, head)
        }
    };
    let rules = tool.as_ref().and_then(|tool| catalog.tools.rules(tool));
    shape(hub, rules.as_deref(), members)?;
    // What is said to a task is for its server; everything else that comes back is for the gateway first.
    let said = task.as_ref().and_then(|_| members.get("inputResponses").cloned());
    let retry = match &subject {
        Some(subject) if task.is_none() => input::retry(hub, &upstream, subject, members, guest.owner).map_err(Err)?,
        Some(_) | None => None,
    };
    let token = meta::forward(&mut params)
        .map_err(|meta::TooManyHops| hub.dress(method, &refusal::too_many_hops(upstream.name())))?;
    if let Some(Retry::Pass { answers, state }) = &retry {
        for (key, value) in [("inputResponses", answers), ("requestState", state)] {
            if let Some(value) = value {
                params.members.set(key, value.clone());
            }
        }
    }
    if let Some(said) = said {
        params.members.set("inputResponses", said);
    }
    let (method, view) = (method.clone(), guest.view.clone());
    let searched = own.is_some();
    Ok(Errand {
        upstream,
        method,
        params,
        token,
        tool,
        rules,
        wrapped,
        revision,
        subject,
        view,
        retry,
        task,
        searched,
        span: None,
    })
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
                let leave = hub.gates().enter(&upstream, tool.is_some(), rules.as_deref()).await;
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

/// What a client hears that calls a tool which is not there: its model, with those that may be meant, where that looked for tools
/// itself.
fn unknown_tool(hub: &Hub, catalog: &Catalog, searched: bool, params: &Object, text: String) -> Result<Json, Json> {
    if !searched {
        return Err(refusal::invalid_params(text));
    }
    let name = params.get_str("name").unwrap_or_default();
    misused(hub, Own::Call, &format!("{text}{}", surface::like_it(catalog, &name)))
}

/// Looks the member `name` up and puts the server's own name in its place.
fn by_name(
    catalog: &Catalog,
    table: &Table,
    params: &mut Object,
    noun: &str,
) -> Result<(Upstream, ExposedName), String> {
    let name = params.get_str("name").ok_or("`name` is missing or no string")?;
    let entry = table.get(&name).ok_or_else(|| unknown(catalog, noun, &name))?;
    params.set("name", entry.original_json.clone());
    Ok((entry.upstream.clone(), entry.name.clone()))
}

/// Makes the arguments of a call those that the server gets. What a client may not say its model hears.
fn shape(hub: &Hub, rules: Option<&ToolRules>, params: &mut Object) -> Result<(), Result<Json, Json>> {
    let Some(rules) = rules.filter(|rules| rules.shapes_arguments()) else { return Ok(()) };
    let arguments = arguments::fill(params.get("arguments"), rules);
    let arguments = arguments.map_err(|text| refusal::wrong_arguments(&text, hub.rules().errors))?;
    params.set("arguments", arguments);
    Ok(())
}

/// The fault of a call whose tool is not as it was pinned (S-15).
fn withheld(tools: &Table, params: &Object) -> Option<Fault> {
    let name = params.get_str("name")?;
    tools.withheld(&name).map(|tool| refusal::quarantined(&tool.server, &name, tool.why))
}

/// Says that there is no such name, and if its server is away, which may be the reason, what is the matter with that.
fn unknown(catalog: &Catalog, noun: &str, name: &str) -> String {
    let is_of = |it: &&Upstream| has_prefix_of(name, it);
    let away = catalog.servers.iter().filter(is_of).find_map(|it| it.status().reason);
    let away = away.map_or_else(String::new, |reason| format!("; {reason}"));
    format!("unknown {noun}: {}{away}", refusal::shown(name))
}

/// Whether this name would be one of the server's. For texts and waits alone: no call is ever routed by a prefix.
fn has_prefix_of(name: &str, upstream: &Upstream) -> bool {
    name.strip_prefix(&upstream.name().namespace()).is_some_and(|rest| rest.starts_with("__"))
}

/// The server that may list the tool as soon as it lists anything: clients know its tools from before the daemon was
/// started, and do not list again (clients 1.2).
fn unlisted(hub: &Hub, catalog: &Catalog, params: &Object) -> Option<Upstream> {
    let name = params.get_str("name")?;
    // A profile may show nothing of a server whose list is there.
    let whole = hub.catalog();
    let is_it = |it: &&Upstream| it.config().enabled && has_prefix_of(&name, it) && !whole.tools.has_any_of(it.name());
    catalog.servers.iter().find(is_it).cloned()
}

/// Waits for that server, as a call does, and then for its list to be in the catalogue.
async fn listed(
    hub: &Hub,
    upstream: &Upstream,
    view: &View,
    params: &mut Object,
    searched: bool,
) -> Result<(Upstream, ExposedName, Option<Arc<ToolRules>>), Result<Json, Json>> {
    let mut catalogs = hub.catalogs();
    upstream.ready().await.map_err(|error| hub.dress(&Method::ToolsCall, &error.fault()))?;
    let until = Instant::now() + LIST_LAG;
    loop {
        let catalog = catalogs.borrow_and_update().of(view).clone();
        match by_name(&catalog, &catalog.tools, params, "tool") {
            Ok((upstream, name)) => {
                let rules = catalog.tools.rules(&name);
                shape(hub, rules.as_deref(), params)?;
                return Ok((upstream, name, rules));
            }
            Err(text) => {
                if let Some(fault) = withheld(&catalog.tools, params) {
                    return Err(hub.dress(&Method::ToolsCall, &fault));
                }
                if !matches!(timeout_at(until, catalogs.changed()).await, Ok(Ok(()))) {
                    return Err(unknown_tool(hub, &catalog, searched, params, text));
                }
            }
        }
    }
}

/// Looks the reference of a completion up and makes it the server's own (mcp-protocol 5.6).
fn by_reference(hub: &Hub, view: &View, params: &mut Object) -> Result<Upstream, String> {
    let mut reference = params.get_object("ref").ok_or("`ref` is missing or no object")?;
    let upstream = match reference.get_str("type").as_deref() {
        Some("ref/prompt") => {
            reference.remove("title");
            let catalog = hub.view(view);
            by_name(&catalog, &catalog.prompts, &mut reference, "prompt")?.0
        }
        Some("ref/resource") => {
            let uri = reference.get_str("uri").ok_or("`ref.uri` is missing or no string")?;
            let place =
                hub.reference(view, &uri).ok_or_else(|| format!("unknown resource: {}", refusal::shown(&uri)))?;
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
