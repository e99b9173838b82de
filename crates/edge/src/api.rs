//! The owner's own commands, on a unix socket that only the owner can open: what `trunkline status`, `tools`,
//! `call`, `logs`, `restart` and `reload` ask (architecture 9).
//!
//! `GET /health` and `GET /api/v1/state` are the same report, `GET /metrics` the same text as over TCP.
//! `GET /api/v1/board` is what the dashboard shows, with what is wrong and what helps: the doctor reads it.
//! `GET /api/v1/explain?server=NAME[&client=NAME]` says what of a server the clients seen so far cannot have.
//! `GET /api/v1/tools[?server=NAME]` lists the catalogue, `POST /api/v1/call` with `{"name", "arguments"}` calls
//! a tool on the same path as a client's call, `GET /api/v1/logs[?server=NAME]` gives stderr tails and recent
//! transitions, `POST /api/v1/servers/NAME/restart` restarts a server, `…/pause` switches it off until `…/resume` or a
//! restart of it or of the daemon, `POST /api/v1/reload` reads the configuration anew
//! and says what changed ([`Reloaded`](crate::Reloaded)). `POST /api/v1/servers/NAME/login`, `…/login/device`, `…/login/wait` and `…/logout`
//! are `signin.rs`'s. `GET /api/v1/pins[?server=NAME]` says which tools are not as they were pinned,
//! `POST /api/v1/servers/NAME/pins/accept[?tool=TOOL]` pins what the server lists now (S-15). Refusals are `{"error": "…"}`.
//!
//! There are no Host and Origin checks here: no web page can reach a unix socket. What of this the dashboard offers over TCP
//! passes `board` first, which has them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode, Uri};
use serde_json::json;
use trunkline_hub::{Entry, NotAccepted};
use trunkline_upstream::Upstream;
use trunkline_wire::{Json, Object};

use crate::body::Body;
use crate::incoming::Incoming;
use crate::limits::{FOUND_MAX, STDERR_KEPT_BYTES};
use crate::{Edge, board, health, incoming, reply, signin};

/// Answers one request of the owner.
pub(crate) async fn answer<B>(edge: &Arc<Edge>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let failed = |_| no(StatusCode::INTERNAL_SERVER_ERROR, "the daemon failed at this request; its log says more");
    AssertUnwindSafe(route(edge, request)).catch_unwind().await.unwrap_or_else(failed)
}

/// Answers it; a panic is the caller's to catch.
pub(crate) async fn route<B>(edge: &Arc<Edge>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/health" | "/api/v1/state") => health::report(edge, true).await,
        (&Method::GET, "/api/v1/board") => board::whole(edge).await,
        (&Method::GET, "/health/live") => health::live(),
        (&Method::GET, "/health/ready") => health::ready(edge),
        (&Method::GET, "/metrics") => health::metrics(edge).await,
        (&Method::GET, "/api/v1/tools") => tools(edge, request.uri()).await,
        (&Method::GET, "/api/v1/logs") => logs(edge, request.uri()),
        (&Method::GET, "/api/v1/explain") => explain(edge, request.uri()),
        (&Method::GET, "/api/v1/pins") => pins(edge, request.uri()),
        (&Method::POST, "/api/v1/call") => call(edge, request).await,
        (&Method::POST, "/api/v1/reload") => edge.configuration.reload().await,
        (&Method::POST, action) => {
            match action.strip_prefix("/api/v1/servers/").and_then(|rest| rest.split_once('/')) {
                Some((name, action @ ("restart" | "pause" | "resume"))) => switch(edge, &unescaped(name), action),
                Some((name, "pins/accept")) => accept_pins(edge, &unescaped(name), request.uri()),
                Some((name, action @ ("login" | "login/device" | "login/wait" | "logout"))) => {
                    match known(edge, &unescaped(name)) {
                        Err(unknown) => no(StatusCode::NOT_FOUND, &unknown.0),
                        Ok(upstream) if action == "login" => signin::login(edge, &upstream).await,
                        Ok(upstream) if action == "login/device" => signin::login_by_device(edge, &upstream).await,
                        Ok(upstream) if action == "logout" => signin::logout(edge, &upstream).await,
                        Ok(upstream) => signin::wait(edge, &upstream).await,
                    }
                }
                _ => no(StatusCode::NOT_FOUND, "there is no such action"),
            }
        }
        _ => no(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

/// The catalogue, or what `?profile=NAME` shows of it: each tool under its name for clients, with the entry as clients get
/// it. `?find=WORDS` gives those alone that fit the words, the best first; with `?search=also`, what would stand in place of all
/// is a member `search`.
async fn tools(edge: &Edge, target: &Uri) -> Response<Body> {
    if let Err(unknown) = wanted(edge, target) {
        return no(StatusCode::NOT_FOUND, &unknown.0);
    }
    let catalog = match parameter(target, "profile=").map(|name| edge.hub.profile(&name)) {
        None => edge.hub.catalog(),
        Some(Ok(view)) => edge.hub.view(&view),
        Some(Err(known)) => {
            let text = format!("there is no such profile; configured are: {}", known.join(", "));
            return no(StatusCode::NOT_FOUND, &text);
        }
    };
    let (chosen, words, also) = (server_of(target), parameter(target, "find="), parameter(target, "search="));
    // The first search of a catalogue reads all of it.
    let listed = tokio::task::spawn_blocking(move || {
        let counts = |tool: &Entry| chosen.as_deref().is_none_or(|name| tool.server().as_str() == name);
        let tools: Vec<&Entry> = match words {
            Some(words) => catalog.find(&words, FOUND_MAX, counts),
            None => catalog.tools().iter().filter(|tool| counts(tool)).collect(),
        };
        let tools: Vec<Bytes> = tools.into_iter().map(listing).collect();
        let search = match also {
            Some(_) => [&b",\"search\":["[..], &list(catalog.in_place_of_all()), b"]"].concat(),
            None => Vec::new(),
        };
        [&b"{\"tools\":["[..], &tools.join(&b","[..]), b"]", &search, b"}"].concat()
    });
    match listed.await {
        Ok(text) => reply::message(StatusCode::OK, Bytes::from(text)),
        Err(_) => no(StatusCode::INTERNAL_SERVER_ERROR, "the daemon failed at this request; its log says more"),
    }
}

fn list(definitions: Vec<Json>) -> Vec<u8> {
    definitions.into_iter().map(Json::into_bytes).collect::<Vec<_>>().join(&b","[..])
}

/// A tool, and whose it is.
fn listing(tool: &Entry) -> Bytes {
    let mut entry = Object::new();
    entry.set("server", Json::from(tool.server().as_str()));
    entry.set("name", Json::from(tool.name.as_str()));
    entry.set("original", Json::from(&*tool.original));
    entry.set("tool", tool.body.clone());
    entry.to_json().into_bytes()
}

/// Calls a tool: `{"result": …}` or `{"error": {"code", "message", "data"}}`, both as the server or the hub put it.
async fn call<B>(edge: &Arc<Edge>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let (head, body) = request.into_parts();
    let Incoming { bytes, charge } =
        match incoming::read(body, &head.headers, &edge.config().limits, &edge.budget).await {
            Ok(read) => read,
            Err(unread) => return unread.response(),
        };
    let asked = Json::parse(bytes).and_then(|body| Object::parse(&body));
    let (name, arguments) = match asked {
        Ok(mut asked) => (asked.get_str("name"), asked.remove("arguments")),
        Err(malformed) => return no(StatusCode::BAD_REQUEST, &malformed.to_string()),
    };
    let Some(name) = name else {
        return no(StatusCode::BAD_REQUEST, "the body needs `name`, and may have `arguments`");
    };
    let (key, outcome) = match Box::pin(edge.hub.call_direct(&name, arguments)).await {
        Ok(result) => ("result", result),
        Err(error) => ("error", error),
    };
    drop(charge);
    let mut answer = Object::new();
    answer.set(key, outcome);
    reply::message(StatusCode::OK, answer.to_json().into_bytes())
}

/// Restarts, pauses or resumes a server. None of it says what is run: that stands in the configuration, and a server that is
/// off there stays off (S-34).
fn switch(edge: &Edge, name: &str, action: &str) -> Response<Body> {
    let fleet = edge.hub.fleet();
    let upstream = match known(edge, name) {
        Ok(upstream) => upstream,
        Err(unknown) => return no(StatusCode::NOT_FOUND, &unknown.0),
    };
    let off = || {
        let text = format!("server `{name}` is off in the configuration; `trunkline enable {name}` changes that");
        no(StatusCode::CONFLICT, &text)
    };
    match action {
        "pause" if fleet.pause(name) => reply::json(StatusCode::OK, &json!({ "paused": name })),
        "pause" => off(),
        "resume" if fleet.resume(name) => reply::json(StatusCode::OK, &json!({ "resumed": name })),
        "resume" if !upstream.config().enabled => off(),
        "resume" => reply::json(StatusCode::OK, &json!({ "resumed": name })),
        _ => {
            // Whoever wants it connected anew wants it to run.
            if !fleet.resume(name) {
                upstream.restart();
            }
            reply::json(StatusCode::OK, &json!({ "restarting": name }))
        }
    }
}

/// How the tools of each server stand against their pins.
fn pins(edge: &Edge, target: &Uri) -> Response<Body> {
    let wanted = match wanted(edge, target) {
        Ok(wanted) => wanted,
        Err(unknown) => return no(StatusCode::NOT_FOUND, &unknown.0),
    };
    let standings: Vec<_> = wanted.iter().map(|upstream| edge.hub.pins(upstream)).collect();
    reply::json(StatusCode::OK, &json!({ "servers": standings }))
}

fn accept_pins(edge: &Edge, name: &str, target: &Uri) -> Response<Body> {
    let upstream = match known(edge, name) {
        Ok(upstream) => upstream,
        Err(unknown) => return no(StatusCode::NOT_FOUND, &unknown.0),
    };
    let tool = parameter(target, "tool=");
    match edge.hub.accept_pins(&upstream, tool.as_deref()) {
        Ok(taken) => reply::json(StatusCode::OK, &json!({ "server": name, "taken": taken })),
        Err(none @ NotAccepted::NoSuchTool) => no(StatusCode::NOT_FOUND, &none.to_string()),
        Err(unread @ NotAccepted::Unread(_)) => no(StatusCode::CONFLICT, &unread.to_string()),
    }
}

fn logs(edge: &Edge, target: &Uri) -> Response<Body> {
    let wanted = match wanted(edge, target) {
        Ok(wanted) => wanted,
        Err(unknown) => return no(StatusCode::NOT_FOUND, &unknown.0),
    };
    let logs: Vec<_> = wanted
        .into_iter()
        .map(|upstream| {
            let name = upstream.name();
            let transitions = edge.journal.history(name).into_iter().map(|change| {
                json!({ "at_unix_ms": change.at_unix_ms, "from": change.from, "to": change.to, "reason": change.reason })
            });
            json!({
                "name": name.as_str(),
                "transitions": transitions.collect::<Vec<_>>(),
                "stderr": edge.journal.stderr_tail(name, STDERR_KEPT_BYTES),
                "stderr_dropped_bytes": edge.journal.stderr_dropped(name),
            })
        })
        .collect();
    reply::json(StatusCode::OK, &json!({ "servers": logs }))
}

fn explain(edge: &Edge, target: &Uri) -> Response<Body> {
    let Some(name) = server_of(target) else { return no(StatusCode::BAD_REQUEST, "`?server=NAME` is missing") };
    let upstream = match known(edge, &name) {
        Ok(upstream) => upstream,
        Err(unknown) => return no(StatusCode::NOT_FOUND, &unknown.0),
    };
    let wanted = parameter(target, "client=");
    let clients = edge.hub.explain(&upstream, wanted.as_deref());
    if let (Some(client), true) = (wanted, clients.is_empty()) {
        let mut seen: Vec<String> = edge.hub.explain(&upstream, None).into_iter().map(|seen| seen.client).collect();
        seen.sort_unstable();
        seen.dedup();
        let seen = if seen.is_empty() { "none yet".to_owned() } else { seen.join(", ") };
        let client = trunkline_telemetry::redact::printable(&client, 64);
        return no(
            StatusCode::NOT_FOUND,
            &format!("no client called {client} was seen since the start; seen were: {seen}"),
        );
    }
    let status = upstream.status();
    let revision = status.revision.map(trunkline_wire::Revision::as_str);
    reply::json(
        StatusCode::OK,
        &json!({ "server": name, "state": status.state, "revision": revision, "clients": clients }),
    )
}

/// A name that no server has, as a sentence.
struct Unknown(String);

/// The servers that `?server=NAME` names: one, or all of them.
fn wanted(edge: &Edge, target: &Uri) -> Result<Vec<Upstream>, Unknown> {
    match server_of(target) {
        Some(name) => known(edge, &name).map(|upstream| vec![upstream]),
        None => Ok(edge.hub.fleet().all().to_vec()),
    }
}

fn server_of(target: &Uri) -> Option<String> {
    parameter(target, "server=")
}

fn parameter(target: &Uri, name: &str) -> Option<String> {
    target.query()?.split('&').find_map(|pair| pair.strip_prefix(name)).map(unescaped)
}

/// A server's name as it was before it became part of a URL. It may hold any character that shows.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.first_chunk::<2>().filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escape = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escape.unwrap_or(byte));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn known(edge: &Edge, name: &str) -> Result<Upstream, Unknown> {
    edge.hub.fleet().get(name).ok_or_else(|| {
        let servers = edge.hub.fleet().all();
        let names: Vec<_> = servers.iter().map(|upstream| upstream.name().as_str()).collect();
        Unknown(format!("there is no server of this name; configured are: {}", names.join(", ")))
    })
}

fn no(status: StatusCode, text: &str) -> Response<Body> {
    reply::json(status, &json!({ "error": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_a_url_as_it_was() {
        assert_eq!(unescaped("my%20server%2F%C3%A9"), "my server/é");
        assert_eq!(unescaped("100%"), "100%");
        assert_eq!(unescaped("%zz%4"), "%zz%4");
        assert_eq!(unescaped("%+1"), "%+1");
    }
}
