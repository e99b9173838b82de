//! A legacy server that asks the client while a call is open, takes questions back, or sends it to a web page.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::message::{Failure, Outcome, Params, member};
use crate::protocol::Server;
use crate::questions::{self, Round};
use crate::session::Call;
use crate::tools::{integer, notify, string, text};

/// The rounds that a prompt or a resource wants played. Tools come here by `tools::run`.
pub(crate) fn wanted(server: &Server, method: &str, params: &Params<'_>) -> Option<(String, String, Vec<Round>)> {
    let asking = match method {
        "prompts/get" | "resources/read" => {
            questions::script(&server.options.revision, method, params.subject(), params.arguments())?
        }
        _ => return None,
    };
    Some((method.to_owned(), params.subject().to_owned(), asking))
}

pub(crate) async fn play_for(call: Call, (method, subject, rounds): (String, String, Vec<Round>)) -> Outcome {
    Ok(questions::result(&method, &subject, &answers(&call, rounds).await))
}

/// Plays a tool, if it is one that asks.
pub(crate) async fn play(call: &Call, name: &str, arguments: &str) -> Option<Outcome> {
    match name {
        "ask_withdrawn" => return Some(withdraw(call, arguments).await),
        "need_url" => return Some(need_url(&call.server, arguments)),
        _ => {}
    }
    let revision = call.session.revision.lock().expect("short").clone();
    let rounds = questions::script(&revision, "tools/call", name, arguments)?;
    let url = name == "ask_url";
    let answers = answers(call, rounds).await;
    if url && answers.iter().any(|answer| answer.contains(r#""accept""#)) {
        let id = format!("fake-elicitation-{}", string(arguments, "tag", ""));
        notify(call, "notifications/elicitation/complete", &json!({ "elicitationId": id }).to_string()).await;
    }
    Some(Ok(questions::result("tools/call", "", &answers)))
}

/// Asks round after round, everything of one round at once.
async fn answers(call: &Call, rounds: Vec<Round>) -> Vec<String> {
    let mut answers = Vec::new();
    for round in rounds {
        let asked = round.iter().map(|question| call.session.ask(&call.lines, &question.method, &question.params));
        for (question, response) in round.iter().zip(join_all(asked).await) {
            answers.push(outcome(&call.server, &question.method, &response));
        }
    }
    answers
}

/// `{"result": ...}` or `{"error": ...}` of a response, noted on the desk.
fn outcome(server: &Server, method: &str, response: &str) -> String {
    let outcome = match (member(response, "result"), member(response, "error")) {
        (Some(result), _) => format!(r#"{{"result":{result}}}"#),
        (None, Some(error)) => format!(r#"{{"error":{error}}}"#),
        (None, None) => r#"{"error":"no answer"}"#.to_owned(),
    };
    server.desk.note("answers", &format!(r#"{{"method":"{method}","answer":{outcome}}}"#));
    outcome
}

/// Asks a form, takes the question back after `ms`, and reports an answer that came all the same.
async fn withdraw(call: &Call, arguments: &str) -> Outcome {
    let revision = call.session.revision.lock().expect("short").clone();
    let rounds = questions::script(&revision, "tools/call", "ask_form", arguments).expect("ask_form asks");
    let question = &rounds[0][0];
    let (id, mut answer) = call.session.put(&call.lines, &question.method, &question.params).await;
    tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
    if let Ok(response) = answer.try_recv() {
        outcome(&call.server, &question.method, &response);
        return Ok(text("answered"));
    }
    notify(call, "notifications/cancelled", &format!(r#"{{"requestId":{id},"reason":"never mind"}}"#)).await;
    tokio::time::sleep(Duration::from_millis(integer(arguments, "after_ms", 50))).await;
    if let Ok(response) = answer.try_recv() {
        outcome(&call.server, &question.method, &response);
    }
    Ok(text("withdrawn"))
}

/// -32042 the first `times` times that it is called with a `tag`, then the result (mcp-protocol 5.11).
fn need_url(server: &Arc<Server>, arguments: &str) -> Outcome {
    let tag = string(arguments, "tag", "");
    let calls = {
        let mut visits = server.visits.lock().expect("short");
        let calls = visits.entry(tag.clone()).or_insert(0);
        *calls += 1;
        *calls
    };
    if calls > integer(arguments, "times", 1) {
        return Ok(text("signed in"));
    }
    let elicitation = json!({
        "mode": "url",
        "elicitationId": format!("fake-elicitation-{tag}"),
        "url": "https://sign.in.example/fake?a=1",
        "message": "Sign in first",
    });
    Err(Failure {
        code: -32042,
        message: "This needs a visit to a web page".into(),
        data: Some(json!({ "elicitations": [elicitation] }).to_string()),
    })
}
