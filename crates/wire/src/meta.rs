//! Reserved `_meta` keys and the progress token (mcp-protocol 2.6, 2.7).

use crate::json::Json;
use crate::object::Object;

/// Keys inside `_meta` that the gateway reads or writes.
pub mod key {
    /// Token under which the requestor wants progress.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// The claim of a modern request.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Capabilities of the client of a modern request.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Identity of the client of a modern request.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Level from which a modern request wants log messages.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Identity of the server of a modern result.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// The listen request that a message on its stream belongs to: that request's id.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Task that a 2025-11-25 message belongs to.
    pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
    /// Why the gateway itself could not serve a call (mcp-protocol 2.4).
    pub const FAULT: &str = "dev.trunkline/fault";
    /// How often the gateway sent a request again that may have run before (reliability 5). Stands in the results of such.
    pub const REPLAYS: &str = "dev.trunkline/replays";
    /// How many gateways a request has passed (R-34).
    pub const HOPS: &str = "dev.trunkline/hops";
}

/// Returns the progress token in `params._meta`: a string or a number, as the requestor wrote it.
pub fn progress_token(params: &Object) -> Option<Json> {
    let token = params.get_object("_meta")?.get(key::PROGRESS_TOKEN)?.clone();
    matches!(token.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_token_of_either_type() {
        let params = |text| Object::parse(&Json::literal(text)).expect("an object");
        assert_eq!(progress_token(&params(r#"{"_meta":{"progressToken":0}}"#)), Some(Json::from(0)));
        assert_eq!(progress_token(&params(r#"{"_meta":{"progressToken":"a"}}"#)), Some(Json::from("a")));
        assert_eq!(progress_token(&params(r#"{"_meta":{"progressToken":null}}"#)), None);
        assert_eq!(progress_token(&params("{}")), None);
    }
}
