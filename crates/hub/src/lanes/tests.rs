//! Callers of every kind before servers with lanes: whose connection they get, and what reaches them.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use trunkline_config::{Config, Connect, Profile, Reach, Secret, Server, StateDir, Stdio};
use trunkline_testkit::{Handle, Script, resource};
use trunkline_wire::Message;

use super::*;
use crate::fakes::{self, World, message};
use crate::{Guest, Keep, Reply, Wants};

const BOTH: Wants = Wants { json: true, sse: true };

fn server(sharing: Sharing) -> Server {
    let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
    server.sharing = sharing;
    server.tuning.idle_stop = Some(Duration::from_mins(30));
    server
}

async fn world(sharing: Sharing) -> World {
    let script = Script { resources: vec![resource("a:b")], ..Script::default() };
    World::configured(script, server(sharing)).await
}

/// What comes of a message, with the client's directories in the answer wherever it is asked for them; and how often it
/// is.
async fn said(world: &World, session: &Arc<Session>, text: &str, roots: &[&str]) -> (Value, usize) {
    let mut asked = 0;
    let reply = world.hub.handle(session, message(text), BOTH).await;
    let mut events = match reply {
        Reply::One(text) => return (serde_json::from_slice(text.into_bytes().as_ref()).expect("JSON"), 0),
        Reply::Events(events) => events,
        other @ (Reply::Accepted | Reply::Error { .. } | Reply::Listening { .. } | Reply::Refused(_)) => {
            panic!("no answer: {other:?}")
        }
    };
    loop {
        let text = events.next().await.expect("an answer at the end").data.into_bytes();
        if text.is_empty() {
            continue;
        }
        let told: Value = serde_json::from_slice(&text).expect("JSON");
        if told["method"] == "roots/list" {
            asked += 1;
            let roots: Vec<Value> = roots.iter().map(|uri| json!({ "uri": uri })).collect();
            let answer = json!({ "jsonrpc": "2.0", "id": told["id"], "result": { "roots": roots } });
            world.hub.handle(session, message(&answer.to_string()), BOTH).await;
        } else if told.get("method").is_none() {
            return (told, asked);
        }
    }
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"git__echo","arguments":{}}}"#;

/// How often each connection was called, but for those that never were.
fn calls(world: &World) -> Vec<usize> {
    let count = |server: &Handle| server.seen_of("tools/call").len();
    world.servers().iter().map(count).filter(|count| *count > 0).collect()
}

fn owners(world: &World) -> Vec<String> {
    let upstream = world.hub.fleet().all()[0].clone();
    upstream.status().lanes.into_iter().map(|lane| lane.owner).collect()
}

#[tokio::test(start_paused = true)]
async fn r32_two_sessions_have_two_connections_that_end_with_them_and_not_when_they_only_give_way() {
    let world = world(Sharing::Session).await;
    let (one, two) = (fakes::session(&world.hub, "2025-06-18"), fakes::session(&world.hub, "2025-11-25"));
    for session in [&one, &two, &one] {
        let (answer, _) = said(&world, session, CALL, &[]).await;
        assert!(answer["result"].is_object(), "{answer}");
    }
    assert_eq!((calls(&world), owners(&world)), (vec![2, 1], vec![one.label().to_string(), two.label().to_string()]));
    // It gives way to others, and comes back by its id: to what it left.
    world.hub.sessions.remove(one.id());
    world.hub.close(&one);
    let back = world.hub.session(one.id(), Guest::ANYBODY).expect("known");
    said(&world, &back, CALL, &[]).await;
    assert_eq!(calls(&world), [3, 1]);
    world.hub.end(&back);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(owners(&world), [two.label().to_string()]);
    let closed = world.servers().iter().filter(|server| server.is_closed()).count();
    assert_eq!(closed, 1, "the process is gone with the session");
    tokio::time::advance(Config::default().limits.session_idle + Duration::from_secs(1)).await;
    world.hub.expire(&two);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(owners(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_for_its_directories_once_and_again_when_they_have_changed() {
    let world = world(Sharing::Project).await;
    let able = |abilities| fakes::able_session(&world.hub, "2025-06-18", abilities);
    let (here, too, bare) = (able(r#"{"roots":{}}"#), able(r#"{"roots":{}}"#), able("{}"));
    for (session, roots, expected) in [
        (&here, vec!["file:///a"], 1),
        (&here, vec![], 0),
        // Another client in the same project.
        (&too, vec!["file:///a", "file:///a", "https://x.example/"], 1),
        (&bare, vec![], 0),
    ] {
        let (answer, asked) = said(&world, session, CALL, &roots).await;
        assert!(answer["result"].is_object(), "{answer}");
        assert_eq!(asked, expected);
    }
    let mut seen = calls(&world);
    seen.sort_unstable();
    assert_eq!((seen, owners(&world)), (vec![1, 3], vec!["/a".to_owned()]), "the client without any is on the first");
    let changed = message(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    world.hub.handle(&here, changed, BOTH).await;
    let (_, asked) = said(&world, &here, CALL, &["file:///b"]).await;
    assert_eq!((asked, owners(&world)), (1, vec!["/a".to_owned(), "/b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_has_no_directories_and_is_not_waited_for_again() {
    let world = world(Sharing::Project).await;
    let session = fakes::able_session(&world.hub, "2025-06-18", r#"{"roots":{}}"#);
    for waited in [5, 0] {
        let begun = tokio::time::Instant::now();
        let Reply::Events(mut events) = world.hub.handle(&session, message(CALL), BOTH).await else {
            assert_eq!(waited, 0);
            continue;
        };
        while events.next().await.is_some() {}
        assert_eq!(begun.elapsed().as_secs(), waited);
    }
    assert_eq!((calls(&world), owners(&world).len()), (vec![2], 0));
}

#[tokio::test]
async fn a_profile_says_which_project_whatever_its_client_says_and_a_token_parts_lanes() {
    let mut config = Config::default();
    let work = Profile { roots: vec!["file:///work".to_owned()], ..Profile::default() };
    config.profiles = vec![("plain".into(), Profile::default()), ("work".into(), work)];
    let hub = fakes::hub(&[("git", Server { enabled: false, ..server(Sharing::Project) })], &config);
    let upstream = hub.fleet().all()[0].clone();
    let lane = |profile: Option<&str>, owner: Option<&str>| {
        let view = profile.map_or(View::WHOLE, |name| hub.profile(name).expect("a profile"));
        let initialize = fakes::request(0, Method::Initialize, r#"{"capabilities":{"roots":{}}}"#);
        let (session, _) = hub.open(&initialize, Guest { owner, view: &view }).expect("a session");
        session.roots().set(Arc::from(["file:///own".to_owned()])).expect("not asked yet");
        let is_asked = is_to_be_asked(&hub, Sharing::Project, &view, &session);
        (known(&hub, &upstream, &view, &Caller::Legacy(session)).0, is_asked)
    };
    let roots = |owner: Option<&str>, uri: &str| LaneKey::Roots(owner.map(Into::into), Arc::from([uri.to_owned()]));
    assert_eq!(lane(Some("work"), None), (roots(None, "file:///work"), false));
    assert_eq!(lane(Some("plain"), None), (roots(None, "file:///own"), true));
    assert_eq!(lane(None, None), (roots(None, "file:///own"), true));
    assert_eq!(lane(Some("work"), Some("ci")), (roots(Some("ci"), "file:///work"), false));
}

#[tokio::test]
async fn a_modern_client_is_told_from_others_by_its_name_its_abilities_and_its_token() {
    let hub = fakes::hub(&[("git", Server { enabled: false, ..server(Sharing::Session) })], &Config::default());
    let upstream = hub.fleet().all()[0].clone();
    let lane = |label: &str, owner: Option<&str>, abilities: &'static str| {
        let declared = Object::parse(&Json::literal(abilities)).expect("an object");
        let abilities = trunkline_wire::Abilities::read(&declared, trunkline_wire::Revision::V2026_07_28);
        let client = crate::ModernClient {
            id: hub.next_caller(),
            label: label.into(),
            owner: owner.map(Into::into),
            abilities: Arc::new(abilities),
            level: None,
        };
        known(&hub, &upstream, &View::WHOLE, &Caller::Modern(Arc::new(client))).0
    };
    let one = lane("codex#1", None, "{}");
    assert_eq!(one, lane("codex#2", None, "{}"), "each request has a number of its own");
    for other in
        [lane("zed#1", None, "{}"), lane("codex#1", Some("ci"), "{}"), lane("codex#1", None, r#"{"sampling":{}}"#)]
    {
        assert_ne!(one, other);
    }
}

#[tokio::test(start_paused = true)]
async fn s11_what_a_server_says_on_a_lane_reaches_the_session_of_that_lane_alone() {
    let world = world(Sharing::Session).await;
    let (one, two) = (fakes::session(&world.hub, "2025-06-18"), fakes::session(&world.hub, "2025-06-18"));
    for session in [&one, &two] {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"a:b"}}"#,
        ] {
            let (answer, _) = said(&world, session, text, &[]).await;
            assert!(answer["result"].is_object(), "{answer}");
        }
    }
    let mut streams = [one.open_get().expect("open"), two.open_get().expect("open")];
    let subscribed: Vec<Handle> =
        world.servers().into_iter().filter(|it| !it.seen_of("resources/subscribe").is_empty()).collect();
    assert_eq!(subscribed.len(), 2, "each on its own");
    subscribed[1].notify("notifications/message", r#"{"level":"error","data":"mine"}"#).await;
    subscribed[1].notify("notifications/resources/updated", r#"{"uri":"a:b"}"#).await;
    let mut heard: Vec<String> = Vec::new();
    for stream in &mut streams {
        let mut all = String::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(5), stream.next()).await {
            all += std::str::from_utf8(&event.data.into_bytes()).expect("text");
        }
        heard.push(all);
    }
    assert!(heard[1].contains("mine") && heard[1].contains(r#""uri":"a:b""#), "{}", heard[1]);
    assert!(!heard[0].contains("mine") && !heard[0].contains("a:b"), "{}", heard[0]);
}

const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"a:b"}}"#;

/// What a stream says within the next seconds.
async fn heard(events: &mut crate::EventStream) -> String {
    let mut all = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(3), events.next()).await {
        all += std::str::from_utf8(&event.data.into_bytes()).expect("text");
    }
    all
}

/// A listen of a modern client for `a:b`, which was acknowledged.
async fn listening(world: &World) -> crate::EventStream {
    let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},
        "notifications":{"resourceSubscriptions":["a:b"]}}"#;
    let request = fakes::request(3, Method::SubscriptionsListen, params);
    let params = crate::Params::read(request.params.as_ref()).expect("an object");
    let envelope = crate::Envelope::read(params).expect("an envelope");
    let Reply::Listening { mut events, .. } = world.hub.handle_modern(envelope, request, BOTH).await else {
        panic!("a stream")
    };
    let first = heard(&mut events).await;
    assert!(first.contains(r#"["a:b"]"#), "{first}");
    events
}

#[tokio::test(start_paused = true)]
async fn r5_a_subscription_outlives_the_connection_that_held_it_whatever_ended_that() {
    type Change = fn(&World);
    fn apply(world: &World, servers: &[Server]) {
        let name = ServerName::new("git").expect("a name");
        let named: Vec<_> = servers.iter().map(|server| (name.clone(), server.clone())).collect();
        world.hub.fleet().apply(&named);
    }
    let world = world(Sharing::Session).await;
    let session = fakes::session(&world.hub, "2025-06-18");
    let (answer, _) = said(&world, &session, SUBSCRIBE, &[]).await;
    assert!(answer["result"].is_object(), "{answer}");
    let mut streams = [session.open_get().expect("open").boxed(), listening(&world).await];
    let changes: [(&str, Change, Change); 7] = [
        ("nothing", |_| {}, |_| {}),
        ("a pause", |world| assert!(world.hub.fleet().pause("git")), |world| assert!(world.hub.fleet().resume("git"))),
        (
            "off and on",
            |world| apply(world, &[Server { enabled: false, ..server(Sharing::Session) }]),
            |world| apply(world, &[server(Sharing::Session)]),
        ),
        ("shared", |_| {}, |world| apply(world, &[server(Sharing::Shared)])),
        ("by project", |_| {}, |world| apply(world, &[server(Sharing::Project)])),
        ("by session", |_| {}, |world| apply(world, &[server(Sharing::Session)])),
        ("gone and back", |world| apply(world, &[]), |world| apply(world, &[server(Sharing::Session)])),
    ];
    for (what, first, then) in changes {
        first(&world);
        tokio::time::sleep(Duration::from_secs(40)).await;
        then(&world);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let count = |server: &Handle, method: &str| server.seen_of(method).len();
        let is_told = |it: &&Handle| count(it, "resources/subscribe") > count(it, "resources/unsubscribe");
        for server in world.servers().iter().filter(is_told) {
            server.notify("notifications/resources/updated", r#"{"uri":"a:b"}"#).await;
        }
        for (nth, stream) in streams.iter_mut().enumerate() {
            let told = heard(stream).await;
            assert_eq!(told.matches(r#""uri":"a:b""#).count(), 1, "{what}, stream {nth}: {told}");
        }
    }
    // And with the last of those who want it, it ends.
    world.hub.end(&session);
    drop(streams);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let upstream = world.hub.fleet().all()[0].clone();
    assert!(!world.hub.interest().doubt(upstream.name()), "nobody is interested");
    tokio::time::sleep(Duration::from_mins(31)).await;
    assert_eq!(upstream.status().state, "idle", "no subscription keeps a connection open");
}

#[tokio::test(start_paused = true)]
async fn r5_a_session_that_comes_back_after_a_restart_subscribes_on_the_lane_of_its_project() {
    let made = tempfile::tempdir().expect("a directory");
    let process = async || {
        let dir = StateDir::open(made.path().join("state")).expect("our own");
        let script = Script { resources: vec![resource("a:b")], ..Script::default() };
        World::kept(script, server(Sharing::Project), &Keep::in_directory(dir).expect("a key")).await
    };
    let first = process().await;
    let session = fakes::able_session(&first.hub, "2025-06-18", r#"{"roots":{}}"#);
    let (answer, asked) = said(&first, &session, SUBSCRIBE, &["file:///mine"]).await;
    assert!(answer["result"].is_object() && asked == 1, "{answer}");
    first.hub.remembered().await;

    let next = process().await;
    let back = next.hub.session(session.id(), Guest::ANYBODY).expect("known");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told: Vec<Handle> =
        next.servers().into_iter().filter(|server| !server.seen_of("resources/subscribe").is_empty()).collect();
    assert_eq!((told.len(), owners(&next)), (1, vec!["/mine".to_owned()]), "and not on that of everybody");
    let mut stream = back.open_get().expect("open").boxed();
    told[0].notify("notifications/resources/updated", r#"{"uri":"a:b"}"#).await;
    assert!(heard(&mut stream).await.contains(r#""uri":"a:b""#));
    // Its client may have opened others meanwhile: a call asks.
    let (_, asked) = said(&next, &back, CALL, &["file:///other"]).await;
    assert_eq!((asked, owners(&next)), (1, vec!["/mine".to_owned(), "/other".to_owned()]));
}

#[tokio::test]
async fn s34_directories_of_a_client_are_bounded_by_those_of_the_server() {
    let lane = |sharing: Sharing, roots: &[&str]| {
        let mut server = Server { enabled: false, ..server(sharing) };
        server.declared.roots = vec!["file:///srv".to_owned()];
        let hub = fakes::hub(&[("git", server)], &Config::default());
        let session = fakes::able_session(&hub, "2025-06-18", r#"{"roots":{}}"#);
        session.roots().set(roots.iter().map(|&root| root.to_owned()).collect()).expect("not asked yet");
        known(&hub, &hub.fleet().all()[0], &View::WHOLE, &Caller::Legacy(session))
    };
    let of = |roots: &[&str]| -> Arc<[String]> { roots.iter().map(|&root| root.to_owned()).collect() };
    let (key, _) = lane(Sharing::Project, &["file:///etc", "file:///srv/a"]);
    assert_eq!(key, LaneKey::Roots(None, of(&["file:///srv/a"])));
    assert_eq!(lane(Sharing::Project, &["file:///etc"]).0, LaneKey::Common, "as one that has none");
    assert_eq!(lane(Sharing::Session, &["file:///etc", "file:///srv/a"]).1, of(&["file:///srv/a"]));
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_told_all_that_its_client_declared_whatever_it_begins_with() {
    let world = world(Sharing::Session).await;
    let session = fakes::able_session(&world.hub, "2025-06-18", r#"{"elicitation":{}}"#);
    // Nothing can be asked during this one.
    let (answer, _) = said(&world, &session, SUBSCRIBE, &[]).await;
    assert!(answer["result"].is_object(), "{answer}");
    let Some(Message::Request(initialize)) = world.server().seen_of("initialize").pop() else { panic!("a handshake") };
    let told = initialize.params().expect("an object").get("capabilities").cloned();
    assert_eq!(told, Some(Json::literal(r#"{"elicitation":{}}"#)), "and not that it takes pages");
}

#[tokio::test]
async fn s34_a_server_on_the_lane_of_a_limited_token_asks_its_holder_for_no_directories() {
    let mut config = Config::default();
    config.auth.tokens = vec![("ci".to_owned(), Secret::new("x")), ("laptop".to_owned(), Secret::new("y"))];
    config.auth.limited =
        vec![("ci".into(), Reach { servers: Some(vec![ServerName::new("git").expect("a name")]), ..Reach::default() })];
    let hub = fakes::hub(&[("git", Server { enabled: false, ..server(Sharing::Session) })], &config);
    let declared = |holder: &str| {
        let view = hub.view_at(Some(holder.into()), None).expect("open");
        let initialize =
            fakes::request(0, Method::Initialize, r#"{"protocolVersion":"2025-06-18","capabilities":{"roots":{}}}"#);
        let (session, _) = hub.open(&initialize, Guest { owner: Some(holder), view: &view }).expect("a session");
        let caller = Caller::Legacy(session);
        let mut facts = caller.facts(true);
        sit(&hub, &hub.fleet().all()[0], &view, &caller, &mut facts);
        facts.declared.roots()
    };
    assert_eq!((declared("ci"), declared("laptop")), (false, true));
}
