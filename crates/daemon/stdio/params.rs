//! The arguments that a modern call repeats in headers (mcp-protocol 3.5): a client over standard input has none to send, so
//! the bridge reads in the lists that pass by which tools want them.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::HeaderName;
use trunkline_wire::headers::{self, ParamHeader};
use trunkline_wire::{Json, Message, Method, Object, Request};

use super::http::{Head, revision};
use super::{Bridge, named};
use crate::limits::BRIDGE_TOOLS_MAX;

/// The mark of an annotation in a schema; lists without it are not read.
const MARK: &[u8] = b"x-mcp-header";

impl Bridge {
    /// The headers of a modern request (mcp-protocol 3.4).
    pub(super) fn modern_head(&self, request: &Request, claim: &str) -> Head {
        let mut head =
            vec![revision(claim), (HeaderName::from_static(headers::METHOD), request.method.as_str().to_owned())];
        let Some(name) = named(request) else { return head };
        head.push((HeaderName::from_static(headers::NAME), headers::encode(&name).into_owned()));
        if request.method == Method::ToolsCall {
            let params = self.params.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
            let arguments = request.params().ok().and_then(|params| params.get_object("arguments")).unwrap_or_default();
            let own = params.iter().flat_map(|params| headers::param_values(params, &arguments));
            head.extend(own.filter_map(|(name, value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))));
        }
        head
    }

    /// Reads a list of tools that passes by.
    pub(super) fn learn(&self, method: &Method, answer: &Message, text: &Bytes) {
        let Message::Response(response) = answer else { return };
        if *method != Method::ToolsList || memchr::memmem::find(text, MARK).is_none() {
            return;
        }
        let result = response.outcome.as_ref().ok().and_then(|result: &Json| Object::parse(result).ok());
        let tools: Vec<Json> = result.and_then(|result| items(result.get("tools")?)).unwrap_or_default();
        let mut known = self.params.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in tools.iter().filter_map(|tool| Object::parse(tool).ok()) {
            let Some(name) = tool.get_str("name") else { continue };
            let wanted: Vec<ParamHeader> =
                tool.get("inputSchema").and_then(|schema| headers::param_headers(schema).ok()).unwrap_or_default();
            if wanted.is_empty() {
                known.remove(&name);
            } else if known.len() < BRIDGE_TOOLS_MAX || known.contains_key(&name) {
                known.insert(name, Arc::from(wanted));
            }
        }
    }
}

/// The members of a list, each as it stands.
fn items(list: &Json) -> Option<Vec<Json>> {
    let raw: Vec<&serde_json::value::RawValue> = serde_json::from_slice(list.as_bytes()).ok()?;
    Some(raw.into_iter().map(|item| Json::trusted(Bytes::copy_from_slice(item.get().as_bytes()))).collect())
}
