//! [`Key`]: what a request to a server carries, and how it stays fit for use.
//!
//! The token is read from the store when it is first wanted, and refreshed ahead of its end by a task of its own. Whoever
//! meets a refusal asks for a newer one ([`Key::refused`]) and waits for the one refresh that is under way; if it goes
//! away, the refresh goes on, for a rotated token that nobody took would be lost (S-30).
//!
//! A key begins no login and shows nobody anything: without tokens a request goes as it is, and is refused.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use trunkline_config::{OAuth, wall_clock};
use trunkline_telemetry::spawn;
use trunkline_wire::ServerName;
use url::Url;

use crate::challenge;
use crate::client::{self, Unsigned};
use crate::fetch::Fetcher;
use crate::limits::{EXPIRY_MARGIN, REFRESH_PAUSE, SHORT_LIFE};
use crate::record::{Record, Tokens};
use crate::renew::Renewal;
use crate::store::Store;

/// The way in to one server. Cloning shares it.
#[derive(Clone)]
pub struct Key(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) server: ServerName,
    pub(crate) endpoint: Url,
    pub(crate) oauth: OAuth,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) store: Store,
    now: Mutex<Now>,
    /// The newest generation that was good for a request.
    proven: AtomicU64,
    /// The refresh that is under way, and of which generation; it says when it is done.
    flight: Mutex<Option<(u64, watch::Receiver<bool>)>>,
}

/// What the key holds.
#[derive(Default)]
pub(crate) struct Now {
    /// The store was read.
    read: bool,
    record: Option<Arc<Record>>,
    header: Option<HeaderValue>,
    /// What the server said when it last refused.
    challenge: Option<String>,
    /// No refresh before this: the last one failed.
    pub(crate) pause_until: Option<Instant>,
    /// Why the gateway could not sign in by itself when it last tried.
    pub(crate) failure: Option<String>,
    /// The record, where the disk did not take it.
    pub(crate) unkept: Option<Arc<Record>>,
    /// A task tries to write it.
    pub(crate) keeping: bool,
    /// Refreshes ahead of the end.
    timer: Option<JoinHandle<()>>,
}

impl Drop for Now {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

/// What one request carries.
#[derive(Clone)]
pub struct Carried {
    generation: u64,
    /// `Authorization`, marked as a secret.
    pub header: HeaderValue,
}

impl Key {
    pub(crate) fn new(
        server: &ServerName,
        endpoint: &Url,
        oauth: &OAuth,
        ca_file: Option<PathBuf>,
        store: Store,
    ) -> Self {
        Self(Arc::new(Shared {
            server: server.clone(),
            endpoint: endpoint.clone(),
            oauth: oauth.clone(),
            ca_file,
            store,
            now: Mutex::default(),
            proven: AtomicU64::new(0),
            flight: Mutex::default(),
        }))
    }

    /// Whether it is for this server, reached and signed in to like this.
    pub(crate) fn fits(&self, endpoint: &Url, oauth: &OAuth, ca_file: Option<&PathBuf>) -> bool {
        self.0.endpoint == *endpoint && self.0.oauth == *oauth && self.0.ca_file.as_ref() == ca_file
    }

    /// What the next request is to carry; `None` if nobody signed in.
    ///
    /// Waits for the disk once, and for a refresh only if the token has ended.
    pub async fn carried(&self) -> Option<Carried> {
        if !self.now().read {
            self.look().await;
        }
        match self.held() {
            Some((carried, false)) => return Some(carried),
            Some((carried, true)) => self.renew(carried.generation).await,
            None if self.is_by_itself() => self.renew(self.generation()).await,
            None => return None,
        }
        self.held().map(|(carried, _)| carried)
    }

    /// The server refused a request with 401. Says whether there is something newer for it to carry.
    pub async fn refused(&self, carried: Option<&Carried>, headers: &HeaderMap) -> bool {
        let stale = carried.map_or(0, |carried| carried.generation);
        self.now().challenge = challenge::bearer(headers);
        if self.generation() <= stale {
            // Another process may have signed in, or refreshed.
            self.look().await;
        }
        if self.generation() <= stale && stale > 0 {
            self.renew(stale).await;
        }
        self.generation() > stale && self.held().is_some()
    }

    /// The server refused a request with 403. If it wants more than was granted, the next login asks for that as well.
    pub fn forbidden(&self, headers: &HeaderMap) {
        let lacking = challenge::bearer(headers).filter(|text| client::lacks_scope(text, &self.0.endpoint));
        if let Some(challenge) = lacking {
            self.now().challenge = Some(challenge);
        }
    }

    /// The server took a request that carried this.
    pub fn proven(&self, carried: &Carried) {
        let generation = carried.generation;
        // Read for each answer, written once for each token.
        if self.0.proven.load(Ordering::Relaxed) >= generation
            || self.0.proven.swap(generation, Ordering::Relaxed) >= generation
        {
            return;
        }
        if self.now().record.as_ref().is_none_or(|record| record.previous.is_none()) {
            return;
        }
        let (store, server) = (self.0.store.clone(), self.0.server.clone());
        spawn("signin-proven", async move {
            // If the disk takes nothing, the old tokens stay beside the new ones, which does no harm.
            if let Ok(held) = store.hold(&server).await {
                let _ = held.proven(generation).await;
            }
        });
    }

    /// A text of the server's, without the token that it may have taken from the request.
    pub fn hide(&self, text: &str) -> String {
        let record = self.now().record.clone();
        let tokens = record.as_ref().and_then(|record| record.tokens.as_ref());
        tokens.map_or_else(|| text.to_owned(), |tokens| text.replace(tokens.access.expose(), "***"))
    }

    /// Waits until the refresh that is under way is done, if there is one: what it brings must get onto the disk.
    pub(crate) async fn settled(&self) {
        let under_way = self.0.flight.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, mut done)) = under_way {
            // The sender is gone only if the task is.
            let _ = done.wait_for(|done| *done).await;
        }
        // A last time, if the disk did not take it before.
        self.kept().await;
    }

    /// Whether anybody but the desk has it.
    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether a token is there, whatever it is worth.
    pub fn is_signed_in(&self) -> bool {
        self.now().header.is_some()
    }

    /// `WWW-Authenticate` of the last refusal.
    pub(crate) fn challenge(&self) -> Option<String> {
        self.now().challenge.clone()
    }

    /// Goes by this record from now on, unless it has a newer one.
    pub(crate) fn adopt(&self, record: Option<Record>) {
        let record = record.filter(|record| record.endpoint == self.0.endpoint.as_str() && self.is_own(record));
        let timer = record.as_ref().and_then(|record| self.plan(record));
        let mut now = self.now();
        now.read = true;
        let newer = |there: &Arc<Record>| record.as_ref().is_none_or(|record| record.generation <= there.generation);
        if now.record.as_ref().is_some_and(newer) {
            if let Some(timer) = timer {
                timer.abort();
            }
            return;
        }
        now.header = record.as_ref().and_then(|record| header(record.tokens.as_ref()?));
        if record.is_some() {
            // That there is none says nothing of when to ask again.
            (now.pause_until, now.unkept) = (None, None);
        }
        now.record = record.map(Arc::new);
        if let Some(before) = std::mem::replace(&mut now.timer, timer) {
            before.abort();
        }
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this goes by.
    pub(crate) fn record(&self) -> Option<Record> {
        self.now().record.as_deref().cloned()
    }

    fn generation(&self) -> u64 {
        self.now().record.as_ref().map_or(0, |record| record.generation)
    }

    /// What is carried now, and whether it has ended and can be refreshed.
    fn held(&self) -> Option<(Carried, bool)> {
        let now = self.now();
        let record = now.record.as_ref()?;
        let tokens = record.tokens.as_ref()?;
        let margin = EXPIRY_MARGIN.as_secs();
        let ended = tokens.expires.is_some_and(|end| wall_clock().saturating_add(margin) >= end);
        let carried = Carried { generation: record.generation, header: now.header.clone()? };
        Some((carried, ended && (tokens.refresh.is_some() || self.is_by_itself())))
    }

    /// Reads the store.
    pub(crate) async fn look(&self) {
        let (store, server) = (&self.0.store, &self.0.server);
        let record = store.read(server).await;
        let refreshable = record.as_ref().filter(|record| {
            let tokens = record.tokens.as_ref();
            tokens.is_some_and(|tokens| tokens.refresh.is_some()) && record.endpoint == self.0.endpoint.as_str()
        });
        let generation = refreshable.map_or(0, |record| record.generation);
        self.adopt(record);
        if generation > 0 && generation == self.generation() && store.mark(server, generation).await.is_some() {
            // A process ended before the answer was kept: what may still be had is to be had soon (`renew.rs`).
            self.take_off(generation);
        }
    }

    /// A task that refreshes `record` ahead of its end.
    fn plan(&self, record: &Record) -> Option<JoinHandle<()>> {
        let due = due(record.tokens.as_ref()?, wall_clock(), fastrand::f64())?;
        let (key, generation) = (Arc::downgrade(&self.0), record.generation);
        Some(spawn("signin-ahead", async move {
            sleep(due).await;
            if let Some(shared) = key.upgrade() {
                // In a task of its own: this one is aborted by what it brings about.
                Key(shared).take_off(generation);
            }
        }))
    }

    /// Waits until a refresh of this generation is done, or has failed; it may be one that others wait for.
    async fn renew(&self, stale: u64) {
        let mut done = self.take_off(stale);
        // The sender is gone only if the task panicked.
        let _ = done.wait_for(|done| *done).await;
    }

    /// Starts a refresh, unless one is under way.
    fn take_off(&self, stale: u64) -> watch::Receiver<bool> {
        let mut flight = self.0.flight.lock().unwrap_or_else(PoisonError::into_inner);
        // One of an older generation brings nothing to who has the newer one.
        let joins =
            |(of, done): &&(u64, watch::Receiver<bool>)| *of >= stale && done.has_changed().is_ok() && !*done.borrow();
        if let Some((_, under_way)) = flight.as_ref().filter(joins) {
            return under_way.clone();
        }
        let (tell, done) = watch::channel(false);
        *flight = Some((stale, done.clone()));
        let key = self.clone();
        spawn("signin-refresh", async move {
            key.refresh(stale).await;
            tell.send_replace(true);
        });
        done
    }

    async fn refresh(&self, stale: u64) {
        let server = &self.0.server;
        let pausing = self.now().pause_until.is_some_and(|until| Instant::now() < until);
        if pausing || self.generation() > stale {
            return;
        }
        let held = match self.0.store.hold(server).await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%server, error = &error as &dyn std::error::Error, "the token is not refreshed");
                return self.pause();
            }
        };
        if self.is_by_itself() {
            return self.renew_by_itself(stale, held).await;
        }
        let shared = Arc::clone(&self.0);
        let exchange = move |record: Record| {
            let shared = Arc::clone(&shared);
            async move { shared.exchange(&record).await }
        };
        let unkept = self.now().unkept.as_deref().cloned();
        match held.renew(stale, unkept, exchange).await {
            Renewal::New(record) => {
                tracing::info!(%server, generation = record.generation, "the token was refreshed");
                self.adopt(Some(record));
            }
            Renewal::Unkept(record, error) => self.keep_later(record, &error),
            Renewal::SignedOut => self.look().await,
            Renewal::Rejected(why) => {
                tracing::warn!(%server, "{why}; sign in again with `trunkline login {server}`");
                self.look().await;
                if self.generation() <= stale {
                    // The disk did not take that they are of no use: they are not shown to the authorization server each time.
                    self.pause();
                }
            }
            Renewal::Failed(reason) => {
                tracing::warn!(%server, reason, "the token is not refreshed");
                self.pause();
            }
        }
    }

    fn pause(&self) {
        self.now().pause_until = Some(Instant::now() + REFRESH_PAUSE);
    }
}

impl Shared {
    async fn exchange(&self, record: &Record) -> Result<Tokens, Unsigned> {
        // A record under this name may be of another server.
        if record.endpoint != self.endpoint.as_str() {
            return Err(Unsigned::Rejected);
        }
        let fetcher = Fetcher::new(&self.endpoint, self.ca_file.as_deref()).await;
        client::refresh(record, fetcher.map_err(|error| Unsigned::Failed(error.to_string()))?).await
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Key").field("server", &self.0.server).field("signed_in", &self.is_signed_in()).finish()
    }
}

fn header(tokens: &Tokens) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", tokens.access.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// In how long a token is to be refreshed: at four fifths of its life, or five minutes before its end if that is later,
/// give or take a tenth of what is left then (reliability 10). `None`: when it is wanted.
fn due(tokens: &Tokens, now: u64, luck: f64) -> Option<Duration> {
    let end = tokens.expires.filter(|_| tokens.refresh.is_some())?;
    let life = end.saturating_sub(tokens.issued);
    if Duration::from_secs(life) < SHORT_LIFE {
        return None;
    }
    let at = (tokens.issued + life / 5 * 4).max(end.saturating_sub(300));
    let left = Duration::from_secs(end.saturating_sub(at));
    let spread = left.mul_f64(0.2 * luck.clamp(0.0, 1.0));
    let begin = Duration::from_secs(at.saturating_sub(now)).saturating_sub(left.mul_f64(0.1));
    Some(begin + spread)
}

#[cfg(test)]
mod tests {
    use trunkline_config::{Secret, StateDir};

    use super::*;
    use crate::record::sample;

    fn lasting(life: u64) -> Tokens {
        let refresh = Some(Secret::new("r"));
        Tokens { access: Secret::new("a"), refresh, issued: 1000, expires: Some(1000 + life) }
    }

    #[test]
    fn a_token_is_refreshed_ahead_of_its_end_and_not_by_all_at_once() {
        let at = |life, luck| due(&lasting(life), 1000, luck).map(|due| due.as_secs());
        // An hour: five minutes before the end are later than four fifths.
        assert_eq!(at(3600, 0.5), Some(3300));
        assert_eq!((at(3600, 0.0), at(3600, 1.0)), (Some(3270), Some(3330)));
        assert_eq!(at(600, 0.5), Some(480));
        assert_eq!(at(60, 0.5), None, "a short life");
        let endless = Tokens { expires: None, ..lasting(0) };
        assert_eq!(due(&endless, 1000, 0.5), None);
        assert_eq!(due(&lasting(3600), 9000, 0.0), Some(Duration::ZERO), "it is over already");
    }

    #[tokio::test]
    async fn s27_a_record_of_another_address_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::at(StateDir::open(dir.path().join("signin")).expect("our own"));
        let server = ServerName::new("linear").expect("a name");
        store.hold(&server).await.expect("free").write(&sample()).await.expect("written");
        let key_of =
            |url: &str| Key::new(&server, &url.parse().expect("a URL"), &OAuth::default(), None, store.clone());
        assert!(key_of("https://evil.example/mcp").carried().await.is_none());
        let carried = key_of("https://mcp.example/mcp").carried().await;
        // It has ended, and its authorization server is not there: it is carried all the same, for the server to judge.
        assert_eq!(carried.expect("signed in").header, "Bearer access-canary");
    }

    /// A token endpoint that takes its time, once, and says when it was asked.
    fn slow_endpoint() -> (String, std::sync::mpsc::Receiver<()>) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let (tell, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            assert!(String::from_utf8_lossy(&request[..read]).starts_with("POST /token"));
            tell.send(()).expect("the test waits");
            std::thread::sleep(Duration::from_millis(200));
            let body = r#"{"access_token":"a2","refresh_token":"r2","token_type":"Bearer","expires_in":3600}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).expect("answered");
        });
        (origin, asked)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn s30_a_caller_that_goes_away_does_not_end_the_refresh_it_began() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::at(StateDir::open(dir.path().join("signin")).expect("our own"));
        let server = ServerName::new("linear").expect("a name");
        let (origin, asked) = slow_endpoint();
        let metadata = serde_json::json!({
            "issuer": origin,
            "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"),
        });
        let endpoint = format!("{origin}/mcp");
        let record = Record {
            endpoint: endpoint.clone(),
            resource: endpoint.clone(),
            metadata: metadata.to_string(),
            ..sample()
        };
        store.hold(&server).await.expect("free").write(&record).await.expect("written");
        let key = Key::new(&server, &endpoint.parse().expect("a URL"), &OAuth::default(), None, store.clone());
        let caller = tokio::task::spawn_blocking(move || asked.recv().expect("asked"));
        tokio::select! {
            _ = key.carried() => panic!("the caller was to go away before"),
            asked = caller => asked.expect("the endpoint was asked"),
        }
        key.settled().await;
        let kept = store.read(&server).await.expect("a record");
        assert_eq!(kept.generation, 2, "what the authorization server gave is on the disk");
        assert_eq!(key.carried().await.expect("signed in").header, "Bearer a2");
    }

    #[tokio::test]
    async fn a_login_of_another_process_is_found_when_the_server_refuses() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::at(StateDir::open(dir.path().join("signin")).expect("our own"));
        let server = ServerName::new("linear").expect("a name");
        let endpoint = "https://mcp.example/mcp".parse().expect("a URL");
        let key = Key::new(&server, &endpoint, &OAuth::default(), None, store.clone());
        assert!(key.carried().await.is_none());
        assert!(!key.refused(None, &HeaderMap::new()).await);
        store.hold(&server).await.expect("free").write(&sample()).await.expect("written");
        assert!(key.refused(None, &HeaderMap::new()).await);
        assert!(key.is_signed_in());
    }
}
