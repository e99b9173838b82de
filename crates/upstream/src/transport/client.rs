//! [`Client`]: the one way out to servers behind a URL, with the rules that both HTTP transports share.
//!
//! Redirects are ours to follow, proxies are for remote servers only, idle connections are not reused
//! after 15 s and dead ones found by keep-alive, a connection stands in time, and nothing here limits how
//! long an answer takes: streams are long, and deadlines belong to the call (reliability 11).
//!
//! Two stacks stand behind it. Servers on this machine and in the private network, named by number or as `localhost`
//! and reached by plain HTTP, go straight through hyper (`direct.rs`): it costs a third of the processor time per call, and no
//! trust store is loaded for them. All others go through reqwest, which brings TLS and proxies; its store is loaded
//! when the first such server is dialled.

mod faults;

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower::util::ServiceFn;
use trunkline_signin::Key;
use trunkline_telemetry::redact;
use url::{Host, Url};

use super::FaultPoint;
use super::body::Body;
use super::direct::{Direct, NoAnswer, REST_MAX, RESTING_MAX};
use super::failure::{Failure, Seen};
use super::pooled::Pooled;
use super::proxies::{Proxies, Via};
use super::trust;
use faults::{broke, failure, root, unreachable};

/// Start and spacing of the probes; after three the connection is dead.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// How long written bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

///
const REDIRECTS_MAX: usize = 3;

///
const FAMILIES_APART: Duration = Duration::from_millis(250);

/// The clients of all remote servers that trust what the system trusts, by the proxy they go through and the time that
/// a connection may take: each holds its own copy of the trust store.
static REMOTE: Mutex<Vec<(Route, Pooled)>> = Mutex::new(Vec::new());

/// The proxy, if there is one, and how long a connection may take to stand.
type Route = (Option<Via>, Duration);

/// Of those. An environment names two proxies at most, and they change with it alone; that a server has another time is
/// rare, and beyond this costs it a store of its own.
const REMOTE_MAX: usize = 4;

/// Sends requests to one server. Cloning shares its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    stack: Stack,
    via: Option<Via>,
    /// How long a connection may take to stand, TLS included (`connect_timeout_sec`).
    connect: Duration,
    /// What requests carry, if somebody may sign in (carried.rs).
    pub(super) key: Option<Key>,
}

#[derive(Debug, Clone)]
enum Stack {
    Direct(Direct),
    /// Its own.
    Full(Pooled),
    /// One of [`REMOTE`].
    Common(Pooled),
}

/// Resolves whatever it is asked to the two loopbacks: only `localhost` is ever asked. Some machines list one family
/// for that name and servers bind the other; hyper tries the second a little after the first, or at once when
/// that is refused.
type Loopbacks = ServiceFn<fn(Name) -> std::future::Ready<io::Result<std::array::IntoIter<SocketAddr, 2>>>>;

/// What connects to servers near by.
pub(super) type Connector = HttpConnector<Loopbacks>;

/// Where requests go, in the forms that the stacks want.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    url: Url,
    uri: Uri,
    /// Path and query, as the request line has them.
    target: Uri,
    host: HeaderValue,
}

/// The head of a response, with its body still to come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Where the answer came from, if a redirect led there.
    pub(crate) moved: Option<Address>,
}

impl Address {
    /// Fails for an address that is no `http` or `https` URL.
    pub(crate) fn new(mut url: Url) -> Option<Self> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        // What stands there goes into `Authorization`; left in, it would show up in texts and the request line.
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().ok()?;
        let target = uri.path_and_query()?.clone().into();
        let host = uri.host()?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { host: HeaderValue::try_from(host).ok()?, target, uri, url })
    }

    #[cfg(test)]
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// As people may see it (reliability 10.3).
    pub(crate) fn shown(&self) -> String {
        redact::url(self.url.as_str())
    }

    /// Where `reference` leads to, if that is within the same scheme, host and port.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Self, Strayed> {
        let target = self.url.join(reference).map_err(|_| Strayed("an address that is none".to_owned()))?;
        if target.origin() != self.url.origin() {
            return Err(Strayed(redact::url(target.as_str())));
        }
        Self::new(target).ok_or_else(|| Strayed("an address that is none".to_owned()))
    }

    /// Whether it names this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => is_localhost(name),
            None => false,
        }
    }

    /// Whether it never goes through a proxy: loopback, or a literal of the private network.
    fn is_near(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
            Some(Host::Domain(name)) => is_localhost(name),
            None => false,
        }
    }

    /// Host and port, each address that a connection is tried at.
    fn tried(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        match self.url.host() {
            Some(Host::Domain(name)) if is_localhost(name) => format!("127.0.0.1:{port} or [::1]:{port}"),
            Some(host) => format!("{host}:{port}"),
            None => "no host".to_owned(),
        }
    }
}

/// An address leads out of the origin it may not leave. Holds what may be shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strayed(pub(crate) String);

impl Client {
    /// A client for the server at `address`. Reads the trust store, and `ca_file`, if it may have to speak TLS.
    pub(crate) fn new(
        address: &Address,
        ca_file: Option<&Path>,
        proxies: &Proxies,
        connect: Duration,
    ) -> Result<Self, Failure> {
        let (here, file) = (address.clone(), ca_file.map(Path::to_owned));
        if address.is_near() {
            let stack = match address.url.scheme() {
                "http" => Stack::Direct(Direct::new(connector(connect))),
                _ => Stack::Full(Pooled::new(move || {
                    full(&here, file.as_deref(), connect, |builder| Ok(builder.no_proxy()))
                })?),
            };
            return Ok(Self { stack, via: None, connect, key: None });
        }
        let via = proxies.via(&address.url)?;
        let (proxy, any) = (via.as_ref().map(|via| via.url.clone()), proxies.any());
        let make = move || {
            full(&here, file.as_deref(), connect, |builder| match &proxy {
                Some(proxy) => Ok(builder.no_proxy().proxy(reqwest::Proxy::all(proxy.clone())?)),
                None if any => Ok(builder.no_proxy()),
                None => Ok(builder),
            })
        };
        if ca_file.is_some() {
            return Ok(Self { stack: Stack::Full(Pooled::new(make)?), via, connect, key: None });
        }
        let mut remote = REMOTE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pooled)) = remote.iter().find(|((other, time), _)| (other, *time) == (&via, connect)) {
            return Ok(Self { stack: Stack::Common(pooled.clone()), via, connect, key: None });
        }
        let pooled = Pooled::new(make)?;
        if remote.len() >= REMOTE_MAX {
            // Of settings that a reload has changed since.
            remote.retain(|(_, pooled)| !pooled.is_forsaken());
        }
        if remote.len() >= REMOTE_MAX {
            return Ok(Self { stack: Stack::Full(pooled), via, connect, key: None });
        }
        remote.push(((via.clone(), connect), pooled.clone()));
        Ok(Self { stack: Stack::Common(pooled), via, connect, key: None })
    }

    /// Uses no connection again that rests now. One that is in use goes on. What is shared with other servers stays:
    /// that one of them is in doubt says nothing of theirs. See [`renew_common`].
    pub(crate) fn renew(&self) {
        match &self.stack {
            Stack::Direct(client) => client.renew(),
            Stack::Full(pooled) => pooled.renew(),
            Stack::Common(_) => {}
        }
    }

    /// Sends one request and waits for the head of the response, whatever its status: `common` headers, and `own` ones of
    /// this request alone, each in the place of one of its name.
    ///
    /// Follows redirects within the origin: any for GET, those that keep the method for the others.
    pub(super) async fn follow(
        &self,
        method: Method,
        to: &Address,
        common: &HeaderMap,
        own: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let headers = || {
            let mut headers = common.clone();
            for (name, value) in own {
                headers.insert(name, value.clone());
            }
            headers
        };
        let mut answer = match self.once(method.clone(), to, headers(), body.clone()).await {
            // Nothing was sent, and a new look at the trust store may show what was missing.
            Err(failure) if failure.seen == Seen::Tls && self.trusts_anew().await => {
                self.once(method.clone(), to, headers(), body.clone()).await?
            }
            tried => tried?,
        };
        for _ in 0..REDIRECTS_MAX {
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let next = next_hop(&method, answer.moved.as_ref().unwrap_or(to), &answer)?;
            answer.body.discard();
            answer = self.once(method.clone(), &next, headers(), body.clone()).await?;
            answer.moved = Some(next);
        }
        if answer.status.is_redirection() {
            return Err(Failure::new(FaultPoint::Unreadable, Seen::Other, "redirects more than three times"));
        }
        Ok(answer)
    }

    /// Reads the trust store again, if it may have changed. One of its own was read with this connection's dial.
    async fn trusts_anew(&self) -> bool {
        match &self.stack {
            Stack::Common(pooled) => pooled.distrusted().await,
            Stack::Direct(_) | Stack::Full(_) => false,
        }
    }

    async fn once(&self, method: Method, to: &Address, headers: HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        match &self.stack {
            Stack::Direct(client) => {
                let mut request = http::Request::new(Full::new(body));
                *request.method_mut() = method;
                *request.uri_mut() = to.target.clone();
                *request.headers_mut() = headers;
                request.headers_mut().entry(HOST).or_insert_with(|| to.host.clone());
                let response = client.send(&to.uri, request).await.map_err(|error| match error {
                    NoAnswer::Unreachable(error) => unreachable(&error, to, (None, self.connect)),
                    NoAnswer::Broke(error) => broke(&error, to),
                })?;
                let (head, body) = response.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body: Body::Direct(body), moved: None })
            }
            Stack::Full(pooled) | Stack::Common(pooled) => {
                let client = pooled.client().await;
                let mut request = reqwest::Request::new(method, to.url.clone());
                *request.headers_mut() = headers;
                *request.body_mut() = Some(body.into());
                let via = self.via.as_ref();
                let response =
                    client.execute(request).await.map_err(|error| failure(&error, to, (via, self.connect)))?;
                // Through a tunnel no proxy answers any more: what comes there is the server's word, and it has the request.
                let from_proxy =
                    to.url.scheme() == "http" && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                if let Some(via) = via.filter(|_| from_proxy) {
                    return Err(via.wants_credential());
                }
                let (head, body) = http::Response::from(response).into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body: Body::Full(body), moved: None })
            }
        }
    }
}

/// The machine slept or is in another network: what rests for remote servers may be dead, of all of them. Returns at
/// once; what is sent from now on goes by new connections.
pub(crate) fn renew_common() {
    REMOTE.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|(_, pooled)| pooled.renew());
}

/// Connects to servers near by.
pub(super) fn connector(connect: Duration) -> Connector {
    let loopbacks: fn(Name) -> _ = |_name| {
        let both = [(IpAddr::from(Ipv4Addr::LOCALHOST), 0), (IpAddr::from(Ipv6Addr::LOCALHOST), 0)];
        ready(Ok(both.map(SocketAddr::from).into_iter()))
    };
    let mut connector = HttpConnector::new_with_resolver(tower::service_fn(loopbacks));
    connector.set_connect_timeout(Some(connect));
    connector.set_happy_eyeballs_timeout(Some(FAMILIES_APART));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

/// The stack for all that is not plain HTTP near by. `route` says which way it goes.
fn full(
    address: &Address,
    ca_file: Option<&Path>,
    connect: Duration,
    route: impl FnOnce(reqwest::ClientBuilder) -> reqwest::Result<reqwest::ClientBuilder>,
) -> Result<reqwest::Client, Failure> {
    let authorities = ca_file.map(authorities).transpose()?.unwrap_or_default();
    let tls = trust::config(authorities).map_err(|error| {
        let text = match ca_file {
            Some(file) => format!("`ca_file` {} cannot be used: {error}", file.display()),
            None => format!("the system's trusted certificates cannot be used: {error}"),
        };
        Failure::new(FaultPoint::NothingSent, Seen::Setting, text)
    })?;
    #[expect(clippy::disallowed_methods, reason = "this is the one builder")]
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(REST_MAX)
        .pool_max_idle_per_host(RESTING_MAX)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .tcp_keepalive_retries(KEEPALIVE_PROBES);
    #[cfg(target_os = "linux")]
    {
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    }
    if address.is_near() {
        let both = [(IpAddr::from(Ipv4Addr::LOCALHOST), 0), (IpAddr::from(Ipv6Addr::LOCALHOST), 0)];
        builder = builder.resolve_to_addrs("localhost", &both.map(SocketAddr::from));
    }
    let built = route(builder).and_then(reqwest::ClientBuilder::build);
    built.map_err(|error| Failure::new(FaultPoint::NothingSent, Seen::Tls, root(&error).to_string()))
}

/// Reads the certificates of `ca_file`.
fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unusable = |why: String| {
        let text = format!("`ca_file` {} cannot be used: {why}", file.display());
        Failure::new(FaultPoint::NothingSent, Seen::Setting, text)
    };
    // Small, local, and read once per dial: not worth a trip to another thread.
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

/// Where the redirect `answer` leads, if R-19 lets us follow it.
fn next_hop(method: &Method, from: &Address, answer: &Answer) -> Result<Address, Failure> {
    let refused = |text: String| Failure::new(FaultPoint::Unreadable, Seen::Status(answer.status), text);
    let keeps_method = matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let status = answer.status;
    let Some(target) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return Err(refused(format!("answered {status} without saying where to go")));
    };
    let next = from.resolve(target);
    match next {
        Ok(next) if keeps_method || *method == Method::GET => Ok(next),
        Ok(next) => Err(refused(format!(
            "redirects a {method} with {status} to {}; set `url` to the final address",
            next.shown()
        ))),
        Err(Strayed(target)) => {
            Err(refused(format!("redirects to {target}, another origin; set `url` to the final address")))
        }
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
