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
            let needed = needed.and_then(|needed| needed.keys().next()).map_or("more", String::as_str);
            match caller {
                // It is the caller who lacks it, and its era knows the word.
                Some(Caller::Modern(client)) if !client.abilities.has(needed) => Err(error),
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
