//! `[profiles.NAME]`: a part of what is there, at a URL of its own, `/mcp/NAME`.
//!
//! A client that is given that URL sees the profile's servers, and of their entries what its patterns let through; nothing
//! else exists for it. Patterns are written as `trunkline tools` shows the names: `git__log`, `git__*`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use trunkline_wire::ServerName;

use crate::findings::Findings;
use crate::limits::NAME_CHARS;
use crate::patterns::Filter;
use crate::secret::Resolver;
use crate::server::Server;
use crate::sharing;
use crate::surface::{self, Said, Surface, ToolList};

/// More than anybody tells apart; each holds lists of its own.
const PROFILES_MAX: usize = 64;

/// A part of what the servers offer, for the clients that connect to `/mcp/NAME`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Profile")]
pub(crate) struct ProfileFile {
    /// Only these servers; by default all.
    servers: Option<Vec<String>>,
    /// Only tools whose names one of these matches, for example `git__*`. Names are those that `trunkline tools` shows.
    enabled_tools: Option<Vec<String>>,
    /// Not the tools whose names one of these matches.
    disabled_tools: Vec<String>,
    /// Only prompts whose names one of these matches.
    enabled_prompts: Option<Vec<String>>,
    /// Not the prompts whose names one of these matches.
    disabled_prompts: Vec<String>,
    /// Only resources and templates whose URIs one of these matches.
    enabled_resources: Option<Vec<String>>,
    /// Not the resources and templates whose URIs one of these matches.
    disabled_resources: Vec<String>,
    /// `""`: tools and prompts are called as their servers call them, without a prefix.
    prefix: Option<String>,
    /// The directories of the project that this URL stands for: what servers with `sharing = "project"` are told as roots,
    /// and where they are started. Paths, or `file://` URIs.
    roots: Option<Vec<String>>,
    /// Longest name of a tool here, 16 to 128; by default `limits.name_chars`.
    name_chars: Option<usize>,
    /// Which tools are listed here; by default as `expose` at the top level says.
    expose: Option<ToolList>,
    /// With `expose = "hybrid"`: the tools that stay listed; by default as `pinned` at the top level says.
    pinned: Option<Vec<String>>,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Only these servers, if given.
    pub servers: Option<Vec<ServerName>>,
    /// Which tools, by the names that clients of `/mcp` know.
    pub tools: Filter,
    /// Which prompts.
    pub prompts: Filter,
    /// Which resources and templates, by URI.
    pub resources: Filter,
    /// Names are the servers' own, without a prefix.
    pub bare_names: bool,
    /// `file://` URIs of the directories of its project.
    pub roots: Vec<String>,
    /// Longest name, in characters; the gateway's limit if none.
    pub name_chars: Option<usize>,
    /// Which of the tools are listed.
    pub surface: Surface,
}

impl Profile {
    /// Whether the profile has this server.
    pub fn has(&self, server: &ServerName) -> bool {
        self.servers.as_ref().is_none_or(|servers| servers.contains(server))
    }
}

/// Reads the profiles, and reports what is wrong with them.
pub(crate) fn check(
    files: BTreeMap<String, ProfileFile>,
    servers: &[(ServerName, Server)],
    resolver: &Resolver<'_>,
    top: (&Said, &Surface),
    findings: &mut Findings<'_>,
) -> Vec<(Box<str>, Profile)> {
    if files.len() > PROFILES_MAX {
        findings.error(&["profiles"], format!("holds more than {PROFILES_MAX} profiles"));
    }
    let mut said = Vec::with_capacity(files.len());
    let mut checked: Vec<(Box<str>, Profile)> = Vec::with_capacity(files.len());
    for (name, mut file) in files {
        let own = Said { expose: file.expose, pinned: file.pinned.take() };
        let surface = own.check(&["profiles", &name], Some(top.0), findings);
        let profile = Profile { surface, ..file.check(&name, servers, resolver, findings) };
        said.push(own);
        checked.push((name.into(), profile));
    }
    let each = checked.iter().zip(&said).map(|((name, profile), said)| (&**name, said, &profile.surface));
    surface::warn(top, each, findings);
    checked
}

impl ProfileFile {
    fn check(
        self,
        name: &str,
        known: &[(ServerName, Server)],
        resolver: &Resolver<'_>,
        findings: &mut Findings<'_>,
    ) -> Profile {
        if !is_name(name) {
            findings
                .error(&["profiles", name], "a name is of 1 to 32 letters, digits, `_` and `-`: it stands in a URL");
        }
        let key = |field: &'static str| ["profiles", name, field];
        if self.prefix.as_deref().is_some_and(|prefix| !prefix.is_empty()) {
            let hint = "a server's own `prefix` sets another for that server";
            findings.error_with_hint(&key("prefix"), "only \"\" is known here: no prefix at all", hint);
        }
        if self.name_chars.is_some_and(|chars| !NAME_CHARS.contains(&chars)) {
            let (least, most) = (NAME_CHARS.start(), NAME_CHARS.end());
            findings.error(&key("name_chars"), format!("must be between {least} and {most}"));
        }
        let servers = self.servers.map(|wanted| {
            let found = wanted.iter().filter_map(|wanted| {
                let found = known.iter().map(|(name, _)| name).find(|name| name.as_str() == wanted);
                if found.is_none() {
                    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                    let hint = format!("the servers are: {}", names.join(", "));
                    findings.error_with_hint(&key("servers"), format!("there is no server `{wanted}`"), hint);
                }
                found.cloned()
            });
            found.collect()
        });
        let roots = sharing::roots(&key("roots"), self.roots.as_deref(), resolver, findings);
        Profile {
            servers,
            tools: Filter::of(self.enabled_tools, self.disabled_tools),
            prompts: Filter::of(self.enabled_prompts, self.disabled_prompts),
            resources: Filter::of(self.enabled_resources, self.disabled_resources),
            bare_names: self.prefix.is_some(),
            roots,
            name_chars: self.name_chars,
            surface: Surface::default(),
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigErrors, Flags, Loaded, Sources, load};

    const SERVERS: &str =
        "[mcp_servers.git]\ncommand = 'git-mcp'\n[mcp_servers.linear]\nurl = 'https://x.example/mcp'\n";

    fn loaded(text: &str) -> Result<Loaded, ConfigErrors> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, format!("{SERVERS}{text}")).expect("written");
        load(&Sources { file: Some(path), env: Vec::new(), flags: Flags::default() })
    }

    #[test]
    fn a_profile_names_servers_and_patterns_and_an_empty_one_has_all() {
        let text = "[profiles.work]\nservers = ['git']\nenabled_tools = ['git__*']\ndisabled_tools = ['git__push']\n\
                    prefix = ''\nname_chars = 32\n[profiles.all]\n";
        let config = loaded(text).expect("sound").config;
        let [(all, open), (work, tight)] = &config.profiles[..] else { panic!("{:?}", config.profiles) };
        assert_eq!((&**all, open), ("all", &Profile::default()));
        let (git, linear) = (&config.servers[0].0, &config.servers[1].0);
        assert_eq!((&**work, tight.has(git), tight.has(linear), open.has(linear)), ("work", true, false, true));
        assert!(tight.tools.shows("git__log") && !tight.tools.shows("git__push") && tight.bare_names);
        assert_eq!(tight.name_chars, Some(32));
    }

    #[test]
    fn what_a_profile_cannot_be_is_told_with_its_place() {
        for (text, told) in [
            ("[profiles.a]\nservers = ['gti']", "there is no server `gti`"),
            ("[profiles.'a/b']", "it stands in a URL"),
            ("[profiles.a]\nprefix = 'x'", "only \"\" is known here"),
            ("[profiles.a]\nname_chars = 8", "between 16 and 128"),
            ("[profiles.a]\nexpose = 'some'", "must be one of: all, search, hybrid"),
            ("[profiles.a]\nexpose = 'hybrid'", "`pinned` names"),
            ("[profiles.a]\ntools = ['x']", "tools"),
        ] {
            let error = loaded(text).expect_err(text).to_string();
            assert!(error.contains(told) && error.contains("profiles"), "{text}: {error}");
        }
    }
}
