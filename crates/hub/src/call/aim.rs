//! Where a request goes: one shallow look at its `params`, one lookup, and what it carries made its server's own.
//!
//! A tool that is not in the catalogue may be one that its server has not listed yet in this process; that is waited for when the
//! request is carried out ([`listed`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use trunkline_config::ToolRules;
use trunkline_upstream::Upstream;
use trunkline_wire::{Era, ExposedName, Fault, Json, Method, Object, Request, Revision};

use super::Errand;
use crate::catalog::arguments;
use crate::catalog::{Catalog, Table};
use crate::input::{self, Retry};
use crate::meta::{self, Params};
use crate::refusal;
use crate::resources::Place;
use crate::seal::Subject;
use crate::surface::{self, Own, misused};
use crate::tasks;
use crate::traces;
use crate::{Guest, Hub, View};

/// How long after a server became ready its list may still be missing from the catalogue.
const LIST_LAG: Duration = Duration::from_secs(1);

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

/// The catalogue that a request is about to search, if its tools are to be read before ([`Catalog::indexed`]).
pub(crate) fn to_be_read(hub: &Hub, request: &Request, view: &View) -> Option<Arc<Catalog>> {
    let catalog = hub.view(view);
    if request.method != Method::ToolsCall || catalog.surface.is_none() || catalog.is_read() {
        return None;
    }
    let params = Params::read(request.params.as_ref()).ok()?;
    catalog.is_searched_by(&params.members).then_some(catalog)
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
pub(super) async fn listed(
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
