//! [`Postings`]: for each word the tools that have it, and what it is worth for each of them, by BM25.
//!
//! All that depends on the tools alone is worked out once: a question only adds up. Tools and words are numbers here; what
//! they stand for is `mod.rs`'s.

use std::collections::BTreeMap;

/// How soon another occurrence of a word adds nothing more.
const SATURATION: f32 = 1.2;

/// How much a long text counts against a tool: little, for long descriptions are no worse than short ones.
const LENGTH: f32 = 0.4;

/// The tools of each word.
#[derive(Debug)]
pub(super) struct Postings(Vec<Vec<(u32, f32)>>);

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
        for list in &mut lists {
            let having = number(list.len());
            let rarity = (1.0 + (number(tools.len()) - having + 0.5) / (having + 0.5)).ln();
            for (_, worth) in list {
                *worth *= rarity;
            }
        }
        Self(lists)
    }

    /// The tools that have this word, in the order of the list, and what it is worth for each.
    pub(super) fn of(&self, word: u32) -> &[(u32, f32)] {
        &self.0[word as usize]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand tools")]
fn number(count: usize) -> f32 {
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
        let worth = |word: u32, tool: u32| made.of(word).iter().find(|(at, _)| *at == tool).map(|(_, worth)| *worth);
        let (common, rare, twice) = (worth(0, 0), worth(1, 0), worth(2, 1));
        assert!(common > Some(0.0) && rare > common && twice > rare);
        assert!(twice < rare.map(|rare| 2.0 * rare), "{twice:?} and {rare:?}");
        assert_eq!(worth(1, 1), None);
    }

    #[test]
    fn the_same_word_is_worth_a_little_less_in_a_longer_text() {
        let made = postings(&[&[(0, 1.0)], &[(0, 1.0), (1, 9.0)]]);
        let [(0, short), (1, long)] = made.of(0) else { panic!("both have it") };
        assert!(short > long && *short < 2.0 * long);
    }
}
