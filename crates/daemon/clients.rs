//! The MCP clients whose files are read and written: what each is called, where its files lie, and where in them its
//! servers stand.
//!
//! What is known here is what their documentation says and what was measured (clients.md 4). A file is read by `read.rs`;
//! nothing is changed here.

mod read;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

pub(crate) use read::{Found, JSON, bytes, read};

/// A client that has a file of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    Codex,
    ClaudeCode,
    ClaudeDesktop,
    Cursor,
    Vscode,
    Windsurf,
    Zed,
    Gemini,
}

/// Where this user's files are.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) home: PathBuf,
    /// The project: where the command was called.
    pub(crate) project: PathBuf,
    pub(crate) env: Vec<(String, String)>,
}

impl Surroundings {
    pub(crate) fn here(env: &[(String, String)]) -> Self {
        let home =
            set(env, "HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_else(|| PathBuf::from("/"));
        Self { home, project: std::env::current_dir().unwrap_or_default(), env: env.to_vec() }
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        set(&self.env, name)
    }

    /// The directory that a variable names, or one below the home directory.
    fn directory(&self, variable: &str, otherwise: &str) -> PathBuf {
        let named = self.variable(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.unwrap_or_else(|| self.home.join(otherwise))
    }

    /// Where programs with a window keep their settings.
    fn settings(&self) -> PathBuf {
        if cfg!(target_os = "macos") {
            self.home.join("Library/Application Support")
        } else {
            self.directory("XDG_CONFIG_HOME", ".config")
        }
    }
}

fn set<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

impl Client {
    pub(crate) const ALL: [Self; 8] = [
        Self::Codex,
        Self::ClaudeCode,
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::Vscode,
        Self::Windsurf,
        Self::Zed,
        Self::Gemini,
    ];

    /// As it is called on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Codex => "codex",
            Self::ClaudeCode => "claude-code",
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::Vscode => "vscode",
            Self::Windsurf => "windsurf",
            Self::Zed => "zed",
            Self::Gemini => "gemini",
        }
    }

    /// As its makers call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Codex => "Codex",
            Self::ClaudeCode => "Claude Code",
            Self::ClaudeDesktop => "Claude Desktop",
            Self::Cursor => "Cursor",
            Self::Vscode => "VS Code",
            Self::Windsurf => "Windsurf",
            Self::Zed => "Zed",
            Self::Gemini => "Gemini CLI",
        }
    }

    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|client| client.word() == word)
    }

    /// The file of this user, for all projects.
    pub(crate) fn user_file(self, at: &Surroundings) -> PathBuf {
        match self {
            Self::Codex => at.directory("CODEX_HOME", ".codex").join("config.toml"),
            Self::ClaudeCode => match at.variable("CLAUDE_CONFIG_DIR") {
                Some(directory) => PathBuf::from(directory).join(".claude.json"),
                None => at.home.join(".claude.json"),
            },
            Self::ClaudeDesktop => at.settings().join("Claude/claude_desktop_config.json"),
            Self::Cursor => at.home.join(".cursor/mcp.json"),
            Self::Vscode => at.settings().join("Code/User/mcp.json"),
            Self::Windsurf => at.home.join(".codeium/windsurf/mcp_config.json"),
            // In the same place on both systems.
            Self::Zed => at.directory("XDG_CONFIG_HOME", ".config").join("zed/settings.json"),
            Self::Gemini => at.home.join(".gemini/settings.json"),
        }
    }

    /// The file of one project; `None` if it has none.
    pub(crate) fn project_file(self, project: &Path) -> Option<PathBuf> {
        let below = match self {
            Self::Codex => ".codex/config.toml",
            Self::ClaudeCode => ".mcp.json",
            Self::Cursor => ".cursor/mcp.json",
            Self::Vscode => ".vscode/mcp.json",
            Self::Zed => ".zed/settings.json",
            Self::Gemini => ".gemini/settings.json",
            Self::ClaudeDesktop | Self::Windsurf => return None,
        };
        Some(project.join(below))
    }

    /// The key that its servers stand under.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Codex => "mcp_servers",
            Self::Vscode => "servers",
            Self::Zed => "context_servers",
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Cursor | Self::Windsurf | Self::Gemini => "mcpServers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_files_where_it_looks_for_them() {
        let env = vec![("CODEX_HOME".to_owned(), "/c".to_owned())];
        let at = Surroundings { home: "/h".into(), project: "/p".into(), env };
        assert_eq!(Client::Codex.user_file(&at), Path::new("/c/config.toml"));
        assert_eq!(Client::ClaudeCode.user_file(&at), Path::new("/h/.claude.json"));
        assert_eq!(Client::Zed.user_file(&at), Path::new("/h/.config/zed/settings.json"));
        assert_eq!(Client::ClaudeCode.project_file(&at.project), Some("/p/.mcp.json".into()));
        assert_eq!(Client::Windsurf.project_file(&at.project), None);
        for client in Client::ALL {
            assert_eq!(Client::named(client.word()), Some(client));
            assert_eq!(client.to_possible_value().expect("offered").get_name(), client.word());
        }
    }
}
