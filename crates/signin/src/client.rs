//! The one file that knows the library: from a server's refusal to a URL for a person, from the code that comes back to
//! tokens, and from old tokens to new ones (mcp-protocol 7.2 to 7.7).
//!
//! Discovery, registration, PKCE, `resource` and `iss` are the library's. What it leaves to its users is done here: the
//! `state` has 256 bits, S256 must be named by the metadata, endpoints are looked at before a person sees them, a
//! registration is used again with its secret, and a refresh names the resource word for word and needs no discovery.

use std::sync::Arc;

use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, ClientCredentialsConfig, CredentialStore as _,
    InMemoryCredentialStore, OAuthClientConfig, StoredCredentials, WWWAuthenticateParams,
};
use serde::Deserialize;
use serde_json::{Value, json};
use trunkline_config::{OAuth, Secret, wall_clock};
use trunkline_telemetry::redact::{Scrubber, printable};
use url::Url;

use crate::device::{self, DeviceCode, Waiting};
use crate::fetch::Fetcher;
use crate::limits::{LOGIN_URL_BYTES_MAX, WORDS_BYTES_MAX};
use crate::record::{Client, Record, Tokens};

/// How the gateway calls itself where it registers.
const CLIENT_NAME: &str = "Trunkline";

/// What a person can do whose own client is refused.
const WRONG_CLIENT: &str = "the authorization server refuses the client: look whether `oauth.client_id` and \
                            `oauth.client_secret` are still what is registered there";

/// What a login goes by.
pub(crate) struct Wish<'a> {
    pub(crate) endpoint: &'a Url,
    /// `WWW-Authenticate` of the server's refusal, if there was one.
    pub(crate) challenge: Option<&'a str>,
    /// Where a person comes back to.
    pub(crate) redirect: &'a str,
    pub(crate) oauth: &'a OAuth,
    /// What is kept of the last login.
    pub(crate) known: Option<&'a Record>,
    /// The person enters a code on another device (`device.rs`): no code comes back through a browser.
    pub(crate) by_device: bool,
    pub(crate) fetcher: Fetcher,
}

/// A login that waits for a person.
pub(crate) struct Begun {
    /// Where the person is to go.
    pub(crate) url: Url,
    /// What comes back with the code: 256 random bits.
    pub(crate) state: String,
    manager: AuthorizationManager,
    /// The same toward the library.
    csrf: String,
    /// All of the record but for the tokens.
    record: Record,
}

/// Why there is no token. The text is a fragment without secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsigned {
    /// The authorization server takes the refresh token no more.
    #[error("the authorization server takes the refresh token no more")]
    Rejected,
    /// The authorization server does not know the registration any more, and so none of its tokens.
    #[error("the authorization server does not know this client any more")]
    Unregistered,
    /// It may work later, or with other settings. Nothing changed at the authorization server.
    #[error("{0}")]
    Failed(String),
    /// The request went out and no answer came that says what became of it: the authorization server may have used up the
    /// refresh token.
    #[error("{0}")]
    Unheard(String),
}

/// A text for people out of an error, whose words may be the authorization server's.
fn failed(error: &(dyn std::error::Error + 'static)) -> Unsigned {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Unsigned::Failed(printable(&Scrubber::default().scrub(&text), WORDS_BYTES_MAX))
}

pub(crate) fn refused(text: impl Into<String>) -> Unsigned {
    Unsigned::Failed(text.into())
}

/// Whether the challenge of a refusal says that more must be granted (mcp-protocol 7.6).
pub(crate) fn lacks_scope(challenge: &str, endpoint: &Url) -> bool {
    WWWAuthenticateParams::parse(challenge, endpoint).is_insufficient_scope()
}

/// Finds the authorization server, becomes its client, and says where a person is to go.
pub(crate) async fn begin(wish: Wish<'_>) -> Result<Begun, Unsigned> {
    let Wish { endpoint, challenge, redirect, oauth, known, by_device, fetcher } = wish;
    let fetcher = Arc::new(fetcher);
    let mut manager = AuthorizationManager::new_with_oauth_http_client(endpoint.clone(), fetcher.clone())
        .await
        .map_err(|error| failed(&error))?;
    let found = manager.resolve_metadata_from_challenge(challenge).await.map_err(|error| failed(&error))?;
    let named = found.source.is_discovered();
    let mut metadata = found.metadata;
    if !named {
        // The scheme of 2025-03-26: whoever says nothing of itself is the origin (mcp-protocol 7.2, steps 4 and 6).
        metadata.issuer = Some(endpoint.origin().ascii_serialization());
    }
    // Where no code goes through a browser, none can be stolen there.
    sound(&metadata, &fetcher, named && !oauth.assume_pkce, oauth.client_credentials || by_device)?;
    let issuer = metadata.issuer.clone().unwrap_or_default();
    let text = serde_json::to_string(&metadata).map_err(|error| refused(error.to_string()))?;
    let by_document =
        metadata.additional_fields.get("client_id_metadata_document_supported") == Some(&Value::Bool(true));
    let registers = metadata.registration_endpoint.clone();
    manager.set_metadata(metadata);
    let scopes = match &oauth.scopes {
        scopes if scopes.is_empty() => manager.select_initial_scopes(&[]).await,
        scopes => scopes.clone(),
    };
    let scopes = together(scopes, known, endpoint);
    let wanted: Vec<&str> = scopes.iter().map(String::as_str).collect();

    let before = known.filter(|known| {
        let client = &known.client;
        client.registered
            && !client.is_over()
            && known.issuer == issuer
            && client.redirect == redirect
            && known.endpoint == endpoint.as_str()
            // It may not have been registered for that.
            && !by_device
    });
    // The order is the standard's (mcp-protocol 7.3).
    let (config, registered) = if let Some(id) = &oauth.client_id {
        (config(id, oauth.client_secret.as_ref(), redirect), false)
    } else if let Some(document) = oauth.client_metadata_url.as_ref().filter(|_| by_document) {
        (config(document.as_str(), None, redirect), false)
    } else if let Some(Record { client, .. }) = before {
        (config(&client.id, client.secret.as_ref(), redirect), true)
    } else if let Some(registration) = registers.as_ref().filter(|_| by_device) {
        let (id, secret) = device::register(&fetcher, registration, CLIENT_NAME, redirect).await?;
        (config(&id, secret.map(Secret::new).as_ref(), redirect), true)
    } else if registers.is_some() {
        let registered = manager.register_client(CLIENT_NAME, redirect, &wanted).await;
        (registered.map_err(|error| failed(&error))?, true)
    } else {
        return Err(refused(format!(
            "the authorization server registers no clients by itself: register Trunkline there by hand, with the \
             redirect address {redirect}, and set `oauth.client_id`"
        )));
    };
    // A secret that does not end says 0, or nothing.
    let ends = Some(fetcher.said().client_secret_expires_at).filter(|end| *end > 0);
    let secret_ends = match before {
        Some(Record { client, .. }) if client.id == config.client_id => client.secret_ends,
        _ => ends.filter(|_| registered && config.client_secret.is_some()),
    };
    let client = Client {
        id: config.client_id.clone(),
        secret: config.client_secret.clone().map(Secret::new),
        redirect: redirect.to_owned(),
        registered,
        secret_ends,
    };
    manager.configure_client(config).map_err(|error| failed(&error))?;
    let url = manager.get_authorization_url(&wanted).await.map_err(|error| failed(&error))?;
    let (url, state, csrf, resource) = with_own_state(&url)?;
    fetcher.check(&url).map_err(|error| refused(error.to_string()))?;
    let record = Record {
        generation: known.map_or(0, |known| known.generation),
        endpoint: endpoint.as_str().to_owned(),
        issuer,
        resource,
        client,
        scopes,
        tokens: None,
        previous: None,
        metadata: text,
    };
    Ok(Begun { url, state, manager, csrf, record })
}

/// What is wanted now, and what was granted before: a server that wants more for one thing wants the old as well for others
/// (mcp-protocol 7.6).
fn together(mut scopes: Vec<String>, known: Option<&Record>, endpoint: &Url) -> Vec<String> {
    let granted = known.filter(|known| known.tokens.is_some() && known.endpoint == endpoint.as_str());
    for scope in granted.iter().flat_map(|known| &known.scopes) {
        // Without a wish of ours or the server's, the authorization server decides.
        if !scopes.is_empty() && !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

fn config(id: &str, secret: Option<&Secret>, redirect: &str) -> OAuthClientConfig {
    let config = OAuthClientConfig::new(id, redirect);
    match secret {
        Some(secret) => config.with_client_secret(secret.expose()),
        None => config,
    }
}

/// Looks at what an authorization server says of itself (mcp-protocol 7.2, steps 7 and 8).
fn sound(metadata: &AuthorizationMetadata, fetcher: &Fetcher, named: bool, without_code: bool) -> Result<(), Unsigned> {
    let endpoints = [
        ("authorization_endpoint", Some(&metadata.authorization_endpoint)),
        ("token_endpoint", Some(&metadata.token_endpoint)),
        ("registration_endpoint", metadata.registration_endpoint.as_ref()),
    ];
    for (key, endpoint) in endpoints {
        let Some(endpoint) = endpoint else { continue };
        let url: Url = endpoint.parse().map_err(|_| refused(format!("`{key}` of its metadata is no URL")))?;
        fetcher.check(&url).map_err(|error| refused(format!("`{key}`: {error}")))?;
    }
    match &metadata.code_challenge_methods_supported {
        _ if without_code => Ok(()),
        Some(methods) if methods.iter().any(|method| method == "S256") => Ok(()),
        None if !named => Ok(()),
        Some(_) => {
            Err(refused("the authorization server does not support PKCE with S256, without which a code can be stolen"))
        }
        None => Err(refused(
            "the authorization server does not say that it supports PKCE with S256; if its operator says it does, set \
             `oauth.assume_pkce = true`",
        )),
    }
}

/// Puts a state of 256 bits in the place of the library's; returns both, and the resource that the URL names.
fn with_own_state(url: &str) -> Result<(Url, String, String, String), Unsigned> {
    let mut url: Url = url.parse().map_err(|_| refused("`authorization_endpoint` makes no URL"))?;
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    let state = random.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let value = |name| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (csrf, resource) = (value("state").unwrap_or_default(), value("resource").unwrap_or_default());
    let offline = value("scope").is_some_and(|scopes| scopes.split(' ').any(|scope| scope == "offline_access"));
    let own = pairs.iter().map(|(key, value)| {
        let is_state = key == "state" && *value == csrf;
        (key.as_str(), if is_state { state.as_str() } else { value.as_str() })
    });
    url.query_pairs_mut().clear().extend_pairs(own);
    if offline && value("prompt").is_none() {
        url.query_pairs_mut().append_pair("prompt", "consent");
    }
    if url.as_str().len() > LOGIN_URL_BYTES_MAX {
        return Err(refused("the address to sign in at is longer than 4 KiB"));
    }
    Ok((url, state, csrf, resource))
}

impl Begun {
    /// Gets the tokens for a code. `issuer` is the `iss` that came with it (RFC 9207).
    pub(crate) async fn finish(&self, code: &str, issuer: Option<&str>) -> Result<Record, Unsigned> {
        let got = self.manager.exchange_code_for_token_with_issuer(code, &self.csrf, issuer).await;
        let response = serde_json::to_value(got.map_err(|error| failed(&error))?);
        let given = Issued::of(response.map_err(|error| refused(error.to_string()))?)?;
        let mut record = self.record.next(Some(given.tokens()));
        if let Some(granted) = given.scopes() {
            record.scopes = granted;
        }
        Ok(record)
    }

    /// Whether an answer without a code is the authorization server's own (mcp-protocol 7.4): else not a word of it is to
    /// be believed or shown.
    pub(crate) fn is_of_issuer(&self, issuer: Option<&str>) -> bool {
        let metadata: Value = serde_json::from_str(&self.record.metadata).unwrap_or_default();
        let required = metadata["authorization_response_iss_parameter_supported"] == true;
        issuer.map_or(!required, |issuer| issuer == self.record.issuer)
    }
}

/// Finds the authorization server, becomes its client, and gets a code for a person to enter elsewhere.
///
/// `fetcher` is for what the library has no words for.
pub(crate) async fn by_device(wish: Wish<'_>, fetcher: Fetcher) -> Result<(DeviceCode, Waiting), Unsigned> {
    let Begun { record, .. } = begin(Wish { by_device: true, ..wish }).await?;
    device::begin(fetcher, record).await
}

/// Gets a token for the gateway itself.
pub(crate) async fn by_itself(wish: Wish<'_>) -> Result<Record, Unsigned> {
    let secret = wish.oauth.client_secret.clone().ok_or_else(|| refused("`oauth.client_secret` is not set"))?;
    // What the token is for, word for word, the library says only in the address that a person would go to.
    let Begun { mut manager, mut record, .. } = begin(wish).await?;
    let config = ClientCredentialsConfig::ClientSecret {
        client_id: record.client.id.clone(),
        client_secret: secret.expose().to_owned(),
        scopes: record.scopes.clone(),
        resource: Some(record.resource.clone()),
    };
    manager.validate_client_credentials_metadata(&config).map_err(|error| failed(&error))?;
    manager.configure_client_credentials(&config).map_err(|error| failed(&error))?;
    let got = manager.exchange_client_credentials(&config).await.map_err(|error| failed(&error))?;
    let given = Issued::of(serde_json::to_value(got).map_err(|error| refused(error.to_string()))?)?;
    // The next one is fetched as this one was.
    record.tokens = Some(Tokens { refresh: None, ..given.tokens() });
    Ok(record)
}

/// Gets the tokens that follow those of `record`.
pub(crate) async fn refresh(record: &Record, fetcher: Fetcher) -> Result<Tokens, Unsigned> {
    let tokens = record.tokens.as_ref().ok_or(Unsigned::Rejected)?;
    let refresh = tokens.refresh.as_ref().ok_or(Unsigned::Rejected)?;
    if record.client.is_over() {
        return Err(Unsigned::Unregistered);
    }
    let metadata: AuthorizationMetadata =
        serde_json::from_str(&record.metadata).map_err(|error| refused(error.to_string()))?;
    let fetcher = Arc::new(fetcher.naming(&record.resource));
    let manager = AuthorizationManager::new_with_oauth_http_client(record.resource.as_str(), fetcher.clone()).await;
    let mut manager = manager.map_err(|error| failed(&error))?;
    manager.set_metadata(metadata);
    let Client { id, secret, redirect, registered, secret_ends: _ } = &record.client;
    manager.configure_client(config(id, secret.as_ref(), redirect)).map_err(|error| failed(&error))?;
    // The library refreshes what it finds in a store; ours is asked before and after (store.rs).
    let before = json!({
        "access_token": tokens.access.expose(),
        "token_type": "bearer",
        "refresh_token": refresh.expose(),
    });
    let before = serde_json::from_value(before).map_err(|error| refused(error.to_string()))?;
    let kept = StoredCredentials::new(record.client.id.clone(), Some(before), record.scopes.clone(), None);
    let store = InMemoryCredentialStore::new();
    store.save(kept).await.map_err(|error| failed(&error))?;
    manager.set_credential_store(store);
    let got = match manager.refresh_token().await {
        Ok(response) => serde_json::to_value(response).map_err(|error| refused(error.to_string())).and_then(Issued::of),
        Err(AuthError::TokenRefreshRejected(_)) => return Err(Unsigned::Rejected),
        Err(_) if matches!(fetcher.said().error.as_deref(), Some("invalid_client" | "unauthorized_client")) => {
            return Err(if *registered { Unsigned::Unregistered } else { refused(WRONG_CLIENT) });
        }
        Err(other) => Err(failed(&other)),
    };
    got.map(|issued| issued.tokens()).map_err(|error| match error {
        Unsigned::Failed(reason) if fetcher.is_unheard() => Unsigned::Unheard(reason),
        told @ (Unsigned::Failed(_) | Unsigned::Rejected | Unsigned::Unregistered | Unsigned::Unheard(_)) => told,
    })
}

/// Tells the authorization server that the tokens are not needed any more (RFC 7009), if it wants to know.
pub(crate) async fn revoke(record: &Record, fetcher: Fetcher) -> Result<bool, Unsigned> {
    let metadata: Value = serde_json::from_str(&record.metadata).unwrap_or_default();
    let endpoint = metadata["revocation_endpoint"].as_str().and_then(|text| text.parse::<Url>().ok());
    let (Some(endpoint), Some(tokens)) = (endpoint, &record.tokens) else { return Ok(false) };
    // The refresh token takes the access tokens of its family along.
    let (token, hint) = match &tokens.refresh {
        Some(refresh) => (refresh.expose(), "refresh_token"),
        None => (tokens.access.expose(), "access_token"),
    };
    let mut fields = vec![("token", token), ("token_type_hint", hint), ("client_id", record.client.id.as_str())];
    fields.extend(record.client.secret.as_ref().map(|secret| ("client_secret", secret.expose())));
    let status = fetcher.post(&endpoint, &fields).await;
    let status = status.map_err(|error| failed(&*error))?;
    if status.is_success() { Ok(true) } else { Err(refused(format!("the authorization server answered {status}"))) }
}

/// The answer of a token endpoint.
#[derive(Deserialize)]
pub(crate) struct Issued {
    access_token: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

impl Issued {
    pub(crate) fn of(response: Value) -> Result<Self, Unsigned> {
        // The error would quote the token.
        let issued: Self = serde_json::from_value(response).map_err(|_| refused("the answer holds no access token"))?;
        let fits = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if fits(&issued.access_token) { Ok(issued) } else { Err(refused("the access token fits into no header")) }
    }

    /// What was granted, if that was told.
    pub(crate) fn scopes(&self) -> Option<Vec<String>> {
        let granted = self.scope.as_deref()?;
        Some(granted.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect())
    }

    pub(crate) fn tokens(&self) -> Tokens {
        let issued = wall_clock();
        Tokens {
            access: Secret::new(self.access_token.as_str()),
            refresh: self.refresh_token.as_deref().map(Secret::new),
            issued,
            expires: self.expires_in.map(|lifetime| issued.saturating_add(lifetime)),
        }
    }
}
