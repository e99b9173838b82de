//! [`Id`]: a request id as the peer wrote it.
//!
//! The text is kept, so that an id returns to its owner byte for byte (S-9). Ids of clients compare by type
//! and value; a reply from an upstream is matched leniently, which is safe because the gateway mints only
//! numbers (mcp-protocol 2.1).

use bytes::Bytes;

use crate::json::{Json, Malformed};

/// A JSON-RPC request id: a string or an integer, kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Json);

impl Id {
    /// Takes `value` as an id. Fails for null, booleans, fractions, arrays and objects.
    pub fn new(value: Json) -> Result<Self, Malformed> {
        let text = value.as_bytes();
        let fine = match text.first() {
            Some(b'"') => true,
            Some(b'-' | b'0'..=b'9') => is_integer(text),
            _ => false,
        };
        fine.then_some(Self(value)).ok_or(Malformed::NotRpc("an id is a string or an integer"))
    }

    /// The id's text.
    pub fn json(&self) -> &Json {
        &self.0
    }

    /// Returns the number that the gateway minted, when a reply spells it as `7`, `7.0` or `"7"`.
    pub fn minted(&self) -> Option<u64> {
        let text = std::str::from_utf8(self.0.as_bytes()).ok()?;
        let digits = text.trim_matches('"');
        digits.strip_suffix(".0").unwrap_or(digits).parse().ok()
    }

    /// A key that is equal for equal ids: strings by content, whatever their escapes; numbers by text.
    pub fn key(&self) -> Bytes {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return self.0.bytes().clone();
        }
        self.0.decode_str().map_or_else(|| self.0.bytes().clone(), |text| Json::from(text.as_str()).into_bytes())
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self(Json::from(number))
    }
}

/// `7`, `-7` and `7.0` are integers; `1.5` and `1e3` are not ids that any client sends.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let digits = digits.strip_suffix(b".0").unwrap_or(digits);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &'static str) -> Result<Id, Malformed> {
        Id::new(Json::literal(text))
    }

    #[test]
    fn takes_strings_and_integers_of_any_size() {
        for text in ["0", "-3", "7.0", "9007199254740993", "18446744073709551616", r#""a""#, r#""""#] {
            assert_eq!(id(text).expect(text).json().as_bytes(), text.as_bytes());
        }
        for text in ["null", "true", "1.5", "1e3", "{}", "[1]"] {
            assert!(id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_its_own_number_back_in_every_spelling() {
        for text in ["7", "7.0", r#""7""#] {
            assert_eq!(id(text).expect(text).minted(), Some(7));
        }
        assert_eq!(id(r#""x""#).expect("a string").minted(), None);
    }

    #[test]
    fn number_and_string_are_different_keys() {
        assert_ne!(id("1").expect("id").key(), id(r#""1""#).expect("id").key());
        assert_eq!(id(r#""\u0061""#).expect("id").key(), id(r#""a""#).expect("id").key());
    }
}
