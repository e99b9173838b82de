//! A modern server that asks: `input_required`, then a retry with the answers and the exact state
//! (mcp-protocol 5.9, 5.10).
//!
//! A state is good for one retry of the same request. What does not fit is refused with -32602, and written to the
//! desk's `violations`.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::message::{Failure, Outcome, Params, member};
use crate::protocol::Server;
use crate::questions::{self, Round};

/// A round that was asked and waits for its retry.
pub(crate) struct Pending {
    request: String,
    /// Rounds that were asked so far, this one included.
    asked: usize,
    keys: Vec<String>,
    answers: Vec<String>,
}

/// The next step of a request that asks; none when it is one that does not.
pub(crate) fn step(server: &Server, method: &str, params: &Params<'_>, declared: &str) -> Option<Outcome> {
    let arguments = params.arguments();
    let rounds = match params.name.as_deref() {
        Some("ask") if method == "tools/call" => vec![vec![questions::Question {
            key: "q".into(),
            method: crate::tools::string(arguments, "method", "elicitation/create"),
            params: member(arguments, "params").unwrap_or_else(|| "{}".into()),
        }]],
        _ => questions::script(crate::modern::REVISION, method, params.subject(), arguments)?,
    };
    Some(advance(server, method, params, &rounds, declared))
}

fn advance(server: &Server, method: &str, params: &Params<'_>, rounds: &[Round], declared: &str) -> Outcome {
    let arguments = params.arguments();
    let request = format!("{method} {} {arguments}", params.subject());
    let (asked, mut answers) = match (params.request_state.as_deref(), params.input_responses) {
        (None, None) => (0, Vec::new()),
        (Some(state), responses) => {
            let known = server.pending.lock().expect("short").remove(state);
            let Some(pending) = known else {
                return refuse(server, &format!("an unknown or used requestState: {state:?}"));
            };
            if pending.request != request {
                return refuse(server, &format!("a state of {:?} with {request:?}", pending.request));
            }
            let mut answers = pending.answers;
            answers.extend(match responses_of(server, &pending.keys, responses) {
                Ok(answers) => answers,
                Err(problem) => return refuse(server, &problem),
            });
            (pending.asked, answers)
        }
        (None, responses) => {
            let keys: Vec<String> = rounds[0].iter().map(|question| question.key.clone()).collect();
            if !stateless(arguments) {
                return refuse(server, "inputResponses without the requestState that was given");
            }
            match responses_of(server, &keys, responses) {
                Ok(answers) => (1, answers),
                Err(problem) => return refuse(server, &problem),
            }
        }
    };
    let Some(round) = rounds.get(asked) else {
        return Ok(questions::result(method, params.subject(), &std::mem::take(&mut answers)));
    };
    if member(arguments, "anyway").as_deref() != Some("true") {
        for needed in round.iter().map(questions::needs) {
            if !covers(declared, &needed) {
                return Err(Failure {
                    code: -32021,
                    message: "This needs a capability that was not declared".into(),
                    data: Some(format!(r#"{{"requiredCapabilities":{needed}}}"#)),
                });
            }
        }
    }
    let requests = round.iter().map(|question| {
        let key = serde_json::to_string(&question.key).expect("a string is JSON");
        format!(r#"{key}:{{"method":"{}","params":{}}}"#, question.method, question.params)
    });
    let requests = requests.collect::<Vec<_>>().join(",");
    let mut members = vec![r#""resultType":"input_required""#.to_owned()];
    if !round.is_empty() {
        members.push(format!(r#""inputRequests":{{{requests}}}"#));
    }
    if !stateless(arguments) {
        // What a careless peer would trim, escape otherwise or decode.
        let state = format!(" \"fake\"\u{e9}%41+/= {}\t", server.number());
        let text = serde_json::to_string(&state).expect("a string is JSON");
        members.push(format!(r#""requestState":{text}"#));
        let keys = round.iter().map(|question| question.key.clone()).collect();
        let pending = Pending { request, asked: asked + 1, keys, answers };
        server.pending.lock().expect("short").insert(state, pending);
    }
    Ok(format!("{{{}}}", members.join(",")))
}

/// The tool's argument `stateless`: the server keeps nothing and gives no state (one round only).
fn stateless(arguments: &str) -> bool {
    member(arguments, "stateless").as_deref() == Some("true")
}

/// The answers to exactly these keys, in their order.
fn responses_of(server: &Server, keys: &[String], responses: Option<&RawValue>) -> Result<Vec<String>, String> {
    let text = responses.map_or("{}", RawValue::get);
    let mut responses: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|problem| format!("inputResponses is no object of answers: {problem}"))?;
    let mut answers = Vec::new();
    for key in keys {
        let answer = responses.remove(key).ok_or_else(|| format!("no answer to {key:?} in {text}"))?.get();
        if !answer.starts_with('{') {
            return Err(format!("the answer to {key:?} is no object: {answer}"));
        }
        server.desk.note("answers", &format!(r#"{{"key":"{key}","answer":{{"result":{answer}}}}}"#));
        answers.push(format!(r#"{{"result":{answer}}}"#));
    }
    match responses.keys().next() {
        Some(stray) => Err(format!("an answer to {stray:?}, which was not asked in this round")),
        None => Ok(answers),
    }
}

fn refuse(server: &Server, problem: &str) -> Outcome {
    server.desk.note("violations", problem);
    Err(Failure::from((-32602, problem.to_owned())))
}

/// True when what was declared has everything that is needed. `elicitation: {}` means forms.
fn covers(declared: &str, needed: &Value) -> bool {
    let declared: Value = serde_json::from_str(declared).unwrap_or_default();
    needed.as_object().expect("needs are objects").iter().all(|(key, modes)| {
        let modes = modes.as_object().expect("needs are objects");
        declared[key].as_object().is_some_and(|has| {
            modes.keys().all(|mode| has.contains_key(mode) || (mode == "form" && !has.contains_key("url")))
        })
    })
}
