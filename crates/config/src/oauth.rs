//! How the gateway signs in to a server: the `oauth` table of its block, and `scopes` beside it.
//!
//! Nothing of it is needed: most servers say themselves where to sign in, and register the gateway. A client that was
//! registered by hand is named here.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::clients::Ignored;
use crate::secret::Secret;

/// `[mcp_servers.NAME.oauth]` as written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "OAuth")]
pub(crate) struct OAuthFile {
    /// The gateway's identifier at the authorization server, where it was registered by hand.
    pub(crate) client_id: Option<String>,
    /// The secret that goes with it, if there is one. Better: `${env:NAME}` or `${file:PATH}` here.
    pub(crate) client_secret: Option<String>,
    /// The https address of a document that describes the gateway as a client, for authorization servers that take one in
    /// place of a registration.
    pub(crate) client_metadata_url: Option<String>,
    /// Sign in although the authorization server does not say that it supports PKCE with S256. Default false.
    pub(crate) assume_pkce: bool,
    /// Sign in as the gateway itself, without a person: by `client_id` and `client_secret` alone. Default false.
    pub(crate) client_credentials: bool,
    /// The port of 127.0.0.1 that a person comes back to, where another address than the gateway's own was registered. It is
    /// listened on while a sign-in is under way. Default: the gateway's own port.
    #[schemars(range(min = 1))]
    pub(crate) callback_port: Option<u16>,

    /// Codex's own; without effect here.
    pub(crate) callback_url: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) token_endpoint_auth_method: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) authorization_server_issuer: Option<Ignored>,
}

/// How the gateway signs in to a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OAuth {
    /// Its identifier, where it was registered by hand.
    pub client_id: Option<String>,
    /// The secret that goes with it.
    pub client_secret: Option<Secret>,
    /// A document that describes it.
    pub client_metadata_url: Option<Url>,
    /// Whether PKCE is taken for granted.
    pub assume_pkce: bool,
    /// Whether the gateway signs in as itself, without a person.
    pub client_credentials: bool,
    /// The port that a person comes back to; `None`: the gateway's own.
    pub callback_port: Option<u16>,
    /// What to ask for. Empty: what the server says.
    pub scopes: Vec<String>,
}

impl OAuthFile {
    /// Keys that are known and have no effect.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("oauth.callback_url", self.callback_url.is_some()),
            ("oauth.token_endpoint_auth_method", self.token_endpoint_auth_method.is_some()),
            ("oauth.authorization_server_issuer", self.authorization_server_issuer.is_some()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }
}
