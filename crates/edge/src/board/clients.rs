//! Clients and calls as the dashboard lists them.

use serde_json::{Value, json};
use trunkline_hub::{Connected, ConnectedBy, Shown};
use trunkline_telemetry::{RecentCall, redact};
use trunkline_wire::ServerName;

use super::holders::Holder;

/// Longest name of a client that is shown.
const NAME_BYTES_MAX: usize = 128;

/// A client. Since when it is there and when it was last heard of come from outside, where they are kept from trembling.
pub(super) fn client(client: &Connected, holder: Option<&Holder>, since_unix_ms: u64, heard_unix_ms: u64) -> Value {
    let by = match client.by {
        ConnectedBy::Session => "session",
        ConnectedBy::Pair => "sse",
        ConnectedBy::Stateless => "stateless",
    };
    json!({
        "label": shown(&client.label),
        "name": shown(&client.name),
        "version": shown(&client.version),
        "revision": client.revision.as_str(),
        "by": by,
        "profile": client.view.profile(),
        "pid": holder.map(|it| it.pid),
        "program": holder.map(|it| it.program.as_str()),
        "since_unix_ms": since_unix_ms,
        "heard_unix_ms": heard_unix_ms,
        "in_flight": client.requests,
        "streams": client.streams,
    })
}

/// A profile: which servers it shows, and how many tools.
pub(super) fn profile(profile: &Shown) -> Value {
    let servers: Vec<&str> = profile.servers.iter().map(ServerName::as_str).collect();
    json!({ "name": profile.name, "servers": servers, "tools": profile.tools, "prompts": profile.prompts })
}

/// A call. What was said in it is not known here.
pub(super) fn call(call: &RecentCall) -> Value {
    // The number behind the name tells callers apart where they share a server, and says nothing to a person.
    let client = call.client.as_deref().map(|label| shown(label.rsplit_once('#').map_or(label, |(name, _)| name)));
    json!({
        "number": call.number,
        "at_unix_ms": call.at_unix_ms,
        "client": client,
        "server": call.server.as_str(),
        "tool": call.tool.as_str(),
        "outcome": call.outcome,
        "micros": call.micros,
        "sent_bytes": call.sent_bytes,
        "received_bytes": call.received_bytes,
    })
}

fn shown(text: &str) -> String {
    redact::printable(text, NAME_BYTES_MAX)
}
