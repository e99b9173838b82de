//! Connects to the fixture files of every client, and takes it back.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use trunkline_config::Flags;

use super::*;

/// What stands in `config.toml`: some of what clients have too.
const CONFIG: &str = r#"
[mcp_servers.linear]
url = "https://mcp.linear.app/mcp"
bearer_token_env_var = "LINEAR_API_KEY"

[mcp_servers.figma]
url = "http://127.0.0.1:3845/mcp"

[mcp_servers.memory]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-memory"]

[mcp_servers.playwright]
command = "npx"
args = ["@playwright/mcp@latest"]

[mcp_servers.atlassian]
url = "https://mcp.atlassian.test/v1/mcp"

[mcp_servers.browser]
command = "browser-mcp"

[mcp_servers.calc]
command = "python3"
args = ["calc.py"]
cwd = "/opt/calc"
"#;

mod way_back;

struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { dir: tempfile::tempdir().expect("a directory") };
        house.write(&house.dir.path().join(".config/trunkline/config.toml"), CONFIG);
        for (client, text) in FIXTURES {
            house.write(&house.file(client), text);
        }
        house
    }

    fn write(&self, path: &Path, text: &str) {
        assert!(path.starts_with(self.dir.path()));
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn sources(&self) -> Sources {
        let home = ("HOME".to_owned(), self.dir.path().display().to_string());
        Sources { file: None, env: vec![home], flags: Flags::default() }
    }

    fn file(&self, client: Client) -> PathBuf {
        client.user_file(&Surroundings::here(&self.sources().env))
    }

    fn text(&self, client: Client) -> String {
        fs::read_to_string(self.file(client)).expect("there")
    }

    fn run(&self, client: Client, change: impl FnOnce(&mut Connect)) -> Result<String, Failure> {
        self.run_with(client, &self.sources(), change)
    }

    fn run_with(
        &self,
        client: Client,
        sources: &Sources,
        change: impl FnOnce(&mut Connect),
    ) -> Result<String, Failure> {
        let mut connect = Connect {
            client,
            project: false,
            print: false,
            yes: true,
            switch_off: false,
            undo: false,
            parallel: false,
            name: NAME.to_owned(),
        };
        change(&mut connect);
        run(&connect, sources, &self.dir.path().join("state"))
    }

    /// The servers that a client starts or calls.
    fn on(&self, client: Client) -> Vec<String> {
        let reading = clients::read(client, &self.file(client), None).expect("sound").expect("there");
        let on = reading.servers.into_iter().filter(|found| found.project.is_none() && is_on(found));
        on.map(|found| found.name).collect()
    }
}

const FIXTURES: [(Client, &str); 8] = [
    (Client::Codex, include_str!("../../../tests/fixtures/clients/codex.toml")),
    (Client::ClaudeCode, include_str!("../../../tests/fixtures/clients/claude.json")),
    (Client::ClaudeDesktop, include_str!("../../../tests/fixtures/clients/claude_desktop_config.json")),
    (Client::Cursor, include_str!("../../../tests/fixtures/clients/cursor.json")),
    (Client::Vscode, include_str!("../../../tests/fixtures/clients/vscode.json")),
    (Client::Windsurf, include_str!("../../../tests/fixtures/clients/windsurf.json")),
    (Client::Zed, include_str!("../../../tests/fixtures/clients/zed.json")),
    (Client::Gemini, include_str!("../../../tests/fixtures/clients/gemini.json")),
];

#[test]
fn every_client_gets_the_one_entry_and_keeps_every_line_of_its_own() {
    let house = House::new();
    for (client, before) in FIXTURES {
        house.run(client, |_| {}).expect("connected");
        let after = house.text(client);
        let word = client.word();
        for line in before.lines() {
            let kept = |have: &str| have == line || have.strip_suffix(',') == Some(line);
            assert!(after.lines().any(kept), "{word}: {line} is gone:\n{after}");
        }
        assert!(house.on(client).contains(&"tl".to_owned()), "{word}");
        let again = house.run(client, |_| {}).expect("fine");
        assert!(again.contains("connected already"), "{word}: {again}");
        assert_eq!(house.text(client), after, "{word}");
        house.run(client, |connect| connect.undo = true).expect("undone");
        assert_eq!(house.text(client), before, "{word}: every byte");
        let told = house.run(client, |connect| connect.undo = true).expect_err("once").to_string();
        assert!(told.contains("nothing is to be undone"), "{told}");
    }
}

#[test]
fn what_is_served_twice_is_switched_off_on_request_and_on_again_byte_for_byte() {
    let house = House::new();
    for (client, before, left) in [
        (Client::Codex, 0, vec!["snyk", "github", "tl"]),
        (Client::ClaudeCode, 1, vec!["asana", "search", "tl"]),
        (Client::ClaudeDesktop, 2, vec!["slack", "tl"]),
        // Theirs of Linear are other accounts.
        (Client::Cursor, 3, vec!["Linear Issues", "github", "notes", "tl"]),
        (Client::Vscode, 4, vec!["perplexity", "tl"]),
        (Client::Windsurf, 5, vec!["linear", "tl"]),
        (Client::Zed, 6, vec!["postgres", "extension-server", "tl"]),
        (Client::Gemini, 7, vec!["tl"]),
    ] {
        let before = FIXTURES[before].1;
        // In two steps, which are undone in one.
        let told = house.run(client, |_| {}).expect("connected");
        let word = client.word();
        if client != Client::Windsurf {
            assert!(told.contains("--switch-off"), "{word}: {told}");
        }
        house.run(client, |connect| connect.switch_off = true).expect("switched off");
        assert_eq!(house.on(client), left, "{word}");
        house.run(client, |connect| connect.undo = true).expect("undone");
        assert_eq!(house.text(client), before, "{word}: every byte");
    }
}

#[test]
fn what_claude_code_has_for_one_project_is_switched_off_in_that_project_and_on_again() {
    let house = House::new();
    let file = house.file(Client::ClaudeCode);
    let own = r#"{
  "projects": {
    "/srv/shop": {
      "mcpServers": { "memory": { "command": "npx", "args": ["@modelcontextprotocol/server-memory"] } }
    },
    "/srv/other": { "mcpServers": { "mine": { "command": "mine" } }, "disabledMcpServers": ["mine"] }
  }
}
"#;
    fs::write(&file, own).expect("written");
    let told = house.run(Client::ClaudeCode, |_| {}).expect("connected");
    assert!(told.contains("memory (shop)") && told.contains("--switch-off"), "{told}");
    house.run(Client::ClaudeCode, |connect| connect.switch_off = true).expect("switched off");
    let off = |house: &House| {
        let reading = clients::read(Client::ClaudeCode, &file, None).expect("sound").expect("there");
        let off = reading.servers.into_iter().filter(|found| !is_on(found)).map(|found| found.name);
        (off.collect::<Vec<_>>(), house.text(Client::ClaudeCode))
    };
    assert_eq!(off(&house).0, ["memory", "mine"]);
    let edited = off(&house).1.replace("srv/other", "srv/else");
    house.run(Client::ClaudeCode, |connect| connect.undo = true).expect("undone");
    assert_eq!(house.text(Client::ClaudeCode), own, "every byte");
    house.run(Client::ClaudeCode, |connect| connect.switch_off = true).expect("switched off");
    fs::write(&file, edited).expect("written");
    house.run(Client::ClaudeCode, |connect| connect.undo = true).expect("undone");
    let (left, text) = off(&house);
    assert_eq!(left, ["mine"]);
    assert!(text.contains("srv/else") && !text.contains("6270"), "{text}");
}

#[test]
fn a_file_that_was_edited_since_loses_what_is_ours_alone() {
    let house = House::new();
    for (client, before) in FIXTURES {
        let on = house.on(client);
        house.run(client, |connect| connect.switch_off = true).expect("connected");
        // Somebody adds a server of his own at the front.
        let edited = if client == Client::Codex {
            house.text(client).replace("[tui]", "[mcp_servers.mine]\ncommand = \"mine\"\n\n[tui]")
        } else {
            let key = format!("\"{}\": {{", client.key());
            house.text(client).replacen(&key, &format!("{key}\n    \"mine\": {{ \"command\": \"mine\" }},"), 1)
        };
        fs::write(house.file(client), &edited).expect("written");
        let told = house.run(client, |connect| connect.undo = true).expect("undone");
        let word = client.word();
        assert!(told.contains("was edited since"), "{word}: {told}");
        let mut now = house.on(client);
        assert!(now.contains(&"mine".to_owned()) && !now.contains(&"tl".to_owned()), "{word}: {now:?}");
        now.retain(|name| name != "mine");
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(now), sorted(on), "{word}: {}", house.text(client));
        let comments = before.lines().filter(|line| line.trim_start().starts_with(['#', '/']));
        for line in comments {
            assert!(house.text(client).contains(line), "{word}: {line}");
        }
    }
}

#[test]
fn a_file_that_was_not_there_is_made_and_goes_again() {
    let house = House::new();
    for client in Client::ALL {
        fs::remove_file(house.file(client)).expect("removed");
        house.run(client, |_| {}).expect("connected");
        assert_eq!(house.on(client), ["tl"]);
        assert_eq!(fs::metadata(house.file(client)).expect("there").permissions().mode() & 0o777, 0o600);
        house.run(client, |connect| connect.undo = true).expect("undone");
        assert!(!house.file(client).exists());
    }
}

#[test]
fn a_file_that_is_gone_comes_back_as_it_was_before_it_was_changed() {
    let house = House::new();
    for (client, before) in FIXTURES {
        house.run(client, |connect| connect.switch_off = true).expect("connected");
        fs::remove_file(house.file(client)).expect("removed");
        let told = house.run(client, |connect| connect.undo = true).expect("undone");
        assert!(told.contains("byte for byte"), "{told}");
        assert_eq!(house.text(client), before);
    }
}

#[test]
fn an_entry_that_leads_to_a_profile_stays_there_with_all_that_stands_beside_it() {
    let house = House::new();
    house.run(Client::Codex, |_| {}).expect("connected");
    let edited = house.text(Client::Codex).replace("/mcp\"", "/mcp/work\"\nstartup_timeout_sec = 60");
    fs::write(house.file(Client::Codex), &edited).expect("written");
    let told = house.run(Client::Codex, |_| {}).expect("nothing to do");
    assert!(told.contains("connected already"), "{told}");
    assert_eq!(house.text(Client::Codex), edited);
}

#[test]
fn an_entry_of_ours_that_says_less_or_something_else_is_changed_where_it_stands() {
    let house = House::new();
    let own = "[mcp_servers.tl] # the trunk\n# all of them\nurl = \"http://127.0.0.1:6270/mcp\" # ours\nstartup_timeout_sec = 60\n\n\
               [mcp_servers.tl.tools.x]\napproval_mode = \"approve\"\n\n[tui]\nnotifications = true\n";
    fs::write(house.file(Client::Codex), own).expect("written");
    house.run(Client::Codex, |connect| connect.parallel = true).expect("connected");
    let parallel = "startup_timeout_sec = 60\nsupports_parallel_tool_calls = true\n";
    let wanted = own.replace("startup_timeout_sec = 60\n", parallel);
    assert_eq!(house.text(Client::Codex), wanted);
    let told = house.run(Client::Codex, |_| {}).expect("fine");
    assert!(told.contains("connected already"), "what was asked for once stays: {told}");
    let cursor = "{\n  \"mcpServers\": {\n    // the trunk\n    \"tl\": {\n      \"url\": \"http://127.0.0.1:6270/mcp/work\", // mine\n      \
                  \"headers\": { \"X-Mine\": \"1\" }\n    },\n    \"other\": { \"command\": \"x\" }\n  }\n}\n";
    fs::write(house.file(Client::Cursor), cursor).expect("written");
    let config = house.dir.path().join(".config/trunkline/config.toml");
    house.write(&config, "[auth.tokens]\nme = \"0123456789abcdef0123456789abcdef\"\n");
    house.run(Client::Cursor, |_| {}).expect("connected");
    let text = house.text(Client::Cursor);
    let kept = cursor.lines().filter(|line| !line.contains("X-Mine"));
    assert!(kept.into_iter().all(|line| text.lines().any(|have| have == line)), "{text}");
    assert!(text.contains("\"X-Mine\": \"1\",") && text.contains("Bearer ${env:TRUNKLINE_TOKEN}"), "{text}");
    house.run(Client::Codex, |_| {}).expect("connected");
    let token = format!("{parallel}bearer_token_env_var = \"TRUNKLINE_TOKEN\"\n");
    assert_eq!(house.text(Client::Codex), own.replace("startup_timeout_sec = 60\n", &token));
    // No token is asked for any more, and the port is another.
    house.write(&config, "[listen]\nport = 7002\n");
    house.run(Client::Codex, |_| {}).expect("connected");
    assert_eq!(house.text(Client::Codex), wanted.replace("6270", "7002"));
    house.run(Client::Cursor, |_| {}).expect("connected");
    let text = house.text(Client::Cursor);
    assert!(text.contains("7002/mcp/work\", // mine") && text.contains("\"X-Mine\": \"1\""), "{text}");
    assert!(!text.contains("TRUNKLINE_TOKEN"), "{text}");
}

#[test]
fn links_and_rights_stay_and_windows_line_ends_too() {
    let house = House::new();
    let real = house.dir.path().join("dotfiles/cursor.json");
    let text = format!("{MARK}{}", FIXTURES[3].1.replace('\n', "\r\n"));
    house.write(&real, &text);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("ours");
    let link = house.file(Client::Cursor);
    fs::remove_file(&link).expect("removed");
    symlink(&real, &link).expect("linked");
    house.run(Client::Cursor, |_| {}).expect("connected");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
    let after = fs::read_to_string(&real).expect("there");
    assert!(after.starts_with(MARK) && !after.replace("\r\n", "").contains('\n'), "{after:?}");
    house.run(Client::Cursor, |connect| connect.undo = true).expect("undone");
    assert_eq!(fs::read_to_string(&real).expect("there"), text);
}

#[test]
fn what_is_kept_is_its_owners_alone_and_only_shown_is_nothing_written() {
    let house = House::new();
    let shown = house.run(Client::Codex, |connect| connect.print = true).expect("shown");
    assert!(shown.contains("+ [mcp_servers.tl]\n+ url = \"http://127.0.0.1:6270/mcp\"\n"), "{shown}");
    assert_eq!(house.text(Client::Codex), FIXTURES[0].1);
    assert!(!house.dir.path().join("state").exists());
    house.run(Client::Codex, |connect| connect.parallel = true).expect("connected");
    assert!(house.text(Client::Codex).contains("supports_parallel_tool_calls = true"));
    let clients = house.dir.path().join("state/clients");
    assert_eq!(fs::metadata(&clients).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn another_server_of_that_name_is_not_overwritten_and_a_mistake_is_told_by_its_line() {
    let house = House::new();
    let file = house.file(Client::Cursor);
    let other = r#"{ "mcpServers": { "tl": { "command": "translate" } } }"#;
    fs::write(&file, other).expect("written");
    let told = house.run(Client::Cursor, |_| {}).expect_err("refused").to_string();
    assert!(told.contains("`tl`") && told.contains("--name"), "{told}");
    assert_eq!(house.text(Client::Cursor), other);
    house.run(Client::Cursor, |connect| connect.name = "trunk".to_owned()).expect("connected");
    assert_eq!(house.on(Client::Cursor), ["tl", "trunk"]);
    fs::write(&file, "{\n  \"mcpServers\": {\n    \"x\": secret-0815\n").expect("written");
    let told = house.run(Client::Cursor, |_| {}).expect_err("refused").to_string();
    assert!(told.contains("mcp.json:3: is no JSON") && !told.contains("0815"), "{told}");
    let told = house.run(Client::Windsurf, |connect| connect.project = true).expect_err("refused").to_string();
    assert!(told.contains("no file for a single project"), "{told}");
}

#[test]
fn where_tokens_are_asked_for_each_client_is_told_where_to_take_one_from() {
    let house = House::new();
    let token = "0123456789abcdef0123456789abcdef";
    let config = format!("[auth.tokens]\nme = \"{token}\"\n[listen]\nport = 7001\n");
    house.write(&house.dir.path().join(".config/trunkline/config.toml"), &config);
    for (client, wanted) in [
        (Client::Codex, "bearer_token_env_var = \"TRUNKLINE_TOKEN\""),
        (Client::ClaudeCode, "\"Authorization\": \"Bearer ${TRUNKLINE_TOKEN}\""),
        (Client::Cursor, "\"Authorization\": \"Bearer ${env:TRUNKLINE_TOKEN}\""),
        (Client::Gemini, "\"Authorization\": \"Bearer $TRUNKLINE_TOKEN\""),
        (Client::Zed, "\"stdio\""),
    ] {
        let told = house.run(client, |_| {}).expect("connected");
        let text = house.text(client);
        assert!(text.contains(wanted) && !text.contains(token) && !told.contains(token), "{}: {text}", client.word());
        assert!(client == Client::Zed || text.contains("127.0.0.1:7001/mcp"), "{text}");
    }
    // Another port: the entry is brought up to date, not written twice.
    house.write(&house.dir.path().join(".config/trunkline/config.toml"), "[listen]\nport = 7002\n");
    house.run(Client::Codex, |_| {}).expect("connected");
    let text = house.text(Client::Codex);
    assert!(text.contains("7002/mcp") && !text.contains("7001") && !text.contains("TRUNKLINE_TOKEN"), "{text}");
}

#[test]
fn what_starts_the_bridge_tells_it_where_the_same_daemon_is_and_says_nothing_of_what_is_as_everywhere() {
    let house = House::new();
    let home = house.dir.path().display().to_string();
    let with = |pairs: &[(&str, String)]| {
        let mut sources = house.sources();
        sources.env.extend(pairs.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        sources
    };
    let entry = |sources: &Sources| {
        house.run_with(Client::ClaudeDesktop, sources, |_| {}).expect("connected");
        let file = Client::ClaudeDesktop.user_file(&Surroundings::here(&sources.env));
        let reading = clients::read(Client::ClaudeDesktop, &file, None).expect("sound").expect("there");
        let own = reading.servers.into_iter().find(|found| found.name == "tl").expect("ours").entry;
        house.run_with(Client::ClaudeDesktop, sources, |connect| connect.undo = true).expect("undone");
        (own["args"].clone(), own.get("env").cloned())
    };
    let usual = [("XDG_STATE_HOME", format!("{home}/.local/state")), ("XDG_CONFIG_HOME", format!("{home}/.config"))];
    assert_eq!(entry(&with(&usual)), (serde_json::json!(["stdio"]), None));
    let other = [("XDG_STATE_HOME", format!("{home}/s")), ("XDG_CONFIG_HOME", format!("{home}/c"))];
    let moved = serde_json::json!({ "XDG_STATE_HOME": other[0].1, "XDG_CONFIG_HOME": other[1].1 });
    assert_eq!(entry(&with(&other)), (serde_json::json!(["stdio"]), Some(moved)));
    let config = format!("{home}/.config/trunkline/config.toml");
    let named = [("TRUNKLINE_CONFIG", config.clone()), other[1].clone()];
    assert_eq!(entry(&with(&named)), (serde_json::json!(["stdio", "--config", config]), None));
}

#[test]
fn what_codex_may_do_unasked_with_what_is_taken_over_is_told_with_the_lines_and_for_no_other_server() {
    let house = House::new();
    let text = "[mcp_servers.linear]\nurl = \"https://mcp.linear.app/mcp\"\nbearer_token_env_var = \"LINEAR_API_KEY\"\ndefault_tools_approval_mode = \"approve\"\n\
                [mcp_servers.linear.tools.delete]\napproval_mode = \"prompt\"\n";
    house.write(&house.file(Client::Codex), text);
    let told = house.run(Client::Codex, |connect| connect.switch_off = true).expect("connected");
    assert!(told.contains("linear (`approve`, `prompt` for delete)"), "{told}");
    assert!(told.contains("[mcp_servers.tl.tools.linear__delete]\n  approval_mode = \"prompt\""), "{told}");
    assert!(told.contains("[mcp_servers.tl.tools.linear__TOOL]\n  approval_mode = \"approve\""), "{told}");
    assert!(!told.contains("default_tools_approval_mode") && !house.text(Client::Codex).contains("tl.tools"), "{told}");
    let settled =
        format!("{}\n[mcp_servers.tl.tools.linear__delete]\napproval_mode = \"prompt\"\n", house.text(Client::Codex));
    house.write(&house.file(Client::Codex), &settled);
    let told = house.run(Client::Codex, |_| {}).expect("connected already");
    assert!(!told.contains("unasked"), "{told}");
}

#[test]
fn codex_users_hear_that_a_search_in_place_of_the_tools_asks_before_every_call() {
    let house = House::new();
    house.write(&house.dir.path().join(".config/trunkline/config.toml"), "expose = \"search\"\n");
    assert!(house.run(Client::Codex, |_| {}).expect("connected").contains("`call_tool`"));
    assert!(!house.run(Client::Cursor, |_| {}).expect("connected").contains("`call_tool`"));
}
