//! Sign-in to servers from end to end: the real daemon and CLI, a scripted authorization server, and a plain HTTP client in
//! the place of the browser (S-26 to S-31, mcp-protocol 7).

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Stdio};

use crate::harness::authority::{Authority, MACHINE_SECRET, Manners};
use crate::harness::client::{fault_of, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http;

/// `trunkline login`, while it waits for the person.
pub(crate) struct Login {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    /// Where the person is to go.
    pub(crate) url: String,
}

impl Login {
    pub(crate) async fn begin(daemon: &Daemon, server: &str) -> Login {
        let mut command = daemon.home.command(["login", server, "--no-browser"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the CLI starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        // Reading waits for the process, and the authority lives in this one.
        let read = tokio::task::spawn_blocking(move || {
            let mut out = out;
            let mut line = String::new();
            while out.read_line(&mut line).expect("readable") > 0 {
                if line.trim().starts_with("http") {
                    return (out, Some(line.trim().to_owned()));
                }
                line.clear();
            }
            (out, None)
        });
        let (out, url) = crate::harness::in_time("the address to sign in at", read).await.expect("read");
        let Some(url) = url else {
            let mut error = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut error);
            panic!("login gave no address: {error}");
        };
        Login { child, out, url }
    }

    /// Whether it went well, and all that was said.
    pub(crate) async fn end(self) -> (bool, String) {
        let Login { mut child, mut out, .. } = self;
        let wait = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            let _ = child.stderr.take().expect("piped").read_to_string(&mut text);
            (child.wait().expect("our child").success(), text)
        });
        crate::harness::in_time("the end of the login", wait).await.expect("waited")
    }
}

/// What the browser does: goes there, and follows the redirect back. Returns what the person reads.
pub(crate) async fn visit(url: &str) -> (u16, String) {
    let back = redirected(url).await;
    let page = http::get(http::authority(&back), http::path(&back)).await;
    assert_eq!(page.header("cache-control"), Some("no-store"));
    (page.status, page.text().await)
}

async fn redirected(url: &str) -> String {
    let there = http::get(http::authority(url), http::path(url)).await;
    assert_eq!(there.status, 302, "the authorization server refused");
    there.header("location").expect("a way back").to_owned()
}

/// Runs a command to its end, while the authorization server in this process goes on.
pub(crate) async fn cli(daemon: &Daemon, args: &[&str]) -> std::process::Output {
    let mut command = daemon.home.command(args);
    let run = tokio::task::spawn_blocking(move || command.output().expect("the CLI runs"));
    crate::harness::in_time("the end of a command", run).await.expect("it ran")
}

pub(crate) async fn signed_in(authority: &Authority, daemon: &Daemon) {
    let login = Login::begin(daemon, "guarded").await;
    let (status, page) = visit(&login.url).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("signed in to guarded"), "{page}");
    let (well, said) = login.end().await;
    assert!(well && said.contains("signed in to guarded, for read write"), "{said}");
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(authority.state().complaints, Vec::<String>::new());
}

pub(crate) async fn echo(daemon: &Daemon) -> serde_json::Value {
    daemon.client().await.call("guarded__echo", r#"{"message":"in"}"#).await
}

pub(crate) async fn serve(config: &str) -> Daemon {
    let home = Home::new();
    home.configure(config);
    // Everything that is ever logged is looked at for secrets.
    home.serve_with(&[], &[("TRUNKLINE_LOG__LEVEL", "trace")]).await
}

/// The tokens' files.
fn kept(home: &Home) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(home.path("state/trunkline/signin")).expect("the store");
    files.map(|file| file.expect("a file").path()).collect()
}

pub(crate) fn hides_secrets(authority: &Authority, daemon: &Daemon, more: &[&str]) {
    let log = daemon.home.log();
    for secret in &authority.state().secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
        assert!(!more.iter().any(|text| text.contains(secret.as_str())), "{secret} was shown");
    }
}

#[tokio::test]
async fn s30_one_login_serves_until_the_family_ends_and_no_call_waits_for_a_person() {
    let authority = Authority::start(Manners::default()).await;
    let daemon = serve(&authority.block("guarded")).await;
    // Nobody signed in: the state says what to do, and nothing begins by itself.
    let server = daemon.until_state("guarded", "needs_auth").await;
    assert!(server["reason"].as_str().expect("a reason").contains("`trunkline login guarded`"), "{server}");
    assert_eq!(authority.state().registrations, 0);

    signed_in(&authority, &daemon).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    for file in kept(&daemon.home) {
        assert_eq!(std::fs::metadata(&file).expect("there").mode() & 0o777, 0o600, "{}", file.display());
    }

    // Many calls meet an ended token, and one refresh serves them all.
    for round in 1..=3 {
        authority.expire();
        let calls = (0..8).map(|_| echo(&daemon));
        for result in futures_util::future::join_all(calls).await {
            assert_eq!(text_of(&result), "in", "{result}");
        }
        let state = authority.state();
        assert_eq!((state.refreshes, state.replayed), (round, false));
    }

    // The next daemon finds the tokens.
    hides_secrets(&authority, &daemon, &[]);
    let address = daemon.address().to_owned();
    let daemon = daemon.kill().serve_at(&address).await;
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");

    // The family ends: a sentence with the command, at once.
    authority.revoke();
    let refused = echo(&daemon).await;
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(text_of(&refused).contains("`trunkline login guarded`"), "{refused}");
    assert_eq!(fault_of(&refused)["code"], -31006, "{refused}");
    let health = daemon.until_state("guarded", "needs_auth").await.to_string();
    assert_eq!(authority.state().registrations, 1, "no call begins a login");

    // Signing in again needs no new registration.
    signed_in(&authority, &daemon).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    assert_eq!(authority.state().registrations, 1);

    let out = cli(&daemon, &["logout", "guarded"]).await;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("the tokens are revoked"), "{said}");
    assert_eq!(authority.state().revocations, 1);
    daemon.until_state("guarded", "needs_auth").await;
    for file in kept(&daemon.home) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).expect("readable")).into_owned();
        let aside = file.extension().is_some_and(|end| end == "refused");
        assert!(aside || !text.contains("canary-refresh"), "{} holds tokens still", file.display());
    }
    let again = cli(&daemon, &["logout", "guarded"]).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("nobody was signed in"));
    hides_secrets(&authority, &daemon, &[&health, &said, &daemon.metrics().await]);
}

#[tokio::test]
async fn s27_every_form_of_metadata_and_of_registration_leads_to_a_token() {
    let root = Some("/.well-known/oauth-protected-resource");
    let document = "client_metadata_url = \"https://trunkline.example/client.json\"\n";
    let by_hand = "client_id = \"by-hand\"\n";
    for (manners, oauth, registrations) in [
        (Manners { names_metadata: false, ..Manners::default() }, "", 1),
        (Manners { names_metadata: false, resource_metadata: root, ..Manners::default() }, "", 1),
        (Manners { server_metadata: Some("/.well-known/openid-configuration"), ..Manners::default() }, "", 1),
        // The scheme of 2025-03-26: no word about the resource, and then none about the server either.
        (Manners { resource_metadata: None, ..Manners::default() }, "", 1),
        (Manners { resource_metadata: None, server_metadata: None, ..Manners::default() }, "", 1),
        (Manners { secret: true, ..Manners::default() }, "", 1),
        (Manners { takes_documents: true, ..Manners::default() }, document, 0),
        (Manners::default(), document, 1),
        (Manners { registers: false, ..Manners::default() }, by_hand, 0),
        (Manners { takes_documents: true, ..Manners::default() }, by_hand, 0),
        (Manners { pkce: None, ..Manners::default() }, "assume_pkce = true\n", 1),
    ] {
        let told = format!("{manners:?} {oauth}");
        let authority = Authority::start(manners).await;
        let table = if oauth.is_empty() { String::new() } else { format!("[mcp_servers.guarded.oauth]\n{oauth}") };
        let daemon = serve(&(authority.block("guarded") + &table)).await;
        let login = Login::begin(&daemon, "guarded").await;
        let (status, page) = visit(&login.url).await;
        assert_eq!(status, 200, "{told}: {page}");
        assert!(login.end().await.0, "{told}");
        daemon.until_ready(&["guarded"]).await;
        authority.expire();
        assert_eq!(text_of(&echo(&daemon).await), "in", "{told}");
        let state = authority.state();
        assert_eq!((state.complaints.as_slice(), state.registrations), (&[][..], registrations), "{told}");
    }
}

#[tokio::test]
async fn s27_an_authorization_server_that_is_not_to_be_trusted_gets_nobody() {
    for (manners, expected) in [
        (Manners { pkce: None, ..Manners::default() }, "oauth.assume_pkce"),
        (Manners { pkce: Some("plain"), ..Manners::default() }, "PKCE"),
        (Manners { registers: false, ..Manners::default() }, "oauth.client_id"),
        (Manners { issuer: Some("https://evil.example"), ..Manners::default() }, "no sign-in to server `guarded`"),
    ] {
        let authority = Authority::start(manners).await;
        let daemon = serve(&authority.block("guarded")).await;
        let out = cli(&daemon, &["login", "guarded", "--no-browser"]).await;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{said}");
        assert_eq!(authority.state().registrations, 0, "{expected}");
    }
}

#[tokio::test]
async fn s27_a_forged_answer_is_refused_and_leaves_the_login_open() {
    let authority = Authority::start(Manners { wrong_issuer_first: true, ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    let login = Login::begin(&daemon, "guarded").await;
    let (status, page) = visit(&login.url).await;
    assert_eq!(status, 400);
    assert!(page.contains("nothing was done with it") && !page.contains("evil"), "{page}");
    let unknown = http::get(daemon.address(), "/oauth/callback?state=0000&code=x&iss=y").await;
    assert_eq!(unknown.status, 400);
    let back = redirected(&login.url).await;
    let first = http::get(http::authority(&back), http::path(&back)).await;
    assert_eq!(first.status, 200);
    let second = http::get(http::authority(&back), http::path(&back)).await;
    assert_eq!(second.status, 400, "a state is good for one answer");
    assert!(login.end().await.0);
    daemon.until_ready(&["guarded"]).await;
    hides_secrets(&authority, &daemon, &[&page]);
}

#[tokio::test]
async fn a_registration_that_is_forgotten_there_is_made_anew_by_the_second_attempt() {
    let authority = Authority::start(Manners { knows_clients: true, ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    signed_in(&authority, &daemon).await;
    authority.forget_clients();
    let mut lost = Login::begin(&daemon, "guarded").await;
    let page = http::get(http::authority(&lost.url), http::path(&lost.url)).await;
    assert_eq!(page.status, 400, "only the person hears of it");
    lost.child.kill().expect("the person gives up");
    lost.child.wait().expect("our child");
    signed_in(&authority, &daemon).await;
    assert_eq!(authority.state().registrations, 2);
}

#[tokio::test]
async fn a_registration_that_a_refresh_finds_forgotten_is_made_anew_by_the_next_login() {
    let authority = Authority::start(Manners { knows_clients: true, ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    signed_in(&authority, &daemon).await;
    authority.forget_clients();
    authority.expire();
    let refused = echo(&daemon).await;
    assert!(text_of(&refused).contains("`trunkline login guarded`"), "{refused}");
    daemon.until_state("guarded", "needs_auth").await;
    assert!(daemon.home.log().contains("does not know the gateway any more"));
    signed_in(&authority, &daemon).await;
    assert_eq!(authority.state().registrations, 2);
    authority.expire();
    assert_eq!(text_of(&echo(&daemon).await), "in");
}

#[tokio::test]
async fn a_registration_whose_secret_has_ended_is_not_used_again() {
    let authority = Authority::start(Manners { secret: true, secret_ends: 1_000_000_000, ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    signed_in(&authority, &daemon).await;
    authority.expire();
    let refused = echo(&daemon).await;
    assert!(text_of(&refused).contains("`trunkline login guarded`"), "{refused}");
    assert_eq!(authority.state().refreshes, 0, "nothing is asked with a secret that is known to have ended");
    signed_in(&authority, &daemon).await;
    assert_eq!(authority.state().registrations, 2);
}

#[tokio::test]
async fn s29_a_person_comes_back_to_the_port_of_the_configuration_which_is_open_for_the_login_alone() {
    let authority = Authority::start(Manners::default()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let table = format!("[mcp_servers.guarded.oauth]\ncallback_port = {port}\n");
    let daemon = serve(&(authority.block("guarded") + &table)).await;
    let out = cli(&daemon, &["login", "guarded", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let one_line = said.trim().lines().count() == 1;
    assert!(one_line && said.contains(&format!("port {port}")) && said.contains("oauth.callback_port"), "{said}");
    assert!(!out.status.success() && authority.state().registrations == 0, "before anything is begun");

    drop(taken);
    // One that is given up leaves its port to the next.
    let mut given_up = Login::begin(&daemon, "guarded").await;
    given_up.child.kill().expect("the person gives up");
    given_up.child.wait().expect("our child");
    let login = Login::begin(&daemon, "guarded").await;
    let own = format!("127.0.0.1:{port}");
    let back = redirected(&login.url).await;
    assert_eq!(http::authority(&back), own);
    assert_eq!(http::get(&own, "/health").await.status, 404, "only the way back is there");
    let page = http::get(&own, http::path(&back)).await;
    assert_eq!(page.status, 200);
    assert!(login.end().await.0);
    daemon.until_ready(&["guarded"]).await;
    crate::harness::until("the port to close", async || std::net::TcpListener::bind(&own).ok()).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
}

#[tokio::test]
async fn the_gateway_signs_in_by_itself_where_the_configuration_says_so_and_no_person_is_asked() {
    // Without a word about PKCE, which is for codes.
    let authority = Authority::start(Manners { pkce: None, registers: false, ..Manners::default() }).await;
    let table = |secret: &str| {
        format!(
            "[mcp_servers.guarded.oauth]\nclient_id = \"machine\"\nclient_secret = \"{secret}\"\nclient_credentials = true\n"
        )
    };
    let daemon = serve(&(authority.block("guarded") + &table(MACHINE_SECRET))).await;
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    assert_eq!(authority.state().machine, 1);
    authority.expire();
    for result in futures_util::future::join_all((0..8).map(|_| echo(&daemon))).await {
        assert_eq!(text_of(&result), "in", "{result}");
    }
    assert_eq!(authority.state().machine, 2, "one for all");
    assert_eq!(authority.state().complaints, Vec::<String>::new());
    let out = cli(&daemon, &["login", "guarded", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("by itself") && said.contains("is signed in"), "{said}");
    hides_secrets(&authority, &daemon, &[&said]);
    assert!(!daemon.home.log().contains(MACHINE_SECRET));

    // The next daemon has the token still.
    let address = daemon.address().to_owned();
    let daemon = daemon.kill().serve_at(&address).await;
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(authority.state().machine, 2);

    let daemon = serve(&(authority.block("guarded") + &table("wrong"))).await;
    daemon.until_state("guarded", "needs_auth").await;
    let out = cli(&daemon, &["login", "guarded", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("by itself") && said.contains("invalid_client"), "{said}");
    assert_eq!(authority.state().refusals, 1, "nobody hammers");
}

#[tokio::test]
async fn a_server_that_wants_more_than_was_granted_gets_it_with_the_next_login() {
    let authority = Authority::start(Manners { call_scope: Some("admin"), ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    signed_in(&authority, &daemon).await;
    let refused = echo(&daemon).await;
    assert!(text_of(&refused).contains("`trunkline login guarded`"), "{refused}");
    let login = Login::begin(&daemon, "guarded").await;
    assert_eq!(visit(&login.url).await.0, 200);
    assert!(login.end().await.0);
    let mut scopes: Vec<String> = authority.state().scope.split(' ').map(str::to_owned).collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["admin", "read", "write"], "the old ones as well");
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
}

#[tokio::test]
async fn a_person_who_says_no_ends_the_login_and_the_cli_says_so() {
    let authority = Authority::start(Manners { denies: true, ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    let login = Login::begin(&daemon, "guarded").await;
    assert_eq!(visit(&login.url).await.0, 400);
    let (well, said) = login.end().await;
    assert!(!well && said.contains("access_denied"), "{said}");
}

#[tokio::test]
async fn a_login_that_makes_no_sense_is_refused_with_what_to_do() {
    let authority = Authority::start(Manners::default()).await;
    let config = authority.block("guarded") + "bearer_token = \"k\"\n[mcp_servers.child]\ncommand = \"true\"\n";
    let daemon = serve(&config).await;
    for (server, expected) in [("guarded", "bearer_token"), ("child", "`env`"), ("nobody", "configured are")] {
        let out = cli(&daemon, &["login", server, "--no-browser"]).await;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn s30_a_disk_that_takes_no_token_ends_no_sign_in_and_a_person_is_told() {
    let authority = Authority::start(Manners::default()).await;
    let daemon = serve(&authority.block("guarded")).await;
    signed_in(&authority, &daemon).await;
    let record = kept(&daemon.home).into_iter().find(|file| file.extension().is_some_and(|end| end == "json"));
    let record = record.expect("a record");
    let name = record.file_name().expect("a name").to_str().expect("ours");
    // A directory in the place of the file that is written first: no disk is full for root.
    let partial = record.with_file_name(format!(".{name}.partial"));
    std::fs::create_dir(&partial).expect("made");
    for _ in 0..2 {
        authority.expire();
        assert_eq!(text_of(&echo(&daemon).await), "in");
    }
    assert!(!authority.state().replayed, "the newest token was refreshed, not that of the disk");
    let failed = ["state=\"signin\"", "outcome=\"failed\""];
    assert!(daemon.metric("trunkline_state_writes_total", &failed).await >= 2.0);
    let warnings = daemon.health().await["warnings"].to_string();
    assert!(warnings.contains("newest sign-in of `guarded`"), "{warnings}");

    std::fs::remove_dir(&partial).expect("room");
    crate::harness::until("the warning to go", async || {
        (!daemon.health().await["warnings"].to_string().contains("guarded")).then_some(())
    })
    .await;
    let address = daemon.address().to_owned();
    let daemon = daemon.kill().serve_at(&address).await;
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    assert_eq!(authority.state().refusals, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn s28_the_browser_gets_the_address_as_one_argument() {
    let authority = Authority::start(Manners::default()).await;
    let daemon = serve(&authority.block("guarded")).await;
    let tools = daemon.home.path("tools");
    let seen = daemon.home.path("opened");
    std::fs::create_dir(&tools).expect("made");
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$1\" > {0}.new && mv {0}.new {0}\n", seen.display());
    std::fs::write(tools.join("xdg-open"), script).expect("written");
    let runnable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tools.join("xdg-open"), runnable).expect("changed");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = daemon.home.command(["login", "guarded"]);
    command.env("PATH", path).env("DISPLAY", ":0").stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().expect("the CLI starts");
    let opened = crate::harness::until("the browser", async || std::fs::read_to_string(&seen).ok()).await;
    let (count, url) = opened.trim().split_once('\n').expect("two lines");
    assert_eq!(count, "1");
    assert_eq!(visit(url).await.0, 200);
    let out = tokio::task::spawn_blocking(|| child.wait_with_output().expect("our child")).await.expect("waited");
    assert!(out.status.success());
}
