//! [`ConfigErrors`]: everything wrong with a configuration, at once.

use std::fmt;
use std::path::PathBuf;

/// All problems found while loading. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One problem: where it stands, what it is, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value came from.
    pub source: Source,
    /// The key, as in `mcp_servers.linear.url`. Empty where the whole source is at fault.
    pub key: String,
    /// What is wrong, as a fragment. Never quotes the value: it may be a secret.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The configuration file, with the line if it is known.
    File(PathBuf, Option<usize>),
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag.
    Flag(&'static str),
}

impl ConfigError {
    /// Where it is met when the sources are read from top to bottom: flags, variables, then the file by line.
    pub(crate) fn place(&self) -> (u8, Option<usize>) {
        match &self.source {
            Source::Flag(_) => (0, None),
            Source::Environment(_) => (1, None),
            Source::File(_, line) => (2, *line),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(out, "{}:{line}", path.display()),
            Self::File(path, None) => write!(out, "{}", path.display()),
            Self::Environment(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => write!(out, "flag {name}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.source)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.problem)?;
        match &self.hint {
            Some(hint) => write!(out, "\n    {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            error.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
