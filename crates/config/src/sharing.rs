//! Who shares a connection to a server, and the directories that a project is told by.
//!
//! A server has one connection for everybody, or several *lanes*: one for each session, or for each project. Each lane of a
//! server with `command` is a process of its own.

use std::path::{Component, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::clients::ServerFile;
use crate::findings::Findings;
use crate::secret::Resolver;
use crate::server::Declared;
use crate::tuning::{Start, Tuning};

/// A lane that nobody has used for so long is stopped, unless the configuration says otherwise: most clients never say
/// that a session is over, and a browser that nobody watches costs hundreds of megabytes.
const LANE_IDLE_STOP: Duration = Duration::from_mins(30);

/// Who shares a connection to a server (mcp-protocol 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Everybody: one connection.
    #[default]
    Shared,
    /// Nobody: one for each session of a client. For servers that keep a user's state, such as a browser.
    Session,
    /// Those who work on the same directories: one for each project. For servers that are bound to a directory.
    Project,
}

impl Sharing {
    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Session => "session",
            Self::Project => "project",
        }
    }

    /// Reads it, and sets what goes with it: a server with lanes starts with its first caller, and what nobody uses ends.
    pub(crate) fn check(file: &ServerFile, tuning: &mut Tuning) -> Self {
        let sharing = file.sharing.unwrap_or_default();
        if sharing != Self::Shared {
            tuning.start = file.start.unwrap_or(Start::Lazy);
            if file.idle_stop_sec.is_none() {
                tuning.idle_stop = Some(LANE_IDLE_STOP);
            }
        }
        sharing
    }
}

impl Declared {
    /// Reads what a server may ask for.
    pub(crate) fn check(name: &str, file: &ServerFile, resolver: &Resolver<'_>, findings: &mut Findings<'_>) -> Self {
        let roots = roots(&["mcp_servers", name, "roots"], file.roots.as_deref(), resolver, findings);
        Self { sampling: file.sampling.unwrap_or(false), roots, own: None }
    }

    /// Whether a client may name this directory, a `file://` URI, as its own to the server: one of the server's or beneath
    /// it, or any where it has none. By name: where a link in it leads is for whoever made the link.
    pub fn bounds(&self, root: &str) -> bool {
        let path = |uri: &str| Url::parse(uri).ok()?.to_file_path().ok();
        let is_plain = |path: &PathBuf| !path.components().any(|part| part == Component::ParentDir);
        // `..` goes with the parse, but one that is spelled with escapes comes back with the path.
        self.roots.is_empty()
            || path(root).filter(is_plain).is_some_and(|path_of| {
                self.roots.iter().filter_map(|root| path(root)).any(|top| path_of.starts_with(top))
            })
    }

    /// The first of its directories.
    pub fn directory(&self) -> Option<PathBuf> {
        self.roots.iter().find_map(|uri| Url::parse(uri).ok()?.to_file_path().ok())
    }
}

/// Roots as servers want them: URIs of directories. What is none is reported.
pub(crate) fn roots(
    key: &[&str],
    texts: Option<&[String]>,
    resolver: &Resolver<'_>,
    findings: &mut Findings<'_>,
) -> Vec<String> {
    let read = |text: &String| {
        let url = if text.contains("://") {
            Url::parse(text).ok().filter(|url| url.scheme() == "file")
        } else {
            Url::from_file_path(resolver.path(text)).ok()
        };
        if url.is_none() {
            findings.error(key, "a root is a directory: a path, or a URI that begins with file://");
        }
        url.map(String::from)
    };
    texts.unwrap_or_default().iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigErrors, Flags, Loaded, Server, Sources, load};

    fn loaded(text: &str) -> Result<Loaded, ConfigErrors> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        load(&Sources { file: Some(path), env: Vec::new(), flags: Flags::default() })
    }

    fn server(keys: &str) -> Server {
        let loaded = loaded(&format!("[mcp_servers.a]\ncommand = 'a'\n{keys}")).expect("sound");
        loaded.config.servers[0].1.clone()
    }

    #[test]
    fn r32_a_server_with_lanes_starts_with_its_first_caller_and_what_nobody_uses_ends_unless_told_otherwise() {
        let shared = server("");
        assert_eq!(
            (shared.sharing, shared.tuning.start, shared.tuning.idle_stop),
            (Sharing::Shared, Start::Eager, None)
        );
        for (word, sharing) in [("session", Sharing::Session), ("project", Sharing::Project)] {
            let Server { sharing: read, tuning, .. } = server(&format!("sharing = '{word}'"));
            assert_eq!((read, read.as_str()), (sharing, word));
            assert_eq!((tuning.start, tuning.idle_stop, tuning.lanes_max), (Start::Lazy, Some(LANE_IDLE_STOP), 8));
        }
        let told = server("sharing = 'session'\nstart = 'eager'\nidle_stop_sec = 0\nlimits.lanes = 64").tuning;
        assert_eq!((told.start, told.idle_stop, told.lanes_max), (Start::Eager, None, 64));
    }

    #[test]
    fn what_no_sharing_can_be_is_told_with_its_place() {
        for (keys, told) in [
            ("sharing = 'each'", "sharing"),
            ("sharing = 'session'\nlimits.lanes = 65", "must be from 1 to 64"),
            ("sharing = 'session'\nlimits.lanes = 0", "must be from 1 to 64"),
            ("[profiles.a]\nroots = ['https://x.example']", "a root is a directory"),
        ] {
            let error = loaded(&format!("[mcp_servers.a]\ncommand = 'a'\n{keys}")).expect_err(keys).to_string();
            assert!(error.contains(told), "{keys}: {error}");
        }
    }

    #[test]
    fn a_profile_names_the_directories_of_a_project() {
        let config = loaded("[profiles.a]\nroots = ['/srv/a', 'file:///srv/b%20c', 'here']\n").expect("sound").config;
        let roots = &config.profiles[0].1.roots;
        assert_eq!(roots[..2], ["file:///srv/a", "file:///srv/b%20c"]);
        assert!(roots[2].ends_with("/here"), "beside the file: {roots:?}");
        let declared = Declared { roots: roots[1..].to_vec(), ..Declared::default() };
        assert_eq!(declared.directory(), Some("/srv/b c".into()));
    }

    #[test]
    fn s34_a_client_names_directories_beneath_those_of_the_server_alone_where_it_has_some() {
        let open = Declared::default();
        assert!(open.bounds("file:///anywhere"));
        let bound = Declared { roots: vec!["file:///srv/a".to_owned(), "file:///srv/b%20c".to_owned()], ..open };
        for inside in
            ["file:///srv/a", "file:///srv/a/", "file:///srv/a/x/y", "file:///srv/b%20c/z", "file:///srv/x/../a"]
        {
            assert!(bound.bounds(inside), "{inside}");
        }
        for outside in [
            "file:///srv",
            "file:///srv/ab",
            "file:///srv/a/../../etc",
            "file:///srv/a/%2e%2e/etc",
            "file:///srv/a/x%2F..%2F..%2F..%2Fetc",
            "file://elsewhere/srv/a",
            "https://srv/a",
            "srv/a",
        ] {
            assert!(!bound.bounds(outside), "{outside}");
        }
    }
}
