//! What every text from outside passes before a person sees it (S-17, S-31, reliability 10).

use std::fmt::Write as _;

/// What stands where a secret stood.
const MASK: &str = "***";

/// Shortest secret that is looked for: shorter ones cannot be told from ordinary text.
const SECRET_LENGTH_MIN: usize = 4;

/// Removes secrets from text: those that it was given.
#[derive(Debug, Default)]
pub struct Scrubber {
    needles: Vec<String>,
}

impl Scrubber {
    /// A scrubber that knows `secrets`.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let needles = secrets.into_iter().filter(|secret| secret.len() >= SECRET_LENGTH_MIN).collect();
        Self { needles }
    }

    /// Returns `text` with every secret masked.
    pub fn scrub(&self, text: &str) -> String {
        self.needles.iter().fold(text.to_owned(), |text, needle| text.replace(needle.as_str(), MASK))
    }
}

/// Returns the part of a URL that may be shown: scheme, host, port and first path segment (reliability 10.3).
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return "(no URL)".to_owned();
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let mut parts = rest[..end].splitn(3, ['/', '\\']);
    let authority = parts.next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut shown = format!("{scheme}://{host}");
    if let Some(segment) = parts.next() {
        let _ = write!(shown, "/{segment}");
    }
    if parts.next().is_some_and(|more| !more.is_empty()) {
        shown.push_str("/…");
    }
    printable(&shown, 256)
}

/// Returns `text` with everything escaped that could forge or disturb a line (S-17), at most `max` bytes
/// and an ellipsis.
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let from = out.len();
        if disturbs(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        if out.len() > max {
            out.truncate(from);
            out.push('…');
            break;
        }
    }
    out
}

/// Control characters, line separators, and marks that change the direction of what follows or hide.
fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
