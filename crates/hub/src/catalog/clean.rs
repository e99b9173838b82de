//! Hostile characters out of what people and models read (S-16).
//!
//! Names, titles and descriptions lose control characters, terminal sequences, bidirectional overrides and
//! Unicode tag characters. A text in which a byte search finds no candidate is not even decoded, and one
//! that turns out harmless keeps its writer's bytes.

use trunkline_wire::{Json, Object};

/// Cleans the members `name`, `title` and `description` of an entry in place.
pub(crate) fn clean(entry: &mut Object) {
    for (key, lines) in [("name", Lines::One), ("title", Lines::One), ("description", Lines::Many)] {
        if let Some(cleaned) = entry.get(key).and_then(|text| cleaned(text, lines)) {
            entry.set(key, cleaned);
        }
    }
    if let Some(annotations) = entry.get("annotations").filter(|text| is_suspect(text.as_bytes())) {
        let Ok(mut annotations) = Object::parse(annotations) else { return };
        if let Some(cleaned) = annotations.get("title").and_then(|text| cleaned(text, Lines::One)) {
            annotations.set("title", cleaned);
            entry.set("annotations", annotations.to_json());
        }
    }
}

/// Cleans a text that is not JSON: instructions and descriptions from the configuration.
pub(crate) fn clean_text(text: &str) -> String {
    without_hostile(text, Lines::Many)
}

/// Whether tab and line end may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    Many,
}

/// Returns the cleaned string, or `None` if it can stay as it is.
fn cleaned(text: &Json, lines: Lines) -> Option<Json> {
    if !is_suspect(text.as_bytes()) {
        return None;
    }
    let decoded = text.decode_str()?;
    let cleaned = without_hostile(&decoded, lines);
    (cleaned != decoded).then(|| Json::from(cleaned.as_str()))
}

/// Whether the JSON text may hold a character to remove: escapes spell the C0 controls and anything else,
/// `0x7f` and `0xc2` begin DEL and the C1 controls, `0xe2` the overrides, `0xf3` the tags.
fn is_suspect(text: &[u8]) -> bool {
    memchr::memchr3(b'\\', 0xe2, 0xf3, text).is_some() || memchr::memchr3(0x7f, 0xc2, 0xd8, text).is_some()
}

fn without_hostile(text: &str, lines: Lines) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '\u{1b}' => skip_sequence(&mut rest),
            '\u{9b}' => skip_parameters(&mut rest),
            '\t' | '\n' if lines == Lines::Many => out.push(next),
            '\t' | '\n' => out.push(' '),
            next if is_hostile(next) => {}
            next => out.push(next),
        }
    }
    out
}

/// Controls, bidirectional marks, embeddings, overrides and isolates, and the tag characters.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Skips what follows an ESC: a control sequence, a string up to its terminator, or one character.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.clone().next() {
        Some('[') => {
            rest.next();
            skip_parameters(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // A string without terminator would swallow the whole text: then only its introducer goes.
            let mut ahead = rest.clone();
            ahead.next();
            while let Some(next) = ahead.next() {
                if matches!(next, '\u{7}' | '\u{9c}') {
                    *rest = ahead;
                    return;
                }
                if next == '\u{1b}' && ahead.clone().next() == Some('\\') {
                    ahead.next();
                    *rest = ahead;
                    return;
                }
            }
            rest.next();
        }
        Some('\u{20}'..='\u{7e}') => {
            rest.next();
        }
        _ => {}
    }
}

/// Skips the parameters of a control sequence and its final character.
fn skip_parameters(rest: &mut std::str::Chars<'_>) {
    while let Some(next) = rest.clone().next() {
        match next {
            '\u{20}'..='\u{3f}' => {
                rest.next();
            }
            '\u{40}'..='\u{7e}' => {
                rest.next();
                return;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &'static str) -> Object {
        Object::parse(&Json::literal(text)).expect("an object")
    }

    #[test]
    fn what_is_harmless_keeps_its_bytes() {
        let text = r#"{"name":"a","title":"caf\u00e9 \"x\"","description":"a\tb\nc — “d”","x":"\u001b[1m"}"#;
        let mut entry = object(text);
        clean(&mut entry);
        assert_eq!(entry.to_json(), Json::literal(text));
    }

    #[test]
    fn s16_hidden_characters_go_and_the_rest_stays() {
        let mut entry = object(
            r#"{"title":"a\u001b[31mred\u001b[0m\u0000b","description":"x\u202ey\udb40\udc41z\u0085\r\nk","annotations":{"title":"q\u2066","readOnlyHint":true}}"#,
        );
        clean(&mut entry);
        assert_eq!(
            entry.to_json(),
            Json::literal(
                r#"{"title":"aredb","description":"xyz\nk","annotations":{"title":"q","readOnlyHint":true}}"#
            )
        );
    }

    #[test]
    fn an_unfinished_terminal_string_swallows_nothing() {
        assert_eq!(clean_text("a\u{1b}]0;title\u{7}b"), "ab");
        assert_eq!(clean_text("a\u{1b}]0;title"), "a0;title");
        assert_eq!(clean_text("a\u{1b}"), "a");
    }

    proptest! {
        #[test]
        fn s16_cleaning_leaves_nothing_hostile_and_is_done_once(text in any::<String>()) {
            let once = clean_text(&text);
            prop_assert!(!once.chars().any(|c| is_hostile(c) && !matches!(c, '\t' | '\n')));
            prop_assert_eq!(clean_text(&once), once);
        }

        #[test]
        fn the_byte_search_misses_nothing(text in any::<String>()) {
            let json = Json::from(text.as_str());
            if !is_suspect(json.as_bytes()) {
                prop_assert_eq!(without_hostile(&text, Lines::Many), text);
            }
        }
    }
}
