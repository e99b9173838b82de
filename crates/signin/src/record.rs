//! [`Record`]: what is kept of the sign-in to one server.
//!
//! A record is bound to the server's URL and to the issuer: one under the same name with another URL is none (S-27). Each
//! change of the tokens is a *generation*; signing out is one too, with no tokens in it, so that a refresh that was under
//! way meanwhile cannot bring them back.

use serde::{Deserialize, Serialize};
use trunkline_config::{Secret, wall_clock};

/// The form of the files. Another number is read as no record.
const FORM: u32 = 1;

/// The sign-in to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts the changes of the tokens, from 1 on.
    pub generation: u64,
    /// The server's URL, as configured.
    pub endpoint: String,
    /// The authorization server, as its metadata names it. Empty where a server has none (mcp-protocol 7.2, step 4).
    pub issuer: String,
    /// What the tokens are for, word for word as it was asked for (RFC 8707).
    pub resource: String,
    /// As whom we signed in.
    pub client: Client,
    /// What was granted.
    pub scopes: Vec<String>,
    /// `None` after signing out, and after the refresh token was refused.
    pub tokens: Option<Tokens>,
    /// Those before, until the tokens were good for a request: the authorization server may have forgotten what it gave.
    pub(crate) previous: Option<Tokens>,
    /// The authorization server's metadata, so that a refresh needs no discovery.
    pub metadata: String,
}

/// The gateway as a client of an authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its identifier there.
    pub id: String,
    /// Its secret, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hidden_option")]
    pub secret: Option<Secret>,
    /// The address that a person comes back by. It stays the same for a registration.
    pub redirect: String,
    /// It was registered by ourselves, and may be again.
    pub registered: bool,
    /// When its secret ends, in seconds of the Unix age, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ends: Option<u64>,
}

impl Client {
    /// Whether it is a registration of ours that the authorization server knows no more.
    pub(crate) fn is_over(&self) -> bool {
        self.registered && self.secret_ends.is_some_and(|end| end <= wall_clock())
    }
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Goes with each request.
    #[serde(with = "hidden")]
    pub access: Secret,
    /// Gets the next ones, if the authorization server gave one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hidden_option")]
    pub refresh: Option<Secret>,
    /// When they were issued, in seconds of the Unix age.
    pub issued: u64,
    /// When the access token ends, if that was told.
    pub expires: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    generation: u64,
    server: String,
    endpoint: String,
    issuer: String,
    resource: String,
    client: Client,
    scopes: Vec<String>,
    tokens: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Tokens>,
    metadata: String,
}

/// A refresh whose answer nobody has kept so far (`renew.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Of the tokens that it was made with.
    pub(crate) generation: u64,
    /// When the authorization server was asked last, in seconds of the Unix age.
    pub(crate) at: u64,
    /// How often it was asked with these tokens.
    pub(crate) times: u32,
}

impl Mark {
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("three numbers")
    }

    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

impl Record {
    /// The text of its file.
    pub(crate) fn write(&self, server: &str) -> serde_json::Result<Vec<u8>> {
        let Self { generation, endpoint, issuer, resource, client, scopes, tokens, previous, metadata } = self.clone();
        let (form, server) = (FORM, server.to_owned());
        let file =
            File { form, generation, server, endpoint, issuer, resource, client, scopes, tokens, previous, metadata };
        serde_json::to_vec(&file)
    }

    /// Reads a file; `None` if it is none of this form, or another server's.
    pub(crate) fn read(text: &[u8], server: &str) -> Option<Self> {
        let file: File = serde_json::from_slice(text).ok()?;
        if file.form != FORM || file.server != server {
            return None;
        }
        let File { generation, endpoint, issuer, resource, client, scopes, tokens, previous, metadata, .. } = file;
        Some(Self { generation, endpoint, issuer, resource, client, scopes, tokens, previous, metadata })
    }

    /// The generation after this one, with these tokens.
    #[must_use]
    pub(crate) fn next(&self, tokens: Option<Tokens>) -> Self {
        // Where refresh tokens do not change, those before have nothing that these have not.
        let refresh = |tokens: &Option<Tokens>| tokens.as_ref().and_then(|tokens| tokens.refresh.clone());
        let rotated = tokens.is_some() && refresh(&tokens) != refresh(&self.tokens);
        let previous = self.tokens.clone().filter(|_| rotated);
        Self { generation: self.generation + 1, tokens, previous, ..self.clone() }
    }
}

impl Record {
    /// The generation after this one, without tokens and without the registration.
    pub(crate) fn unregistered(&self) -> Self {
        let client = Client { registered: false, ..self.client.clone() };
        Self { client, ..self.next(None) }
    }
}

/// A secret on its way to its own file and back, the one place where it is written.
mod hidden {
    use serde::{Deserialize, Deserializer, Serializer};
    use trunkline_config::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

/// The same for one that may be missing.
mod hidden_option {
    use serde::{Deserialize, Deserializer, Serializer};
    use trunkline_config::Secret;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.expose()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Record {
    let tokens = Tokens {
        access: Secret::new("access-canary"),
        refresh: Some(Secret::new("refresh-canary")),
        issued: 1000,
        expires: Some(4600),
    };
    Record {
        generation: 1,
        endpoint: "https://mcp.example/mcp".to_owned(),
        issuer: "https://as.example".to_owned(),
        resource: "https://mcp.example/mcp".to_owned(),
        client: Client {
            id: "client".to_owned(),
            secret: None,
            redirect: "http://127.0.0.1:6270/oauth/callback".to_owned(),
            registered: true,
            secret_ends: None,
        },
        scopes: vec!["read".to_owned()],
        tokens: Some(tokens),
        previous: None,
        metadata: "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_only_for_its_server() {
        let mut record = sample();
        record.client.secret = Some(Secret::new("client-canary"));
        record.previous.clone_from(&record.tokens);
        let text = record.write("linear").expect("written");
        assert_eq!(Record::read(&text, "linear"), Some(record.clone()));
        assert_eq!(Record::read(&text, "notion"), None);
        record.tokens = None;
        assert_eq!(Record::read(&record.write("linear").expect("written"), "linear"), Some(record));
    }

    #[test]
    fn s31_a_record_prints_no_secret() {
        let mut record = sample();
        record.client.secret = Some(Secret::new("client-canary"));
        assert!(!format!("{record:?}").contains("canary"));
    }
}
