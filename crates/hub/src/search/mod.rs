//! Finds tools by words: an index over the tools of a catalogue, ranked by BM25.
//!
//! A tool's words come from its name, its server's name, title, description, and the names and descriptions of its
//! parameters. Where a word stands decides what it weighs (`FIELDS`); the weighted counts go through BM25's saturation, and
//! `postings.rs` keeps for each word the tools that have it. What a word of the question may mean besides itself is in a table
//! (`words/related.txt`): a tool that has one of these words counts for less than one that has the word itself (`score.rs`). A word
//! that neither the tools nor the table have is taken for its nearest neighbour (`spelling.rs`).
//!
//! The order is the same whenever the catalogue is: equal scores go by the order of the list. The index is built when somebody
//! searches for the first time, and belongs to its catalogue.
//!
//! Nothing here decides who may see what: whoever asks says which tools count.

mod postings;
mod score;
mod spelling;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use trunkline_wire::{Json, Object};

use postings::Postings;
use score::Score;
use spelling::Vocabulary;
use words::{Asked, Related};

use crate::limits::{
    SEARCH_GUESSES_MAX, SEARCH_PARAMETERS_MAX, SEARCH_QUERY_BYTES_MAX, SEARCH_QUERY_WORDS_MAX, SEARCH_WORDS_MAX,
};

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
    Weights { name: 3.0, server: 3.0, title: 1.0, description: 1.0, parameter: 0.5, parameter_description: 0.5 };

/// What a question that names the server is worth more for its tools: who has several that create issues says which is meant.
const NAMED: f32 = 2.0;

/// Shorter beginnings of words have too many ends.
const PREFIX_CHARS_MIN: usize = 4;

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
    vocabulary: Vocabulary,
    postings: Postings,
    /// Words of servers' names.
    proper: HashSet<String>,
    /// Of each tool, the words of its name without those of its server's.
    names: Vec<Box<[u32]>>,
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
        let names = tools.iter().map(|tool| of_the_name(tool, &proper, &numbers)).collect();
        let (servers, telling) = tell_apart(&tools, &texts, &numbers);
        let postings = Postings::new(numbers.len(), &texts);
        Self { vocabulary: Vocabulary::new(numbers), postings, proper, names, servers, telling }
    }

    /// The places of the tools that fit the question and are `wanted`, the best first.
    pub(crate) fn find(&self, query: &str, limit: usize, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let query = &query[..query.floor_char_boundary(SEARCH_QUERY_BYTES_MAX)];
        let mut asked = words::asked(query, &self.proper);
        asked.truncate(SEARCH_QUERY_WORDS_MAX);
        let named: Vec<bool> =
            self.telling.iter().map(|words| words.iter().any(|word| self.means(&asked, word))).collect();
        let mut score = Score::new(&self.postings, self.servers.len());
        let mut guesses = SEARCH_GUESSES_MAX;
        for asked in asked {
            let asked = self.spelt(asked, &mut guesses);
            let own = asked.word.as_deref().and_then(|word| self.vocabulary.number(word));
            let meant = asked.meant.iter().filter_map(|(word, worth)| Some((self.vocabulary.number(word)?, *worth)));
            score.add(own, meant);
        }
        let mut scores = score.finish(&self.names);
        for (score, server) in scores.iter_mut().zip(&self.servers) {
            *score *= if named[*server] { NAMED } else { 1.0 };
        }
        let fits = |at: &usize| scores[*at] > 0.0 && wanted(*at);
        let mut found: Vec<usize> = (0..scores.len()).filter(fits).collect();
        found.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        found.truncate(limit);
        found
    }

    /// The word, or what it was probably meant to be: where the tools have nothing of it, its end may be missing, and where nobody
    /// knows it, letters may be wrong.
    fn spelt(&self, asked: Asked, guesses: &mut usize) -> Asked {
        let known = |word: &str| self.vocabulary.number(word).is_some();
        let Some(word) = asked.word.as_deref() else { return asked };
        // Numbers are not misspelt words.
        let is_word = !word.bytes().any(|byte| byte.is_ascii_digit());
        if !is_word || known(word) || asked.meant.iter().any(|(word, _)| known(word)) || *guesses == 0 {
            return asked;
        }
        *guesses -= 1;
        let (table, tools) = (Related::table(), |number| self.postings.of(number).len());
        let longer = self.vocabulary.longer(word, tools);
        let near = || if table.knows(word) { None } else { self.vocabulary.near(word, tools) };
        match longer.or_else(near) {
            Some(meant) => Asked { word: Some(meant.into()), meant: table.meant(meant) },
            None if table.knows(word) => asked,
            None => table.nearest(word).unwrap_or(asked),
        }
    }

    /// Whether the question has this word of a server's name, or its beginning: `mongo` is `mongodb`.
    fn means(&self, asked: &[Asked], word: &str) -> bool {
        let begins = |asked: &str| asked.len() >= PREFIX_CHARS_MIN && self.vocabulary.number(asked).is_none();
        let mut asked = asked.iter().filter_map(|asked| asked.word.as_deref());
        asked.any(|asked| asked == word || (word.starts_with(asked) && begins(asked)))
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Index").field("tools", &self.servers.len()).finish_non_exhaustive()
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
    let mut add = |words: Vec<Box<str>>, weight: f32| {
        for word in words.into_iter().take(left) {
            left -= 1;
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(word).or_insert(next);
            *counts.entry(number).or_default() += weight;
        }
    };
    let words = |text: &str| words::words(text, proper);
    add(words(tool.name), FIELDS.name);
    add(words::of_name(tool.server).into_iter().map(Into::into).collect(), FIELDS.server);
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

/// The words of a tool's name without those of its server's.
fn of_the_name(tool: &Document<'_>, proper: &HashSet<String>, numbers: &HashMap<Box<str>, u32>) -> Box<[u32]> {
    let server = words::of_name(tool.server);
    let own = words::words(tool.name, proper).into_iter().filter(|word| !server.iter().any(|of| **of == **word));
    own.filter_map(|word| numbers.get(&word).copied()).collect()
}

#[cfg(test)]
pub(crate) mod corpus;
#[cfg(test)]
mod tests;
