//! POST and nothing else: how 2026-07-28 travels over HTTP (mcp-protocol 3.2, 3.4, 3.6).
//!
//! A request whose client goes away before the response is cancelled, and so noted on the desk.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::http::{Body, event, event_stream, full, live, status};
use crate::message::{Envelope, Failure, Params};
use crate::probe::{self, Probe};
use crate::protocol::{Answer, Server};
use crate::session::Session;
use crate::{headers, modern};

/// The response to a request that is one for this revision, or for a probe that the options answer; none when
/// the legacy transport is to have it.
pub(crate) async fn answer(server: &Arc<Server>, head: &http::request::Parts, body: &Bytes) -> Option<Response<Body>> {
    if head.uri.path() != "/mcp" {
        return None;
    }
    let only_modern = server.options.is_modern() && !server.options.dual;
    if head.method != http::Method::POST {
        return only_modern.then(|| {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED, "POST only");
            response.headers_mut().insert("allow", "POST".parse().expect("valid"));
            response
        });
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
        let failure = Failure::from((-32700, "not JSON".to_owned()));
        return only_modern.then(|| json(400, failure.reply("null")));
    };
    let method = envelope.method.as_deref().unwrap_or_default();
    let params = Params::of(envelope.params);
    let id = envelope.id.map(serde_json::value::RawValue::get);
    if let (Some(id), Some(probe)) = (id, server.probe(method)) {
        return Some(probed(probe, id).await);
    }
    if !modern::speaks(server, &params) {
        return None;
    }
    let Some(id) = id.filter(|_| !method.is_empty()) else {
        // Nothing but requests is defined over HTTP.
        server.desk.note("violations", &format!("not a request: {text}"));
        return Some(status(StatusCode::ACCEPTED, ""));
    };
    if let Err(failure) = headers::check(server, &head.headers, method, &params) {
        return Some(json(400, failure.reply(id)));
    }
    let (nowhere, _) = mpsc::channel(1);
    let session = Arc::new(Session::new(nowhere));
    let (lines, related) = mpsc::channel(256);
    let reply = modern::receive(server, method, id, &params, &session, &lines);
    Some(match reply.answer {
        Answer::Nothing => status(StatusCode::ACCEPTED, ""),
        Answer::Now(text) if server.options.streams && reply.status == 200 => event_stream(full(event(None, &text))),
        Answer::Now(text) => json(reply.status, text),
        Answer::Later(work) => {
            let (present, gone) = oneshot::channel::<()>();
            let server = server.clone();
            let note = format!(r#"{{"disconnected":{id},"method":"{method}"}}"#);
            tokio::spawn(async move {
                tokio::select! {
                    reply = work => {
                        if let Some(reply) = reply {
                            let _ = lines.send(reply).await;
                        }
                    }
                    _ = gone => server.desk.note("cancelled", &note),
                }
            });
            let mut response = event_stream(live(related, None, present));
            response.headers_mut().insert("cache-control", "no-cache".parse().expect("valid"));
            response
        }
    })
}

async fn probed(probe: Probe, id: &str) -> Response<Body> {
    let code = StatusCode::from_u16(probe.status()).expect("a status");
    if let Probe::Status(_) = probe {
        let mut response = status(code, "as the test asked");
        if code == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert("www-authenticate", "Bearer realm=\"fake\"".parse().expect("valid"));
        }
        return response;
    }
    match probe::answer(probe, id) {
        Answer::Now(text) => json(code.as_u16(), text),
        Answer::Later(_) | Answer::Nothing => std::future::pending().await,
    }
}

fn json(code: u16, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response.headers_mut().insert("content-type", "application/json".parse().expect("valid"));
    response
}
