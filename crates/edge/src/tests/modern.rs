//! The modern era at the door: eras told apart, headers held against bodies, statuses (mcp-protocol 3.3, 3.4).

use super::*;

/// Headers of a modern request.
type Headers<'a> = Vec<(&'a str, &'a str)>;

fn call(id: Value, method: &str, params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(id, method, params)
}

/// What a modern client sends with a body.
fn headers(body: &Value) -> Headers<'_> {
    let mut headers = vec![
        (
            "mcp-protocol-version",
            body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str().unwrap_or(""),
        ),
        ("mcp-method", body["method"].as_str().expect("a method")),
    ];
    let key = match body["method"].as_str() {
        Some("tools/call" | "prompts/get") => "name",
        Some("resources/read") => "uri",
        _ => return headers,
    };
    headers.extend(body["params"][key].as_str().map(|name| ("mcp-name", name)));
    headers
}

/// The headers, but for this one.
fn but<'a>(headers: &Headers<'a>, name: &'a str, value: &'a str) -> Headers<'a> {
    headers.iter().copied().chain([(name, value)]).collect()
}

impl Client {
    async fn modern(&self, body: &Value) -> Answer {
        self.send("POST", "/mcp", &headers(body), body.to_string()).await
    }
}

#[tokio::test]
async fn g11_g12_discover_says_what_the_gateway_is_without_a_session() {
    let client = Client::new();
    let body = call(json!("d"), "server/discover", json!({}));
    for session in ["", "nobody"] {
        let answer =
            client.send("POST", "/mcp", &but(&headers(&body), "mcp-session-id", session), body.to_string()).await;
        assert_eq!((answer.status, answer.header("mcp-session-id")), (200, ""));
        let whole = answer.json();
        assert_eq!(whole["id"], "d");
        let result = &whole["result"];
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
        assert_eq!(result["capabilities"]["resources"], json!({ "subscribe": true, "listChanged": true }));
        assert_eq!(result["capabilities"]["completions"], json!({}));
        assert!(result["ttlMs"].is_u64() && result["instructions"].is_string(), "{result}");
        assert_eq!(result["cacheScope"], "private");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "trunkline");
    }
    // A legacy session of the same client is neither needed nor looked at.
    let session = client.open("2025-06-18").await;
    let answer = client.send("POST", "/mcp", &but(&headers(&body), "mcp-session-id", &session), body.to_string()).await;
    assert_eq!(answer.json()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn g13_a_request_without_its_envelope_is_told_what_it_lacks() {
    let client = Client::new();
    let meta = |meta: Value| request(json!(3), "tools/list", json!({ "_meta": meta }));
    let version = "io.modelcontextprotocol/protocolVersion";
    for (body, named) in [
        (meta(json!({ version: "2026-07-28" })), "clientCapabilities"),
        (meta(json!({ "io.modelcontextprotocol/clientCapabilities": {} })), "protocolVersion"),
        (meta(json!({ version: 7, "io.modelcontextprotocol/clientCapabilities": {} })), "protocolVersion"),
        (request(json!(3), "tools/list", json!({})), "protocolVersion"),
        (request(json!(3), "ping", json!({})), "protocolVersion"),
    ] {
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
        let answer = client.send("POST", "/mcp", &headers, body.to_string()).await;
        assert_eq!(answer.error(), (400, -32602, json!(3)), "{body}");
        assert!(answer.body.contains(named), "{}", answer.body);
    }
    // Methods of this era alone need no header to be taken for it.
    for method in ["server/discover", "subscriptions/listen"] {
        let answer = client.post("", &request(json!("p"), method, json!({}))).await;
        assert_eq!(answer.error(), (400, -32602, json!("p")), "{method}");
    }
}

#[tokio::test]
async fn s20_g14_g15_g16_headers_are_held_against_the_body() {
    let client = Client::new();
    let list = call(json!(1), "tools/list", json!({}));
    let get = call(json!(1), "prompts/get", json!({ "name": "Köln" }));
    let tool = call(json!(1), "tools/call", json!({ "name": "x" }));
    let read = call(json!(1), "resources/read", json!({ "uri": "x:1" }));
    for (body, name, value) in [
        (&list, "mcp-protocol-version", ""),
        (&list, "mcp-protocol-version", "2025-11-25"),
        (&list, "mcp-method", ""),
        (&list, "mcp-method", "prompts/list"),
        (&list, "mcp-method", "Tools/List"),
        (&tool, "mcp-name", ""),
        (&tool, "mcp-name", "y"),
        (&tool, "mcp-name", "=?base64?!?="),
        (&get, "mcp-name", "=?base64?S8O2bG0=?="),
        (&read, "mcp-name", "x:2"),
    ] {
        let all = if body["params"]["name"] == "Köln" {
            but(&headers(&list), "mcp-method", "prompts/get")
        } else {
            headers(body)
        };
        let answer = client.send("POST", "/mcp", &but(&all, name, value), body.to_string()).await;
        assert_eq!(answer.error(), (400, -32020, json!(1)), "{name}: {value}");
        assert!(answer.body.contains(name), "{}", answer.body);
    }
    for (body, value) in [(&tool, " x "), (&tool, "=?base64?eA==?="), (&get, "=?base64?S8O2bG4=?=")] {
        let mut all = headers(body);
        all.retain(|(name, _)| *name != "mcp-name");
        let answer = client.send("POST", "/mcp", &but(&all, "mcp-name", value), body.to_string()).await;
        assert_eq!(answer.error(), (200, -32602, json!(1)), "there is no such name here, which is all: {value}");
    }
}

#[tokio::test]
async fn g17_another_revision_is_told_which_are_spoken() {
    let client = Client::new();
    let mut body = call(json!(1), "server/discover", json!({}));
    for claim in ["2099-01-01", "2025-11-25", "nonsense"] {
        body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(claim);
        let answer = client.modern(&body).await;
        assert_eq!(answer.error(), (400, -32022, json!(1)), "{claim}");
        let data = answer.json()["error"]["data"].clone();
        assert_eq!(data, json!({ "supported": ["2026-07-28"], "requested": claim }));
    }
    // In a session a claim of its own era means nothing.
    let session = client.open("2025-06-18").await;
    let mut body = call(json!(1), "ping", json!({}));
    body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2025-06-18");
    assert_eq!(client.post(&session, &body).await.json()["result"], json!({}));
}

#[tokio::test]
async fn g18_g19_what_this_era_does_not_have_is_not_found() {
    let client = Client::new();
    for method in [
        "no/such",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "initialize",
        "roots/list",
        "tasks/list",
    ] {
        let answer = client.modern(&call(json!("7"), method, json!({ "uri": "x:1", "level": "debug" }))).await;
        assert_eq!(answer.error(), (404, -32601, json!("7")), "{method}");
    }
}

#[tokio::test]
async fn g20_g32_ids_keep_their_type_and_nothing_unknown_is_found() {
    let client = Client::new();
    for id in [json!(7), json!("7"), json!(9_007_199_254_740_993_u64), json!("")] {
        let listed = client.modern(&call(id.clone(), "prompts/list", json!({}))).await.json();
        assert_eq!((&listed["id"], &listed["result"]["prompts"]), (&id, &json!([])));
        for (method, params) in [
            ("tools/call", json!({ "name": "x__y" })),
            ("tools/call", json!({})),
            ("prompts/get", json!({ "name": "x" })),
            ("resources/read", json!({ "uri": "x:1" })),
            ("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": "x" } })),
            ("tools/list", json!({ "cursor": "" })),
        ] {
            let answer = client.modern(&call(id.clone(), method, params)).await;
            assert_eq!(answer.error(), (200, -32602, id.clone()), "{method}");
        }
    }
    let unknown = client.modern(&call(json!(1), "resources/read", json!({ "uri": "x:1" }))).await.json();
    assert_eq!(unknown["error"]["data"], json!({ "uri": "x:1" }));
}

#[tokio::test]
async fn g21_g22_no_batches_and_notifications_are_accepted() {
    let client = Client::new();
    let body = call(json!(1), "tools/list", json!({}));
    assert_eq!(client.send("POST", "/mcp", &headers(&body), json!([body]).to_string()).await.error().1, -32600);
    let mut note = call(json!(1), "notifications/cancelled", json!({ "requestId": 1 }));
    note.as_object_mut().expect("an object").remove("id");
    let answer = client.send("POST", "/mcp", &[("mcp-protocol-version", "2026-07-28")], note.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let bare = json!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let answer = client.send("POST", "/mcp", &[("mcp-protocol-version", "2026-07-28")], bare.to_string()).await;
    assert_eq!(answer.status, 202);
    let response = json!({ "jsonrpc": "2.0", "id": 4, "result": {} });
    let answer = client.send("POST", "/mcp", &[("mcp-protocol-version", "2026-07-28")], response.to_string()).await;
    assert_eq!(answer.error(), (400, -32600, json!(4)));
}

#[tokio::test]
async fn g25_g26_g34_lists_are_dressed_and_stay_the_same() {
    let client = Client::with(with_a_server());
    for (method, key) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        let body = call(json!(1), method, json!({}));
        let (once, twice) = (client.modern(&body).await, client.modern(&body).await);
        assert_eq!(once.body, twice.body);
        let result = &once.json()["result"];
        assert!(result[key].is_array() && result["ttlMs"].is_u64(), "{result}");
        assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("private")));
        // One who takes events alone gets the same as one, without an id to resume from.
        let events = but(&headers(&body), "accept", "text/event-stream");
        let answer = client.send("POST", "/mcp", &but(&events, "last-event-id", "s1.MQ.1"), body.to_string()).await;
        assert!(answer.body.starts_with("data: {"), "{}", answer.body);
        assert_eq!(answer.header("x-accel-buffering"), "no", "G-27");
    }
}

#[tokio::test]
async fn g30_what_a_request_says_of_itself_must_make_sense() {
    let client = Client::new();
    for (key, value) in [
        ("io.modelcontextprotocol/logLevel", json!("loud")),
        ("progressToken", json!(null)),
        ("progressToken", json!(1.5)),
        ("progressToken", json!({})),
    ] {
        let mut body = call(json!(1), "tools/call", json!({ "name": "x__y" }));
        body["params"]["_meta"][key] = value;
        let answer = client.modern(&body).await;
        assert_eq!(answer.error(), (200, -32602, json!(1)), "{key}");
        assert!(answer.body.contains(key), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_client_that_falls_back_is_not_taken_for_a_modern_one() {
    let client = Client::new();
    // rmcp offers the modern revision by `initialize`; others leave the header of their first attempt.
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "initialize")];
    let answer = client.send("POST", "/mcp", &headers, initialize(1, "2026-07-28").to_string()).await;
    assert_eq!(answer.json()["result"]["protocolVersion"], "2025-11-25");
    let session = answer.header("mcp-session-id").to_owned();
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2026-07-28")];
    let answer = client.send("POST", "/mcp", &headers, ping(9).to_string()).await;
    assert_eq!(answer.error(), (400, -32602, json!(9)), "mcp-protocol 3.3 row 11");
}

#[tokio::test]
async fn a_draining_daemon_refuses_modern_requests_too() {
    let client = Client::new();
    client.edge.stop.soft.cancel();
    let answer = client.modern(&call(json!(1), "tools/list", json!({}))).await;
    assert_eq!(answer.error(), (503, -31005, json!(1)));
    assert_ne!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn modern_requests_are_counted_as_such() {
    let client = Client::new();
    client.modern(&call(json!(1), "server/discover", json!({}))).await;
    client.modern(&call(json!(1), "no/such", json!({}))).await;
    let metrics = client.send("GET", "/metrics", &[], "").await.body;
    for line in [
        r#"trunkline_client_requests_total{era="modern",method="server/discover",status="200"} 1"#,
        r#"trunkline_client_requests_total{era="modern",method="other",status="404"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn g35_g39_g40_a_listen_is_a_stream_that_ends_in_good_order() {
    let client = Client::new();
    let body = call(json!("l"), "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }));
    let json_alone = but(&headers(&body), "accept", "application/json");
    assert_eq!(client.send("POST", "/mcp", &json_alone, body.to_string()).await.status, 406);
    let bare = client.modern(&call(json!(1), "subscriptions/listen", json!({}))).await;
    assert_eq!(bare.error(), (200, -32602, json!(1)));
    let tasks = json!({ "notifications": { "taskIds": ["t"] } });
    assert_eq!(client.modern(&call(json!(1), "subscriptions/listen", tasks)).await.error(), (400, -32021, json!(1)));

    let soft = client.edge.stop.soft.clone();
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        soft.cancel();
    };
    let (stream, ()) = tokio::join!(client.modern(&body), stop);
    assert_eq!((stream.status, stream.headers[CONTENT_TYPE].to_str().ok()), (200, Some("text/event-stream")));
    let pieces: Vec<&str> = stream.body.trim_end().split("\n\n").collect();
    assert_eq!((pieces.len(), pieces[1]), (3, ": keep-alive"), "{}", stream.body);
    let message =
        |at: usize| -> Value { serde_json::from_str(pieces[at].strip_prefix("data: ").expect("data")).expect("JSON") };
    let (first, last) = (message(0), message(2));
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], json!({ "toolsListChanged": true }));
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("l"), &json!("complete")));
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    assert_eq!(client.edge.hub.listening(), 0);
}

#[tokio::test]
async fn a_listen_takes_no_place_among_the_calls() {
    let mut one = config();
    one.limits.in_flight = 1;
    let client = Client::with(one);
    let body = call(json!("l"), "subscriptions/listen", json!({ "notifications": {} }));
    let (edge, all) = (client.edge.clone(), headers(&body));
    let mut request = Request::builder().method("POST").uri("/mcp").header("host", "127.0.0.1:6270");
    for (name, value) in all.iter().chain(&[("content-type", "application/json")]) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
    let open = answer(&edge, OWN, request).await;
    assert_eq!((open.status().as_u16(), edge.hub.listening()), (200, 1));
    assert_eq!(client.modern(&call(json!(1), "tools/list", json!({}))).await.status, 200);
    let health = client.send("GET", "/health", &[], "").await.json();
    assert_eq!(health["listens"], 1);
    drop(open);
    assert_eq!(edge.hub.listening(), 0);
}
