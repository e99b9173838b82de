//! Secrets that stand in clients' files in plain text: each gets a file of its own beside the configuration, which only its
//! owner can read, and a reference in its place.
//!
//! What is a secret is decided by what masks secrets in logs (`trunkline_telemetry::redact`), asked with the name that the
//! value stands under: there is one opinion on it in the program. Nothing is written here before the plan is agreed on.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use trunkline_telemetry::redact::Scrubber;

/// Shorter values are switches and ports, whatever they are called.
const SECRET_CHARS_MIN: usize = 6;

/// The directory of such files, beside the configuration.
pub(super) const DIRECTORY: &str = "secrets";

/// A secret that is to be written.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its file's name.
    pub(super) file: String,
    /// Where it stood.
    pub(super) place: String,
    text: String,
}

impl Kept {
    /// Whether this is the secret.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// Without the secret.
impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Kept({}, {})", self.file, self.place)
    }
}

/// Takes the secrets of a server's block, and leaves references. `taken` tells which names of files are no more free for
/// another text.
pub(super) fn take(
    server: &str,
    block: &mut [(String, Value)],
    taken: &mut dyn FnMut(&str, &str) -> bool,
) -> Vec<Kept> {
    let mut kept: Vec<Kept> = Vec::new();
    let mut keep = |place: &str, text: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
        let base: String = format!("{server}.{place}").chars().map(|c| if c == '.' { c } else { plain(c) }).collect();
        let names = std::iter::once(base.clone()).chain((2..100).map(|number| format!("{base}-{number}")));
        let free = |name: &str, kept: &[Kept]| kept.iter().all(|other| other.file != *name || other.text == text);
        let file = names.into_iter().find(|name| free(name, &kept) && !taken(name, text));
        let Some(file) = file else { return text.to_owned() };
        kept.push(Kept { file: file.clone(), place: place.to_owned(), text: text.to_owned() });
        format!("${{file:{DIRECTORY}/{file}}}")
    };
    for (key, value) in block {
        match (key.as_str(), value) {
            ("env" | "http_headers", Value::Object(pairs)) => {
                for (name, value) in pairs {
                    let Value::String(text) = value else { continue };
                    let (scheme, credential) = split_scheme(text);
                    if is_secret(name, text) {
                        *text = format!("{scheme}{}", keep(name, credential));
                    }
                }
            }
            ("args", Value::Array(args)) => {
                let mut before = String::new();
                for arg in args {
                    let Value::String(text) = arg else { continue };
                    let whole = text.clone();
                    let within = secret_within(text);
                    if within.is_none_or(|(at, _)| at == 0) && !before.is_empty() && is_secret(&before, text) {
                        *text = keep(before.trim_start_matches('-'), text);
                    } else if let Some((at, name)) = secret_within(text) {
                        let (front, credential) = text.split_at(at);
                        *text = format!("{front}{}", keep(&name, credential));
                    }
                    before = if whole.starts_with("--") && !whole.contains('=') { whole } else { String::new() };
                }
            }
            ("url", Value::String(text)) if !text.contains("${") && Scrubber::default().scrub(text) != *text => {
                *text = keep("url", text);
            }
            ("bearer_token", Value::String(text)) if !text.contains("${") => *text = keep("bearer_token", text),
            ("oauth", Value::Object(pairs)) => {
                if let Some(Value::String(text)) = pairs.get_mut("client_secret")
                    && !text.contains("${")
                {
                    *text = keep("client_secret", text);
                }
            }
            _ => {}
        }
    }
    kept
}

/// Whether a value that stands under this name is one to hide.
fn is_secret(name: &str, text: &str) -> bool {
    let (_, credential) = split_scheme(text);
    if text.contains("${") || credential.chars().count() < SECRET_CHARS_MIN {
        return false;
    }
    // Where it is, not what it is: `SSH_KEY_PATH`, `TOKEN_FILE=/run/…`.
    if text.starts_with(['/', '~', '.']) && !text.contains(char::is_whitespace) {
        return false;
    }
    let pair = format!("{}={text}", name.trim_start_matches('-'));
    Scrubber::default().scrub(&pair) != pair
}

/// `Bearer ` of `Bearer abc`, and what follows.
fn split_scheme(text: &str) -> (&str, &str) {
    for scheme in ["Bearer ", "bearer ", "Basic ", "Token ", "token "] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return (scheme, rest.trim());
        }
    }
    ("", text)
}

/// `--key=value`, `Header: value`, an address with a password, a bare token: where the secret begins, and what it is called.
fn secret_within(arg: &str) -> Option<(usize, String)> {
    if arg.contains("${") || Scrubber::default().scrub(arg) == arg {
        return None;
    }
    // An address is one secret: it cannot be told which part of it may be shown.
    if arg.contains("://") && !arg.starts_with("--") {
        return Some((0, "address".to_owned()));
    }
    let sign =
        arg.find(['=', ':']).filter(|at| arg[..*at].chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
    let Some(sign) = sign else { return Some((0, "argument".to_owned())) };
    let name = arg[..sign].trim_start_matches('-').to_owned();
    let value = &arg[sign + 1..];
    let begins = sign + 1 + (value.len() - value.trim_start().len());
    let (scheme, credential) = split_scheme(&arg[begins..]);
    (credential.chars().count() >= SECRET_CHARS_MIN).then(|| (begins + scheme.len(), name))
}

/// The files of secrets beside a configuration.
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn beside(config: &Path) -> Self {
        Self { directory: config.parent().unwrap_or(Path::new("")).join(DIRECTORY) }
    }

    /// Whether a file of this name holds another text.
    pub(super) fn is_taken(&self, name: &str, text: &str) -> bool {
        match fs::read_to_string(self.directory.join(name)) {
            Ok(have) => have.strip_suffix('\n').unwrap_or(&have) != text,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Writes them, and returns which were not there before.
    pub(super) fn write(&self, kept: &[Kept]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut written = Vec::new();
        for secret in kept {
            let path = self.directory.join(&secret.file);
            let write = || -> io::Result<bool> {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let mut file = match file {
                    // It holds this text already.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                    file => file?,
                };
                // One line end is no part of a secret, so one that ends with one keeps it.
                file.write_all(secret.text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()?;
                Ok(true)
            };
            match write() {
                Ok(true) => written.push(path),
                Ok(false) => {}
                Err(error) => {
                    undo(&written);
                    return Err((path, error));
                }
            }
        }
        Ok(written)
    }
}

impl Files {
    /// A text with what such references stand for in their place; as it is, where they lead nowhere.
    pub(super) fn expanded(&self, text: &str) -> String {
        let mark = format!("${{file:{DIRECTORY}/");
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once(&mark) {
            out.push_str(before);
            let named = from.split_once('}').filter(|(name, _)| !name.contains('/'));
            let read = named.and_then(|(name, after)| {
                let secret = fs::read_to_string(self.directory.join(name)).ok()?;
                Some((secret.strip_suffix('\n').unwrap_or(&secret).to_owned(), after))
            });
            let Some((secret, after)) = read else {
                out.push_str(&mark);
                rest = from;
                continue;
            };
            out.push_str(&secret);
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// Takes files away again that nothing refers to.
pub(super) fn undo(written: &[PathBuf]) {
    for path in written {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(block: &Value) -> (Value, Vec<String>) {
        let mut pairs: Vec<(String, Value)> = block.as_object().expect("an object").clone().into_iter().collect();
        let kept = take("s", &mut pairs, &mut |_, _| false);
        let kept = kept.into_iter().map(|kept| format!("{}={}", kept.file, kept.text)).collect();
        (pairs.into_iter().collect::<serde_json::Map<_, _>>().into(), kept)
    }

    #[test]
    fn what_looks_like_a_secret_gets_a_file_and_the_rest_stays() {
        let (block, kept) = taken(&json!({
            "env": { "API_TOKEN": "tok-0815-0815", "DEBUG": "true", "TOKEN_FILE": "/run/token", "PIN": "1",
                     "REF": "x", "A_KEY": "${env:A_KEY}", "OTHER": "ghp_0123456789abcdefghijABCDEFGHIJ" },
            "http_headers": { "Authorization": "Bearer abc-0815-abc", "X-Mode": "fast" },
            "args": ["-y", "pkg", "--api-key", "k-0815-k", "--token=t-0815-t", "--header", "X-Auth-Token: h-0815-h",
                     "postgres://me:pw0815@db/x", "https://fine.test/mcp"],
            "url": "https://x.test/mcp?token=u-0815-u",
        }));
        assert_eq!(block["env"]["API_TOKEN"], "${file:secrets/s.API_TOKEN}");
        assert_eq!(block["env"]["OTHER"], "${file:secrets/s.OTHER}");
        for (key, text) in
            [("DEBUG", "true"), ("TOKEN_FILE", "/run/token"), ("PIN", "1"), ("REF", "x"), ("A_KEY", "${env:A_KEY}")]
        {
            assert_eq!(block["env"][key], text);
        }
        assert_eq!(
            block["http_headers"],
            json!({ "Authorization": "Bearer ${file:secrets/s.Authorization}", "X-Mode": "fast" })
        );
        assert_eq!(
            block["args"],
            json!([
                "-y",
                "pkg",
                "--api-key",
                "${file:secrets/s.api-key}",
                "--token=${file:secrets/s.token}",
                "--header",
                "X-Auth-Token: ${file:secrets/s.X-Auth-Token}",
                "${file:secrets/s.address}",
                "https://fine.test/mcp"
            ])
        );
        assert_eq!(block["url"], "${file:secrets/s.url}");
        assert!(kept.contains(&"s.X-Auth-Token=h-0815-h".to_owned()), "{kept:?}");
        assert_eq!(kept.len(), 8, "{kept:?}");
        assert!(!block.to_string().contains("0815"), "{block}");
    }

    #[test]
    fn s31_a_secret_is_written_for_its_owner_alone_and_as_it_was() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::beside(&dir.path().join("config.toml"));
        let kept = Kept { file: "s.T".into(), place: "T".into(), text: "line\n".into() };
        assert!(!format!("{kept:?}").contains("line"));
        let written = files.write(std::slice::from_ref(&kept)).expect("written");
        assert_eq!(fs::read_to_string(&written[0]).expect("there"), "line\n\n");
        assert_eq!(fs::metadata(&written[0]).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join(DIRECTORY)).expect("there").permissions().mode() & 0o777, 0o700);
        assert!(!files.is_taken("s.T", "line\n") && files.is_taken("s.T", "other") && !files.is_taken("s.U", "other"));
        assert!(files.write(&[kept]).expect("written").is_empty(), "it is there");
        undo(&written);
        assert!(!written[0].exists());
    }
}
