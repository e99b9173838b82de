//! Secrets that a program prints or a file holds (`${cmd:…}`, `${file:…}`): looked up at each start of their server, and once
//! more when the server refuses them.

use crate::harness::authority::{Authority, Manners};
use crate::harness::client::text_of;
use crate::harness::daemon::Daemon;
use crate::harness::until;
use crate::signin::echo;

#[tokio::test]
async fn s31_what_a_program_prints_is_looked_up_at_each_start_and_once_more_when_it_is_refused() {
    let authority = Authority::start(Manners::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("the token");
    let renew = |token: &str| std::fs::write(&file, format!("{token}\n")).expect("written");
    let take = |token: &str| authority.state().access = Some(token.to_owned());
    renew("first-0123456789");
    take("first-0123456789");
    let key = format!("bearer_token = \"${{cmd:cat '{}'}}\"\n", file.display());
    let broken = "[mcp_servers.broken]\ncommand = \"true\"\nenv = { KEY = \"${cmd:sh -c 'echo canary; exit 3'}\" }\n";
    let daemon = Daemon::start(&(authority.block("guarded") + &key + broken)).await;
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    let said = daemon.until_state("broken", "misconfigured").await["reason"].to_string();
    assert!(said.contains("env.KEY: `sh`, which is run for its value, failed with status 3"), "{said}");
    assert!(!said.contains("canary"), "{said}");

    // The token was renewed behind our back: the first refusal has it looked up, and nobody is asked.
    renew("second-0123456789");
    take("second-0123456789");
    until("a call by the new token", async || {
        let result = echo(&daemon).await;
        (result["isError"] != true).then_some(())
    })
    .await;
    assert!(!daemon.home.log().contains("needs_auth"), "it was never given up");

    // Nothing newer is there: once is enough.
    take("third-0123456789");
    let refused = echo(&daemon).await;
    assert_eq!(refused["isError"], true);
    let reason = daemon.until_state("guarded", "needs_auth").await["reason"].to_string();
    assert!(reason.contains("bearer_token"), "{reason}");
    renew("third-0123456789");
    assert!(crate::signin::cli(&daemon, &["restart", "guarded"]).await.status.success());
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    let told = daemon.home.log() + &daemon.health().await.to_string();
    for secret in ["first-0123456789", "second-0123456789", "third-0123456789", "canary"] {
        assert!(!told.contains(secret), "{secret} was said");
    }
}
