//! Revision 2026-07-28: requests that bring their own context, answers that are stamped.
//!
//! Every request must carry the whole envelope in `_meta`. What a peer does wrong is answered as the revision says
//! and written to the desk's `violations`, so that a test need only see that the file is empty.

use std::sync::Arc;

use crate::message::{Failure, Outcome, Params, member, severity, success};
use crate::protocol::{Answer, Server};
use crate::session::{Call, Lines, Log, Session};
use crate::{ext_tasks, listen, rounds, tools};

pub(crate) const REVISION: &str = "2026-07-28";

/// Prefix of the envelope's keys.
pub(crate) const KEY: &str = "io.modelcontextprotocol/";

/// An answer, and the HTTP status that it has where there is HTTP.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) answer: Answer,
}

/// True when a request is to be answered by this revision: always, or in a dual-era server when it claims it.
pub(crate) fn speaks(server: &Server, params: &Params<'_>) -> bool {
    server.options.is_modern() && (!server.options.dual || claim(params).is_some())
}

/// The revision that a request claims.
pub(crate) fn claim(params: &Params<'_>) -> Option<String> {
    serde_json::from_str(&params.meta(&format!("{KEY}protocolVersion"))?).ok()
}

pub(crate) fn capabilities_of(params: &Params<'_>) -> String {
    params.meta(&format!("{KEY}clientCapabilities")).unwrap_or_else(|| "{}".into())
}

/// Answers a request. Over HTTP its headers have been checked already.
pub(crate) fn receive(
    server: &Arc<Server>,
    method: &str,
    id: &str,
    params: &Params<'_>,
    session: &Arc<Session>,
    lines: &Lines,
) -> Reply {
    if let Err((status, failure)) = envelope(server, method, params) {
        return Reply { status, answer: Answer::Now(failure.reply(id)) };
    }
    server.note_call(id, method, params);
    let declared = capabilities_of(params);
    if method == "subscriptions/listen" {
        return Reply { status: 200, answer: listen::open(server, id, params, session, lines) };
    }
    let asking = matches!(method, "tools/call" | "prompts/get" | "resources/read");
    let asked = if asking { rounds::step(server, method, params, &declared) } else { None };
    let outcome = match (asked, method) {
        (Some(outcome), _) => outcome,
        (None, "server/discover") => Ok(discover(server)),
        (None, "tools/call") => match ext_tasks::call(server, params, &declared) {
            Some(outcome) => outcome,
            None => return call(server, id, params, session, lines),
        },
        (None, _) if method.starts_with("tasks/") => ext_tasks::request(server, method, params, &declared),
        (None, _) => server.common(method, params),
    };
    let outcome = stamped(server, method, outcome);
    let status = outcome.as_ref().map_or_else(|failure| status_of(failure.code), |_| 200);
    let text = outcome.map_or_else(|failure| failure.reply(id), |result| success(id, &result));
    Reply { status, answer: Answer::Now(text) }
}

/// A tool without questions: at once, or on the request's own stream.
fn call(server: &Arc<Server>, id: &str, params: &Params<'_>, session: &Arc<Session>, lines: &Lines) -> Reply {
    let at_once = tools::at_once(server, params).map(Ok);
    let answer = match at_once {
        Some(outcome) if server.options.delay.is_zero() => Answer::Now(
            stamped(server, "tools/call", outcome)
                .map_or_else(|failure| failure.reply(id), |result| success(id, &result)),
        ),
        at_once => {
            let level = params.meta(&format!("{KEY}logLevel"));
            let level = level.and_then(|level| serde_json::from_str::<String>(&level).ok());
            let call = Call {
                server: server.clone(),
                session: session.clone(),
                lines: lines.clone(),
                progress_token: params.meta("progressToken"),
                log: Log::Request(level.map(|level| severity(&level))),
            };
            let work = call.run(params, at_once);
            let owner = server.clone();
            session.cancellable(id, async move { stamped(&owner, "tools/call", work.await) })
        }
    };
    Reply { status: 200, answer }
}

/// Checks that the envelope is whole and of this revision (mcp-protocol 3.4 steps 1 and 4).
fn envelope(server: &Server, method: &str, params: &Params<'_>) -> Result<(), (u16, Failure)> {
    let refuse = |code: i64, problem: String, data: Option<String>| {
        server.desk.note("violations", &format!("{method}: {problem}"));
        Err((400, Failure { code, message: problem, data }))
    };
    let Some(claim) = claim(params) else {
        if method == "initialize" {
            let data = format!(r#"{{"supported":["{REVISION}"],"requested":"?"}}"#);
            // No violation: a client that falls back may try it.
            return Err((400, Failure { code: -32022, message: "No initialize here".into(), data: Some(data) }));
        }
        return refuse(-32602, format!("_meta lacks {KEY}protocolVersion"), None);
    };
    let declared = params.meta(&format!("{KEY}clientCapabilities"));
    if !declared.is_some_and(|declared| declared.starts_with('{')) {
        return refuse(-32602, format!("_meta lacks {KEY}clientCapabilities"), None);
    }
    if let Some(client) = params.meta(&format!("{KEY}clientInfo"))
        && (member(&client, "name").is_none() || member(&client, "version").is_none())
    {
        return refuse(-32602, "clientInfo without name or version".into(), None);
    }
    if claim != REVISION {
        let data = format!(r#"{{"supported":["{REVISION}"],"requested":"{claim}"}}"#);
        return refuse(-32022, "Unsupported protocol version".into(), Some(data));
    }
    Ok(())
}

fn discover(server: &Server) -> String {
    format!(
        concat!(
            r#"{{"supportedVersions":["{}"],"capabilities":{{{},"extensions":{{"{}":{{}}}}}},"#,
            r#""instructions":"{} is a fake: it does what the test asks for."}}"#
        ),
        REVISION,
        server.capabilities(),
        ext_tasks::EXTENSION,
        server.options.name
    )
}

/// What every result of this revision has. A result that begins with its own `resultType` keeps it.
fn stamped(server: &Server, method: &str, outcome: Outcome) -> Outcome {
    let result = match outcome {
        Ok(result) => result,
        Err(failure) if failure.code == -32002 => return Err(Failure { code: -32602, ..failure }),
        Err(failure) => return Err(failure),
    };
    let mut stamps = Vec::new();
    if !result.starts_with(r#"{"resultType""#) {
        stamps.push(r#""resultType":"complete""#.to_owned());
        if matches!(method, "server/discover" | "resources/read") || method.ends_with("/list") {
            stamps.push(format!(r#""ttlMs":{},"cacheScope":"private""#, server.options.ttl_ms));
        }
    }
    if !result.contains(r#""_meta""#) {
        let name = &server.options.name;
        stamps.push(format!(r#""_meta":{{"{KEY}serverInfo":{{"name":"{name}","version":"1.0.0"}}}}"#));
    }
    let rest = result[1..].trim();
    let comma = if stamps.is_empty() || rest == "}" { "" } else { "," };
    Ok(format!("{{{}{comma}{rest}", stamps.join(",")))
}

/// The HTTP status of an error that comes before any stream (mcp-protocol 3.4).
pub(crate) fn status_of(code: i64) -> u16 {
    match code {
        -32601 => 404,
        -32700 | -32600 | -32022..=-32020 => 400,
        _ => 200,
    }
}
