//! `server/discover`: the opening of a modern server, and the probe that tells the eras apart (mcp-protocol 3.7).
//!
//! [`request`] is what is sent; [`Observed`] is what came of it, in words for people and as [`Evidence`] for `era.rs`.

use trunkline_telemetry::redact;
use trunkline_wire::{Id, Json, Method, Object, Request, Response, Revision, key};

use crate::envelope;
use crate::era::Evidence;
use crate::handshake::Handshake;
use crate::transport::failure::{Failure, Seen};
use crate::transport::{FaultPoint, Outgoing};

/// Revisions of one answer that are looked at; who names more names none of ours.
const NAMED_MAX: usize = 100;

/// What came of the probe.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) evidence: Evidence,
    /// The same for people: a fragment that says what the server did.
    pub(crate) words: String,
    result: Option<Object>,
}

/// The request, by this revision, on nobody's behalf.
pub(crate) fn request(id: u64, revision: Revision) -> Outgoing {
    let mut params = Object::new();
    envelope::stamp(&mut params, revision);
    let request = Request { id: Id::from(id), method: Method::Discover, params: Some(params.to_json()) };
    Outgoing::new(request.encode(), Some(id), Method::Discover)
}

impl Observed {
    /// Something that is no answer.
    pub(crate) fn other(evidence: Evidence, words: impl Into<String>) -> Self {
        Self { evidence, words: words.into(), result: None }
    }

    /// The server answered.
    pub(crate) fn answer(response: &Response) -> Self {
        match &response.outcome {
            Ok(result) => Self::result(result),
            Err(error) => Self::error(error),
        }
    }

    /// No answer came over HTTP.
    pub(crate) fn failure(failure: &Failure) -> Self {
        let evidence = match (failure.point, failure.seen) {
            // It was under way, and then the network failed.
            (FaultPoint::BrokenMidway | FaultPoint::LostUnanswered, _) => Evidence::Unreached,
            (_, Seen::Status(status)) => Evidence::Status(status.as_u16()),
            // Something that is no message came with a status that says "fine".
            (_, Seen::Other) => Evidence::Status(200),
            (_, Seen::Unreachable | Seen::Tls | Seen::Setting) => Evidence::Unreached,
        };
        Self::other(evidence, failure.text.clone())
    }

    fn result(result: &Json) -> Self {
        let read = Object::parse(result).ok();
        let read = read.and_then(|result| texts(&result, "supportedVersions").map(|named| (result, named)));
        let Some((result, named)) = read else {
            return Self::other(Evidence::Malformed, "answered `server/discover` with a result that is none");
        };
        let words = format!("answered `server/discover` and named {}", shown(&named));
        Self { evidence: Evidence::Discovered(named), words, result: Some(result) }
    }

    fn error(error: &Json) -> Self {
        let read = Object::parse(error).unwrap_or_default();
        let number = read.get("code").and_then(|code| code.decode().ok()).unwrap_or_default();
        let message = redact::printable(&read.get_str("message").unwrap_or_default(), 200);
        let named = read.get_object("data").and_then(|data| texts(&data, "supported")).unwrap_or_default();
        let list = if named.is_empty() { String::new() } else { format!(", naming {}", shown(&named)) };
        let words = format!("answered `server/discover` with error {number}: {message}{list}");
        Self::other(Evidence::Refused(number, named), words)
    }

    /// What the server said of itself, once it is clear that it speaks `revision`.
    pub(crate) fn handshake(&self, revision: Revision) -> Handshake {
        let result = self.result.as_ref();
        let meta = result.and_then(|result| result.get_object("_meta"));
        Handshake {
            revision,
            identity: meta.and_then(|meta| meta.get(key::SERVER_INFO).filter(|info| info.is_object()).cloned()),
            capabilities: result.and_then(|result| result.get_object("capabilities")).unwrap_or_default(),
            instructions: result
                .and_then(|result| result.get_str("instructions"))
                .filter(|text| !text.trim().is_empty()),
        }
    }

    /// The revisions that the server named, for people.
    pub(crate) fn revisions(&self) -> String {
        match &self.evidence {
            Evidence::Discovered(named) | Evidence::Refused(_, named) => shown(named),
            Evidence::Malformed | Evidence::Silent | Evidence::Exited | Evidence::Status(_) | Evidence::Unreached => {
                "none".to_owned()
            }
        }
    }
}

/// The list of strings under `key`, if there is a list.
fn texts(object: &Object, key: &str) -> Option<Vec<String>> {
    let list: Vec<serde_json::Value> = object.get(key)?.decode().ok()?;
    Some(list.iter().take(NAMED_MAX).filter_map(serde_json::Value::as_str).map(str::to_owned).collect())
}

fn shown(named: &[String]) -> String {
    if named.is_empty() { "no revision".to_owned() } else { redact::printable(&named.join(", "), 200) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::era::{Verdict, verdict};

    fn answered(result: &'static str) -> Observed {
        Observed::answer(&Response::result(Id::from(1), Json::literal(result)))
    }

    fn refused(error: &'static str) -> Observed {
        Observed::answer(&Response::error(Some(Id::from(1)), Json::literal(error)))
    }

    #[test]
    fn a_modern_server_says_what_it_is() {
        let seen = answered(
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},
                "instructions":"read me","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x","version":"1"}}}"#,
        );
        let Verdict::Modern(revision) = verdict(&seen.evidence) else { panic!("modern") };
        let handshake = seen.handshake(revision);
        assert_eq!((handshake.revision, handshake.instructions.as_deref()), (Revision::V2026_07_28, Some("read me")));
        assert!(handshake.capabilities.get("tools").is_some() && handshake.identity.is_some());
    }

    #[test]
    fn what_is_no_answer_to_the_probe_says_so() {
        for result in ["{}", "[]", "null", r#"{"supportedVersions":"2026-07-28"}"#] {
            assert_eq!(answered(result).evidence, Evidence::Malformed, "{result}");
        }
        let seen = refused(r#"{"code":-32022,"message":"no","data":{"supported":["2027-01-01",7]}}"#);
        assert_eq!(seen.evidence, Evidence::Refused(-32022, vec!["2027-01-01".to_owned()]));
        assert_eq!(seen.words, "answered `server/discover` with error -32022: no, naming 2027-01-01");
        assert_eq!(refused("7").evidence, Evidence::Refused(0, Vec::new()));
    }
}
