//! [`Needle`]: a fixed word that is looked for in payloads, as a cheap proof that there is nothing to read there.
//!
//! Preparing a search costs more than searching a small message. So it is done once per word, not once per message.

use std::sync::OnceLock;

use memchr::memmem::Finder;

/// A word to be looked for; meant for a `static`.
#[derive(Debug)]
pub struct Needle {
    word: &'static str,
    finder: OnceLock<Finder<'static>>,
}

impl Needle {
    /// Looks for `word`, as it stands: an escaped spelling of it is another one.
    pub const fn new(word: &'static str) -> Self {
        Self { word, finder: OnceLock::new() }
    }

    /// Whether the word stands anywhere in `text`.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.finder.get_or_init(|| Finder::new(self.word)).find(text).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_stands() {
        static NEEDLE: Needle = Needle::new("\"uri\"");
        for (text, there) in [(r#"{"uri":1}"#, true), (r#""uri""#, true), (r#"{"ur\u0069":1}"#, false), ("", false)] {
            assert_eq!(NEEDLE.is_in(text.as_bytes()), there, "{text}");
        }
    }
}
