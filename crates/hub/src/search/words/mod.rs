//! Words of tools and of questions about them, in one form: small, without endings, and with what they may mean besides.
//!
//! People say "add a ticket" where a tool says `create_issue`. Endings are cut by Snowball's English stemmer; beyond that there
//! is a table of everyday words (`related.rs`). Phrases are found in it too, also where other words stand between their halves
//! (`pass this mail on`), and what a part of a question is by its looks: an address, a key of an issue, a name of a file.
//!
//! Other languages than English are split and compared as they are written.

mod related;

use std::borrow::Cow;
use std::collections::HashSet;

pub(super) use related::Related;
use related::{Meant, stem};

/// Words that say nothing of a tool.
const EMPTY: &[&str] = &[
    "a", "about", "already", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "com", "could", "d", "did", "do", "does", "don", "during", "else", "etc", "even", "for", "from", "had", "has",
    "have", "he", "her", "him", "his", "how", "https", "i", "if", "in", "instead", "into", "is", "it", "its", "just",
    "let", "like", "ll", "m", "maybe", "me", "mine", "my", "myself", "need", "of", "on", "one", "or", "our", "out",
    "per", "please", "re", "really", "s", "she", "should", "so", "some", "still", "t", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "to", "tool", "up", "us", "use", "using", "ve", "very",
    "via", "want", "was", "we", "were", "what", "when", "where", "which", "will", "with", "would", "you", "your",
];

/// Words that say nothing once the phrase is known that they stand in: `off` in `drop off`.
const PARTICLES: &[&str] = &["again", "along", "asid", "away", "back", "down", "in", "off", "on", "out", "over", "up"];

/// Words that may stand between the halves of such a phrase.
const GAP_WORDS_MAX: usize = 4;

/// Longest word that is looked at: longer ones are hashes and encoded data.
const WORD_BYTES_MAX: usize = 40;

/// A word of a text.
struct Word<'a> {
    /// Without its ending.
    stem: Cow<'a, str>,
    /// Whether it says anything by itself.
    says: bool,
}

/// What is asked for by one word or phrase of a question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// The word itself.
    pub(super) word: Option<Box<str>>,
    /// What else it may mean.
    pub(super) meant: &'static [Meant],
}

/// The words of a text, in their one form; without those that say nothing.
pub(super) fn words(text: &str, proper: &HashSet<String>) -> Vec<Box<str>> {
    let table = Related::table();
    let words = split(text, proper);
    let stems: Vec<Cow<'_, str>> = words.iter().map(|word| word.stem.clone()).collect();
    let mut out = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if let Some((_, Some(form), _)) = table.phrase(&stems[at..]) {
            out.push(form.into());
        }
        if word.says {
            out.push(table.form(&word.stem));
        }
    }
    out
}

/// The words of a question. What it begins with tells whether something is to be shown or done, and what looks like a file, a
/// domain or an identifier is one.
pub(super) fn asked(query: &str, proper: &HashSet<String>) -> Vec<Asked> {
    let table = Related::table();
    let first = query.split(|c: char| !c.is_alphanumeric()).find(|part| !part.is_empty()).unwrap_or_default();
    let first = first.to_lowercase();
    let mut out: Vec<Asked> = Vec::new();
    if matches!(&*first, "what" | "which" | "who" | "where" | "when" | "how" | "is" | "are") {
        out.push(Asked { word: None, meant: table.meant("?") });
    }
    let words = split(query, proper);
    let stems: Vec<Cow<'_, str>> = words.iter().map(|word| word.stem.clone()).collect();
    let mut at = 0;
    while at < words.len() {
        if at == 0 {
            let meant = table.meant(&format!("^{}", table.form(&stems[0])));
            if !meant.is_empty() {
                out.push(Asked { word: None, meant });
            }
        }
        if let Some(meant) = parted(table, &stems[at..]) {
            out.push(Asked { word: None, meant });
        }
        let phrase = table.phrase(&stems[at..]);
        let end = at + phrase.map_or(1, |(count, ..)| count);
        match phrase {
            Some((_, Some(form), meant)) => out.push(Asked { word: Some(form.into()), meant }),
            Some((_, None, meant)) => {
                out.push(Asked { word: None, meant });
                let rest = words[at..end].iter().filter(|word| word.says && !PARTICLES.contains(&&*word.stem));
                out.extend(rest.map(|word| Asked { word: Some(table.form(&word.stem)), meant: &[] }));
            }
            None => {
                let form = table.form(&words[at].stem);
                let meant = table.meant(&form);
                if words[at].says {
                    out.push(Asked { word: Some(form), meant });
                } else if !meant.is_empty() {
                    out.push(Asked { word: None, meant });
                }
            }
        }
        at = end;
    }
    let kinds = query.split_whitespace().filter_map(|part| kind(part, proper));
    let of_kind = |kind: &'static str| {
        let word = (!kind.starts_with('?')).then(|| table.form(kind));
        Asked { word, meant: table.meant(kind) }
    };
    out.extend(kinds.map(of_kind));
    let mut seen: Vec<Asked> = Vec::new();
    for asked in out {
        let again = |known: &Asked| known.word == asked.word && (known.word.is_some() || known.meant == asked.meant);
        if !seen.iter().any(again) {
            seen.push(asked);
        }
    }
    seen
}

/// What a phrase means whose second half comes later: `pass this mail on`.
fn parted(table: &'static Related, words: &[Cow<'_, str>]) -> Option<&'static [Meant]> {
    let end = words.len().min(GAP_WORDS_MAX + 2);
    let late = words.get(2..end)?.iter().filter(|word| PARTICLES.contains(&&***word));
    late.filter_map(|late| table.phrase(&[words[0].clone(), late.clone()])).map(|(_, _, meant)| meant).next()
}

/// Splits at everything that is no letter or digit, and at humps, but for `proper` names such as `GitHub`.
fn split<'a>(text: &'a str, proper: &HashSet<String>) -> Vec<Word<'a>> {
    let mut out = Vec::new();
    for part in text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        let parts = humps(part);
        if parts.len() > 1 {
            let whole = stem(&part.to_lowercase()).into_owned();
            if proper.contains(&whole) {
                out.push(Word { stem: whole.into(), says: true });
                continue;
            }
        }
        for part in parts {
            let small = part.to_lowercase();
            if small.len() <= WORD_BYTES_MAX {
                let says = EMPTY.binary_search(&small.as_str()).is_err();
                out.push(Word { stem: stem(&small).into_owned().into(), says });
            }
        }
    }
    out
}

/// What a part of a question is, by its looks: the table has it under this.
fn kind(part: &str, proper: &HashSet<String>) -> Option<&'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if part.starts_with("http://") || part.starts_with("https://") {
        return Some("?url");
    }
    if let Some(name) = part.strip_prefix('#') {
        return Some(if digits(name) { "?number" } else { "?channel" });
    }
    if part.starts_with(['$', '€', '£']) {
        return Some("?money");
    }
    if part.strip_prefix('+').is_some_and(digits) {
        return Some("?phone");
    }
    let part = part.trim_matches(|c: char| !c.is_alphanumeric());
    if let Some((name, domain)) = part.split_once('@') {
        return (!name.is_empty() && domain.contains('.')).then_some("?email");
    }
    if let Some((key, number)) = part.split_once('-')
        && key.len() >= 2
        && key.bytes().all(|byte| byte.is_ascii_uppercase())
        && digits(number)
    {
        return Some("?key");
    }
    if let Some((name, end)) = part.rsplit_once('.') {
        let is_end = (2..=4).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_lowercase());
        let kind = match end {
            "com" | "org" | "net" => "?url",
            "dev" | "io" | "app" => "domain",
            _ => "file",
        };
        return (is_end && !name.is_empty()).then_some(kind);
    }
    let is_identifier = part.starts_with(|c: char| c.is_lowercase()) && humps(part).len() > 1;
    (is_identifier && !proper.contains(&*stem(&part.to_lowercase()))).then_some("code")
}

/// The words of a server's name: humps are no borders in it.
pub(super) fn of_name(name: &str) -> Vec<String> {
    let parts = name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(|part| stem(&part.to_lowercase()).into_owned()).collect()
}

/// `getIssueByID` is `get`, `Issue`, `By`, `ID`; and `route53` is `route`, `53`, while `s3` and `k8s` stay.
fn humps(part: &str) -> Vec<&str> {
    let letters: Vec<(usize, char)> = part.char_indices().collect();
    let mut out = Vec::new();
    let mut from = 0;
    for at in 1..letters.len() {
        let (before, here) = (letters[at - 1].1, letters[at].1);
        let next_is_small = letters.get(at + 1).is_some_and(|(_, next)| next.is_lowercase());
        let counts = here.is_ascii_digit() && before.is_lowercase() && letters[at].0 - from > 2;
        if counts || here.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_small)) {
            out.push(&part[from..letters[at].0]);
            from = letters[at].0;
        }
    }
    out.push(&part[from..]);
    out
}

#[cfg(test)]
mod tests;
