//! What every text from outside passes before a person sees it (S-17, S-31, reliability 10).
//!
//! [`Scrubber`] masks secrets: those it was given, in the forms in which programs print them, and whatever
//! looks like one. [`url`] and [`printable`] show what may be shown of an address and of foreign text. Secrets
//! that we hold have a type that prints as `***`; this is the net beneath it, for text that others wrote.

mod patterns;

use std::fmt::Write as _;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// What stands where a secret stood.
const MASK: &str = "***";

/// Shortest secret that is looked for by its text. Shorter values (`true`, `8080`) stand in ordinary text all
/// the time; where they are named (`pin=1234`), the patterns still find them.
const SECRET_LENGTH_MIN: usize = 6;

/// Shortest encoded form and shortest line of a longer secret that is looked for (reliability 10.5).
const FORM_LENGTH_MIN: usize = 8;

/// Masks secrets in text.
///
/// The default knows no secret of its own, only the patterns: bearer and basic credentials, values of keys
/// that are named like secrets, JWTs, PEM blocks, tokens with a known provider's prefix, user info and secret
/// parameters of URLs.
#[derive(Debug, Default)]
pub struct Scrubber {
    needles: Vec<Needle>,
}

struct Needle(Finder<'static>);

impl std::fmt::Debug for Needle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(MASK)
    }
}

impl Scrubber {
    /// A scrubber that also knows `secrets`, plain and in Base64, percent and escaped form.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut forms: Vec<String> = secrets.into_iter().flat_map(|secret| forms_of(&secret)).collect();
        forms.sort_unstable();
        forms.dedup();
        let needles = forms.iter().map(|form| Needle(Finder::new(form).into_owned())).collect();
        Self { needles }
    }

    /// Returns `text` with every secret masked.
    pub fn scrub(&self, text: &str) -> String {
        let mut spans = patterns::find(text);
        for Needle(needle) in &self.needles {
            let found = needle.find_iter(text.as_bytes());
            spans.extend(found.map(|at| at..at + needle.needle().len()));
        }
        masked(text, spans)
    }
}

/// Every form in which a program is likely to print `secret`.
fn forms_of(secret: &str) -> Vec<String> {
    if secret.len() < SECRET_LENGTH_MIN {
        return Vec::new();
    }
    let mut forms = base64_forms(secret.as_bytes());
    forms.push(percent(secret));
    forms.push(secret.escape_debug().to_string());
    // A PEM key or a JSON file as a value: logs show it line by line.
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    forms.retain(|form| form.len() >= FORM_LENGTH_MIN);
    forms.push(secret.to_owned());
    forms
}

/// The characters that `secret` becomes inside any Base64 text: `user:secret` shifts it by the length of
/// `user:`, so there are three ways, each without the characters that share bits with what stands around.
fn base64_forms(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], secret].concat();
        let own = (shift * 8).div_ceil(6)..shifted.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(text[own.clone()].to_owned());
        }
    }
    forms
}

fn percent(secret: &str) -> String {
    let mut out = String::new();
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Returns `text` with each run of overlapping or touching spans masked once.
fn masked(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_unstable_by_key(|span| span.start);
    let mut out = String::with_capacity(text.len());
    let mut shown = 0;
    for span in spans {
        if span.start > shown || out.is_empty() {
            out.push_str(&text[shown..span.start]);
            out.push_str(MASK);
        }
        shown = shown.max(span.end);
    }
    out.push_str(&text[shown..]);
    out
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

/// Returns `text` with everything escaped that could forge or disturb a line (S-17), cut after `max` bytes
/// with an ellipsis.
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

/// Control characters, line separators, and marks that hide, are hidden, or change the direction of what follows.
pub(crate) fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
