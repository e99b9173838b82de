//! Client SDKs of both generations with servers of both eras, at tools that ask the person, once and three times.
//!
//! First directly, so that what fails through the daemon is known to be the daemon's; then through it.

use serde_json::{Value, json};

use crate::harness::answers;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Fake};
use crate::harness::parts::{self, Sdk};
use crate::harness::person::Rmcp;

/// The asking tools that every server here has, how many questions each asks, and what its text then shows of the
/// answers, as often.
const TOOLS: [(&str, usize, &str); 5] = [
    ("ask_form", 1, "main"),
    ("ask_url", 1, "accept"),
    ("ask_sampling", 1, "word"),
    ("ask_roots", 1, "file:///desk"),
    ("ask_thrice", 3, "main"),
];

/// The clients of other languages that can speak 2026-07-28, and do.
const MODERN: [Sdk; 3] = [Sdk::TypeScript2("modern"), Sdk::Python2("auto"), Sdk::FastMcp("modern")];

/// Those of both generations that open with `initialize`.
const LEGACY: [Sdk; 5] =
    [Sdk::TypeScript, Sdk::Python, Sdk::TypeScript2("legacy"), Sdk::Python2("legacy"), Sdk::FastMcp("legacy")];

/// Calls every asking tool, with names as given, and looks at the answers and at what was asked.
async fn asks_and_hears(sdk: Sdk, reach: &Value, names: &[String]) {
    let mut job = reach.clone();
    job["capabilities"] = answers::abilities();
    let asking = || names.iter().flat_map(|name| TOOLS.map(|tool| (name, tool)));
    job["steps"] = asking().map(|(name, tool)| json!({ "do": "call", "name": name.replace('*', tool.0) })).collect();
    let report = sdk.run(&job).await;
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), names.len() * TOOLS.len());
    let mut expected = 0;
    for ((name, (tool, questions, shown)), step) in asking().zip(steps) {
        let text = step["ok"]["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{sdk:?} at {tool} of {name}: {step}"));
        assert_eq!(text.matches(shown).count(), questions, "{sdk:?} at {tool} of {name}: {text}");
        expected += if answered_by_the_daemon(name, tool) { 0 } else { questions };
    }
    assert_eq!(report["questions"].as_array().expect("questions").len(), expected, "{sdk:?} at {names:?}");
}

/// A legacy server is told the roots of the configuration.
fn answered_by_the_daemon(name: &str, tool: &str) -> bool {
    tool == "ask_roots" && name.starts_with("old")
}

/// The same with rmcp.
async fn rmcp_asks_and_hears(how: &str, url: &str, names: &[String]) {
    let client = Rmcp::connect(url, how).await;
    for name in names {
        for (tool, questions, shown) in TOOLS {
            let text = client.call(&name.replace('*', tool)).await;
            assert_eq!(text.matches(shown).count(), questions, "rmcp {how} at {tool} of {name}: {text}");
            let asked = if answered_by_the_daemon(name, tool) { 0 } else { questions };
            assert_eq!(client.asked().len(), asked, "rmcp {how} at {tool} of {name}");
        }
    }
    client.end().await;
}

fn pipes(command: &str, args: &[String]) -> Value {
    json!({ "transport": "stdio", "command": command, "args": args })
}

fn plain() -> Vec<String> {
    vec!["*".to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modern_clients_and_modern_servers_understand_each_other_directly() {
    let (typescript, rust) = tokio::join!(parts::typescript_2_server(), parts::rmcp_server());
    let fake = Fake::start("http", "new", &["--revision", "2026-07-28"]).await;
    let (command, args) = parts::typescript_2_pipes();
    let rmcp = fake::program("rmcp-server").to_str().expect("UTF-8").to_owned();
    // Each starts a process that takes its time: every server meets two of them, every one of them three servers.
    let [ts, py, fast] = MODERN;
    for (server, sdks) in [
        (json!({ "transport": "http", "url": typescript.url }), [py, fast]),
        (json!({ "transport": "http", "url": rust.url }), [ts, py]),
        (json!({ "transport": "http", "url": fake.url }), [ts, fast]),
        (pipes(&command, &args), [py, fast]),
        (pipes(&rmcp, &["stdio".to_owned()]), [ts, py]),
    ] {
        for sdk in sdks {
            asks_and_hears(sdk, &server, &plain()).await;
        }
    }
    for url in [&typescript.url, &rust.url, &fake.url] {
        for how in ["discover", "auto"] {
            rmcp_asks_and_hears(how, url, &plain()).await;
        }
    }
    assert_eq!(fake.desk.lines("violations"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_clients_and_legacy_servers_understand_each_other_directly() {
    let http = Fake::start("http", "old", &[]).await;
    let sse = Fake::start("sse", "oldest", &[]).await;
    let fake = fake::program("fake-upstream").to_str().expect("UTF-8").to_owned();
    let servers = [
        json!({ "transport": "http", "url": http.url }),
        json!({ "transport": "sse", "url": sse.url }),
        pipes(&fake, &["stdio".to_owned()]),
    ];
    for (sdk, server) in LEGACY.into_iter().zip(servers.iter().cycle()) {
        asks_and_hears(sdk, server, &plain()).await;
    }
    for how in ["initialize", "auto"] {
        rmcp_asks_and_hears(how, &http.url, &plain()).await;
    }
}

/// Servers of both eras over pipes and HTTP behind one daemon, and the names of their asking tools.
async fn all_behind_one_door() -> (Daemon, Vec<String>, impl Sized) {
    let home = Home::new();
    let (typescript, rust) = tokio::join!(parts::typescript_2_server(), parts::rmcp_server());
    let old = Fake::start("http", "oldhttp", &["--revision", "2025-11-25"]).await;
    let (pipes, _desk) = fake::stdio(&home, "oldpipe", &["--revision", "2025-11-25"]);
    let allowed = "sampling = true\nroots = [\"/desk\"]\n";
    let (command, args) = parts::typescript_2_pipes();
    let rmcp = fake::program("rmcp-server").to_str().expect("UTF-8").to_owned();
    home.configure(
        &[
            format!("{pipes}{allowed}{}{allowed}", old.block()),
            format!("[mcp_servers.tshttp]\nurl = {:?}\n", typescript.url),
            format!("[mcp_servers.rusthttp]\nurl = {:?}\n", rust.url),
            format!("[mcp_servers.tspipe]\ncommand = {command:?}\nargs = {args:?}\n"),
            format!("[mcp_servers.rustpipe]\ncommand = {rmcp:?}\nargs = [\"stdio\"]\n"),
        ]
        .concat(),
    );
    let daemon = home.serve().await;
    let servers = ["oldhttp", "oldpipe", "tshttp", "rusthttp", "tspipe", "rustpipe"];
    daemon.until_ready(&servers).await;
    let names = servers.iter().map(|name| format!("{name}__*")).collect();
    (daemon, names, (typescript, rust, old))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modern_sdks_answer_servers_of_both_eras_through_the_daemon() {
    let (daemon, names, _servers) = all_behind_one_door().await;
    let reach = json!({ "transport": "http", "url": daemon.url });
    for sdk in MODERN {
        asks_and_hears(sdk, &reach, &names).await;
    }
    for how in ["discover", "auto"] {
        rmcp_asks_and_hears(how, &daemon.url, &names).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_sdks_answer_servers_of_both_eras_through_the_daemon() {
    let (daemon, names, _servers) = all_behind_one_door().await;
    let reach = json!({ "transport": "http", "url": daemon.url });
    for sdk in LEGACY {
        asks_and_hears(sdk, &reach, &names).await;
    }
    rmcp_asks_and_hears("initialize", &daemon.url, &names).await;
}
