//! What the tests' clients answer when a server asks the person: always the same, by the kind of question.

use serde_json::{Value, json};

/// Everything that a client of the newest revision can be asked.
pub(crate) fn abilities() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
}

/// The same as far as a legacy revision has it.
pub(crate) fn legacy_abilities(revision: &str) -> Value {
    match revision {
        "2024-11-05" | "2025-03-26" => json!({ "sampling": {}, "roots": { "listChanged": true } }),
        "2025-06-18" => json!({ "elicitation": {}, "sampling": {}, "roots": { "listChanged": true } }),
        _ => json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": { "listChanged": true } }),
    }
}

/// The result of a question: an object with `method` and `params`.
pub(crate) fn answer(question: &Value) -> Value {
    match question["method"].as_str() {
        Some("elicitation/create") if question["params"]["mode"] == "url" => json!({ "action": "accept" }),
        Some("elicitation/create") => json!({ "action": "accept", "content": { "account": "main" } }),
        Some("sampling/createMessage") => json!({
            "role": "assistant",
            "content": { "type": "text", "text": "word" },
            "model": "none",
            "stopReason": "endTurn",
        }),
        Some("roots/list") => json!({ "roots": [{ "uri": "file:///desk", "name": "desk" }] }),
        Some("ping") => json!({}),
        other => panic!("nobody asks {other:?}: {question}"),
    }
}
