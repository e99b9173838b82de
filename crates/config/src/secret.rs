//! [`Secret`]: a text that is not for eyes; and the references that bring secrets in.
//!
//! A secret is compared like any text, so that a changed key shows as a changed server, but it prints as `***`
//! whatever prints it. The one way out is [`Secret::expose`], which is easy to search for.
//!
//! `${env:NAME}` and `${file:PATH}` in a value stand for a variable of the daemon and for the text of a file, `${cmd:…}` for
//! what a program prints, and `${keyring:NAME}` for an entry of the keychain, both looked up later (`late.rs`). A reference that
//! leads nowhere is no error of the file: the variable may be missing today, and the other servers are to work all the same. It becomes the server's [`problem`](crate::Server::problem). Any other `${…}` is
//! left as it is, since Codex does not touch it either.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::files;
use crate::keyring;
use crate::late::{self, Late};
use crate::sources::{home, variable};

/// A value that may hold a password, key or token. Prints as `***`; cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire or a child's environment. Never for a log, an error or a label.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Looks up what references stand for.
pub(crate) struct Resolver<'a> {
    env: &'a [(String, String)],
    /// Where relative paths start: the directory of the configuration file.
    pub(crate) base: PathBuf,
    /// What programs printed, by their text; `None` while the file is read, when none is run.
    printed: Option<&'a BTreeMap<String, Secret>>,
}

/// A value with its references replaced.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    /// The text. What could not be had reads `unresolved`, so that a URL stays a URL.
    pub(crate) text: String,
    /// What the references brought in.
    pub(crate) brought: Vec<Secret>,
    /// What could not be had, each a sentence that names the variable or file.
    pub(crate) missing: Vec<String>,
    /// A reference that can never work, and why.
    pub(crate) malformed: Option<&'static str>,
    /// A file or program stands behind it, which the next start of the server looks up anew.
    pub(crate) late: bool,
    /// A program does, which only that start runs.
    pub(crate) unprinted: bool,
}

impl Expanded {
    /// Whether there was any reference in it.
    pub(crate) fn referred(&self) -> bool {
        !self.brought.is_empty() || !self.missing.is_empty() || self.unprinted
    }
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(env: &'a [(String, String)], file: Option<&Path>) -> Self {
        let base = file.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        Self { env, base, printed: None }
    }

    /// For the values of a server that starts.
    pub(crate) fn late(late: &'a Late, printed: &'a BTreeMap<String, Secret>) -> Self {
        Self { env: &late.env, base: late.base.clone(), printed: Some(printed) }
    }

    /// The variables that these values name, and what a path needs.
    pub(crate) fn env_of(&self, values: &[&str]) -> Vec<(String, String)> {
        let named =
            |name: &str| name == "HOME" || values.iter().any(|value| value.contains(&format!("${{env:{name}}}")));
        self.env.iter().filter(|(name, _)| named(name)).cloned().collect()
    }

    /// The value of a variable, or a sentence that says it is missing.
    pub(crate) fn variable(&self, name: &str) -> Result<Secret, String> {
        variable(self.env, name).map(Secret::new).ok_or_else(|| {
            let name = variable_shown(name);
            format!("the environment variable {name} is not set for the daemon; set it where the daemon is started")
        })
    }

    /// A path as the operator means it: `~/` is the home directory, a relative one starts at the file.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => home(self.env).join(rest),
            None if text == "~" => home(self.env),
            None => self.base.join(text),
        }
    }

    /// Whether a value is the path of something on this machine: from the root, or from the home directory.
    fn is_there(&self, value: &str) -> bool {
        (value == "~" || value.starts_with('/') || value.starts_with("~/")) && self.path(value).exists()
    }

    /// Replaces the references in a value. What they bring in is not looked at again.
    pub(crate) fn expand(&self, text: &str) -> Expanded {
        let mut out = Expanded::default();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            out.text.push_str(before);
            let kind = ["${env:", "${file:", "${cmd:", "${keyring:"].into_iter().find(|kind| from.starts_with(kind));
            let Some(kind) = kind else {
                out.text.push_str("${");
                rest = &from[2..];
                continue;
            };
            let Some(end) = from.find('}') else {
                out.malformed = Some("a reference has no closing brace");
                break;
            };
            match (kind, &from[kind.len()..end]) {
                (_, "") => out.malformed = Some("a reference names nothing"),
                ("${env:", name) => out.take(self.variable(name)),
                ("${file:", path) => {
                    out.late = true;
                    out.take(self.file(path));
                }
                ("${cmd:", command) => match late::split(command) {
                    Ok(_) => self.command(command, &mut out),
                    Err(why) => out.malformed = Some(why),
                },
                (_, name) if keyring::is_name(name) => self.command(&late::of_keyring(name), &mut out),
                _ => out.malformed = Some(keyring::BAD_NAME),
            }
            rest = &from[end + 1..];
        }
        out.text.push_str(rest);
        out
    }

    /// Takes what a program printed, if it was run.
    fn command(&self, text: &str, out: &mut Expanded) {
        out.late = true;
        if let Some(printed) = self.printed {
            out.take(printed.get(text).cloned().ok_or_else(|| "its program was not run".to_owned()));
        } else {
            out.unprinted = true;
            out.text.push_str("unresolved");
        }
    }

    fn file(&self, text: &str) -> Result<Secret, String> {
        let path = self.path(text);
        match files::read_secret(&path) {
            Ok(text) if text.is_empty() => Err(format!("the file {} is empty", path.display())),
            Ok(text) => Ok(Secret::new(text)),
            Err(error) => Err(format!("the file {} is needed: {error}", path.display())),
        }
    }
}

/// Whether a value is most likely a secret, by the name that it has or by its own looks. Errs toward words that people must
/// be able to read in a log where the name says nothing, those of more than one part, paths and addresses; and toward
/// secrets where it does: a token in Base64 begins with `/` now and then, so only what is there is a path.
pub(crate) fn is_likely(name: &str, value: &str, paths: &Resolver<'_>) -> bool {
    (is_named(name) && !paths.is_there(value)) || is_random(value)
}

/// Whether a name says that a secret stands under it.
fn is_named(name: &str) -> bool {
    let words =
        ["key", "token", "secret", "password", "passwd", "pass", "pwd", "pat", "auth", "credential", "credentials"];
    let run_on = ["apikey", "accesskey", "secretkey", "token", "secret", "password"];
    let folded = name.trim_start_matches('-').to_ascii_lowercase();
    let last = folded.rsplit(['_', '-', '.']).next().unwrap_or_default();
    words.contains(&last) || run_on.iter().any(|ending| folded.ends_with(ending))
}

/// Whether it reads like the output of a generator of tokens.
fn is_random(value: &str) -> bool {
    value.len() >= 20
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// What of a command's arguments is likely a secret: `--token X`, `--token=X`, or what reads like one.
pub(crate) fn likely_in_args<'a>(args: impl Iterator<Item = &'a str>, paths: &Resolver<'_>) -> Vec<Secret> {
    let mut before = "";
    let mut found = Vec::new();
    for arg in args {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, value),
            _ => (if before.starts_with('-') { before } else { "" }, arg),
        };
        if !value.starts_with('-') && is_likely(name, value, paths) {
            found.push(Secret::new(value));
        }
        before = arg;
    }
    found
}

/// What of an address is likely a secret: a user and password, and parts of path and query that are named or read so. Nothing
/// in it is a path of this machine.
pub(crate) fn likely_in_url(url: &Url) -> Vec<Secret> {
    let user = [url.username(), url.password().unwrap_or_default()].into_iter().map(ToOwned::to_owned);
    let path = url.path_segments().into_iter().flatten().filter(|part| is_random(part)).map(ToOwned::to_owned);
    let query = url.query_pairs().filter(|(name, value)| is_named(name) || is_random(value));
    let query = query.map(|(_, value)| value.into_owned());
    user.chain(path).chain(query).filter(|text| !text.is_empty()).map(Secret::new).collect()
}

/// The name of a variable, unless it looks like a token that was written where a name belongs.
pub(crate) fn variable_shown(name: &str) -> String {
    let looks_like_token = name.len() >= 20
        && name.chars().any(|c| c.is_ascii_lowercase())
        && name.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    if looks_like_token {
        "*** (this looks like a token, not like a variable's name)".to_owned()
    } else {
        name.to_owned()
    }
}

impl Expanded {
    fn take(&mut self, found: Result<Secret, String>) {
        match found {
            Ok(secret) => {
                self.text.push_str(secret.expose());
                self.brought.push(secret);
            }
            Err(sentence) => {
                self.text.push_str("unresolved");
                self.missing.push(sentence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "q0123456789abcdef0123456789abcdef";

    fn nowhere() -> Resolver<'static> {
        Resolver::new(&[], None)
    }

    fn texts(secrets: Vec<Secret>) -> Vec<String> {
        secrets.into_iter().map(|secret| secret.expose().to_owned()).collect()
    }

    #[test]
    fn s31_what_is_named_or_reads_like_a_secret_is_known_as_one_and_plain_words_are_not() {
        for (name, value) in
            [("API_KEY", "abc"), ("GITHUB_TOKEN", "x"), ("DB_PASSWORD", "p"), ("apikey", "x"), ("X", RANDOM)]
        {
            assert!(is_likely(name, value, &nowhere()), "{name}={value}");
        }
        for (name, value) in [
            ("NODE_ENV", "production"),
            ("KEY_FILE", "/home/me/key"),
            ("MONKEY", "george"),
            ("COMPASS", "north"),
            ("A", "@modelcontextprotocol/server-everything2"),
            ("A", "a-name-of-more-than-one-part-2"),
        ] {
            assert!(!is_likely(name, value, &nowhere()), "{name}={value}");
        }
    }

    #[test]
    fn s31_a_secret_that_begins_like_a_path_is_known_as_one_unless_something_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().to_str().expect("a path").to_owned();
        std::fs::write(dir.path().join("id"), "").expect("written");
        let file = dir.path().join("config.toml");
        let text = format!(
            "[mcp_servers.s]\ncommand = \"x\"\nargs = [\"--token\", \"/arg+abc/def==\", \"--api-key\", \"{home}/id\", \
             \"--root\", \"/no/such\"]\nenv_vars = [\"B_TOKEN\", \"C_KEY\"]\n\
             [mcp_servers.s.env]\nA_TOKEN = \"/env+abc/def==\"\nA_PASSWORD = \"~tilde\"\nSSH_KEY = \"~/id\"\n\
             KEY_FILE = \"/no/such/key\"\nTLS_KEY = \"~/no-such\"\n\
             [mcp_servers.w]\nurl = \"http://127.0.0.1:9/mcp?api_key=/query-abc\"\n"
        );
        std::fs::write(&file, text).expect("written");
        let env = [("HOME", home.as_str()), ("B_TOKEN", "/passed+abc"), ("C_KEY", "~/id")];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let loaded =
            crate::load(&crate::Sources { file: Some(file), env, flags: crate::Flags::default() }).expect("it loads");
        let mut known: Vec<_> = loaded.config.secrets().map(Secret::expose).collect();
        known.sort_unstable();
        assert_eq!(known, ["/arg+abc/def==", "/env+abc/def==", "/passed+abc", "/query-abc", "~/no-such", "~tilde"]);
    }

    #[test]
    fn s31_the_secrets_of_arguments_and_addresses_are_found() {
        let args = ["-y", "server-x@1.2.3", "--token", "t1", "--api-key=t2", "--verbose", RANDOM, "--token", "--other"];
        assert_eq!(texts(likely_in_args(args.into_iter(), &nowhere())), ["t1", "t2", RANDOM]);
        let url = format!("https://me:pw@host.example/mcp/{RANDOM}?mode=fast&api_key=k&x={RANDOM}");
        assert_eq!(texts(likely_in_url(&url.parse().expect("a URL"))), ["me", "pw", RANDOM, "k", RANDOM]);
    }
}
