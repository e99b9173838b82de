//! The file format as a whole, and its JSON schema.
//!
//! The schema is checked in as `config/schema.json`, where editors find it; a test fails when the two drift apart.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::audit::AuditFile;
use crate::auth::AuthFile;
use crate::clients::ServerFile;
use crate::otel::OtelFile;
use crate::profile::ProfileFile;
use crate::surface::ToolList;
use crate::{ErrorForm, Limits, Listen, Log};

/// Configuration of Trunkline: one local endpoint in front of every MCP server you use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Trunkline configuration")]
pub(crate) struct File {
    /// Where clients connect.
    pub(crate) listen: Listen,
    /// Tokens that clients must show. None is needed on a machine of your own.
    pub(crate) auth: AuthFile,
    /// A file in which each call is noted.
    pub(crate) audit: AuditFile,
    /// Traces for a collector of OpenTelemetry.
    pub(crate) otel: OtelFile,
    /// Limits of the whole gateway.
    pub(crate) limits: Limits,
    /// What a failed tool call looks like when the failure is the gateway's.
    pub(crate) errors: ErrorForm,
    /// Which tools clients of `/mcp` are shown.
    pub(crate) expose: ToolList,
    /// With `expose = "hybrid"`: the tools that stay listed, for example `git__*`. Names are those that `trunkline tools` shows.
    pub(crate) pinned: Vec<String>,
    /// What is logged, to stderr.
    pub(crate) log: Log,
    /// The servers, by name, in the order in which clients see them. Blocks of a Codex config.toml work unchanged.
    pub(crate) mcp_servers: BTreeMap<String, ServerFile>,
    /// Parts of what the servers offer, by name, each for the clients that connect to `/mcp/NAME`.
    pub(crate) profiles: BTreeMap<String, ProfileFile>,
}

/// The JSON schema of the configuration file, for editors.
pub fn schema() -> String {
    let schema = schemars::schema_for!(File);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_schema_is_that_of_the_file_format() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/schema.json");
        let checked_in = std::fs::read_to_string(path).expect("config/schema.json is there");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("the schema is JSON");
        assert!(
            parsed(&checked_in) == parsed(&super::schema()),
            "config/schema.json is out of date; write it anew with: trunkline schema > config/schema.json"
        );
    }
}
