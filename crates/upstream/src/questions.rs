//! Questions of a legacy server to the person behind a call: what was declared to it, and what it hears when a
//! question cannot be put to anybody. Pure.
//!
//! A server is shared, and initialised before any client is known, so it is told a fixed set of capabilities
//! (mcp-protocol 6.2): forms and URLs always, since a caller who cannot be asked answers `cancel`, which every server
//! must cope with; sampling only where the configuration says so, for a server that sees it declared relies on it;
//! roots only where the configuration lists some, for then the answer depends on no client. A connection that is one
//! session's alone (`lanes.rs`) is told what that session's client declared.

use std::sync::Arc;

use serde_json::json;
use trunkline_config::Declared;
use trunkline_wire::{Abilities, Json, Lack, Method, Object, RpcError, code};

/// Tells the callers of a server apart: questions are attributed by it (mcp-protocol 6.3). A legacy session is one
/// caller, a modern request is one by itself. 0 is the gateway, which cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CallerId(pub u64);

/// What a server asks, during a call, of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The questions, at least one unless there is a `state`.
    pub questions: Vec<Question>,
    /// What a modern server wants back with the answers, a JSON string as it wrote it.
    pub state: Option<Json>,
    /// A legacy server holds the call open meanwhile. Otherwise nothing runs between two rounds.
    pub held: bool,
    /// The whole result, where it was one.
    pub raw: Option<Json>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// By which [`Call::answer`](crate::Call::answer) knows it; unique in its call.
    pub key: Box<str>,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: Method,
    /// Its `params`, as the server wrote them.
    pub params: Option<Json>,
}

/// Who can be asked during a request.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) id: CallerId,
    pub(crate) abilities: Arc<Abilities>,
    /// Whether log messages that can be of no other request are for it.
    pub(crate) logs: bool,
}

/// The capabilities that `initialize` declares.
pub(crate) fn declaration(declared: &Declared) -> Json {
    if let Some(own) = &declared.own {
        return declaration_of(own, declared);
    }
    let mut capabilities = json!({ "elicitation": { "form": {}, "url": {} } });
    if declared.sampling {
        capabilities["sampling"] = json!({});
    }
    if !declared.roots.is_empty() {
        capabilities["roots"] = json!({});
    }
    Json::encode(&capabilities)
}

/// The same on a connection that is one client's alone: what that client declared, and directories where the configuration
/// has some.
fn declaration_of(own: &Abilities, declared: &Declared) -> Json {
    let theirs = Object::parse(own.declaration()).unwrap_or_default();
    let both = ["elicitation", "sampling"].into_iter().filter_map(|key| Some((key, theirs.get(key)?.clone())));
    let mut capabilities: Object = both.collect();
    if own.roots() {
        capabilities.set("roots", Json::literal(r#"{"listChanged":true}"#));
    } else if !declared.roots.is_empty() {
        capabilities.set("roots", Json::literal("{}"));
    }
    capabilities.to_json()
}

/// What the gateway answers by itself, whoever is calling: the configured roots, or that it never declared this.
pub(crate) fn at_once(method: &Method, params: &Object, declared: &Declared) -> Option<Result<Json, Json>> {
    let not_found = |text: &str| Some(Err(RpcError::new(code::METHOD_NOT_FOUND, text).to_json()));
    if *method == Method::RootsList {
        if declared.roots.is_empty() {
            let may_ask = declared.own.as_ref().is_some_and(|own| own.roots());
            return if may_ask { None } else { not_found("roots not supported") };
        }
        let roots: Vec<_> = declared.roots.iter().map(|uri| json!({ "uri": uri })).collect();
        return Some(Ok(Json::encode(&json!({ "roots": roots }))));
    }
    if *method == Method::SamplingCreateMessage {
        let may_ask = declared.own.as_ref().map_or(declared.sampling, |own| own.has("sampling"));
        return if may_ask { None } else { not_found("sampling not supported") };
    }
    if *method == Method::ElicitationCreate {
        let mode = params.get_str("mode");
        let known = matches!(mode.as_deref(), None | Some("form" | "url"));
        return (!known)
            .then(|| Err(RpcError::new(code::INVALID_PARAMS, "this elicitation mode was not declared").to_json()));
    }
    not_found(&format!("method not found: {}", method.label()))
}

/// What a server hears whose question cannot be put to this caller, or to any (mcp-protocol 5.8).
pub(crate) fn undeliverable(method: &Method, lack: Option<Lack>) -> Result<Json, Json> {
    if *method == Method::ElicitationCreate {
        // Declared once for all callers, so the server is told what a person who closes the form would say.
        return Ok(Json::literal(r#"{"action":"cancel"}"#));
    }
    if *method == Method::RootsList {
        // It was declared, or it would have been refused before; and nobody is there who could say.
        return Ok(Json::literal(r#"{"roots":[]}"#));
    }
    let error = match lack {
        Some(Lack::SamplingTools) => RpcError::new(code::INVALID_PARAMS, "sampling with tools not supported"),
        _ if *method == Method::SamplingCreateMessage => {
            RpcError::new(code::METHOD_NOT_FOUND, "sampling not supported")
        }
        _ => RpcError::new(code::METHOD_NOT_FOUND, format!("method not found: {}", method.label())),
    };
    Err(error.to_json())
}

/// What a server hears whose question was put to somebody who then left (mcp-protocol 5.9 rule 12).
pub(crate) fn abandoned(method: &Method) -> Result<Json, Json> {
    if *method == Method::ElicitationCreate {
        return Ok(Json::literal(r#"{"action":"cancel"}"#));
    }
    if *method == Method::RootsList {
        return Ok(Json::literal(r#"{"roots":[]}"#));
    }
    Err(RpcError::new(code::USER_REJECTED, "nobody is there any more to answer").to_json())
}

#[cfg(test)]
mod tests {
    use trunkline_wire::Revision;

    use super::*;

    fn text(answer: Option<Result<Json, Json>>) -> String {
        let Some(Ok(body) | Err(body)) = answer else { return "to be asked".to_owned() };
        String::from_utf8(body.into_bytes().to_vec()).expect("text")
    }

    fn declared(sampling: bool, roots: &[&str]) -> Declared {
        Declared { sampling, roots: roots.iter().map(|&uri| uri.to_owned()).collect(), own: None }
    }

    #[test]
    fn a_server_is_told_what_is_configured() {
        let told = |declared| text(Some(Ok(declaration(&declared))));
        assert_eq!(told(Declared::default()), r#"{"elicitation":{"form":{},"url":{}}}"#);
        let all = told(declared(true, &["file:///a"]));
        assert!(all.contains(r#""sampling":{}"#) && all.contains(r#""roots":{}"#), "{all}");
    }

    #[test]
    fn the_connection_of_one_client_is_told_what_that_client_declared() {
        let of = |abilities: &'static str, declared: Declared| {
            let abilities = Object::parse(&Json::literal(abilities)).expect("an object");
            let own = Some(Arc::new(Abilities::read(&abilities, Revision::V2025_11_25)));
            Declared { own, ..declared }
        };
        let told = |declared: &Declared| text(Some(Ok(declaration(declared))));
        let at = |method, declared: &Declared| text(at_once(&method, &Object::new(), declared));
        let everything = r#"{"sampling":{"tools":{}},"elicitation":{"url":{}},"roots":{"listChanged":true}}"#;
        let all = of(everything, declared(false, &[]));
        assert_eq!(
            told(&all),
            r#"{"elicitation":{"url":{}},"sampling":{"tools":{}},"roots":{"listChanged":true}}"#,
            "as the client wrote it"
        );
        assert_eq!(at(Method::RootsList, &all), "to be asked", "no directory is known yet");
        assert_eq!(at(Method::SamplingCreateMessage, &all), "to be asked");
        let none = of("{}", declared(true, &[]));
        assert_eq!(told(&none), "{}", "whatever others can be asked");
        assert!(at(Method::RootsList, &none).contains("not supported"));
        assert!(at(Method::SamplingCreateMessage, &none).contains("not supported"));
        let configured = of("{}", declared(false, &["file:///a"]));
        assert_eq!(told(&configured), r#"{"roots":{}}"#);
        assert_eq!(at(Method::RootsList, &configured), r#"{"roots":[{"uri":"file:///a"}]}"#);
        assert_eq!(text(Some(undeliverable(&Method::RootsList, None))), r#"{"roots":[]}"#);
    }

    #[test]
    fn what_was_not_declared_is_refused_and_configured_roots_are_told() {
        let at = |method, params, declared| {
            text(at_once(&method, &Object::parse(&Json::literal(params)).expect("an object"), &declared))
        };
        assert!(at(Method::RootsList, "{}", Declared::default()).contains("-32601"));
        assert_eq!(at(Method::RootsList, "{}", declared(false, &["file:///a"])), r#"{"roots":[{"uri":"file:///a"}]}"#);
        assert!(at(Method::SamplingCreateMessage, "{}", Declared::default()).contains("sampling not supported"));
        assert_eq!(at(Method::SamplingCreateMessage, "{}", declared(true, &[])), "to be asked");
        assert_eq!(at(Method::ElicitationCreate, "{}", Declared::default()), "to be asked");
        assert_eq!(at(Method::ElicitationCreate, r#"{"mode":"url"}"#, Declared::default()), "to be asked");
        assert!(at(Method::ElicitationCreate, r#"{"mode":"voice"}"#, Declared::default()).contains("-32602"));
        assert!(at(Method::TasksGet, "{}", Declared::default()).contains("-32601"));
    }

    #[test]
    fn a_question_that_reaches_nobody_is_answered_in_the_servers_terms() {
        let told = |method, lack| text(Some(undeliverable(&method, lack)));
        assert_eq!(told(Method::ElicitationCreate, Some(Lack::Elicitation)), r#"{"action":"cancel"}"#);
        assert_eq!(told(Method::ElicitationCreate, None), r#"{"action":"cancel"}"#);
        assert!(told(Method::SamplingCreateMessage, Some(Lack::SamplingTools)).contains("-32602"));
        assert!(told(Method::SamplingCreateMessage, None).contains("-32601"));
        assert!(text(Some(abandoned(&Method::SamplingCreateMessage))).contains("-1"));
        assert_eq!(text(Some(abandoned(&Method::RootsList))), r#"{"roots":[]}"#);
    }
}
