//! Tools on rmcp that ask the person for each kind of input, once and in three rounds.
//!
//! rmcp lets them ask clients of 2026-07-28 only; others get its error.

use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, InputRequest, InputRequests, InputRequiredResult};
use rmcp::{ErrorData, tool, tool_router};
use serde_json::{Value, json};

use crate::Desk;

type Answers = rmcp::model::InputResponses;
type Response = Result<CallToolResponse, ErrorData>;

/// The one key of every round.
const KEY: &str = "answer";

#[tool_router(router = ask_router, vis = "pub(crate)")]
impl Desk {
    #[tool(description = "Asks for a form")]
    async fn ask_form(&self, InputResponses(answers): InputResponses) -> Response {
        once(&form("Which account?"), answers.as_ref())
    }

    #[tool(description = "Asks for a visit to a web page")]
    async fn ask_url(&self, InputResponses(answers): InputResponses) -> Response {
        let params = json!({ "mode": "url", "message": "Sign in", "url": "https://sign.in.example/rmcp?a=1", "elicitationId": "" });
        once(&json!({ "method": "elicitation/create", "params": params }), answers.as_ref())
    }

    #[tool(description = "Asks for a message of the model")]
    async fn ask_sampling(&self, InputResponses(answers): InputResponses) -> Response {
        let messages = json!([{ "role": "user", "content": { "type": "text", "text": "Say one word." } }]);
        let params = json!({ "messages": messages, "maxTokens": 10 });
        once(&json!({ "method": "sampling/createMessage", "params": params }), answers.as_ref())
    }

    #[tool(description = "Asks for the roots")]
    async fn ask_roots(&self, InputResponses(answers): InputResponses) -> Response {
        once(&json!({ "method": "roots/list" }), answers.as_ref())
    }

    #[tool(description = "Asks three times")]
    async fn ask_thrice(&self, RequestState(state): RequestState, InputResponses(answers): InputResponses) -> Response {
        // Nothing hangs on this state, so it is not sealed.
        let mut heard: Vec<String> = match &state {
            None => Vec::new(),
            Some(state) => {
                serde_json::from_str(state).map_err(|_| ErrorData::invalid_params("not a state of ours", None))?
            }
        };
        if state.is_some() {
            heard.push(said(answers.as_ref())?);
        }
        if heard.len() == 3 {
            return Ok(complete(&heard.join(", ")));
        }
        let state = serde_json::to_string(&heard).map_err(|_| ErrorData::internal_error("no state", None))?;
        let question = form(&format!("Question {} of 3", heard.len() + 1));
        Ok(InputRequiredResult::new(Some(requests(&question)?), Some(state)).into())
    }
}

fn form(message: &str) -> Value {
    let schema =
        json!({ "type": "object", "properties": { "account": { "type": "string" } }, "required": ["account"] });
    let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
    json!({ "method": "elicitation/create", "params": params })
}

fn requests(question: &Value) -> Result<InputRequests, ErrorData> {
    let question: InputRequest = serde_json::from_value(question.clone())
        .map_err(|problem| ErrorData::internal_error(problem.to_string(), None))?;
    Ok(InputRequests::from([(KEY.to_owned(), question)]))
}

/// Asks, or repeats what was answered.
fn once(question: &Value, answers: Option<&Answers>) -> Response {
    if answers.is_none() {
        return Ok(InputRequiredResult::from_input_requests(requests(question)?).into());
    }
    Ok(complete(&said(answers)?))
}

fn complete(text: &str) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

/// What a client answered, in the words that every server of these tests uses.
fn said(answers: Option<&Answers>) -> Result<String, ErrorData> {
    let answer = answers.and_then(|answers| answers.get(KEY));
    let answer = answer.ok_or_else(|| ErrorData::invalid_params("no answer", None))?;
    if let Some(action) = answer["action"].as_str() {
        return Ok(format!("{action} {}", answer["content"]["account"].as_str().unwrap_or("-")));
    }
    if let Some(roots) = answer["roots"].as_array() {
        let uris: Vec<&str> = roots.iter().filter_map(|root| root["uri"].as_str()).collect();
        return Ok(uris.join(" "));
    }
    // One block, or a list of them.
    let text = answer["content"]["text"].as_str().or(answer["content"][0]["text"].as_str());
    Ok(text.unwrap_or("nothing").to_owned())
}
