//! The trace context of an HTTP request, for the message in it.
//!
//! A message that names a trace itself keeps it: it may have come a longer way than its request (SEP-414). Else the request's
//! headers count, which is what instrumented clients that know nothing of MCP send. Nobody pays for it where nothing is traced.

use http::HeaderMap;
use trunkline_hub::{Hub, Params};
use trunkline_telemetry::{PARENT, STATE};
use trunkline_wire::Message;

use crate::ingress::Speech;

/// Gives a request the context of its headers, if it has none.
pub(crate) fn adopt(hub: &Hub, headers: &HeaderMap, speech: &mut Speech, message: &mut Message) {
    if hub.tracer().is_none() {
        return;
    }
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(parent), state, Message::Request(call)) = (said(PARENT), said(STATE), message) else { return };
    match speech {
        Speech::Modern(params) => params.trace_from(parent, state),
        Speech::Legacy => {
            // What cannot be read is refused where it is worked on.
            if let Ok(mut params) = Params::read(call.params.as_ref()) {
                params.trace_from(parent, state);
                call.params = Some(params.to_json());
            }
        }
        Speech::Notice => {}
    }
}
