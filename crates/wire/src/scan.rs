//! One pass over a JSON text: is it valid, is it not too deep, and where are the members of an object.
//!
//! The parser at hand needs three passes for that: one for the depth before it, because it recurses; its own, which
//! looks at eight bytes at a time within strings; and one to copy nothing but find the ends. For a result of 1 MiB
//! they were 16 % of the CPU of a call. Here there is no recursion, the depth is counted on the way, and
//! strings, which nearly all of a large result is, are looked at 64 bytes at a time in a form that compiles to vector
//! instructions.
//!
//! It says only *that* something is wrong; the parser, asked then, says what. Property tests hold the two together.
//! UTF-8 is the caller's business: no byte beyond ASCII matters to the grammar.

use crate::limits::DEPTH_MAX;

/// Why a text does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not JSON.
    Syntax,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

/// A place in a text.
pub(crate) struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

/// Looked at in one go within strings.
const STRIDE: usize = 64;
const WORD: usize = 8;

impl<'t> Scanner<'t> {
    /// Stands at the start of `text`.
    pub(crate) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Passes one value, with the white space before it; returns its text.
    pub(crate) fn value(&mut self) -> Result<&'t [u8], Flaw> {
        self.value_within(0)
    }

    /// Passes one value that stands in `outer` others.
    fn value_within(&mut self, outer: usize) -> Result<&'t [u8], Flaw> {
        self.space();
        let start = self.at;
        // One bit for each open bracket, the innermost lowest: set for an object.
        let (mut open, mut depth) = (0_u64, 0_usize);
        loop {
            let first = self.next()?;
            match first {
                b'{' | b'[' => {
                    if depth + outer == DEPTH_MAX {
                        return Err(Flaw::TooDeep);
                    }
                    depth += 1;
                    open = open << 1 | u64::from(first == b'{');
                    self.space();
                    if self.eat(if first == b'{' { b'}' } else { b']' }) {
                        (open, depth) = (open >> 1, depth - 1);
                    } else {
                        if first == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number(first)?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                _ => return Err(Flaw::Syntax),
            }
            // A value has ended, and with it perhaps what holds it.
            loop {
                if depth == 0 {
                    return Ok(&self.text[start..self.at]);
                }
                self.space();
                match (self.next()?, open & 1 == 1) {
                    (b',', true) => {
                        self.space();
                        self.key()?;
                        break;
                    }
                    (b',', false) => {
                        self.space();
                        break;
                    }
                    (b'}', true) | (b']', false) => (open, depth) = (open >> 1, depth - 1),
                    _ => return Err(Flaw::Syntax),
                }
            }
        }
    }

    /// Passes one object, which is all of the text; calls `member` with the text of each key and
    /// value, whose failure ends the pass.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&'t [u8], &'t [u8]) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        self.space();
        if !self.eat(b'{') {
            return Err(Flaw::Syntax);
        }
        self.space();
        if !self.eat(b'}') {
            loop {
                let key = self.key()?;
                member(key, self.value_within(1)?)?;
                self.space();
                match self.next()? {
                    b',' => self.space(),
                    b'}' => break,
                    _ => return Err(Flaw::Syntax),
                }
            }
        }
        self.end()
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), Flaw> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Flaw::Syntax) }
    }

    /// Passes a key, its colon and the space after; returns the key's text with its quotes.
    fn key(&mut self) -> Result<&'t [u8], Flaw> {
        let start = self.at;
        if !self.eat(b'"') {
            return Err(Flaw::Syntax);
        }
        self.string()?;
        let key = &self.text[start..self.at];
        self.space();
        if !self.eat(b':') {
            return Err(Flaw::Syntax);
        }
        self.space();
        Ok(key)
    }

    /// Passes the rest of a string, its closing quote too.
    fn string(&mut self) -> Result<(), Flaw> {
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return Err(Flaw::Syntax);
                            }
                        }
                    }
                    _ => return Err(Flaw::Syntax),
                },
                _ => return Err(Flaw::Syntax),
            }
        }
    }

    /// Passes the rest of a number that begins with `first`.
    fn number(&mut self, first: u8) -> Result<(), Flaw> {
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(Flaw::Syntax),
        }
        if self.eat(b'.') {
            self.digit()?;
            self.digits();
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digit()?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self) -> Result<(), Flaw> {
        if self.next()?.is_ascii_digit() { Ok(()) } else { Err(Flaw::Syntax) }
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), Flaw> {
        if !self.text[self.at..].starts_with(rest) {
            return Err(Flaw::Syntax);
        }
        self.at += rest.len();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let there = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(there);
        there
    }

    fn next(&mut self) -> Result<u8, Flaw> {
        let byte = *self.text.get(self.at).ok_or(Flaw::Syntax)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Length of the plain text at the start of `text`.
///
/// Most strings are short, and end within the first words; what is longer is taken in strides.
fn plain(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        for _ in 0..STRIDE / WORD {
            let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) else {
                let rest = &text[at..];
                return at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len());
            };
            let found = specials(u64::from_le_bytes(*word));
            if found != 0 {
                return at + found.trailing_zeros() as usize / 8;
            }
            at += WORD;
        }
        // No early exit: that is what lets the compiler look at many bytes at once.
        while let Some(stride) = text.get(at..at + STRIDE)
            && !stride.iter().fold(false, |found, &byte| found | is_special(byte))
        {
            at += STRIDE;
        }
    }
}

/// Marks special bytes by their highest bits, exactly up to the first of them; beyond it a borrow may mark others.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // The classic: a byte below `least` borrows, and one that was high before does not count.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (ONES << 7)
}

/// Whether a byte ends a run of plain text in a string: a quote, a backslash, or a raw control character.
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn passes(text: &[u8]) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().and_then(|_| scanner.end()).is_ok()
    }

    /// Texts that are JSON or nearly so: tokens, mostly in an order that makes sense.
    fn nearly_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\":",
            "\"a\"",
            "\"\\u00e9\"",
            "\"\\x\"",
            "\"\\u00g0\"",
            "0",
            "-",
            "01",
            "1.5e+3",
            "1.",
            "-0.0E-1",
            "true",
            "fals",
            "null",
            " ",
            "\n",
            "\"\u{1}\"",
            "\"é\"",
            "\"",
            "\\",
        ]);
        prop::collection::vec(token, 0..9).prop_map(|tokens| tokens.concat())
    }

    /// Values as a random tree, written by the parser's own crate.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            ".{0,150}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_agrees_with_the_parser_on_what_is_nearly_json(text in nearly_json()) {
            let parsed = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(passes(text.as_bytes()), parsed, "{:?}", text);
        }

        #[test]
        fn it_agrees_with_the_parser_on_damaged_json(value in json(), at in any::<prop::sample::Index>(), byte in 0_u8..128) {
            let mut text = value.to_string().into_bytes();
            prop_assert!(passes(&text));
            let at = at.index(text.len());
            text[at] = byte;
            if std::str::from_utf8(&text).is_ok() {
                let parsed = serde_json::from_slice::<IgnoredAny>(&text).is_ok();
                prop_assert_eq!(passes(&text), parsed, "{:?}", String::from_utf8_lossy(&text));
            }
        }
    }

    proptest! {
        #[test]
        fn plain_text_ends_at_the_first_special_byte(
            mut text in prop::collection::vec(any::<u8>().prop_filter("plain", |byte| !is_special(*byte)), 0..200),
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            text.extend(rest);
            prop_assert_eq!(plain(&text), text.iter().position(|&byte| is_special(byte)).unwrap_or(text.len()));
        }
    }

    #[test]
    fn a_special_byte_is_seen_wherever_it_stands_in_a_stride() {
        for length in 0..3 * STRIDE {
            let plain = "x".repeat(length);
            assert!(passes(format!("\"{plain}\"").as_bytes()));
            assert!(passes(format!("\"{plain}\\n{plain}\"").as_bytes()));
            assert!(!passes(format!("\"{plain}\n{plain}\"").as_bytes()));
            assert!(!passes(format!("\"{plain}").as_bytes()));
        }
    }

    #[test]
    fn s21_depth_is_counted_and_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(passes(nested(DEPTH_MAX).as_bytes()));
        let too_deep = nested(DEPTH_MAX + 1);
        assert_eq!(Scanner::new(too_deep.as_bytes()).value(), Err(Flaw::TooDeep));
        let objects = "{\"a\":".repeat(DEPTH_MAX) + "1" + &"}".repeat(DEPTH_MAX);
        assert!(passes(objects.as_bytes()));
    }

    #[test]
    fn an_object_shows_its_members() {
        let mut seen = Vec::new();
        let text = br#" { "a" : [1, 2] , "b\"":{"c":"}"} } "#;
        Scanner::new(text)
            .object(|key, value| {
                seen.push((key, value));
                Ok(())
            })
            .expect("an object");
        assert_eq!(seen, [(&b"\"a\""[..], &b"[1, 2]"[..]), (&b"\"b\\\"\""[..], &br#"{"c":"}"}"#[..])]);
        assert_eq!(Scanner::new(b"{}").object(|_, _| Ok(())), Ok(()));
        assert_eq!(Scanner::new(b"{} 1").object(|_, _| Ok(())), Err(Flaw::Syntax));
    }
}
