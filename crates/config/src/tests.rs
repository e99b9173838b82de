//! The whole of loading, as an operator meets it: a text in, a configuration or the error texts out.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

/// Loads a text as a file, in an environment that has nothing but what is given.
fn loaded(text: &str, env: &[(&str, &str)], listen: Option<&str>) -> Result<Loaded, ConfigErrors> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).expect("written");
    load(&sources(Some(&path), env, listen))
}

fn sources(file: Option<&Path>, env: &[(&str, &str)], listen: Option<&str>) -> Sources {
    let env = env.iter().chain(&[("HOME", "/nowhere")]);
    Sources {
        file: file.map(Path::to_path_buf),
        env: env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: Flags { listen: listen.map(str::to_owned) },
    }
}

pub(crate) fn sound(text: &str) -> Loaded {
    loaded(text, &[], None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The error texts, with the directory of the test cut off.
pub(crate) fn errors(text: &str) -> String {
    errors_in(text, &[], None)
}

fn errors_in(text: &str, env: &[(&str, &str)], listen: Option<&str>) -> String {
    let text = loaded(text, env, listen).expect_err("refused").to_string();
    let short = |line: &str| match line.split_once("/config.toml") {
        Some((_, rest)) => format!("config.toml{rest}"),
        None => line.to_owned(),
    };
    text.lines().map(short).collect::<Vec<_>>().join("\n")
}

fn server<'a>(loaded: &'a Loaded, name: &str) -> &'a Server {
    &loaded.config.servers.iter().find(|(known, _)| known.as_str() == name).expect("a server").1
}

fn http(server: &Server) -> &Http {
    match &server.connect {
        Connect::Http(http) => http,
        Connect::Stdio(_) => panic!("a child process"),
    }
}

fn stdio(server: &Server) -> &Stdio {
    match &server.connect {
        Connect::Stdio(stdio) => stdio,
        Connect::Http(_) => panic!("a URL"),
    }
}

mod pages;

fn example(name: &str) -> String {
    let path = format!("{}/../../config/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("an example")
}

#[test]
fn an_empty_file_and_no_file_and_the_commented_example_all_mean_the_defaults() {
    assert_eq!(sound("").config, Config::default());
    assert_eq!(load(&sources(None, &[], None)).expect("no file is fine").config, Config::default());
    let loaded = sound(&example("default.toml"));
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_servers_shown_in_the_commented_example_load() {
    let text = example("default.toml");
    let servers = text.lines().skip_while(|line| !line.starts_with("# Servers."));
    let text = servers.filter_map(|line| line.strip_prefix("#   ")).collect::<Vec<_>>().join("\n");
    let loaded = sound(&text);
    let names: Vec<_> = loaded.config.servers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["files", "linear"]);
    // All but these two and the prefix is what it would be without the line.
    let tuning = &server(&loaded, "linear").tuning;
    assert_eq!(tuning.startup_timeout, Some(Duration::from_secs(30)));
    assert_eq!(tuning.stale_keep, Some(Duration::from_hours(1)));
    assert_eq!(Tuning { startup_timeout: None, stale_keep: None, ..tuning.clone() }, Tuning::default());
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let named = load(&sources(Some(Path::new("/nowhere/config.toml")), &[], None)).expect_err("refused");
    assert_snapshot!(named.to_string(), @"/nowhere/config.toml: no such file");
    let named = load(&sources(None, &[("TRUNKLINE_CONFIG", "/nowhere/else.toml")], None)).expect_err("refused");
    assert_snapshot!(named.to_string(), @"/nowhere/else.toml: no such file");
    let directory = load(&sources(Some(Path::new("/")), &[], None)).expect_err("refused");
    assert_snapshot!(directory.to_string(), @"/: not a regular file");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("changed");
    let text = load(&sources(Some(&path), &[], None)).expect_err("refused").to_string();
    assert!(text.contains("can be changed by other users"), "{text}");
}

#[test]
fn codex_blocks_work_as_they_were_pasted() {
    let loaded = loaded(&example("examples/codex-paste.toml"), &[("LINEAR_API_KEY", "lin_1")], None).expect("sound");
    let names: Vec<_> = loaded.config.servers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["docs", "figma", "linear", "snyk", "github"], "the order of the file");
    assert_snapshot!(loaded.warnings.join("\n"), @r"
    keys of Codex's own, without effect here: approval_mode (of linear.tools.create_issue); default_tools_approval_mode (of docs); required (of linear); supports_parallel_tool_calls (of github)
    ");

    let linear = server(&loaded, "linear");
    assert_eq!(http(linear).bearer.as_ref().expect("a token").expose(), "lin_1");
    assert_eq!(http(linear).bearer_source.as_deref(), Some("LINEAR_API_KEY"));
    assert_eq!(linear.tuning.startup_timeout, Some(Duration::from_millis(10_500)));
    assert_eq!(linear.tuning.tool_timeout, Duration::from_mins(1));
    assert_eq!(linear.problem, None);
    let snyk = stdio(server(&loaded, "snyk"));
    assert_eq!(snyk.args.iter().map(Secret::expose).collect::<Vec<_>>(), ["-y", "snyk@latest", "mcp", "-t", "stdio"]);
    assert_eq!(snyk.env["SNYK_CFG_ORG"].expose(), "my-org");
    assert_eq!(snyk.env_vars, ["SNYK_TOKEN"]);
    let github = server(&loaded, "github");
    assert!(!github.enabled);
    assert_eq!(github.tuning.startup_timeout, Some(Duration::from_secs(20)));
    assert!(
        github.expose.tools.shows("get_issue")
            && !github.expose.tools.shows("search_code")
            && !github.expose.tools.shows("other")
    );
}

#[test]
fn a_server_is_spoken_to_as_its_block_says() {
    let loaded = sound(&example("examples/three-transports.toml"));
    assert_eq!(stdio(server(&loaded, "child")).command, "npx");
    assert_eq!(http(server(&loaded, "old")).transport, HttpTransport::Sse);
    assert_eq!(http(server(&loaded, "new")).transport, HttpTransport::Http);
    let claude = sound("[mcp_servers.a]\ntype = \"streamable-http\"\nurl = \"http://127.0.0.1:1/\"");
    assert_eq!(http(server(&claude, "a")).transport, HttpTransport::Http);
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let text = "[listen]\nport = 1000\n[log]\nlevel = \"warn\"\n[mcp_servers.My-Server]\nurl = \"http://127.0.0.1:1/\"";
    let env = [
        ("TRUNKLINE_LISTEN__PORT", "2000"),
        ("TRUNKLINE_LOG__LEVEL", "debug"),
        ("TRUNKLINE_MCP_SERVERS__MY_SERVER__BEARER_TOKEN", "12345"),
        ("TRUNKLINE_MCP_SERVERS__MY_SERVER__HTTP_HEADERS__X-Team", "7"),
        ("TRUNKLINE_MCP_SERVERS__NEW__COMMAND", "true"),
        ("TRUNKLINE_SOMETHING", "of a script"),
    ];
    let loaded = loaded(text, &env, Some("3000")).expect("sound");
    assert_eq!(loaded.config.listen, Listen { port: 3000, ..Listen::default() });
    assert_eq!(loaded.config.log.level, LogLevel::Debug);
    let server_of = http(server(&loaded, "My-Server"));
    assert_eq!(server_of.bearer.as_ref().expect("a token").expose(), "12345");
    assert_eq!(server_of.headers, [("X-Team".to_owned(), Secret::new("7"))]);
    assert_eq!(stdio(server(&loaded, "new")).command, "true");
}

#[test]
fn the_listen_flag_takes_a_port_or_an_address() {
    let listen = |flag: &str| loaded("", &[], Some(flag)).map(|loaded| loaded.config.listen);
    assert_eq!(listen("localhost:7000").expect("sound"), Listen { port: 7000, ..Listen::default() });
    let v6 = listen("[::1]:7000").expect("sound");
    assert_eq!((v6.port, v6.hosts), (7000, vec!["::1".parse().expect("an address")]));
    assert_snapshot!(errors_in("", &[], Some("nonsense")), @r"
    flag --listen: expected a port or ADDRESS:PORT
        for example 6270, 127.0.0.1:6270 or [::1]:6270
    ");
    assert_snapshot!(errors_in("", &[], Some("0.0.0.0:6270")), @r"
    flag --listen: listen.hosts: 0.0.0.0 is reachable from other machines, and no `auth.tokens` say who may call
        use 127.0.0.1 and ::1; reach the daemon from elsewhere through ssh -L
    ");
}

#[test]
fn all_problems_are_told_at_once_with_their_place() {
    let text = r#"
model = "gpt-5"

[listen]
port = "6270"
hosts = ["192.168.1.2"]

[limits]
name_chars = 4
conections = 5

[mcp_servers.linear]
ulr = "https://mcp.linear.app/mcp"
tool_timeout_sec = -1

[mcp_servers.both]
command = "npx"
url = "https://both.test/mcp"

[mcp_servers.neither]
enabled = true

[mcp_servers.figma]
url = "127.0.0.1:3845/mcp"
headers = { a = "b" }

[mcp_servers.loop]
url = "http://LOCALHOST:6270/mcp"
transport = "websocket"
"#;
    assert_snapshot!(errors(text), @r"
    config.toml:2: model: unknown key
        only the [mcp_servers.…] tables of a Codex config.toml belong here, not its other settings
    config.toml:5: listen.port: expected a whole number from 0 to 65535, found a text
    config.toml:6: listen.hosts: 192.168.1.2 is reachable from other machines, and no `auth.tokens` say who may call
        use 127.0.0.1 and ::1; reach the daemon from elsewhere through ssh -L
    config.toml:9: limits.name_chars: must be from 16 to 128
    config.toml:10: limits.conections: unknown key
        did you mean `connections`?
    config.toml:13: mcp_servers.linear.ulr: unknown key
        did you mean `url`?
    config.toml:14: mcp_servers.linear.tool_timeout_sec: must be more than zero and at most one day
    config.toml:16: mcp_servers.both: has both `command` and `url`; a server is reached by one of them
    config.toml:20: mcp_servers.neither: has neither `command` nor `url`; one of them says how the server is reached
    config.toml:24: mcp_servers.figma.url: is no URL: relative URL without a base
        an address begins with http:// or https://
    config.toml:25: mcp_servers.figma.headers: unknown key
        it is called `http_headers` here
    config.toml:28: mcp_servers.loop.url: is Trunkline's own address (port 6270), which would call itself without end
        this is the URL for clients; servers are listed here with their own addresses
    config.toml:29: mcp_servers.loop.transport: must be one of: auto, http, sse, stdio
    ");
}

#[test]
fn a_server_may_start_with_its_first_call_and_sleep_when_nobody_needs_it() {
    let loaded = sound(
        "[mcp_servers.a]\ncommand = \"true\"\nstart = \"lazy\"\nidle_stop_sec = 90.5\n[mcp_servers.b]\ncommand = \"true\"\nidle_stop_sec = 0",
    );
    let tuning = &server(&loaded, "a").tuning;
    assert_eq!((tuning.start, tuning.idle_stop), (Start::Lazy, Some(Duration::from_millis(90_500))));
    let tuning = &server(&loaded, "b").tuning;
    assert_eq!((tuning.start, tuning.idle_stop), (Start::Eager, None));
}

#[test]
fn what_this_version_does_not_have_is_refused_and_what_it_has_is_accepted() {
    sound(
        "[mcp_servers.a]\ncommand = \"true\"\nsharing = \"shared\"\nstart = \"eager\"\nera = \"legacy\"\npin = \"off\"\n\
         trust_annotations = false\nidle_stop_sec = 0\nroots = [\"/srv\", \"file:///a\"]\nsampling = true\nserialize = true\n\
         stale_keep_sec = 0",
    );
    let text = "[mcp_servers.a]\ncommand = \"true\"\nsharing = \"each\"\nstart = \"later\"\n\
                era = \"future\"\npin = \"ask\"\ntrust_annotations = true\nidle_stop_sec = -1\nroots = [\"http://x\"]\nstale_keep_sec = -1";
    assert_snapshot!(errors(text), @r"
    config.toml:3: mcp_servers.a.sharing: must be one of: shared, session, project
    config.toml:4: mcp_servers.a.start: must be one of: eager, lazy
    config.toml:5: mcp_servers.a.era: must be one of: auto, legacy, modern
    config.toml:6: mcp_servers.a.pin: must be one of: off, warn, block
    config.toml:8: mcp_servers.a.idle_stop_sec: must be zero, which is never, or at most one day in seconds
    config.toml:9: mcp_servers.a.roots: a root is a directory: a path, or a URI that begins with file://
    config.toml:10: mcp_servers.a.stale_keep_sec: must be from 0 seconds to 365 days
    ");
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    let text = r#"
[mcp_servers.a]
command = "node"
http_headers = { X-A = "b" }
transport = "sse"

[mcp_servers.b]
url = "https://b.test/"
args = ["x"]
type = "stdio"

[mcp_servers.c]
url = "ftp://c.test/"

[mcp_servers.d]
url = "https://d.test/"
bearer_token_env_var = "D"
bearer_token = "x"

[mcp_servers.e]
url = "https://e.test/"
bearer_token = "two\nlines"
http_headers = { Host = "x", "bad name" = "x", authorization = "y" }

[mcp_servers.f]
command = "trunkline"
args = ["stdio"]

[mcp_servers.g]
url = "https://g.test/"
type = "sse"
transport = "http"
startup_timeout_sec = 0
limits = { in_flight = 0, queu = 3, retries = 6, silence_sec = 9, connect_timeout_sec = 61, exits = 3 }

[mcp_servers.h]
command = "true"
limits = { exits = 0, connect_timeout_sec = 5 }
"#;
    assert_snapshot!(errors(text), @r#"
    config.toml:4: mcp_servers.a.http_headers: belongs to a server with `url`; a child process gets its secrets by `env`
    config.toml:5: mcp_servers.a.transport: sse needs a `url`; a `command` is spoken to by stdio
    config.toml:9: mcp_servers.b.args: belongs to a server with `command`; one behind a `url` is sent `http_headers`
    config.toml:10: mcp_servers.b.type: stdio needs a `command`, not a `url`
    config.toml:13: mcp_servers.c.url: has a scheme `ftp` that is not spoken here
        an address begins with http:// or https://
    config.toml:18: mcp_servers.d.bearer_token: is given beside `bearer_token_env_var`; keep that one
    config.toml:22: mcp_servers.e.bearer_token: the value is empty or holds a character that a header cannot carry, such as a line end
    config.toml:23: mcp_servers.e.http_headers.Host: is set by Trunkline itself
    config.toml:23: mcp_servers.e.http_headers.authorization: is given beside a bearer token, which is sent in this header
    config.toml:23: mcp_servers.e.http_headers."bad name": is no name of a header
    config.toml:26: mcp_servers.f.command: is this program itself, which would start itself without end (R-34)
    config.toml:31: mcp_servers.g.type: says sse, and `transport` says http
    config.toml:33: mcp_servers.g.startup_timeout_sec: must be more than zero and at most one day
    config.toml:34: mcp_servers.g.limits.queu: unknown key
        did you mean `queue`?
    config.toml:34: mcp_servers.g.limits.in_flight: must be from 1 to 65536
    config.toml:34: mcp_servers.g.limits.retries: must be from 0 to 5
    config.toml:34: mcp_servers.g.limits.connect_timeout_sec: must be from 1 to 60 seconds
    config.toml:34: mcp_servers.g.limits.silence_sec: must be from 10 to 600 seconds
    config.toml:34: mcp_servers.g.limits: `exits` belongs to a server with `command`
    config.toml:38: mcp_servers.h.limits.exits: must be from 1 to 20
    config.toml:38: mcp_servers.h.limits: `connect_timeout_sec` belongs to a server with `url`
    "#);
}

#[test]
fn names_that_clients_cannot_tell_apart_are_refused() {
    let text = r#"
[mcp_servers.my-server]
command = "true"
rename = { list = "get_all" }

[mcp_servers.My_Server]
command = "true"

[mcp_servers.other]
command = "true"
prefix = "MY-server"
rename = { a = "Get-All", b = "not a name" }

[mcp_servers."…"]
command = "true"

[mcp_servers.plain]
command = "true"
prefix = ""

[mcp_servers.plain2]
command = "true"
prefix = ""
"#;
    // The bad name and the bad new name leave their servers out of the comparison.
    assert_snapshot!(errors(text), @r#"
    config.toml:6: mcp_servers.My_Server: its tools would be called `My_Server__…`, and so would those of server `my-server`
        clients fold capitals and `-`, and 20 characters count; rename one, or give it a prefix of its own
    config.toml:12: mcp_servers.other.rename.b: a tool's name holds only letters, digits, `_` and `-`
    config.toml:14: mcp_servers."…": a server name needs at least one letter or digit of a-z, A-Z, 0-9
    "#);
    assert_snapshot!(errors(&text.replace(", b = \"not a name\"", "").replace('…', "x")), @r"
    config.toml:6: mcp_servers.My_Server: its tools would be called `My_Server__…`, and so would those of server `my-server`
        clients fold capitals and `-`, and 20 characters count; rename one, or give it a prefix of its own
    config.toml:11: mcp_servers.other.prefix: its tools would be called `MY-server__…`, and so would those of server `My_Server`
        clients fold capitals and `-`, and 20 characters count; rename one, or give it a prefix of its own
    config.toml:12: mcp_servers.other.rename.a: tool `list` of server `my-server` was already given this name
        clients fold capitals and `-`: two names must differ in more than that
    ");
}

#[test]
fn every_spelling_of_the_own_address_is_refused() {
    let own = [
        "http://127.0.0.1:6270/mcp",
        "http://127.1:6270/",
        "http://0x7f000001:6270/",
        "http://[::1]:6270/sse",
        "http://[::ffff:127.0.0.1]:6270/",
        "http://localhost.:6270/",
        "http://a.localhost:6270/",
        "http://0.0.0.0:6270/",
        "http://gateway.test:6270/",
        "https://127.9.9.9:6270/x",
    ];
    for url in own {
        let text = format!("[listen]\nnames = [\"gateway.test\"]\n[mcp_servers.a]\nurl = \"{url}\"");
        assert!(errors(&text).contains("own address"), "{url}");
    }
    sound("[mcp_servers.a]\nurl = \"http://127.0.0.1:6271/mcp\"");
    sound("[mcp_servers.a]\nurl = \"http://example.test:6270/mcp\"");
}

#[test]
fn a_missing_secret_is_the_problem_of_its_server_alone() {
    let text = r#"
[mcp_servers.linear]
url = "https://mcp.linear.app/mcp"
bearer_token_env_var = "LINEAR_API_KEY"

[mcp_servers.files]
command = "npx"
env = { KEY = "${env:FILES_KEY}", OTHER = "${file:/nowhere/key}", LEFT = "${HOME} $1" }

[mcp_servers.hidden]
url = "https://hidden.test/${env:HIDDEN}/mcp"
env_http_headers = { X-Key = "NOT_THERE" }

[mcp_servers.fine]
command = "true"
"#;
    let loaded = sound(text);
    let problem = |name: &str| server(&loaded, name).problem.clone().unwrap_or_default();
    assert_snapshot!(problem("linear"), @"bearer_token_env_var: the environment variable LINEAR_API_KEY is not set for the daemon; set it where the daemon is started");
    assert_snapshot!(problem("files"), @"env: the environment variable FILES_KEY is not set for the daemon; set it where the daemon is started; env: the file /nowhere/key is needed: no such file");
    assert_snapshot!(problem("hidden"), @"url: the environment variable HIDDEN is not set for the daemon; set it where the daemon is started; env_http_headers: the environment variable NOT_THERE is not set for the daemon; set it where the daemon is started");
    assert_eq!(server(&loaded, "fine").problem, None);
    assert_eq!(stdio(server(&loaded, "files")).env["LEFT"].expose(), "${HOME} $1");
}

#[test]
fn s31_references_are_replaced_everywhere_and_no_secret_shows() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("key"), "canary-file\n").expect("written");
    let text = r#"
[mcp_servers.web]
url = "https://web.test/${env:PATH_KEY}/mcp?k=${env:PATH_KEY}"
bearer_token = "${file:key}"
http_headers = { X-A = "a ${env:PATH_KEY}" }

[mcp_servers.child]
command = "node"
args = ["--key=${env:PATH_KEY}"]
env = { A = "${file:key}" }

[mcp_servers.inline]
url = "https://inline.test/"
bearer_token = "canary-inline"
"#;
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).expect("written");
    let loaded = load(&sources(Some(&path), &[("PATH_KEY", "canary-env")], None)).expect("sound");
    let web = http(server(&loaded, "web"));
    assert_eq!(web.url.as_str(), "https://web.test/canary-env/mcp?k=canary-env");
    assert_eq!(web.bearer.as_ref().expect("a token").expose(), "canary-file");
    assert_eq!(web.headers[0].1.expose(), "a canary-env");
    let child = stdio(server(&loaded, "child"));
    assert_eq!(child.args[0].expose(), "--key=canary-env");
    assert_eq!(child.env["A"].expose(), "canary-file");
    let known: Vec<_> = server(&loaded, "web").secrets.iter().map(Secret::expose).collect();
    assert!(known.contains(&"canary-env") && known.contains(&"canary-file") && known.contains(&"a canary-env"));

    assert!(!format!("{loaded:?}").contains("canary"));
    assert_snapshot!(loaded.warnings.join("\n"), @r#"
    mcp_servers.child.args: a secret in an argument is seen by every user of this machine; `env` hides it
    mcp_servers.inline.bearer_token: stands in the file in plain text; safer is bearer_token_env_var = "NAME", with the token in that variable
    "#);
}

#[test]
fn no_value_stands_in_an_error() {
    let text = r#"
errors = "canary"
[listen]
port = "canary"
origins = ["canary"]
[mcp_servers.a]
url = "https://canary canary/"
bearer_token = "canary\u0007"
bearer_token_env_var = 5
tool_timeout_sec = "canary"
transport = "canary"
enabled = "canary"
sharing = "canary"
env_vars = [{ canary = 1 }]
[mcp_servers.b]
url = "${env:SCHEME}"
[mcp_servers.c]
url = "https://c.test/"
bearer_token_env_var = "sk-canary"
"#;
    let found = errors_in(text, &[("SCHEME", "canary:x")], None);
    let values: String = found.lines().filter(|line| !line.contains("mcp_servers.a.env_vars")).collect();
    assert!(!values.contains("canary"), "{found}");
    assert!(!errors("[mcp_servers.a]\nbearer_token = \"canary\nx").contains("canary"));
}

#[test]
fn text_that_is_not_toml_is_told_with_its_line() {
    assert_snapshot!(errors("[listen]\nport = \n"), @r#"config.toml:2: not TOML: invalid string, expected `"`, `'`"#);
    assert_snapshot!(errors("[listen]\nport = 1\nport = 2\n"), @"config.toml:3: not TOML: duplicate key `port` in table `listen`");
}

#[test]
fn the_default_paths_follow_the_base_directories() {
    let paths = |env: &[(&str, &str)]| {
        let env = sources(None, env, None).env;
        (default_config_path(&env), state_dir(&env))
    };
    let (config, state) = paths(&[]);
    assert_eq!(config, Path::new("/nowhere/.config/trunkline/config.toml"));
    assert_eq!(state, Path::new("/nowhere/.local/state/trunkline"));
    let (config, state) = paths(&[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "relative")]);
    assert_eq!(config, Path::new("/c/trunkline/config.toml"));
    assert_eq!(state, Path::new("/nowhere/.local/state/trunkline"));
    assert_eq!(paths(&[("TRUNKLINE_CONFIG", "/x.toml")]).0, Path::new("/x.toml"));
}

/// Parts of files, put together at random: most are close to what is meant, all are possible.
fn almost_a_file() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "listen",
        "limits",
        "mcp_servers",
        "mcp_servers.a",
        "mcp_servers.\"b c\"",
        "command",
        "url",
        "args",
        "env",
        "port",
        "rename",
        "limits.queue",
        "env_vars",
        "oauth",
        "tools.x",
        "nonsense",
        "transport",
        "bearer_token",
        "prefix",
    ]);
    let value = prop_oneof![
        Just("1".to_owned()),
        Just("-1.5".to_owned()),
        Just("nan".to_owned()),
        Just("true".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("{}".to_owned()),
        Just("[[]]".to_owned()),
        Just("{a = {b = 1}}".to_owned()),
        "\"[a-z:/$\\{\\}]{0,12}\"",
    ];
    let line = prop_oneof![
        (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}")),
        key.prop_map(|key| format!("[{key}]")),
        ".{0,20}",
    ];
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_loaded_or_refused_with_a_reason(text in almost_a_file(), value in "[ -~]{0,12}") {
        let env = [("TRUNKLINE_MCP_SERVERS__A__ENV__X", value.as_str()), ("TRUNKLINE_LISTEN__PORT", value.as_str())];
        if let Err(errors) = loaded(&text, &env, None) {
            prop_assert!(!errors.0.is_empty());
        }
    }

    #[test]
    fn servers_that_load_together_have_namespaces_that_differ_after_folding(names in prop::collection::hash_set("[a-bA-B_. -]{1,4}", 1..6)) {
        let blocks: Vec<_> = names.iter().map(|name| format!("[mcp_servers.\"{name}\"]\ncommand = \"true\"")).collect();
        let text = blocks.join("\n");
        if let Ok(loaded) = loaded(&text, &[], None) {
            let folded: std::collections::HashSet<String> = loaded.config.servers.iter()
                .filter_map(|(name, server)| server.expose.namespace(name))
                .map(|namespace| namespace.to_lowercase().replace('-', "_"))
                .collect();
            prop_assert_eq!(folded.len(), names.len());
        }
    }
}

#[test]
fn r34_the_own_program_is_no_server_but_for_its_demo() {
    for (block, refused) in [
        ("command = \"trunkline\"\nargs = [\"serve\"]", true),
        ("command = \"/usr/local/bin/trunkline\"", true),
        ("command = \"trunkline\"\nargs = [\"__demo\"]", false),
        ("command = \"trunkline-tools\"", false),
    ] {
        let text = format!("[mcp_servers.loop]\n{block}\n");
        let found = loaded(&text, &[], None).err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(found.contains("is this program itself"), refused, "{block}: {found}");
    }
}

#[test]
fn how_to_sign_in_is_read_and_its_secret_prints_nowhere() {
    let block = "[mcp_servers.a]\nurl = \"https://a.example/mcp\"\nscopes = [\"read\"]\n[mcp_servers.a.oauth]\n";
    let text = format!(
        "{block}client_id = \"me\"\nclient_secret = \"${{env:KEY}}\"\ncallback_port = 5000\ncallback_url = \"x\"\n"
    );
    let loaded = loaded(&text, &[("KEY", "canary")], None).expect("sound");
    let oauth = &http(server(&loaded, "a")).oauth;
    assert_eq!((oauth.client_id.as_deref(), oauth.scopes.as_slice()), (Some("me"), &["read".to_owned()][..]));
    assert_eq!(oauth.client_secret.as_ref().map(Secret::expose), Some("canary"));
    assert_eq!(oauth.callback_port, Some(5000));
    assert!(!format!("{loaded:?}").contains("canary"));
    assert!(loaded.warnings.join("\n").contains("oauth.callback_url (of a)"), "{:?}", loaded.warnings);
    for (more, expected) in [
        ("client_secret = \"x\"", "needs the `client_id`"),
        ("client_metadata_url = \"http://a.example/me\"", "no https address"),
        ("client_idd = \"x\"", "client_id"),
        ("client_id = \"x\"\nclient_credentials = true", "needs the `client_id` and the `client_secret`"),
        ("callback_port = 0", "is no port"),
    ] {
        let refused = self::loaded(&format!("{block}{more}\n"), &[], None).expect_err(more).to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
