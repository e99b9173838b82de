//! [`Fetcher`]: how authorization servers and their metadata are reached (S-26).
//!
//! What is fetched here was named by a server, which may be anybody's. So a name is resolved once, its addresses are looked
//! at, and exactly those are connected to. Addresses of this machine and of private networks are only for servers that are
//! there themselves; those of clouds' metadata services are for nobody. A redirect is never followed here, since the body
//! that it would carry along may hold a code or a token; discovery follows those within the origin by itself, a few of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rmcp::transport::auth::{OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url, form_urlencoded};

use crate::limits::{DOCUMENT_BYTES_MAX, FETCH_TIMEOUT, REDIRECTS_MAX};

/// Reaches what a server named.
pub(crate) struct Fetcher {
    client: reqwest::Client,
    reach: Reach,
    /// The resource as it is to be named, where the library would write it in another form.
    resource: Option<String>,
    /// The last request went out, and no answer of the authorization server's own came.
    unheard: AtomicBool,
    /// Redirects that followed one another so far.
    hops: AtomicUsize,
    /// What the library has no words for, of the last answer.
    said: Mutex<Said>,
}

/// Members of answers that the library does not pass on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    /// The code of a refusal.
    pub(crate) error: Option<String>,
    /// When the secret of a registration ends, in seconds of the Unix age; 0 for never.
    pub(crate) client_secret_expires_at: u64,
}

/// How near the server itself is; what it names may be as near, and no nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Somewhere on the internet.
    Public,
    /// On a private network.
    Private,
    /// On this machine.
    Loopback,
}

/// Why something is not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// S-26.
    #[error("discovery refused: {0} is not a public address, and the server itself is")]
    TooNear(String),
    /// S-26.
    #[error("discovery refused: {0} is not https")]
    Plain(String),
    /// Nothing to connect to.
    #[error("{0} has no address")]
    Nowhere(String),
    /// Larger than any document of this kind.
    #[error("the answer is larger than {} KiB", DOCUMENT_BYTES_MAX / 1024)]
    Large,
    /// S-26.
    #[error("discovery refused: it is led on more than {REDIRECTS_MAX} times")]
    LedOn,
    /// No client can be made, for want of certificates.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl Reach {
    /// That of the server at `endpoint`.
    async fn of(endpoint: &Url) -> Self {
        let addresses = match endpoint.host() {
            Some(Host::Ipv4(ip)) => vec![IpAddr::V4(ip)],
            Some(Host::Ipv6(ip)) => vec![IpAddr::V6(ip)],
            Some(Host::Domain(name)) => tokio::net::lookup_host((name, 443))
                .await
                .map_or_else(|_| Vec::new(), |found| found.map(|address| address.ip()).collect()),
            None => Vec::new(),
        };
        // By the farthest: a public server with one odd address is a public one.
        addresses.into_iter().filter_map(nearness).min().unwrap_or(Self::Public)
    }

    fn allows(self, ip: IpAddr) -> bool {
        nearness(ip).is_some_and(|nearness| nearness <= self)
    }
}

/// How near an address is; `None` for those that nobody has a use for here.
fn nearness(ip: IpAddr) -> Option<Reach> {
    match ip {
        IpAddr::V4(ip) => nearness_v4(ip),
        IpAddr::V6(ip) => nearness_v6(ip),
    }
}

fn nearness_v4(ip: Ipv4Addr) -> Option<Reach> {
    let [a, b, ..] = ip.octets();
    if ip.is_loopback() {
        Some(Reach::Loopback)
    } else if ip.is_private() || (a == 100 && (64..128).contains(&b)) {
        Some(Reach::Private)
    } else if ip.is_link_local() || ip.is_multicast() || a == 0 || a >= 240 || (a == 198 && matches!(b, 18 | 19)) {
        None
    } else {
        Some(Reach::Public)
    }
}

fn nearness_v6(ip: Ipv6Addr) -> Option<Reach> {
    let parts = ip.segments();
    let low = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        nearness_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return nearness_v4(mapped);
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    match parts {
        // NAT64 and 6to4 lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, end] => low(high, end),
        [0x2002, high, end, ..] => low(high, end),
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => None,
        _ if ip.is_unique_local() => Some(Reach::Private),
        _ if ip.is_unicast_link_local() || ip.is_multicast() => None,
        _ => Some(Reach::Public),
    }
}

impl Fetcher {
    /// For what the server at `endpoint` names. `ca_file`: the authorities that are trusted for this server.
    pub(crate) async fn new(endpoint: &Url, ca_file: Option<&Path>) -> Result<Self, Refused> {
        let reach = Reach::of(endpoint).await;
        #[expect(
            clippy::disallowed_methods,
            reason = "other bounds than for servers: addresses, documents, no redirects"
        )]
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(ca_file)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(FETCH_TIMEOUT)
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Looked(reach)));
        // A proxy resolves names where we cannot look, and is no way to what is near.
        let builder = if reach == Reach::Public { builder } else { builder.no_proxy() };
        let client = builder.build().map_err(|error| Refused::Tls(error.to_string()))?;
        Ok(Self {
            client,
            reach,
            resource: None,
            unheard: AtomicBool::new(false),
            hops: AtomicUsize::new(0),
            said: Mutex::default(),
        })
    }

    /// Names the resource exactly so in every form that is sent.
    pub(crate) fn naming(self, resource: &str) -> Self {
        let written = Url::parse(resource).is_ok_and(|url| url.as_str() == resource);
        Self { resource: (!written).then(|| resource.to_owned()), ..self }
    }

    /// Whether something at this address may be reached, or shown to a person, for the server (mcp-protocol 7.2, 8).
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        let shown = || format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let near = match url.host() {
            Some(Host::Ipv4(ip)) => self.reach.allows(ip.into()),
            Some(Host::Ipv6(ip)) => self.reach.allows(ip.into()),
            Some(Host::Domain(name)) if is_localhost(name) => self.reach == Reach::Loopback,
            Some(Host::Domain(_)) => true,
            None => return Err(Refused::Nowhere(shown())),
        };
        if !near {
            return Err(Refused::TooNear(shown()));
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => is_localhost(name),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(()),
            "http" if loopback && self.reach == Reach::Loopback => Ok(()),
            _ => Err(Refused::Plain(shown())),
        }
    }

    async fn fetch(&self, asked: OAuthHttpRequest) -> Result<http::Response<Vec<u8>>, Problem> {
        self.exchange(reqwest::Request::try_from(asked.request)?).await
    }

    async fn exchange(&self, mut request: reqwest::Request) -> Result<http::Response<Vec<u8>>, Problem> {
        self.check(request.url())?;
        if let Some(body) = self.renamed(&request) {
            *request.body_mut() = Some(body.into());
        }
        let answered = self.client.execute(request).await.map_err(reqwest::Error::without_url);
        // Until the answer is whole and says that nothing was done: whoever stands before the authorization server may be
        // the one that says 5xx.
        self.unheard.store(answered.as_ref().is_err_and(|error| !error.is_connect()), Ordering::Relaxed);
        let response = answered?;
        self.unheard.store(!response.status().is_client_error(), Ordering::Relaxed);
        let (status, headers) = (response.status(), response.headers().clone());
        let hops = if status.is_redirection() { self.hops.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        self.hops.store(hops, Ordering::Relaxed);
        if hops > REDIRECTS_MAX {
            return Err(Refused::LedOn.into());
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(reqwest::Error::without_url)?;
            if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(Refused::Large.into());
            }
            body.extend_from_slice(&chunk);
        }
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = serde_json::from_slice(&body).unwrap_or_default();
        let mut answer = http::Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    /// Whether the last request may have had an effect that nobody told of.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Relaxed)
    }

    /// What the last answer said besides.
    pub(crate) fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Posts a form, for what the library has no words for. Nothing but the status is of interest.
    pub(crate) async fn post(&self, to: &Url, fields: &[(&str, &str)]) -> Result<http::StatusCode, Problem> {
        self.check(to)?;
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(to.clone()).header("content-type", "application/x-www-form-urlencoded");
        Ok(request.body(body).send().await.map_err(reqwest::Error::without_url)?.status())
    }

    /// Posts a form and reads the answer, for what the library has no words for. `basic`: a client and its secret.
    pub(crate) async fn ask_form(
        &self,
        to: &Url,
        fields: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<(http::StatusCode, Value), Problem> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(to.clone()).header("content-type", "application/x-www-form-urlencoded");
        let request = match basic {
            Some((client, secret)) => {
                // Each is written as in a form first (RFC 6749, 2.3.1).
                let written = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                request.basic_auth(written(client), Some(written(secret)))
            }
            None => request,
        };
        self.answered(request.body(body)).await
    }

    /// Posts JSON and reads the answer.
    pub(crate) async fn ask_json(&self, to: &Url, body: &Value) -> Result<(http::StatusCode, Value), Problem> {
        let request = self.client.post(to.clone()).header("content-type", "application/json");
        self.answered(request.body(body.to_string())).await
    }

    async fn answered(&self, request: reqwest::RequestBuilder) -> Result<(http::StatusCode, Value), Problem> {
        let answer = self.exchange(request.header("accept", "application/json").build()?).await?;
        // Whoever answers with something else said no more than the status.
        Ok((answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default()))
    }

    /// The form of a token request with the resource as it is to be named.
    fn renamed(&self, request: &reqwest::Request) -> Option<String> {
        let resource = self.resource.as_deref()?;
        let body = request.body()?.as_bytes()?;
        let is_form = request.headers().get("content-type")?.to_str().ok()?.contains("form-urlencoded");
        let pairs = form_urlencoded::parse(body).filter(|_| is_form);
        let pairs = pairs.map(|(key, value)| if key == "resource" { (key, resource.into()) } else { (key, value) });
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        is_form.then_some(form)
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

impl OAuthHttpClient for Fetcher {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(self.fetch(request))
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Resolves names, and hands out the addresses that may be connected to: there is no second look-up that could say
/// otherwise.
struct Looked(Reach);

impl Resolve for Looked {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (all, shown) = (found.len(), name.as_str().to_owned());
            let kept: Vec<SocketAddr> = found.into_iter().filter(|address| reach.allows(address.ip())).collect();
            match (kept.is_empty(), all) {
                (false, _) => Ok(Box::new(kept.into_iter()) as Addrs),
                (true, 0) => Err(Refused::Nowhere(shown).into()),
                (true, _) => Err(Refused::TooNear(shown).into()),
            }
        })
    }
}

/// TLS as it is spoken to the server itself: what the system trusts, and its `ca_file`.
fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, Refused> {
    let failed = |text: String| Refused::Tls(text);
    let mut more = Vec::new();
    if let Some(file) = ca_file {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|error| failed(format!("`ca_file` {shown}: {error}")))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        more = found.map_err(|error| failed(format!("`ca_file` {shown}: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(more, provider.clone());
    let verifier = verifier.map_err(|error| failed(error.to_string()))?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    async fn verdict(server: &str, named: &str) -> Result<(), String> {
        let fetcher = Fetcher::new(&url(server), None).await.expect("a client");
        fetcher.check(&url(named)).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn s26_a_public_server_leads_nowhere_near() {
        for named in [
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://a.localhost./x",
            "https://10.0.0.1/x",
            "https://192.168.1.1/x",
            "https://100.64.0.1/x",
            "https://169.254.169.254/latest",
            "https://0.0.0.0/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://[64:ff9b::a00:1]/x",
            "https://[2002:7f00:1::]/x",
            "https://[fd00::1]/x",
            "https://[fe80::1]/x",
        ] {
            let refused = verdict("https://8.8.8.8/mcp", named).await.expect_err(named);
            assert!(refused.contains("discovery refused"), "{refused}");
        }
        verdict("https://8.8.8.8/mcp", "https://as.example/x").await.expect("public");
        verdict("https://8.8.8.8/mcp", "http://as.example/x").await.expect_err("not encrypted");
        verdict("https://8.8.8.8/mcp", "javascript:alert(1)").await.expect_err("no address");
    }

    #[tokio::test]
    async fn s26_what_a_near_server_names_may_be_as_near_and_no_nearer() {
        verdict("http://127.0.0.1:9/mcp", "http://127.0.0.1:8/as").await.expect("on this machine, both");
        verdict("http://127.0.0.1:9/mcp", "http://as.example/x").await.expect_err("not encrypted");
        verdict("https://10.0.0.1/mcp", "https://10.0.0.2/as").await.expect("on one network");
        verdict("https://10.0.0.1/mcp", "https://127.0.0.1/as").await.expect_err("nearer");
        for server in ["http://127.0.0.1/mcp", "https://10.0.0.1/mcp"] {
            verdict(server, "https://169.254.169.254/").await.expect_err("for nobody");
        }
    }

    #[tokio::test]
    async fn s26_a_name_that_resolves_to_this_machine_is_refused_to_a_public_server() {
        let near = Looked(Reach::Public).resolve("localhost".parse().expect("a name")).await;
        let Err(error) = near else { panic!("it was resolved") };
        assert!(error.to_string().contains("discovery refused"), "{error}");
        assert!(Looked(Reach::Loopback).resolve("localhost".parse().expect("a name")).await.is_ok());
    }
}
