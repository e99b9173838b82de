//! [`Envelope`]: what a modern request says of itself in `params._meta` (mcp-protocol 2.6, 3.4 step 1).
//!
//! Whoever takes requests reads it first and checks it against what the transport says; the hub then knows who asks,
//! what can be asked back, and which log messages are wanted. Nothing is remembered from one request to the next.

use std::sync::Arc;

use trunkline_upstream::LogLevel;
use trunkline_wire::{Abilities, Json, Needle, Object, Revision, RpcError, code, key};

use crate::limits::CLIENT_NAME_CHARS;
use crate::meta::Params;
use crate::refusal;
use crate::{Guest, View};

/// What a modern request says of itself.
#[derive(Debug, Clone)]
pub struct Envelope {
    claim: String,
    /// `clientInfo.name`, cut and cleaned: for logs.
    pub(crate) name: Box<str>,
    /// Whose request it is, where tokens tell.
    pub(crate) owner: Option<Arc<str>>,
    /// What its client sees.
    pub(crate) view: View,
    /// The port of this machine from which it came; 0: from elsewhere.
    pub(crate) port: u16,
    pub(crate) abilities: Abilities,
    level: Option<Json>,
    params: Params,
}

impl Envelope {
    /// The `params` of a request, if they claim a revision, whatever it is. Nearly no legacy request is parsed for that.
    pub fn claim_of(params: Option<&Json>) -> Option<Params> {
        static KEY: Needle = Needle::new("protocolVersion");
        static ESCAPE: Needle = Needle::new("\\u");
        let text = params?.as_bytes();
        // The key itself may be spelled with escapes.
        if !KEY.is_in(text) && !ESCAPE.is_in(text) {
            return None;
        }
        Params::read(params).ok().filter(|params| params.claim().is_some())
    }

    /// Reads the envelope of a request with these `params`.
    ///
    /// # Errors
    /// -32602: a key that a modern request must have is missing or of another type; the text names it.
    pub fn read(params: Params) -> Result<Self, RpcError> {
        let wrong = |key: &str, what: &str| {
            RpcError::new(
                code::INVALID_PARAMS,
                format!("`params._meta[\"{key}\"]` must be {what} in revision 2026-07-28"),
            )
        };
        let meta = &params.meta;
        let claim = meta.get_str(key::PROTOCOL_VERSION);
        let claim = claim.ok_or_else(|| wrong(key::PROTOCOL_VERSION, "a string, the revision"))?;
        let capabilities = meta.get_object(key::CLIENT_CAPABILITIES);
        let capabilities = capabilities.ok_or_else(|| wrong(key::CLIENT_CAPABILITIES, "an object"))?;
        let name = match meta.get(key::CLIENT_INFO) {
            None => String::new(),
            Some(info) => {
                let info = Object::parse(info).unwrap_or_default();
                let both = info.get_str("name").filter(|_| info.get_str("version").is_some());
                both.ok_or_else(|| wrong(key::CLIENT_INFO, "an object with the strings `name` and `version`"))?
            }
        };
        Ok(Self {
            claim,
            name: name.chars().filter(|c| !c.is_control()).take(CLIENT_NAME_CHARS).collect(),
            owner: None,
            view: View::WHOLE,
            port: 0,
            abilities: Abilities::read(&capabilities, Revision::V2026_07_28),
            level: meta.get(key::LOG_LEVEL).cloned(),
            params,
        })
    }

    /// The same, of a request that came with `owner`'s token to the address of `view`. What it is given to carry is good
    /// for him alone (S-8).
    #[must_use]
    pub fn of(self, owner: Option<Arc<str>>, view: View) -> Self {
        Self { owner, view, ..self }
    }

    /// The same, of a request that came from this port of this machine; 0: from elsewhere.
    #[must_use]
    pub fn from_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Whose it is, and what he sees.
    pub(crate) fn guest(&self) -> Guest<'_> {
        Guest { owner: self.owner.as_deref(), view: &self.view }
    }

    /// The request's `params`, read.
    pub fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn into_params(self) -> Params {
        self.params
    }

    /// The revision that the request claims.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// From which level on log messages are wanted. Fails with the outcome for a level that no revision has.
    pub(crate) fn level(&self) -> Result<Option<LogLevel>, Json> {
        let Some(level) = &self.level else { return Ok(None) };
        let known = level.decode_str().as_deref().and_then(LogLevel::parse);
        let unknown =
            || refusal::invalid_params(format!("`_meta[\"{}\"]` is none of the eight log levels", key::LOG_LEVEL));
        known.map(Some).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(meta: &str) -> Result<Envelope, String> {
        let params = Json::parse(format!(r#"{{"_meta":{meta}}}"#)).expect("JSON");
        Envelope::read(Params::read(Some(&params)).expect("an object")).map_err(|error| {
            assert_eq!(error.code, -32602);
            error.message
        })
    }

    #[test]
    fn g13_what_an_envelope_lacks_is_named() {
        for (meta, named) in [
            ("{}", "protocolVersion"),
            (r#"{"io.modelcontextprotocol/protocolVersion":1}"#, "protocolVersion"),
            (r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#, "clientCapabilities"),
            (
                r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}"#,
                "clientCapabilities",
            ),
            (
                r#"{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"n"}}"#,
                "clientInfo",
            ),
            ("7", "protocolVersion"),
        ] {
            let text = read(meta).expect_err(meta);
            assert!(text.contains(named), "{meta}: {text}");
        }
        let fine = r#"{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}"#;
        let fine = read(fine).expect("an envelope");
        assert_eq!((fine.claim(), &*fine.name, fine.abilities.tasks()), ("x", "", true));
    }

    #[test]
    fn g30_a_level_that_nobody_knows_is_refused() {
        let with = |level: &str| {
            let meta = format!(
                r#"{{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/logLevel":{level}}}"#
            );
            read(&meta).expect("an envelope").level()
        };
        assert_eq!(with(r#""debug""#), Ok(Some(LogLevel::Debug)));
        assert!(with(r#""loud""#).is_err() && with("7").is_err());
    }

    #[test]
    fn a_claim_is_found_however_it_is_spelled() {
        let claim = |params: &'static str| Envelope::claim_of(Some(&Json::literal(params)))?.claim().cloned();
        let spelled = r#"{"_meta":{"io.modelcontextprotocol\/protocolVersion":"2026-07-28"}}"#;
        assert_eq!(claim(spelled), Some(Json::from("2026-07-28")));
        let escaped = r#"{"_meta":{"io.modelcontextprotocol/protocol\u0056ersion":7}}"#;
        assert_eq!(claim(escaped), Some(Json::from(7)));
        assert_eq!(claim(r#"{"protocolVersion":"2026-07-28"}"#), None);
        assert!(Envelope::claim_of(None).is_none());
    }
}
