use super::*;

fn server(name: &str) -> ServerName {
    ServerName::new(name).expect("a name")
}

/// Every method, so that a name or label that prometheus refuses shows here and not in the field.
fn touch_everything(metrics: &Metrics, server: &ServerName) {
    drop(metrics.server(server));
    touch_what_is_there(metrics, server);
}

fn touch_what_is_there(metrics: &Metrics, server: &ServerName) {
    metrics.transition(server, "idle", "starting", "config");
    metrics.dial(server, "ok");
    drop(metrics.tree(server, 1));
    drop(metrics.tree(server, 1));
    metrics.orphans_swept(1);
    metrics.stdio_bad_line(server);
    metrics.request(server, &Method::Ping, "ok", 0.2);
    metrics.inflight(server, 1);
    metrics.queue_depth(server, 1);
    metrics.ready_wait(server, 0.04);
    metrics.outcome_unknown(server);
    metrics.breaker_open(server, std::time::Duration::from_millis(1500));
    metrics.retry(server, "lost");
    metrics.retry_budget_exhausted(server);
    metrics.wake_event();
    metrics.notice_dropped(server);
    metrics.list_changed_coalesced(server);
    metrics.catalog_entries(server, "tools", 3);
    metrics.catalog_complaints(server, 1);
    metrics.tool_lists([["/mcp", "", "0123456789ab"]].into_iter());
    metrics.list_announced("tools");
    metrics.call_refused(server, "tool", "in_flight");
    metrics.token_refused("ci", "per_minute");
    metrics.lanes(server, 2);
    metrics.lane_refused(server);
    metrics.tool_call(server, "commit", "ok");
    metrics.client_request(Era::Legacy, Some(&Method::ToolsCall), 200);
    metrics.client_request(Era::Modern, None, 400);
    metrics.rejected("origin");
    metrics.sessions(2);
    metrics.replay_bytes(10);
    metrics.build_info("0.1.0");
}

#[test]
fn a_server_takes_its_series_with_it_for_good() {
    let metrics = Metrics::new();
    touch_everything(&metrics, &server("git"));
    let handle = metrics.server(&server("git"));
    touch_everything(&metrics, &server("web"));
    assert!(metrics.render().contains("server=\"git\""));
    metrics.forget(&server("git"));
    assert!(!metrics.render().contains("server=\"git\""));
    // What was begun before it left ends now: a call, a connection, a process.
    touch_what_is_there(&metrics, &server("git"));
    handle.request(&Method::Ping, "ok", 0.1);
    handle.request(&Method::ToolsCall, "timeout", 0.1);
    handle.request(&Method::ToolsCall, "ok", 0.1);
    metrics.measure();
    let text = metrics.render();
    assert!(!text.contains("server=\"git\""), "{text}");
    assert!(text.contains("trunkline_tool_calls_total{outcome=\"ok\",server=\"web\",tool=\"commit\"} 1"));
}

#[test]
fn states_of_a_server_sum_to_one() {
    let metrics = Metrics::new();
    drop(metrics.server(&server("git")));
    metrics.state(&server("git"), "idle");
    metrics.transition(&server("git"), "idle", "starting", "demand");
    metrics.transition(&server("git"), "starting", "ready", "handshake");
    let text = metrics.render();
    let shown: Vec<&str> =
        text.lines().filter(|line| line.starts_with("trunkline_upstream_state{") && line.ends_with(" 1")).collect();
    assert_eq!(shown, [r#"trunkline_upstream_state{server="git",state="ready"} 1"#]);
}

#[test]
fn the_handle_counts_into_the_same_series() {
    let metrics = Metrics::new();
    let git = metrics.server(&server("git"));
    git.request(&Method::ToolsCall, "ok", 0.04);
    git.request(&Method::ToolsCall, "timeout", 0.3);
    metrics.request(&server("git"), &Method::ToolsCall, "ok", 0.04);
    git.inflight(1);
    let text = metrics.render();
    for line in [
        r#"trunkline_requests_total{method="tools/call",outcome="ok",server="git"} 2"#,
        r#"trunkline_requests_total{method="tools/call",outcome="timeout",server="git"} 1"#,
        r#"trunkline_request_seconds_bucket{server="git",le="0.05"} 2"#,
        r#"trunkline_inflight{server="git"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn calls_are_counted_by_their_outcome_whether_resolved_before_or_not() {
    let metrics = Metrics::new();
    let git = server("git");
    drop(metrics.server(&git));
    for outcome in ["ok", "error", "ok", "ok"] {
        metrics.tool_call(&git, "commit", outcome);
        metrics.client_request(Era::Legacy, Some(&Method::ToolsCall), 200);
    }
    metrics.client_request(Era::Legacy, Some(&Method::ToolsCall), 503);
    metrics.client_request(Era::Modern, Some(&Method::ToolsCall), 200);
    let text = metrics.render();
    for line in [
        r#"trunkline_tool_calls_total{outcome="ok",server="git",tool="commit"} 3"#,
        r#"trunkline_tool_calls_total{outcome="error",server="git",tool="commit"} 1"#,
        r#"trunkline_client_requests_total{era="legacy",method="tools/call",status="200"} 4"#,
        r#"trunkline_client_requests_total{era="legacy",method="tools/call",status="503"} 1"#,
        r#"trunkline_client_requests_total{era="modern",method="tools/call",status="200"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    metrics.forget(&git);
    drop(metrics.server(&git));
    metrics.tool_call(&git, "commit", "ok");
    assert!(metrics.render().contains(r#"trunkline_tool_calls_total{outcome="ok",server="git",tool="commit"} 1"#));
}

#[test]
fn s37_what_a_peer_named_is_no_label() {
    let metrics = Metrics::new();
    metrics.client_request(Era::Legacy, Some(&Method::from("evil\nname")), 404);
    assert!(!metrics.render().contains("evil"));
}

#[tokio::test(start_paused = true)]
async fn r39_who_asks_while_processes_are_read_starts_no_second_reading() {
    let metrics = Metrics::new();
    let (_tree, _) = metrics.0.ledger.open(&server("git"), 1);
    let under_way = std::sync::Arc::clone(&metrics.0.reading).lock_owned().await;
    metrics.measured().await;
    assert!(!metrics.0.ledger.is_fresh(), "nobody read, and nobody waited for long");
    drop(under_way);
    while !metrics.0.ledger.is_fresh() {
        metrics.measured().await;
    }
}

#[test]
fn a_list_that_is_replaced_takes_its_digest_with_it() {
    let metrics = Metrics::new();
    metrics.tool_lists([["/mcp", "", "aa"], ["/mcp/work", "ci", "bb"]].into_iter());
    metrics.tool_lists([["/mcp", "", "cc"]].into_iter());
    let text = metrics.render();
    assert!(text.contains(r#"trunkline_tools_list_info{address="/mcp",digest="cc",token=""} 1"#), "{text}");
    assert_eq!(text.matches("trunkline_tools_list_info{").count(), 1, "{text}");
}
