//! Tasks that pass from a modern server to a modern client who follows them by itself (mcp-protocol 5.14).
//!
//! The client sees the server's own text but for one member: `taskId` is a sealed token that says whose task it is, so
//! that what is asked of it later finds its server, and nobody can name a task that was not given to them. What a task
//! asks is shown as every other question is. For all other clients `upstream` absorbs tasks, and none gets here.

use serde_json::json;
use trunkline_wire::{Request, Response, RpcError, code, extensions};

use crate::Reply;

/// Refuses what needs the extension of a request that does not declare it; `what` begins the sentence.
pub(crate) fn undeclared(request: &Request, what: &str) -> Reply {
    let data = json!({ "requiredCapabilities": { "extensions": { extensions::TASKS: {} } } });
    let text = format!("{what} needs the extension {} in the request's client capabilities", extensions::TASKS);
    let error = RpcError { code: code::MISSING_CLIENT_CAPABILITY, message: text, data: Some(data) };
    let message = Response::error(Some(request.id.clone()), error.to_json()).text();
    Reply::Error { code: code::MISSING_CLIENT_CAPABILITY, message }
}
