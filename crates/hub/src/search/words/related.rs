//! The table of everyday words (`related.txt`): which words are one word, and which words of tools a word of a question may mean.
//!
//! A line `a = b c` says that `b` and `c` are `a` in another form, spelling or abbreviation: both sides are read so, tools and
//! questions. `a ~ b c` are words that may stand for each other. `a b > c d` is one way only: people say `money` and mean payments,
//! but a tool about payments is not asked for by its balance. The table is about any tool, written from what people say and not
//! from what some tools are called. It is read once, when somebody searches for the first time.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

use super::Asked;
use crate::search::spelling;

const TABLE: &str = include_str!("related.txt");

/// What a word that means about the same is worth, of the word itself.
const ALIKE: f32 = 0.72;

/// What a word is worth that may be meant.
const MEANT: f32 = 0.6;

/// Words of the longest phrase.
const PHRASE_WORDS_MAX: usize = 4;

/// A word that may be meant, and what it is worth.
pub(crate) type Meant = (Box<str>, f32);

/// The table, made ready for look-up: all words without endings.
#[derive(Debug, Default)]
pub(crate) struct Related {
    /// Words and phrases that are another word.
    forms: HashMap<Box<str>, Box<str>>,
    /// Words and phrases that may mean others.
    meant: HashMap<Box<str>, Vec<Meant>>,
    /// What phrases begin with: few words do.
    begins: HashSet<Box<str>>,
}

static RELATED: LazyLock<Related> = LazyLock::new(|| Related::read(TABLE));

impl Related {
    /// The table that is built in.
    pub(crate) fn table() -> &'static Self {
        &RELATED
    }

    fn read(table: &str) -> Self {
        let mut read = Self::default();
        let lines = || table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        // Forms first: the other lines are read by them.
        for (word, others) in lines().filter_map(|line| line.split_once('=')) {
            for other in others.split_whitespace() {
                let stemmed: Vec<Cow<'_, str>> = other.split(['_', '-']).map(stem).collect();
                read.forms.insert(stemmed.join(" ").into(), stem(word.trim()).into());
            }
        }
        for line in lines().filter(|line| !line.contains('=')) {
            if let Some((words, meant)) = line.split_once('>') {
                read.lead(words.split_whitespace(), &meant.split_whitespace().collect::<Vec<_>>(), MEANT);
            } else {
                let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "~").collect();
                read.lead(words.iter().copied(), &words, ALIKE);
            }
        }
        let phrases = read.forms.keys().chain(read.meant.keys()).filter_map(|phrase| phrase.split_once(' '));
        read.begins = phrases.map(|(first, _)| first.into()).collect();
        read
    }

    fn lead<'a>(&mut self, words: impl Iterator<Item = &'a str>, to: &[&str], worth: f32) {
        let to: Vec<Box<str>> = to.iter().flat_map(|word| word.split('_')).map(|word| self.form(word)).collect();
        for word in words {
            let (mark, word) = word.split_at(usize::from(word.starts_with('^')));
            let stemmed: Vec<Cow<'_, str>> = word.split(['_', '-', '\'']).map(stem).collect();
            let phrase: Box<str> = (mark.to_owned() + &stemmed.join(" ")).into();
            let key = self.forms.get(&phrase).cloned().unwrap_or(phrase);
            let known = self.meant.entry(key.clone()).or_default();
            for word in to.iter().filter(|word| **word != key) {
                match known.iter_mut().find(|(known, _)| known == word) {
                    Some((_, known)) => *known = known.max(worth),
                    None => known.push((word.clone(), worth)),
                }
            }
        }
    }

    /// A word in its one form, without ending.
    pub(crate) fn form(&self, word: &str) -> Box<str> {
        let stemmed = stem(word);
        self.forms.get(&*stemmed).cloned().unwrap_or_else(|| stemmed.into())
    }

    /// How many of these words, which have no endings any more, are a phrase; and what it is, or may mean.
    pub(crate) fn phrase(&self, words: &[Cow<'_, str>]) -> Option<(usize, Option<&str>, &[Meant])> {
        self.begins.get(words.first()?.as_ref())?;
        (2..=PHRASE_WORDS_MAX.min(words.len())).rev().find_map(|count| {
            let phrase = words[..count].join(" ");
            if let Some(form) = self.forms.get(&*phrase) {
                return Some((count, Some(&**form), self.meant(form)));
            }
            self.meant.get(&*phrase).map(|meant| (count, None, &meant[..]))
        })
    }

    /// What a word may mean besides itself.
    pub(crate) fn meant(&self, word: &str) -> &[Meant] {
        self.meant.get(word).map_or(&[], Vec::as_slice)
    }

    /// What a word was probably meant to be that is a letter or two away from it; of several, the first in the alphabet.
    pub(crate) fn nearest(&'static self, word: &str) -> Option<Asked> {
        let near = |wrong: usize| {
            let words = self.meant.keys().filter(|known| spelling::distance(known, word) == Some(wrong));
            words.min()
        };
        let word = near(1).or_else(|| near(2))?;
        Some(Asked { word: Some(word.clone()), meant: self.meant(word) })
    }

    /// Whether the table has this word.
    pub(crate) fn knows(&self, word: &str) -> bool {
        self.meant.contains_key(word) || self.forms.contains_key(word)
    }
}

/// A word without its ending, in the spelling of the longer half of the world.
pub(crate) fn stem(word: &str) -> Cow<'_, str> {
    static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));
    const LETTERS_MIN: usize = 6;
    if word.len() > LETTERS_MIN && word.contains("is") {
        for (british, american) in [("isation", "ization"), ("ise", "ize"), ("ised", "ized"), ("ising", "izing")] {
            if let Some(root) = word.strip_suffix(british) {
                return ENGLISH.stem(&format!("{root}{american}")).into_owned().into();
            }
        }
    }
    ENGLISH.stem(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_table_says_something() {
        for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (words, meant) = line.split_once(['=', '~', '>']).unwrap_or_else(|| panic!("{line}"));
            assert!(!words.trim().is_empty() && !meant.trim().is_empty(), "{line}");
            assert!(!meant.contains(['=', '~', '>', '^', '?']), "{line}");
            assert!(words.split_whitespace().all(|word| word.split('_').count() <= PHRASE_WORDS_MAX), "{line}");
        }
    }

    #[test]
    fn a_line_with_an_arrow_goes_one_way_and_one_with_a_wave_all_ways() {
        let read = Related::read("a ~ b c\ncash cash_in_hand > pay\npay = paid");
        let meant = |word: &str| read.meant(word).iter().map(|(word, _)| &**word).collect::<Vec<_>>();
        assert_eq!((meant("a"), meant("b"), meant("c")), (vec!["b", "c"], vec!["a", "c"], vec!["a", "b"]));
        assert_eq!((meant("cash"), meant("pay")), (vec!["pay"], Vec::new()));
        assert_eq!(&*read.form("paid"), "pay");
        let words = ["cash", "in", "hand", "now"].map(Cow::Borrowed);
        assert_eq!(read.phrase(&words).map(|(count, form, meant)| (count, form, meant.len())), Some((3, None, 1)));
        assert!(read.phrase(&words[1..]).is_none() && read.phrase(&[]).is_none());
    }

    #[test]
    fn a_word_of_the_table_is_known_with_a_wrong_letter() {
        let near = |word: &str| Related::table().nearest(word).and_then(|asked| asked.word);
        assert_eq!(near("tikcet").as_deref(), Some("ticket"));
        assert_eq!(near("zzzzzzz"), None);
    }
}
