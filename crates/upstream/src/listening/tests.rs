//! Modern servers on pipes, and what they say unasked.

use trunkline_testkit::{Fault, Handle, Script, resource, tool};
use trunkline_wire::Message;

use super::*;
use crate::environment::ServerNotice;
use crate::fakes::World;

fn modern() -> Script {
    Script { modern: true, resources: vec![resource("a:b"), resource("a:c")], ..Script::default() }
}

/// The filter of the listen that a server was sent as its `count`-th, and its id.
async fn asked(server: &Handle, count: usize) -> (String, u64) {
    let Message::Request(request) = server.saw("subscriptions/listen", count).await else { panic!("a request") };
    let filter = request.params().expect("an object").get("notifications").cloned().expect("a filter");
    (String::from_utf8_lossy(filter.as_bytes()).into_owned(), request.id.minted().expect("a number"))
}

fn updated(uri: &str, listen: u64) -> String {
    format!(r#"{{"uri":"{uri}","_meta":{{"io.modelcontextprotocol/subscriptionId":{listen},"x":1}}}}"#)
}

const UPDATED: &str = "notifications/resources/updated";

async fn settled() {
    tokio::time::sleep(Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn one_listen_asks_for_the_changes_that_the_server_announces() {
    let world = World::new(modern());
    let server = world.ready().await;
    settled().await;
    let (filter, id) = asked(&server, 1).await;
    assert_eq!(filter, r#"{"toolsListChanged":true,"resourcesListChanged":true}"#);
    let lists = server.seen_of("tools/list").len();
    server.change(Script { tools: vec![tool("echo"), tool("new")], ..modern() }).await;
    let stamp = format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#);
    server.notify("notifications/tools/list_changed", &stamp).await;
    settled().await;
    assert_eq!(server.seen_of("tools/list").len(), lists + 1);
    assert_eq!(world.upstream().offer().tools.len(), 2);
    assert_eq!(server.seen_of("subscriptions/listen").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_announces_nothing_is_not_listened_to() {
    let world = World::new(Script { capabilities: Some(r#"{"tools":{}}"#.to_owned()), ..modern() });
    let server = world.ready().await;
    settled().await;
    assert!(server.seen_of("subscriptions/listen").is_empty());
    let refused = world.upstream().subscribe("a:b", &crate::CallerFacts::default()).await.expect("answered");
    assert!(refused.is_err());
}

#[tokio::test(start_paused = true)]
async fn g77_other_resources_open_the_next_listen_before_the_last_one_is_ended() {
    let mut world = World::new(modern());
    let server = world.ready().await;
    let (_, first) = asked(&server, 1).await;
    for uri in ["a:b", "a:c"] {
        let answer = world.upstream().subscribe(uri, &crate::CallerFacts::default()).await.expect("answered");
        assert_eq!(answer, Ok(Json::literal("{}")));
    }
    settled().await;
    let (filter, id) = asked(&server, 3).await;
    assert!(filter.ends_with(r#""resourceSubscriptions":["a:b","a:c"]}"#), "{filter}");
    let cancelled: Vec<u64> = server
        .seen_of("notifications/cancelled")
        .iter()
        .filter_map(|message| match message {
            Message::Notification(notice) => notice.params().ok()?.get("requestId")?.decode().ok(),
            Message::Request(_) | Message::Response(_) => None,
        })
        .collect();
    assert_eq!((cancelled.len(), cancelled[0]), (2, first));

    server.notify(UPDATED, &updated("a:b", id)).await;
    let Some(ServerNotice::ResourceUpdated { uri, params, .. }) = world.notices.recv().await else { panic!("told") };
    assert_eq!((uri.as_str(), params), ("a:b", Json::literal(r#"{"uri":"a:b","_meta":{"x":1}}"#)), "our id stays here");

    assert!(world.upstream().unsubscribe("a:b", &crate::LaneKey::Common).await.expect("answered").is_ok());
    settled().await;
    assert!(asked(&server, 4).await.0.ends_with(r#""resourceSubscriptions":["a:c"]}"#));
    assert!(server.seen_of("resources/subscribe").is_empty() && server.seen_of("resources/unsubscribe").is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_wishes_at_once_make_one_listen() {
    let world = World::new(modern());
    let server = world.ready().await;
    settled().await;
    let upstream = world.upstream();
    futures_util::future::join_all((0..50).map(|number| {
        let uri = format!("a:{number}");
        async move { upstream.subscribe(&uri, &crate::CallerFacts::default()).await.expect("answered").expect("yes") }
    }))
    .await;
    assert_eq!(server.seen_of("subscriptions/listen").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_listen_that_the_server_ends_is_opened_again_after_a_second_and_the_lists_read_anew() {
    let world = World::new(modern());
    let server = world.ready().await;
    settled().await;
    let (_, id) = asked(&server, 1).await;
    let lists = server.seen_of("tools/list").len();
    let begun = Instant::now();
    server.write(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\"}}}}\n")).await;
    asked(&server, 2).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    settled().await;
    assert_eq!(server.seen_of("tools/list").len(), lists + 1);
}

#[tokio::test(start_paused = true)]
async fn a_listen_that_is_refused_is_tried_again_unless_the_server_has_none() {
    for (code, most) in [(-32601, 1), (-32603, 99)] {
        let error = format!(r#"{{"code":{code},"message":"no"}}"#).leak();
        let world = World::new(Script { faults: vec![Fault::error("subscriptions/listen", error)], ..modern() });
        let server = world.ready().await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        let tries = server.seen_of("subscriptions/listen").len();
        assert!(tries <= most && (most == 1 || tries > 5), "{code}: {tries}");
        let answer = world.upstream().subscribe("a:b", &crate::CallerFacts::default()).await.expect("answered");
        assert!(answer.is_ok(), "best effort");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_listen_is_no_work() {
    let world = World::new(modern());
    let server = world.ready().await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(server.seen_of("server/discover").len() >= 3, "it is probed all the same");
    assert_eq!(world.upstream().status().in_flight, 0);
}

#[test]
fn what_came_on_both_listens_is_told_once() {
    let mut overlap = Overlap::new(2, 5);
    assert!(overlap.is_news(2, "a"));
    assert!(!overlap.is_news(5, "a"));
    assert!(overlap.is_news(5, "a") && overlap.is_news(5, "a"));
    assert!(!overlap.is_news(2, "a") && !overlap.is_news(2, "a"));
    assert!(overlap.is_news(2, "a") && overlap.is_news(2, "b") && overlap.is_news(9, "b"));
}
