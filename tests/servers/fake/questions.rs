//! What the asking tools ask, era by era alike: rounds of questions, as data.
//!
//! `ask.rs` plays them as a legacy server (requests to the client while the call is open), `rounds.rs` as a modern
//! one (`input_required` results and retries). The outcome is the same text: a JSON array with one entry for each
//! question in order, `{"result": ...}` or `{"error": ...}` as the client gave it.

use serde_json::{Value, json};

use crate::message::member;
use crate::tools::text;

#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) key: String,
    pub(crate) method: String,
    pub(crate) params: String,
}

pub(crate) type Round = Vec<Question>;

/// Tools that ask: name, and the first revision whose clients can be asked so.
const TOOLS: [(&str, &str); 7] = [
    ("ask_form", "2025-06-18"),
    ("ask_url", "2025-11-25"),
    ("ask_sampling", "2024-11-05"),
    ("ask_roots", "2024-11-05"),
    ("ask_thrice", "2025-06-18"),
    ("ask_both", "2025-06-18"),
    ("ask_state", "2026-07-28"),
];

pub(crate) fn names(revision: &str) -> impl Iterator<Item = &'static str> {
    TOOLS.into_iter().filter(move |(_, since)| *since <= revision).map(|(name, _)| name)
}

/// The rounds of a tool, prompt or resource; none when it asks nothing.
///
/// Arguments of the tools: `tag` (comes back in the first message, to tell calls apart), `schema` (the form's),
/// `params` (of the sampling request).
pub(crate) fn script(revision: &str, method: &str, subject: &str, arguments: &str) -> Option<Vec<Round>> {
    let tool = match method {
        "tools/call" => subject,
        "prompts/get" if subject == "asking" => "ask_form",
        "resources/read" if subject.ends_with("/asking") => "ask_form",
        _ => return None,
    };
    let tag = member(arguments, "tag").and_then(|tag| serde_json::from_str::<String>(&tag).ok()).unwrap_or_default();
    let form = |message: &str| ("elicitation/create", form(revision, &format!("{message}{tag}"), arguments));
    let plan = match tool {
        "ask_form" => vec![vec![form("Which account? ")]],
        "ask_url" => vec![vec![("elicitation/create", url(revision, &tag))]],
        "ask_sampling" => vec![vec![("sampling/createMessage", sampling(arguments))]],
        "ask_roots" => vec![vec![("roots/list", json!({}))]],
        "ask_thrice" => vec![vec![form("First? ")], vec![form("Second? ")], vec![form("Third? ")]],
        "ask_both" => vec![vec![form("Which account? "), ("sampling/createMessage", sampling(arguments))]],
        "ask_state" => vec![vec![], vec![form("And now? ")], vec![]],
        _ => return None,
    };
    let rounds = plan.into_iter().enumerate().map(|(round, questions)| {
        let questions = questions.into_iter().enumerate().map(|(number, (method, params))| Question {
            key: format!("r{} q{}", round + 1, number + 1),
            method: method.into(),
            params: params.to_string(),
        });
        questions.collect()
    });
    Some(rounds.collect())
}

fn form(revision: &str, message: &str, arguments: &str) -> Value {
    let schema = member(arguments, "schema").and_then(|schema| serde_json::from_str(&schema).ok());
    let schema: Value = schema.unwrap_or_else(|| {
        json!({ "type": "object", "properties": { "account": { "type": "string", "x-odd": 1 } }, "required": ["account"] })
    });
    let mut params = json!({ "message": message.trim_end(), "requestedSchema": schema });
    if revision >= "2025-11-25" {
        params["mode"] = "form".into();
    }
    params
}

fn url(revision: &str, tag: &str) -> Value {
    let mut params = json!({ "mode": "url", "message": format!("Sign in {tag}").trim_end(), "url": "https://sign.in.example/fake?a=1&b=%20" });
    if revision < "2026-07-28" {
        params["elicitationId"] = format!("fake-elicitation-{tag}").into();
    }
    params
}

fn sampling(arguments: &str) -> Value {
    let params = member(arguments, "params").and_then(|params| serde_json::from_str(&params).ok());
    params.unwrap_or_else(|| {
        json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": "Say one word." } }],
            "maxTokens": 100,
            "metadata": { "x-odd": 9_007_199_254_740_993_u64 },
        })
    })
}

/// What the client must have declared for a question, as `requiredCapabilities` has it.
pub(crate) fn needs(question: &Question) -> Value {
    match question.method.as_str() {
        "elicitation/create" if question.params.contains(r#""mode":"url""#) => json!({ "elicitation": { "url": {} } }),
        "elicitation/create" => json!({ "elicitation": { "form": {} } }),
        "sampling/createMessage" => json!({ "sampling": {} }),
        _ => json!({ "roots": {} }),
    }
}

/// The tool's result once everything was answered.
pub(crate) fn result(method: &str, uri: &str, answers: &[String]) -> String {
    let all = format!("[{}]", answers.join(","));
    match method {
        "prompts/get" => {
            json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": all } }] }).to_string()
        }
        "resources/read" => json!({ "contents": [{ "uri": uri, "text": all }] }).to_string(),
        _ => text(&all),
    }
}
