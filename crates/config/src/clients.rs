//! The vocabulary of `[mcp_servers.NAME]`: Codex's keys as they are, and ours beside them.
//!
//! Whoever has a working Codex configuration pastes its blocks and is done (clients.md 4). So every key Codex knows
//! is known here; those without meaning in a gateway are accepted and named once, in one warning. A key that
//! neither knows is an error with the nearest name, since Codex itself ignores it without a word, and an ignored
//! `disabled_tols` is worse than a refused one.
//!
//! A setting that this version does not have yet is refused rather than ignored, with the values it does have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use trunkline_wire::Era;

use crate::expose::PinRule;
use crate::findings::Findings;
use crate::oauth::OAuthFile;
use crate::sharing::Sharing;
use crate::tool::ToolFile;
use crate::tuning::{ServerLimits, Start};

/// One `[mcp_servers.NAME]` as written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(crate) struct ServerFile {
    /// The program of a server that runs as a child process. Never given to a shell.
    pub(crate) command: Option<String>,
    /// Its arguments, one each. `${env:NAME}`, `${file:PATH}` and `${cmd:PROGRAM ARGUMENT…}` are replaced, here and below: by a
    /// variable of the daemon, the text of a file, what a program prints.
    pub(crate) args: Option<Vec<String>>,
    /// Variables set for it. `${env:NAME}`, `${file:PATH}` and `${cmd:PROGRAM ARGUMENT…}` are replaced.
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// Names of the daemon's own variables that are passed on to it.
    pub(crate) env_vars: Option<Vec<EnvVar>>,
    /// Where it is started. A relative path starts from the directory of this file.
    pub(crate) cwd: Option<String>,

    /// The address of a server that is reached over HTTP. `${env:NAME}` and `${file:PATH}` are replaced.
    pub(crate) url: Option<String>,
    /// Name of the variable that holds the bearer token.
    pub(crate) bearer_token_env_var: Option<String>,
    /// The bearer token itself. Better: `bearer_token_env_var`, or `${file:PATH}` or `${cmd:PROGRAM ARGUMENT…}` here.
    pub(crate) bearer_token: Option<String>,
    /// Headers sent with each request. `${env:NAME}`, `${file:PATH}` and `${cmd:PROGRAM ARGUMENT…}` are replaced.
    pub(crate) http_headers: Option<BTreeMap<String, String>>,
    /// Headers whose values are in variables: header name to variable name.
    pub(crate) env_http_headers: Option<BTreeMap<String, String>>,
    /// A PEM file with further certificate authorities to trust for this server.
    pub(crate) ca_file: Option<String>,
    /// How it is spoken to. With `url` the default finds out.
    pub(crate) transport: Option<TransportFile>,
    /// The same in the words of Claude Code's files.
    #[serde(rename = "type")]
    pub(crate) kind: Option<TransportFile>,

    /// Whether it is started. Default true.
    pub(crate) enabled: Option<bool>,
    /// From start to the answered handshake, in seconds. Default 120 the first time, 30 later.
    pub(crate) startup_timeout_sec: Option<f64>,
    /// The same in milliseconds.
    pub(crate) startup_timeout_ms: Option<u64>,
    /// How long a tool call may go without bytes or progress, in seconds. Default 270.
    pub(crate) tool_timeout_sec: Option<f64>,
    /// Further limits of this server.
    pub(crate) limits: ServerLimits,

    /// Only these tools, by the server's own names; `*` and `?` stand for any text and any character.
    pub(crate) enabled_tools: Option<Vec<String>>,
    /// Not these tools, in the same way.
    pub(crate) disabled_tools: Option<Vec<String>>,
    /// Whether only tools are shown that say of themselves that they change nothing. Needs `trust_annotations`. Default
    /// false.
    pub(crate) readonly: Option<bool>,
    /// What stands in front of the names of its tools, in place of the server's name. Empty: nothing.
    pub(crate) prefix: Option<String>,
    /// Names of your own for single tools: the server's name of it to yours.
    pub(crate) rename: BTreeMap<String, String>,
    /// Descriptions of your own for single tools.
    pub(crate) describe: BTreeMap<String, String>,

    /// What holds for the calls of single tools: by the server's own name of each, arguments that are fixed, have a default or
    /// are hidden, and how many calls there may be.
    pub(crate) tools: BTreeMap<String, ToolFile>,

    /// Who shares a connection: everybody (`shared`), nobody (`session`: one for each session of a client, for servers
    /// that keep a user's state, such as a browser), or those who work on the same directories (`project`: told by
    /// `roots` of their profile, else by the client). Default shared.
    pub(crate) sharing: Option<Sharing>,
    /// When it is started: with the daemon, or with the first call. Default eager; lazy where `sharing` is not `shared`.
    pub(crate) start: Option<Start>,
    /// After how many seconds without a request it is stopped, to be started again by the next one. Default 0: never;
    /// 1800 where `sharing` is not `shared`.
    pub(crate) idle_stop_sec: Option<f64>,
    /// For how many seconds its entries stay listed while it fails. Default: for as long as it is configured, so that
    /// lists do not flap. One that starts or waits for a credential keeps them in any case.
    pub(crate) stale_keep_sec: Option<f64>,
    /// Which era of the protocol it speaks. The default finds out at the first connection.
    pub(crate) era: Option<EraFile>,
    /// Whether its hints about tools are believed: one that says that it only reads, or that to call it twice is to call
    /// it once, is called again after a failure. Default false.
    pub(crate) trust_annotations: Option<bool>,
    /// Directories it is told when it asks for roots: paths, or `file://` URIs. Default none: it may not ask.
    pub(crate) roots: Option<Vec<String>>,
    /// Whether it may ask the model behind a call (sampling). Default false.
    pub(crate) sampling: Option<bool>,
    /// Whether it works on one request at a time, so that a question of it belongs to one call for certain. Default
    /// false.
    pub(crate) serialize: Option<bool>,
    /// What happens when the definition of a tool is not the one that was seen first: `warn` says so, `block` withholds the
    /// tool until `trunkline pins accept`, `off` remembers none. Default warn.
    pub(crate) pin: Option<PinRule>,

    /// What to ask for when signing in. Default: what the server says.
    pub(crate) scopes: Option<Vec<String>>,
    /// As whom to sign in. Nothing of it is needed where the server's authorization server registers clients.
    pub(crate) oauth: Option<OAuthFile>,

    /// Codex's own; without effect here.
    pub(crate) required: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) default_tools_approval_mode: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) supports_parallel_tool_calls: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) oauth_resource: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) tool_input_schema_max_bytes: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) startup_readiness: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) environment_id: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) name: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) auth: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) http_headers_helper: Option<Ignored>,
}

/// A value nobody looks at.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Ignored(#[schemars(with = "serde_json::Value")] IgnoredAny);

/// A variable to pass on; newer Codex also writes it as a table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum EnvVar {
    /// Its name.
    Name(String),
    /// Its name, and which machine's variable is meant; here there is only one.
    Table {
        /// The variable.
        name: String,
        /// Without effect here.
        #[serde(default)]
        #[expect(dead_code, reason = "known, so that it is no unknown key")]
        source: Option<String>,
    },
}

impl EnvVar {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Table { name, source: _ } => name,
        }
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransportFile {
    /// Found out at the first connection.
    Auto,
    /// Streamable HTTP.
    #[serde(alias = "streamable-http", alias = "streamable_http", alias = "streamableHttp")]
    Http,
    /// The legacy pair of an SSE stream and a POST address.
    Sse,
    /// A child process.
    Stdio,
}

impl TransportFile {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Stdio => "stdio",
        }
    }
}

/// Which era of the protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EraFile {
    /// Found out at the first connection.
    Auto,
    /// Opened by `initialize`: revisions up to 2025-11-25.
    Legacy,
    /// Stateless: 2026-07-28.
    Modern,
}

impl EraFile {
    /// The era, if it is not to be found out.
    pub(crate) fn fixed(self) -> Option<Era> {
        match self {
            Self::Auto => None,
            Self::Legacy => Some(Era::Legacy),
            Self::Modern => Some(Era::Modern),
        }
    }
}

impl ServerFile {
    /// Reports keys that have no effect, and refuses settings this version does not have.
    pub(crate) fn check_vocabulary(&self, name: &str, findings: &mut Findings<'_>) {
        let ignored = [
            ("required", self.required.is_some()),
            ("default_tools_approval_mode", self.default_tools_approval_mode.is_some()),
            ("supports_parallel_tool_calls", self.supports_parallel_tool_calls.is_some()),
            ("oauth_resource", self.oauth_resource.is_some()),
            ("tool_input_schema_max_bytes", self.tool_input_schema_max_bytes.is_some()),
            ("startup_readiness", self.startup_readiness.is_some()),
            ("environment_id", self.environment_id.is_some()),
            ("name", self.name.is_some()),
            ("auth", self.auth.is_some()),
            ("http_headers_helper", self.http_headers_helper.is_some()),
        ];
        for (key, _) in ignored.into_iter().filter(|(_, given)| *given) {
            findings.ignored.entry(key).or_default().push(name.to_owned());
        }
        for key in self.oauth.iter().flat_map(OAuthFile::without_effect) {
            findings.ignored.entry(key).or_default().push(name.to_owned());
        }
    }
}

/// One warning for all keys without effect.
pub(crate) fn ignored_warning(ignored: &BTreeMap<&'static str, Vec<String>>) -> Option<String> {
    let each: Vec<String> = ignored.iter().map(|(key, servers)| format!("{key} (of {})", servers.join(", "))).collect();
    (!each.is_empty()).then(|| format!("keys of Codex's own, without effect here: {}", each.join("; ")))
}

/// What to say about a key nobody knows.
pub(crate) fn unknown_key(name: &str, known: &[&str], key: &[&str]) -> (String, Option<String>) {
    let in_server = key.len() == 3 && key[0] == "mcp_servers";
    let other_word =
        OTHER_WORDS.iter().find(|(word, _)| in_server && *word == name).map(|(_, ours)| (*ours).to_owned());
    // Codex's best known setting is near to `otel`, and not meant.
    let near = || nearest(name, known).filter(|_| key != ["model"]);
    let hint = other_word.or_else(|| near().map(|near| format!("did you mean `{near}`?"))).or_else(|| {
        (key.len() == 1).then(|| {
            "only the [mcp_servers.…] tables of a Codex config.toml belong here, not its other settings".to_owned()
        })
    });
    ("unknown key".to_owned(), hint)
}

/// The names of a choice without the other hosts' words for `http`, which would only confuse in a message.
pub(crate) fn main_words<'a>(known: &[&'a str]) -> Vec<&'a str> {
    known.iter().copied().filter(|word| !word.starts_with("streamable")).collect()
}

/// What other hosts call the same thing, where the spelling alone would mislead.
const OTHER_WORDS: [(&str, &str); 8] = [
    ("headers", "it is called `http_headers` here"),
    ("timeout", "it is called `tool_timeout_sec` here, in seconds"),
    ("disabled", "it is `enabled = false` here"),
    ("serverUrl", "it is called `url` here"),
    ("httpUrl", "it is called `url` here"),
    ("token", "name the variable that holds it in `bearer_token_env_var`"),
    ("api_key", "name the variable that holds it in `bearer_token_env_var`"),
    ("alwaysAllow", "which calls to allow is decided by the client, not here"),
];

/// The known name that is most like a word, if one is like it at all.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let word = plain(word);
    if word.len() > 64 {
        return None;
    }
    let far = (word.chars().count() / 3 + 1).min(4);
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(&word, &plain(name)), *name)).min()?;
    (near.0 <= far).then_some(near.1)
}
