//! [`Diff`]: what a changed configuration asks of a running daemon.
//!
//! Settings are split by what a change of them costs (`server.rs`), so plain equality on effective values, with defaults
//! merged in and secrets resolved, says what is to be done: a server whose part is equal keeps its connection, whatever
//! else was written. A diff holds no values; whoever applies it has both configurations.

use serde::Serialize;
use trunkline_wire::ServerName;

use crate::server::Server;
use crate::{Config, Log};

/// What differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, one per section")]
pub struct Diff {
    /// Each server that differs: those of the new configuration in its order, then those it has no more.
    pub servers: Vec<(ServerName, Change)>,
    /// The servers that are in both are in another order.
    pub order: bool,
    /// Keys of `[listen]` that differ.
    pub listen: Vec<String>,
    /// `auth.tokens` differ.
    pub auth: bool,
    /// `audit.file` differs.
    pub audit: bool,
    /// `[otel]` differs.
    pub otel: bool,
    /// Keys of `[limits]` that differ.
    pub limits: Vec<String>,
    /// `expose` or `pinned` differs.
    pub surface: bool,
    /// The profiles differ.
    pub profiles: bool,
    /// `errors` differs.
    pub errors: bool,
    /// Keys of `[log]` that differ.
    pub log: Vec<String>,
}

/// What became of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is no more.
    Removed,
    /// It is another.
    Changed(Parts),
}

/// The parts of a server that differ, by what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, one per part of a server")]
pub struct Parts {
    /// It was switched on or off.
    pub enabled: bool,
    /// A new connection is needed: another address, command, credential, era, or word about what it may ask.
    pub reconnect: bool,
    /// Timeouts and limits, from the next call on.
    pub retune: bool,
    /// What clients see of it.
    pub reexpose: bool,
}

impl Diff {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let find = |servers: &[(ServerName, Server)], name: &ServerName| {
            servers.iter().find(|(known, _)| known == name).map(|(_, server)| server.clone())
        };
        let mut servers = Vec::new();
        for (name, server) in &new.servers {
            let change = match find(&old.servers, name) {
                None => Some(Change::Added),
                Some(before) => Parts::between(&before, server).map(Change::Changed),
            };
            servers.extend(change.map(|change| (name.clone(), change)));
        }
        let gone = old.servers.iter().filter(|(name, _)| find(&new.servers, name).is_none());
        servers.extend(gone.map(|(name, _)| (name.clone(), Change::Removed)));
        let both = |one: &Config, other: &Config| -> Vec<ServerName> {
            let names = one.servers.iter().map(|(name, _)| name);
            names.filter(|name| other.servers.iter().any(|(known, _)| known == *name)).cloned().collect()
        };
        Self {
            servers,
            order: both(old, new) != both(new, old),
            listen: changed_keys(&old.listen, &new.listen),
            auth: old.auth != new.auth,
            audit: old.audit != new.audit,
            otel: old.otel != new.otel,
            limits: changed_keys(&old.limits, &new.limits),
            surface: old.surface != new.surface,
            profiles: old.profiles != new.profiles,
            errors: old.errors != new.errors,
            log: changed_keys::<Log>(&old.log, &new.log),
        }
    }

    /// Whether the configurations are equal.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Parts {
    /// Compares two configurations of a server; `None` if they are equal.
    pub fn between(old: &Server, new: &Server) -> Option<Self> {
        // By name, so that a new field must be given a place here.
        let Server { enabled, connect, era, sharing, declared, tuning, expose, problem, secrets, late } = old;
        let parts = Self {
            enabled: *enabled != new.enabled,
            reconnect: *connect != new.connect
                || *era != new.era
                || *sharing != new.sharing
                || *declared != new.declared
                || *problem != new.problem
                || *secrets != new.secrets
                || *late != new.late,
            retune: *tuning != new.tuning,
            reexpose: *expose != new.expose,
        };
        (parts != Self::default()).then_some(parts)
    }
}

/// The keys whose values differ, in the order of the alphabet.
fn changed_keys<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let table = |section: &T| match serde_json::to_value(section) {
        Ok(serde_json::Value::Object(table)) => table,
        Ok(_) | Err(_) => unreachable!("a section is a table of plain values"),
    };
    let (old, new) = (table(old), table(new));
    old.into_iter().filter(|(key, value)| new.get(key) != Some(value)).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Auth, Connect, ErrorForm, Expose, Limits, Listen, LogLevel, Profile, Secret, Stdio, Tuning};

    fn server(command: &str, token: u8, tool_timeout: u64, prefix: bool, enabled: bool) -> Server {
        let mut stdio = Stdio::new(command, []);
        let token = Secret::new(format!("token-{token}"));
        stdio.env.insert("TOKEN".to_owned(), token.clone());
        Server {
            enabled,
            tuning: Tuning { tool_timeout: Duration::from_secs(tool_timeout), ..Tuning::default() },
            expose: Expose { prefix: prefix.then(|| "p".to_owned()), ..Expose::default() },
            secrets: vec![token],
            ..Server::new(Connect::Stdio(stdio))
        }
    }

    fn configs() -> impl Strategy<Value = Config> {
        let server = (0..3_u8, 0..2_u8, 1..3_u64, any::<bool>(), any::<bool>()).prop_map(
            |(command, token, time, prefix, enabled)| {
                server(["npx", "uvx", "node"][usize::from(command)], token, time, prefix, enabled)
            },
        );
        let servers = prop::collection::vec((0..6_u8, server), 0..6).prop_map(|servers| {
            let mut seen = std::collections::BTreeSet::new();
            let named = servers.into_iter().filter(|(name, _)| seen.insert(*name));
            named.map(|(name, server)| (ServerName::new(&format!("s{name}")).expect("a name"), server)).collect()
        });
        (servers, 0..2_u16, 1..3_usize, any::<bool>(), any::<bool>()).prop_map(
            |(servers, port, in_flight, protocol, debug)| Config {
                listen: Listen { port, ..Listen::default() },
                auth: Auth {
                    tokens: vec![("x".into(), Secret::new(format!("token-{}", port % 2)))],
                    limited: if debug { vec![("x".into(), crate::Reach::default())] } else { Vec::new() },
                    allowances: Vec::new(),
                },
                audit: crate::Audit { file: debug.then(|| "calls".into()) },
                otel: crate::Otel { propagate: debug, ..crate::Otel::default() },
                limits: Limits { in_flight, ..Limits::default() },
                errors: if protocol { ErrorForm::Protocol } else { ErrorForm::Result },
                surface: if debug { crate::Surface::Search } else { crate::Surface::All },
                log: Log { level: if debug { LogLevel::Debug } else { LogLevel::Info }, ..Log::default() },
                servers,
                profiles: vec![("p".into(), Profile { bare_names: in_flight > 1, ..Profile::default() })],
            },
        )
    }

    /// Takes over from `new` only what the diff names.
    fn applied(old: &Config, diff: &Diff, new: &Config) -> Config {
        let of = |config: &Config, name: &ServerName| {
            config.servers.iter().find(|(known, _)| known == name).map(|(_, server)| server.clone())
        };
        let mut out = old.clone();
        for (name, change) in &diff.servers {
            match change {
                Change::Added => out.servers.push((name.clone(), of(new, name).expect("it is new"))),
                Change::Removed => out.servers.retain(|(known, _)| known != name),
                Change::Changed(parts) => {
                    let target = of(new, name).expect("it is in both");
                    let (_, server) = out.servers.iter_mut().find(|(known, _)| known == name).expect("it is in both");
                    if parts.enabled {
                        server.enabled = target.enabled;
                    }
                    if parts.retune {
                        server.tuning = target.tuning.clone();
                    }
                    if parts.reexpose {
                        server.expose = target.expose.clone();
                    }
                    if parts.reconnect {
                        let Server { enabled, tuning, expose, .. } = server.clone();
                        *server = Server { enabled, tuning, expose, ..target };
                    }
                }
            }
        }
        let place = |name: &ServerName| new.servers.iter().position(|(known, _)| known == name);
        if diff.order || diff.servers.iter().any(|(_, change)| *change == Change::Added) {
            out.servers.sort_by_key(|(name, _)| place(name));
        }
        if !diff.listen.is_empty() {
            out.listen = new.listen.clone();
        }
        if diff.auth {
            out.auth = new.auth.clone();
        }
        if diff.audit {
            out.audit = new.audit.clone();
        }
        if diff.otel {
            out.otel = new.otel.clone();
        }
        if !diff.limits.is_empty() {
            out.limits = new.limits.clone();
        }
        if diff.surface {
            out.surface = new.surface.clone();
        }
        if diff.profiles {
            out.profiles = new.profiles.clone();
        }
        if diff.errors {
            out.errors = new.errors;
        }
        if !diff.log.is_empty() {
            out.log = new.log.clone();
        }
        out
    }

    proptest! {
        #[test]
        fn r36_equal_configurations_differ_in_nothing_and_a_diff_leads_to_its_target(old in configs(), new in configs()) {
            prop_assert!(Diff::between(&old, &old.clone()).is_empty());
            let diff = Diff::between(&old, &new);
            prop_assert_eq!(diff.is_empty(), old == new);
            prop_assert_eq!(applied(&old, &diff, &new), new);
        }
    }

    #[test]
    fn r36_a_change_costs_no_more_than_it_must() {
        let parts = |other: &Server| Parts::between(&server("npx", 0, 1, false, true), other).expect("it differs");
        let only = Parts::default();
        assert_eq!(parts(&server("npx", 0, 2, false, true)), Parts { retune: true, ..only });
        assert_eq!(parts(&server("npx", 0, 1, true, true)), Parts { reexpose: true, ..only });
        assert_eq!(parts(&server("npx", 0, 1, false, false)), Parts { enabled: true, ..only });
        assert_eq!(parts(&server("npx", 1, 1, false, true)), Parts { reconnect: true, ..only });
        assert_eq!(parts(&server("uvx", 0, 1, false, true)), Parts { reconnect: true, ..only });
    }

    #[test]
    fn keys_are_named_as_in_the_file() {
        let old = Config::default();
        let limits = Limits { session_idle: Duration::from_secs(99), page_size: Some(5), ..Limits::default() };
        let log = Log { level: LogLevel::Trace, ..Log::default() };
        let new = Config { limits, log, listen: Listen { port: 1, ..Listen::default() }, ..Config::default() };
        let diff = Diff::between(&old, &new);
        assert_eq!(
            (diff.limits, diff.log),
            (vec!["page_size".into(), "session_idle_sec".into()], vec!["level".into()])
        );
        assert_eq!(diff.listen, ["port"]);
    }
}
