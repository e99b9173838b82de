//! Questions to a modern client: a result that says what is wanted, and the request that comes back with the answers
//! (mcp-protocol 5.9 to 5.11).
//!
//! The client carries a token from the one to the other. Three kinds differ in what happened to the call meanwhile: it
//! waits at a legacy server (`park`), it ended at a modern one that will know its own state again (`pass`), or it ended
//! with word that a URL must be visited before it is made anew (`url`). A token that is wrong in any way never starts the
//! call afresh: the tool would run twice.

use serde_json::{Value, json};
use trunkline_upstream::{Asked, Question, Upstream};
use trunkline_wire::{Era, Json, Method, Needle, Object, ServerName};

use crate::Hub;
use crate::asking;
use crate::client::ModernClient;
use crate::limits::{ANSWER_WAIT, ROUNDS_MAX};
use crate::parked::Parked;
use crate::refusal;
use crate::relay::Input;
use crate::seal::{State, Subject};

/// What a request brings back from an earlier round.
#[derive(Debug)]
pub(crate) enum Retry {
    /// A call that waits here.
    Park {
        /// Names it.
        nonce: Box<str>,
        /// By the keys of the questions.
        answers: Object,
    },
    /// A call that waited in a process that is no more.
    Lost,
    /// A call that ended at a modern server, with the server's own state.
    Pass {
        /// `inputResponses`, as the client wrote it.
        answers: Option<Json>,
        /// The server's own `requestState`.
        state: Option<Json>,
    },
    /// A call to be made again once the URLs were visited.
    Url {
        /// By the keys of the URLs.
        answers: Object,
        /// The round it was.
        round: u32,
    },
}

/// Takes what a request of `owner` brings back out of its `params`. Fails with the error that the client gets, and then nothing has
/// happened: a call that waits goes on waiting.
pub(crate) fn retry(
    hub: &Hub,
    upstream: &Upstream,
    subject: &Subject,
    params: &mut Object,
    owner: Option<&str>,
) -> Result<Option<Retry>, Json> {
    let (state, responses) = (params.remove("requestState"), params.remove("inputResponses"));
    if state.is_none() && responses.is_none() {
        return Ok(None);
    }
    let answers = responses.as_ref().map(answers).transpose()?.unwrap_or_default();
    let Some(state) = state else {
        // A modern server may ask without a state of its own; a legacy one never does.
        return match upstream.offer().revision.map(trunkline_wire::Revision::era) {
            Some(Era::Modern) => Ok(Some(Retry::Pass { answers: responses, state: None })),
            _ => Err(refusal::invalid_params("`inputResponses` came without the `requestState` that it belongs to")),
        };
    };
    let foreign = || refusal::invalid_params("`requestState` is not one that this gateway gave, or it was changed");
    let other = || refusal::invalid_params("`requestState` belongs to another request");
    let opened = state.decode_str().and_then(|token| hub.sealer().open(&token, owner).ok());
    match opened.ok_or_else(foreign)?.state {
        State::Park { nonce, digest, process } if digest == subject.digest() => {
            Ok(Some(if *process == *hub.process() { Retry::Park { nonce, answers } } else { Retry::Lost }))
        }
        State::Pass { server, inner } if *server == *upstream.name().as_str() => {
            Ok(Some(Retry::Pass { answers: responses, state: Some(Json::from(&*inner)) }))
        }
        State::Url { until, .. } if hub.is_past(&until) => Err(used()),
        State::Url { digest, round, .. } if digest == subject.digest() => Ok(Some(Retry::Url { answers, round })),
        State::Park { .. }
        | State::Pass { .. }
        | State::Task { .. }
        | State::Url { .. }
        | State::Session { .. }
        | State::Cursor { .. } => Err(other()),
    }
}

/// Reads `inputResponses`.
pub(crate) fn answers(responses: &Json) -> Result<Object, Json> {
    let read = Object::parse(responses).ok().filter(|answers| answers.iter().all(|(_, it)| it.is_object()));
    read.ok_or_else(|| refusal::invalid_params("`inputResponses` must be an object whose values are objects"))
}

/// What a client hears whose token was used, or is too old.
pub(crate) fn used() -> Json {
    refusal::invalid_params("`requestState` was used already, or is too old; what it stood for is over")
}

/// Whether every URL was agreed to (mcp-protocol 5.11).
pub(crate) fn all_accepted(answers: &Object) -> bool {
    !answers.is_empty()
        && answers.iter().all(|(_, answer)| {
            Object::parse(answer).is_ok_and(|answer| answer.get_str("action").as_deref() == Some("accept"))
        })
}

/// The result that asks the client, which is `owner`'s, for what `input` needs.
pub(crate) fn required(hub: &Hub, server: &ServerName, subject: &Subject, owner: Option<&str>, input: Input) -> Json {
    match input {
        Input { held: Some(parked), .. } => park(hub, server, subject, owner, parked),
        Input { asked: Some(asked), .. } => pass(hub, server, owner, &asked),
        Input { held: None, asked: None } => unreachable!("an input asks something"),
    }
}

/// Parks a call whose server waits.
fn park(hub: &Hub, server: &ServerName, subject: &Subject, owner: Option<&str>, mut parked: Parked) -> Json {
    parked.rounds += 1;
    let mut result = Object::new();
    result.set("resultType", Json::from("input_required"));
    result.set("inputRequests", requests(&parked.questions, server));
    let nonce = hub.parks().park(server, parked);
    let state = State::Park { nonce, digest: subject.digest(), process: hub.process().into() };
    let token = hub.sealer().seal(&state, owner);
    result.set("requestState", Json::from(token.as_str()));
    result.to_json()
}

/// Passes a modern server's result on: its text, but for the names in it and its state.
fn pass(hub: &Hub, server: &ServerName, owner: Option<&str>, asked: &Asked) -> Json {
    let mut result = asked.raw.as_ref().and_then(|raw| Object::parse(raw).ok()).unwrap_or_default();
    result.set("resultType", Json::from("input_required"));
    if !asked.questions.is_empty() {
        result.set("inputRequests", requests(&asked.questions, server));
    }
    if let Some(inner) = asked.state.as_ref().and_then(Json::decode_str) {
        let state = State::Pass { server: server.as_str().into(), inner: inner.into() };
        let token = hub.sealer().seal(&state, owner);
        result.set("requestState", Json::from(token.as_str()));
    }
    result.to_json()
}

/// `inputRequests`: the questions by their keys.
pub(crate) fn requests(questions: &[Question], server: &ServerName) -> Json {
    let mut requests = Object::new();
    for question in questions {
        let params = asking::for_modern(question, server);
        let mut request = Object::new();
        request.set("method", Json::from(question.method.as_str()));
        if question.params.is_some() || !params.is_empty() {
            request.set("params", params.to_json());
        }
        requests.set(&question.key, request.to_json());
    }
    requests.to_json()
}

/// The URLs that an error of a legacy server wants visited, if it is that error (mcp-protocol 5.11).
pub(crate) fn wanted_urls(error: &Json) -> Option<Vec<Json>> {
    static CODE: Needle = Needle::new("-32042");
    if !CODE.is_in(error.as_bytes()) {
        return None;
    }
    let error: Value = error.decode().ok()?;
    if error["code"] != json!(trunkline_wire::code::URL_ELICITATION_REQUIRED) {
        return None;
    }
    let urls = error["data"]["elicitations"].as_array()?;
    Some(urls.iter().map(Json::encode).collect())
}

/// Asks a modern client to visit `urls`, after `round` rounds. `None` if it cannot, or was asked too often.
pub(crate) fn visit(
    hub: &Hub,
    server: &ServerName,
    subject: &Subject,
    client: &ModernClient,
    urls: &[Json],
    round: u32,
) -> Option<Json> {
    let questions: Vec<Question> = (1..)
        .zip(urls)
        .map(|(number, params)| Question {
            key: format!("u{number}").into(),
            method: Method::ElicitationCreate,
            params: Some(params.clone()),
        })
        .collect();
    let can = |question: &Question| {
        let params = question.params.as_ref().and_then(|params| Object::parse(params).ok());
        params.is_some_and(|params| client.abilities.permits(&question.method, &params).is_ok())
    };
    if round >= ROUNDS_MAX || questions.is_empty() || !questions.iter().all(can) {
        return None;
    }
    let until = hub.until(ANSWER_WAIT);
    let state = State::Url { digest: subject.digest(), round: round + 1, until };
    let token = hub.sealer().seal(&state, client.owner.as_deref());
    let mut result = Object::new();
    result.set("resultType", Json::from("input_required"));
    result.set("inputRequests", requests(&questions, server));
    result.set("requestState", Json::from(token.as_str()));
    Some(result.to_json())
}
