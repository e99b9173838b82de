//! What of a request's `params` stays on this side (mcp-protocol 2.6, 5.1; S-38).
//!
//! Each hop owns some keys: they are taken out and, where the other hop has its own, written anew there. Every
//! other key passes, whoever invented it.

use trunkline_wire::{Json, Malformed, Object, key};

use crate::limits::HOPS_MAX;

/// A request's `params`, read once for all who look into them.
#[derive(Debug, Clone, Default)]
pub struct Params {
    /// The members, `_meta` among them as the client wrote it.
    pub(crate) members: Object,
    /// What stands in `_meta`; empty if that is missing or no object.
    pub(crate) meta: Object,
}

impl Params {
    /// Reads the `params` of a request; none are as good as empty ones.
    ///
    /// # Errors
    /// They are no object, or repeat a key.
    pub fn read(params: Option<&Json>) -> Result<Self, Malformed> {
        let members = params.map(Object::parse).transpose()?.unwrap_or_default();
        let meta = members.get_object("_meta").unwrap_or_default();
        Ok(Self { members, meta })
    }

    /// The members.
    pub fn members(&self) -> &Object {
        &self.members
    }

    /// The revision that they claim, whatever it is.
    pub fn claim(&self) -> Option<&Json> {
        self.meta.get(key::PROTOCOL_VERSION)
    }
}

/// A request that went through too many gateways.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyHops;

/// Members of `params` that only the gateway may send: it answers questions and absorbs tasks itself.
const OWN_PARAMS: [&str; 3] = ["task", "inputResponses", "requestState"];

/// Keys of the hop between client and gateway, and trace context: where requests are traced, each attempt at a server writes its
/// own (`upstream/call/span.rs`); else nobody asked for it to be passed on. `baggage` never is.
const OWN_KEYS: [&str; 9] = [
    key::PROGRESS_TOKEN,
    key::PROTOCOL_VERSION,
    key::CLIENT_CAPABILITIES,
    key::CLIENT_INFO,
    key::LOG_LEVEL,
    key::HOPS,
    "baggage",
    "traceparent",
    "tracestate",
];

/// Headers that carry credentials: a client that puts one here must not hand it to every server.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "mcp-session-id",
];

/// Makes `params` ready for a server. Returns the client's progress token, if it gave one.
pub(crate) fn forward(Params { members, meta }: &mut Params) -> Result<Option<Json>, TooManyHops> {
    for member in OWN_PARAMS {
        members.remove(member);
    }
    let token = meta.get(key::PROGRESS_TOKEN).filter(|token| is_token(token)).cloned();
    let hops = match meta.get(key::HOPS) {
        Some(hops) => hops.decode::<u64>().unwrap_or(HOPS_MAX),
        None => 0,
    };
    if hops >= HOPS_MAX {
        return Err(TooManyHops);
    }
    meta.retain(|key| !OWN_KEYS.contains(&key) && !CREDENTIALS.iter().any(|name| name.eq_ignore_ascii_case(key)));
    meta.set(key::HOPS, Json::from(hops + 1));
    Ok(token)
}

fn is_token(token: &Json) -> bool {
    matches!(token.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(text: &'static str) -> (Result<Option<Json>, TooManyHops>, String) {
        let mut params = Params::read(Some(&Json::literal(text))).expect("an object");
        let token = forward(&mut params);
        params.members.set("_meta", params.meta.to_json());
        (token, String::from_utf8(params.members.to_json().into_bytes().to_vec()).expect("text"))
    }

    #[test]
    fn s38_vendor_keys_pass_and_the_keys_of_this_hop_stay() {
        let (token, text) = forwarded(
            r#"{"name":"x","task":{},"_meta":{"progressToken":1.50,"a.b/c":{"k":1e3},"Authorization":"x","baggage":"y","io.modelcontextprotocol/clientInfo":{}}}"#,
        );
        assert_eq!(token, Ok(Some(Json::literal("1.50"))));
        assert_eq!(text, r#"{"name":"x","_meta":{"a.b/c":{"k":1e3},"dev.trunkline/hops":1}}"#);
    }

    #[test]
    fn r34_hops_are_counted_and_a_circle_ends() {
        assert_eq!(forwarded(r#"{"_meta":{"dev.trunkline/hops":2}}"#).1, r#"{"_meta":{"dev.trunkline/hops":3}}"#);
        assert_eq!(forwarded(r#"{"_meta":{"dev.trunkline/hops":3}}"#).0, Err(TooManyHops));
        assert_eq!(forwarded(r#"{"_meta":{"dev.trunkline/hops":"x"}}"#).0, Err(TooManyHops));
    }

    #[test]
    fn a_token_of_another_type_is_none() {
        assert_eq!(forwarded(r#"{"_meta":{"progressToken":null}}"#).0, Ok(None));
        assert_eq!(forwarded(r#"{"_meta":7}"#).0, Ok(None));
    }
}
