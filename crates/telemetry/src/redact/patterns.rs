//! What looks like a secret, whoever's it is (reliability 10.5).
//!
//! Each finder returns byte ranges; the scrubber masks their union. Finders would rather mask a harmless word
//! than show a secret, but they leave names in place: a person must see *that* `GITHUB_TOKEN` was set. No
//! regular expressions: the rules are few, and foreign text must not be able to make them slow.

use std::ops::Range;

/// Endings of names whose values are secret, without `_` and `-`, in lower case.
const SECRET_NAMES: &str = "token secret password passwd passphrase pwd apikey accesskey secretkey privatekey \
    signingkey authorization cookie credential credentials sessionid sessionkey assertion verifier pin";

/// Names that are secret as parameters of a URL, and ordinary words elsewhere (reliability 10.7).
const SECRET_PARAMETERS: &[&str] = &["code", "state", "key", "sig", "signature", "cursor", "session", "jwt", "auth"];

/// Names whose value is the rest of the line.
const WHOLE_LINE_NAMES: &[&str] = &["authorization", "cookie"];

/// How tokens of well-known providers begin.
const PROVIDER_PREFIXES: &str = "sk- sk_ pk_ rk_ ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- \
    xoxb- xoxp- xoxa- xoxs- xapp- AKIA ASIA AIza ya29. npm_ pypi- hf_ lin_api_ lin_oauth_ ntn_ secret_ dop_v1_ shpat_ SG. sntrys_ tvly- fc- \
    ATATT dckr_pat_ figd_ pat- BSA r8_ gsk_ xai- vercel_ sbp_ whsec_";

/// Shortest token that a prefix makes a secret: below it are words that only begin alike.
const PROVIDER_TOKEN_LENGTH_MIN: usize = 20;

/// Shortest word that counts as a credential after `Bearer`: below it are sentences about bearer tokens.
const CREDENTIAL_LENGTH_MIN: usize = 8;

/// Returns where secrets seem to stand.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    pem_blocks(text, &mut spans);
    user_info(text, &mut spans);
    let mut valued = 0;
    for word in words(text) {
        if word.start < valued {
            // Within a value that is masked: looking further would cost the square of `token=token=…`.
            continue;
        }
        if let Some(value) = named_value(text, &word) {
            valued = value.end;
            spans.push(value);
        }
        scheme_credential(text, &word, &mut spans);
        if is_token(&text[word.clone()]) {
            spans.push(word);
        }
    }
    spans
}

/// Returns the runs of characters that names and tokens are made of.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + bytes[at..].iter().position(|byte| is_word(*byte))?;
        at = from + run(&bytes[from..], is_word);
        Some(from..at)
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Length of the run of bytes at the start of `bytes` that `wanted` accepts.
fn run(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !wanted(*byte)).unwrap_or(bytes.len())
}

fn pem_blocks(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(begin) = text[from..].find("-----BEGIN ").map(|at| from + at) {
        let body = begin + "-----BEGIN ".len();
        let end = match text[body..].find("-----END ").map(|at| body + at + "-----END ".len()) {
            Some(end) => text[end..].find("-----").map_or(end, |at| end + at + 5),
            // Cut off. A quote ends it, so that a JSON line stays one.
            None => text[body..].find('"').map_or(text.len(), |at| body + at),
        };
        spans.push(begin..end);
        from = end;
    }
}

/// `https://user:password@host`.
fn user_info(text: &str, spans: &mut Vec<Range<usize>>) {
    for (at, mark) in text.match_indices("://") {
        let from = at + mark.len();
        let authority = run(&text.as_bytes()[from..], |byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>')
        });
        if let Some(end) = text[from..from + authority].rfind('@') {
            spans.push(from..from + end);
        }
    }
}

/// `NAME=value`, `name: value`, `"name":"value"`, `--name value`.
fn named_value(text: &str, word: &Range<usize>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    // `a.b.token=` names `token`; a full stop that ends a sentence is no part of a name.
    let spelled = &text[word.clone()];
    let name: String = spelled.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    let parameter = word.start > 0 && matches!(bytes[word.start - 1], b'?' | b'&');
    let secret = SECRET_NAMES.split(' ').any(|ending| name.ends_with(ending))
        || parameter && SECRET_PARAMETERS.contains(&name.as_str());
    if !secret {
        return None;
    }
    let quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'\\');
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let mut at = word.end;
    at += run(&bytes[at..], quote);
    at += run(&bytes[at..], blank);
    let sign = run(&bytes[at..], |byte| matches!(byte, b'=' | b':' | b'>'));
    if sign == 0 && !(spelled.starts_with("--") && at > word.end) {
        return None;
    }
    at += sign;
    at += run(&bytes[at..], blank);
    let quotes = run(&bytes[at..], quote);
    at += quotes;
    let whole_line = WHOLE_LINE_NAMES.iter().any(|ending| name.ends_with(ending));
    let length = run(&bytes[at..], |byte| match byte {
        b'\n' | b'\r' | b'"' => false,
        b'\'' | b'\\' => quotes == 0,
        b',' | b';' | b'&' | b')' | b'}' | b']' | b' ' | b'\t' => quotes > 0 || whole_line,
        _ => true,
    });
    (length > 0).then_some(at..at + length)
}

/// `Bearer abcdefgh`, `Basic abcdefgh`.
fn scheme_credential(text: &str, word: &Range<usize>, spans: &mut Vec<Range<usize>>) {
    let scheme = &text[word.clone()];
    if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("basic") {
        return;
    }
    let rest = &text.as_bytes()[word.end..];
    let blank = run(rest, |byte| byte == b' ');
    let length = run(&rest[blank..], |byte| is_word(byte) || matches!(byte, b'~' | b'+' | b'/' | b'=' | b'%'));
    if blank > 0 && length >= CREDENTIAL_LENGTH_MIN {
        spans.push(word.end + blank..word.end + blank + length);
    }
}

/// A JWT, or a token that shows by its prefix whose it is.
fn is_token(word: &str) -> bool {
    if word.len() < PROVIDER_TOKEN_LENGTH_MIN {
        return false;
    }
    if word.starts_with("eyJ") && word.bytes().filter(|byte| *byte == b'.').count() >= 2 {
        return true;
    }
    word.bytes().any(|byte| byte.is_ascii_digit())
        && PROVIDER_PREFIXES.split(' ').any(|prefix| word.starts_with(prefix))
}
