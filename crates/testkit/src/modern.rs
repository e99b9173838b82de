//! What a fake server of 2026-07-28 does otherwise than a legacy one: `server/discover` in place of the handshake, an
//! envelope in every request, `resultType` in every result, and `subscriptions/listen`.

use std::collections::HashMap;

use bytes::Bytes;
use trunkline_wire::{Class, Id, Json, Method, Notification, Object, Request, RpcError, code, key};

use crate::script::{Act, Script};

/// The revision it speaks.
pub(crate) const REVISION: &str = "2026-07-28";

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Answers what the era alone decides: a bad envelope, the discovery, methods that are gone.
pub(crate) fn opening(script: &Script, method: &Method, params: &Object) -> Option<Result<Json, Json>> {
    let meta = params.get_object("_meta").unwrap_or_default();
    let gone = [
        Method::Initialize,
        Method::Ping,
        Method::LoggingSetLevel,
        Method::ResourcesSubscribe,
        Method::ResourcesUnsubscribe,
    ];
    if gone.contains(method) {
        return Some(Err(RpcError::new(code::METHOD_NOT_FOUND, "Method not found").to_json()));
    }
    let Some(claim) = meta.get_str(key::PROTOCOL_VERSION) else {
        return Some(Err(RpcError::new(code::INVALID_PARAMS, "no protocol version in `_meta`").to_json()));
    };
    if !meta.get(key::CLIENT_CAPABILITIES).is_some_and(Json::is_object) {
        return Some(Err(RpcError::new(code::INVALID_PARAMS, "no client capabilities in `_meta`").to_json()));
    }
    if claim != REVISION {
        let data = serde_json::json!({"supported": [REVISION], "requested": claim});
        let message = "Unsupported protocol version".to_owned();
        let error = RpcError { code: code::UNSUPPORTED_PROTOCOL_VERSION, message, data: Some(data) };
        return Some(Err(error.to_json()));
    }
    (*method == Method::Discover).then(|| Ok(discovery(script)))
}

fn discovery(script: &Script) -> Json {
    let name = serde_json::Value::from(script.name.as_str());
    let meta = format!(r#"{{"{}":{{"name":{name},"version":"1.0"}}}}"#, key::SERVER_INFO);
    let mut result: Object = [
        ("resultType", Json::from("complete")),
        ("supportedVersions", Json::trusted(format!(r#"["{REVISION}"]"#))),
        ("capabilities", Json::trusted(script.declared())),
        ("ttlMs", Json::from(0)),
        ("cacheScope", Json::from("private")),
        ("_meta", Json::trusted(meta)),
    ]
    .into_iter()
    .collect();
    if let Some(instructions) = &script.instructions {
        result.set("instructions", Json::from(instructions.as_str()));
    }
    result.to_json()
}

/// The result as this revision wants it.
pub(crate) fn stamped(method: &Method, result: &Json) -> Json {
    let mut result = Object::parse(result).expect("results are objects");
    result.set("resultType", Json::from("complete"));
    if method.class() == Class::List || *method == Method::ResourcesRead {
        result.set("ttlMs", Json::from(0));
        result.set("cacheScope", Json::from("private"));
    }
    result.to_json()
}

/// The open `subscriptions/listen` requests.
#[derive(Debug, Default)]
pub(crate) struct Listens {
    open: HashMap<Bytes, Id>,
}

impl Listens {
    /// Opens one: it is acknowledged as it was asked for, and answered when it ends.
    pub(crate) fn accept(&mut self, request: &Request) -> Vec<Act> {
        let wanted = request.params().ok().and_then(|params| params.get("notifications").cloned());
        let Some(wanted) = wanted.filter(Json::is_object) else {
            let error = RpcError::new(code::INVALID_PARAMS, "no `notifications`").to_json();
            return vec![Act::Send(trunkline_wire::Response::error(Some(request.id.clone()), error).encode())];
        };
        self.open.insert(request.id.key(), request.id.clone());
        let meta: Object = [(SUBSCRIPTION_ID, request.id.json().clone())].into_iter().collect();
        let params: Object = [("notifications", wanted), ("_meta", meta.to_json())].into_iter().collect();
        let notice = Notification { method: Method::SubscriptionsAcknowledged, params: Some(params.to_json()) };
        vec![Act::Send(notice.encode())]
    }

    /// The client ends one.
    pub(crate) fn cancel(&mut self, notice: &Notification) {
        let id = notice.params().ok().and_then(|params| Id::new(params.get("requestId")?.clone()).ok());
        if let Some(id) = id {
            self.open.remove(&id.key());
        }
    }
}
