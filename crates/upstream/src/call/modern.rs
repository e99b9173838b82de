//! What a request to a modern server carries beyond what was asked, and what its result means (mcp-protocol 2.10, 4.4,
//! 4.9, 5.10). Pure.

use http::{HeaderName, HeaderValue};
use trunkline_telemetry::redact;
use trunkline_wire::{Json, Method, Object, Revision, headers};

use super::Ask;
use crate::envelope::{self, Envelope};
use crate::environment::LogLevel;
use crate::limits::QUESTIONS_MAX;
use crate::offer::Offer;
use crate::questions::{Asked, Question};

/// What the answers to a round of questions come back as.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) responses: Object,
    /// What the server wants back, as it wrote it.
    pub(super) state: Option<Json>,
}

/// What a result is.
#[derive(Debug)]
pub(super) enum Meaning {
    /// The answer.
    Answer,
    /// The server needs answers first.
    Input(Asked),
    /// A task does the work; what the server says of it.
    Task(Object),
    /// It is not what the protocol allows; why, for people.
    Bad(String),
}

/// The `params` of a request that goes out with the id `id`, which is its progress token as well. What else it carries is
/// written into those of `ask`, where the next attempt writes its own.
pub(super) fn dress(
    ask: &mut Ask,
    revision: Revision,
    capabilities: &Json,
    level: Option<LogLevel>,
    id: u64,
    reply: Option<&Reply>,
) -> Json {
    let Ask { params, meta, progress, .. } = ask;
    let envelope = Envelope { revision, capabilities, level, token: progress.then_some(id) };
    params.set("_meta", envelope.around(meta));
    // A server ignores it (mcp-protocol 5.1).
    params.remove("task");
    let Some(reply) = reply else { return params.to_json() };
    let mut params = params.clone();
    params.set("inputResponses", reply.responses.to_json());
    match &reply.state {
        Some(state) => params.set("requestState", state.clone()),
        None => drop(params.remove("requestState")),
    }
    params.to_json()
}

/// The headers that repeat the body: `Mcp-Name`, and the annotated arguments of a tool. `known` finds a tool's
/// annotations.
pub(super) fn mirrored(method: &Method, params: &Object, offer: &Offer) -> Vec<(HeaderName, HeaderValue)> {
    let Some(name) = headers::name_key(method).and_then(|key| params.get_str(key)) else { return Vec::new() };
    let mut all = envelope::name_header(&name);
    // A tool that was never listed goes without (mcp-protocol 4.4).
    if *method == Method::ToolsCall
        && let Some(annotated) = offer.mirrored.get(&name)
    {
        let arguments = params.get_object("arguments").unwrap_or_default();
        let values = headers::param_values(annotated, &arguments);
        let header = |(name, value): &(&str, String)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?));
        all.extend(values.iter().filter_map(header));
    }
    all
}

/// Says what a result of a modern server means for the request `method`.
pub(super) fn meaning(method: &Method, result: &Json) -> Meaning {
    // Most servers write it first; a large result is not read for it then.
    if result.as_bytes().starts_with(br#"{"resultType":"complete""#) {
        return Meaning::Answer;
    }
    let result_object = match Object::parse(result) {
        Ok(object) => object,
        Err(malformed) => return Meaning::Bad(malformed.to_string()),
    };
    let kind = match result_object.get("resultType") {
        // Older servers leave it out.
        None => return Meaning::Answer,
        Some(kind) => kind.decode_str().unwrap_or_default(),
    };
    match kind.as_str() {
        "complete" => Meaning::Answer,
        "input_required" => input(method, &result_object).map_or_else(
            |why| Meaning::Bad(format!("it asks for input, {why}")),
            |(questions, state)| Meaning::Input(Asked { questions, state, held: false, raw: Some(result.clone()) }),
        ),
        "task" if *method == Method::ToolsCall => Meaning::Task(result_object),
        other => Meaning::Bad(format!("a result of the unknown type `{}`", redact::printable(other, 40))),
    }
}

/// Reads the questions of a result, and the state to be given back with their answers.
fn input(method: &Method, result: &Object) -> Result<(Vec<Question>, Option<Json>), &'static str> {
    if !matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead) {
        return Err("which this request does not allow");
    }
    let state = result.get("requestState").cloned();
    if state.as_ref().is_some_and(|state| state.as_bytes().first() != Some(&b'"')) {
        return Err("and its `requestState` is no string");
    }
    let requests = match result.get("inputRequests") {
        Some(requests) => Object::parse(requests).map_err(|_| "and its `inputRequests` are no object")?,
        None => Object::new(),
    };
    let questions = questions(&requests)?;
    if questions.is_empty() && state.is_none() {
        return Err("and names none");
    }
    Ok((questions, state))
}

/// Reads the members of `inputRequests`.
pub(super) fn questions(requests: &Object) -> Result<Vec<Question>, &'static str> {
    let questions = requests.iter().map(|(key, entry)| question(key, entry)).collect::<Result<Vec<_>, _>>()?;
    if questions.len() > QUESTIONS_MAX {
        return Err("and asks more than a person answers");
    }
    Ok(questions)
}

fn question(key: &str, entry: &Json) -> Result<Question, &'static str> {
    let entry = Object::parse(entry).map_err(|_| "and one of its requests is no object")?;
    let method = Method::from(entry.get_str("method").unwrap_or_default().as_str());
    let params = entry.get("params").filter(|params| params.is_object()).cloned();
    let bare = method == Method::RootsList;
    if !matches!(method, Method::ElicitationCreate | Method::SamplingCreateMessage | Method::RootsList) {
        return Err("and one of its requests is of no kind that may be asked");
    }
    if params.is_none() && !bare {
        return Err("and one of its requests has no `params`");
    }
    Ok(Question { key: key.into(), method, params })
}

/// The code of an error.
pub(super) fn code_of(error: &Json) -> Option<i64> {
    Object::parse(error).ok()?.get("code")?.decode().ok()
}

/// The message of an error, for people.
pub(super) fn message_of(error: &Json) -> String {
    let message = Object::parse(error).ok().and_then(|error| error.get_str("message"));
    redact::printable(&message.unwrap_or_else(|| "no reason given".to_owned()), 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::ask;

    fn meant(text: &'static str) -> Meaning {
        meaning(&Method::ToolsCall, &Json::literal(text))
    }

    fn why(text: &'static str) -> String {
        let Meaning::Bad(why) = meant(text) else { panic!("bad") };
        why
    }

    #[test]
    fn a_complete_result_and_one_without_a_type_are_answers() {
        for text in
            [r#"{"resultType":"complete","content":[]}"#, r#"{"content":[]}"#, r#"{"a":1,"resultType":"complete"}"#]
        {
            assert!(matches!(meant(text), Meaning::Answer), "{text}");
        }
        // What is inside a payload is none of our business.
        let inner = r#"{"structuredContent":{"resultType":"input_required"},"resultType":"complete"}"#;
        assert!(matches!(meant(inner), Meaning::Answer));
        assert_eq!(why(r#"{"resultType":"stream"}"#), "a result of the unknown type `stream`");
        assert_eq!(why(r#"{"resultType":7}"#), "a result of the unknown type ``");
    }

    #[test]
    fn questions_keep_their_keys_and_texts() {
        let text = r#"{"resultType":"input_required","requestState":"a\u0062",
            "inputRequests":{"e":{"method":"elicitation/create","params":{"message":"m"}},"r":{"method":"roots/list"}}}"#;
        let Meaning::Input(asked) = meant(text) else { panic!("asked") };
        assert_eq!(asked.state, Some(Json::literal(r#""a\u0062""#)), "as it was written");
        let keys: Vec<&str> = asked.questions.iter().map(|question| &*question.key).collect();
        assert_eq!((keys, asked.held), (vec!["e", "r"], false));
        assert_eq!(asked.questions[0].params, Some(Json::literal(r#"{"message":"m"}"#)));
        assert_eq!(asked.raw, Some(Json::literal(text)));
    }

    #[test]
    fn a_round_that_asks_nothing_or_nonsense_is_none() {
        assert!(why(r#"{"resultType":"input_required"}"#).contains("names none"));
        assert!(why(r#"{"resultType":"input_required","inputRequests":{}}"#).contains("names none"));
        assert!(why(r#"{"resultType":"input_required","requestState":7}"#).contains("no string"));
        let of = |entry: &str| {
            let text = format!(r#"{{"resultType":"input_required","inputRequests":{{"a":{entry}}}}}"#);
            why(text.leak())
        };
        assert!(of(r#"{"method":"tools/call","params":{}}"#).contains("no kind"));
        assert!(of(r#"{"method":"sampling/createMessage"}"#).contains("no `params`"));
        assert!(of("7").contains("no object"));
        let elsewhere = Json::literal(r#"{"resultType":"input_required","requestState":"x"}"#);
        assert!(matches!(meaning(&Method::ToolsList, &elsewhere), Meaning::Bad(_)));
    }

    #[test]
    fn g65_headers_repeat_the_servers_own_name_and_the_annotated_arguments() {
        let schema = r#"{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}}"#;
        let annotated = headers::param_headers(&Json::literal(schema)).expect("sound");
        let offer = Offer { mirrored: [("find".to_owned(), annotated.into())].into(), ..Offer::default() };
        let of = |method: &Method, params| mirrored(method, &ask(method.clone(), params).params, &offer);
        let call = of(&Method::ToolsCall, r#"{"name":"find","arguments":{"city":"Köln"}}"#);
        let expected = [("mcp-name", "find"), ("mcp-param-city", "=?base64?S8O2bG4=?=")];
        let call: Vec<_> = call.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("visible"))).collect();
        assert_eq!(call, expected);
        assert_eq!(of(&Method::ToolsCall, r#"{"name":"other","arguments":{"city":"x"}}"#).len(), 1);
        assert_eq!(of(&Method::ResourcesRead, r#"{"uri":"a:b"}"#)[0].1, "a:b");
        assert!(of(&Method::ToolsList, "{}").is_empty());
    }

    #[test]
    fn g71_a_reply_carries_the_answers_of_its_round_and_the_exact_state() {
        let mut asked = ask(Method::ToolsCall, r#"{"name":"x","requestState":"old","task":{}}"#);
        let reply = Reply {
            responses: [("e", Json::literal(r#"{"action":"accept"}"#))].into_iter().collect(),
            state: Some(Json::literal(r#""\u0061""#)),
        };
        let mut text = |reply| {
            let dressed = dress(&mut asked, Revision::V2026_07_28, &Json::literal("{}"), None, 7, reply);
            String::from_utf8_lossy(dressed.as_bytes()).into_owned()
        };
        let sent = text(Some(&reply));
        assert!(sent.contains(r#""requestState":"\u0061""#), "{sent}");
        assert!(sent.contains(r#""inputResponses":{"e":{"action":"accept"}}"#), "{sent}");
        assert!(!sent.contains("task") && !sent.contains("progressToken"), "{sent}");
        let stateless = text(Some(&Reply { state: None, ..reply.clone() }));
        assert!(!stateless.contains("requestState"), "{stateless}");
    }
}
