//! `[auth]`: tokens that clients must show, beside what the kernel and the address say of them (S-5, S-6).
//!
//! Nobody needs one on a machine of his own. Once a token is set every client needs one, wherever it is. A token that
//! cannot be had is an error of the whole file, unlike a server's secret: a door that somebody wanted closed never opens
//! because a variable is missing. How far a token reaches stands in `reach.rs`; how many calls it is good for here.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::findings::Findings;
use crate::reach::{Reach, ReachFile};
use crate::secret::{Resolver, Secret};
use crate::tool::{self, IN_FLIGHT_MAX};

/// Shortest token: what 256 random bits take in the densest usual form, less a little.
const TOKEN_CHARS_MIN: usize = 32;

/// Longest token: far from what servers and clients take in a header.
const TOKEN_CHARS_MAX: usize = 1024;

/// Tokens of one name that are good at a time: the one in use and its successor.
const TOKENS_PER_NAME_MAX: usize = 2;

/// Names: more than anybody tells apart, and all are compared at each request.
const NAMES_MAX: usize = 64;

/// `[auth]` as written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(crate) struct AuthFile {
    /// By the name of who holds it, a token, or two while one takes the place of the other: `${env:NAME}` or `${file:PATH}`,
    /// at least 32 characters. Once there is one, each request needs one, as `Authorization: Bearer …`. A table limits how far
    /// it reaches.
    pub(crate) tokens: BTreeMap<String, HolderFile>,
}

/// Who holds a token, as written: the token or tokens alone, or a table with limits.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename = "Holder", untagged)]
pub(crate) enum HolderFile {
    /// The tokens alone, which reach everything.
    Whole(TokenFile),
    /// With limits.
    Limited(LimitedFile),
}

/// The tokens of one name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Token")]
pub(crate) enum TokenFile {
    /// The one in use.
    One(String),
    /// It and its successor.
    Several(Vec<String>),
}

/// A token, how far it reaches, and how many calls it is good for. With `profile`, `profiles` or `servers` its holder sees and
/// calls nothing beyond those, and has no use of the dashboard, `/metrics` and the full `/health`, which tell of everything.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LimitedToken")]
pub(crate) struct LimitedFile {
    /// The token, or two while one takes the place of the other.
    pub(crate) token: TokenFile,
    /// The profile that its holder gets at `/mcp`. Other addresses, `/mcp/NAME`, are open to him only if `profiles` names
    /// them.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// Profiles that its holder may use, at `/mcp/NAME`. Without `profile`, `/mcp` itself is closed to him.
    #[serde(default)]
    pub(crate) profiles: Option<Vec<String>>,
    /// Only these servers, at whatever address.
    #[serde(default)]
    pub(crate) servers: Option<Vec<String>>,
    /// Tool calls of its holder at the same time, at whatever server, those that wait for a person's answer too; the others wait as
    /// long as the `limits.queue_wait_sec` of the server says. Default: no limit.
    #[serde(default)]
    pub(crate) in_flight: Option<usize>,
    /// Tool calls of its holder within a minute; what is beyond waits in the same way, and is refused if it would be longer.
    /// Default: no limit.
    #[serde(default)]
    pub(crate) per_minute: Option<usize>,
}

/// Who may connect with what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// A name, and a token that is good for it. A name may stand here twice. Empty: no token is asked for.
    pub tokens: Vec<(String, Secret)>,
    /// The names whose tokens are limited, and to what.
    pub limited: Vec<(Box<str>, Reach)>,
    /// The names whose calls are limited, and to how many.
    pub allowances: Vec<(Box<str>, Allowance)>,
}

/// How many tool calls the holder of a token may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// At the same time.
    pub in_flight_max: Option<usize>,
    /// Within a minute.
    pub per_minute: Option<u32>,
}

impl Auth {
    /// How far the tokens of this name reach; `None`: everywhere.
    pub fn reach(&self, name: &str) -> Option<&Reach> {
        self.limited.iter().find(|(known, _)| **known == *name).map(|(_, reach)| reach)
    }

    /// The first token that reaches everywhere, else the first.
    pub fn widest(&self) -> Option<&Secret> {
        let mut tokens = self.tokens.iter();
        let whole = tokens.clone().find(|(name, _)| self.reach(name).is_none());
        whole.or_else(|| tokens.next()).map(|(_, token)| token)
    }
}

impl AuthFile {
    /// Looks up the tokens and reports what is wrong with them. What limits them is left as it is written: it names what is
    /// read later.
    pub(crate) fn check(
        self,
        resolver: &Resolver<'_>,
        findings: &mut Findings<'_>,
    ) -> (Auth, Vec<(String, ReachFile)>) {
        let mut tokens: Vec<(String, Secret)> = Vec::new();
        let (mut limited, mut allowances) = (Vec::new(), Vec::new());
        if self.tokens.len() > NAMES_MAX {
            findings.error(&["auth", "tokens"], format!("holds more than {NAMES_MAX} names"));
        }
        for (name, written) in self.tokens {
            let key = ["auth", "tokens", name.as_str()];
            let written = match written {
                HolderFile::Whole(token) => token,
                HolderFile::Limited(LimitedFile { token, profile, profiles, servers, in_flight, per_minute }) => {
                    let reach = ReachFile { profile, profiles, servers };
                    limited.extend(reach.limits().then(|| (name.clone(), reach)));
                    let allowance = Allowance {
                        in_flight_max: tool::count(
                            &[&key[..], &["in_flight"]].concat(),
                            in_flight,
                            IN_FLIGHT_MAX,
                            findings,
                        ),
                        per_minute: tool::per_minute(&[&key[..], &["per_minute"]].concat(), per_minute, findings),
                    };
                    allowances.extend((allowance != Allowance::default()).then(|| (name.as_str().into(), allowance)));
                    token
                }
            };
            let written = match written {
                TokenFile::One(text) => vec![text],
                TokenFile::Several(texts) => texts,
            };
            if written.is_empty() || written.len() > TOKENS_PER_NAME_MAX {
                findings.error(&key, "wants one token, or two while one takes the place of the other");
            }
            if !is_name(&name) {
                findings.error(&key, "a name is of 1 to 64 letters, digits, `_`, `-` and `.`");
            }
            for text in written {
                if let Some(secret) = token(&key, &text, resolver, findings) {
                    if tokens.iter().any(|(_, other)| *other == secret) {
                        findings.error(&key, "is a token that stands here already; each wants one of its own");
                    }
                    tokens.push((name.clone(), secret));
                }
            }
        }
        (Auth { tokens, limited: Vec::new(), allowances }, limited)
    }
}

/// By hand, so that what is wrong within a table is told with its key, which an untagged form would not.
impl<'de> Deserialize<'de> for HolderFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = HolderFile;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a token, two of them, or a table with `token`")
            }

            fn visit_str<E>(self, text: &str) -> Result<HolderFile, E> {
                Ok(HolderFile::Whole(TokenFile::One(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<HolderFile, A::Error> {
                let texts = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(HolderFile::Whole(TokenFile::Several(texts)))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<HolderFile, A::Error> {
                LimitedFile::deserialize(MapAccessDeserializer::new(table)).map(HolderFile::Limited)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

fn token(key: &[&str], text: &str, resolver: &Resolver<'_>, findings: &mut Findings<'_>) -> Option<Secret> {
    let value = resolver.expand(text);
    if let Some(problem) = value.malformed {
        findings.error(key, problem);
        return None;
    }
    if !value.missing.is_empty() {
        findings.error_with_hint(key, value.missing.join("; "), "without it nobody could connect");
        return None;
    }
    if value.unprinted {
        findings.error(key, "${cmd:…} and ${keyring:…} are not asked for the door; ${file:…} and ${env:…} go here");
        return None;
    }
    if !value.referred() {
        let name = key.join(".");
        findings
            .warnings
            .push(format!("{name}: stands in the file in plain text; safer is `${{env:NAME}}` or `${{file:PATH}}`"));
    }
    let fits = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&value.text.len());
    if !fits || !value.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem =
            format!("a token is of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII characters without spaces");
        findings.error_with_hint(key, problem, "`openssl rand -hex 32` makes one");
        return None;
    }
    Some(Secret::new(value.text))
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use crate::{ConfigErrors, Flags, Loaded, Sources, load};

    const LONG: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "another-0123456789abcdef0123456789";

    fn loaded(text: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&Sources { file: Some(path), env, flags: Flags::default() })
    }

    fn refused(text: &str) -> String {
        loaded(text, &[("SHORT", "secret-0815"), ("LONG", LONG)]).expect_err("refused").to_string()
    }

    #[test]
    fn s6_a_name_has_one_token_or_two_and_none_is_the_default() {
        assert!(loaded("", &[]).expect("sound").config.auth.tokens.is_empty());
        let text = "[auth.tokens]\nci = ['${env:A}', '${env:B}']\nlaptop = '${env:C}'\n";
        let env = [("A", LONG), ("B", OTHER), ("C", "yet-another-0123456789abcdef01234567")];
        let loaded = loaded(text, &env).expect("sound");
        let names: Vec<&str> = loaded.config.auth.tokens.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, loaded.warnings.len()), (vec!["ci", "ci", "laptop"], 0));
        assert!(!format!("{:?}", loaded.config).contains(LONG), "a token is a secret");
    }

    #[test]
    fn s6_what_is_no_token_keeps_the_file_out_and_is_not_shown() {
        for (written, told) in [
            ("x = '${env:SHORT}'", "32 to 1024 visible ASCII"),
            ("x = '${env:LONG} '", "without spaces"),
            ("x = '${env:NOWHERE}'", "NOWHERE is not set"),
            ("x = '${file:/nowhere/token}'", "/nowhere/token is needed"),
            ("x = []", "wants one token, or two"),
            ("x = ['${env:LONG}', '${env:LONG}']", "stands here already"),
            ("x = '${env:LONG}'\ny = '${env:LONG}'", "stands here already"),
            ("'a b' = '${env:LONG}'", "a name is of"),
            ("x = 7", "auth.tokens.x"),
        ] {
            let text = refused(&format!("[auth.tokens]\n{written}\n"));
            assert!(text.contains(told) && !text.contains("0815") && !text.contains(LONG), "{written}: {text}");
        }
    }

    #[test]
    fn s1_beyond_loopback_wants_tokens_and_the_word_that_tls_is_spoken() {
        let text = |listen: &str, auth: &str| format!("[listen]\nhosts = ['192.168.1.2']\n{listen}\n{auth}\n");
        let tokens = "[auth.tokens]\nx = '${env:LONG}'";
        assert!(refused(&text("", "")).contains("no `auth.tokens` say who may call"));
        assert!(refused(&text("tls_terminated = true", "")).contains("no `auth.tokens`"));
        assert!(refused(&text("", tokens)).contains("`listen.tls_terminated`"));
        assert!(loaded(&text("tls_terminated = true", tokens), &[("LONG", LONG)]).is_ok());
    }

    #[test]
    fn a_token_may_be_good_for_so_many_calls_and_reach_everywhere_all_the_same() {
        let text = |limits: &str| format!("[auth.tokens.ci]\ntoken = '${{env:LONG}}'\n{limits}\n");
        let auth = loaded(&text("in_flight = 2\nper_minute = 60"), &[("LONG", LONG)]).expect("sound").config.auth;
        let allowance = super::Allowance { in_flight_max: Some(2), per_minute: Some(60) };
        assert_eq!((auth.allowances, auth.limited), (vec![("ci".into(), allowance)], vec![]));
        assert!(loaded(&text(""), &[("LONG", LONG)]).expect("sound").config.auth.allowances.is_empty());
        for (limits, place) in
            [("in_flight = 0", "auth.tokens.ci.in_flight"), ("per_minute = 0", "auth.tokens.ci.per_minute")]
        {
            let told = refused(&text(limits));
            assert!(told.contains(place) && told.contains("must be from 1 to"), "{told}");
        }
        assert!(refused(&text("in_fligth = 2")).contains("did you mean `in_flight`?"));
    }

    #[test]
    fn a_token_in_plain_text_works_with_a_warning() {
        let loaded = loaded(&format!("[auth.tokens]\nx = '{LONG}'\n"), &[]).expect("sound");
        assert_eq!(loaded.warnings.len(), 1);
        assert!(
            loaded.warnings[0].starts_with("auth.tokens.x: stands in the file in plain text"),
            "{:?}",
            loaded.warnings
        );
    }
}
