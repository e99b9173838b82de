use trunkline_config::{Auth, Config};
use trunkline_testkit::{Script, tool};
use trunkline_wire::Method;

use super::*;
use crate::catalog::List;
use crate::catalog::output::Class;
use crate::fakes::{self, World, entries, message, source};
use crate::{Reply, Session, Wants};

const SHAPE: Shape = Shape { name_chars: 48, page_size: None, bare_names: false, own_tools: false };
const BOTH: Wants = Wants { json: true, sse: true };

fn offer() -> Offer {
    let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
    let (log, push) = (tool("log"), tool("push"));
    Offer {
        tools: entries("name", &[&log, &push]),
        prompts: entries("name", &[r#"{"name":"commit"}"#, r#"{"name":"review"}"#]),
        resources: entries("uri", &[r#"{"uri":"file:///a/x","name":"x"}"#, r#"{"uri":"file:///b/y","name":"y"}"#]),
        ..Offer::default()
    }
}

/// Two servers that offer the same.
fn servers() -> Vec<Source> {
    let source = |name| {
        let (upstream, offer) = source(name, fakes::server(), offer());
        Source { upstream, offer, verdict: None }
    };
    ["git", "hub"].map(source).into()
}

fn patterns(texts: &[&str]) -> trunkline_config::Patterns {
    texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().into()
}

fn only(texts: &[&str]) -> Filter {
    Filter { only: Some(patterns(texts)), ..Filter::default() }
}

/// What a profile shows of the two, without the tasks that keep it current.
fn seen(profile: &Profile) -> Catalog {
    let sources = servers();
    let whole = build::build(1, &sources, SHAPE);
    let shape = Shape { bare_names: profile.bare_names, ..SHAPE };
    build::build(1, &Lens::of(&whole).through(profile, &sources), shape)
}

fn tools(catalog: &Catalog) -> Vec<&str> {
    catalog.tools().iter().map(|entry| entry.name.as_str()).collect()
}

fn uris(catalog: &Catalog) -> String {
    catalog
        .bodies(List::Resources, Class::Any)
        .map(|body| String::from_utf8_lossy(body.as_bytes()).into_owned())
        .collect()
}

#[test]
fn a_profile_shows_what_its_patterns_leave_under_the_names_that_everybody_knows() {
    let all = seen(&Profile::default());
    assert_eq!(tools(&all), ["git__log", "git__push", "hub__log", "hub__push"]);
    let profile = Profile {
        tools: Filter { only: Some(patterns(&["*__log", "git__*"])), not: patterns(&["hub__*"]) },
        prompts: only(&["hub__review"]),
        resources: only(&["file:///a/*"]),
        ..Profile::default()
    };
    let some = seen(&profile);
    assert_eq!(tools(&some), ["git__log", "git__push"]);
    assert_eq!(some.prompts().iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["hub__review"]);
    assert!(uris(&some).contains("file:///a/x") && !uris(&some).contains("file:///b/y"));
    assert!(some.tools.get("git__log").is_some() && some.tools.get("hub__log").is_none());
    let bodies = |catalog: &Catalog| catalog.tools.get("git__log").map(|entry| entry.body.clone());
    assert_eq!(bodies(&some), bodies(&all), "the same text");
}

#[test]
fn a_profile_of_one_server_may_call_its_tools_as_the_server_does_and_patterns_go_by_the_public_names() {
    let git = servers()[0].upstream.name().clone();
    let profile =
        Profile { servers: Some(vec![git]), bare_names: true, tools: only(&["git__log"]), ..Profile::default() };
    let catalog = seen(&profile);
    assert_eq!(tools(&catalog), ["log"]);
    assert_eq!(catalog.servers.len(), 1);
}

#[test]
fn what_a_pattern_hides_is_not_had_by_another_spelling() {
    let catalog = Catalog { uris: only(&["file:///a/*"]), ..seen(&Profile::default()) };
    assert!(catalog.may_ask("file:///a/x%20y") && catalog.may_ask("file:///a/.hidden"));
    for uri in ["file:///b/y", "file:///a/../b/y", "file:///a/..", "file:///a/%2e%2e/b/y", "file:///a/%62"] {
        assert!(!catalog.may_ask(uri), "{uri}");
    }
    assert!(seen(&Profile::default()).may_ask("file:///a/../b/y"), "where all may be asked for, servers decide");
}

#[test]
fn a_server_of_which_nothing_is_shown_is_not_there() {
    let profile = Profile {
        tools: only(&["git__*"]),
        prompts: only(&["git__*"]),
        resources: only(&["none"]),
        ..Profile::default()
    };
    let names: Vec<String> = seen(&profile).servers.iter().map(|upstream| upstream.name().to_string()).collect();
    assert_eq!(names, ["git"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_is_noted_as_such() {
    let fault = trunkline_testkit::Fault::silent("tools/call");
    let script = Script { tools: vec![tool("log")], faults: vec![fault], ..Script::default() };
    let world = World::new(script).await;
    let session = session(&world, None);
    let call = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"git__log"}}"#;
    let reply = world.hub.handle(&session, message(call), BOTH).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    world.hub.handle(&session, message(cancel), BOTH).await;
    drop(reply);
    let noted = world.hub.recent_calls().after(0);
    assert_eq!(
        noted.iter().map(|call| (call.tool.as_str(), call.outcome)).collect::<Vec<_>>(),
        [("git__log", "cancelled")]
    );
}

async fn profiled(profiles: Vec<(&str, Profile)>) -> World {
    let script = Script { tools: vec![tool("log"), tool("push")], ..Script::default() };
    let world = World::new(script).await;
    reload(&world, profiles);
    world
}

fn reload(world: &World, profiles: Vec<(&str, Profile)>) {
    limit(world, profiles, vec![]);
}

fn limit(world: &World, profiles: Vec<(&str, Profile)>, limited: Vec<(&str, Reach)>) {
    let profiles = profiles.into_iter().map(|(name, profile)| (name.into(), profile)).collect();
    let limited = limited.into_iter().map(|(name, reach)| (name.into(), reach)).collect();
    world.hub.reload(&Config { profiles, auth: Auth { limited, ..Auth::default() }, ..Config::default() });
}

fn logs() -> Profile {
    Profile { tools: only(&["git__log"]), ..Profile::default() }
}

fn session(world: &World, profile: Option<&str>) -> Arc<Session> {
    let view = profile.map_or(View::WHOLE, |name| world.hub.profile(name).expect("there"));
    let guest = Guest { owner: None, view: &view };
    let (session, _) = world.hub.open(&fakes::request(0, Method::Initialize, "{}"), guest).expect("a session");
    session.initialized();
    session
}

/// A session of a token's holder, begun at `/mcp`.
fn session_of(world: &World, holder: &str) -> Arc<Session> {
    let view = world.hub.view_at(Some(holder.into()), None).expect("open");
    let guest = Guest { owner: Some(holder), view: &view };
    let (session, _) = world.hub.open(&fakes::request(0, Method::Initialize, "{}"), guest).expect("a session");
    session.initialized();
    session
}

/// What a session was told since it was asked last.
fn heard(world: &World, session: &Arc<Session>) -> String {
    use futures_util::{FutureExt as _, StreamExt as _};
    let mut events = world.hub.attach(session, None).expect("a stream");
    let mut texts = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        texts.push(String::from_utf8_lossy(&event.data.into_bytes()).into_owned());
    }
    texts.concat()
}

async fn ask(world: &World, session: &Arc<Session>, method: &str, params: &str) -> String {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let Reply::One(text) = world.hub.handle(session, message(&text), BOTH).await else { panic!("one answer") };
    String::from_utf8(text.into_bytes().to_vec()).expect("text")
}

#[tokio::test]
async fn what_a_profile_does_not_show_does_not_exist_for_its_clients() {
    let world = profiled(vec![("logs", logs())]).await;
    let (whole, some) = (session(&world, None), session(&world, Some("logs")));
    let list = ask(&world, &some, "tools/list", "{}").await;
    assert!(list.contains("git__log") && !list.contains("push"), "{list}");
    assert!(ask(&world, &whole, "tools/list", "{}").await.contains("git__push"));
    assert!(ask(&world, &some, "tools/call", r#"{"name":"git__log"}"#).await.contains("content"));
    assert!(ask(&world, &whole, "tools/call", r#"{"name":"git__push"}"#).await.contains("content"));
    let refused = ask(&world, &some, "tools/call", r#"{"name":"git__push"}"#).await;
    let nobodys = ask(&world, &some, "tools/call", r#"{"name":"git__nope"}"#).await;
    assert!(refused.contains("-32602") && refused.contains("unknown tool"), "{refused}");
    assert_eq!(refused.replace("push", "nope"), nobodys, "nothing tells the two apart");
    assert_eq!(world.hub.profile("nope"), Err(vec!["logs".into()]));
}

#[tokio::test]
async fn s8_a_session_is_known_at_the_address_alone_at_which_it_was_begun() {
    let world = profiled(vec![("logs", logs()), ("more", Profile::default())]).await;
    let id = session(&world, Some("logs")).id().to_owned();
    let known = |profile: Option<&str>| {
        let view = profile.map_or(View::WHOLE, |name| world.hub.profile(name).expect("there"));
        world.hub.session(&id, Guest { owner: None, view: &view }).is_some()
    };
    assert!(known(Some("logs")));
    assert!(!known(None) && !known(Some("more")));
    // As another process finds it, by its id alone.
    world.hub.each_session(|session| assert_eq!(session.view().profile(), Some("logs")));
    world.hub.sessions.clear();
    assert!(!known(None) && !known(Some("more")));
    assert!(known(Some("logs")));
}

#[tokio::test(start_paused = true)]
async fn a_changed_profile_is_told_to_its_clients_alone() {
    let world = profiled(vec![("logs", logs())]).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let (whole, some) = (session(&world, None), session(&world, Some("logs")));
    reload(&world, vec![("logs", Profile::default())]);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(heard(&world, &some).contains("notifications/tools/list_changed"));
    assert!(!heard(&world, &whole).contains("list_changed"), "nothing changed for it");
    // A profile that is gone shows nothing, and its client still gets answers.
    reload(&world, vec![]);
    assert_eq!(ask(&world, &some, "tools/list", "{}").await, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
}

fn to_profile(name: &str) -> Reach {
    Reach { profile: Some(name.into()), profiles: Some(vec![name.into()]), servers: None }
}

fn to_server(name: &str) -> Reach {
    Reach { servers: Some(vec![ServerName::new(name).expect("a name")]), ..Reach::default() }
}

#[tokio::test]
async fn s5_what_a_limited_token_does_not_reach_does_not_exist_for_its_holder() {
    let world = profiled(vec![]).await;
    let limited = vec![("ci", to_profile("logs")), ("guest", to_server("other")), ("git", to_server("git"))];
    limit(&world, vec![("logs", logs()), ("more", Profile::default())], limited);
    let (ci, guest, git, me) =
        (session_of(&world, "ci"), session_of(&world, "guest"), session_of(&world, "git"), session_of(&world, "me"));
    let list = ask(&world, &ci, "tools/list", "{}").await;
    assert!(list.contains("git__log") && !list.contains("push"), "{list}");
    let refused = ask(&world, &ci, "tools/call", r#"{"name":"git__push"}"#).await;
    assert_eq!(refused.replace("push", "nope"), ask(&world, &ci, "tools/call", r#"{"name":"git__nope"}"#).await);
    assert!(ask(&world, &ci, "tools/call", r#"{"name":"git__log"}"#).await.contains("content"));
    let nothing = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
    assert_eq!(ask(&world, &guest, "tools/list", "{}").await, nothing);
    assert!(ask(&world, &guest, "tools/call", r#"{"name":"git__log"}"#).await.contains("unknown tool"));
    for session in [&git, &me] {
        assert!(ask(&world, session, "tools/call", r#"{"name":"git__push"}"#).await.contains("content"));
    }
    let at = |holder: &str, profile| world.hub.view_at(Some(holder.into()), profile);
    assert!(at("ci", Some("logs")).is_ok() && at("me", Some("more")).is_ok() && at("guest", Some("more")).is_ok());
    assert_eq!(at("ci", Some("more")), at("ci", Some("nope")), "nothing tells the two apart");
    assert_eq!(at("ci", Some("more")), Err(vec!["/mcp".to_owned(), "/mcp/logs".to_owned()]));
    let narrow = world.hub.view(&at("guest", Some("more")).expect("open"));
    assert!(narrow.tools().is_empty(), "a server's limit holds at every address");
}

#[tokio::test(start_paused = true)]
async fn s5_changed_limits_hold_at_once_and_are_told_to_those_that_they_concern() {
    let world = profiled(vec![]).await;
    let profiles = || vec![("logs", logs())];
    limit(&world, profiles(), vec![("ci", to_profile("logs"))]);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let (ci, me) = (session_of(&world, "ci"), session_of(&world, "me"));
    let settle = || tokio::time::sleep(std::time::Duration::from_secs(30));
    let sees = async |session| ask(&world, session, "tools/list", "{}").await.matches("inputSchema").count();
    for (limited, [ci_sees, me_sees], [ci_hears, me_hears]) in [
        (vec![], [2, 2], [true, false]),
        (vec![("me", to_profile("logs"))], [2, 1], [false, true]),
        (vec![("me", to_profile("logs")), ("ci", to_server("other"))], [0, 1], [true, false]),
        (vec![("me", to_server("git")), ("ci", to_server("other"))], [0, 2], [false, true]),
    ] {
        limit(&world, profiles(), limited);
        assert_eq!([sees(&ci).await, sees(&me).await], [ci_sees, me_sees]);
        settle().await;
        let told = [&ci, &me].map(|session| heard(&world, session).contains("tools/list_changed"));
        assert_eq!(told, [ci_hears, me_hears]);
    }
}

#[tokio::test]
async fn s5_whoever_had_a_token_that_was_taken_back_sees_nothing_by_what_it_let_in() {
    let world = profiled(vec![]).await;
    let with = |names: &[&str], limited: Vec<(&str, Reach)>| {
        let tokens = names.iter().map(|name| ((*name).to_owned(), trunkline_config::Secret::new("x"))).collect();
        let limited = limited.into_iter().map(|(name, reach)| (name.into(), reach)).collect();
        world.hub.reload(&Config { auth: Auth { tokens, limited, ..Auth::default() }, ..Config::default() });
    };
    with(&["ci", "me"], vec![("ci", to_server("other"))]);
    let view = world.hub.view_at(Some("ci".into()), None).expect("open");
    let mine = world.hub.view_at(Some("me".into()), None).expect("open");
    assert!(world.hub.view(&view).tools().is_empty() && !world.hub.view(&mine).tools().is_empty());
    with(&["me"], vec![]);
    assert!(world.hub.view(&view).tools().is_empty(), "its limits went with it, and it did not grow");
    assert!(world.hub.view_at(Some("ci".into()), None).is_err());
    assert!(!world.hub.view(&mine).tools().is_empty());
}

#[tokio::test]
async fn s5_a_session_from_before_the_tokens_gives_a_limited_one_nothing_more() {
    let world = profiled(vec![("logs", logs())]).await;
    let before = session(&world, None).id().to_owned();
    limit(&world, vec![("logs", logs())], vec![("ci", to_profile("logs"))]);
    let known = |holder: &str| {
        let view = world.hub.view_at(Some(holder.into()), None).expect("open");
        world.hub.session(&before, Guest { owner: Some(holder), view: &view })
    };
    assert!(known("ci").is_none(), "it sees everything");
    assert!(known("me").is_some());
    // Taken up again by its id alone, it sees what the holder does who brings it; and then nobody else has it.
    world.hub.sessions.clear();
    let revived = known("ci").expect("by its id");
    assert!(ask(&world, &revived, "tools/call", r#"{"name":"git__push"}"#).await.contains("unknown tool"));
    assert!(known("me").is_none());
}
