//! Servers that are known to keep what one user does: for those `sharing = "session"` is made, and nobody who adds one can
//! be expected to know that. A hint and no more: what a program is called proves nothing.
//!
//! Servers that remember for their user, such as knowledge graphs, are none of them: what one session tells them the next
//! one is to find.

use std::path::Path;

use trunkline_config::{Connect, Server, Sharing};

/// Words in the names of packages and programs, and what they tell.
const KINDS: [(&str, &str); 12] = [
    ("playwright", "drives one browser"),
    ("puppeteer", "drives one browser"),
    ("chrome-devtools", "drives one browser"),
    ("browser-use", "drives one browser"),
    ("browsermcp", "drives one browser"),
    ("selenium", "drives one browser"),
    ("ipython", "keeps one interpreter's variables"),
    ("jupyter", "keeps one interpreter's variables"),
    ("node-repl", "keeps one interpreter's variables"),
    ("python-repl", "keeps one interpreter's variables"),
    ("code-interpreter", "keeps one interpreter's variables"),
    ("terminal", "keeps one terminal"),
];

/// Arguments that are looked at: a launcher's own, and then the package.
const ARGS_LOOKED_AT: usize = 4;

/// What to say of a server that everybody shares and should not, if it is known.
pub(crate) fn hint(name: &str, server: &Server) -> Option<String> {
    if server.sharing != Sharing::Shared {
        return None;
    }
    let kind = kind(&server.connect)?;
    Some(format!(
        "{name} {kind}, which all sessions would share; with `sharing = \"session\"` in [mcp_servers.{name}] each has its own"
    ))
}

fn kind(connect: &Connect) -> Option<&'static str> {
    let Connect::Stdio(stdio) = connect else { return None };
    let program = Path::new(&stdio.command).file_name()?.to_string_lossy().to_lowercase();
    let is_package = |arg: &&str| !arg.starts_with(['-', '/', '.', '~']) && !arg.contains(['=', ' ']);
    let args = stdio.args.iter().take(ARGS_LOOKED_AT).map(trunkline_config::Secret::expose).filter(is_package);
    let names: Vec<String> = std::iter::once(program).chain(args.map(str::to_lowercase)).collect();
    KINDS.iter().find(|(word, _)| names.iter().any(|name| name.contains(word))).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use trunkline_config::Stdio;

    use super::*;

    fn server(command: &str, args: &[&str]) -> Server {
        Server::new(Connect::Stdio(Stdio::new(command, args.iter().copied())))
    }

    #[test]
    fn known_servers_that_keep_a_users_state_are_told_from_others() {
        for (command, args) in [
            ("npx", &["-y", "@playwright/mcp@latest"][..]),
            ("npx", &["chrome-devtools-mcp@latest"]),
            ("uvx", &["jupyter-mcp-server"]),
            ("/opt/bin/Browser-Use", &[]),
        ] {
            assert!(hint("web", &server(command, args)).is_some(), "{command} {args:?}");
        }
        for (command, args) in [
            ("npx", &["-y", "@modelcontextprotocol/server-memory"][..]),
            ("git-mcp", &["--repository", "/src/playwright"]),
            ("uvx", &["fetch", "a", "b", "c", "playwright"]),
        ] {
            assert_eq!(hint("web", &server(command, args)), None, "{command} {args:?}");
        }
        let own = Server { sharing: Sharing::Session, ..server("playwright-mcp", &[]) };
        assert_eq!(hint("web", &own), None, "it has what it needs");
    }

    #[test]
    fn the_hint_says_what_is_shared_and_what_to_write() {
        assert_eq!(
            hint("web", &server("playwright-mcp", &[])).expect("known"),
            "web drives one browser, which all sessions would share; with `sharing = \"session\"` in [mcp_servers.web] each has \
             its own"
        );
    }
}
