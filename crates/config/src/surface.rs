//! `expose` and `pinned`: whether clients are shown all tools, or three by which they find and call the others.
//!
//! Both keys stand at the top level and in profiles; a profile that lacks one takes it from there. Patterns are written as
//! `trunkline tools` shows the names.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::Findings;
use crate::patterns::Patterns;

/// `expose`, as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ToolList")]
pub(crate) enum ToolList {
    /// All tools.
    #[default]
    All,
    /// Three tools, by which the others are found, looked at and called: `find_tools`, `describe_tool`, `call_tool`.
    Search,
    /// The three, and those that `pinned` names.
    Hybrid,
}

/// What `tools/list` shows of the tools that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Surface {
    /// All of them.
    #[default]
    All,
    /// Three by which the others are found and called.
    Search,
    /// The three, and those whose names, as clients of `/mcp` know them, match.
    Hybrid(Patterns),
}

/// The two keys as they stand somewhere.
pub(crate) struct Said {
    pub(crate) expose: Option<ToolList>,
    pub(crate) pinned: Option<Vec<String>>,
}

impl Said {
    /// Reads them where they stand, at `place`; `outer` has what they lack.
    pub(crate) fn check(&self, place: &[&str], outer: Option<&Self>, findings: &mut Findings<'_>) -> Surface {
        let expose = self.expose.or_else(|| outer?.expose).unwrap_or_default();
        let pinned = self.pinned.as_ref().or_else(|| outer?.pinned.as_ref());
        match expose {
            ToolList::All => Surface::All,
            ToolList::Search => Surface::Search,
            ToolList::Hybrid => {
                let pinned = pinned.cloned().unwrap_or_default();
                if pinned.is_empty() {
                    let hint = "name the tools that stay listed, for example pinned = [\"git__*\"]; or say \"search\"";
                    let key = [place, &["expose"]].concat();
                    findings.error_with_hint(&key, "\"hybrid\" lists what `pinned` names, and it names nothing", hint);
                }
                Surface::Hybrid(pinned.into())
            }
        }
    }

    /// Whether it pins tools to a list that has no such place.
    fn pins_in_vain(&self, surface: &Surface) -> bool {
        let pins = self.pinned.as_ref().is_some_and(|pinned| !pinned.is_empty());
        pins && !matches!(surface, Surface::Hybrid(_))
    }
}

/// Reports `pinned` where no list heeds it: `places` are the top level, with what it comes to, and all profiles.
pub(crate) fn warn<'a>(
    top: (&Said, &Surface),
    profiles: impl Iterator<Item = (&'a str, &'a Said, &'a Surface)>,
    findings: &mut Findings<'_>,
) {
    let mut in_vain = Vec::new();
    let mut heeded = false;
    for (name, said, surface) in profiles {
        heeded |= said.pinned.is_none() && matches!(surface, Surface::Hybrid(_));
        if said.pins_in_vain(surface) {
            in_vain.push(format!("profiles.{name}.pinned"));
        }
    }
    if top.0.pins_in_vain(top.1) && !heeded {
        in_vain.insert(0, "pinned".to_owned());
    }
    for key in in_vain {
        findings.warnings.push(format!("`{key}` has no effect without `expose = \"hybrid\"`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flags, Loaded, Sources, load};

    fn loaded(text: &str) -> Loaded {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        load(&Sources { file: Some(path), env: Vec::new(), flags: Flags::default() }).expect("sound")
    }

    fn hybrid(pattern: &str) -> Surface {
        Surface::Hybrid(vec![pattern.to_owned()].into())
    }

    #[test]
    fn all_tools_are_listed_unless_something_else_is_asked_for() {
        let Loaded { config, warnings, .. } = loaded("[profiles.p]\n[profiles.q]\nexpose = 'search'\n");
        assert_eq!(config.surface, Surface::All);
        assert_eq!(
            config.profiles.iter().map(|(_, it)| it.surface.clone()).collect::<Vec<_>>(),
            [Surface::All, Surface::Search]
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_profile_takes_from_the_top_what_it_does_not_say() {
        let text = "expose = 'hybrid'\npinned = ['git__*']\n[profiles.a]\n[profiles.b]\npinned = ['x']\n\
                    [profiles.c]\nexpose = 'all'\n";
        let Loaded { config, warnings, .. } = loaded(text);
        let surfaces: Vec<Surface> = config.profiles.into_iter().map(|(_, profile)| profile.surface).collect();
        assert_eq!((config.surface, surfaces), (hybrid("git__*"), vec![hybrid("git__*"), hybrid("x"), Surface::All]));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn pinned_tools_that_no_list_has_a_place_for_are_told_of() {
        let vain = |key: &str| vec![format!("`{key}` has no effect without `expose = \"hybrid\"`")];
        assert_eq!(loaded("pinned = ['x']\n").warnings, vain("pinned"));
        assert_eq!(loaded("[profiles.a]\nexpose = 'search'\npinned = ['x']\n").warnings, vain("profiles.a.pinned"));
        assert!(loaded("pinned = ['x']\n[profiles.a]\nexpose = 'hybrid'\n").warnings.is_empty());
    }
}
