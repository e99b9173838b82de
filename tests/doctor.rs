//! `trunkline doctor` and the dashboard, before servers that fail as people report it: each leads to its own next step, and
//! both say the same.

use serde_json::{Value, json};

use crate::harness::client::json as parsed;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Fake};
use crate::harness::until;

/// What the doctor says, and its exit code.
fn doctor(home: &Home, args: &[&str]) -> (Value, Option<i32>) {
    let output = home.command(["doctor", "--json"].iter().chain(args)).env("HOME", home.path("")).output();
    let output = output.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with('{'), "{text}{}", String::from_utf8_lossy(&output.stderr));
    (parsed(&text), output.status.code())
}

/// Code, command and advice of what is wrong with a server.
fn finding<'v>(findings: &'v Value, server: &str) -> &'v Value {
    let list = findings.as_array().unwrap_or_else(|| panic!("no list: {findings}"));
    list.iter()
        .find(|finding| finding["server"] == server)
        .unwrap_or_else(|| panic!("nothing of {server}: {findings:#}"))
}

/// What the dashboard shows of a server, once it shows anything.
async fn shown(daemon: &Daemon, server: &str) -> Value {
    until("trouble on the dashboard", async || {
        let (_, text) = daemon.page("/api/v1/state").await;
        let state = parsed(&text);
        let mut wrong = state["wrong"].as_array()?.iter();
        wrong.find(|trouble| trouble["server"] == server).cloned()
    })
    .await
}

/// Each kind of the failures that people paste: the block of its server, its code, and what its advice says.
struct Reported {
    _fakes: Vec<Fake>,
    config: String,
}

const EXPECTED: &[(&str, &str, &str, &str)] = &[
    ("linear", "TL-SIGN-IN", "Sign in once", "trunkline login linear"),
    ("phpstorm", "TL-TRANSPORT", "transport = \"sse\"", "trunkline check"),
    ("figma", "TL-APP-OFF", "Switch the MCP server on in the desktop app", "trunkline restart figma"),
    ("snyk", "TL-SLOW", "startup_timeout_sec", "trunkline logs snyk"),
    ("banner", "TL-STDOUT", "no MCP server as it is started", "trunkline logs banner"),
    ("broken", "TL-STDIO", "by hand", "trunkline logs broken"),
    ("absent", "TL-COMMAND", "give its full path", "trunkline service install"),
    ("off", "TL-REFUSED", "Start the program behind `url`", "trunkline restart off"),
    ("keyless", "TL-SECRET", "Put what is named in place", "trunkline check"),
];

async fn reported(home: &Home) -> Reported {
    let linear = Fake::start("http", "linear", &["--fault", "unauthorized"]).await;
    let phpstorm = Fake::start("sse", "phpstorm", &[]).await;
    let figma = Fake::start("http", "figma", &["--fault", "503"]).await;
    let mut config: String = [&linear, &figma].iter().map(|fake| fake.block()).collect();
    // What Codex does with such an address: it POSTs to it.
    config += &(phpstorm.block() + "transport = \"http\"\n");
    for (name, fault, more) in [
        ("snyk", "hang", "startup_timeout_sec = 1\n"),
        ("banner", "garbage", "startup_timeout_sec = 1\n"),
        ("broken", "exit", ""),
    ] {
        config += &(fake::stdio(home, name, &["--fault", fault]).0 + more);
    }
    config += "[mcp_servers.absent]\ncommand = \"no-such-command\"\n";
    config += "[mcp_servers.off]\nurl = \"http://127.0.0.1:9/mcp\"\n";
    config += "[mcp_servers.keyless]\nurl = \"http://127.0.0.1:9/mcp\"\nbearer_token_env_var = \"NO_SUCH_KEY\"\n";
    Reported { _fakes: vec![linear, phpstorm, figma], config }
}

#[tokio::test]
async fn each_failure_that_people_report_leads_to_its_next_step_without_a_daemon() {
    let home = Home::new();
    let reported = reported(&home).await;
    home.configure(&(reported.config + "[listen]\nport = 0\n"));
    let (report, code) = doctor(&home, &["--wait", "20"]);
    assert_eq!((code, &report["well"]), (Some(1), &Value::Bool(false)), "{report:#}");
    for (server, code, advice, command) in EXPECTED {
        let finding = finding(&report["findings"], server);
        assert_eq!(finding["code"], *code, "{finding:#}");
        // A command that would ask a daemon is of no use without one.
        let asks = command.starts_with("trunkline logs") || command.starts_with("trunkline restart");
        assert_eq!(finding["command"], if asks { Value::Null } else { json!(command) }, "{finding:#}");
        assert!(finding["advice"].as_str().is_some_and(|text| text.contains(advice)), "{advice}: {finding:#}");
    }
    assert!(!home.path("state").exists(), "the doctor changes nothing");
}

#[tokio::test]
async fn each_failure_that_people_report_leads_to_the_same_step_on_the_dashboard() {
    let home = Home::new();
    let reported = reported(&home).await;
    home.configure(&reported.config);
    let daemon = home.serve().await;
    for (server, code, advice, command) in EXPECTED {
        let trouble = shown(&daemon, server).await;
        // The doctor, which looks for the command itself, says more about one that is not there; and what exits for the
        // fifth time is in a loop.
        if !["absent", "broken"].contains(server) {
            assert_eq!((&trouble["code"], &trouble["command"]), (&json!(code), &json!(command)), "{trouble:#}");
            assert!(trouble["advice"].as_str().is_some_and(|text| text.contains(advice)), "{advice}: {trouble:#}");
        }
    }
    let (report, code) = doctor(&daemon.home, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    for (server, code, _, command) in EXPECTED {
        let finding = finding(&report["findings"], server);
        let code = if finding["code"] == "TL-EXITS" && *server == "broken" { "TL-EXITS" } else { code };
        assert_eq!((&finding["code"], &finding["command"]), (&json!(code), &json!(command)), "{finding:#}");
    }
    let about = |about: &str| {
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["about"] == about).unwrap_or_else(|| panic!("{about}: {report:#}")).clone()
    };
    assert_eq!(about("daemon")["mark"], "well", "{report:#}");
    assert!(about("daemon")["says"].as_str().is_some_and(|says| says.contains(daemon.address())), "{report:#}");
}

#[tokio::test]
async fn where_all_is_well_the_doctor_says_so_with_and_without_a_daemon() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&(block + "[listen]\nport = 0\n"));
    let (report, code) = doctor(&home, &[]);
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report:#}");
    assert_eq!(desk.lines("starts").len(), 1, "it was tried once");
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let (report, code) = doctor(&daemon.home, &[]);
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report:#}");
    assert_eq!(desk.lines("starts").len(), 2, "the daemon's word is taken, and nothing started beside it");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_a_finding_for_each_mistake() {
    let home = Home::new();
    home.configure("[mcp_servers.one]\nurl = \"ftp://x\"\n[mcp_servers.two]\ncomand = \"x\"\n");
    let (report, code) = doctor(&home, &[]);
    assert_eq!(code, Some(1));
    let findings = report["findings"].as_array().expect("findings");
    assert!(findings.len() >= 2 && findings.iter().all(|finding| finding["code"] == "TL-CONFIG"), "{report:#}");
}

#[tokio::test]
async fn an_entry_leads_to_the_daemon_that_runs_and_not_where_the_configuration_has_it() {
    let daemon = Daemon::start("[listen]\nport = 6270\n").await;
    let file = daemon.home.path(".codex/config.toml");
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
    std::fs::write(&file, "[mcp_servers.tl]\nurl = \"http://127.0.0.1:6270/mcp\"\n").expect("written");
    let of_client = |report: &Value| {
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        findings.into_iter().find(|finding| finding["code"] == "TL-CLIENT-PORT")
    };
    let finding = of_client(&doctor(&daemon.home, &[]).0).expect("it leads elsewhere");
    assert_eq!(finding["command"], "trunkline connect codex");
    // What the doctor says to do helps.
    let connect = || daemon.home.command(["connect", "codex", "--yes"]).env("HOME", daemon.home.path("")).output();
    let told = connect().expect("the binary runs");
    let (told, code) = (String::from_utf8_lossy(&told.stdout).into_owned(), told.status.code());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("the daemon that runs, at {}", daemon.address())), "{told}");
    let written = std::fs::read_to_string(&file).expect("there");
    assert!(written.contains(&format!("http://{}/mcp", daemon.address())) && !written.contains("6270"), "{written}");
    assert_eq!(of_client(&doctor(&daemon.home, &[]).0), None);
    let again = connect().expect("the binary runs");
    assert!(String::from_utf8_lossy(&again.stdout).contains("connected already"), "{again:?}");
}
