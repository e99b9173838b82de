//! Seven real servers behind one daemon, used through three real client SDKs, and compared with the direct
//! connection.

use std::collections::BTreeMap;

use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, GetPromptRequestParams, ReadResourceRequestParams};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

use crate::harness::array;
use crate::harness::client::{Client, member};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::parts::{self, Sdk, Service};
use crate::harness::pipes::PipeClient;
use crate::harness::sse::SseClient;

/// One real server: how it is reached, and what is asked of it.
struct Server {
    name: &'static str,
    reach: Reach,
    /// Tools with arguments whose results do not depend on the moment.
    calls: Vec<(&'static str, Value)>,
    prompts: Vec<(&'static str, Value)>,
    reads: Vec<String>,
}

enum Reach {
    Stdio(String, Vec<String>),
    Http(Service),
    Sse(Service),
}

impl Server {
    /// Its block of configuration. Transports of URLs are found out.
    fn block(&self) -> String {
        let how = match &self.reach {
            Reach::Stdio(command, args) => format!("command = {command:?}\nargs = {}\n", array(args)),
            Reach::Http(service) | Reach::Sse(service) => format!("url = {:?}\n", service.url),
        };
        format!("[mcp_servers.{}]\n{how}", self.name)
    }

    /// What an SDK needs to know to connect to it directly.
    fn direct(&self) -> Value {
        match &self.reach {
            Reach::Stdio(command, args) => json!({ "transport": "stdio", "command": command, "args": args }),
            Reach::Http(service) => json!({ "transport": "http", "url": service.url }),
            Reach::Sse(service) => json!({ "transport": "sse", "url": service.url }),
        }
    }

    /// Everything that is asked of it, with names as given by `name`.
    fn steps(&self, name: impl Fn(&str) -> String) -> Vec<Value> {
        let calls = self
            .calls
            .iter()
            .map(|(tool, arguments)| json!({ "do": "call", "name": name(tool), "arguments": arguments }));
        let prompts = self
            .prompts
            .iter()
            .map(|(prompt, arguments)| json!({ "do": "prompt", "name": name(prompt), "arguments": arguments }));
        let reads = self.reads.iter().map(|uri| json!({ "do": "read", "uri": uri }));
        calls.chain(prompts).chain(reads).collect()
    }
}

fn everything(name: &'static str, reach: Reach) -> Server {
    Server {
        name,
        reach,
        calls: vec![
            ("echo", json!({ "message": "über ↑" })),
            ("get-sum", json!({ "a": 2, "b": 40 })),
            ("get-tiny-image", json!({})),
            ("get-annotated-message", json!({ "messageType": "error", "includeImage": true })),
            ("get-structured-content", json!({ "location": "Chicago" })),
            ("get-resource-links", json!({ "count": 3 })),
            ("get-sum", json!({ "a": "not a number" })),
        ],
        prompts: vec![("simple-prompt", json!({})), ("args-prompt", json!({ "city": "Vienna" }))],
        // The three of them list the same URIs, and only the first keeps them as they are.
        reads: if name == "everything" {
            vec!["demo://resource/static/document/features.md".into()]
        } else {
            Vec::new()
        },
    }
}

/// The seven, started.
async fn seven(home: &Home) -> Vec<Server> {
    let node = parts::node().to_str().expect("UTF-8").to_owned();
    let script = |name: &str| parts::reference(name).to_str().expect("UTF-8").to_owned();
    let files = home.path("files");
    std::fs::create_dir(&files).expect("a directory");
    let files = files.canonicalize().expect("a directory").to_str().expect("UTF-8").to_owned();
    std::fs::write(format!("{files}/note.txt"), "a note\n").expect("a file");
    let (http, sse) = tokio::join!(parts::everything("streamableHttp"), parts::everything("sse"));
    let (fastmcp, rmcp) = tokio::join!(parts::fastmcp(), parts::rmcp_server());
    vec![
        everything("everything", Reach::Stdio(node.clone(), vec![script("everything"), "stdio".into()])),
        everything("everyhttp", Reach::Http(http)),
        everything("everysse", Reach::Sse(sse)),
        Server {
            name: "files",
            calls: vec![
                ("read_text_file", json!({ "path": format!("{files}/note.txt") })),
                ("list_directory", json!({ "path": files })),
                ("list_allowed_directories", json!({})),
                ("read_text_file", json!({ "path": "/no/such/place" })),
            ],
            reach: Reach::Stdio(node.clone(), vec![script("filesystem"), files]),
            prompts: Vec::new(),
            reads: Vec::new(),
        },
        Server {
            name: "memory",
            reach: Reach::Stdio(node, vec![script("memory")]),
            calls: vec![
                ("open_nodes", json!({ "names": ["nobody"] })),
                ("search_nodes", json!({ "query": "nothing" })),
            ],
            prompts: Vec::new(),
            reads: Vec::new(),
        },
        Server {
            name: "pydesk",
            reach: Reach::Sse(fastmcp),
            calls: vec![("add", json!({ "a": 2, "b": 3 })), ("count", json!({ "steps": 2 })), ("fail", json!({}))],
            prompts: vec![("greet", json!({ "who": "you" }))],
            reads: vec!["pydesk://notes/one".into(), "pydesk://users/bo/card".into()],
        },
        Server {
            name: "rustdesk",
            reach: Reach::Http(rmcp),
            calls: vec![("add", json!({ "a": 2, "b": 3 })), ("hello", json!({ "who": "you" })), ("work", json!({}))],
            prompts: vec![("greet", json!({ "who": "you" }))],
            reads: vec!["desk://notes/one".into(), "desk://notes/other".into()],
        },
    ]
}

async fn behind_one_door() -> (Daemon, Vec<Server>) {
    let home = Home::new();
    let servers = seven(&home).await;
    home.configure(&servers.iter().map(Server::block).collect::<String>());
    let daemon = home.serve().await;
    for server in &servers {
        daemon.until_ready(&[server.name]).await;
    }
    (daemon, servers)
}

/// The entries of a list by key, and without what the gateway sets: the name, the title, the hint about tasks.
fn entries(list: &Value, key: &str) -> BTreeMap<String, Value> {
    let entries = list.as_array().expect("a list").iter().map(|entry| {
        let mut entry = entry.clone();
        let members = entry.as_object_mut().expect("an object");
        let name = members[key].as_str().expect("a key").to_owned();
        for ours in ["name", "title", "execution"] {
            members.remove(ours);
        }
        (name, entry)
    });
    entries.collect()
}

/// Lists and steps of every server through one SDK, directly and through the daemon.
async fn same_through(sdk: Sdk) {
    let (daemon, servers) = behind_one_door().await;
    let lists = ["tools", "prompts", "resources", "templates"];
    let mut steps: Vec<Value> = lists.iter().map(|list| json!({ "do": list })).collect();
    for server in &servers {
        steps.extend(server.steps(|name| format!("{}__{name}", server.name)));
    }
    let through = sdk.run(&json!({ "transport": "http", "url": daemon.url, "steps": steps })).await;
    let mut through = through["steps"].as_array().expect("steps").iter();
    let all: Vec<&Value> = lists.iter().map(|_| &through.next().expect("a list")["ok"]).collect();
    let (tools, prompts) = (entries(all[0], "name"), entries(all[1], "name"));
    let mut expected_names = (0, 0);

    for server in &servers {
        let mut job = server.direct();
        // What the daemon declares to every server; some list more to a client that can be asked.
        job["capabilities"] = json!({ "elicitation": { "form": {}, "url": {} } });
        let mut steps = vec![json!({ "do": "tools" }), json!({ "do": "prompts" })];
        steps.extend(server.steps(str::to_owned));
        job["steps"] = steps.into();
        let direct = sdk.run(&job).await;
        let mut direct = direct["steps"].as_array().expect("steps").iter();

        let listed = entries(&direct.next().expect("tools")["ok"], "name");
        expected_names.0 += listed.len();
        for (name, tool) in listed {
            let published = format!("{}__{name}", server.name);
            assert_eq!(tools.get(&published), Some(&tool), "{sdk:?}: the tool {published}");
        }
        // A server without prompts refuses to list them.
        let listed = direct.next().expect("prompts").get("ok").map(|list| entries(list, "name")).unwrap_or_default();
        expected_names.1 += listed.len();
        for (name, prompt) in listed {
            let published = format!("{}__{name}", server.name);
            assert_eq!(prompts.get(&published), Some(&prompt), "{sdk:?}: the prompt {published}");
        }
        for (step, asked) in server.steps(str::to_owned).iter().zip(direct) {
            let got = through.next().expect("as many steps");
            assert_eq!(got, asked, "{sdk:?} at {}: {step}", server.name);
        }
    }
    assert_eq!((tools.len(), prompts.len()), expected_names, "each once, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_sdk_sees_through_the_daemon_what_it_sees_directly() {
    same_through(Sdk::TypeScript).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_sees_through_the_daemon_what_it_sees_directly() {
    same_through(Sdk::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmcp_uses_every_server_through_the_daemon() {
    let (daemon, servers) = behind_one_door().await;
    // The test's HTTP client is built without a TLS provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ().serve(StreamableHttpClientTransport::from_uri(daemon.url.as_str())).await.expect("a handshake");
    let tools = client.list_all_tools().await.expect("tools");
    let prompts = client.list_all_prompts().await.expect("prompts");
    assert!(!client.list_all_resources().await.expect("resources").is_empty());
    assert!(!client.list_all_resource_templates().await.expect("templates").is_empty());
    for server in &servers {
        for (tool, arguments) in &server.calls {
            let name = format!("{}__{tool}", server.name);
            assert_eq!(tools.iter().filter(|tool| tool.name == name).count(), 1, "{name}");
            let arguments = arguments.as_object().expect("an object").clone();
            let result = client.call_tool(CallToolRequestParams::new(name.clone()).with_arguments(arguments)).await;
            result.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        }
        for (prompt, arguments) in &server.prompts {
            let name = format!("{}__{prompt}", server.name);
            assert_eq!(prompts.iter().filter(|prompt| prompt.name == name).count(), 1, "{name}");
            let arguments = arguments.as_object().expect("an object").clone();
            let result = client.get_prompt(GetPromptRequestParams::new(name.clone()).with_arguments(arguments)).await;
            result.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        }
        for uri in &server.reads {
            let result = client.read_resource(ReadResourceRequestParams::new(uri.clone())).await;
            result.unwrap_or_else(|problem| panic!("{uri}: {problem}"));
        }
    }
    client.cancel().await.expect("an orderly end");
}

/// A plain client of one server, without an SDK that would read and write the JSON anew.
enum Plain {
    Pipes(Box<PipeClient>),
    Http(Box<Client>),
    Sse(Box<SseClient>),
}

impl Plain {
    async fn connect(server: &Server) -> Plain {
        // What the daemon itself offers to a server, so that the server behaves alike.
        let revision = "2025-11-25";
        match &server.reach {
            Reach::Stdio(command, args) => Plain::Pipes(Box::new(PipeClient::connect(command, args, revision).await)),
            Reach::Http(service) => Plain::Http(Box::new(Client::connect(&service.url, revision).await)),
            Reach::Sse(service) => Plain::Sse(Box::new(SseClient::connect(&service.url, revision).await)),
        }
    }

    async fn ask(&mut self, method: &str, params: &str) -> String {
        match self {
            Plain::Pipes(client) => client.ask(method, params).await,
            Plain::Http(client) => client.ask(method, params).await,
            Plain::Sse(client) => client.ask(method, params).await,
        }
    }
}

/// Result or error, as the text it was sent as.
fn outcome(answer: &str) -> (Option<String>, Option<String>) {
    (member(answer, "result"), member(answer, "error"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_real_servers_cross_byte_for_byte() {
    let (daemon, servers) = behind_one_door().await;
    let client = daemon.client().await;
    for server in &servers {
        let mut plain = Plain::connect(server).await;
        let named = server
            .calls
            .iter()
            .map(|call| ("tools/call", call))
            .chain(server.prompts.iter().map(|prompt| ("prompts/get", prompt)));
        for (method, (name, arguments)) in named {
            let direct = plain.ask(method, &json!({ "name": name, "arguments": arguments }).to_string()).await;
            let published = format!("{}__{name}", server.name);
            let through = client.ask(method, &json!({ "name": published, "arguments": arguments }).to_string()).await;
            assert_eq!(outcome(&through), outcome(&direct), "{method} {published}");
        }
        for uri in &server.reads {
            let params = json!({ "uri": uri }).to_string();
            let direct = plain.ask("resources/read", &params).await;
            let through = client.ask("resources/read", &params).await;
            assert_eq!(outcome(&through), outcome(&direct), "{uri}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_listed_resource_and_template_is_listed_once_and_readable() {
    let (daemon, _servers) = behind_one_door().await;
    let client = daemon.client().await;
    let list: Value = serde_json::from_str(&client.result("resources/list", "{}").await).expect("JSON");
    let mut uris: Vec<String> = list["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["uri"].as_str().expect("a URI").to_owned())
        .collect();
    for uri in &uris {
        let read = client.result("resources/read", &json!({ "uri": uri }).to_string()).await;
        assert!(read.contains("contents"), "{uri}: {read}");
    }
    let listed = uris.len();
    uris.sort();
    uris.dedup();
    assert_eq!(uris.len(), listed);
    let templates = client.result("resources/templates/list", "{}").await;
    assert!(
        templates.contains("pydesk://users/{name}/card") && templates.contains("desk://notes/{name}"),
        "{templates}"
    );
}
