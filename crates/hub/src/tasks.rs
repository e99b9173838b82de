//! Tasks that pass from a modern server to a modern client who follows them by itself (mcp-protocol 5.14).
//!
//! The client sees the server's own text but for one member: `taskId` is a sealed token that says whose task it is, so
//! that what is asked of it later finds its server, and nobody can name a task that was not given to them. What a task
//! asks is shown as every other question is. Nothing is kept here: a task lives at its server, and its name at its client.
//!
//! For all other clients `upstream` absorbs tasks, and none gets here.

use serde_json::json;
use trunkline_upstream::{Question, Upstream};
use trunkline_wire::{
    Abilities, Era, Fault, Json, Method, Object, Request, Response, Revision, RpcError, ServerName, code, extensions,
};

use crate::client::Caller;
use crate::seal::{Opened, State};
use crate::{Guest, Hub, Reply, asking, input, refusal, relay, resources};

/// A task that a request names.
pub(crate) struct Known {
    /// Its server.
    pub upstream: Upstream,
    /// Its name toward the client, as the client wrote it.
    pub token: Json,
}

/// Refuses what needs the extension of a request that does not declare it; `what` begins the sentence.
pub(crate) fn undeclared(request: &Request, what: &str) -> Reply {
    let data = json!({ "requiredCapabilities": { "extensions": { extensions::TASKS: {} } } });
    let text = format!("{what} needs the extension {} in the request's client capabilities", extensions::TASKS);
    let error = RpcError { code: code::MISSING_CLIENT_CAPABILITY, message: text, data: Some(data) };
    let message = Response::error(Some(request.id.clone()), error.to_json()).text();
    Reply::Error { code: code::MISSING_CLIENT_CAPABILITY, message }
}

/// Finds the task that a request of `owner` is about, and makes its name the server's own. Fails with what is wrong with the request.
pub(crate) fn find(hub: &Hub, params: &mut Object, guest: Guest<'_>) -> Result<Known, Json> {
    let token = params.get("taskId").cloned();
    let (token, text) = token
        .and_then(|token| token.decode_str().map(|text| (token, text)))
        .ok_or_else(|| refusal::invalid_params("`taskId` is missing or no string"))?;
    let unknown = || {
        refusal::invalid_params(
            "unknown task: this gateway did not give out its `taskId`, or did so before it was started anew",
        )
    };
    let Ok(Opened { state: State::Task { server, inner }, .. }) = hub.sealer().open(&text, guest.owner) else {
        return Err(unknown());
    };
    if let Some(answers) = params.get("inputResponses") {
        input::answers(answers)?;
    }
    let catalog = hub.view(guest.view);
    let of_it = |upstream: &&Upstream| upstream.name().as_str() == &*server;
    let upstream = catalog.servers.iter().find(of_it).cloned().ok_or_else(unknown)?;
    params.set("taskId", Json::from(&*inner));
    Ok(Known { upstream, token })
}

/// The outcome of a call that its server answered with a task. `None` for any other result, and for a caller who does not
/// follow tasks.
pub(crate) fn created(
    hub: &Hub,
    upstream: &Upstream,
    caller: Option<&Caller>,
    result: &Json,
) -> Option<Result<Json, Json>> {
    let Some(Caller::Modern(client)) = caller else { return None };
    let modern = || upstream.offer().revision.map(Revision::era) == Some(Era::Modern);
    // Most results say first that they are complete; a large one is not read for it then.
    if !client.abilities.tasks() || result.as_bytes().starts_with(br#"{"resultType":"complete""#) || !modern() {
        return None;
    }
    let mut members = Object::parse(result).ok()?;
    if members.get_str("resultType").as_deref() != Some("task") {
        return None;
    }
    let server = upstream.name();
    let Some(inner) = members.get_str("taskId") else {
        return Some(hub.dress(&Method::ToolsCall, &refusal::odd_task(server, "tells of a task and does not name it")));
    };
    let state = State::Task { server: server.as_str().into(), inner: inner.into() };
    let token = hub.sealer().seal(&state, client.owner.as_deref());
    members.set("taskId", Json::from(token.as_str()));
    Some(Ok(members.to_json()))
}

/// The outcome of a request about the task that its client calls `token`.
pub(crate) fn answered(
    hub: &Hub,
    server: &ServerName,
    method: &Method,
    caller: Option<&Caller>,
    token: Option<Json>,
    result: &Json,
) -> Result<Json, Json> {
    // What is no object is refused where results are dressed.
    let Ok(mut members) = Object::parse(result) else { return Ok(result.clone()) };
    if let Some(token) = token
        && members.get("taskId").is_some()
    {
        members.set("taskId", token);
    }
    if let (Some(requests), Some(Caller::Modern(client))) = (members.get("inputRequests"), caller) {
        match shown(requests, server, &client.abilities) {
            Ok(requests) => members.set("inputRequests", requests),
            Err(fault) => return hub.dress(method, &fault),
        }
    }
    if let Some(result) = members.get("result") {
        resources::mentioned(result, |uri| hub.note_resource(uri, server));
    }
    Ok(members.to_json())
}

/// `inputRequests` of a task as a client of these abilities is shown them. A server knows what it may ask (mcp-protocol
/// 5.10).
fn shown(requests: &Json, server: &ServerName, abilities: &Abilities) -> Result<Json, Fault> {
    let Some(questions) = questions(requests) else {
        return Err(refusal::odd_task(server, "asks something for a task in a form that cannot be read"));
    };
    if questions.iter().any(asking::misleads) {
        return Err(refusal::unsafe_page(server));
    }
    match questions.iter().find_map(|question| relay::lack(question, abilities).err()) {
        Some(lack) => Err(refusal::undeclared(server, lack)),
        None => Ok(input::requests(&questions, server)),
    }
}

fn questions(requests: &Json) -> Option<Vec<Question>> {
    let requests = Object::parse(requests).ok()?;
    let question = |(key, entry): (&str, &Json)| {
        let entry = Object::parse(entry).ok()?;
        let method = Method::from(entry.get_str("method")?.as_str());
        Some(Question { key: key.into(), method, params: entry.get("params").cloned() })
    };
    requests.iter().map(question).collect()
}

#[cfg(test)]
mod tests;
