//! Finds tools by words: an index over the tools of a catalogue, ranked by BM25.
//!
//! A tool's words come from its name, its server's name, title, description, and the names and descriptions of its
//! parameters. Where a word stands decides what it weighs (`FIELDS`); the weighted counts go through BM25's saturation, and
//! `postings.rs` keeps for each word the tools that have it, and what it is worth for each. Words that mean the same match by
//! their group (`words.rs`), for less; a word of the question that no tool has is taken for its nearest neighbour, if that is one
//! letter away.
//!
//! The order is the same whenever the catalogue is: equal scores go by the order of the list. The index is built when somebody
//! searches for the first time, and belongs to its catalogue.
//!
//! Nothing here decides who may see what: whoever asks says which tools count.

mod postings;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use trunkline_wire::{Json, Object};

use postings::Postings;

use crate::limits::{SEARCH_PARAMETERS_MAX, SEARCH_QUERY_BYTES_MAX, SEARCH_QUERY_WORDS_MAX, SEARCH_WORDS_MAX};

/// What a word weighs by where it stands. The server's name stands in most titles too, and so do the words of the name; what
/// parameters say helps where nothing else tells neighbours apart.
struct Weights {
    name: f32,
    server: f32,
    title: f32,
    description: f32,
    parameter: f32,
    parameter_description: f32,
}

const FIELDS: Weights =
    Weights { name: 3.0, server: 3.0, title: 1.0, description: 1.0, parameter: 0.5, parameter_description: 0.25 };

/// Of a word's weight, what its groups get.
const ALIKE: f32 = 0.5;

/// What a question that names the server is worth more for its tools: who has several that create issues says which is meant.
const NAMED: f32 = 2.0;

/// Shorter beginnings of words have too many ends.
const PREFIX_CHARS_MIN: usize = 4;

/// Shorter words have too many neighbours to guess which was meant.
const TYPO_CHARS_MIN: usize = 5;

/// A tool, as far as it is searched.
pub(crate) struct Document<'a> {
    /// The name its server gave it.
    pub name: &'a str,
    /// The server.
    pub server: &'a str,
    /// The entry as it stands in the list.
    pub body: &'a Json,
}

/// The index over some tools, which are told by their place in the list.
pub(crate) struct Index {
    /// Groups come first, then words.
    numbers: HashMap<Box<str>, u32>,
    postings: Postings,
    /// Words of servers' names.
    proper: HashSet<String>,
    /// Of each tool, whose it is.
    servers: Vec<usize>,
    /// Of each server, the words by which it is told from the others.
    telling: Vec<Vec<String>>,
}

impl Index {
    /// Reads the tools.
    pub(crate) fn new<'a>(tools: impl Iterator<Item = Document<'a>>) -> Self {
        let tools: Vec<Document<'a>> = tools.collect();
        let proper: HashSet<String> = tools.iter().flat_map(|tool| words::of_name(tool.server)).collect();
        let mut numbers = HashMap::new();
        let texts: Vec<_> = tools.iter().map(|tool| weigh(tool, &proper, &mut numbers)).collect();
        let (servers, telling) = tell_apart(&tools, &texts, &numbers);
        let postings = Postings::new(words::group_count() + numbers.len(), &texts);
        Self { numbers, postings, proper, servers, telling }
    }

    /// The places of the tools that fit the question and are `wanted`, the best first.
    pub(crate) fn find(&self, query: &str, limit: usize, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let query = &query[..query.floor_char_boundary(SEARCH_QUERY_BYTES_MAX)];
        let mut asked = words::asked(query, &self.proper);
        asked.truncate(SEARCH_QUERY_WORDS_MAX);
        let mut scores = vec![0.0_f32; self.servers.len()];
        let mut best = scores.clone();
        for word in &asked {
            self.score(word, &mut best, &mut scores);
        }
        let named: Vec<bool> =
            self.telling.iter().map(|words| words.iter().any(|word| self.means(&asked, word))).collect();
        for (score, server) in scores.iter_mut().zip(&self.servers) {
            *score *= if named[*server] { NAMED } else { 1.0 };
        }
        let fits = |at: &usize| scores[*at] > 0.0 && wanted(*at);
        let mut found: Vec<usize> = (0..scores.len()).filter(fits).collect();
        found.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        found.truncate(limit);
        found
    }

    /// Adds what one word of the question is worth for each tool: as itself or by its group, whichever is more. `best` is
    /// room to find that out.
    fn score(&self, word: &str, best: &mut [f32], scores: &mut [f32]) {
        let groups = words::groups(word);
        let mut numbers: Vec<u32> = groups.iter().map(|group| u32::from(*group)).collect();
        // A word with a group is spelt right.
        numbers.extend(self.known(word).or_else(|| groups.is_empty().then(|| self.nearest(word)).flatten()));
        best.fill(0.0);
        for (at, worth) in numbers.into_iter().flat_map(|number| self.postings.of(number)) {
            let best = &mut best[*at as usize];
            *best = best.max(*worth);
        }
        for (score, best) in scores.iter_mut().zip(best) {
            *score += *best;
        }
    }

    fn known(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// Whether the question has this word of a server's name, or its beginning: `mongo` is `mongodb`.
    fn means(&self, asked: &[String], word: &str) -> bool {
        let begins = |asked: &String| asked.len() >= PREFIX_CHARS_MIN && !self.numbers.contains_key(&**asked);
        asked.iter().any(|asked| asked == word || (begins(asked) && word.starts_with(&**asked)))
    }

    /// The word of the tools that begins with this one or is one letter away; of several, the first in the alphabet.
    fn nearest(&self, word: &str) -> Option<u32> {
        let chars = word.chars().count();
        let begins = |known: &str| chars >= PREFIX_CHARS_MIN && known.starts_with(word);
        let near = |known: &str| {
            chars >= TYPO_CHARS_MIN
                && known.chars().count().abs_diff(chars) <= 1
                && strsim::osa_distance(known, word) == 1
        };
        let least = |fits: &dyn Fn(&str) -> bool| self.numbers.iter().filter(|(known, _)| fits(known)).min();
        least(&begins).or_else(|| least(&near)).map(|(_, number)| *number)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Index").field("words", &self.numbers.len()).finish_non_exhaustive()
    }
}

/// Of each tool, whose it is; and of each server the words of its name that hardly any other server's tools have. `memory` is
/// a server's name, and what a dozen other tools are about.
fn tell_apart(
    tools: &[Document<'_>],
    texts: &[BTreeMap<u32, f32>],
    numbers: &HashMap<Box<str>, u32>,
) -> (Vec<usize>, Vec<Vec<String>>) {
    let mut names: Vec<&str> = Vec::new();
    let mut servers = Vec::with_capacity(tools.len());
    for tool in tools {
        // Tools of one server stand together in most lists.
        let at = names.iter().rposition(|name| *name == tool.server).unwrap_or_else(|| {
            names.push(tool.server);
            names.len() - 1
        });
        servers.push(at);
    }
    let tells = |server: usize, word: &str| {
        let number = numbers.get(word);
        let has = |text: &BTreeMap<u32, f32>| number.is_some_and(|number| text.contains_key(number));
        let (mut own, mut all) = (0, 0);
        for (text, of) in texts.iter().zip(&servers) {
            if has(text) {
                all += 1;
                own += usize::from(*of == server);
            }
        }
        own * 4 >= all * 3
    };
    let telling = |(server, name): (usize, &&str)| {
        words::of_name(name).into_iter().filter(|word| tells(server, word)).collect::<Vec<_>>()
    };
    let telling = names.iter().enumerate().map(telling).collect();
    (servers, telling)
}

/// How often each word of the tool counts.
fn weigh(tool: &Document<'_>, proper: &HashSet<String>, numbers: &mut HashMap<Box<str>, u32>) -> BTreeMap<u32, f32> {
    let mut counts = BTreeMap::new();
    let mut left = SEARCH_WORDS_MAX;
    let mut add = |words: Vec<String>, weight: f32| {
        for word in words {
            if left == 0 {
                return;
            }
            left -= 1;
            for group in words::groups(&word) {
                *counts.entry(u32::from(*group)).or_default() += weight * ALIKE;
            }
            let next = u32::try_from(words::group_count() + numbers.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(word.into()).or_insert(next);
            *counts.entry(number).or_default() += weight;
        }
    };
    let words = |text: &str| words::words(text, proper);
    add(words(tool.name), FIELDS.name);
    add(words::of_name(tool.server), FIELDS.server);
    let Ok(body) = Object::parse(tool.body) else { return counts };
    add(words(&body.get_str("title").unwrap_or_default()), FIELDS.title);
    add(words(&body.get_str("description").unwrap_or_default()), FIELDS.description);
    let parameters = body.get_object("inputSchema").and_then(|schema| schema.get_object("properties"));
    for (name, parameter) in parameters.iter().flat_map(Object::iter).take(SEARCH_PARAMETERS_MAX) {
        add(words(name), FIELDS.parameter);
        let parameter = Object::parse(parameter).unwrap_or_default();
        add(words(&parameter.get_str("description").unwrap_or_default()), FIELDS.parameter_description);
    }
    counts
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
