//! `[listen]`: where the daemon is reached, and under which names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::findings::Findings;

/// Where the daemon listens and which `Host` and `Origin` values it takes as its own (S-1…S-3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The port, the same on every host. 0 lets the system choose.
    pub port: u16,
    /// Addresses, all of which must bind: of loopback, unless `auth.tokens` and `tls_terminated` are set.
    pub hosts: Vec<IpAddr>,
    /// Declares that whoever comes by an address beyond loopback comes through a proxy of yours that speaks TLS: without,
    /// tokens would cross the network in the clear, and such addresses are refused.
    pub tls_terminated: bool,
    /// Further names that `Host` may carry, beside `127.0.0.1`, `[::1]` and `localhost` (S-2).
    pub names: Vec<String>,
    /// Origins of browser pages that may connect. Empty means none but the gateway's own (S-3).
    pub origins: Vec<String>,
    /// Whether the HTTP+SSE pair of 2024-11-05, `GET /sse` and `POST /messages`, is served beside `/mcp`.
    pub legacy_sse: bool,
}

impl Listen {
    /// The port of the one URL that every client is given.
    pub const PORT: u16 = 6270;

    /// Whether a URL leads to this daemon, in whatever spelling: such a server would call itself without end
    /// . Any path counts, since all of the port is ours. `hosts` is the system's list of names, `/etc/hosts`.
    /// A name that only a name server leads here is found out by the hop counter, at the first call.
    pub(crate) fn is_own(&self, url: &Url, hosts: &str) -> bool {
        let ours = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
            Some(Host::Ipv6(address)) => {
                let mapped =
                    address.to_ipv4_mapped().is_some_and(|inner| inner.is_loopback() || inner.is_unspecified());
                address.is_loopback() || address.is_unspecified() || mapped
            }
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                name == "localhost"
                    || name.ends_with(".localhost")
                    || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
                    || names_of_loopback(hosts).any(|own| own.eq_ignore_ascii_case(name))
            }
            None => false,
        };
        let ours = ours || url.host().is_some_and(|host| self.hosts.iter().any(|own| is_address(&host, *own)));
        ours && self.port != 0 && url.port_or_known_default() == Some(self.port)
    }

    pub(crate) fn check(&self, has_tokens: bool, findings: &mut Findings<'_>) {
        if self.hosts.is_empty() {
            findings.error(&["listen", "hosts"], "at least one address is needed");
        }
        for host in self.hosts.iter().filter(|host| !host.is_loopback()) {
            let lacks = match (has_tokens, self.tls_terminated) {
                (true, true) => continue,
                (false, _) => "no `auth.tokens` say who may call",
                (true, false) => "`listen.tls_terminated` does not say that a proxy of yours speaks TLS before it",
            };
            findings.error_with_hint(
                &["listen", "hosts"],
                format!("{host} is reachable from other machines, and {lacks}"),
                "use 127.0.0.1 and ::1; reach the daemon from elsewhere through ssh -L",
            );
        }
        for name in &self.names {
            if !is_host_name(name) {
                findings.error_with_hint(
                    &["listen", "names"],
                    "a name is a host name alone",
                    "without scheme, port and path: gateway.test",
                );
            }
        }
        for origin in &self.origins {
            // `Url` drops what makes an origin more than an origin; what is left must be all there was.
            let whole = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !whole {
                findings.error_with_hint(
                    &["listen", "origins"],
                    "not an origin",
                    "an origin is scheme, host and, unless it is the scheme's own, port: http://localhost:3000",
                );
            }
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            port: Self::PORT,
            hosts: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            names: Vec::new(),
            origins: Vec::new(),
            tls_terminated: false,
            legacy_sse: true,
        }
    }
}

fn is_address(host: &Host<&str>, own: IpAddr) -> bool {
    match host {
        Host::Ipv4(address) => own.to_canonical() == IpAddr::V4(*address),
        Host::Ipv6(address) => own.to_canonical() == IpAddr::V6(*address).to_canonical(),
        Host::Domain(_) => false,
    }
}

/// The names that `/etc/hosts` gives to loopback addresses: those of this machine are often among them.
fn names_of_loopback(hosts: &str) -> impl Iterator<Item = &str> {
    hosts.lines().flat_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let is_loopback = words.next().and_then(|word| word.parse().ok()).is_some_and(|ip: IpAddr| ip.is_loopback());
        words.filter(move |_| is_loopback)
    })
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "# own\n127.0.0.1 localhost\n127.0.1.1\tdesk.lan desk # the machine\n::1 six\n10.0.0.5 server\n";

    #[test]
    fn r34_the_own_address_is_known_in_every_spelling() {
        let listen = Listen { names: vec!["gateway.test".into()], ..Listen::default() };
        let is_own = |url: &str| listen.is_own(&Url::parse(url).expect("a URL"), HOSTS);
        for url in [
            "http://127.0.0.1:6270/mcp",
            "http://127.9.9.9:6270/other/path",
            "http://2130706433:6270/",
            "http://0x7f000001:6270/",
            "http://0177.0.0.1:6270/",
            "http://127.1:6270/",
            "http://0.0.0.0:6270/",
            "http://0:6270/",
            "http://[::1]:6270/mcp",
            "http://[0:0:0:0:0:0:0:1]:6270/",
            "http://[::]:6270/",
            "http://[::ffff:127.0.0.1]:6270/",
            "http://[::ffff:7f00:1]:6270/",
            "http://LOCALHOST:6270/",
            "http://localhost.:6270/",
            "http://me.localhost:6270/",
            "https://localhost:6270/",
            "http://user@localhost:6270/",
            "http://Gateway.Test:6270/mcp",
            "http://desk:6270/mcp",
            "http://DESK.lan:6270/mcp",
            "http://six:6270/mcp",
        ] {
            assert!(is_own(url), "{url}");
        }
        for url in [
            "http://127.0.0.1:6271/mcp",
            "http://localhost/mcp",
            "http://server:6270/mcp",
            "http://10.0.0.5:6270/mcp",
            "http://machine:6270/mcp",
            "http://localhost.example:6270/mcp",
            "http://[::2]:6270/",
        ] {
            assert!(!is_own(url), "{url}");
        }
        let wide = Listen { hosts: vec!["192.168.1.2".parse().expect("an address")], ..Listen::default() };
        assert!(wide.is_own(&Url::parse("http://192.168.1.2:6270/mcp").expect("a URL"), ""));
        assert!(wide.is_own(&Url::parse("http://[::ffff:192.168.1.2]:6270/mcp").expect("a URL"), ""));
        assert!(!wide.is_own(&Url::parse("http://192.168.1.3:6270/mcp").expect("a URL"), ""));
        let any_port = Listen { port: 0, ..Listen::default() };
        assert!(!any_port.is_own(&Url::parse("http://127.0.0.1:6270/").expect("a URL"), HOSTS));
    }
}
