//! `[audit]`: a file in which each call is noted, without what was said.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::Resolver;

/// `[audit]` as written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Audit")]
pub(crate) struct AuditFile {
    /// Each call is appended to this file as one line of JSON: when, who, server, tool, sizes, outcome, never what was said.
    /// A relative path starts from the directory of the configuration. Empty: none is written.
    pub(crate) file: String,
}

/// Where calls are noted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The file; `None`: nowhere.
    pub file: Option<PathBuf>,
}

impl AuditFile {
    /// Finds the file.
    pub(crate) fn check(&self, resolver: &Resolver<'_>) -> Audit {
        Audit { file: (!self.file.is_empty()).then(|| resolver.path(&self.file)) }
    }
}
