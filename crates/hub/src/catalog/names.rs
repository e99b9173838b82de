//! Which exposed name each tool and prompt gets (mcp-protocol 6.9). Pure.
//!
//! [`assign`] gives the names of one server's entries. They depend on that server alone, so that they
//! neither move when another server comes or goes, nor with the order of a list. Only names without a
//! prefix, or chosen by the user, can meet those of another server; [`settle`] takes care of those.
//!
//! A renamed tool has the user's name as it is, without the prefix: "a name of the user's, under rules 2-5"
//! leaves rule 1, the prefix, out.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};
use trunkline_wire::ExposedName;

/// What decides the names of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// What enters every hash: the namespace, or the server's whole name where none is shown.
    pub space: &'a str,
    /// What stands in front of `__`; empty for none.
    pub prefix: &'a str,
    /// Longest name in characters.
    pub budget: usize,
    /// Names the user gave, by original name.
    pub rename: &'a BTreeMap<String, String>,
}

/// A name and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name toward clients.
    pub name: ExposedName,
    /// Whether another server could make the same name: it has no prefix.
    pub bare: bool,
}

/// Characters of the hash in a name that was cut or is ambiguous (rule 4).
const SUFFIX_CHARS: usize = 6;

/// Returns the name of each of `originals`, in their order. `originals` must be distinct.
pub(crate) fn assign(rules: Rules<'_>, originals: &[&str]) -> Vec<Named> {
    let plain: Vec<(String, bool)> = originals.iter().map(|original| rules.plain(original)).collect();
    let mut alike: HashMap<String, usize> = HashMap::with_capacity(plain.len());
    for (name, _) in &plain {
        *alike.entry(fold(name)).or_default() += 1;
    }
    let keeps = |at: usize| {
        let (name, _) = &plain[at];
        let alone = alike[&fold(name)] == 1;
        name.len() <= rules.budget && (alone || rules.is_literal(originals[at], name))
    };
    let mut taken: HashSet<String> = HashSet::with_capacity(plain.len());
    taken.extend((0..plain.len()).filter(|at| keeps(*at)).map(|at| fold(&plain[at].0)));
    let mut names: Vec<Option<String>> = (0..plain.len()).map(|at| keeps(at).then(|| plain[at].0.clone())).collect();
    // By original name, so that not even two equal hashes make the result depend on the list's order.
    let mut open: Vec<usize> = (0..plain.len()).filter(|at| !keeps(*at)).collect();
    open.sort_by_key(|at| originals[*at]);
    for at in open {
        names[at] = Some(free(rules, &plain[at].0, originals[at], &mut taken));
    }
    names
        .into_iter()
        .zip(plain)
        .map(|(name, (_, bare))| Named {
            name: name.as_deref().and_then(ExposedName::new).expect("every name was made of allowed characters"),
            bare,
        })
        .collect()
}

/// Parts the names that meet between servers (rule 7): those without a prefix get the suffix, a name under a
/// prefix stays. `sets` holds, for each server, its rules, its original names and what [`assign`] gave them. A name that
/// `is_taken` already makes way, too. Returns the places of those that did so for that reason.
pub(crate) fn settle(
    sets: &mut [(Rules<'_>, Vec<&str>, Vec<Named>)],
    is_taken: impl Fn(&Named) -> bool,
) -> Vec<(usize, usize)> {
    if sets.iter().all(|(_, _, names)| names.iter().all(|named| !named.bare)) {
        return Vec::new();
    }
    let mut holders: HashMap<String, HashSet<usize>> = HashMap::new();
    for (at, (_, _, names)) in sets.iter().enumerate() {
        for named in names {
            holders.entry(named.name.folded()).or_default().insert(at);
        }
    }
    let mut taken: HashSet<String> = holders.keys().cloned().collect();
    let mut open: Vec<(String, String, usize, usize)> = Vec::new();
    let mut made_way = Vec::new();
    for (at, (rules, originals, names)) in sets.iter().enumerate() {
        for (index, named) in names.iter().enumerate() {
            let taken = is_taken(named);
            if taken {
                made_way.push((at, index));
            }
            if named.bare && (taken || holders[&named.name.folded()].len() > 1) {
                open.push((rules.space.to_owned(), originals[index].to_owned(), at, index));
            }
        }
    }
    open.sort();
    for (_, original, at, index) in open {
        let (rules, _, names) = &mut sets[at];
        let name = free(*rules, names[index].name.as_str(), &original, &mut taken);
        names[index].name = ExposedName::new(&name).expect("a name stays one with its suffix");
    }
    made_way
}

impl Rules<'_> {
    /// The name before budget and ambiguity, and whether it is bare.
    fn plain(&self, original: &str) -> (String, bool) {
        if let Some(wanted) = self.rename.get(original) {
            return (lettered(sanitized(wanted)), true);
        }
        if self.prefix.is_empty() {
            return (lettered(sanitized(original)), true);
        }
        (format!("{}__{}", self.prefix, sanitized(original)), false)
    }

    /// Whether `name` shows the original, or the user's own choice, letter by letter, and would fold to
    /// itself: the one of several alike that keeps its name (rule 4).
    fn is_literal(&self, original: &str, name: &str) -> bool {
        let shown = self.rename.get(original).map_or(original, String::as_str);
        !shown.contains('-') && name.ends_with(shown) && {
            let head = name.len() - shown.len();
            head == 0 || (!self.rename.contains_key(original) && head == self.prefix.len() + 2)
        }
    }
}

/// Cuts `plain` and appends the hash. Where even that name is taken, the hash is taken anew.
fn free(rules: Rules<'_>, plain: &str, original: &str, taken: &mut HashSet<String>) -> String {
    let room = rules.budget.saturating_sub(SUFFIX_CHARS + 1).max(1);
    let head = &plain[..plain.len().min(room)];
    let mut seed = [rules.space.as_bytes(), b"\0", original.as_bytes()].concat();
    loop {
        let name = format!("{head}_{}", &base32(&Sha256::digest(&seed))[..SUFFIX_CHARS]);
        if taken.insert(fold(&name)) {
            return name;
        }
        seed.push(0);
    }
}

fn fold(name: &str) -> String {
    name.replace('-', "_")
}

/// Any character that some client refuses becomes `_` (rule 2).
fn sanitized(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().map(kept).collect()
}

/// Without a prefix a name must bring its own first letter: some models refuse a leading digit.
fn lettered(mut name: String) -> String {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, 's');
    }
    if name.is_empty() {
        name.push('_');
    }
    name
}

/// Lowercase base32 without padding: letters and digits that no client folds.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(DIGITS[(held >> bits) as usize & 31].into());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules<'a>(space: &'a str, prefix: &'a str, rename: &'a BTreeMap<String, String>) -> Rules<'a> {
        Rules { space, prefix, budget: 48, rename }
    }

    fn names(prefix: &str, originals: &[&str]) -> Vec<String> {
        let rename = BTreeMap::new();
        assign(rules("git", prefix, &rename), originals).into_iter().map(|n| n.name.as_str().to_owned()).collect()
    }

    #[test]
    fn an_ordinary_name_gets_the_prefix_and_nothing_else() {
        assert_eq!(names("git", &["log", "a__b", "x-y"]), ["git__log", "git__a__b", "git__x-y"]);
        assert_eq!(names("", &["log", "7zip"]), ["log", "s7zip"]);
    }

    #[test]
    fn of_names_that_read_alike_only_the_literal_one_stays() {
        let given = names("git", &["a-b", "a_b", "a.b"]);
        assert_eq!(given[1], "git__a_b");
        for other in [&given[0], &given[2]] {
            assert_eq!(other.len(), "git__a_b_".len() + SUFFIX_CHARS);
        }
        assert_eq!(given, {
            let mut turned = names("git", &["a.b", "a_b", "a-b"]);
            turned.reverse();
            turned
        });
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_its_hash() {
        let long = "x".repeat(80);
        let given = names("git", &[&long]);
        assert_eq!(given[0].len(), 48);
        assert_eq!(given, names("git", &[&long]));
    }

    #[test]
    fn the_users_own_name_stands_without_a_prefix() {
        let rename = BTreeMap::from([("get_issue".to_owned(), "issue".to_owned())]);
        let given = assign(rules("git", "git", &rename), &["get_issue", "log"]);
        assert_eq!(given[0].name.as_str(), "issue");
        assert_eq!(given[1].name.as_str(), "git__log");
    }

    #[test]
    fn bare_names_that_meet_all_get_a_suffix_and_a_prefixed_one_stays() {
        let none = BTreeMap::new();
        let mut sets: Vec<_> = [("a", ""), ("b", ""), ("git", "git")]
            .into_iter()
            .map(|(space, prefix)| {
                let originals = if prefix.is_empty() { vec!["log", "git__x"] } else { vec!["x"] };
                let rules = rules(space, prefix, &none);
                let given = assign(rules, &originals);
                (rules, originals, given)
            })
            .collect();
        settle(&mut sets, |_| false);
        let all: Vec<&str> = sets.iter().flat_map(|(_, _, names)| names.iter().map(|n| n.name.as_str())).collect();
        assert!(all[0].starts_with("log_") && all[2].starts_with("log_") && all[0] != all[2]);
        assert_eq!(all[4], "git__x");
        let folded: HashSet<String> = all.iter().map(|name| fold(name)).collect();
        assert_eq!(folded.len(), all.len());
    }

    fn originals() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::hash_set("[ab_.-]{1,4}|[a-z/é]{0,60}|[0-9]{1,3}", 1..30)
            .prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn s14_names_are_unique_legal_and_independent_of_order(
            originals in originals(), budget in 40_usize..=64, bare in any::<bool>()
        ) {
            let none = BTreeMap::new();
            let prefix = if bare { "" } else { "my-git" };
            let rules = Rules { space: "my-git", prefix, budget, rename: &none };
            let forward: Vec<&str> = originals.iter().map(String::as_str).collect();
            let backward: Vec<&str> = originals.iter().rev().map(String::as_str).collect();
            let given = assign(rules, &forward);
            let mut turned = assign(rules, &backward);
            turned.reverse();
            prop_assert_eq!(&given, &turned);
            let folded: HashSet<String> = given.iter().map(|n| n.name.folded()).collect();
            prop_assert_eq!(folded.len(), given.len());
            for named in &given {
                prop_assert!(named.name.as_str().len() <= budget);
                prop_assert!(!named.name.as_str().starts_with(|c: char| c.is_ascii_digit()));
            }
        }

        #[test]
        fn s14_no_two_servers_share_a_name(left in originals(), right in originals(), bare in any::<bool>()) {
            let none = BTreeMap::new();
            let mut sets: Vec<_> = [("l", &left), ("r", &right)]
                .into_iter()
                .map(|(space, originals)| {
                    let rules = rules(space, if bare { "" } else { space }, &none);
                    let originals: Vec<&str> = originals.iter().map(String::as_str).collect();
                    let given = assign(rules, &originals);
                    (rules, originals, given)
                })
                .collect();
            settle(&mut sets, |_| false);
            let all: Vec<String> = sets.iter().flat_map(|(_, _, n)| n.iter().map(|n| n.name.folded())).collect();
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        }
    }
}
