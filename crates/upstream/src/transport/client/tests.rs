//! What stands between here and a server in a company: authorities of its own, proxies, families of addresses.
//! Real sockets, certificates made on the spot, nothing beyond loopback (F-45, F-46).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "mcp.example.test"];

/// An authority that no system trusts, and its PEM file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Inspection Root");
        params.distinguished_name.push(DnType::OrganizationName, "Example Corp");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), file: file(&pem) }
    }

    /// A server whose certificate is good for these names, and changed so.
    async fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = leaf(names);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        serve(certificate.der().to_vec(), &key).await
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn leaf(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names")
}

/// Serves `ok` by TLS at the address that is returned.
async fn serve(certificate: Vec<u8>, key: &KeyPair) -> String {
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, "HTTP/1.1 200 OK").await;
            }
        }
    })
    .await
}

/// Gives each connection to `handle`.
async fn listen<F: Future<Output = ()> + Send + 'static>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    trunkline_telemetry::spawn("server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            trunkline_telemetry::spawn("connection", handle(stream));
        }
    });
    address
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: &str) {
    head(&mut stream).await;
    let _ = stream.write_all(format!("{status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A proxy that connects to `backend` whatever it is asked for, and what it was asked.
async fn proxy(backend: String, refusal: Option<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let address = listen(move |mut stream| {
        let (backend, seen) = (backend.clone(), seen.clone());
        async move {
            let head = head(&mut stream).await;
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
            let status = refusal.unwrap_or("HTTP/1.1 200 OK");
            if refusal.is_some() || !head.starts_with("CONNECT ") {
                let text = format!("{status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            let mut onward = TcpStream::connect(backend).await.expect("the backend");
            stream.write_all(format!("{status}\r\n\r\n").as_bytes()).await.expect("the client");
            let _ = copy_bidirectional(&mut stream, &mut onward).await;
        }
    })
    .await;
    (address, asked)
}

fn environment(pairs: &[(&str, &str)]) -> Proxies {
    let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Proxies::of(&owned)
}

async fn get(url: &str, ca_file: Option<&Path>, proxies: &Proxies) -> Result<StatusCode, Failure> {
    let address = Address::new(url.parse().expect("a URL")).expect("an address");
    let client = Client::new(&address, ca_file, proxies, Duration::from_secs(10))?;
    client.send(Method::GET, &address, &HeaderMap::new(), Bytes::new()).await.map(|answer| answer.status)
}

/// Whoever has a full queue of connections that nobody takes leaves the next one without an answer.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn how_long_a_connection_may_take_is_the_operators_to_say() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a queue of two");
    let address = listener.local_addr().expect("bound");
    let connect = async || tokio::net::TcpStream::connect(address).await.expect("room in the queue");
    let _held = [connect().await, connect().await];
    for (url, time) in [(format!("http://{address}/mcp"), 30), (format!("https://{address}/mcp"), 60)] {
        let to = Address::new(url.parse().expect("a URL")).expect("an address");
        let client = Client::new(&to, None, &Proxies::default(), Duration::from_millis(time)).expect("a client");
        let asked = client.send(Method::GET, &to, &HeaderMap::new(), Bytes::new()).await;
        let failure = asked.map(|answer| answer.status).expect_err("nobody answers");
        let told = format!("no connection to {address} within 0.0{} s; `connect_timeout_sec`", time / 10);
        assert!(failure.text.starts_with(&told), "{failure}");
        assert_eq!(failure.point, FaultPoint::NothingSent);
    }
}

async fn fault(url: &str, ca_file: Option<&Path>) -> String {
    let failure = get(url, ca_file, &Proxies::default()).await.expect_err("it cannot be trusted");
    assert_eq!((failure.seen, failure.point), (Seen::Tls, FaultPoint::NothingSent), "{failure}");
    failure.text
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("a port")
}

#[tokio::test]
async fn r43_an_unknown_authority_is_named_and_trusted_once_ca_file_names_it() {
    let authority = Authority::new();
    let url = format!("https://{}/mcp", authority.server(&NAMES, |_| ()).await);
    let text = fault(&url, None).await;
    assert!(text.contains("`Inspection Root` of `Example Corp`, which this system does not trust"), "{text}");
    assert!(text.contains("`ca_file`"), "{text}");
    assert_eq!(get(&url, Some(authority.file.path()), &Proxies::default()).await, Ok(StatusCode::OK));
    let other = Authority::new();
    assert!(fault(&url, Some(other.file.path())).await.contains("Inspection Root"), "another one does not do");
}

#[tokio::test]
async fn r43_a_certificate_that_signed_itself_is_told_as_one() {
    let key = KeyPair::generate().expect("a key");
    let mut params = leaf(&NAMES);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "printer");
    let certificate = params.self_signed(&key).expect("signed");
    let url = format!("https://{}/mcp", serve(certificate.der().to_vec(), &key).await);
    let text = fault(&url, None).await;
    assert!(text.contains("signed by itself (`printer`)") && text.contains("`ca_file`"), "{text}");
    let pem = file(&certificate.pem());
    assert_eq!(get(&url, Some(pem.path()), &Proxies::default()).await, Ok(StatusCode::OK));
}

#[tokio::test]
async fn r43_certificates_that_are_old_young_or_for_another_name_are_told_with_their_issuer() {
    let authority = Authority::new();
    let old = authority.server(&NAMES, |params| params.not_after = date_time_ymd(2020, 1, 1)).await;
    let young = authority.server(&NAMES, |params| params.not_before = date_time_ymd(2100, 1, 1)).await;
    let other = authority.server(&["other.example.test"], |_| ()).await;
    for (address, words) in [
        (old, "issued by `Inspection Root` of `Example Corp`, has expired"),
        (young, "issued by `Inspection Root` of `Example Corp`, is not valid yet"),
        (other, "is for another name than that in `url`"),
    ] {
        let text = fault(&format!("https://{address}/mcp"), Some(authority.file.path())).await;
        assert!(text.contains(words), "{text}");
    }
    let url = format!("https://{}/mcp", authority.server(&["other.example.test"], |_| ()).await);
    assert!(fault(&url, Some(authority.file.path())).await.contains("other.example.test"), "which names it is for");
}

#[tokio::test]
async fn r43_what_speaks_no_tls_and_a_ca_file_that_is_none_are_told() {
    let plain = listen(|mut stream| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let text = fault(&format!("https://{plain}/mcp"), None).await;
    assert!(text.contains("does not speak TLS"), "{text}");
    for (content, words) in [
        ("", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be used"),
    ] {
        let bad = file(content);
        let failure =
            get("https://127.0.0.1:1/", Some(bad.path()), &Proxies::default()).await.expect_err("no authority");
        assert_eq!(failure.seen, Seen::Setting);
        assert!(failure.text.contains("`ca_file`") && failure.text.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn r43_a_remote_server_is_reached_through_the_proxy_of_the_environment() {
    let authority = Authority::new();
    let backend = authority.server(&NAMES, |_| ()).await;
    let (proxy, asked) = proxy(backend, None).await;
    let https = environment(&[("HTTPS_PROXY", &format!("http://user:pass@{proxy}"))]);
    assert_eq!(get("https://mcp.example.test/mcp", Some(authority.file.path()), &https).await, Ok(StatusCode::OK));
    let plain = environment(&[("http_proxy", &proxy)]);
    assert_eq!(get("http://mcp.example.test/mcp", None, &plain).await, Ok(StatusCode::OK));
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(asked[0].starts_with("CONNECT mcp.example.test:443 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{asked:?}");
    assert!(asked[1].starts_with("GET http://mcp.example.test/mcp HTTP/1.1\r\n"), "{asked:?}");
}

#[tokio::test]
async fn r43_loopback_and_private_literals_never_go_through_a_proxy() {
    let authority = Authority::new();
    let (canary, asked) = proxy("127.0.0.1:1".to_owned(), Some("HTTP/1.1 502 Bad Gateway")).await;
    let all = environment(&[("HTTP_PROXY", &canary), ("HTTPS_PROXY", &canary), ("ALL_PROXY", &canary)]);
    let plain = listen(|stream| answer(stream, "HTTP/1.1 200 OK")).await;
    let secure = authority.server(&NAMES, |_| ()).await;
    for url in [
        format!("http://{plain}/mcp"),
        format!("http://localhost:{}/mcp", port(&plain)),
        format!("https://{secure}/mcp"),
        format!("https://localhost:{}/mcp", port(&secure)),
    ] {
        assert_eq!(get(&url, Some(authority.file.path()), &all).await, Ok(StatusCode::OK), "{url}");
    }
    assert_eq!(*asked.lock().unwrap_or_else(PoisonError::into_inner), [""; 0]);
    let near = |url: &str| Address::new(url.parse().expect("a URL")).expect("an address").is_near();
    for url in
        ["http://10.1.2.3/", "https://192.168.0.9:8443/", "http://[fd00::7]/", "http://169.254.1.1/", "http://0x7f.1/"]
    {
        assert!(near(url), "{url}");
    }
    for url in ["https://mcp.example.test/", "http://203.0.113.9/", "https://[2001:db8::1]/", "http://localhost.evil/"]
    {
        assert!(!near(url), "{url}");
    }
}

#[tokio::test]
async fn r43_a_fault_of_the_proxy_names_its_variable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("bound").to_string();
    let (strict, _) = proxy(String::new(), Some("HTTP/1.1 407 Proxy Authentication Required")).await;
    let (closed, _) = proxy(String::new(), Some("HTTP/1.1 403 Forbidden")).await;
    for (address, seen, words) in [
        (gone.as_str(), Seen::Unreachable, "cannot be reached: nothing listens there"),
        (strict.as_str(), Seen::Setting, "wants a user name and a password (407)"),
        (closed.as_str(), Seen::Unreachable, "does not connect to mcp.example.test:443"),
    ] {
        let proxies = environment(&[("https_proxy", &format!("http://me:hunter2@{address}"))]);
        let failure = get("https://mcp.example.test/mcp", None, &proxies).await.expect_err("no way");
        assert_eq!((failure.seen, failure.point), (seen, FaultPoint::NothingSent), "{failure}");
        assert!(failure.text.starts_with(&format!("the proxy http://{address} of `https_proxy` {words}")), "{failure}");
        assert!(failure.text.contains("`NO_PROXY`") && !failure.text.contains("hunter2"), "{failure}");
    }
    let proxies = environment(&[("HTTP_PROXY", &strict)]);
    let failure = get("http://mcp.example.test/mcp", None, &proxies).await.expect_err("no way");
    assert!(failure.text.contains("of `HTTP_PROXY` wants a user name"), "{failure}");
}

#[tokio::test]
async fn r42_a_family_that_is_off_is_not_blamed_for_a_server_that_is_not_there() {
    let to = Address::new("http://localhost:7/mcp".parse().expect("a URL")).expect("an address");
    // EADDRNOTAVAIL, as Linux answers a connect to ::1 where IPv6 is off.
    let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let text = unreachable(&error, &to, (None, Duration::from_secs(10))).text;
    assert!(text.starts_with("nothing listens at 127.0.0.1:7 or [::1]:7"), "{text}");
}

/// A time to connect that no other test has, so that none shares what is made here.
const ELEVEN: Duration = Duration::from_secs(11);

/// A client whose trust store, as it is read, holds this authority from the second time on, and how often it was read.
fn learning(address: &Address, authority: &Authority) -> (Pooled, Arc<AtomicUsize>) {
    let (reads, here, file) = (Arc::new(AtomicUsize::new(0)), address.clone(), authority.file.path().to_owned());
    let count = reads.clone();
    let make = move || {
        let known = count.fetch_add(1, Ordering::Relaxed) > 0;
        full(&here, known.then_some(&*file), ELEVEN, |builder| Ok(builder.no_proxy()))
    };
    (Pooled::eager(make).expect("a client"), reads)
}

#[tokio::test]
async fn r43_an_authority_that_was_installed_meanwhile_is_trusted_without_a_restart() {
    let authority = Authority::new();
    let url = format!("https://{}/mcp", authority.server(&NAMES, |_| ()).await);
    let address = Address::new(url.parse().expect("a URL")).expect("an address");
    let (pooled, reads) = learning(&address, &authority);
    let client = Client { stack: Stack::Common(pooled), via: None, connect: ELEVEN, key: None };
    for _ in 0..2 {
        let answer = client.send(Method::GET, &address, &HeaderMap::new(), Bytes::new()).await;
        assert_eq!(answer.map(|answer| answer.status), Ok(StatusCode::OK));
    }
    assert_eq!(reads.load(Ordering::Relaxed), 2, "and it is not read for what is trusted");
    let untrusted = Authority::new().server(&NAMES, |_| ()).await;
    let other = Address::new(format!("https://{untrusted}/mcp").parse().expect("a URL")).expect("an address");
    let answer = client.send(Method::GET, &other, &HeaderMap::new(), Bytes::new()).await;
    let failure = answer.map(|answer| answer.status).expect_err("not trusted");
    assert_eq!((failure.seen, reads.load(Ordering::Relaxed)), (Seen::Tls, 3), "tried twice, not for ever");
}

#[tokio::test]
async fn r20_a_doubted_server_leaves_the_pool_of_all_alone_and_a_wake_renews_it() {
    let address = Address::new("https://mcp.example.test/mcp".parse().expect("a URL")).expect("an address");
    let (pooled, reads) = learning(&address, &Authority::new());
    let client = Client { stack: Stack::Common(pooled.clone()), via: None, connect: ELEVEN, key: None };
    client.renew();
    assert_eq!(pooled_reads(&pooled, &reads).await, 1);
    let remote = || REMOTE.lock().unwrap_or_else(PoisonError::into_inner);
    remote().push(((None, ELEVEN), pooled.clone()));
    let world = crate::fakes::World::new(trunkline_testkit::Script::default());
    world.fleet.woke(crate::wake::Cause::Network);
    // Others wake all pools at the same time.
    assert!(pooled_reads(&pooled, &reads).await >= 2);
    remote().retain(|(_, other)| !other.is(&pooled));
}

/// How often a store was read, once nothing is being read.
async fn pooled_reads(pooled: &Pooled, reads: &AtomicUsize) -> usize {
    pooled.client().await;
    reads.load(Ordering::Relaxed)
}
