//! [`Offer`]: what a server has to give, as it said itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trunkline_wire::extensions::TASKS;
use trunkline_wire::headers::ParamHeader;
use trunkline_wire::{Json, Object, Revision};

/// A server's lists and what it said of itself at the handshake. Entries keep the server's order and text.
///
/// Outlives the connection it came by, and the process: while the server is away its last offer stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offer {
    /// Tools.
    pub tools: Vec<Entry>,
    /// Prompts.
    pub prompts: Vec<Entry>,
    /// Resources.
    pub resources: Vec<Entry>,
    /// Resource templates.
    pub templates: Vec<Entry>,
    /// What was left out or could not be had, and why.
    pub complaints: Vec<Complaint>,
    /// By a tool's name, the arguments that a call over modern HTTP repeats in headers, where there are any.
    pub mirrored: HashMap<String, Arc<[ParamHeader]>>,
    /// Tools that say that they have to be called as tasks (mcp-protocol 5.14).
    pub as_tasks: HashSet<String>,
    /// Tools that say that they only read, or that to call them twice is to call them once. A hint, and no more than that:
    /// it counts where the operator says so (reliability 5).
    pub repeatable: HashSet<String>,
    /// `instructions` of the handshake.
    pub instructions: Option<String>,
    /// `serverInfo` of the handshake.
    pub identity: Option<Json>,
    /// What the server can do.
    pub capabilities: Capabilities,
    /// The extensions of a modern server that are relayed, each with the server's own settings (mcp-protocol 5.15).
    pub extensions: Object,
    /// The agreed revision; `None` before the first handshake.
    pub revision: Option<Revision>,
}

/// One tool, prompt, resource or template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key in its list: a tool's or prompt's `name`, a resource's `uri`, a template's `uriTemplate`.
    pub name: String,
    /// The whole entry, as sent.
    pub body: Json,
}

/// Why something of a server is not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What it is about, such as "tool `x`".
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a server declared at the handshake (mcp-protocol 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each asked for by name")]
pub struct Capabilities {
    /// `tools`.
    pub tools: bool,
    /// `prompts`.
    pub prompts: bool,
    /// `resources`.
    pub resources: bool,
    /// `resources.subscribe`.
    pub subscribe: bool,
    /// `completions`; a 2024-11-05 server could not declare it and is tried (mcp-protocol 4.11).
    pub completions: bool,
    /// `logging`.
    pub logging: bool,
    /// The extension for tasks, of the modern era.
    pub tasks: bool,
}

impl Capabilities {
    /// Reads the `capabilities` of a handshake.
    pub(crate) fn read(declared: &Object, revision: Revision) -> Self {
        let has = |key| declared.get(key).is_some_and(Json::is_object);
        let subscribe = declared.get_object("resources").and_then(|resources| resources.get("subscribe").cloned());
        Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            subscribe: subscribe.is_some_and(|value| value.as_bytes() == b"true"),
            completions: has("completions") || revision < Revision::V2025_03_26,
            logging: has("logging"),
            tasks: declared.get_object("extensions").is_some_and(|extensions| extensions.get(TASKS).is_some()),
        }
    }
}

/// A set of the four lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// `tools/list`.
    pub(crate) const TOOLS: Self = Self(1);
    /// `prompts/list`.
    pub(crate) const PROMPTS: Self = Self(2);
    /// `resources/list`.
    pub(crate) const RESOURCES: Self = Self(4);
    /// `resources/templates/list`.
    pub(crate) const TEMPLATES: Self = Self(8);
    /// All of them.
    pub(crate) const ALL: Self = Self(15);

    /// Both sets together.
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all lists of `other` are in this set.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As marks of `Signals`.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// From marks of `Signals`.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}
