//! Errors of servers on their way to a client (mcp-protocol 5.17).
//!
//! An error is the server's own text, and stays so. The exceptions are few: codes that only make sense between two peers
//! of the modern era, and that here concern the hop behind the gateway. A byte search says first whether there can be one.

use serde::Deserialize;
use serde_json::Value;
use trunkline_upstream::Upstream;
use trunkline_wire::{Fault, FaultCode, Json, Method, Needle, Outcome, code};

use crate::Hub;
use crate::client::Caller;
use crate::refusal;

#[derive(Deserialize)]
struct Read {
    code: i64,
    #[serde(default)]
    data: Value,
}

/// The outcome of a request that its server answered with `error`.
pub(crate) fn of_server(
    hub: &Hub,
    upstream: &Upstream,
    method: &Method,
    caller: Option<&Caller>,
    error: Json,
) -> Result<Json, Json> {
    static CODES: Needle = Needle::new("-3202");
    if !CODES.is_in(error.as_bytes()) {
        return Err(error);
    }
    let Ok(read) = error.decode::<Read>() else { return Err(error) };
    match read.code {
        code::MISSING_CLIENT_CAPABILITY => {
            let needed = read.data.get("requiredCapabilities").and_then(Value::as_object);
            let declared: Value = match caller {
                Some(Caller::Modern(client)) => client.abilities.declaration().decode().unwrap_or_default(),
                Some(Caller::Legacy(_)) | None => Value::Null,
            };
            let lacking = needed
                .and_then(|needed| needed.iter().find(|(name, wanted)| !covers(&declared[name.as_str()], wanted)));
            let first = needed.and_then(|needed| needed.keys().next()).map_or("more", String::as_str);
            let needed = lacking.map_or(first, |(name, _)| name.as_str());
            match caller {
                // It is the caller who lacks it, and its era knows the word.
                Some(Caller::Modern(_)) if lacking.is_some() => Err(error),
                _ => hub.dress(method, &refusal::needs(upstream.name(), needed)),
            }
        }
        // Between server and gateway; what can be mended was, before this.
        code::HEADER_MISMATCH | code::UNSUPPORTED_PROTOCOL_VERSION => {
            let server = upstream.name();
            let text = format!(
                "server `{server}` refused {method} with error {}, which the gateway could not mend; see `trunkline logs {server}`",
                read.code
            );
            let fault = Fault {
                code: FaultCode::UpstreamProtocolError,
                server: Some(server.clone()),
                text,
                outcome: Outcome::Refused,
                retryable: false,
                retry_after_ms: None,
            };
            hub.dress(method, &fault)
        }
        _ => Err(error),
    }
}

/// Whether what was declared of a capability has all that is wanted of it.
fn covers(declared: &Value, wanted: &Value) -> bool {
    let members = wanted.as_object().into_iter().flatten();
    declared.is_object() && members.into_iter().all(|(name, _)| declared.get(name).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mode_that_is_missing_is_missing_though_its_capability_is_there() {
        for (declared, wanted, covered) in [
            (json!({"form":{}}), json!({"form":{}}), true),
            (json!({"form":{}}), json!({"url":{}}), false),
            (json!({}), json!({}), true),
            (Value::Null, json!({}), false),
        ] {
            assert_eq!(covers(&declared, &wanted), covered, "{declared} {wanted}");
        }
    }
}
