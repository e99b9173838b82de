//! What is asked of clients where `auth.tokens` are set, and how far a token reaches.

use trunkline_config::{Auth, Profile, Reach, Secret};

use super::*;

fn guarded() -> Client {
    let tokens = [("laptop", "one"), ("ci", "two")];
    let tokens = tokens.map(|(name, token)| (name.to_owned(), Secret::new(token))).to_vec();
    Client::with(Config { auth: Auth { tokens, ..Auth::default() }, ..config() })
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn open(client: &Client, token: &str) -> String {
    let opened =
        client.send("POST", "/mcp", &[("authorization", token)], initialize(0, "2025-06-18").to_string()).await;
    assert_eq!(opened.status, 200, "{}", opened.body);
    opened.header("mcp-session-id").to_owned()
}

#[tokio::test]
async fn s5_once_there_are_tokens_every_path_wants_one_but_those_of_probes() {
    let client = guarded();
    for (method, path) in [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("GET", "/sse"),
        ("POST", "/messages?sessionId=x"),
        ("GET", "/health"),
    ] {
        for token in ["", "Bearer three", "Basic one"] {
            let refused = client.send(method, path, &[("authorization", token)], PING).await;
            assert_eq!(refused.status, 401, "{method} {path} {token}");
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"trunkline\"");
            assert!(refused.body.contains("auth.tokens") && refused.body.lines().count() == 1, "{}", refused.body);
        }
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(client.send("GET", path, &[], "").await.status, 200, "{path}");
    }
    let query = client.send("POST", "/mcp?token=one&access_token=one", &[], PING).await;
    assert_eq!(query.status, 401, "a token in the query is none");
    let healthy = client.send("GET", "/health", &[("authorization", "Bearer one")], "").await;
    assert!(healthy.json()["servers"].is_array());
    open(&client, "Bearer one").await;
    assert!(client.edge.metrics.render().contains(r#"reason="token""#));
}

#[tokio::test]
async fn s8_a_session_is_open_to_whoever_began_it() {
    let client = guarded();
    let session = open(&client, "Bearer one").await;
    let ask = async |method: &str, token: &str| {
        let headers = [("authorization", token), ("mcp-session-id", &*session)];
        client.send(method, "/mcp", &headers, PING).await.status
    };
    assert_eq!(ask("POST", "Bearer one").await, 200);
    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(ask(method, "Bearer two").await, 404, "{method}");
    }
    assert_eq!(ask("DELETE", "Bearer one").await, 200, "it was there all the time");
}

#[tokio::test]
async fn s7_a_token_helps_no_other_user_and_is_what_another_machine_needs() {
    let mut client = guarded();
    let asked = async |client: &Client, token: &str| {
        client.send("POST", "/mcp", &[("authorization", token)], initialize(0, "2025-06-18").to_string()).await.status
    };
    client.arrival = STRANGE;
    assert_eq!(asked(&client, "Bearer one").await, 403);
    client.arrival = Arrival { peer: Peer::Remote, ..OWN };
    assert_eq!((asked(&client, "").await, asked(&client, "Bearer one").await), (401, 200));
    // As it is where tokens were taken out while the listener stays where it was.
    let mut client = Client::new();
    client.arrival = Arrival { peer: Peer::Remote, ..OWN };
    assert_eq!(asked(&client, "").await, 403);
    assert!(client.send("GET", "/health", &[], "").await.json()["servers"].is_null());
}

#[tokio::test]
async fn s6_tokens_change_with_the_configuration() {
    let client = guarded();
    let session = open(&client, "Bearer one").await;
    let tokens = vec![("laptop".to_owned(), Secret::new("new"))];
    client.edge.go_by(&Config { auth: Auth { tokens, ..Auth::default() }, ..config() });
    let ask = async |token: &str| {
        let headers = [("authorization", token), ("mcp-session-id", &*session)];
        client.send("POST", "/mcp", &headers, PING).await.status
    };
    assert_eq!((ask("Bearer one").await, ask("Bearer new").await), (401, 200));
    client.edge.go_by(&config());
    assert_eq!(ask("").await, 200, "nobody is asked any more");
}

#[tokio::test]
async fn s8_a_stream_of_the_older_transport_is_posted_to_by_whoever_opened_it() {
    let client = guarded();
    let headers = [("authorization", "Bearer one"), ("accept", "text/event-stream")];
    let mut stream = open_stream(&client, "/sse", &headers).await;
    let first = event(&mut stream).await.expect("the address");
    let path = first.lines().find_map(|line| line.strip_prefix("data: ")).expect("a path").to_owned();
    let post = async |token: &str| client.send("POST", &path, &[("authorization", token)], PING).await.status;
    assert_eq!((post("Bearer two").await, post("Bearer one").await), (404, 202));
}

#[tokio::test]
async fn s6_a_token_that_is_taken_back_ends_the_streams_that_it_opened() {
    let client = guarded();
    let session = open(&client, "Bearer one").await;
    let headers = |token: &'static str| [("authorization", token), ("accept", "text/event-stream")];
    let standing = [headers("Bearer one"), [("mcp-session-id", &*session), ("x", "y")]].concat();
    let mut ends =
        [open_stream(&client, "/mcp", &standing).await, open_stream(&client, "/sse", &headers("Bearer one")).await];
    let mut stays = open_stream(&client, "/sse", &headers("Bearer two")).await;
    event(&mut stays).await.expect("the address");
    event(&mut ends[1]).await.expect("the address");
    let tokens = vec![("laptop".to_owned(), Secret::new("new")), ("ci".to_owned(), Secret::new("two"))];
    client.edge.go_by(&Config { auth: Auth { tokens, ..Auth::default() }, ..config() });
    for stream in &mut ends {
        while event(stream).await.is_some() {}
    }
    let waits = tokio::time::timeout(std::time::Duration::from_millis(50), event(&mut stays)).await;
    assert!(waits.is_err(), "the other one goes on");
}

async fn open_stream(client: &Client, path: &str, headers: &[(&str, &str)]) -> Body {
    let mut request = Request::builder().method("GET").uri(path).header("host", "127.0.0.1:6270");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let response = answer(&client.edge, OWN, request).await;
    assert_eq!(response.status(), 200, "{path}");
    response.into_body()
}

/// The next piece of a stream; `None` at its end.
async fn event(stream: &mut Body) -> Option<String> {
    let frame = stream.frame().await?.expect("no stream fails");
    Some(String::from_utf8_lossy(&frame.into_data().expect("data")).into_owned())
}

/// One whose token `ci` reaches the profile `logs` alone.
fn limited() -> Client {
    Client::with(limited_config(true))
}

fn limited_config(limits: bool) -> Config {
    let reach = Reach { profile: Some("logs".into()), profiles: Some(vec!["logs".into()]), servers: None };
    let tokens = [("laptop", "one"), ("ci", "two")];
    let tokens = tokens.map(|(name, token)| (name.to_owned(), Secret::new(token))).to_vec();
    let limited = if limits { vec![("ci".into(), reach)] } else { vec![] };
    let profiles = ["logs", "more"].map(|name| (name.into(), Profile::default())).to_vec();
    Config { auth: Auth { tokens, limited, ..Auth::default() }, profiles, ..config() }
}

#[tokio::test]
async fn s5_a_limited_token_opens_its_addresses_and_nothing_that_tells_of_all_servers() {
    let client = limited();
    let begin = async |path: &str, token: &str| {
        client.send("POST", path, &[("authorization", token)], initialize(0, "2025-06-18").to_string()).await
    };
    for path in ["/mcp", "/mcp/logs", "/mcp/logs/"] {
        assert_eq!(begin(path, "Bearer two").await.status, 200, "{path}");
    }
    let (closed, unknown) = (begin("/mcp/more", "Bearer two").await, begin("/mcp/nope", "Bearer two").await);
    assert_eq!((closed.status, closed.body), (404, unknown.body), "nothing tells the two apart");
    assert_eq!(begin("/mcp/more", "Bearer one").await.status, 200);
    for (method, path) in [
        ("GET", "/api/v1/state"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/history"),
        ("GET", "/api/v1/tools"),
        ("POST", "/api/v1/call"),
        ("POST", "/api/v1/reload"),
        ("POST", "/api/v1/servers/git/restart"),
        ("GET", "/metrics"),
    ] {
        let refused = client.send(method, path, &[("authorization", "Bearer two")], "{}").await;
        assert_eq!(refused.status, 403, "{method} {path}");
        assert!(refused.body.contains("`ci` is limited") && refused.body.lines().count() == 1, "{}", refused.body);
    }
    let health = client.send("GET", "/health", &[("authorization", "Bearer two")], "").await;
    assert!(health.status == 200 && health.json()["servers"].is_null());
    assert!(client.send("GET", "/health", &[("authorization", "Bearer one")], "").await.json()["servers"].is_array());
    // They name servers: where somebody is kept from some, no unknown reader gets them.
    assert_eq!(client.send("GET", "/metrics", &[], "").await.status, 401);
    assert_eq!(client.send("GET", "/metrics", &[("authorization", "Bearer one")], "").await.status, 200);
    assert!(client.edge.metrics.render().contains(r#"reason="token_limits""#));
}

#[tokio::test]
async fn s5_a_token_that_gets_limits_loses_the_dashboard_and_keeps_its_session() {
    let client = Client::with(limited_config(false));
    let session = open(&client, "Bearer two").await;
    let headers = [("authorization", "Bearer two"), ("accept", "text/event-stream")];
    let mut board = open_stream(&client, "/api/v1/events", &headers).await;
    event(&mut board).await.expect("the state");
    let standing = [&headers[..], &[("mcp-session-id", &*session)]].concat();
    let mut stays = open_stream(&client, "/mcp", &standing).await;
    client.edge.hub.reload(&limited_config(true));
    client.edge.go_by(&limited_config(true));
    while event(&mut board).await.is_some() {}
    let waits = tokio::time::timeout(std::time::Duration::from_millis(50), event(&mut stays)).await;
    assert!(waits.is_err(), "it goes on");
    let ping =
        client.send("POST", "/mcp", &[("authorization", "Bearer two"), ("mcp-session-id", &*session)], PING).await;
    assert_eq!(ping.status, 200, "{}", ping.body);
}

#[tokio::test]
async fn g10_who_looks_for_a_sign_in_where_a_token_is_wanted_reads_that_there_is_none() {
    let (guarded, open) = (guarded(), Client::new());
    for path in [
        "/register",
        "/authorize",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/mcp",
    ] {
        let told = guarded.send("POST", path, &[], "{}").await;
        assert_eq!(told.status, 404, "{path}");
        assert!(told.body.contains("trunkline connect claude-code"), "{path}: {}", told.body);
        let told = open.send("POST", path, &[], "{}").await;
        assert!(told.status == 404 && told.body.contains("nothing is here"), "{path}: {}", told.body);
    }
    let elsewhere = guarded.send("GET", "/other", &[], "").await;
    assert!(elsewhere.body.contains("nothing is here"));
}

#[tokio::test]
async fn s7_a_connection_that_could_not_be_looked_up_for_want_of_descriptors_is_told_to_come_again() {
    let mut client = Client::new();
    client.arrival = Arrival { peer: Peer::Unasked, ..OWN };
    let told = client.send("POST", "/mcp", &[], initialize(0, "2025-06-18").to_string()).await;
    assert_eq!((told.status, told.header("connection"), told.header("retry-after")), (503, "close", "1"));
    assert!(client.send("GET", "/health", &[], "").await.json()["servers"].is_null(), "nor is it let in");
    assert!(client.edge.metrics.render().contains(r#"reason="descriptors"} 1"#));
}
