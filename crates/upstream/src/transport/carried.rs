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
        if answer.status == StatusCode::FORBIDDEN {
            key.forbidden(&answer.headers);
        }
        if let Some(token) = carried.as_ref().filter(|_| answer.status.is_success()) {
            key.proven(token);
        }
        if answer.status != StatusCode::UNAUTHORIZED || !key.refused(carried.as_ref(), &answer.headers).await {
            return Ok(answer);
        }
        let Some(newer) = key.carried().await else { return Ok(answer) };
        answer.body.discard();
        let answer = self.follow(method, to, common, &with(own, &newer), body).await?;
        if answer.status.is_success() {
            key.proven(&newer);
        }
        Ok(answer)
    }
}

fn with(own: &[(HeaderName, HeaderValue)], carried: &Carried) -> Vec<(HeaderName, HeaderValue)> {
    own.iter().cloned().chain([(AUTHORIZATION, carried.header.clone())]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use serde_json::json;
    use trunkline_config::{Http, StateDir};
    use trunkline_signin::{SignIn, Store};
    use trunkline_wire::ServerName;

    use trunkline_telemetry::redact::Scrubber;

    use super::super::body::Bounds;
    use super::super::fakes::{Fake, Got, json_reply, reply, status};
    use super::super::peer::Peer;
    use super::super::proxies::Proxies;
    use super::*;

    /// A server that wants a sign-in, with its authorization server at the default addresses, and a client that signed in.
    struct World {
        fake: Fake,
        client: Client,
        /// The number of the token that is let in.
        valid: Arc<AtomicUsize>,
        /// Requests by which the sign-in found its way.
        before: usize,
        _keep: tempfile::TempDir,
    }

    impl World {
        async fn new() -> Self {
            let (valid, issued) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
            let let_in = Arc::clone(&valid);
            let fake = Fake::new(move |got: Got| {
                let (let_in, issued) = (Arc::clone(&let_in), Arc::clone(&issued));
                async move {
                    let token = format!("Bearer t{}", let_in.load(Ordering::SeqCst));
                    match got.path.as_str() {
                        "/register" => json_reply(&json!({ "client_id": "c", "redirect_uris": [] })),
                        "/token" => {
                            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                            let (access, refresh) = (format!("t{number}"), format!("r{number}"));
                            json_reply(
                                &json!({ "access_token": access, "refresh_token": refresh, "token_type": "bearer" }),
                            )
                        }
                        "/mcp" | "/sse" if got.header("authorization") == Some(&token) => json_reply(&json!({})),
                        "/mcp" | "/sse" => status(401),
                        "/repeats" => {
                            let sent = got.header("authorization").and_then(|sent| sent.strip_prefix("Bearer "));
                            reply(500, &[], format!("you sent {}", sent.unwrap_or_default()))
                        }
                        _ => status(404),
                    }
                }
            })
            .await;
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::at(StateDir::open(dir.path().join("signin")).expect("our own"));
            let (signin, http) = (SignIn::new(store), Http::new(fake.url.clone()));
            let name = ServerName::new("remote").expect("a name");
            let url = signin.login(&name, &http, "http://127.0.0.1:1/oauth/callback").await.expect("begun");
            let url: url::Url = url.parse().expect("a URL");
            let state = url.query_pairs().find(|(key, _)| key == "state").expect("a state").1.into_owned();
            let returned = signin.callback(&format!("code=x&state={state}")).await;
            assert_eq!(returned.outcome, Ok(()));
            let address = Address::new(fake.url.clone()).expect("an address");
            let client = Client::new(&address, None, &Proxies::default(), Duration::from_secs(10)).expect("a client");
            let client = client.with_key(signin.key(&name, &http));
            let mut world = Self { fake, client, valid, before: 0, _keep: dir };
            world.before = world.requests();
            world
        }

        async fn ask(&self, method: Method, path: &str) -> StatusCode {
            let url = self.fake.url.join(path).expect("a URL");
            let to = Address::new(url).expect("an address");
            let answer = self.client.send(method, &to, &HeaderMap::new(), Bytes::new()).await.expect("an answer");
            answer.status
        }

        fn requests(&self) -> usize {
            let to_server = |got: &&Got| got.path == "/mcp" || got.path == "/sse";
            self.fake.seen().iter().filter(to_server).count() - self.before
        }
    }

    #[tokio::test]
    async fn s30_requests_of_every_verb_carry_the_token_and_a_newer_one_after_a_refusal() {
        let world = World::new().await;
        for (method, path) in [(Method::POST, "/mcp"), (Method::DELETE, "/mcp"), (Method::GET, "/sse")] {
            assert_eq!(world.ask(method, path).await, 200);
        }
        assert_eq!(world.requests(), 3);
        // The stream of the older transport is refused as any request is, and opened with the token that comes next.
        world.valid.store(2, Ordering::SeqCst);
        assert_eq!(world.ask(Method::GET, "/sse").await, 200);
        assert_eq!(world.ask(Method::POST, "/mcp").await, 200);
        assert_eq!(world.requests(), 6);
    }

    #[tokio::test]
    async fn s31_a_token_that_the_server_repeats_is_not_shown() {
        let world = World::new().await;
        let to = Address::new(world.fake.url.join("/repeats").expect("a URL")).expect("an address");
        let bounds = Bounds { message_bytes: 1 << 20, budget: trunkline_wire::Budget::new(1 << 20) };
        let http = Http::new(world.fake.url.clone());
        let peer = Peer::new(&http, (&Proxies::default(), Duration::from_secs(10)), Scrubber::default(), bounds)
            .expect("a peer");
        let peer = Peer { client: world.client.clone(), ..peer };
        let answer = peer.client.send(Method::POST, &to, &HeaderMap::new(), Bytes::new()).await.expect("an answer");
        let told = peer.refusal(answer, false).await.text;
        assert!(told.contains("sent ***") && !told.contains("t1"), "{told}");
    }

    #[tokio::test]
    async fn a_second_refusal_is_the_answer() {
        let world = World::new().await;
        world.valid.store(99, Ordering::SeqCst);
        assert_eq!(world.ask(Method::POST, "/mcp").await, 401);
        assert_eq!(world.requests(), 2);
    }
}
