//! [`SignIn`]: the logins of this daemon, and the keys to its servers.
//!
//! A login begins by a person's word ([`SignIn::login`]), which yields an address to go to; it ends when the person comes
//! back to `/oauth/callback` ([`SignIn::callback`]), when ten minutes have passed, or when another login to the same server
//! takes its place. Whoever waits for it ([`SignIn::waited`]) hears how it ended. Nothing else begins one (S-28, S-29).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_config::Http;
use trunkline_telemetry::redact::printable;
use trunkline_wire::ServerName;
use url::form_urlencoded;

use crate::Record;
use crate::client::{self, Begun, Unsigned, Wish};
use crate::device::DeviceCode;
use crate::fetch::Fetcher;
use crate::key::Key;
use crate::limits::{KEYS_MAX, LOGIN_PATIENCE, LOGINS_MAX, SETTLE_PATIENCE, WORDS_BYTES_MAX};
use crate::store::{Store, StoreError};

/// The logins and keys of a daemon. Cloning shares it.
#[derive(Clone)]
pub struct SignIn(Arc<Shared>);

struct Shared {
    store: Store,
    /// One for each configured server that takes one.
    keys: Mutex<HashMap<ServerName, Key>>,
    /// Logins that wait for a person, and those that ended lately, for who asks how: at most [`LOGINS_MAX`].
    open: Mutex<HashMap<ServerName, Login>>,
}

#[derive(Clone)]
struct Login {
    key: Key,
    /// What comes back through a browser; `None` where a code is entered elsewhere.
    begun: Option<Arc<Begun>>,
    until: Instant,
    /// Somebody came back with its state, which is good for one answer.
    answered: Arc<AtomicBool>,
    ended: watch::Sender<Option<Ended>>,
}

/// How a login ended: with the scopes that were granted, or a sentence.
type Ended = Result<Vec<String>, String>;

/// Why nobody is signed in. The text is a sentence without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotSignedIn(pub String);

/// What to tell a person who came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// The server, if the login is one of ours.
    pub server: Option<ServerName>,
    /// How it went.
    pub outcome: Result<(), String>,
}

/// What signing out did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOut {
    /// The tokens are gone here, and revoked there.
    Revoked,
    /// The tokens are gone here; the authorization server offers no revocation, or could not be reached.
    HereOnly,
    /// Nobody was signed in.
    WasNot,
}

impl SignIn {
    /// Logins whose tokens are kept in `store`.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Shared { store, keys: Mutex::default(), open: Mutex::default() }))
    }

    /// The key to a server; `None` if its credential is configured, which is then the only one (mcp-protocol 7.1).
    pub fn key(&self, server: &ServerName, http: &Http) -> Option<Key> {
        if has_credential(http) {
            return None;
        }
        let mut keys = lock(&self.0.keys);
        if let Some(key) = keys.get(server).filter(|key| key.fits(&http.url, &http.oauth, http.ca_file.as_ref())) {
            return Some(key.clone());
        }
        if keys.len() >= KEYS_MAX {
            // Names that came and went with the configuration.
            keys.retain(|_, key| key.is_in_use());
        }
        let key = Key::new(server, &http.url, &http.oauth, http.ca_file.clone(), self.0.store.clone());
        keys.insert(server.clone(), key.clone());
        Some(key)
    }

    /// Begins a login, in the place of one to the same server that is open. Returns where the person is to go.
    ///
    /// # Errors
    /// The authorization server cannot be found, or does not take us.
    pub async fn login(&self, server: &ServerName, http: &Http, redirect: &str) -> Result<String, NotSignedIn> {
        let (key, known) = self.counterpart(server, http).await?;
        // A registration that the last login led nowhere with may be unknown there by now, of which only the person is told.
        let known = known.filter(|_| !self.led_nowhere(server));
        let challenge = key.challenge();
        let wish = wish(server, http, redirect, challenge.as_deref(), known.as_ref()).await?;
        let begun = Box::pin(client::begin(wish)).await.map_err(|error| no(server, &error))?;
        let url = begun.url.to_string();
        self.open(server, key, Some(Arc::new(begun)), LOGIN_PATIENCE)?;
        Ok(url)
    }

    /// Begins a login whose code a person enters on another device, in the place of one that is open. It ends by itself.
    ///
    /// # Errors
    /// The authorization server cannot be found, does not take us, or knows no such codes.
    pub async fn login_by_device(
        &self,
        server: &ServerName,
        http: &Http,
        redirect: &str,
    ) -> Result<DeviceCode, NotSignedIn> {
        let (key, known) = self.counterpart(server, http).await?;
        let challenge = key.challenge();
        let wish = wish(server, http, redirect, challenge.as_deref(), known.as_ref()).await?;
        let fetcher = Fetcher::new(&http.url, http.ca_file.as_deref()).await.map_err(|error| no(server, &error))?;
        let (code, waiting) = Box::pin(client::by_device(wish, fetcher)).await.map_err(|error| no(server, &error))?;
        let login = self.open(server, key, None, Duration::from_secs(code.seconds))?;
        let (desk, server) = (self.clone(), server.clone());
        trunkline_telemetry::spawn("signin-device", async move {
            let mut replaced = login.ended.subscribe();
            let ended = tokio::select! {
                biased;
                () = async { drop(replaced.wait_for(Option::is_some).await) } => return,
                finished = waiting.finish() => match finished {
                    Ok(record) => desk.keep(&server, &login, record).await,
                    Err(error) => Err(error.to_string()),
                },
            };
            told(&server, &ended);
            login.end(ended);
        });
        Ok(code)
    }

    /// The key of a server that a person may sign in to, and what is kept of the last login.
    async fn counterpart(&self, server: &ServerName, http: &Http) -> Result<(Key, Option<Record>), NotSignedIn> {
        let key = self.key(server, http).ok_or_else(|| {
            NotSignedIn(format!(
                "server `{server}` has its credential in the configuration; remove `bearer_token_env_var`, \
                 `bearer_token` or the `Authorization` header from [mcp_servers.{server}] to sign in instead"
            ))
        })?;
        if key.is_by_itself() {
            key.carried().await;
            let how = key.failure().map_or_else(
                || "and is signed in; there is nothing for you to do".to_owned(),
                |failure| format!("which failed: {failure}"),
            );
            return Err(NotSignedIn(format!(
                "the gateway signs in to server `{server}` by itself, as `oauth.client_credentials` says, {how}"
            )));
        }
        Ok((key, self.0.store.read(server).await))
    }

    /// Notes a login that waits for a person, in the place of one to the same server.
    fn open(
        &self,
        server: &ServerName,
        key: Key,
        begun: Option<Arc<Begun>>,
        patience: Duration,
    ) -> Result<Login, NotSignedIn> {
        let until = Instant::now() + patience;
        let login = Login { key, begun, until, answered: Arc::default(), ended: watch::Sender::new(None) };
        let mut open = lock(&self.0.open);
        open.retain(|_, login| login.until > Instant::now());
        if open.len() >= LOGINS_MAX && !open.contains_key(server) {
            return Err(no(server, &format!("{LOGINS_MAX} other sign-ins wait for somebody")));
        }
        if let Some(before) = open.insert(server.clone(), login.clone()) {
            before.end(Err(format!("another sign-in to server `{server}` took the place of this one")));
        }
        Ok(login)
    }

    /// Gives up the login to a server that is open, for another one that begins.
    pub fn withdraw(&self, server: &ServerName) {
        if let Some(login) = lock(&self.0.open).get(server).filter(|login| login.ended.borrow().is_none()) {
            login.answered.store(true, Ordering::SeqCst);
            login.end(Err(format!("another sign-in to server `{server}` took the place of this one")));
        }
    }

    /// Waits until the open login to a server ends; yields the scopes that were granted.
    ///
    /// # Errors
    /// It ended badly, or there is none.
    pub async fn waited(&self, server: &ServerName) -> Result<Vec<String>, NotSignedIn> {
        let login = lock(&self.0.open).get(server).cloned();
        let login = login.ok_or_else(|| NotSignedIn(format!("no sign-in to server `{server}` is under way")))?;
        let mut ended = login.ended.subscribe();
        // The sender is held here.
        let outcome = match timeout_at(login.until, ended.wait_for(Option::is_some)).await {
            Ok(outcome) => outcome.ok().and_then(|outcome| outcome.clone()),
            Err(_) => None,
        };
        outcome
            .unwrap_or_else(|| Err("nobody came back from the authorization server in time".to_owned()))
            .map_err(NotSignedIn)
    }

    /// A person comes back with this query. Whatever it says of errors is only passed on if it is the authorization
    /// server's own word (mcp-protocol 7.4).
    pub async fn callback(&self, query: &str) -> Returned {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |name: &str| {
            let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            // Twice is no value at all: who put in the second?
            found.next().filter(|_| found.next().is_none())
        };
        let Some((server, login)) = value("state").and_then(|state| self.open_by(state)) else {
            let text = "this sign-in is not known, or was over already; start it again with `trunkline login`";
            return Returned { server: None, outcome: Err(text.to_owned()) };
        };
        let issuer = value("iss");
        let Some(begun) = login.begun.as_ref().filter(|begun| begun.is_of_issuer(issuer)) else {
            // The login stays open: a forged answer must not end it (S-27).
            let text =
                "the answer does not come from the authorization server that was asked; nothing was done with it";
            tracing::warn!(%server, "an answer to a sign-in came from another issuer than the one that was asked");
            return Returned { server: Some(server), outcome: Err(text.to_owned()) };
        };
        // Once: whoever comes second with the same state finds nothing.
        if login.answered.swap(true, Ordering::SeqCst) {
            let text = "this sign-in was over already";
            return Returned { server: Some(server), outcome: Err(text.to_owned()) };
        }
        let ended = if let Some(code) = value("code") {
            match begun.finish(code, issuer).await {
                Ok(record) => self.keep(&server, &login, record).await,
                Err(error) => Err(error.to_string()),
            }
        } else {
            let said = [value("error"), value("error_description")].into_iter().flatten().collect::<Vec<_>>();
            let said = printable(&said.join(": "), WORDS_BYTES_MAX);
            let said = if said.is_empty() { "it gave no reason".to_owned() } else { said };
            Err(format!("the authorization server refused: {said}"))
        };
        told(&server, &ended);
        let outcome = ended.as_ref().map(|_| ()).map_err(Clone::clone);
        login.end(ended);
        Returned { server: Some(server), outcome }
    }

    /// Forgets the tokens of a server, and has them revoked where that is offered.
    ///
    /// # Errors
    /// The store cannot be changed.
    pub async fn logout(&self, server: &ServerName, http: &Http) -> Result<SignedOut, NotSignedIn> {
        let no = |error: StoreError| NotSignedIn(format!("server `{server}` is still signed in to: {error}"));
        if http.oauth.client_credentials {
            return Err(NotSignedIn(format!(
                "the gateway signs in to server `{server}` by itself and would do so again; set `enabled = false` in \
                 [mcp_servers.{server}], or remove `oauth.client_credentials`"
            )));
        }
        let key = self.key(server, http);
        let held = self.0.store.hold(server).await.map_err(no)?;
        // What the disk did not take is a sign-in as any other.
        let newest = newest(held.read().await, key.as_ref().and_then(Key::record));
        let Some(record) = newest.filter(|record| record.tokens.is_some()) else {
            return Ok(SignedOut::WasNot);
        };
        let gone = record.next(None);
        match (held.write(&gone).await, &key) {
            (Ok(()), Some(key)) => key.adopt(Some(gone)),
            (Ok(()), None) => {}
            (Err(error @ StoreError::Io(_)), Some(key)) => key.keep_later(gone, &error),
            (Err(error), _) => return Err(no(error)),
        }
        drop(held);
        let revoked = match Fetcher::new(&http.url, http.ca_file.as_deref()).await {
            Ok(fetcher) if record.endpoint == http.url.as_str() => client::revoke(&record, fetcher).await,
            Ok(_) => Ok(false),
            Err(error) => Err(Unsigned::Failed(error.to_string())),
        };
        match revoked {
            Ok(true) => Ok(SignedOut::Revoked),
            Ok(false) => Ok(SignedOut::HereOnly),
            Err(reason) => {
                tracing::warn!(%server, %reason, "the tokens are forgotten here and not revoked there");
                Ok(SignedOut::HereOnly)
            }
        }
    }

    /// Servers whose newest tokens the disk did not take; a restart would want a new sign-in to them.
    pub fn unkept(&self) -> Vec<ServerName> {
        let keys = lock(&self.0.keys);
        let mut names: Vec<ServerName> =
            keys.iter().filter(|(_, key)| key.is_unkept()).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Waits until refreshes that are under way are on the disk, for as long as an authorization server may take.
    pub async fn settled(&self) {
        let keys: Vec<Key> = lock(&self.0.keys).values().cloned().collect();
        // What hangs longer has not come as far as to the authorization server, or gets no answer from it.
        let _ = timeout(SETTLE_PATIENCE, join_all(keys.iter().map(Key::settled))).await;
    }

    /// Keeps what a person's login brought.
    async fn keep(&self, server: &ServerName, login: &Login, record: Record) -> Ended {
        let held = self.0.store.hold(server).await.map_err(|error| error.to_string())?;
        // Another process may have refreshed or signed out meanwhile: a person's login is newer than that.
        let there = newest(held.read().await, login.key.record()).map_or(0, |record| record.generation);
        let record = Record { generation: record.generation.max(there + 1), ..record };
        let scopes = record.scopes.clone();
        match held.write(&record).await {
            Ok(()) => login.key.adopt(Some(record)),
            Err(error) => login.key.keep_later(record, &error),
        }
        Ok(scopes)
    }

    /// Whether the last login to a server of late is open still, or ended badly.
    fn led_nowhere(&self, server: &ServerName) -> bool {
        lock(&self.0.open).get(server).is_some_and(|login| !matches!(*login.ended.borrow(), Some(Ok(_))))
    }

    fn open_by(&self, state: &str) -> Option<(ServerName, Login)> {
        let open = lock(&self.0.open);
        let waits = |login: &Login| !login.answered.load(Ordering::SeqCst) && login.until > Instant::now();
        let is_its = |login: &Login| login.begun.as_ref().is_some_and(|begun| begun.state == state);
        let found = open.iter().find(|(_, login)| is_its(login) && waits(login));
        found.map(|(server, login)| (server.clone(), login.clone()))
    }
}

/// What a login to a server goes by.
async fn wish<'a>(
    server: &ServerName,
    http: &'a Http,
    redirect: &'a str,
    challenge: Option<&'a str>,
    known: Option<&'a Record>,
) -> Result<Wish<'a>, NotSignedIn> {
    let fetcher = Fetcher::new(&http.url, http.ca_file.as_deref()).await.map_err(|error| no(server, &error))?;
    Ok(Wish { endpoint: &http.url, challenge, redirect, oauth: &http.oauth, known, by_device: false, fetcher })
}

fn no(server: &ServerName, error: &dyn std::fmt::Display) -> NotSignedIn {
    NotSignedIn(format!("no sign-in to server `{server}`: {error}"))
}

/// Tells the log how a login ended.
fn told(server: &ServerName, ended: &Ended) {
    match ended {
        Ok(_) => tracing::info!(%server, "signed in"),
        Err(reason) => tracing::warn!(%server, reason, "not signed in"),
    }
}

/// The newer of what is on the disk and what is in memory, which the disk may not have taken.
fn newest(disk: Option<Record>, memory: Option<Record>) -> Option<Record> {
    disk.into_iter().chain(memory).max_by_key(|record| record.generation)
}

impl Login {
    fn end(&self, how: Ended) {
        self.ended.send_replace(Some(how));
    }
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<String> = lock(&self.0.keys).keys().map(ToString::to_string).collect();
        out.debug_tuple("SignIn").field(&keys).finish()
    }
}

/// Whether requests to a server carry a credential of the configuration.
pub fn has_credential(http: &Http) -> bool {
    http.bearer.is_some()
        || http.bearer_source.is_some()
        || !http.url.username().is_empty()
        || http.url.password().is_some()
        || http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
