//! [`Patterns`]: names, and `*` and `?` in them, by which an operator picks entries.
//!
//! `*` stands for any text, `?` for one character, everything else for itself; capitals count. No name of a tool holds
//! either, so a list of plain names, as Codex has it, means what it always did.

use serde::Deserialize;
use wildmatch::WildMatch;

/// A list of patterns; one that matches is enough.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(from = "Vec<String>")]
pub struct Patterns(Vec<WildMatch>);

impl Patterns {
    /// Whether any of them matches all of `name`.
    pub fn match_any(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}

impl Eq for Patterns {}

impl From<Vec<String>> for Patterns {
    fn from(texts: Vec<String>) -> Self {
        Self(texts.iter().map(|text| WildMatch::new(text)).collect())
    }
}

/// What is shown of a list: what `only` matches, if there is such a list, less what `not` matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only these, if given.
    pub only: Option<Patterns>,
    /// Not these; this wins.
    pub not: Patterns,
}

impl Filter {
    /// A filter of the two lists as they stand in a file.
    pub(crate) fn of(only: Option<Vec<String>>, not: Vec<String>) -> Self {
        Self { only: only.map(Patterns::from), not: not.into() }
    }

    /// Whether it lets `name` through.
    pub fn shows(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.match_any(name)) && !self.not.match_any(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(only: Option<&[&str]>, not: &[&str]) -> Filter {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Filter::of(only.map(owned), owned(not))
    }

    #[test]
    fn stars_and_question_marks_stand_for_text_and_everything_else_for_itself() {
        let some = filter(Some(&["git__*", "read_?", "a.b"]), &["git__push*"]);
        for shown in ["git__log", "git__", "read_x", "a.b"] {
            assert!(some.shows(shown), "{shown}");
        }
        for hidden in ["git__push", "git__push_all", "Git__log", "read_xy", "read_", "axb", "other", ""] {
            assert!(!some.shows(hidden), "{hidden}");
        }
    }

    #[test]
    fn no_list_shows_all_and_an_empty_one_nothing() {
        assert!(filter(None, &[]).shows("anything"));
        assert!(!filter(Some(&[]), &[]).shows("anything"));
        assert!(!filter(None, &["*"]).shows("anything"));
    }
}
