//! [`Rules`]: what of the configuration the hub itself goes by. A reload puts others in their place.

use std::sync::Arc;

use trunkline_config::{Allowance, Config, ErrorForm, Limits, Profile, Reach, Surface};

use crate::View;

/// What of the configuration the hub itself goes by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    /// The form of the gateway's own failures.
    pub(crate) errors: ErrorForm,
    /// Which tools of the whole are listed.
    pub(crate) surface: Surface,
    /// Parts of the whole, by name.
    pub(crate) profiles: Vec<(Box<str>, Profile)>,
    /// How far tokens reach that do not reach everywhere.
    pub(crate) limited: Vec<(Box<str>, Reach)>,
    /// How many calls tokens are good for, where that is limited.
    pub(crate) allowances: Vec<(Box<str>, Allowance)>,
    /// The names of all tokens, where any are asked for.
    pub(crate) holders: Vec<Box<str>>,
    /// Whether tokens tell several clients' owners apart.
    pub(crate) several_owners: bool,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        let mut names = config.auth.tokens.iter().map(|(name, _)| name);
        let first = names.next();
        let several_owners = names.any(|name| Some(name) != first);
        Self {
            limits: config.limits.clone(),
            errors: config.errors,
            surface: config.surface.clone(),
            profiles: config.profiles.clone(),
            limited: config.auth.limited.clone(),
            allowances: config.auth.allowances.clone(),
            holders: config.auth.tokens.iter().map(|(name, _)| name.as_str().into()).collect(),
            several_owners,
        }
    }

    /// How many calls the tokens of this name are good for, if that is limited.
    pub(crate) fn allowance(&self, token: &str) -> Option<Allowance> {
        self.allowances.iter().find(|(known, _)| **known == *token).map(|(_, allowance)| *allowance)
    }

    /// The directories that a view's profile names, if it names some.
    pub(crate) fn roots_of(&self, view: &View) -> Option<Arc<[String]>> {
        let name = view.profile()?;
        let (_, profile) = self.profiles.iter().find(|(known, _)| **known == *name)?;
        (!profile.roots.is_empty()).then(|| profile.roots.clone().into())
    }
}
