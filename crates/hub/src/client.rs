//! What a client said about itself: a legacy one in `initialize`, a modern one in each request.
//!
//! Names are for people: they are cut, cleaned, and never decide anything.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::json;
use trunkline_upstream::{CallerFacts, CallerId, LaneKey, LogLevel};
use trunkline_wire::{Abilities, Era, Json, Object, Request, Revision};

use crate::envelope::Envelope;
use crate::limits::CLIENT_NAME_CHARS;
use crate::refusal::Refusal;
use crate::seal::Carried;
use crate::session::Session;

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
    /// What it can be asked.
    pub abilities: Arc<Abilities>,
}

/// The facts of a modern client, as one request of it says them (mcp-protocol 2.6).
#[derive(Debug, Clone)]
pub struct ModernClient {
    /// This request, as servers that attribute questions know it: two requests are two callers, whoever sent them.
    pub(crate) id: CallerId,
    /// For logs.
    pub(crate) label: Arc<str>,
    /// Whose it is, where tokens tell.
    pub(crate) owner: Option<Arc<str>>,
    /// What it can be asked during this request.
    pub(crate) abilities: Arc<Abilities>,
    /// From which level on it wants log messages; `None` for none.
    pub(crate) level: Option<LogLevel>,
}

/// Whoever made a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A session.
    Legacy(Arc<Session>),
    /// The request itself.
    Modern(Arc<ModernClient>),
}

impl Caller {
    /// What tells it from others where people read of it.
    pub(crate) fn label(&self) -> Arc<str> {
        match self {
            Self::Legacy(session) => session.label(),
            Self::Modern(client) => client.label.clone(),
        }
    }

    /// Whose it is, where tokens tell.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            Self::Legacy(session) => session.owner(),
            Self::Modern(client) => client.owner.as_deref(),
        }
    }

    /// The same, to be kept.
    pub(crate) fn token(&self) -> Option<Arc<str>> {
        match self {
            Self::Legacy(session) => session.token(),
            Self::Modern(client) => client.owner.clone(),
        }
    }

    /// A number for what it has a share by of what there is little of (R-24): all requests of one client have the same.
    ///
    /// What a modern client calls itself proves nothing, and is enough to take turns by: who lies about it gets the share of
    /// another with the same token, or one of its own.
    pub(crate) fn share(&self) -> u64 {
        match self {
            Self::Legacy(session) => session.caller().0,
            Self::Modern(client) => {
                let mut hasher = std::hash::DefaultHasher::new();
                (client.name(), client.owner.as_deref()).hash(&mut hasher);
                // The first bit tells it from the number of a session.
                hasher.finish() | 1 << 63
            }
        }
    }

    /// What a server's side of the gateway must know. `questions`: whether they would reach it on this exchange.
    pub(crate) fn facts(&self, questions: bool) -> CallerFacts {
        let (client, id, abilities, log_level) = match self {
            Self::Legacy(session) => (session.label(), session.caller(), session.abilities(), session.level()),
            Self::Modern(client) => (client.label.clone(), client.id, client.abilities.clone(), client.level),
        };
        let declared = abilities.clone();
        let abilities = if questions { abilities } else { Arc::new(abilities.without_questions()) };
        let logs_with_request = matches!(self, Self::Modern(_));
        let share = self.share();
        let (client, lane, roots) = (Some(client), LaneKey::Common, Arc::from([]));
        CallerFacts { client, id, share, abilities, declared, log_level, logs_with_request, lane, roots }
    }
}

impl ModernClient {
    /// What it calls itself: its label without the number of the request.
    pub(crate) fn name(&self) -> &str {
        self.label.rsplit_once('#').map_or(&self.label, |(name, _)| name)
    }

    /// Whoever listens, which is no request of a server.
    pub(crate) fn listening(envelope: &Envelope, id: CallerId) -> Self {
        let label = format!("{}#{}", envelope.name, id.0).into();
        let (owner, abilities) = (envelope.owner.clone(), Arc::new(envelope.abilities.clone()));
        Self { id, label, owner, abilities, level: None }
    }
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
        let revision = Revision::negotiate(&params.get_str("protocolVersion").unwrap_or_default());
        let abilities = Abilities::read(&params.get_object("capabilities").unwrap_or_default(), revision);
        let abilities = Arc::new(abilities);
        Ok(Self { revision, name: text("name"), version: text("version"), one_stream: false, abilities })
    }

    /// The facts as a session's id says them.
    pub(crate) fn carry(&self) -> Carried {
        let abilities = String::from_utf8_lossy(self.abilities.declaration().as_bytes()).into_owned();
        let (revision, name, version) = (self.revision.as_str().into(), self.name.clone(), self.version.clone());
        Carried { revision, name, version, abilities: abilities.into() }
    }

    /// Reads them back; `None` if an older or newer gateway wrote what this one does not know.
    pub(crate) fn carried(carried: &Carried) -> Option<Self> {
        let revision = Revision::parse(&carried.revision).filter(|revision| revision.era() == Era::Legacy)?;
        let declared = Object::parse(&Json::parse(carried.abilities.to_string()).ok()?).ok()?;
        let abilities = Arc::new(Abilities::read(&declared, revision));
        let (name, version) = (carried.name.clone(), carried.version.clone());
        Some(Self { revision, name, version, one_stream: false, abilities })
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
    fn r5_facts_read_back_as_they_were_carried() {
        let all = r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["x"]}}}"#;
        for revision in Revision::ALL.into_iter().filter(|revision| revision.era() == Era::Legacy) {
            let info = r#""clientInfo":{"name":"é","version":"1"}"#;
            let params = format!(r#"{{"protocolVersion":"{revision}","capabilities":{all},{info}}}"#);
            let params = Some(Json::parse(params).expect("JSON"));
            let facts =
                Facts::read(&Request { id: Id::from(0), method: Method::Initialize, params }).expect("readable");
            assert_eq!(Facts::carried(&facts.carry()), Some(facts));
        }
    }

    #[test]
    fn r24_all_requests_of_a_modern_client_have_one_share_and_others_have_another() {
        let share = |number: u64, name: &str, owner: Option<&str>| {
            let client = ModernClient {
                id: CallerId(number),
                label: format!("{name}#{number}").into(),
                owner: owner.map(Into::into),
                abilities: Arc::default(),
                level: None,
            };
            Caller::Modern(Arc::new(client)).facts(true).share
        };
        assert_eq!(share(1, "codex", None), share(2, "codex", None));
        assert_ne!(share(1, "codex", None), share(1, "zed", None));
        assert_ne!(share(1, "codex", Some("ci")), share(2, "codex", Some("laptop")));
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
