//! Secrets that stand in clients' files in plain text: each gets a file of its own beside the configuration, which only its
//! owner can read, and a reference in its place.
//!
//! What is a secret is decided by what masks secrets in logs (`trunkline_telemetry::redact`), asked with the name that the
//! value stands under: there is one opinion on it in the program. It errs toward words that must be readable in a log, though;
//! here it errs toward secrets, since one that is kept for nothing costs a file, and one that is shown is lost. So names that
//! may mean one count too, and what begins like a path is one only if its name says so or something is there. Nothing is
//! written here before the plan is agreed on.

use std::path::Path;

use serde_json::Value;
use trunkline_telemetry::redact::Scrubber;

use super::kept::{DIRECTORY, Kept};

/// Shorter values are switches and ports, whatever they are called.
const SECRET_CHARS_MIN: usize = 6;

/// Last words of names that may mean a secret, beside those that are masked everywhere.
const MAYBE: [&str; 5] = ["key", "pat", "pass", "auth", "passcode"];

/// Last words of names that say where something is, and not what it is.
const WHERE: [&str; 12] =
    ["path", "file", "dir", "directory", "folder", "home", "root", "sock", "socket", "config", "location", "cwd"];

/// Where a path in a client's file leads.
pub(super) struct Places<'a> {
    pub(super) home: &'a Path,
    /// Where relative ones begin.
    pub(super) base: &'a Path,
}

/// Takes the secrets of a server's block, and leaves references. `taken` tells which names of files are no more free for
/// another text.
pub(super) fn take(
    server: &str,
    block: &mut [(String, Value)],
    places: &Places<'_>,
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
                    if places.is_secret(name, text) {
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
                    if within.is_none_or(|(at, _)| at == 0) && !before.is_empty() && places.is_secret(&before, text) {
                        *text = keep(before.trim_start_matches('-'), text);
                    } else if let Some((at, name)) = secret_within(text) {
                        let (front, credential) = text.split_at(at);
                        *text = format!("{front}{}", keep(&name, credential));
                    }
                    before = if whole.starts_with("--") && !whole.contains('=') { whole } else { String::new() };
                }
            }
            ("url", Value::String(text)) if !refers(text) && Scrubber::default().scrub(text) != *text => {
                *text = keep("url", text);
            }
            ("bearer_token", Value::String(text)) if !refers(text) => *text = keep("bearer_token", text),
            ("oauth", Value::Object(pairs)) => {
                if let Some(Value::String(text)) = pairs.get_mut("client_secret")
                    && !refers(text)
                {
                    *text = keep("client_secret", text);
                }
            }
            _ => {}
        }
    }
    kept
}

impl Places<'_> {
    /// Whether a value that stands under this name is one to hide.
    fn is_secret(&self, name: &str, text: &str) -> bool {
        let (_, credential) = split_scheme(text);
        if refers(text) || credential.chars().count() < SECRET_CHARS_MIN || self.is_path(name, text) {
            return false;
        }
        let name = name.trim_start_matches('-');
        let pair = format!("{name}={text}");
        MAYBE.contains(&last_word(name).as_str()) || Scrubber::default().scrub(&pair) != pair
    }

    /// Whether it says where a secret is. A token in Base64 begins with `/` now and then, so looks alone do not count.
    fn is_path(&self, name: &str, text: &str) -> bool {
        if !text.starts_with(['/', '~', '.']) || text.contains(char::is_whitespace) {
            return false;
        }
        let path = match text.strip_prefix("~/") {
            Some(below) => self.home.join(below),
            None => self.base.join(text),
        };
        WHERE.contains(&last_word(name).as_str()) || path.exists()
    }
}

/// `token` of `API_TOKEN`, `api-token` and `apiToken`.
fn last_word(name: &str) -> String {
    let from = name.rfind(['_', '-', '.']).map_or(0, |at| at + 1);
    let word = &name[from..];
    let lower = |c: char| c.is_ascii_lowercase();
    let hump = word.rfind(|c: char| c.is_ascii_uppercase()).filter(|_| word.contains(lower)).unwrap_or(0);
    word[hump..].to_ascii_lowercase()
}

/// Whether a value takes something from elsewhere, or is nothing but a client's word for something.
fn refers(text: &str) -> bool {
    let whole = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
    whole || without_references(text).len() < text.len()
}

/// What is left of a text without our references.
fn without_references(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from.find('}').filter(|_| from.starts_with("${env:") || from.starts_with("${file:"));
        if end.is_none() {
            out.push_str("${");
        }
        rest = &from[end.map_or(2, |end| end + 1)..];
    }
    out + rest
}

/// A block as it may be shown: references as they are, and in place of what looks like a secret a mask.
pub(super) fn masked(block: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut shown = block.to_vec();
    for (key, value) in &mut shown {
        match value {
            Value::Array(list) => {
                let mut before = String::new();
                for value in list {
                    let Value::String(text) = value else { continue };
                    let flag = if text.starts_with('-') { text.clone() } else { String::new() };
                    *text = masked_text(&before, text);
                    before = flag;
                }
            }
            Value::Object(pairs) => {
                for (name, value) in pairs {
                    if let Value::String(text) = value {
                        *text = masked_text(name, text);
                    }
                }
            }
            Value::String(text) => *text = masked_text(key, text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    shown
}

fn masked_text(name: &str, text: &str) -> String {
    let (name, scrubber) = (name.trim_start_matches('-'), Scrubber::default());
    let unmasked = |text: &str| scrubber.scrub(&format!("{name}={text}")) == format!("{name}={text}");
    let rest = without_references(text);
    if split_scheme(&rest).1.is_empty() || unmasked(&rest) {
        return text.to_owned();
    }
    let shown = scrubber.scrub(&format!("{name}={text}"));
    shown.strip_prefix(&format!("{name}=")).map_or_else(|| "***".to_owned(), str::to_owned)
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
    if refers(arg) || Scrubber::default().scrub(arg) == arg {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(block: &Value) -> (Value, Vec<String>) {
        let mut pairs: Vec<(String, Value)> = block.as_object().expect("an object").clone().into_iter().collect();
        let home = Path::new("/home/me");
        let places = Places { home, base: Path::new("/") };
        let kept = take("s", &mut pairs, &places, &mut |_, _| false);
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
    fn s31_a_secret_that_begins_like_a_path_is_one_unless_something_is_there_or_its_name_says_so() {
        let (block, kept) = taken(&json!({
            "env": { "API_TOKEN": "/0815+abc/def==", "PASSWORD": "~0815-tilde", "SECRET": "./0815/x", "SIGNING_KEY": "/0815key",
                     "TOKEN_PATH": "/no/such/0816", "SECRET_FILE": "~/no/such", "TLS_SECRET": "/usr/bin", "GITHUB_TOKEN_DIR": "./x/y/z" },
            "args": ["--password", "/0815-as-argument", "--key-file", "/no/such/key"],
        }));
        assert!(!block.to_string().contains("0815"), "{block}");
        assert_eq!(kept.len(), 5, "{kept:?}");
        for (name, text) in [("TOKEN_PATH", "/no/such/0816"), ("SECRET_FILE", "~/no/such"), ("TLS_SECRET", "/usr/bin")]
        {
            assert_eq!(block["env"][name], text);
        }
        assert_eq!(block["args"][3], "/no/such/key");
    }

    #[test]
    fn s31_what_only_looks_like_a_reference_is_a_secret_and_a_blend_of_both_is_not_shown() {
        let (block, kept) =
            taken(&json!({ "env": { "API_TOKEN": "tok${0815", "B_TOKEN": "${vault:x}0815", "C_TOKEN": "${C}" } }));
        assert!(!block.to_string().contains("0815") && kept.len() == 2, "{block}");
        assert_eq!(block["env"]["C_TOKEN"], "${C}", "a word for something is none");
        let block = json!({
            "env": { "A_TOKEN": "0815-0815${env:REST}", "B_TOKEN": "${file:secrets/s.B_TOKEN}", "PLAIN": "x ${env:Y}" },
            "http_headers": { "Authorization": "Bearer ${file:secrets/s.Authorization}" },
            "args": ["--token", "0815-0815", "--token=${env:T}", "--password=0815-0815", "-v"],
        });
        let pairs: Vec<_> = block.as_object().expect("an object").clone().into_iter().collect();
        let shown: Value = masked(&pairs).into_iter().collect::<serde_json::Map<_, _>>().into();
        assert!(!shown.to_string().contains("0815"), "{shown}");
        for (key, name) in [("env", "B_TOKEN"), ("env", "PLAIN"), ("http_headers", "Authorization")] {
            assert_eq!(shown[key][name], block[key][name]);
        }
        assert_eq!(shown["args"][2], "--token=${env:T}");
    }
}
