//! [`Reach`]: how far a token reaches, where `[auth.tokens.NAME]` limits it (S-5).
//!
//! The limits are on addresses (a profile, or several) and on servers, and both hold. What they leave is a view of its own
//! for the holder, made as a profile's is; so nothing here is asked when a tool is called.

use trunkline_wire::ServerName;

use crate::findings::Findings;
use crate::profile::Profile;
use crate::server::Server;

/// Addresses that all limited tokens together may have open: each is a view of its own, which is kept current.
const VIEWS_MAX: usize = 256;

/// The limits as written.
#[derive(Debug)]
pub(crate) struct ReachFile {
    pub(crate) profile: Option<String>,
    pub(crate) profiles: Option<Vec<String>>,
    pub(crate) servers: Option<Vec<String>>,
}

/// How far a token reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The profile that its holder gets at `/mcp`.
    pub profile: Option<Box<str>>,
    /// The profiles at whose addresses he may come, `profile` among them; all, if none is named.
    pub profiles: Option<Vec<Box<str>>>,
    /// Only these servers, if given.
    pub servers: Option<Vec<ServerName>>,
}

/// What an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads<'a> {
    /// To everything that the token reaches.
    Whole,
    /// To this profile.
    Profile(&'a str),
}

impl Reach {
    /// What `/mcp` leads to, or `/mcp/NAME` with `name`; `None` if the token does not open that address.
    pub fn at<'a>(&'a self, name: Option<&'a str>) -> Option<Leads<'a>> {
        match (name, &self.profile, &self.profiles) {
            (None, Some(profile), _) => Some(Leads::Profile(profile)),
            (None, None, None) => Some(Leads::Whole),
            (None, None, Some(_)) => None,
            (Some(name), _, None) => Some(Leads::Profile(name)),
            (Some(name), _, Some(open)) => open.iter().any(|known| **known == *name).then_some(Leads::Profile(name)),
        }
    }
}

impl ReachFile {
    /// Whether it limits anything.
    pub(crate) fn limits(&self) -> bool {
        self.profile.is_some() || self.profiles.is_some() || self.servers.is_some()
    }

    fn check(
        self,
        holder: &str,
        servers: &[(ServerName, Server)],
        profiles: &[(Box<str>, Profile)],
        findings: &mut Findings<'_>,
    ) -> Reach {
        let known: Vec<&str> = profiles.iter().map(|(name, _)| &**name).collect();
        let mut find_profile = |key: &'static str, wanted: &str| {
            let found = known.iter().find(|name| **name == wanted).map(|name| Box::from(*name));
            if found.is_none() {
                let text = format!("there is no profile `{wanted}`");
                findings.error_with_hint(&["auth", "tokens", holder, key], text, told("profiles", &known));
            }
            found
        };
        let profile = self.profile.as_deref().and_then(|wanted| find_profile("profile", wanted));
        let open = self.profiles.as_ref().map(|wanted| {
            wanted.iter().filter_map(|wanted| find_profile("profiles", wanted)).collect::<Vec<Box<str>>>()
        });
        // A profile of his own closes the others, and its own address is open with it.
        let open = match (open, &profile) {
            (open, None) => open,
            (open, Some(own)) => Some([open.unwrap_or_default(), vec![own.clone()]].concat()),
        };
        let known: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
        let only = self.servers.as_ref().map(|wanted| {
            let found = wanted.iter().filter_map(|wanted| {
                let found = servers.iter().map(|(name, _)| name).find(|name| name.as_str() == wanted);
                if found.is_none() {
                    let text = format!("there is no server `{wanted}`");
                    findings.error_with_hint(&["auth", "tokens", holder, "servers"], text, told("servers", &known));
                }
                found.cloned()
            });
            let mut found: Vec<ServerName> = found.collect();
            found.sort();
            found.dedup();
            found
        });
        for (key, list) in [("profiles", &self.profiles), ("servers", &self.servers)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                let hint = format!("name what the token may use, or leave `{key}` out");
                findings.error_with_hint(&["auth", "tokens", holder, key], "is empty: nothing would be open", hint);
            }
        }
        Reach { profile, profiles: open, servers: only }
    }
}

/// Reads the limits, and reports what is wrong with them.
pub(crate) fn check(
    written: Vec<(String, ReachFile)>,
    servers: &[(ServerName, Server)],
    profiles: &[(Box<str>, Profile)],
    findings: &mut Findings<'_>,
) -> Vec<(Box<str>, Reach)> {
    let checked = written.into_iter().map(|(holder, file)| {
        let reach = file.check(&holder, servers, profiles, findings);
        (Box::from(holder), reach)
    });
    let checked: Vec<(Box<str>, Reach)> = checked.collect();
    let open = |reach: &Reach| 1 + reach.profiles.as_ref().map_or(profiles.len(), Vec::len);
    let views: usize = checked.iter().map(|(_, reach)| open(reach)).sum();
    if views > VIEWS_MAX {
        let text =
            format!("limited tokens have {views} addresses open, each with lists of its own; at most {VIEWS_MAX}");
        findings.error_with_hint(&["auth", "tokens"], text, "`profile` leaves a token the addresses that it needs");
    }
    checked
}

fn told(what: &str, known: &[&str]) -> String {
    if known.is_empty() { format!("there are no {what} yet") } else { format!("the {what} are: {}", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigErrors, Flags, Loaded, Sources, load};

    const REST: &str = "\n[profiles.ci]\n[profiles.work]\n[mcp_servers.git]\ncommand = 'git-mcp'\n[mcp_servers.web]\n\
                        url = 'https://x.example/mcp'\n";

    fn loaded(limits: &str) -> Result<Loaded, ConfigErrors> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        let token = "token = '${env:TOKEN}'";
        std::fs::write(&path, format!("[auth.tokens.x]\n{token}\n{limits}\n{REST}")).expect("written");
        let env = [("TOKEN".to_owned(), "0123456789abcdef0123456789abcdef".to_owned())].into();
        load(&Sources { file: Some(path), env, flags: Flags::default() })
    }

    fn reach(limits: &str) -> Option<Reach> {
        loaded(limits).expect("sound").config.auth.reach("x").cloned()
    }

    fn at<'a>(reach: &'a Reach, name: Option<&'a str>) -> &'a str {
        match reach.at(name) {
            None => "closed",
            Some(Leads::Whole) => "whole",
            Some(Leads::Profile(profile)) => profile,
        }
    }

    #[test]
    fn s5_limits_say_which_addresses_a_token_opens_and_to_what() {
        assert_eq!(reach(""), None, "a table alone limits nothing");
        for (limits, [mcp, ci, work]) in [
            ("profile = 'ci'", ["ci", "ci", "closed"]),
            ("profiles = ['work']", ["closed", "closed", "work"]),
            ("profile = 'ci'\nprofiles = ['work']", ["ci", "ci", "work"]),
            ("servers = ['git']", ["whole", "ci", "work"]),
            ("servers = ['git']\nprofile = 'ci'", ["ci", "ci", "closed"]),
        ] {
            let reach = reach(limits).expect("limited");
            let led = [at(&reach, None), at(&reach, Some("ci")), at(&reach, Some("work"))];
            assert_eq!(led, [mcp, ci, work], "{limits}");
        }
        let servers = reach("servers = ['web', 'git', 'web']").and_then(|reach| reach.servers);
        let names: Vec<String> = servers.into_iter().flatten().map(|name| name.to_string()).collect();
        assert_eq!(names, ["git", "web"]);
    }

    #[test]
    fn s5_limits_that_name_nothing_keep_the_file_out_and_say_what_there_is() {
        for (limits, key, told) in [
            ("profile = 'cii'", "auth.tokens.x.profile", "the profiles are: ci, work"),
            ("profiles = ['ci', 'home']", "auth.tokens.x.profiles", "there is no profile `home`"),
            ("servers = ['gti']", "auth.tokens.x.servers", "the servers are: git, web"),
            ("servers = []", "auth.tokens.x.servers", "leave `servers` out"),
            ("profiles = []", "auth.tokens.x.profiles", "nothing would be open"),
            ("profil = 'ci'", "auth.tokens.x", "profil"),
            ("servers = 'git'", "auth.tokens.x.servers", "a list"),
        ] {
            let text = loaded(limits).expect_err(limits).to_string();
            assert!(text.contains(key) && text.contains(told), "{limits}: {text}");
        }
    }

    #[test]
    fn the_widest_token_is_one_without_limits_if_there_is_one() {
        let auth = loaded("profile = 'ci'\n[auth.tokens.y]\ntoken = 'another-0123456789abcdef0123456789abcdef'");
        let auth = auth.expect("sound").config.auth;
        assert_eq!(auth.widest().map(crate::Secret::expose), Some("another-0123456789abcdef0123456789abcdef"));
        let alone = loaded("profile = 'ci'").expect("sound").config.auth;
        assert!(alone.widest().is_some(), "better than none");
    }
}
