//! [`Proxies`]: the proxies that the environment names for servers beyond this machine and its private network.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in large letters and in small, mean what they mean to curl.
//! They are read from the daemon's own variables, once per dial, and which of them stands behind a connection is known,
//! so that a fault of a proxy names the variable to change. A proxy that cannot be used fails the servers behind it
//! alone, and only until a variable says otherwise.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use trunkline_telemetry::redact;
use url::Url;

use super::FaultPoint;
use super::failure::{Failure, Seen};

/// What the environment says of proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    all: Option<Setting>,
    no: String,
}

#[derive(Clone)]
struct Setting {
    variable: String,
    value: String,
}

/// The proxy that a server is reached through.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Via {
    variable: String,
    /// With the password, if it has one.
    pub(super) url: Url,
}

impl Proxies {
    /// Reads the variables of the environment that speak of proxies.
    pub(crate) fn of(variables: &[(String, String)]) -> Self {
        let set = |large: &str, small: &str| {
            let find = |wanted: &str| variables.iter().find(|(name, _)| name == wanted);
            let (variable, value) = find(large).or_else(|| find(small)).filter(|(_, value)| !value.is_empty())?;
            Some(Setting { variable: variable.clone(), value: value.clone() })
        };
        Self {
            http: set("HTTP_PROXY", "http_proxy"),
            https: set("HTTPS_PROXY", "https_proxy"),
            all: set("ALL_PROXY", "all_proxy"),
            no: set("NO_PROXY", "no_proxy").map(|setting| setting.value).unwrap_or_default(),
        }
    }

    /// Whether the environment says anything of proxies. Else the system may, where it has such a setting.
    pub(super) fn any(&self) -> bool {
        self.http.is_some() || self.https.is_some() || self.all.is_some()
    }

    /// The proxy for the server at `url`, if there is one.
    pub(super) fn via(&self, url: &Url) -> Result<Option<Via>, Failure> {
        let own = if url.scheme() == "https" { &self.https } else { &self.http };
        let Some(Setting { variable, value }) = own.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        if self.exempts(url) {
            return Ok(None);
        }
        let unusable = |why: &str| {
            let host = url.host_str().unwrap_or_default();
            let text =
                format!("the proxy of `{variable}` cannot be used: {why}; correct it, or list {host} in `NO_PROXY`");
            Failure::new(FaultPoint::NothingSent, Seen::Setting, text)
        };
        // People leave the scheme out; what is spoken to a proxy is HTTP.
        let whole = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let proxy = Url::parse(&whole).map_err(|_| unusable("it is no address"))?;
        if !matches!(proxy.scheme(), "http" | "https") {
            let why = format!("{}:// is not supported, http:// and https:// are", proxy.scheme());
            return Err(unusable(&why));
        }
        Ok(Some(Via { variable: variable.clone(), url: proxy }))
    }

    fn exempts(&self, url: &Url) -> bool {
        let Ok(uri) = url.as_str().parse() else { return false };
        Matcher::builder().all("http://any").no(self.no.as_str()).build().intercept(&uri).is_none()
    }
}

impl Via {
    /// The proxy wants to know who asks.
    pub(super) fn wants_credential(&self) -> Failure {
        let text = format!(
            "{self} wants a user name and a password (407); put them into the variable, as http://user:password@host:port, \
             or list the server's host in `NO_PROXY`"
        );
        Failure::new(FaultPoint::NothingSent, Seen::Setting, text)
    }

    /// The proxy cannot be reached.
    pub(super) fn unreachable(&self, why: &str) -> Failure {
        let text = format!(
            "{self} cannot be reached: {}; correct the variable, or list the server's host in `NO_PROXY`",
            redact::printable(why, 200)
        );
        Failure::new(FaultPoint::NothingSent, Seen::Unreachable, text)
    }

    /// The proxy does not connect to where it is asked to.
    pub(super) fn refuses(&self, to: &str) -> Failure {
        let text =
            format!("{self} does not connect to {to}; if no proxy is needed, list the server's host in `NO_PROXY`");
        Failure::new(FaultPoint::NothingSent, Seen::Unreachable, text)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the proxy {} of `{}`", redact::url(self.url.as_str()).trim_end_matches('/'), self.variable)
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}=***", self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxies::of(&owned)
    }

    fn via(proxies: &Proxies, url: &str) -> String {
        match proxies.via(&url.parse().expect("a URL")) {
            Ok(Some(via)) => via.to_string(),
            Ok(None) => "direct".to_owned(),
            Err(failure) => failure.text,
        }
    }

    #[test]
    fn r43_a_variable_in_large_letters_wins_and_one_for_all_comes_last() {
        let set = proxies(&[
            ("https_proxy", "http://small:1"),
            ("HTTPS_PROXY", "large:2"),
            ("ALL_PROXY", "http://all:3"),
            ("HTTP_PROXY", ""),
        ]);
        assert_eq!(via(&set, "https://mcp.example/mcp"), "the proxy http://large:2 of `HTTPS_PROXY`");
        assert_eq!(via(&set, "http://mcp.example/mcp"), "the proxy http://all:3 of `ALL_PROXY`");
        assert_eq!(via(&Proxies::default(), "https://mcp.example/mcp"), "direct");
    }

    #[test]
    fn r43_no_proxy_exempts_names_with_what_is_below_them_and_networks() {
        let set = proxies(&[("ALL_PROXY", "http://all:3"), ("no_proxy", "example.org, .corp.test,203.0.113.0/24")]);
        for direct in ["example.org", "mcp.example.org:8443", "a.corp.test", "203.0.113.7"] {
            assert_eq!(via(&set, &format!("https://{direct}/mcp")), "direct", "{direct}");
        }
        for through in ["notexample.org", "corp.test.evil", "203.0.114.7"] {
            assert_ne!(via(&set, &format!("https://{through}/mcp")), "direct", "{through}");
        }
        assert_eq!(via(&proxies(&[("ALL_PROXY", "x:1"), ("NO_PROXY", "*")]), "https://a.b/"), "direct");
    }

    #[test]
    fn r43_a_proxy_that_cannot_be_used_is_told_with_its_variable_and_without_its_password() {
        let socks = proxies(&[("ALL_PROXY", "socks5://user:hunter2@proxy:1080"), ("NO_PROXY", "example.org")]);
        let text = via(&socks, "https://mcp.example/mcp");
        assert!(text.contains("`ALL_PROXY`") && text.contains("socks5:// is not supported"), "{text}");
        assert!(text.contains("list mcp.example in `NO_PROXY`"), "{text}");
        assert_eq!(via(&socks, "https://example.org/mcp"), "direct", "the others are not affected");
        let good = proxies(&[("HTTPS_PROXY", "http://user:hunter2@proxy:3128")]);
        let shown = via(&good, "https://mcp.example/mcp");
        let debug = format!("{good:?} {:?}", good.via(&"https://mcp.example/".parse().expect("a URL")));
        assert!(!(shown + &text + &debug).contains("hunter2"));
    }
}
