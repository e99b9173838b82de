//! Imports of the fixture files of every client, as they would lie in one home.

use std::collections::BTreeMap;
use std::fs;

use trunkline_config::Flags;

use super::*;

/// Every client's file, and where it lies.
const HOME: [(&str, &str); 9] = [
    (".codex/config.toml", include_str!("../../../tests/fixtures/clients/codex.toml")),
    (".claude.json", include_str!("../../../tests/fixtures/clients/claude.json")),
    ("shop/.mcp.json", include_str!("../../../tests/fixtures/clients/mcp.json")),
    (
        ".config/Claude/claude_desktop_config.json",
        include_str!("../../../tests/fixtures/clients/claude_desktop_config.json"),
    ),
    (".cursor/mcp.json", include_str!("../../../tests/fixtures/clients/cursor.json")),
    (".config/Code/User/mcp.json", include_str!("../../../tests/fixtures/clients/vscode.json")),
    (".codeium/windsurf/mcp_config.json", include_str!("../../../tests/fixtures/clients/windsurf.json")),
    (".config/zed/settings.json", include_str!("../../../tests/fixtures/clients/zed.json")),
    (".gemini/settings.json", include_str!("../../../tests/fixtures/clients/gemini.json")),
];

struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { dir: tempfile::tempdir().expect("a directory") };
        for (place, text) in HOME {
            house.write(place, text);
        }
        house
    }

    fn write(&self, place: &str, text: &str) {
        let path = self.dir.path().join(place);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, place: &str) -> String {
        fs::read_to_string(self.dir.path().join(place)).expect("there")
    }

    /// The path of a file, as an argument.
    fn at(&self, place: &str) -> String {
        self.dir.path().join(place).display().to_string()
    }

    fn sources(&self) -> Sources {
        let home = ("HOME".to_owned(), self.dir.path().display().to_string());
        Sources { file: None, env: vec![home], flags: Flags::default() }
    }

    fn import(&self, from: &[&str], change: impl FnOnce(&mut Import)) -> Result<String, Failure> {
        let from = from.iter().map(|word| (*word).to_owned()).collect();
        let mut import = Import { from, dry_run: false, yes: true, keep_literal: false, json: true };
        change(&mut import);
        run(&import, &self.sources())
    }

    /// Everything that a person who calls it there would get: name and what becomes of it, by client.
    fn verdicts(&self, from: &[&str]) -> Vec<(String, String, String)> {
        let report: Value = serde_json::from_str(&self.import(from, |_| {}).expect("fine")).expect("JSON");
        let text = |server: &Value, key: &str| server[key].as_str().unwrap_or_default().to_owned();
        let servers = report["servers"].as_array().expect("a list").iter();
        servers.map(|server| (text(server, "client"), text(server, "name"), text(server, "verdict"))).collect()
    }
}

fn all(house: &House) -> Vec<String> {
    let mut from: Vec<String> = Client::ALL.map(|client| client.word().to_owned()).to_vec();
    from.push(house.at("shop/.mcp.json"));
    from
}

#[test]
fn the_files_of_every_client_become_one_configuration_that_is_sound() {
    let house = House::new();
    let from = all(&house);
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let first = house.verdicts(&from);
    let with = |verdict: &str| first.iter().filter(|(_, _, own)| own == verdict).count();
    assert_eq!((with("new"), with("duplicate"), with("left_out")), (23, 2, 1), "{first:?}");
    let loaded = trunkline_config::load(&house.sources()).expect("sound");
    let servers: BTreeMap<&str, &trunkline_config::Server> =
        loaded.config.servers.iter().map(|(name, server)| (name.as_str(), server)).collect();
    assert_eq!(servers.len(), 23);
    for off in ["old", "shop-db", "atlassian", "weather"] {
        assert!(!servers[off].enabled, "{off} was off");
    }
    let shown = |server: &str, tool: &str| servers[server].expose.tools.shows(tool);
    assert!(shown("calc", "add") && shown("calc", "sub") && !shown("calc", "mul"));
    assert!(!shown("atlassian", "deletePage") && shown("atlassian", "getPage"));
    assert_eq!(servers["search"].problem, None, "its secret was found where the reference says");
    let shop = house.dir.path().join("shop");
    let trunkline_config::Connect::Stdio(files) = &servers["files"].connect else { panic!("a command") };
    assert_eq!(files.cwd.as_deref(), Some(shop.as_path()), "`.` means the project");
    // A second time nothing is new, and nothing is written.
    let before = house.read(".config/trunkline/config.toml");
    let second = house.verdicts(&from);
    assert!(
        second.iter().all(|(_, _, verdict)| ["same", "duplicate", "left_out"].contains(&verdict.as_str())),
        "{second:?}"
    );
    assert_eq!(house.read(".config/trunkline/config.toml"), before);
}

#[test]
fn s31_no_secret_stands_in_the_configuration_or_is_shown() {
    let house = House::new();
    let shown = house.import(&[], |import| (import.json, import.dry_run) = (false, true)).expect("fine");
    let told = house.import(&[], |import| import.json = false).expect("fine");
    let written = house.read(".config/trunkline/config.toml");
    for secret in ["ghp_Example0", "key-of-search", "hunter2000", "xoxb-0000"] {
        for text in [&shown, &told, &written] {
            assert!(!text.contains(secret), "{secret} stands in:\n{text}");
        }
    }
    assert_eq!(house.read(".config/trunkline/secrets/search.X-Api-Key"), "key-of-search-0123456789\n");
    let literal = House::new();
    let shown = literal.import(&["claude-code"], |import| {
        (import.json, import.dry_run, import.keep_literal) = (false, true, true);
    });
    assert!(!shown.expect("fine").contains("key-of-search"), "a dry run masks what would be copied");
    literal.import(&["claude-code"], |import| import.keep_literal = true).expect("fine");
    assert!(literal.read(".config/trunkline/config.toml").contains("key-of-search-0123456789"));
}

#[test]
fn what_stands_in_the_configuration_stays_with_its_comments() {
    let house = House::new();
    let own = "# mine\n[mcp_servers.linear] # keep\nurl = \"https://mcp.linear.app/mcp\"\nbearer_token_env_var = \"MINE\"\n\n[limits]\nin_flight = 7\n";
    house.write(".config/trunkline/config.toml", own);
    let verdicts = house.verdicts(&["codex"]);
    assert_eq!(verdicts[0], ("codex".to_owned(), "linear".to_owned(), "differs".to_owned()));
    let text = house.read(".config/trunkline/config.toml");
    for line in own.lines() {
        assert!(text.lines().any(|have| have == line), "{line} is gone:\n{text}");
    }
    assert!(text.contains("[mcp_servers.snyk]"), "{text}");
}

#[test]
fn a_file_with_a_mistake_is_named_by_its_line_and_the_others_go_on() {
    let house = House::new();
    house.write(
        ".cursor/mcp.json",
        "{\n  \"mcpServers\": {\n    \"x\": { \"env\": { \"TOKEN\": \"secret-0815\" \n  }\n",
    );
    house.write(".codex/config.toml", "[mcp_servers.x]\ntoken = \"secret-0815\n");
    let report = house.import(&["codex", "cursor", "zed"], |import| import.json = false).expect("fine");
    assert!(report.contains(".codex/config.toml:2: is no TOML"), "{report}");
    assert!(report.contains(".cursor/mcp.json:"), "{report}");
    assert!(report.contains("2 servers were written") && !report.contains("0815"), "{report}");
}

#[test]
fn what_would_lead_back_here_is_no_server_and_what_could_not_be_used_is_left_out() {
    let house = House::new();
    let entries = [
        r#""a": { "url": "http://localhost:6270/mcp" }"#,
        r#""b": { "command": "/usr/bin/trunkline", "args": ["stdio"] }"#,
        r#""c": { "command": "npx", "args": ["-y", "mcp-remote", "http://127.0.0.1:6270/mcp"] }"#,
        r#""d": { "url": "ftp://files.test/" }"#,
        r#""e": { "args": ["x"] }"#,
        r#""f": []"#,
        r#""g": { "url": "http://127.0.0.1:9/mcp" }"#,
    ];
    house.write("list.json", &format!("{{ \"mcpServers\": {{ {} }} }}", entries.join(", ")));
    let file = house.at("list.json");
    let verdicts: Vec<String> = house.verdicts(&[&file]).into_iter().map(|(_, _, verdict)| verdict).collect();
    assert_eq!(verdicts, ["own", "own", "own", "left_out", "left_out", "left_out", "new"]);
}

#[test]
fn two_accounts_at_one_address_are_two_servers_and_names_that_read_alike_are_told_apart() {
    let house = House::new();
    let server =
        |name: &str, key: &str| format!(r#""{name}": {{ "command": "mail", "env": {{ "ACCOUNT": "{key}" }} }}"#);
    let list = [server("my mail", "a"), server("my_mail", "b"), server("my-mail", "a")];
    house.write("list.json", &format!("{{ \"mcpServers\": {{ {} }} }}", list.join(", ")));
    let file = house.at("list.json");
    let names: Vec<(String, String)> =
        house.verdicts(&[&file]).into_iter().map(|(_, name, verdict)| (name, verdict)).collect();
    let pair = |name: &str, verdict: &str| (name.to_owned(), verdict.to_owned());
    assert_eq!(names, [pair("my-mail", "new"), pair("my_mail-claude-code", "new"), pair("my-mail", "duplicate")]);
}

#[test]
fn entries_that_are_given_something_else_are_each_a_server_and_the_report_says_what() {
    let house = House { dir: tempfile::tempdir().expect("a directory") };
    let http =
        |name: &str, header: &str| format!(r#""{name}": {{ "url": "https://h.test/mcp", "headers": {{ {header} }} }}"#);
    let list = [
        r#""prod": { "command": "pg", "env": { "DATABASE_URL": "${DB}" } }"#.to_owned(),
        r#""safe": { "command": "pg", "env": { "DATABASE_URL": "${DB}", "READ_ONLY": "1" } }"#.to_owned(),
        http("h1", r#""X-Org": "a""#),
        http("h3", r#""Authorization": "Bearer ${A}""#),
        http("h4", r#""Authorization": "Bearer ${B}""#),
        http("h5", r#""authorization": "Bearer ${A}""#),
    ];
    house.write("list.json", &format!("{{ \"mcpServers\": {{ {} }} }}", list.join(", ")));
    let file = house.at("list.json");
    let told = house.import(&[&file], |import| (import.json, import.dry_run) = (false, true)).expect("fine");
    assert!(told.contains("safe: reached as prod is, but not the same: env READ_ONLY\n"), "{told}");
    let verdicts: Vec<String> = house.verdicts(&[&file]).into_iter().map(|(_, _, verdict)| verdict).collect();
    assert_eq!(verdicts, ["new", "new", "new", "new", "new", "duplicate"]);
    let written = house.read(".config/trunkline/config.toml");
    assert!(written.contains("READ_ONLY") && written.contains("X-Org"), "{written}");
    let again = house.verdicts(&[&file]);
    assert!(again.iter().all(|(_, _, verdict)| verdict == "same" || verdict == "duplicate"), "{again:?}");
}

#[test]
fn a_server_that_is_off_in_one_client_and_on_in_another_arrives_on_and_the_table_says_where_it_was_off() {
    let house = House { dir: tempfile::tempdir().expect("a directory") };
    let codex = |name: &str, off: bool| format!("[mcp_servers.{name}]\ncommand = \"{name}\"\nenabled = {}\n", !off);
    house.write(".codex/config.toml", &[codex("mail", true), codex("chat", false), codex("idle", true)].concat());
    let entry = |name: &str, off: bool| format!(r#""{name}": {{ "command": "{name}", "disabled": {off} }}"#);
    let entries = [entry("mail", false), entry("chat", true), entry("idle", true)].join(", ");
    house.write(".cursor/mcp.json", &format!(r#"{{ "mcpServers": {{ {entries} }} }}"#));
    let told = house.import(&[], |import| import.json = false).expect("fine");
    let line = |parts: [&str; 2]| {
        let line = told.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        line.unwrap_or_else(|| panic!("{parts:?} in:\n{told}")).to_owned()
    };
    assert!(line(["mail", "codex"]).contains("new, off there, on in cursor"), "{told}");
    assert!(line(["chat", "cursor"]).contains("the same, off there"), "{told}");
    assert!(line(["idle", "codex"]).contains("new, switched off"), "{told}");
    let loaded = trunkline_config::load(&house.sources()).expect("sound");
    let on: Vec<(&str, bool)> =
        loaded.config.servers.iter().map(|(name, server)| (name.as_str(), server.enabled)).collect();
    assert_eq!(on, [("mail", true), ("chat", true), ("idle", false)]);
}

#[test]
fn a_file_that_is_not_there_or_a_word_that_is_no_client_is_told_with_those_there_are() {
    let house = House::new();
    let told = house.import(&["emacs"], |_| {}).expect_err("refused").to_string();
    assert!(told.contains("`emacs` is neither") && told.contains("claude-desktop, cursor"), "{told}");
    let told = House { dir: tempfile::tempdir().expect("a directory") }.import(&["zed"], |import| import.json = false);
    let told = told.expect("fine");
    assert!(told.contains("Zed has no file here: "), "{told}");
}
