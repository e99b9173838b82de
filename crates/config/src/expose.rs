//! What of a server clients get to see, and under which names.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_wire::{ExposedName, ServerName};

use crate::clients::ServerFile;
use crate::findings::Findings;
use crate::patterns::Filter;
use crate::server::Server;
use crate::tool::{self, ToolRules};

/// Which of a server's entries are shown, and how they are called.
///
/// All names are the server's own, as it lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expose {
    /// In place of the server's name in front of `__`. `Some("")`: no prefix at all. See [`Expose::namespace`].
    pub prefix: Option<String>,
    /// Which tools: `enabled_tools` and `disabled_tools`, as in Codex, and patterns besides.
    pub tools: Filter,
    /// Only tools that say of themselves that they change nothing. Whoever sets it trusts the server to say so truly.
    pub readonly: bool,
    /// Names of the operator's own for single tools. They stand for the whole name: no prefix is put in front
    /// (mcp-protocol 6.9 rule 7).
    pub rename: BTreeMap<String, String>,
    /// Descriptions of the operator's own for single tools.
    pub describe: BTreeMap<String, String>,
    /// What holds for the calls of single tools.
    pub rules: BTreeMap<String, Arc<ToolRules>>,
    /// What happens when the definition of a tool is not the one that was seen first (S-15).
    pub pin: PinRule,
}

/// What happens when the definition of a tool changes: its name, title, description, schemas or annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PinRule {
    /// Nothing; definitions are not remembered.
    Off,
    /// It is told of, and the tool is shown as it is now.
    #[default]
    Warn,
    /// It is told of, and the tool is withheld until `trunkline pins accept`.
    Block,
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
}

impl Expose {
    /// Reads what a server's block says about its names.
    pub(crate) fn check(name: &str, file: &ServerFile, findings: &mut Findings<'_>) -> Self {
        if let Some(prefix) = file.prefix.as_deref().filter(|prefix| !prefix.is_empty())
            && let Err(problem) = ServerName::new(prefix)
        {
            findings.error_with_hint(
                &["mcp_servers", name, "prefix"],
                problem.to_string(),
                "an empty prefix leaves the names of tools as they are",
            );
        }
        for (tool, new) in &file.rename {
            if ExposedName::new(new).is_none() {
                findings.error(
                    &["mcp_servers", name, "rename", tool],
                    "a tool's name holds only letters, digits, `_` and `-`",
                );
            }
        }
        let readonly = file.readonly == Some(true);
        if readonly && file.trust_annotations != Some(true) {
            findings.error_with_hint(
                &["mcp_servers", name, "readonly"],
                "whether a tool changes anything is known by the server's own word alone",
                "if you trust it to say so truly, set `trust_annotations = true` as well; else name tools in `enabled_tools`",
            );
        }
        Self {
            prefix: file.prefix.clone(),
            tools: Filter::of(file.enabled_tools.clone(), file.disabled_tools.clone().unwrap_or_default()),
            readonly,
            rename: file.rename.clone(),
            describe: file.describe.clone(),
            rules: tool::check(name, &file.tools, findings),
            pin: file.pin.unwrap_or_default(),
        }
    }
}

/// Finds servers and renamed tools that clients could not tell apart (mcp-protocol 6.9 rules 1 and 7). Disabled
/// servers count too, so that enabling one is never an error.
pub(crate) fn check_names(servers: &[(ServerName, Server)], name_chars: usize, findings: &mut Findings<'_>) {
    let mut namespaces: BTreeMap<String, &ServerName> = BTreeMap::new();
    let mut renamed: BTreeMap<String, (&ServerName, &str)> = BTreeMap::new();
    for (name, server) in servers {
        if let Some(namespace) = server.expose.namespace(name)
            && let Some(first) = namespaces.insert(fold(&namespace), name)
        {
            let key: &[&str] = match server.expose.prefix {
                Some(_) => &["mcp_servers", name.as_str(), "prefix"],
                None => &["mcp_servers", name.as_str()],
            };
            findings.error_with_hint(
                key,
                format!("its tools would be called `{namespace}__…`, and so would those of server `{first}`"),
                "clients fold capitals and `-`, and 20 characters count; rename one, or give it a prefix of its own",
            );
        }
        for (tool, new) in &server.expose.rename {
            if new.len() > name_chars {
                findings.error(
                    &["mcp_servers", name.as_str(), "rename", tool],
                    format!("longer than the {name_chars} characters a name may have (limits.name_chars)"),
                );
            }
            if let Some((other, tool_there)) = renamed.insert(fold(new), (name, tool)) {
                findings.error_with_hint(
                    &["mcp_servers", name.as_str(), "rename", tool],
                    format!("tool `{tool_there}` of server `{other}` was already given this name"),
                    "clients fold capitals and `-`: two names must differ in more than that",
                );
            }
        }
    }
}

/// The form in which two names must differ: Codex reads `-` as `_`, and not every client heeds capitals.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}
