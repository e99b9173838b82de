//! [`Postings`]: for each word the tools that have it, and how much of it, by BM25.
//!
//! All that depends on the tools alone is worked out once: a question only adds up. Tools and words are numbers here; what
//! they stand for is `mod.rs`'s.

use std::collections::BTreeMap;

/// How soon another occurrence of a word adds nothing more.
const SATURATION: f32 = 1.0;

/// How much a long text counts against a tool: little, for long descriptions are no worse than short ones.
const LENGTH: f32 = 0.4;

/// The tools of each word.
#[derive(Debug)]
pub(super) struct Postings {
    lists: Vec<Vec<(u32, f32)>>,
    tools: usize,
}

impl Postings {
    /// Takes the words of each tool, and how often each counts. All words are below `words`.
    pub(super) fn new(words: usize, tools: &[BTreeMap<u32, f32>]) -> Self {
        let lengths: Vec<f32> = tools.iter().map(|text| text.values().sum()).collect();
        let average = (lengths.iter().sum::<f32>() / number(lengths.len().max(1))).max(1.0);
        let mut lists = vec![Vec::new(); words];
        for ((at, text), length) in (0_u32..).zip(tools).zip(lengths) {
            let lasting = SATURATION * (1.0 - LENGTH + LENGTH * length / average);
            for (word, count) in text {
                lists[*word as usize].push((at, count * (SATURATION + 1.0) / (count + lasting)));
            }
        }
        Self { lists, tools: tools.len() }
    }

    /// The tools that have this word, in the order of the list, and how much of it each has.
    pub(super) fn of(&self, word: u32) -> &[(u32, f32)] {
        &self.lists[word as usize]
    }

    /// What a word is worth that this many tools have.
    pub(super) fn rarity(&self, having: usize) -> f32 {
        let having = number(having);
        (1.0 + (number(self.tools) - having + 0.5) / (having + 0.5)).ln()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand tools")]
pub(super) fn number(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postings(tools: &[&[(u32, f32)]]) -> Postings {
        Postings::new(3, &tools.iter().map(|text| text.iter().copied().collect()).collect::<Vec<_>>())
    }

    #[test]
    fn a_rare_word_is_worth_more_and_a_word_twice_not_twice_as_much() {
        let made = postings(&[&[(0, 1.0), (1, 1.0)], &[(0, 1.0), (2, 2.0)], &[(0, 1.0)]]);
        let having = |word: u32| made.of(word).len();
        assert!(made.rarity(having(1)) > made.rarity(having(0)) && made.rarity(having(0)) > 0.0);
        let ([(0, once)], [(1, twice)]) = (made.of(1), made.of(2)) else { panic!("each is one tool's") };
        assert!(twice > once && *twice < 2.0 * once, "{twice:?} and {once:?}");
    }

    #[test]
    fn the_same_word_is_worth_a_little_less_in_a_longer_text() {
        let made = postings(&[&[(0, 1.0)], &[(0, 1.0), (1, 9.0)]]);
        let [(0, short), (1, long)] = made.of(0) else { panic!("both have it") };
        assert!(short > long && *short < 2.0 * long);
    }
}
