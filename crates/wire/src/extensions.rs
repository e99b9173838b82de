//! The extensions that are relayed between modern peers (mcp-protocol 5.15).
//!
//! An extension that is not named here crosses in neither direction: its methods, results and filters would be unknown.

use crate::json::Json;
use crate::object::Object;
use crate::revision::Revision;

/// Views of tools, shown by the client.
pub const UI: &str = "io.modelcontextprotocol/ui";
/// Work that outlives its call. Not defined before 2026-07-28 (mcp-protocol 5.14).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Returns what of the member `extensions` of `capabilities`, which a peer of `revision` declared, is relayed. Settings
/// stay the peer's own text.
pub fn relayed(capabilities: &Object, revision: Revision) -> Object {
    let mut extensions = capabilities.get_object("extensions").unwrap_or_default();
    let newest = revision >= Revision::V2026_07_28;
    let declared = |id: &str, known: &Object| {
        let relayed = id == UI && revision >= Revision::V2025_11_25 || id == TASKS && newest;
        relayed && known.get(id).is_some_and(Json::is_object)
    };
    let known = extensions.clone();
    extensions.retain(|id| declared(id, &known));
    extensions
}
