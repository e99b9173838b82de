//! Secrets that must stay where they belong (S-31, F-67): one of its own in every place that takes or says something, the
//! daemon at trace level, everything done that there is to do, and then a search of all that anybody gets to see.
//!
//! Lawful are: a secret's own server and process, the answer to the client whose it is, and the store of tokens. What a
//! child writes to stderr is its own word, which people need: it is shown by `logs` and the dashboard, and its last words are
//! the reason of a failed start, wherever that is told. Masked in it are all that was given to the child and what looks like a
//! secret (`telemetry/redact`), and nothing else can be.

mod careless;
mod planted;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::harness::authority::{Authority, Manners};
use crate::harness::client::{initialize, json, request};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http;
use crate::harness::{fake, until};
use crate::signin::{Login, cli, visit};
use careless::Careless;
use planted::Canaries;

/// The mark of each child's processes: which server they are.
const OF_SERVER: &str = "CANARY_SERVER";

/// The configuration under test and what goes with it.
struct Stage {
    canaries: Canaries,
    config: String,
    /// The daemon's own variables.
    environment: Vec<(String, String)>,
    token: String,
    careless: Careless,
    authority: Authority,
}

impl Stage {
    async fn set(home: &Home) -> Stage {
        let mut canaries = Canaries::default();
        let careless = Careless::start(&mut canaries).await;
        let manners = Manners { secret: true, ..Manners::default() };
        let authority = Authority::start(manners).await;
        let mut stage = Stage {
            canaries,
            config: String::new(),
            environment: Vec::new(),
            token: String::new(),
            careless,
            authority,
        };
        stage.tokens(home);
        stage.child(home);
        stage.remote(home);
        stage.strangers();
        let guarded = stage.authority.block("guarded");
        stage.config.push_str(&guarded);
        stage
    }

    fn configure(&mut self, block: &str) {
        self.config.push_str(block);
    }

    /// A variable of the daemon with a secret in it.
    fn variable(&mut self, name: &str, place: &str) -> String {
        let secret = self.canaries.plant(place);
        self.environment.push((name.to_owned(), secret.clone()));
        secret
    }

    /// A file with a secret in it, as a reference.
    fn file(&mut self, home: &Home, place: &str) -> String {
        let (path, secret) = (home.path(&place.replace(':', "-")), self.canaries.plant(place));
        std::fs::write(&path, secret + "\n").expect("written");
        format!("${{file:{}}}", path.display())
    }

    fn tokens(&mut self, home: &Home) {
        self.token = self.variable("DOOR_TOKEN", "door:in-use");
        let next = self.canaries.plant("door:successor");
        let of_file = self.file(home, "door:file");
        self.configure(&format!(
            "[auth.tokens]\nlaptop = [\"${{env:DOOR_TOKEN}}\", {next:?}]\nphone = {of_file:?}\n[log]\nlevel = \"trace\"\n"
        ));
    }

    /// A child that says all it was given, in every form.
    fn child(&mut self, home: &Home) {
        for (variable, place) in
            [("OF_ENV", "child:env-ref"), ("OF_ARGS", "child:args-ref"), ("PASSED_ON", "child:env-var")]
        {
            self.variable(variable, place);
        }
        let (env, argument) = (self.canaries.plant("child:env"), self.canaries.plant("child:args"));
        let printed = self.file(home, "child:env-cmd").replace("${file:", "${cmd:cat ");
        let (env_file, args_file) = (self.file(home, "child:env-file"), self.file(home, "child:args-file"));
        let named = self.canaries.plant("stderr:named");
        self.canaries.plant("stderr:free");
        let free = self.canaries.plant("stderr:free-line");
        let say = format!(
            "echo \"$A $B $C $D $PASSED_ON $*\" >&2; echo \"basic $(printf 'me:%s' \"$A\" | base64)\" >&2; \
             echo 'password={named}' >&2; echo 'the word is {free}' >&2; \
             if [ \"$1\" = die ]; then echo \"dying of $A $C $D $4 $*\" >&2; exit 3; fi; \
             echo \"not a message: $A $B $*\"; exec {} stdio --name \"$0\"",
            fake::program("fake-upstream").display()
        );
        for (name, first) in [("child", "live"), ("dying", "die")] {
            self.configure(&format!(
                "[mcp_servers.{name}]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {say:?}, {name:?}, {first:?}, \"--token\", \
                 {argument:?}, \"${{env:OF_ARGS}}\", {args_file:?}]\nenv_vars = [\"PASSED_ON\"]\n\
                 env = {{ A = {env:?}, B = \"${{env:OF_ENV}}\", C = {env_file:?}, D = {printed:?}, TEST_MARK = {:?}, {OF_SERVER} = {name:?} }}\n",
                home.marker,
            ));
        }
    }

    /// The careless server, reached with a credential of every kind.
    fn remote(&mut self, home: &Home) {
        let host = self.careless.origin["http://".len()..].to_owned();
        let in_url = |stage: &mut Stage, server: &str| {
            let mut plant = |part: &str| stage.canaries.plant(&format!("{server}:url-{part}"));
            let (user, password, path, key) = (plant("user"), plant("password"), plant("path"), plant("query"));
            format!("{user}:{password}@{host}/mcp/{path}?api_key={key}")
        };
        let address = in_url(self, "web");
        let header = self.canaries.plant("web:header");
        let header_file = self.file(home, "web:header-file");
        self.variable("OF_HEADER", "web:header-ref");
        self.variable("WHOLE_HEADER", "web:header-env");
        self.configure(&format!(
            "[mcp_servers.web]\nurl = \"http://{address}\"\nhttp_headers = {{ X-A = {header:?}, X-B = \"key ${{env:OF_HEADER}}\", \
             X-C = {header_file:?} }}\nenv_http_headers = {{ X-D = \"WHOLE_HEADER\" }}\n"
        ));
        self.variable("BEARER", "bearer-env:token");
        self.variable("BEARER_REF", "bearer-ref:token");
        let (text, of_file) = (self.canaries.plant("bearer-text:token"), self.file(home, "bearer-file:token"));
        for (server, path, key) in [
            ("bearer-env", "mcp", "bearer_token_env_var = \"BEARER\"".to_owned()),
            ("bearer-ref", "unkind", "bearer_token = \"${env:BEARER_REF}\"".to_owned()),
            ("bearer-text", "denied", format!("bearer_token = {text:?}")),
            ("bearer-file", "broken", format!("bearer_token = {of_file:?}")),
        ] {
            self.configure(&format!("[mcp_servers.{server}]\nurl = \"http://{host}/{path}\"\n{key}\n"));
        }
    }

    /// Servers that are not there.
    fn strangers(&mut self) {
        let mut plant = |part: &str| self.canaries.plant(&format!("away:{part}"));
        let (user, password, path, key, secret) =
            (plant("url-user"), plant("url-password"), plant("url-path"), plant("url-query"), plant("client-secret"));
        let (proxy_user, proxy_password) = (self.canaries.plant("proxy:user"), self.canaries.plant("proxy:password"));
        self.configure(&format!(
            "[mcp_servers.away]\nurl = \"http://{user}:{password}@127.0.0.1:1/a/{path}?key={key}\"\n\
             [mcp_servers.far]\nurl = \"http://far.example/mcp\"\n\
             [mcp_servers.machine]\nurl = \"http://127.0.0.1:1/mcp\"\n\
             oauth = {{ client_id = \"me\", client_secret = {secret:?}, client_credentials = true }}\n"
        ));
        self.environment.push(("HTTP_PROXY".into(), format!("http://{proxy_user}:{proxy_password}@127.0.0.1:1")));
        self.environment.push(("NO_PROXY".into(), "127.0.0.1,localhost".into()));
    }
}

/// A client that shows a token, and says secrets wherever it says something.
struct Chatter<'a> {
    daemon: &'a Daemon,
    token: String,
    session: String,
}

impl<'a> Chatter<'a> {
    async fn begin(daemon: &'a Daemon, token: &str) -> Chatter<'a> {
        let mut chatter = Chatter { daemon, token: format!("Bearer {token}"), session: String::new() };
        let reply = chatter.post("/mcp", &[], &initialize("2025-06-18")).await;
        assert_eq!(reply.status, 200);
        reply.header("mcp-session-id").expect("a session").clone_into(&mut chatter.session);
        chatter
    }

    async fn post(&self, path: &str, more: &[(&str, &str)], body: &str) -> http::Reply {
        let mut headers = vec![
            ("host", self.daemon.address()),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("authorization", self.token.as_str()),
        ];
        if !self.session.is_empty() {
            headers.push(("mcp-session-id", &self.session));
            headers.push(("mcp-protocol-version", "2025-06-18"));
        }
        headers.extend(more);
        let connection = http::connect(self.daemon.address()).await;
        http::send(connection, "POST", path, &headers, body.to_owned()).await
    }

    async fn ask(&self, method: &str, params: &str) -> String {
        self.post("/mcp", &[], &request("7", method, params)).await.text().await
    }

    async fn get(&self, path: &str) -> http::Reply {
        let headers = [("host", self.daemon.address()), ("authorization", self.token.as_str())];
        http::send(http::connect(self.daemon.address()).await, "GET", path, &headers, "").await
    }
}

/// Lists, calls and failures of every kind.
async fn talk(chatter: &Chatter<'_>, canaries: &mut Canaries) {
    canaries.know("session:client", &chatter.session);
    for list in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        let text = chatter.ask(list, "{}").await;
        assert!(text.contains("\"result\""), "{text}");
        canaries.search("a list that a client gets", &text, &[]);
    }
    for tool in Careless::tools().chain(["first"]) {
        let (key, value) = (canaries.plant("client:argument-name"), canaries.plant("client:argument"));
        let meta = canaries.plant("client:meta");
        let params = format!(
            r#"{{"name":"web__{tool}","arguments":{{"{key}":"{value}"}},"_meta":{{"progressToken":"p","x-key":"{meta}"}}}}"#
        );
        let told = chatter.ask("tools/call", &params).await;
        // It is the server's own answer, and may hold what it says and what it was sent, for whoever called.
        canaries.search("the answer to a call", &told, &["server:", "client:", "web:"]);
        if tool.ends_with("-403") || tool.ends_with("-401") {
            // Its credential counts as refused, until somebody says otherwise.
            assert!(cli(chatter.daemon, &["restart", "web"]).await.status.success());
            until_ready(chatter.daemon, "web").await;
        }
    }
    for (method, params) in [
        ("prompts/get", r#"{"name":"web__told","arguments":{"who":"SECRET"}}"#),
        ("resources/read", r#"{"uri":"careless://item/SECRET"}"#),
        ("resources/read", r#"{"uri":"nobody://SECRET"}"#),
        ("resources/subscribe", r#"{"uri":"careless://SECRET"}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"web__told"},"argument":{"name":"who","value":"SECRET"}}"#,
        ),
        ("tools/call", r#"{"name":"SECRET","arguments":{}}"#),
        ("tools/call", r#"{"name":"web__SECRET","arguments":{}}"#),
        ("tools/call", r#"{"name":"child__echo","arguments":{"message":"SECRET"}}"#),
        ("tools/call", r#"{"name":"child__die","arguments":{"message":"SECRET"}}"#),
        ("tools/list", r#"{"cursor":"SECRET"}"#),
        ("logging/setLevel", r#"{"level":"SECRET"}"#),
        ("SECRET", r#"{"a":"SECRET"}"#),
    ] {
        let secret = canaries.plant(&format!("client:{method}"));
        chatter.ask(&method.replace("SECRET", &secret), &params.replace("SECRET", &secret)).await;
    }
}

/// Who is not let in, and who is not understood.
async fn knock(chatter: &Chatter<'_>, canaries: &mut Canaries) {
    let wrong = [
        "POST /mcp authorization=Bearer SECRET",
        "POST /mcp authorization=Basic SECRET",
        "POST /mcp?access_token=SECRET authorization=none",
        "POST /mcp cookie=session=SECRET",
        "POST /mcp origin=http://SECRET.example",
        "POST /mcp host=SECRET.example",
        "POST /mcp content-type=text/SECRET",
        "POST /mcp mcp-session-id=SECRET",
        "POST /mcp mcp-protocol-version=SECRET",
        "POST /SECRET x-key=SECRET",
        "GET /mcp last-event-id=SECRET",
        "GET /oauth/callback?state=SECRET&code=SECRET x-key=SECRET",
        "DELETE /mcp mcp-session-id=SECRET",
        "POST /messages?sessionId=SECRET x-key=SECRET",
        "BREW /mcp x-key=SECRET",
    ];
    for line in wrong {
        let secret = canaries.plant(&format!("knock:{line}"));
        let line = line.replace("SECRET", &secret);
        let [method, path, header] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (name, value) = header.split_once('=').expect("a header");
        let mut headers = BTreeMap::from([
            ("host", chatter.daemon.address()),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("authorization", chatter.token.as_str()),
        ]);
        headers.insert(name, value);
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let connection = http::connect(chatter.daemon.address()).await;
        let reply = http::send(connection, method, path, &headers, initialize("2025-06-18")).await;
        if !reply.is_stream() {
            canaries.search(&format!("the answer to {method}"), &reply.text().await, &[]);
        }
    }
    for body in
        [r#"{"SECRET""#, r#"{"jsonrpc":"2.0","id":{"a":"SECRET"},"method":"ping"}"#, r#"["SECRET"]"#, "\"SECRET\""]
    {
        let secret = canaries.plant(&format!("knock:{body}"));
        let told = chatter.post("/mcp", &[], &body.replace("SECRET", &secret)).await.text().await;
        canaries.search("the answer to a body that is no message", &told, &[]);
    }
}

/// A person signs in, tokens are refreshed, the server refuses them, the person signs out.
async fn sign_in(stage: &mut Stage, daemon: &Daemon, chatter: &Chatter<'_>) {
    let login = Login::begin(daemon, "guarded").await;
    let url = url::Url::parse(&login.url).expect("an address");
    let nonce = url.query_pairs().find(|(key, _)| key == "state").expect("a state").1.into_owned();
    stage.canaries.know("login:state", &nonce);
    let (status, page) = visit(&login.url).await;
    assert_eq!(status, 200);
    let (well, said) = login.end().await;
    assert!(well, "{said}");
    until_ready(daemon, "guarded").await;
    let echo = r#"{"name":"guarded__echo","arguments":{"message":"in"}}"#;
    for _ in 0..2 {
        stage.authority.expire();
        let told = chatter.ask("tools/call", echo).await;
        assert!(told.contains("\"in\""), "{told}");
    }
    let refreshed = stage.authority.state().refreshes;
    assert_eq!(refreshed, 2);
    for (number, secret) in stage.authority.state().secrets.iter().enumerate() {
        stage.canaries.know(&format!("authority:{number}"), secret);
    }
    stage.canaries.search("what a person reads who signs in", &(page + &said), &[]);
}

async fn until_ready(daemon: &Daemon, server: &str) {
    until_state(daemon, server, "ready").await;
}

async fn until_state(daemon: &Daemon, server: &str, state: &str) {
    until(&format!("{server} to be {state}"), async || {
        let out = cli(daemon, &["status", "--json"]).await;
        let report: Value = serde_json::from_slice(&out.stdout).ok()?;
        let servers = report["servers"].as_array()?;
        servers.iter().any(|found| found["name"] == server && found["state"] == state).then_some(())
    })
    .await;
}

/// A mistake in the file, each with a secret in the wrong place.
const MISTAKES: [&str; 20] = [
    "[mcp_servers.a]\nurl = \"http://x/\"\nbearer_token = \"SECRET\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nbearer_token = [\"SECRET\"]\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nbearer_tokn = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nbearer_token_env_var = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nbearer_token_env_var = \"ghp_ SECRET\"\n",
    "[mcp_servers.a]\nurl = \"ws://SECRET/\"\n",
    "[mcp_servers.a]\nurl = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nhttp_headers = { A = \"SECRET\\n\" }\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nhttp_headers = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nhttp_headers = { A = \"${env:SECRET\" }\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\nhttp_headers = { A = \"${env:SECRET}\" }\n",
    "[mcp_servers.a]\ncommand = \"x\"\nargs = \"SECRET\"\n",
    "[mcp_servers.a]\ncommand = \"x\"\nenv = [\"SECRET\"]\n",
    "[mcp_servers.a]\ncommand = \"x\"\nenabled = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\ntransport = \"SECRET\"\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\noauth = { client_secret = \"SECRET\" }\n",
    "[mcp_servers.a]\nurl = \"http://x/\"\noauth = \"SECRET\"\n",
    "[auth.tokens]\na = \"SECRET too short\"\n",
    "[auth]\ntokens = \"SECRET\"\n",
    "[log]\nlevel = \"SECRET\"\n",
];

async fn mistaken(stage: &mut Stage, daemon: &Daemon) {
    for (number, mistake) in MISTAKES.iter().enumerate() {
        let secret = stage.canaries.plant(&format!("mistake:{mistake:?}"));
        let text = mistake.replace("SECRET", &secret);
        let file = daemon.home.path("mistaken.toml");
        std::fs::write(&file, &text).expect("written");
        let out = cli(daemon, &["check", "--config", file.to_str().expect("UTF-8")]).await;
        let said = [out.stdout, out.stderr].concat();
        stage.canaries.search("what `check` says", &String::from_utf8_lossy(&said), &[]);
        // One of each kind: no TOML, the wrong type, no such key, no such value.
        if [0, 1, 2, 5].contains(&number) {
            daemon.home.configure(&(text + &stage.config));
            let out = cli(daemon, &["reload"]).await;
            assert_eq!(out.status.code(), Some(78), "{mistake:?} was taken: {out:?}");
        }
    }
    daemon.home.configure(&stage.config);
    let out = cli(daemon, &["reload"]).await;
    assert_eq!(out.status.code(), Some(0), "{out:?}");
}

/// All that anybody gets to see.
async fn look(canaries: &mut Canaries, daemon: &Daemon, chatter: &Chatter<'_>) {
    for page in ["/health", "/metrics", "/api/v1/state", "/api/v1/history", "/api/v1/tools", "/"] {
        let reply = chatter.get(page).await;
        assert_eq!(reply.status, 200, "{page}");
        // The scene and the health of servers show what a child said last.
        canaries.search(page, &reply.text().await, &["stderr:free"]);
    }
    let scene = chatter.get("/api/v1/events").await.events().next().await.expect("the scene");
    canaries.search("the dashboard", &scene.data, &["stderr:free"]);
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["tools"],
        &["logs"],
        &["logs", "child"],
        &["logs", "dying"],
        &["explain", "web"],
        &["explain", "child", "--json"],
        &["check"],
        &["doctor"],
        &["restart", "web"],
    ] {
        let out = cli(daemon, args).await;
        let said = [out.stdout, out.stderr].concat();
        canaries.search(&format!("`{}`", args.join(" ")), &String::from_utf8_lossy(&said), &["stderr:free"]);
    }
}

/// The files of the state, but for the store of tokens.
fn files(canaries: &mut Canaries, directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("the state").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        if kind.is_dir() {
            if !path.ends_with("signin") {
                files(canaries, &path);
            }
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("readable")).into_owned();
            canaries.search(&path.display().to_string(), &format!("{} {text}", path.display()), &[]);
        }
    }
}

/// The processes of the daemon: their command lines, and their environments but for what was configured for them.
#[cfg(target_os = "linux")]
fn processes(canaries: &mut Canaries, daemon: &Daemon) {
    let read = |pid: u32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    canaries.search("the daemon's command line", &read(daemon.pid(), "cmdline"), &[]);
    let mut children = 0;
    for pid in crate::harness::census::marked(&daemon.home.marker).into_keys() {
        let (line, environ) = (read(pid, "cmdline"), read(pid, "environ"));
        let guard = line.contains("__guard");
        // What stands in `args` is on the child's own command line, as `check` says; on no other.
        let own: &[&str] = if guard { &[] } else { &["child:args", "stderr:"] };
        canaries.search(&format!("the command line of {pid} ({line:.60})"), &line, own);
        canaries.search(&format!("the environment of {pid}"), &environ, &["child:env", "proxy:"]);
        children += usize::from(!guard);
    }
    assert!(children > 0, "no child was looked at");
    let limits = read(daemon.pid(), "limits");
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    let soft = cores.split_whitespace().next().expect("a number");
    assert!(["0", "1"].contains(&soft), "a crash would write the memory of the daemon to the disk: {cores}");
}

#[cfg(not(target_os = "linux"))]
fn processes(_: &mut Canaries, _: &Daemon) {}

#[tokio::test]
async fn s31_f67_secrets_in_every_place_are_in_no_log_page_file_or_command_line_but_their_own() {
    let home = Home::new();
    let mut stage = Stage::set(&home).await;
    home.configure(&stage.config);
    let environment = stage.environment.clone();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let daemon = home.serve_with(&[], &environment).await;
    for (server, state) in [("web", "ready"), ("bearer-env", "ready"), ("child", "ready"), ("guarded", "needs_auth")] {
        until_state(&daemon, server, state).await;
    }
    let token = stage.token.clone();
    let chatter = Chatter::begin(&daemon, &token).await;
    talk(&chatter, &mut stage.canaries).await;
    knock(&chatter, &mut stage.canaries).await;
    sign_in(&mut stage, &daemon, &chatter).await;
    mistaken(&mut stage, &daemon).await;
    until_ready(&daemon, "child").await;
    look(&mut stage.canaries, &daemon, &chatter).await;
    processes(&mut stage.canaries, &daemon);

    // The next daemon reads what this one wrote.
    let (first, address) = (daemon.home.log(), daemon.address().to_owned());
    let (status, home) = daemon.stop().await;
    assert!(status.success());
    let listen = ["--listen", &address];
    let daemon = home.serve_on(&listen, &environment).await;
    let chatter = Chatter::begin(&daemon, &token).await;
    until_ready(&daemon, "guarded").await;
    assert!(json(&chatter.ask("tools/list", "{}").await)["result"]["tools"].is_array());
    let out = cli(&daemon, &["logout", "guarded"]).await;
    assert!(out.status.success(), "{out:?}");
    look(&mut stage.canaries, &daemon, &chatter).await;
    files(&mut stage.canaries, &daemon.home.path("state/trunkline"));
    let (_, home) = daemon.stop().await;
    for log in [first, home.log()] {
        assert!(log.contains("TRACE") && log.contains("child"), "the log says nothing");
        stage.canaries.search("the log", &log, &["stderr:free"]);
    }
    stage.canaries.none_outside(100);
}
