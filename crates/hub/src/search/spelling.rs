//! [`Vocabulary`]: the words that tools have, found by spelling, and which of them was probably meant by one that they do not have.
//!
//! A guess compares the word with every known one, yet nearly all of them are told apart by their length and their ends. How many
//! guesses a question has is limited (`limits.rs`).

use std::collections::HashMap;

use super::PREFIX_CHARS_MIN;

/// Shorter words have too many neighbours to guess which was meant.
const CHARS_MIN: usize = 5;

/// From this length on two letters may be wrong.
const TWO_WRONG_CHARS_MIN: usize = 9;

/// The words that tools have, with their numbers.
#[derive(Debug)]
pub(super) struct Vocabulary(Vec<(Box<str>, u32)>);

impl Vocabulary {
    /// Takes the words.
    pub(super) fn new(words: HashMap<Box<str>, u32>) -> Self {
        let mut words: Vec<(Box<str>, u32)> = words.into_iter().collect();
        words.sort_unstable();
        Self(words)
    }

    /// The number of this word.
    pub(super) fn number(&self, word: &str) -> Option<u32> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(word)).ok()?;
        Some(self.0[at].1)
    }

    /// The word that begins with this one; of several, the one that most tools have.
    pub(super) fn longer(&self, word: &str, tools: impl Fn(u32) -> usize) -> Option<&str> {
        if word.chars().count() < PREFIX_CHARS_MIN {
            return None;
        }
        let from = self.0.partition_point(|(known, _)| **known < *word);
        let to = from + self.0[from..].partition_point(|(known, _)| known.starts_with(word));
        most(self.0[from..to].iter(), tools)
    }

    /// The word that is a letter or two away from this one; of several, the nearest that most tools have.
    pub(super) fn near(&self, word: &str, tools: impl Fn(u32) -> usize) -> Option<&str> {
        let wrong = |letters: usize| self.0.iter().filter(move |(known, _)| distance(known, word) == Some(letters));
        most(wrong(1), &tools).or_else(|| most(wrong(2), &tools))
    }
}

/// The word that most tools have; of equals, the first in the alphabet.
fn most<'a>(
    words: impl DoubleEndedIterator<Item = &'a (Box<str>, u32)>,
    tools: impl Fn(u32) -> usize,
) -> Option<&'a str> {
    words.rev().max_by_key(|(_, number)| tools(*number)).map(|(word, _)| &**word)
}

/// How many letters are wrong in the word if this one was meant, if it can be meant.
pub(super) fn distance(known: &str, word: &str) -> Option<usize> {
    let most = if word.len() >= TWO_WRONG_CHARS_MIN { 2 } else { 1 };
    if word.len() < CHARS_MIN || known.len().abs_diff(word.len()) > most {
        return None;
    }
    // One wrong letter leaves one of the ends as it is; where two are wrong, the beginning must be right.
    let (a, b) = (known.as_bytes(), word.as_bytes());
    let begins = a.first() == b.first();
    if !begins && a.last() != b.last() {
        return None;
    }
    let wrong = strsim::osa_distance(known, word);
    (wrong == 1 || (wrong == most && begins)).then_some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let words = ["archive", "invoice", "invoke", "kubernetes", "thumbnail", "title", "titles"];
        Vocabulary::new(words.into_iter().zip(0..).map(|(word, number)| (word.into(), number)).collect())
    }

    fn nearest(word: &str) -> Option<String> {
        let words = vocabulary();
        words.longer(word, |_| 1).or_else(|| words.near(word, |_| 1)).map(str::to_owned)
    }

    #[test]
    fn a_word_is_known_by_its_whole_spelling() {
        assert_eq!((vocabulary().number("invoice"), vocabulary().number("invoic")), (Some(1), None));
    }

    #[test]
    fn beginnings_and_words_with_wrong_letters_are_guessed_and_short_or_strange_ones_are_not() {
        for (word, meant) in
            [("thumb", "thumbnail"), ("thubmnail", "thumbnail"), ("nvoice", "invoice"), ("kubrnetis", "kubernetes")]
        {
            assert_eq!(nearest(word).as_deref(), Some(meant), "{word}");
        }
        for word in ["titl3x", "thu", "xthumbnale", "quasar", ""] {
            assert_eq!(nearest(word), None, "{word}");
        }
    }

    #[test]
    fn of_several_the_one_that_most_tools_have_is_meant_and_of_equals_the_first() {
        assert_eq!(vocabulary().longer("invo", |number| number as usize), Some("invoke"));
        assert_eq!(nearest("invo").as_deref(), Some("invoice"));
    }
}
