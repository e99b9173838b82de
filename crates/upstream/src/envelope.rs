//! What each request to a modern server carries in `_meta` (mcp-protocol 4.9): the revision, who is speaking, and what
//! the caller can be asked. There is no handshake that could have said it before. Pure.

use trunkline_wire::{Json, Object, Revision, key};

use crate::environment::LogLevel;

/// The gateway itself; every server knows it by this name.
pub(crate) const CLIENT_INFO: &str = concat!(r#"{"name":"trunkline","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// Writes the envelope into `params`. `capabilities` is an object: empty for what nobody asked the gateway to do.
pub(crate) fn stamp(params: &mut Object, revision: Revision, capabilities: Json, level: Option<LogLevel>) {
    let mut meta = params.get_object("_meta").unwrap_or_default();
    meta.set(key::PROTOCOL_VERSION, Json::from(revision.as_str()));
    meta.set(key::CLIENT_INFO, Json::literal(CLIENT_INFO));
    meta.set(key::CLIENT_CAPABILITIES, capabilities);
    match level {
        Some(level) => meta.set(key::LOG_LEVEL, Json::from(level.as_str())),
        // A level that the client named is for a server that declared nothing of the kind.
        None => drop(meta.remove(key::LOG_LEVEL)),
    }
    params.set("_meta", meta.to_json());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_ours_and_the_rest_of_meta_stays() {
        let claimed = r#"{"name":"x","_meta":{"a/b":1.0,"io.modelcontextprotocol/protocolVersion":"1","io.modelcontextprotocol/logLevel":"debug"}}"#;
        let mut params = Object::parse(&Json::literal(claimed)).expect("an object");
        stamp(&mut params, Revision::V2026_07_28, Json::literal("{}"), None);
        let meta = params.get_object("_meta").expect("an object");
        assert_eq!(meta.get("a/b"), Some(&Json::literal("1.0")));
        assert_eq!(meta.get_str(key::PROTOCOL_VERSION).as_deref(), Some("2026-07-28"));
        assert_eq!(meta.get(key::CLIENT_CAPABILITIES), Some(&Json::literal("{}")));
        assert_eq!(
            meta.get_object(key::CLIENT_INFO).and_then(|info| info.get_str("name")).as_deref(),
            Some("trunkline")
        );
        assert_eq!(meta.get(key::LOG_LEVEL), None);
        stamp(&mut params, Revision::V2026_07_28, Json::literal("{}"), Some(LogLevel::Info));
        let meta = params.get_object("_meta").expect("an object");
        assert_eq!(meta.get_str(key::LOG_LEVEL).as_deref(), Some("info"));
    }
}
