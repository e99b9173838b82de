//! What a legacy client said about itself in `initialize`.
//!
//! Names are for people: they are cut, cleaned, and never decide anything.

use serde_json::json;
use trunkline_wire::{Json, Object, Request, Revision};

use crate::limits::CLIENT_NAME_CHARS;
use crate::refusal::Refusal;

/// The facts of a legacy client, fixed for the life of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The revision agreed on.
    pub revision: Revision,
    /// `clientInfo.name`.
    pub name: Box<str>,
    /// `clientInfo.version`.
    pub version: Box<str>,
    /// Whether all that the client hears is on one stream, which ends with the session and is never resumed
    /// (mcp-protocol 3.13).
    pub one_stream: bool,
}

impl Facts {
    /// Reads `params` of `initialize`. Lenient: what is missing is taken for unknown, since many clients are.
    pub(crate) fn read(request: &Request) -> Result<Self, Refusal> {
        let params = request.params().map_err(|error| Refusal::BadInitialize(error.to_string()))?;
        let info = params.get_object("clientInfo").unwrap_or_default();
        let text = |key: &str| {
            let text = info.get_str(key).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(CLIENT_NAME_CHARS).collect::<String>().into_boxed_str()
        };
        Ok(Self {
            revision: Revision::negotiate(&params.get_str("protocolVersion").unwrap_or_default()),
            name: text("name"),
            version: text("version"),
            one_stream: false,
        })
    }

    /// The result of `initialize`: what the gateway is and can do, whichever servers are up (mcp-protocol 3.9).
    pub(crate) fn welcome(&self, instructions: &Json) -> Json {
        let mut capabilities = json!({
            "tools": { "listChanged": true },
            "prompts": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "logging": {},
        });
        if self.revision > Revision::V2024_11_05 {
            capabilities["completions"] = json!({});
        }
        let mut info = json!({ "name": "trunkline", "version": env!("CARGO_PKG_VERSION") });
        if self.revision >= Revision::V2025_06_18 {
            info["title"] = json!("Trunkline");
        }
        let mut result = Object::new();
        result.set("protocolVersion", Json::from(self.revision.as_str()));
        result.set("capabilities", Json::encode(&capabilities));
        result.set("serverInfo", Json::encode(&info));
        result.set("instructions", instructions.clone());
        result.to_json()
    }
}

#[cfg(test)]
mod tests {
    use trunkline_wire::{Id, Method};

    use super::*;

    fn facts(params: &'static str) -> Facts {
        let params = Some(Json::literal(params));
        Facts::read(&Request { id: Id::from(0), method: Method::Initialize, params }).expect("readable")
    }

    #[test]
    fn a_client_gets_its_own_revision_and_what_that_revision_knows() {
        let old = facts(r#"{"protocolVersion":"2024-11-05","clientInfo":{"name":"x\n","version":"1"}}"#);
        assert_eq!((&*old.name, &*old.version), ("x", "1"));
        let value: serde_json::Value = old.welcome(&Json::from("hi")).decode().expect("JSON");
        assert_eq!(value["protocolVersion"], "2024-11-05");
        assert!(value["capabilities"].get("completions").is_none() && value["serverInfo"].get("title").is_none());
        let new: serde_json::Value = facts("{}").welcome(&Json::from("hi")).decode().expect("JSON");
        assert_eq!(new["protocolVersion"], "2025-11-25");
        assert_eq!(new["serverInfo"]["title"], "Trunkline");
        assert_eq!(new["capabilities"]["resources"]["subscribe"], true);
    }
}
