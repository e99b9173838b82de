//! Sealed tokens: what a modern client carries for the gateway from one round of questions to the next.
//!
//! `requestState` comes back from the client's side of the wire, so nothing in it is believed that the seal does not
//! cover (mcp-protocol 5.9). A token is `tl1.<kind>.<payload>.<seal>`, payload and seal in Base64url; the seal is an
//! HMAC over kind and payload, under a key that lies in the state directory: what needs no memory holds across a restart.
//! What a token says is no secret from its holder; what a server put into its own state stays readable to the client as it
//! always was.
//!
//! Where tokens tell clients' owners apart, each says whose it is, and opens for nobody else: what another brings is as if
//! this gateway had never made it (S-8, S-12).
//!
//! Everything of the gateway's is wrapped, so that no kind can be taken for another, nor for a server's own state.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use trunkline_wire::{Json, Method, Object};

use crate::keep::KEY_BYTES;

/// Marks tokens of this gateway, and their form.
const HEAD: &str = "tl1";

/// Bytes of a seal: half of the hash, which nobody guesses either.
const SEAL_BYTES: usize = 16;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "k")]
pub(crate) enum State {
    /// A call that waits at its server, in this process (mcp-protocol 5.9).
    #[serde(rename = "park")]
    Park {
        /// Names the parked call, once.
        #[serde(rename = "n")]
        nonce: Box<str>,
        /// Of the request that was parked.
        #[serde(rename = "d")]
        digest: Box<str>,
        /// The process in which it waits. In another one the call is lost, not unknown.
        #[serde(rename = "p")]
        process: Box<str>,
    },
    /// A modern server's own state (mcp-protocol 5.10).
    #[serde(rename = "pass")]
    Pass {
        /// The server.
        #[serde(rename = "s")]
        server: Box<str>,
        /// What it wants back, unescaped.
        #[serde(rename = "i")]
        inner: Box<str>,
    },
    /// A task of a modern server (mcp-protocol 5.14). Not a `requestState`, but its `taskId` toward clients.
    #[serde(rename = "task")]
    Task {
        /// The server.
        #[serde(rename = "s")]
        server: Box<str>,
        /// What the server calls it.
        #[serde(rename = "i")]
        inner: Box<str>,
    },
    /// URLs that a legacy server wants visited before the call is made again (mcp-protocol 5.11).
    #[serde(rename = "url")]
    Url {
        /// Of the request to be made again.
        #[serde(rename = "d")]
        digest: Box<str>,
        /// The round this is.
        #[serde(rename = "r")]
        round: u32,
        /// Until when it is good.
        #[serde(flatten)]
        until: Until,
    },
    /// A legacy session: `Mcp-Session-Id` (mcp-protocol 3.9).
    #[serde(rename = "sess")]
    Session {
        /// 144 random bits, by which the rest is known that is kept of it.
        #[serde(rename = "n")]
        nonce: Box<str>,
        /// When it began, in seconds of the Unix age.
        #[serde(rename = "b")]
        born: u64,
        /// Who the client is; `None` if that is too long for a header.
        #[serde(rename = "f", skip_serializing_if = "Option::is_none")]
        facts: Option<Carried>,
        /// The profile at whose address it began.
        #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
        profile: Option<Box<str>>,
    },
    /// Where a list goes on: `nextCursor` (mcp-protocol 6.8, S-12).
    #[serde(rename = "list")]
    Cursor {
        /// The list.
        #[serde(rename = "l")]
        list: Box<str>,
        /// Of what the list held.
        #[serde(rename = "d")]
        digest: Box<str>,
        /// The page, counted from none.
        #[serde(rename = "g")]
        page: usize,
    },
}

/// What a token says: what it stands for, and whose it is.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(flatten)]
    state: &'a State,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
}

/// A token that was opened.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Opened {
    /// What it stands for.
    #[serde(flatten)]
    pub state: State,
    /// Whose it is, where tokens told when it was made.
    #[serde(rename = "o", default)]
    pub owner: Option<Box<str>>,
}

/// An end of time by two clocks: the process that set it goes by its own, which never jumps, another one by the wall's
/// (R-45).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Until {
    /// The process.
    #[serde(rename = "p")]
    pub process: Box<str>,
    /// In seconds of the life of its hub.
    #[serde(rename = "a")]
    pub age: u64,
    /// In seconds of the Unix age.
    #[serde(rename = "w")]
    pub wall: u64,
}

/// The facts of a legacy client, as its session's id says them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    #[serde(rename = "r")]
    pub revision: Box<str>,
    #[serde(rename = "c")]
    pub name: Box<str>,
    #[serde(rename = "v")]
    pub version: Box<str>,
    /// The abilities as a capability object.
    #[serde(rename = "a")]
    pub abilities: Box<str>,
}

impl Carried {
    pub(crate) fn bytes(&self) -> usize {
        self.revision.len() + self.name.len() + self.version.len() + self.abilities.len()
    }
}

/// Makes and opens tokens.
pub(crate) struct Sealer(Hmac<Sha256>);

/// A token that was not made with this key, that was changed on its way, or that is another's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forged;

impl Sealer {
    /// A sealer with this key.
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Hmac::new_from_slice(key).expect("a key may have any length"))
    }

    /// Makes a token of `owner`, if tokens tell who that is.
    pub(crate) fn seal(&self, state: &State, owner: Option<&str>) -> String {
        let kind = state.kind();
        let payload = serde_json::to_vec(&Payload { state, owner }).expect("texts and numbers serialise");
        self.seal_payload(kind, &URL_SAFE_NO_PAD.encode(payload))
    }

    /// Puts a seal under a payload.
    pub(crate) fn seal_payload(&self, kind: &str, payload: &str) -> String {
        let seal = self.over(kind, payload).finalize().into_bytes();
        format!("{HEAD}.{kind}.{payload}.{}", URL_SAFE_NO_PAD.encode(&seal[..SEAL_BYTES]))
    }

    /// Opens a token that `principal` brings.
    pub(crate) fn open(&self, token: &str, principal: Option<&str>) -> Result<Opened, Forged> {
        let mut parts = token.split('.');
        let (Some(HEAD), Some(kind), Some(payload), Some(seal), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Forged);
        };
        let seal = URL_SAFE_NO_PAD.decode(seal).map_err(|_| Forged)?;
        if seal.len() != SEAL_BYTES {
            return Err(Forged);
        }
        // In constant time.
        self.over(kind, payload).verify_truncated_left(&seal).map_err(|_| Forged)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Forged)?;
        let opened: Opened = serde_json::from_slice(&payload).map_err(|_| Forged)?;
        let fits = opened.state.kind() == kind && is_open(opened.owner.as_deref(), principal);
        if fits { Ok(opened) } else { Err(Forged) }
    }

    fn over(&self, kind: &str, payload: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(kind.as_bytes());
        mac.update(b".");
        mac.update(payload.as_bytes());
        mac
    }
}

impl State {
    fn kind(&self) -> &'static str {
        match self {
            Self::Park { .. } => "park",
            Self::Pass { .. } => "pass",
            Self::Task { .. } => "task",
            Self::Url { .. } => "url",
            Self::Session { .. } => "sess",
            Self::Cursor { .. } => "list",
        }
    }
}

/// Whether what is `owner`'s is open to `principal`: to him, and to everybody where one of the two was not asked for a token
/// (S-8).
pub(crate) fn is_open(owner: Option<&str>, principal: Option<&str>) -> bool {
    owner.zip(principal).is_none_or(|(owner, principal)| owner == principal)
}

/// What makes a request the same one again: its method, whom it is for and with what (mcp-protocol 5.9); and the address, since
/// two profiles may call different tools by one name.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    method: Method,
    target: Option<Json>,
    arguments: Option<Json>,
    profile: Option<Box<str>>,
}

impl Subject {
    /// The subject of a request with these `params`, as the client wrote them, at the address of `profile`.
    pub(crate) fn of(method: &Method, params: &Object, profile: Option<&str>) -> Self {
        let target = params.get("name").or_else(|| params.get("uri")).cloned();
        let (arguments, profile) = (params.get("arguments").cloned(), profile.map(Into::into));
        Self { method: method.clone(), target, arguments, profile }
    }

    /// A digest that is equal for equal requests, however their JSON is written.
    pub(crate) fn digest(&self) -> Box<str> {
        let mut hash = Sha256::new();
        hash.update(self.method.as_str());
        for part in [&self.target, &self.arguments] {
            hash.update([0]);
            let value = part.as_ref().and_then(|part| part.decode::<Value>().ok());
            canonical(value.as_ref().unwrap_or(&Value::Null), &mut hash);
        }
        if let Some(profile) = &self.profile {
            hash.update([0]);
            hash.update(profile.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(hash.finalize()).into()
    }
}

/// Feeds a value with the keys of each object in order. No argument is the same as an empty object.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(members) if members.is_empty() => hash.update("null"),
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            hash.update("{");
            for (key, value) in sorted {
                hash.update(serde_json::to_vec(key).expect("a string serialises"));
                hash.update(":");
                canonical(value, hash);
                hash.update(",");
            }
            hash.update("}");
        }
        Value::Array(items) => {
            hash.update("[");
            for item in items {
                canonical(item, hash);
                hash.update(",");
            }
            hash.update("]");
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            hash.update(serde_json::to_vec(plain).expect("a plain value serialises"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&crate::Keep::nowhere().key)
    }

    fn pass(inner: &str) -> State {
        State::Pass { server: "git".into(), inner: inner.into() }
    }

    fn opened(state: State) -> Opened {
        Opened { state, owner: None }
    }

    #[test]
    fn g70_a_token_opens_only_as_it_was_made_and_where() {
        let sealer = self::sealer();
        let token = sealer.seal(&pass("abc"), None);
        assert!(token.starts_with("tl1.pass."), "{token}");
        assert_eq!(sealer.open(&token, None), Ok(opened(pass("abc"))));
        assert_eq!(self::sealer().open(&token, None), Err(Forged), "another key");
        assert_eq!(sealer.open(&token.replacen("pass", "park", 1), None), Err(Forged), "another kind");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            // The last character of Base64 has bits that mean nothing.
            assert!(sealer.open(&changed, None) == Err(Forged) || at + 1 == token.len(), "{at}: {changed}");
        }
        for foreign in ["", "tl1", "tl1.pass..", "tl2.pass.e30.e30", "x.y.z", "tl1.pass.e30.e30.e30"] {
            assert_eq!(sealer.open(foreign, None), Err(Forged), "{foreign}");
        }
    }

    #[test]
    fn s08_s12_a_token_of_each_kind_is_good_for_its_owner_and_looks_forged_to_others() {
        let sealer = self::sealer();
        let until = Until { process: "a".into(), age: 5, wall: 7 };
        for state in [
            State::Park { nonce: "n".into(), digest: "d".into(), process: "p".into() },
            pass("i"),
            State::Task { server: "git".into(), inner: "i".into() },
            State::Url { digest: "d".into(), round: 1, until },
            State::Session { nonce: "n".into(), born: 1, facts: None, profile: None },
            State::Cursor { list: "tools".into(), digest: "d".into(), page: 1 },
        ] {
            let token = sealer.seal(&state, Some("laptop"));
            assert_eq!(sealer.open(&token, Some("ci")), Err(Forged), "{state:?}");
            let own = Ok(Opened { state: state.clone(), owner: Some("laptop".into()) });
            assert_eq!(sealer.open(&token, Some("laptop")), own);
            assert_eq!(sealer.open(&token, None), own, "no token is asked for any more");
            assert!(sealer.open(&sealer.seal(&state, None), Some("ci")).is_ok(), "none was asked for then");
        }
    }

    #[test]
    fn the_same_request_has_the_same_digest_however_it_is_written() {
        let digest = |text: &'static str| {
            Subject::of(&Method::ToolsCall, &Object::parse(&Json::literal(text)).expect("an object"), None).digest()
        };
        let one = digest(r#"{"name":"a","arguments":{"x":1,"y":[{"b":2,"a":1}]},"_meta":{"k":1}}"#);
        assert_eq!(one, digest(r#"{ "arguments":{"y":[{"a":1,"b":2}],"x":1}, "requestState":"s", "name":"a" }"#));
        for other in [
            r#"{"name":"b","arguments":{"x":1,"y":[{"b":2,"a":1}]}}"#,
            r#"{"name":"a","arguments":{"x":2,"y":[{"b":2,"a":1}]}}"#,
            r#"{"name":"a","arguments":{"x":1,"y":[]}}"#,
            r#"{"name":"a"}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
        assert_eq!(digest(r#"{"name":"a"}"#), digest(r#"{"name":"a","arguments":{}}"#));
    }

    #[test]
    fn a_token_holds_for_whoever_has_the_key() {
        let key = crate::Keep::nowhere().key;
        let until = Until { process: "a".into(), age: 5, wall: 7 };
        let state = State::Url { digest: "d".into(), round: 1, until };
        assert_eq!(Sealer::new(&key).open(&Sealer::new(&key).seal(&state, None), None), Ok(opened(state)));
    }

    proptest! {
        #[test]
        fn any_state_comes_back(inner in ".{0,60}") {
            let sealer = self::sealer();
            prop_assert_eq!(sealer.open(&sealer.seal(&pass(&inner), None), None), Ok(opened(pass(&inner))));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            prop_assert_eq!(sealer().open(&text, None), Err(Forged));
        }
    }
}
