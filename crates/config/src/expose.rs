//! What of a server clients get to see, and under which names.

use std::collections::BTreeMap;

use trunkline_wire::ServerName;

/// Which of a server's entries are shown, and how they are called.
///
/// All names are the server's own, as it lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expose {
    /// In place of the server's name in front of `__`. `Some("")`: no prefix at all. See [`Expose::namespace`].
    pub prefix: Option<String>,
    /// Only these tools, if given.
    pub enabled_tools: Option<Vec<String>>,
    /// Not these tools.
    pub disabled_tools: Vec<String>,
    /// Names of the operator's own for single tools. They stand for the whole name: no prefix is put in front
    /// (mcp-protocol 6.9 rule 7).
    pub rename: BTreeMap<String, String>,
    /// Descriptions of the operator's own for single tools.
    pub describe: BTreeMap<String, String>,
}

impl Expose {
    /// What stands in front of `__` in this server's names; `None` where names stay as they are.
    pub fn namespace(&self, server: &ServerName) -> Option<String> {
        match self.prefix.as_deref() {
            None => Some(server.namespace()),
            Some("") => None,
            // A prefix that makes no name was refused at load.
            Some(prefix) => Some(ServerName::new(prefix).map_or_else(|_| server.namespace(), |name| name.namespace())),
        }
    }

    /// Whether a tool passes `enabled_tools` and `disabled_tools`, as in Codex: the second wins.
    pub fn shows(&self, tool: &str) -> bool {
        let listed = self.enabled_tools.as_ref().is_none_or(|list| list.iter().any(|name| name == tool));
        listed && !self.disabled_tools.iter().any(|name| name == tool)
    }
}
