//! What a request carries of a sign-in: the seam between a server's client and its [`Key`].
//!
//! Every request of every verb passes here, so a token that was refreshed is in the very next one, whatever connection it
//! goes by. A refusal with 401 comes before any work; so the request goes a second time, once, if there is something newer
//! for it to carry (mcp-protocol 7.6). The key decides what that is, and nothing here begins a login.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use trunkline_signin::{Carried, Key};

use super::client::{Address, Answer, Client};
use super::failure::Failure;

impl Client {
    /// Has each request carry what `key` holds at the time.
    pub(crate) fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self
    }

    /// Sends one request and waits for the head of the response, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        to: &Address,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        self.send_with(method, to, headers, &[], body).await
    }

    /// As [`Client::send`], with headers of this request alone, each in the place of one of its name.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        to: &Address,
        common: &HeaderMap,
        own: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let Some(key) = &self.key else { return self.follow(method, to, common, own, body).await };
        let carried = key.carried().await;
        let answer = match &carried {
            Some(token) => self.follow(method.clone(), to, common, &with(own, token), body.clone()).await?,
            None => self.follow(method.clone(), to, common, own, body.clone()).await?,
        };
        if answer.status != StatusCode::UNAUTHORIZED || !key.refused(carried.as_ref(), &answer.headers).await {
            return Ok(answer);
        }
        let Some(newer) = key.carried().await else { return Ok(answer) };
        answer.body.discard();
        self.follow(method, to, common, &with(own, &newer), body).await
    }
}

fn with(own: &[(HeaderName, HeaderValue)], carried: &Carried) -> Vec<(HeaderName, HeaderValue)> {
    own.iter().cloned().chain([(AUTHORIZATION, carried.header.clone())]).collect()
}
