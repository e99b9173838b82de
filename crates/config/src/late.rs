//! [`Late`]: values of a server that are looked up anew at each of its starts.
//!
//! `${cmd:PROGRAM ARGUMENT…}` stands for what a program prints, such as a password manager's. It may take seconds, ask a
//! person, or print another token each time. So it is not run where the file is read, which everything waits for, but when
//! the one server that needs it starts. Values with `${file:PATH}` are read again at that moment, for whoever renews a token
//! in a file.
//!
//! `${keyring:NAME}` is such a program too, the machine's own for its keychain (`keyring.rs`).
//!
//! Nothing is run here: [`Late::commands`] says what is to be run, and [`Server::looked_up`] takes what was printed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::keyring::{self, Keychain};
use crate::secret::{Resolver, Secret};
use crate::server::{Connect, Server};

/// What is looked up at a start, and what that takes.
#[derive(Clone, PartialEq, Eq)]
pub struct Late {
    pub(crate) values: Vec<(Place, String)>,
    /// The daemon's variables, as far as the values name them, and the home directory.
    pub(crate) env: Vec<(String, String)>,
    /// Where relative paths start.
    pub(crate) base: PathBuf,
}

/// Where a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An argument, by its number.
    Arg(usize),
    /// A variable.
    Env(String),
    /// A header.
    Header(String),
    /// The bearer token.
    Bearer,
}

/// A program to be run for what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretCommand {
    /// The key whose value it is for, as in `env.API_KEY`.
    pub key: String,
    /// The program and its arguments, as written: by which [`Server::looked_up`] knows it.
    pub text: String,
    /// The same, split.
    pub argv: Vec<String>,
    /// What helps where it prints nothing, if more is known of it than its name.
    pub advice: Option<String>,
}

impl fmt::Debug for Late {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.values.iter().map(|(place, _)| place)).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arg(_) => out.write_str("args"),
            Self::Env(name) => write!(out, "env.{name}"),
            Self::Header(name) => write!(out, "http_headers.{name}"),
            Self::Bearer => out.write_str("bearer_token"),
        }
    }
}

impl Late {
    /// What is to be run, each program once.
    pub fn commands(&self) -> Vec<SecretCommand> {
        let mut commands: Vec<SecretCommand> = Vec::new();
        for (place, text) in &self.values {
            let key = place.to_string();
            let mut add = |text: &str, argv: Vec<String>, advice: Option<String>| {
                if !commands.iter().any(|known| known.text == text) {
                    commands.push(SecretCommand { key: key.clone(), text: text.to_owned(), argv, advice });
                }
            };
            for text in references(text, "${cmd:") {
                if let Ok(argv) = split(text) {
                    add(text, argv, None);
                }
            }
            for name in references(text, "${keyring:").filter(|name| keyring::is_name(name)) {
                let advice = Keychain::HERE.advice(name);
                add(&of_keyring(name), Keychain::HERE.lookup(name), Some(advice));
            }
        }
        commands
    }
}

impl Server {
    /// The server with all its values, given what each of [`Late::commands`] printed, by its text.
    ///
    /// Reads files.
    ///
    /// # Errors
    /// A sentence that names the key and what is missing.
    pub fn looked_up(&self, printed: &BTreeMap<String, Secret>) -> Result<Server, String> {
        let mut server = self.clone();
        let Some(late) = server.late.take() else { return Ok(server) };
        let resolver = Resolver::late(&late, printed);
        for (place, text) in &late.values {
            let value = resolver.expand(text);
            if let Some(missing) = value.missing.first() {
                return Err(format!("{place}: {missing}"));
            }
            let secret = Secret::new(value.text);
            match (place, &mut server.connect) {
                (Place::Arg(number), Connect::Stdio(stdio)) => stdio.args[*number] = secret.clone(),
                (Place::Env(name), Connect::Stdio(stdio)) => drop(stdio.env.insert(name.clone(), secret.clone())),
                (Place::Header(_) | Place::Bearer, Connect::Http(_)) if !is_sendable(&secret) => {
                    return Err(format!("{place}: {UNSENDABLE}"));
                }
                (Place::Header(name), Connect::Http(http)) => {
                    http.headers.retain(|(known, _)| known != name);
                    http.headers.push((name.clone(), secret.clone()));
                }
                (Place::Bearer, Connect::Http(http)) => http.bearer = Some(secret.clone()),
                (Place::Arg(_) | Place::Env(_), Connect::Http(_))
                | (Place::Header(_) | Place::Bearer, Connect::Stdio(_)) => {
                    unreachable!("a place is of the server's own kind")
                }
            }
            server.secrets.extend(value.brought);
            server.secrets.push(secret);
        }
        Ok(server)
    }
}

pub(crate) const UNSENDABLE: &str =
    "the value is empty or holds a character that a header cannot carry, such as a line end";

/// Whether a header can carry it.
pub(crate) fn is_sendable(value: &Secret) -> bool {
    !value.expose().is_empty() && value.expose().chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// By what an entry of the keychain is known among programs. None of those is written so: it would hold a brace.
pub(crate) fn of_keyring(name: &str) -> String {
    format!("${{keyring:{name}}}")
}

/// What references of a kind name in a value, as written.
fn references<'a>(text: &'a str, kind: &str) -> impl Iterator<Item = &'a str> {
    text.split(kind).skip(1).filter_map(|rest| rest.split_once('}')).map(|(command, _)| command)
}

/// Splits a command at blanks. What stands in quotes, of either kind, is kept together; nothing else has a meaning, for no
/// shell reads it.
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut argv = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => argv.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote in ${cmd:…} is not closed");
    }
    argv.extend(word);
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        Some(_) | None => Err("${cmd:…} names no program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigErrors, Flags, Loaded, Sources, load};

    fn loaded(text: &str) -> Result<Loaded, ConfigErrors> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).expect("written");
        std::fs::write(dir.path().join("token"), "from-file\n").expect("written");
        let env = vec![("NAME".to_owned(), "from-env".to_owned())];
        let loaded = load(&Sources { file: Some(file), env, flags: Flags::default() });
        // The file is read again by the look-up.
        std::mem::forget(dir);
        loaded
    }

    fn server(text: &str) -> Server {
        loaded(&format!("[mcp_servers.a]\n{text}\n")).expect("sound").config.servers.remove(0).1
    }

    fn printed(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(text, value)| ((*text).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn a_command_is_split_at_blanks_and_quotes_keep_together_and_no_shell_reads_it() {
        assert_eq!(split("op read  'op://a b/c' x\"y z\"").expect("sound"), ["op", "read", "op://a b/c", "xy z"]);
        assert_eq!(split("echo $HOME|x;\\n ''").expect("sound"), ["echo", "$HOME|x;\\n", ""]);
        assert_eq!(split("op 'x"), Err("a quote in ${cmd:…} is not closed"));
        assert_eq!(split("'' x"), Err("${cmd:…} names no program"));
        assert_eq!(split("  "), Err("${cmd:…} names no program"));
    }

    #[test]
    fn values_of_every_place_are_looked_up_and_each_program_is_run_once() {
        let child = server(
            "command = \"x\"\nargs = [\"plain\", \"--t=${cmd:pass a}\"]\nenv = { A = \"${cmd:pass a}-${env:NAME}\", B = \"${file:token}\" }",
        );
        let late = child.late.clone().expect("late");
        let commands: Vec<_> = late.commands().into_iter().map(|command| command.argv.join(" ")).collect();
        assert_eq!(commands, ["pass a"]);
        let Connect::Stdio(stdio) = child.looked_up(&printed(&[("pass a", "s1")])).expect("found").connect else {
            panic!("another kind")
        };
        assert_eq!(stdio.args.iter().map(Secret::expose).collect::<Vec<_>>(), ["plain", "--t=s1"]);
        assert_eq!((stdio.env["A"].expose(), stdio.env["B"].expose()), ("s1-from-env", "from-file"));

        let remote = server(
            "url = \"https://x/\"\nbearer_token = \"${cmd:t}\"\nhttp_headers = { K = \"k ${cmd:t}\", L = \"l\" }",
        );
        let found = remote.looked_up(&printed(&[("t", "s2")])).expect("found");
        let Connect::Http(http) = &found.connect else { panic!("another kind") };
        assert_eq!(http.bearer.as_ref().map(Secret::expose), Some("s2"));
        assert!(http.headers.contains(&("K".to_owned(), Secret::new("k s2"))), "{:?}", http.headers);
        assert_eq!(http.headers.len(), 2);
        assert!(found.secrets.contains(&Secret::new("s2")), "what is masked");
        let broken = remote.looked_up(&printed(&[("t", "two\nlines")])).expect_err("no header carries it");
        assert!(broken.starts_with("bearer_token: ") && !broken.contains("two"), "{broken}");
        assert!(remote.looked_up(&BTreeMap::new()).is_err(), "not run");
    }

    #[test]
    fn a_program_is_named_only_where_a_start_runs_it() {
        for text in [
            "[mcp_servers.a]\nurl = \"https://x/${cmd:t}\"\n",
            "[mcp_servers.a]\nurl = \"https://x/\"\noauth = { client_id = \"i\", client_secret = \"${cmd:t}\" }\n",
            "[auth.tokens]\na = \"${cmd:t}\"\n",
            "[auth.tokens]\na = \"${keyring:t}\"\n",
        ] {
            let errors = loaded(text).expect_err("refused").to_string();
            assert!(errors.contains("${file:…}"), "{errors}");
        }
        let errors = loaded("[mcp_servers.a]\nurl = \"https://x/\"\nbearer_token = \"${keyring:-x y}\"\n");
        assert!(errors.expect_err("refused").to_string().contains("begins with a letter or digit"));
    }

    #[test]
    fn an_entry_of_the_keychain_goes_wherever_what_a_program_prints_does() {
        let child = server(
            "command = \"x\"\nargs = [\"--t=${keyring:git/hub}\"]\nenv = { A = \"${keyring:git/hub}-${cmd:git/hub}\" }",
        );
        let commands = child.late.clone().expect("late").commands();
        let argv: Vec<&[String]> = commands.iter().map(|command| &command.argv[..]).collect();
        assert_eq!(argv, [&Keychain::HERE.lookup("git/hub")[..], &["git/hub".to_owned()]]);
        assert!(
            commands[0].advice.as_deref().is_some_and(|text| text.contains("git/hub")) && commands[1].advice.is_none()
        );
        let printed: Vec<(&str, &str)> = commands.iter().map(|known| &*known.text).zip(["entry", "other"]).collect();
        let Connect::Stdio(stdio) = child.looked_up(&self::printed(&printed)).expect("found").connect else {
            panic!("another kind")
        };
        assert_eq!((stdio.args[0].expose(), stdio.env["A"].expose()), ("--t=entry", "entry-other"));
        let remote = server("url = \"https://x/\"\nbearer_token = \"${keyring:linear}\"");
        let Connect::Http(http) =
            remote.looked_up(&self::printed(&[("${keyring:linear}", "k")])).expect("found").connect
        else {
            panic!("another kind")
        };
        assert_eq!(http.bearer.as_ref().map(Secret::expose), Some("k"));
    }
}
