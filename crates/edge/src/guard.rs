//! [`Guard`]: which names are the gateway's own, and which origins may speak to it (S-2, S-3).
//!
//! A web page that rebinds its own name to loopback arrives with that name in `Host`; a page that posts
//! across origins arrives with its origin in `Origin`. Both are refused on every path, health and metrics
//! included, and before routing, so that a page cannot even learn which paths exist. The names are few, so
//! they are compared one by one as text; there is no pattern, no suffix rule and no way to say "any".
//!
//! The own port is the one that the connection came by. So one that outlives a change of the port is served on, and no
//! page of whoever takes the old port is taken for our own.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};
use trunkline_config::Listen;

/// The gateway's own names, and the origins that the configuration adds.
#[derive(Debug)]
pub(crate) struct Guard {
    /// In lower case, with a port where it is not the gateway's.
    names: Vec<String>,
    listed_origins: Vec<String>,
}

/// Who refused, in words for a `text/plain` body: one line that names the setting to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs(pub(crate) &'static str);

const BAD_HOST: NotOurs = NotOurs(
    "this Host is not one of the gateway's own names; use 127.0.0.1, [::1] or localhost with its port, or add the \
     name to `listen.names`",
);
const BAD_ORIGIN: NotOurs =
    NotOurs("this Origin may not use the gateway; if it is meant to, add it to `listen.origins` in the configuration");

/// How an own origin begins. Browsers leave the port out where it is 80, as in `Host`.
const SCHEME: &[u8] = b"http://";

impl Guard {
    /// Names are `127.0.0.1`, `[::1]`, `localhost` and `names`, each with the gateway's port unless it states another.
    pub(crate) fn new(names: &[String], origins: &[String]) -> Self {
        let own = ["127.0.0.1", "[::1]", "localhost"].into_iter().chain(names.iter().map(String::as_str));
        let listed_origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { names: own.map(str::to_ascii_lowercase).collect(), listed_origins }
    }

    /// The names of a gateway that listens so: those that are configured, and its addresses.
    pub(crate) fn names(listen: &Listen) -> Vec<String> {
        let addresses = listen.hosts.iter().map(|host| match host {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        listen.names.iter().cloned().chain(addresses).collect()
    }

    /// Refuses a request whose `Host` is missing, doubled or foreign, or whose `Origin` is foreign. It came by `port`.
    pub(crate) fn check(&self, port: u16, target: &Uri, headers: &HeaderMap) -> Result<(), NotOurs> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(BAD_HOST) };
        // A target in absolute form overrides Host for some readers, so both must be ours.
        let named = target.authority().is_none_or(|authority| self.is_own(port, authority.as_str().as_bytes()));
        if !named || !self.is_own(port, host.as_bytes()) {
            return Err(BAD_HOST);
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if self.admits(port, origin) => Ok(()),
            (Some(_), _) => Err(BAD_ORIGIN),
        }
    }

    /// Returns the origin of a request if the configuration lists it: such a page gets CORS headers
    /// (mcp-protocol 3.15), the gateway's own needs none.
    pub(crate) fn listed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        headers.get(ORIGIN).filter(|origin| contains(&self.listed_origins, origin.as_bytes()))
    }

    fn is_own(&self, port: u16, authority: &[u8]) -> bool {
        let (name, told) = split_port(authority);
        let told = told.unwrap_or(b"80");
        // One dot at the end makes a name absolute; it is the same name.
        let name = name.strip_suffix(b".").unwrap_or(name);
        self.names.iter().any(|own| {
            let (own_name, own_port) = split_port(own.as_bytes());
            own_name.eq_ignore_ascii_case(name) && own_port.map_or_else(|| is_port(told, port), |own| own == told)
        })
    }

    fn admits(&self, port: u16, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        let own = origin.split_at_checked(SCHEME.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        own.is_some_and(|(_, authority)| self.is_own(port, authority)) || contains(&self.listed_origins, origin)
    }
}

/// Whether the request's path belongs to discovery documents, of which there are none: clients probe them
/// below every path and take anything but 404 for a login (clients.md 1.14).
pub(crate) fn is_well_known(path: &str) -> bool {
    path.contains("/.well-known/") || path.ends_with("/.well-known")
}

fn contains(list: &[String], text: &[u8]) -> bool {
    list.iter().any(|entry| entry.as_bytes().eq_ignore_ascii_case(text))
}

/// Whether the digits, as every client writes them, are this port.
fn is_port(digits: &[u8], port: u16) -> bool {
    let plain = digits.first().is_some_and(|first| *first != b'0') && digits.iter().all(u8::is_ascii_digit);
    plain && std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) == Some(port)
}

/// Splits `name:port`; the colons within `[…]` belong to the name.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let name_end = authority.iter().rposition(|byte| *byte == b']').map_or(0, |end| end + 1);
    match authority[name_end..].iter().position(|byte| *byte == b':') {
        Some(colon) => (&authority[..name_end + colon], Some(&authority[name_end + colon + 1..])),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard() -> Guard {
        Guard::new(&["Box.local".into(), "proxy.example:8443".into()], &["https://inspector.example/".into()])
    }

    fn ask(target: &str, headers: &[(http::HeaderName, &str)]) -> Result<(), NotOurs> {
        let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")));
        let mut headers = HeaderMap::new();
        map.for_each(|(name, value)| {
            headers.append(name, value);
        });
        guard().check(6270, &target.parse().expect("a target"), &headers)
    }

    #[test]
    fn s02_g2_only_own_names_with_the_own_port_are_hosts() {
        for host in [
            "127.0.0.1:6270",
            "[::1]:6270",
            "localhost:6270",
            "LOCALHOST:6270",
            "localhost.:6270",
            "box.local:6270",
            "proxy.example:8443",
        ] {
            assert_eq!(ask("/mcp", &[(HOST, host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:6270",
            "127.0.0.1",
            "localhost:80",
            "localhost:6270:6270",
            "localhost:06270",
            "localhost:+6270",
            "localhost:71806",
            "localhost:",
            "localhost..:6270",
            "",
            ":6270",
            "[::1]",
            "::1:6270",
            "proxy.example:6270",
            "127.0.0.1:6270@evil.example",
            "evil.example/127.0.0.1:6270",
        ] {
            assert_eq!(ask("/mcp", &[(HOST, host)]), Err(BAD_HOST), "{host}");
        }
    }

    #[test]
    fn g2_a_missing_or_doubled_host_is_refused() {
        assert_eq!(ask("/mcp", &[]), Err(BAD_HOST));
        assert_eq!(ask("/mcp", &[(HOST, "localhost:6270"), (HOST, "localhost:6270")]), Err(BAD_HOST));
        assert_eq!(ask("http://evil.example/mcp", &[(HOST, "localhost:6270")]), Err(BAD_HOST));
        assert_eq!(ask("http://localhost:6270/mcp", &[(HOST, "localhost:6270")]), Ok(()));
    }

    #[test]
    fn s03_g1_g3_an_origin_is_absent_own_or_listed() {
        let with = |origin| ask("/mcp", &[(HOST, "localhost:6270"), (ORIGIN, origin)]);
        for origin in
            ["http://localhost:6270", "http://127.0.0.1:6270", "http://[::1]:6270", "https://inspector.example"]
        {
            assert_eq!(with(origin), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "http://evil.example",
            "https://localhost:6270",
            "http://localhost",
            "http://localhost:6270.evil.example",
            "https://inspector.example.evil.example",
            "",
        ] {
            assert_eq!(with(origin), Err(BAD_ORIGIN), "{origin}");
        }
        let twice = [(HOST, "localhost:6270"), (ORIGIN, "http://localhost:6270"), (ORIGIN, "http://localhost:6270")];
        assert_eq!(ask("/mcp", &twice), Err(BAD_ORIGIN));
    }

    #[test]
    fn port_80_may_be_left_out() {
        let guard = Guard::new(&[], &[]);
        let headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("localhost")),
            (ORIGIN, HeaderValue::from_static("http://localhost")),
        ]);
        assert_eq!(guard.check(80, &Uri::from_static("/"), &headers), Ok(()));
    }

    proptest! {
        #[test]
        fn no_host_makes_it_panic(host in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = guard().is_own(6270, &host);
        }
    }

    #[test]
    fn s2_an_address_that_is_listened_on_is_a_name_of_the_gateway() {
        let listen = Listen { hosts: vec!["127.0.0.2".parse().expect("an address")], ..Listen::default() };
        let guard = Guard::new(&Guard::names(&listen), &[]);
        assert!(guard.is_own(6270, b"127.0.0.2:6270") && !guard.is_own(6270, b"127.0.0.3:6270"));
    }

    #[test]
    fn g2_the_own_port_is_the_one_that_the_connection_came_by() {
        let guard = guard();
        let is_own = |port, host: &str, origin: &str| {
            let headers = HeaderMap::from_iter([
                (HOST, HeaderValue::from_str(host).expect("a value")),
                (ORIGIN, HeaderValue::from_str(origin).expect("a value")),
            ]);
            guard.check(port, &Uri::from_static("/mcp"), &headers).is_ok()
        };
        for port in [6270, 6271, 80] {
            assert!(is_own(port, &format!("localhost:{port}"), &format!("http://localhost:{port}")));
            assert!(!is_own(port, &format!("localhost:{port}"), "http://localhost:6279"));
            assert!(!is_own(port, "localhost:6279", &format!("http://localhost:{port}")));
        }
    }
}
