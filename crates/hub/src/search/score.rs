//! [`Score`]: what a question is worth for each tool, added up word by word.
//!
//! A word counts as itself or as what it may mean, whichever is more; what else of it the tool has adds a part. Words of the
//! question that a tool has nothing of cost it something, by their rarity, and a tool whose name the question has in full gains.

use std::collections::HashMap;

use super::postings::Postings;

/// Where a tool has several of the words that one word may mean, what the lesser ones add.
const FURTHER: f32 = 0.7;

/// How much a word's rarity is that of all it may mean together: a word that one tool has by chance says less when many tools
/// have what it means. First of the word itself, then of the others.
const SHARED_BY_WORD: f32 = 0.4;
const SHARED_BY_MEANT: f32 = 0.4;

/// How much it costs a tool to have nothing of a part of the question: the score is multiplied by the part it has to this power.
const COVERED: f32 = 0.25;

/// What a tool gains whose name is all in the question.
const NAME_COVERED: f32 = 0.15;

/// What a question is worth for each tool.
pub(super) struct Score<'a> {
    postings: &'a Postings,
    /// So far.
    sums: Vec<f32>,
    /// Of the question's words, by their rarity, what each tool has, and how much there is.
    covered: Vec<f32>,
    total: f32,
    /// How well each word of the tools is asked for.
    asked: HashMap<u32, f32>,
    /// Room for what one word is worth.
    worths: Vec<f32>,
    /// The tools that have anything of it.
    having: Vec<u32>,
}

impl<'a> Score<'a> {
    /// Of no word yet, for this many tools.
    pub(super) fn new(postings: &'a Postings, tools: usize) -> Self {
        Self {
            postings,
            sums: vec![0.0; tools],
            covered: vec![0.0; tools],
            total: 0.0,
            asked: HashMap::new(),
            worths: vec![0.0; tools],
            having: Vec::new(),
        }
    }

    /// Adds one word of the question: itself, if the tools have it, and what else it may mean, with what that is worth of it.
    pub(super) fn add(&mut self, own: Option<u32>, meant: impl Iterator<Item = (u32, f32)>) {
        let words: Vec<(u32, f32)> = own.map(|own| (own, 1.0)).into_iter().chain(meant).collect();
        let all = self.count(&words);
        if all == 0 {
            return;
        }
        let shared = self.postings.rarity(all);
        for (word, worth) in words {
            let list = self.postings.of(word);
            let part = if Some(word) == own { SHARED_BY_WORD } else { SHARED_BY_MEANT };
            let rarity = (1.0 - part) * self.postings.rarity(list.len()) + part * shared;
            for (at, count) in list {
                let best = &mut self.worths[*at as usize];
                let this = count * rarity * worth;
                *best = best.max(this) + FURTHER * best.min(this);
            }
            let known = self.asked.entry(word).or_default();
            *known = known.max(worth);
        }
        self.total += shared;
        for at in self.having.drain(..) {
            let at = at as usize;
            self.sums[at] += self.worths[at];
            self.covered[at] += shared;
            self.worths[at] = 0.0;
        }
    }

    /// How many tools have any of these words. They are kept in `having`.
    fn count(&mut self, words: &[(u32, f32)]) -> usize {
        // A worth below nothing marks those that were seen; it is nothing again when they are counted.
        for (at, _) in words.iter().flat_map(|(word, _)| self.postings.of(*word)) {
            let seen = &mut self.worths[*at as usize];
            if *seen == 0.0 {
                *seen = -1.0;
                self.having.push(*at);
            }
        }
        for at in &self.having {
            self.worths[*at as usize] = 0.0;
        }
        self.having.len()
    }

    /// What all of it is worth for each tool, whose names have these words.
    pub(super) fn finish(self, names: &[Box<[u32]>]) -> Vec<f32> {
        let Self { sums, covered, total, asked, .. } = self;
        let mut out = sums;
        for ((score, covered), name) in out.iter_mut().zip(covered).zip(names).filter(|((score, _), _)| **score > 0.0) {
            let said: f32 = name.iter().filter_map(|word| asked.get(word)).sum();
            *score *= (covered / total).powf(COVERED)
                * (1.0 + NAME_COVERED * said / super::postings::number(name.len().max(1)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tools: the first has words 0 and 1, the second word 0 twice, the third word 2.
    fn postings() -> Postings {
        let texts = [vec![(0, 1.0), (1, 1.0)], vec![(0, 2.0)], vec![(2, 1.0)]];
        Postings::new(3, &texts.map(|text| text.into_iter().collect()))
    }

    fn finished(score: Score<'_>) -> Vec<f32> {
        let names: Vec<Box<[u32]>> = vec![Box::from([]); 3];
        score.finish(&names)
    }

    #[test]
    fn what_a_word_may_mean_counts_for_less_than_the_word() {
        let postings = postings();
        let mut score = Score::new(&postings, 3);
        score.add(Some(1), [(2, 0.6)].into_iter());
        let scores = finished(score);
        assert!(scores[0] > scores[2] && scores[2] > 0.0 && scores[1] == 0.0, "{scores:?}");
    }

    #[test]
    fn a_tool_that_has_something_of_each_word_is_before_one_that_has_more_of_one() {
        let postings = postings();
        let mut score = Score::new(&postings, 3);
        score.add(Some(0), std::iter::empty());
        score.add(Some(1), std::iter::empty());
        let scores = finished(score);
        assert!(scores[0] > scores[1] && scores[1] > 0.0, "{scores:?}");
    }

    #[test]
    fn a_name_that_is_all_in_the_question_is_worth_more() {
        let texts = [vec![(0, 1.0)], vec![(0, 1.0)]];
        let postings = Postings::new(2, &texts.map(|text| text.into_iter().collect()));
        let mut score = Score::new(&postings, 2);
        score.add(Some(0), std::iter::empty());
        let scores = score.finish(&[Box::from([0, 1]), Box::from([0])]);
        assert!(scores[1] > scores[0], "{scores:?}");
    }

    #[test]
    fn words_that_no_tool_has_leave_everything_as_it_is() {
        let postings = postings();
        let mut score = Score::new(&postings, 3);
        score.add(None, std::iter::empty());
        assert_eq!(finished(score), [0.0; 3]);
    }
}
