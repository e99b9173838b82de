//! A server that wants a sign-in, and the authorization server it names, on one port: scripted, strict, and watching.
//!
//! It checks what it is sent (PKCE, `resource`, redirect address, client) and refuses what a strict one would. Refresh
//! tokens rotate; one that comes a second time revokes the whole family, as the security guidance wants it. The person is
//! played by a plain GET of the authorization address, which is redirected back at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::{Value, json};

/// The secret of the client `machine`, which signs in without a person.
pub(crate) const MACHINE_SECRET: &str = "canary-machine-0123456789abcdef";

/// What is wrong with the authorization server's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// It is found after so many redirects.
    Hops(usize),
    /// It is at this address, says a redirect.
    Elsewhere(String),
    /// It is of so many bytes.
    Large(usize),
    /// The resource is another one, say its own metadata.
    OtherResource,
}

/// How it behaves.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a manner of its own, and a test sets one or two")]
pub(crate) struct Manners {
    /// The challenge names the metadata of the resource.
    pub(crate) names_metadata: bool,
    /// Where the metadata of the resource is: below the path, at the root, or nowhere (the scheme of 2025-03-26).
    pub(crate) resource_metadata: Option<&'static str>,
    /// Where the authorization server's own metadata is; `None`: the default endpoints.
    pub(crate) server_metadata: Option<&'static str>,
    /// It registers clients.
    pub(crate) registers: bool,
    /// It takes the address of a document for a client.
    pub(crate) takes_documents: bool,
    /// What it says of PKCE.
    pub(crate) pkce: Option<&'static str>,
    /// Clients have a secret, and must show it.
    pub(crate) secret: bool,
    /// The `iss` of the first answer is another's.
    pub(crate) wrong_issuer_first: bool,
    /// What a tool call needs besides.
    pub(crate) call_scope: Option<&'static str>,
    /// It knows the clients that it registered, and nobody else.
    pub(crate) knows_clients: bool,
    /// The person says no.
    pub(crate) denies: bool,
    /// It gives codes that are entered on another device, after so many questions whether that was done.
    pub(crate) gives_codes: Option<usize>,
    /// What is wrong with metadata.
    pub(crate) hostile: Option<Hostile>,
    /// When the secrets of clients end.
    pub(crate) secret_ends: u64,
    /// It takes the refresh token before the current one once more, since an answer may have been lost.
    pub(crate) forgives: bool,
    /// What the metadata calls the issuer, in place of the truth.
    pub(crate) issuer: Option<&'static str>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            names_metadata: true,
            resource_metadata: Some("/.well-known/oauth-protected-resource/mcp"),
            server_metadata: Some("/.well-known/oauth-authorization-server"),
            registers: true,
            takes_documents: false,
            pkce: Some("S256"),
            secret: false,
            wrong_issuer_first: false,
            knows_clients: false,
            call_scope: None,
            denies: false,
            gives_codes: None,
            hostile: None,
            secret_ends: 0,
            forgives: false,
            issuer: None,
        }
    }
}

pub(crate) struct Authority {
    /// Of the MCP server.
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    manners: Manners,
    origin: String,
    /// By code: what the token request must bring.
    codes: HashMap<String, HashMap<String, String>>,
    /// Redirect address by client.
    clients: HashMap<String, String>,
    next: usize,
    /// Access token and refresh token that hold.
    pub(crate) access: Option<String>,
    /// What was asked for when a person came last, and so granted.
    pub(crate) scope: String,
    pub(crate) refresh: Option<String>,
    /// The refresh token before it.
    before: Option<String>,
    /// Every secret that ever went out.
    pub(crate) secrets: Vec<String>,
    pub(crate) refreshes: usize,
    /// Tokens that a client got for itself.
    pub(crate) machine: usize,
    /// Refreshes, and wishes of clients for themselves, that were refused.
    pub(crate) refusals: usize,
    pub(crate) registrations: usize,
    pub(crate) revocations: usize,
    /// The family was revoked, since a refresh token came twice.
    pub(crate) replayed: bool,
    /// What a device waits with, and how often it asked.
    device: Option<(String, usize)>,
    /// What it had to refuse, for the test to see.
    pub(crate) complaints: Vec<String>,
    /// Requests to the MCP server that were let in.
    pub(crate) served: usize,
}

impl Authority {
    pub(crate) async fn start(manners: Manners) -> Authority {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State { manners, origin: origin.clone(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let shared = shared.clone();
            async move { shared.lock().expect("sound").answer(&method, &uri, &headers, &body) }
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Authority { url: format!("{origin}/mcp"), state }
    }

    pub(crate) fn block(&self, name: &str) -> String {
        format!("[mcp_servers.{name}]\nurl = {:?}\n", self.url)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("sound")
    }

    /// Access tokens that are out hold no more; refresh tokens do.
    pub(crate) fn expire(&self) {
        self.state().access = None;
    }

    /// The clients that were registered are known no more.
    pub(crate) fn forget_clients(&self) {
        self.state().clients.clear();
    }

    /// Nothing holds any more.
    pub(crate) fn revoke(&self) {
        let mut state = self.state();
        (state.access, state.refresh) = (None, None);
    }
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(text)).expect("a response")
}

fn led(to: &str) -> Response<Body> {
    let response = Response::builder().status(StatusCode::FOUND).header("location", to);
    response.body(Body::empty()).expect("a response")
}

fn form(text: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

impl State {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &str) -> Response<Body> {
        let path = uri.path();
        let manners = self.manners.clone();
        match (method, path) {
            (_, "/mcp") => self.mcp(method, headers, body),
            (&Method::GET, path) if Some(path) == manners.resource_metadata => reply(
                200,
                &json!({
                    "resource": match manners.hostile {
                        Some(Hostile::OtherResource) => "https://other.example/mcp".to_owned(),
                        _ => format!("{}/mcp", self.origin),
                    },
                    "authorization_servers": [self.origin],
                    "scopes_supported": ["read", "write"],
                }),
            ),
            (&Method::GET, path) if Some(path) == manners.server_metadata => {
                let query = uri.query().unwrap_or_default();
                let hop: usize = query.strip_prefix("hop=").and_then(|hop| hop.parse().ok()).unwrap_or(0);
                match &manners.hostile {
                    Some(Hostile::Hops(hops)) if hop < *hops => return led(&format!("{path}?hop={}", hop + 1)),
                    Some(Hostile::Elsewhere(address)) => return led(address),
                    _ => {}
                }
                let mut metadata = json!({
                    "issuer": manners.issuer.unwrap_or(&self.origin),
                    "authorization_endpoint": format!("{}/authorize", self.origin),
                    "token_endpoint": format!("{}/token", self.origin),
                    "revocation_endpoint": format!("{}/revoke", self.origin),
                    "response_types_supported": ["code"],
                    "authorization_response_iss_parameter_supported": true,
                    "client_id_metadata_document_supported": manners.takes_documents,
                });
                if let Some(Hostile::Large(bytes)) = manners.hostile {
                    metadata["padding"] = json!("x".repeat(bytes));
                }
                if manners.gives_codes.is_some() {
                    metadata["device_authorization_endpoint"] = json!(format!("{}/device", self.origin));
                }
                if manners.registers {
                    metadata["registration_endpoint"] = json!(format!("{}/register", self.origin));
                }
                if let Some(methods) = manners.pkce {
                    metadata["code_challenge_methods_supported"] = json!([methods]);
                }
                reply(200, &metadata)
            }
            (&Method::POST, "/register") if manners.registers => self.register(body),
            (&Method::GET, "/authorize") => self.authorize(&form(uri.query().unwrap_or_default())),
            (&Method::POST, "/device") if manners.gives_codes.is_some() => self.give_code(&form(body)),
            (&Method::POST, "/token") => self.token(headers, &form(body)),
            (&Method::POST, "/revoke") => {
                if form(body).get("token") == self.refresh.as_ref() {
                    (self.access, self.refresh) = (None, None);
                    self.revocations += 1;
                }
                reply(200, &Value::Null)
            }
            _ => reply(404, &Value::Null),
        }
    }

    fn secret(&mut self, kind: &str) -> String {
        self.next += 1;
        let secret = format!("canary-{kind}-{:04}-0123456789abcdef", self.next);
        self.secrets.push(secret.clone());
        secret
    }

    fn complain(&mut self, text: impl Into<String>) -> Response<Body> {
        self.complaints.push(text.into());
        reply(400, &json!({ "error": "invalid_request" }))
    }

    fn register(&mut self, body: &str) -> Response<Body> {
        let asked: Value = serde_json::from_str(body).unwrap_or_default();
        let redirect = asked["redirect_uris"][0].as_str().unwrap_or_default().to_owned();
        if asked["application_type"] != "native" || asked["client_name"] != "Trunkline" {
            return self.complain(format!("a registration of another kind: {asked}"));
        }
        self.registrations += 1;
        let id = format!("client-{}", self.registrations);
        self.clients.insert(id.clone(), redirect.clone());
        let mut answer = json!({ "client_id": id, "redirect_uris": [redirect] });
        if self.manners.secret {
            answer["client_secret"] = json!(self.secret("client"));
            answer["client_secret_expires_at"] = json!(self.manners.secret_ends);
        }
        reply(201, &answer)
    }

    /// The person's browser: redirected back at once.
    fn authorize(&mut self, query: &HashMap<String, String>) -> Response<Body> {
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (client, redirect) = (get("client_id"), get("redirect_uri"));
        let known = self.clients.get(&client);
        if known.is_none() && self.manners.knows_clients {
            return reply(400, &json!("who is this client?"));
        }
        let registered = known.is_none_or(|known| *known == redirect);
        let sound = get("response_type") == "code"
            && get("code_challenge_method") == "S256"
            && get("resource") == format!("{}/mcp", self.origin)
            && get("state").len() >= 43
            && registered;
        if !sound {
            return self.complain(format!("an authorization request that a strict server refuses: {query:?}"));
        }
        self.scope = get("scope");
        let mut answer = url::Url::parse(&redirect).expect("an address");
        answer.query_pairs_mut().append_pair("state", &get("state"));
        let wrong = std::mem::take(&mut self.manners.wrong_issuer_first);
        let issuer = if wrong { "https://evil.example" } else { self.origin.as_str() };
        answer.query_pairs_mut().append_pair("iss", issuer);
        if self.manners.denies {
            answer.query_pairs_mut().append_pair("error", "access_denied");
        } else {
            let code = self.secret("code");
            answer.query_pairs_mut().append_pair("code", &code);
            self.codes.insert(code, query.clone());
        }
        let response = Response::builder().status(StatusCode::FOUND).header("location", answer.as_str());
        response.body(Body::empty()).expect("a response")
    }

    /// A code for a person to enter elsewhere.
    fn give_code(&mut self, asked: &HashMap<String, String>) -> Response<Body> {
        let get = |name: &str| asked.get(name).cloned().unwrap_or_default();
        if get("resource") != format!("{}/mcp", self.origin) || !self.clients.contains_key(&get("client_id")) {
            return self.complain(format!("a wish for a code that a strict server refuses: {asked:?}"));
        }
        self.scope = get("scope");
        let device = self.secret("device");
        self.device = Some((device.clone(), 0));
        let uri = format!("{}/activate", self.origin);
        let whole = format!("{uri}?user_code=WDJB-MJHT");
        reply(
            200,
            &json!({
                "device_code": device, "user_code": "WDJB-MJHT", "verification_uri": uri,
                "verification_uri_complete": whole, "expires_in": 300, "interval": 1,
            }),
        )
    }

    fn token(&mut self, headers: &HeaderMap, asked: &HashMap<String, String>) -> Response<Body> {
        let get = |name: &str| asked.get(name).cloned().unwrap_or_default();
        if get("resource") != format!("{}/mcp", self.origin) {
            return self.complain("a token request without the resource");
        }
        if self.manners.secret && !headers.contains_key("authorization") {
            return self.complain("a token request without the client's secret");
        }
        if self.manners.knows_clients && !self.clients.contains_key(&get("client_id")) {
            return reply(401, &json!({ "error": "invalid_client" }));
        }
        match get("grant_type").as_str() {
            "authorization_code" => {
                let Some(begun) = self.codes.remove(&get("code")) else {
                    return self.complain("a code that is not known, or comes a second time");
                };
                if begun["redirect_uri"] != get("redirect_uri") {
                    return self.complain("another redirect address");
                }
                if begun["code_challenge"] != challenge(&get("code_verifier")) {
                    return self.complain("a verifier that does not fit");
                }
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let wanted = self.manners.gives_codes.unwrap_or_default();
                match &mut self.device {
                    Some((device, times)) if *device == get("device_code") && *times < wanted => {
                        *times += 1;
                        return reply(400, &json!({ "error": "authorization_pending" }));
                    }
                    Some((device, _)) if *device == get("device_code") => self.device = None,
                    _ => return self.complain("a device's code that is not known"),
                }
                if self.manners.denies {
                    return reply(400, &json!({ "error": "access_denied" }));
                }
            }
            "refresh_token" => {
                let token = Some(get("refresh_token"));
                let forgiven = self.manners.forgives && self.before == token && self.refresh.is_some();
                if self.refresh != token && !forgiven {
                    self.refusals += 1;
                    self.replayed |= self.secrets.contains(&get("refresh_token")) && self.refresh.is_some();
                    (self.access, self.refresh) = (None, None);
                    return reply(400, &json!({ "error": "invalid_grant" }));
                }
                self.refreshes += 1;
            }
            "client_credentials" => {
                if (get("client_id").as_str(), get("client_secret").as_str()) != ("machine", MACHINE_SECRET) {
                    self.refusals += 1;
                    return reply(401, &json!({ "error": "invalid_client" }));
                }
                self.machine += 1;
                let access = self.secret("access");
                self.access = Some(access.clone());
                return reply(
                    200,
                    &json!({ "access_token": access, "token_type": "Bearer", "expires_in": 3600, "scope": get("scope") }),
                );
            }
            other => return self.complain(format!("grant {other:?}")),
        }
        let (access, refresh) = (self.secret("access"), self.secret("refresh"));
        self.before = self.refresh.take();
        (self.access, self.refresh) = (Some(access.clone()), Some(refresh.clone()));
        reply(
            200,
            &json!({
                "access_token": access,
                "refresh_token": refresh,
                "token_type": "Bearer",
                "expires_in": 3600,
                "scope": self.scope,
            }),
        )
    }

    fn mcp(&mut self, method: &Method, headers: &HeaderMap, body: &str) -> Response<Body> {
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.access.as_ref().is_none_or(|access| sent != format!("Bearer {access}")) {
            let named = self.manners.resource_metadata.filter(|_| self.manners.names_metadata);
            let named =
                named.map(|path| format!(", resource_metadata=\"{}{path}\", scope=\"read write\"", self.origin));
            let challenge = format!("Bearer realm=\"OAuth\"{}", named.unwrap_or_default());
            let response = Response::builder().status(401).header("www-authenticate", challenge);
            return response.body(Body::empty()).expect("a response");
        }
        self.served += 1;
        if method != Method::POST {
            return reply(405, &Value::Null);
        }
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        let Some(id) = message.get("id") else { return reply(202, &Value::Null) };
        let lacks = |scope: &&str| !self.scope.split(' ').any(|granted| granted == *scope);
        if let Some(scope) = self.manners.call_scope.filter(|_| message["method"] == "tools/call").filter(lacks) {
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            let response = Response::builder().status(403).header("www-authenticate", challenge);
            return response.body(Body::empty()).expect("a response");
        }
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "guarded", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] }),
            "tools/call" => {
                json!({ "content": [{ "type": "text", "text": message["params"]["arguments"]["message"] }] })
            }
            "ping" => json!({}),
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                return reply(200, &json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
        };
        reply(200, &json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }
}

/// S256 of a verifier.
fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier))
}
