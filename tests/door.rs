//! The door: who may come in, and in what form (mcp-protocol 3.2, G-1 to G-10, F-49, F-50).

use tokio::net::TcpStream;

use crate::harness::client::{initialize, json, request};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::{self, Reply};

/// Every path there is, and one that is not.
const PAGES: [(&str, &str); 17] = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("DELETE", "/mcp"),
    ("OPTIONS", "/mcp"),
    ("GET", "/sse"),
    ("POST", "/messages"),
    ("GET", "/oauth/callback?state=x&code=y"),
    ("GET", "/"),
    ("GET", "/api/v1/state"),
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/call"),
    ("POST", "/api/v1/servers/one/restart"),
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
];

async fn send(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    http::send(http::connect(daemon.address()).await, method, path, headers, body.to_owned()).await
}

/// POSTs a body to the endpoint with these headers beside the usual ones.
async fn post(daemon: &Daemon, more: &[(&str, &str)], body: &str) -> Reply {
    let mut headers: Vec<(&str, &str)> = more.to_vec();
    for (name, value) in [("host", daemon.address()), ("content-type", "application/json")] {
        if !more.iter().any(|(given, _)| *given == name) {
            headers.push((name, value));
        }
    }
    send(daemon, "POST", "/mcp", &headers, body).await
}

#[tokio::test]
async fn s03_g1_foreign_origins_are_refused_on_every_page() {
    let daemon = Daemon::start("").await;
    for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example"] {
        for (method, path) in PAGES {
            let headers = [
                ("host", daemon.address()),
                ("origin", origin),
                ("content-type", "application/json"),
                ("accept", "text/event-stream"),
            ];
            let reply = send(&daemon, method, path, &headers, &initialize("2025-06-18")).await;
            assert_eq!(reply.status, 403, "{origin} {method} {path}");
            assert!(!reply.text().await.contains("evil"), "headers are never echoed");
        }
    }
}

#[tokio::test]
async fn s03_g1_its_own_origin_is_served() {
    let daemon = Daemon::start("").await;
    let own = format!("http://{}", daemon.address());
    assert_eq!(post(&daemon, &[("origin", &own)], &initialize("2025-06-18")).await.status, 200);
}

#[tokio::test]
async fn s02_g2_foreign_hosts_are_refused_and_own_names_served() {
    let daemon = Daemon::start("").await;
    let port = daemon.address().rsplit(':').next().expect("a port").to_owned();
    for host in
        ["evil.example", &format!("evil.example:{port}"), "127.0.0.1:1", &format!("127.0.0.1.evil.example:{port}")]
    {
        assert_eq!(post(&daemon, &[("host", host)], &initialize("2025-06-18")).await.status, 403, "{host}");
        for (method, path) in PAGES {
            let headers = [("host", host), ("content-type", "application/json"), ("accept", "text/event-stream")];
            assert_eq!(send(&daemon, method, path, &headers, "{}").await.status, 403, "{host} {method} {path}");
        }
    }
    for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"] {
        let host = format!("{host}:{port}");
        assert_eq!(post(&daemon, &[("host", &host)], &initialize("2025-06-18")).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn g2_a_missing_or_doubled_host_is_refused() {
    let daemon = Daemon::start("").await;
    let doubled = [("host", daemon.address()), ("host", "evil.example"), ("content-type", "application/json")];
    let status = send(&daemon, "POST", "/mcp", &doubled, &initialize("2025-06-18")).await.status;
    assert!((400..500).contains(&status), "{status}");
    let without = [("content-type", "application/json")];
    let status = send(&daemon, "POST", "/mcp", &without, &initialize("2025-06-18")).await.status;
    assert!((400..500).contains(&status), "{status}");
}

#[tokio::test]
async fn g3_a_request_without_origin_is_served() {
    let daemon = Daemon::start("").await;
    assert_eq!(post(&daemon, &[], &initialize("2025-06-18")).await.status, 200);
}

#[tokio::test]
async fn g4_other_verbs_get_405_with_the_allowed_ones() {
    let daemon = Daemon::start("").await;
    for method in ["PUT", "PATCH"] {
        let reply = send(&daemon, method, "/mcp", &[("host", daemon.address())], "{}").await;
        assert_eq!(reply.status, 405);
        let allow = reply.header("allow").expect("an Allow header").to_owned();
        assert!(["POST", "GET", "DELETE"].iter().all(|verb| allow.contains(verb)), "{allow}");
    }
}

#[tokio::test]
async fn s04_g5_the_content_type_must_be_json() {
    let daemon = Daemon::start("").await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(post(&daemon, &[("content-type", kind)], &initialize("2025-06-18")).await.status, 415, "{kind}");
    }
    let headers = [("host", daemon.address())];
    assert_eq!(send(&daemon, "POST", "/mcp", &headers, &initialize("2025-06-18")).await.status, 415, "none at all");
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(post(&daemon, &[("content-type", kind)], &initialize("2025-06-18")).await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn g6_and_g7_what_is_no_message_is_told_so() {
    let daemon = Daemon::start("").await;
    for (body, code) in [("{", -32700), ("", -32700), (r#"{"jsonrpc":"2.0"}"#, -32600), ("[]", -32600), ("7", -32600)] {
        let reply = post(&daemon, &[], body).await;
        assert_eq!(reply.status, 400, "{body:?}");
        let answer = json(&reply.text().await);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&code.into(), &serde_json::Value::Null), "{body:?}");
    }
}

#[tokio::test]
async fn s21_g8_a_body_above_the_limit_is_413() {
    let daemon = Daemon::start("").await;
    let body = request("1", "tools/call", &format!(r#"{{"name":"{}"}}"#, "x".repeat(17 << 20)));
    let connection = http::connect(daemon.address()).await;
    let headers = [("host", daemon.address()), ("content-type", "application/json")];
    let reply = http::send(connection, "POST", "/mcp", &headers, body).await;
    assert_eq!(reply.status, 413);
}

#[tokio::test]
async fn g9_nobody_listens_beyond_loopback() {
    let daemon = Daemon::start("").await;
    let port: u16 = daemon.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    // A socket that is never used tells which address this machine would speak from.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let outward = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    if let Ok(address) = outward
        && !address.ip().is_loopback()
    {
        assert!(TcpStream::connect((address.ip(), port)).await.is_err(), "reachable at {}", address.ip());
    }
    TcpStream::connect(("127.0.0.1", port)).await.expect("IPv4 loopback");
}

#[tokio::test]
async fn g9_a_public_address_is_a_configuration_error() {
    let home = Home::new();
    home.configure("");
    let output = home.run(["serve", "--listen", "0.0.0.0:0"]);
    assert!(matches!(output.status.code(), Some(2 | 78)), "{output:?}");
}

#[tokio::test]
async fn g10_well_known_pages_do_not_exist() {
    let daemon = Daemon::start("").await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration/mcp",
        "/mcp/.well-known/oauth-protected-resource",
        "/mcp/.well-known/openid-configuration",
    ] {
        assert_eq!(daemon.page(path).await.0, 404, "{path}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn s07_g10_another_user_of_the_machine_is_refused() {
    // Needs to become somebody else, which only root can.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::start("").await;
    let ask = |path: &str| {
        let url = format!("http://{}{path}", daemon.address());
        let script = "import sys,urllib.request,urllib.error\ntry: print(urllib.request.urlopen(sys.argv[1]).status)\nexcept urllib.error.HTTPError as e: print(e.code)";
        let mut command = std::process::Command::new("python3");
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let output = command.args(["-c", script, &url]).current_dir("/").output().expect("python3 runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask("/mcp"), "403");
    for open in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(ask(open), "200", "{open}");
    }
}

#[tokio::test]
async fn s6_tokens_are_wanted_from_the_reload_that_sets_them_on_and_children_do_not_see_them() {
    const TOKEN: &str = "canary-0123456789abcdef0123456789abcdef";
    let home = Home::new();
    let file = home.path("config/trunkline/config.toml");
    let (block, _) = crate::harness::fake::stdio(&home, "one", &[]);
    home.configure(&block);
    std::fs::write(home.path("token"), format!("{TOKEN}\n")).expect("written");
    let daemon = home.serve().await;
    let opened = post(&daemon, &[], &initialize("2025-06-18")).await;
    assert_eq!(opened.status, 200);
    let guarded =
        format!("[auth.tokens]\nme = \"${{file:{}}}\"\n\n{block}", file.with_file_name("../../token").display());
    std::fs::write(&file, guarded).expect("written");
    let reloaded = daemon.cli(["reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&reloaded.stderr));
    let refused = post(&daemon, &[], &initialize("2025-06-18")).await;
    assert_eq!(refused.status, 401);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(post(&daemon, &[("authorization", &bearer)], &initialize("2025-06-18")).await.status, 200);
    assert_eq!(daemon.page("/health/live").await.0, 200);
    assert_eq!(daemon.cli(["status"]).status.code(), Some(0), "the owner's socket wants none");
    let (_, home) = daemon.stop().await;
    assert!(!home.log().contains("canary-"), "{}", home.log());
}

#[tokio::test]
async fn s12_f55_a_cursor_is_good_for_the_token_it_was_given_to_and_survives_a_restart() {
    let tokens = ["laptop", "ci"].map(|name| (name, format!("{name}-0123456789abcdef0123456789abcdef")));
    let home = Home::new();
    let (block, _) = crate::harness::fake::stdio(&home, "one", &[]);
    let known = tokens.each_ref().map(|(name, token)| format!("{name} = \"{token}\"\n")).concat();
    home.configure(&format!("[auth.tokens]\n{known}\n[limits]\npage_size = 5\n\n{block}"));
    let daemon = home.serve().await;
    let list = async |daemon: &Daemon, token: &str, cursor: &str| {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let bearer = format!("Bearer {token}");
        let headers =
            [("authorization", bearer.as_str()), ("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
        let body = request("1", "tools/list", &format!("{{{cursor}{meta}}}"));
        json(&post(daemon, &headers, &body).await.text().await)
    };
    let first = list(&daemon, &tokens[0].1, "").await;
    let cursor = first["result"]["nextCursor"].as_str().expect("a cursor");
    let cursor = format!("\"cursor\":\"{cursor}\",");
    let foreign = list(&daemon, &tokens[1].1, &cursor).await;
    assert_eq!(foreign["error"]["code"], -32602, "{foreign}");
    assert_eq!(foreign, list(&daemon, &tokens[1].1, "\"cursor\":\"made up\",").await, "nothing tells the two apart");
    let own = list(&daemon, &tokens[0].1, &cursor).await;
    assert!(own["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{own}");
    let (_, home) = daemon.stop().await;
    let daemon = home.serve().await;
    assert_eq!(list(&daemon, &tokens[0].1, &cursor).await["result"]["tools"], own["result"]["tools"]);
}

#[tokio::test]
async fn s5_a_limited_token_gets_its_part_and_a_reload_changes_what_that_is() {
    const TOKENS: [&str; 2] = ["laptop-0123456789abcdef0123456789abcdef", "ci-0123456789abcdef0123456789abcdef"];
    let home = Home::new();
    let [one, two] = ["one", "two"].map(|name| crate::harness::fake::stdio(&home, name, &[]).0);
    let config = |limit: &str| {
        let [laptop, ci] = TOKENS;
        let auth = format!("[auth.tokens]\nlaptop = \"{laptop}\"\n[auth.tokens.ci]\ntoken = \"{ci}\"\n{limit}\n");
        format!("{auth}[profiles.few]\nenabled_tools = [\"one__echo\"]\n\n{one}\n{two}")
    };
    home.configure(&config("profile = \"few\""));
    let file = home.path("config/trunkline/config.toml");
    let daemon = home.serve().await;
    let bearers = TOKENS.map(|token| format!("Bearer {token}"));
    let send = async |token: usize, session: &str, body: &str| {
        let headers = [("authorization", bearers[token].as_str()), ("mcp-session-id", session)];
        post(&daemon, &headers[..if session.is_empty() { 1 } else { 2 }], body).await
    };
    let opened = send(1, "", &initialize("2025-06-18")).await;
    let session = opened.header("mcp-session-id").expect("a session").to_owned();
    let sees = async || {
        let listed = json(&send(1, &session, &request("1", "tools/list", "{}")).await.text().await);
        let tools = listed["result"]["tools"].as_array().expect("a list").iter();
        tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sees().await, ["one__echo"]);
    let call = request("2", "tools/call", r#"{"name":"two__echo","arguments":{"text":"x"}}"#);
    assert_eq!(json(&send(1, &session, &call).await.text().await)["error"]["code"], -32602);
    std::fs::write(&file, config("servers = [\"two\"]")).expect("written");
    let reloaded = daemon.cli(["reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&reloaded.stderr));
    let sees = sees().await;
    assert!(sees.contains(&"two__echo".to_owned()) && sees.iter().all(|name| name.starts_with("two__")), "{sees:?}");
    assert!(json(&send(1, &session, &call).await.text().await)["result"]["content"].is_array(), "in the same session");
    std::fs::write(&file, config("servers = [\"tow\"]")).expect("written");
    let refused = daemon.cli(["reload"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() != Some(0) && told.contains("the servers are: one, two"), "{told}");
}
