//! What each request to a modern server carries in `_meta` (mcp-protocol 4.9): the revision, who is speaking, and what
//! the caller can be asked. There is no handshake that could have said it before. Pure.

use http::{HeaderName, HeaderValue};
use trunkline_wire::{Json, Object, Revision, headers, key};

use crate::environment::LogLevel;

/// The gateway itself; every server knows it by this name.
pub(crate) const CLIENT_INFO: &str = concat!(r#"{"name":"trunkline","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// What is to be written into an envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    /// The revision that was agreed on.
    pub(crate) revision: Revision,
    /// An object: empty for what nobody asked the gateway to do.
    pub(crate) capabilities: &'a Json,
    /// From which level on log messages are wanted.
    pub(crate) level: Option<LogLevel>,
    /// The progress token, which is the id of the request, if progress is wanted.
    pub(crate) token: Option<u64>,
}

impl Envelope<'_> {
    /// The `_meta` of a request that has `said` for the rest.
    pub(crate) fn around(self, said: &Object) -> Json {
        let revision = Json::from(self.revision.as_str());
        let client = Json::literal(CLIENT_INFO);
        let level = self.level.map(|level| Json::from(level.as_str()));
        let token = self.token.map(Json::from);
        let mut members = Vec::with_capacity(5);
        members.push((key::PROTOCOL_VERSION, &revision));
        members.push((key::CLIENT_INFO, &client));
        members.push((key::CLIENT_CAPABILITIES, self.capabilities));
        members.extend(level.as_ref().map(|level| (key::LOG_LEVEL, level)));
        members.extend(token.as_ref().map(|token| (key::PROGRESS_TOKEN, token)));
        if level.is_none() && said.get(key::LOG_LEVEL).is_some() {
            // A level that the client named is for a server that declared nothing of the kind.
            let mut rest = said.clone();
            rest.remove(key::LOG_LEVEL);
            return rest.to_json_with(&members);
        }
        said.to_json_with(&members)
    }
}

/// The header that repeats what a request is about.
pub(crate) fn name_header(name: &str) -> Vec<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&headers::encode(name));
    value.map(|value| (HeaderName::from_static(headers::NAME), value)).into_iter().collect()
}

/// Writes the envelope of the gateway's own requests into `params`.
pub(crate) fn stamp(params: &mut Object, revision: Revision) {
    let said = params.get_object("_meta").unwrap_or_default();
    let envelope = Envelope { revision, capabilities: &Json::literal("{}"), level: None, token: None };
    params.set("_meta", envelope.around(&said));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_ours_and_the_rest_of_meta_stays() {
        let claimed = r#"{"name":"x","_meta":{"a/b":1.0,"io.modelcontextprotocol/protocolVersion":"1","io.modelcontextprotocol/logLevel":"debug"}}"#;
        let mut params = Object::parse(&Json::literal(claimed)).expect("an object");
        stamp(&mut params, Revision::V2026_07_28);
        let meta = params.get_object("_meta").expect("an object");
        assert_eq!(meta.get("a/b"), Some(&Json::literal("1.0")));
        assert_eq!(meta.get_str(key::PROTOCOL_VERSION).as_deref(), Some("2026-07-28"));
        assert_eq!(meta.get(key::CLIENT_CAPABILITIES), Some(&Json::literal("{}")));
        assert_eq!(
            meta.get_object(key::CLIENT_INFO).and_then(|info| info.get_str("name")).as_deref(),
            Some("trunkline")
        );
        assert_eq!(meta.get(key::LOG_LEVEL), None);
        let capabilities = Json::literal(r#"{"roots":{}}"#);
        let (revision, level) = (Revision::V2026_07_28, Some(LogLevel::Info));
        let envelope = Envelope { revision, capabilities: &capabilities, level, token: Some(7) };
        let meta = Object::parse(&envelope.around(&meta)).expect("no key twice");
        assert_eq!(meta.get_str(key::LOG_LEVEL).as_deref(), Some("info"));
        assert_eq!(meta.get(key::CLIENT_CAPABILITIES), Some(&capabilities));
        assert_eq!(meta.get(key::PROGRESS_TOKEN), Some(&Json::from(7)));
        assert_eq!(meta.get("a/b"), Some(&Json::literal("1.0")));
    }
}
