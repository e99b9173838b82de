//! The surface as clients of both eras meet it, before a scripted server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use trunkline_config::{Config, ErrorForm, Filter, Patterns, Profile, Surface as Wanted};
use trunkline_testkit::{Fault, Script, tool};
use trunkline_wire::{Message, Method};

use crate::envelope::Envelope;
use crate::fakes::{self, World, message};
use crate::meta::Params;
use crate::{Hub, Reply, Session, View, Wants};

const BOTH: Wants = Wants { json: true, sse: true };
const OWN: [&str; 3] = ["find_tools", "describe_tool", "call_tool"];
const CREATE: &str = r#"{"name":"create_issue","description":"Creates an issue.\nWith a title.","inputSchema":{"type":"object","properties":{"title":{"type":"string"}},"required":["title"]},"outputSchema":{"type":"array"},"annotations":{"destructiveHint":false}}"#;

fn searching() -> Config {
    Config { surface: Wanted::Search, ..Config::default() }
}

fn patterns(texts: &[&str]) -> Patterns {
    texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().into()
}

/// A server with `echo` and `create_issue`, and these faults.
fn script(faults: Vec<Fault>) -> Script {
    Script { tools: vec![tool("echo"), CREATE.to_owned()], faults, ..Script::default() }
}

async fn world(faults: Vec<Fault>) -> World {
    World::ruled(script(faults), &searching()).await
}

fn value(text: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(text.as_ref()).expect("JSON")
}

async fn one(reply: Reply) -> Value {
    match reply {
        Reply::One(text) => value(text.into_bytes()),
        Reply::Events(events) => {
            let texts: Vec<_> = events.map(|event| event.data.into_bytes()).collect().await;
            value(texts.last().expect("an answer"))
        }
        other @ (Reply::Accepted | Reply::Error { .. } | Reply::Listening { .. } | Reply::Refused(_)) => {
            panic!("an answer is expected, not {other:?}")
        }
    }
}

/// What a legacy session is answered.
async fn ask(hub: &Arc<Hub>, session: &Arc<Session>, method: &str, params: &Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    one(hub.handle(session, message(&request.to_string()), BOTH).await).await
}

/// The result of a call of a legacy session of the newest revision.
async fn call(hub: &Arc<Hub>, name: &str, arguments: &Value) -> Value {
    let session = fakes::session(hub, "2025-11-25");
    ask(hub, &session, "tools/call", &json!({ "name": name, "arguments": arguments })).await["result"].clone()
}

/// What a modern client is answered that can be asked everything.
async fn modern(hub: &Arc<Hub>, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
    });
    let request = fakes::request(7, Method::from(method), &params.to_string());
    let envelope = Envelope::read(Params::read(request.params.as_ref()).expect("an object")).expect("an envelope");
    one(hub.handle_modern(envelope.of(None, View::WHOLE), request, BOTH).await).await
}

fn names(list: &Value) -> Vec<&str> {
    list["result"]["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect()
}

fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("a text")
}

/// What the server was asked last by this method.
fn sent(world: &World, method: &str) -> Value {
    let seen = world.server().seen_of(method);
    let Some(Message::Request(request)) = seen.last() else { panic!("the server was not asked") };
    request.params.as_ref().expect("params").decode().expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn three_tools_stand_for_all_in_both_eras_and_tell_whose_they_are() {
    let world = world(Vec::new()).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let legacy = ask(&world.hub, &session, "tools/list", &json!({})).await;
    assert_eq!(names(&legacy), OWN);
    assert_eq!(names(&modern(&world.hub, "tools/list", json!({})).await), OWN);
    let [find, describe, call] = [0, 1, 2].map(|at| &legacy["result"]["tools"][at]);
    assert!(find["description"].as_str().expect("a text").contains("2 tools of git (2)."), "{find}");
    for own in [find, describe] {
        assert!(own["outputSchema"]["type"] == "object" && own["annotations"]["readOnlyHint"] == true, "{own}");
    }
    assert!(call.get("annotations").is_none() && call.get("outputSchema").is_none(), "{call}");
    let old = fakes::session(&world.hub, "2025-03-26");
    let listed = ask(&world.hub, &old, "tools/list", &json!({})).await;
    assert!(listed["result"]["tools"][0].get("outputSchema").is_none(), "that revision knows none");
    let instructions = world.hub.catalog().instructions.decode_str().expect("a text");
    assert!(instructions.contains("find_tools finds them"), "{instructions}");
}

#[tokio::test(start_paused = true)]
async fn what_would_stand_in_place_of_all_tools_can_be_had_where_all_are_listed() {
    let world = World::ruled(script(Vec::new()), &Config::default()).await;
    let instead = world.hub.catalog().in_place_of_all();
    assert_eq!(instead.iter().map(|tool| value(tool.as_bytes())["name"].clone()).collect::<Vec<_>>(), OWN);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_enough_to_call_it_and_says_the_same_as_text() {
    let world = world(Vec::new()).await;
    let found = call(&world.hub, "find_tools", &json!({ "query": "file a new issue" })).await;
    let structure = &found["structuredContent"];
    assert_eq!(&value(text_of(&found)), structure);
    let first = &structure["tools"][0];
    assert_eq!((&first["name"], &first["server"]), (&json!("git__create_issue"), &json!("git")));
    assert_eq!(first["description"], "Creates an issue. …");
    assert_eq!((&first["inputSchema"]["required"], &structure["searched"]), (&json!(["title"]), &json!(2)));
    assert_eq!(first["annotations"], json!({ "destructiveHint": false }));
    let all = call(&world.hub, "find_tools", &json!({ "query": "", "server": "Git", "limit": 1 })).await;
    assert_eq!(all["structuredContent"]["tools"].as_array().map(Vec::len), Some(1), "in order, as many as wanted");
    let none = call(&world.hub, "find_tools", &json!({ "query": "quasar" })).await;
    assert!(none["structuredContent"]["hint"].is_string() && none.get("isError").is_none(), "{none}");
    let old = fakes::session(&world.hub, "2024-11-05");
    let params = json!({ "name": "find_tools", "arguments": { "query": "issue" } });
    let bare = ask(&world.hub, &old, "tools/call", &params).await;
    assert!(bare["result"].get("structuredContent").is_none() && text_of(&bare["result"]).contains("create_issue"));
}

#[tokio::test(start_paused = true)]
async fn only_the_first_tools_that_are_found_come_with_their_schemas() {
    let tools = (0..7).map(|at| CREATE.replace("create_issue", &format!("create_issue_{at}"))).collect();
    let world = World::ruled(Script { tools, ..Script::default() }, &searching()).await;
    let found = call(&world.hub, "find_tools", &json!({ "query": "create an issue" })).await;
    let tools = found["structuredContent"]["tools"].as_array().expect("tools").clone();
    let with = |tool: &&Value| tool.get("inputSchema").is_some();
    assert_eq!((tools.len(), tools.iter().filter(with).count(), tools.iter().take_while(with).count()), (7, 5, 5));
    let last = call(&world.hub, "describe_tool", &json!({ "name": tools[6]["name"] })).await;
    assert!(last["structuredContent"]["inputSchema"].is_object(), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_shown_as_a_list_of_that_revision_would_have_it() {
    let world = world(Vec::new()).await;
    let shown = call(&world.hub, "describe_tool", &json!({ "name": "git__create_issue" })).await;
    let definition = &shown["structuredContent"];
    assert_eq!(&value(text_of(&shown)), definition);
    assert_eq!(definition["description"], "Creates an issue.\nWith a title.");
    assert_eq!(definition["outputSchema"]["properties"]["result"], json!({ "type": "array" }), "wrapped, as listed");
    let params = json!({ "name": "describe_tool", "arguments": { "name": "git__create_issue" } });
    let newest = modern(&world.hub, "tools/call", params).await;
    assert_eq!(newest["result"]["structuredContent"]["outputSchema"], json!({ "type": "array" }));
    assert_eq!(newest["result"]["resultType"], "complete");
}

#[tokio::test(start_paused = true)]
async fn a_call_by_way_of_call_tool_is_a_call_of_the_tool_to_its_server_and_its_client() {
    let result = r#"{"content":[{"type":"text","text":"no"}],"structuredContent":{"n":1e2},"isError":true,"_meta":{"x/y":1.0},"z":0}"#;
    let world = world(vec![Fault::result("tools/call", result)]).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let meta = json!({ "progressToken": "mine", "vendor/k": [1] });
    let inner = json!({ "name": "git__echo", "arguments": { "a": [1, null] } });
    let direct = json!({ "name": "git__echo", "arguments": { "a": [1, null] }, "_meta": meta });
    let through = json!({ "name": "call_tool", "arguments": inner, "_meta": meta });
    let one = ask(&world.hub, &session, "tools/call", &direct).await;
    let sent_directly = sent(&world, "tools/call");
    assert_eq!(ask(&world.hub, &session, "tools/call", &through).await, one);
    let mut sent_through = sent(&world, "tools/call");
    assert_ne!(sent_through["_meta"]["progressToken"], sent_directly["_meta"]["progressToken"], "two requests");
    sent_through["_meta"]["progressToken"] = sent_directly["_meta"]["progressToken"].clone();
    assert_eq!(sent_through, sent_directly);
    let newest = modern(&world.hub, "tools/call", json!({ "name": "call_tool", "arguments": inner })).await;
    assert_eq!(newest, modern(&world.hub, "tools/call", inner.clone()).await);
    // Counted, shown and audited as what it is.
    let metrics = world.hub.metrics().render();
    let counted = r#"trunkline_tool_calls_total{outcome="ok",server="git",tool="git__echo"} 4"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!metrics.contains(r#"tool="call_tool""#));
    let noted = world.hub.recent_calls().after(0);
    assert!(noted.len() == 4 && noted.iter().all(|call| call.tool.as_str() == "git__echo"), "{noted:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_and_cancellation_pass_by_way_of_call_tool() {
    let steps = Fault::progress("tools/call", 2, Duration::from_secs(1)).times(1);
    let world = world(vec![steps, Fault::silent("tools/call")]).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let request = |id: u64| {
        let inner = json!({ "name": "git__echo" });
        let params = json!({ "name": "call_tool", "arguments": inner, "_meta": { "progressToken": "mine" } });
        message(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string())
    };
    let Reply::Events(events) = world.hub.handle(&session, request(1), BOTH).await else { panic!("a stream") };
    let told: Vec<Value> = events
        .map(|event| event.data.into_bytes())
        .filter(|text| {
            let is_message = !text.is_empty();
            async move { is_message }
        })
        .map(value)
        .collect()
        .await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[..2].iter().all(|notice| notice["params"]["progressToken"] == "mine"), "{told:?}");
    let server = world.server();
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
    let ((), ()) = tokio::join!(
        async {
            drop(tokio::time::timeout(Duration::from_secs(5), world.hub.handle(&session, request(2), BOTH)).await);
        },
        async {
            server.saw("tools/call", 2).await;
            world.hub.handle(&session, message(cancelled), BOTH).await;
            server.saw("notifications/cancelled", 1).await;
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_question_during_it_is_answered_by_the_same_call_tool_and_no_other() {
    let asks = r#"{"message":"Which?","requestedSchema":{"type":"object","properties":{}}}"#;
    let world = world(vec![Fault::ask("tools/call", "elicitation/create", asks)]).await;
    let through = |title: &str| {
        let inner = json!({ "name": "git__create_issue", "arguments": { "title": title } });
        json!({ "name": "call_tool", "arguments": inner })
    };
    let asked = modern(&world.hub, "tools/call", through("a")).await;
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked}");
    let key = result["inputRequests"].as_object().and_then(|asked| asked.keys().next()).expect("a question").clone();
    let again = |mut call: Value| {
        call["requestState"] = result["requestState"].clone();
        call["inputResponses"] = json!({ (key.as_str()): { "action": "accept", "content": { "which": "this" } } });
        call
    };
    let direct = json!({ "name": "git__create_issue", "arguments": { "title": "a" } });
    for other in [through("b"), direct] {
        let refused = modern(&world.hub, "tools/call", again(other)).await;
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("another request")), "{refused}");
    }
    let answered = modern(&world.hub, "tools/call", again(through("a"))).await;
    assert!(answered["result"].to_string().contains("this"), "{answered}");
    assert_eq!(world.server().seen_of("tools/call").len(), 1, "the tool ran once");
}

#[tokio::test(start_paused = true)]
async fn what_a_model_gets_wrong_it_is_told_with_the_next_step() {
    let world = world(Vec::new()).await;
    for (name, arguments, told) in [
        ("find_tools", json!({}), "`query` is missing"),
        ("find_tools", json!({ "query": 7 }), "`query` is no text"),
        ("find_tools", json!({ "query": "x", "server": "gti" }), "those that have are: git"),
        ("find_tools", json!({ "query": "x", "limit": 0 }), "from 1 to 20"),
        ("describe_tool", json!({}), "`name` is missing"),
        ("describe_tool", json!({ "name": "create_isue" }), "like it are: git__create_issue"),
        ("call_tool", json!({}), "`name` is missing"),
        ("call_tool", json!({ "name": "find_tools" }), "call it itself"),
        (
            "call_tool",
            json!({ "name": "git__create", "arguments": {} }),
            "unknown tool: git__create; like it are: git__create_issue",
        ),
        ("call_tool", json!({ "name": "quasar" }), "`find_tools` finds those that there are"),
        ("call_tool", json!({ "name": "git__echo", "arguments": [1] }), "`arguments` is no object"),
        (
            "call_tool",
            json!({ "name": "git__create_issue", "arguments": { "titel": "x" } }),
            r#"lacks `title`; its `inputSchema` is {"type":"object""#,
        ),
    ] {
        let result = call(&world.hub, name, &arguments).await;
        assert!(result["isError"] == true && text_of(&result).contains(told), "{name} {arguments}: {result}");
    }
    assert!(world.server().seen_of("tools/call").is_empty(), "nothing was called");
    let metrics = world.hub.metrics().render();
    assert!(metrics.contains(r#"trunkline_own_tool_calls_total{outcome="refused",tool="call_tool"} 6"#), "{metrics}");
    let strict = Config { errors: ErrorForm::Protocol, ..searching() };
    let world = World::ruled(script(Vec::new()), &strict).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let answer = ask(&world.hub, &session, "tools/call", &json!({ "name": "call_tool" })).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn arguments_that_a_model_wrote_as_text_are_taken_as_what_they_hold() {
    let world = world(Vec::new()).await;
    let arguments = json!({ "name": "git__create_issue", "arguments": r#"{"title":"x"}"# });
    assert!(call(&world.hub, "call_tool", &arguments).await.get("isError").is_none());
    assert_eq!(sent(&world, "tools/call")["arguments"], json!({ "title": "x" }));
}

#[tokio::test(start_paused = true)]
async fn without_the_surface_its_names_are_nobodys() {
    let world = World::new(script(Vec::new())).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    for name in OWN {
        let answer = ask(&world.hub, &session, "tools/call", &json!({ "name": name, "arguments": {} })).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
}

/// A hub with a profile `p`, and the tools that its clients are listed.
async fn in_profile(script: Script, profile: Profile) -> (World, Vec<String>) {
    let config = Config { profiles: vec![("p".into(), profile)], ..Config::default() };
    let world = World::ruled(script, &config).await;
    let view = world.hub.profile("p").expect("a profile");
    let catalog = world.hub.view(&view);
    let page = catalog.page(crate::catalog::List::Tools, trunkline_wire::Revision::NEWEST_LEGACY);
    let listed = page.asked(&trunkline_wire::Object::new(), world.hub.sealer(), None).expect("the first page");
    let listed: Value = listed.decode().expect("JSON");
    let named = listed["tools"].as_array().expect("a list").iter().filter_map(|tool| tool["name"].as_str());
    let named = named.map(str::to_owned).collect();
    (world, named)
}

#[tokio::test(start_paused = true)]
async fn what_a_profile_does_not_show_is_neither_found_nor_called_by_it() {
    let tools = Filter { not: patterns(&["*create*"]), ..Filter::default() };
    let profile = Profile { tools, surface: Wanted::Search, ..Profile::default() };
    let (world, listed) = in_profile(script(Vec::new()), profile).await;
    assert_eq!(listed, OWN);
    let view = world.hub.profile("p").expect("a profile");
    let params = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    let guest = crate::Guest { owner: None, view: &view };
    let (session, _) = world.hub.open(&fakes::request(0, Method::Initialize, params), guest).expect("a session");
    session.initialized();
    for (name, arguments) in [
        ("find_tools", json!({ "query": "create issue" })),
        ("describe_tool", json!({ "name": "git__create_issue" })),
        ("call_tool", json!({ "name": "git__create_issue", "arguments": { "title": "x" } })),
    ] {
        let answer = ask(&world.hub, &session, "tools/call", &json!({ "name": name, "arguments": arguments })).await;
        assert!(!answer.to_string().contains("Creates an issue"), "{answer}");
        assert!(name == "find_tools" || text_of(&answer["result"]).contains("unknown tool"), "{answer}");
    }
    assert!(world.server().seen_of("tools/call").is_empty());
    let session = fakes::session(&world.hub, "2025-11-25");
    assert_eq!(names(&ask(&world.hub, &session, "tools/list", &json!({})).await), ["git__echo", "git__create_issue"]);
}

#[tokio::test(start_paused = true)]
async fn pinned_tools_stay_listed_by_the_names_that_everybody_knows() {
    let surface = Wanted::Hybrid(patterns(&["git__create*"]));
    let profile = Profile { bare_names: true, surface, ..Profile::default() };
    let (_world, listed) = in_profile(script(Vec::new()), profile).await;
    assert_eq!(listed, [&OWN[..], &["create_issue"]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_servers_tool_that_has_one_of_the_names_makes_way_and_that_is_told() {
    let tools = vec![tool("call-tool"), tool("log")];
    let surface = Wanted::Hybrid(patterns(&["*"]));
    let profile = Profile { bare_names: true, surface, ..Profile::default() };
    let (world, listed) = in_profile(Script { tools, ..Script::default() }, profile).await;
    assert_eq!(listed[..3], OWN);
    assert!(listed[3].starts_with("call-tool_") && listed[4] == "log", "{listed:?}");
    let catalog = world.hub.catalog();
    let [complaint] = catalog.complaints("git") else { panic!("{:?}", catalog.complaints("git")) };
    assert_eq!(complaint.what, "tool `call-tool` in profile `p`");
    assert!(complaint.why.contains(&listed[3]), "{complaint:?}");
}

#[tokio::test(start_paused = true)]
async fn the_list_changes_with_what_it_tells_and_with_nothing_else() {
    let made = async |tools: &[&str]| {
        let tools = tools.iter().map(|name| tool(name)).collect();
        World::ruled(Script { tools, ..Script::default() }, &searching()).await.hub.catalog()
    };
    let one = made(&["a", "b"]).await;
    let other = made(&["a", "c"]).await;
    assert!(one.lists_alike(&other, crate::catalog::List::Tools), "as many of the same servers");
    assert!(!one.lists_alike(&*made(&["a"]).await, crate::catalog::List::Tools));
}

#[tokio::test(start_paused = true)]
async fn the_tools_are_read_for_whoever_searches_first_and_not_by_the_thread_that_serves_calls() {
    let world = world(Vec::new()).await;
    let to_be_read = |name: &str, arguments: Value| {
        let params = json!({ "name": name, "arguments": arguments }).to_string();
        crate::call::to_be_read(&world.hub, &fakes::request(7, Method::ToolsCall, &params), &View::WHOLE)
    };
    for (name, arguments) in
        [("git__echo", json!({})), ("call_tool", json!({ "name": "git__echo" })), ("other", json!({}))]
    {
        assert!(to_be_read(name, arguments).is_none(), "{name} searches nothing");
    }
    assert!(to_be_read("describe_tool", json!({ "name": "git__eccho" })).is_some(), "it tells what is like that");
    let catalog = to_be_read("find_tools", json!({ "query": "issue" })).expect("nobody has searched");
    let mut reading = std::pin::pin!(Arc::clone(&catalog).indexed());
    assert!(futures_util::poll!(&mut reading).is_pending() && !catalog.is_read(), "another thread does it");
    let also = Arc::clone(&catalog).indexed();
    let asked = json!({ "query": "issue" });
    let found = call(&world.hub, "find_tools", &asked);
    let ((), (), found) = tokio::join!(reading, also, found);
    assert!(catalog.is_read() && found["structuredContent"]["tools"][0]["name"] == "git__create_issue", "{found}");
    assert!(to_be_read("find_tools", json!({ "query": "issue" })).is_none(), "once");
}
