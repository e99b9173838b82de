//! A daemon that is killed while a token is being refreshed, at each step of that, and the one that follows it (S-30,
//! reliability 10). Several processes at once are `signin::renew::tests::processes`: only one daemon has a state directory.

use std::time::Duration;

use crate::harness::authority::{Authority, Manners};
use crate::harness::client::text_of;
use crate::harness::daemon::{Daemon, Home};
use crate::signin::{echo, hides_secrets, signed_in};

/// Longer than one refresh takes on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Signs in, and has the daemon killed at `step` of the refresh that a call brings about. The next daemon serves at the same
/// address.
async fn killed_at(step: &str, authority: &Authority) -> Daemon {
    let home = Home::new();
    home.configure(&authority.block("guarded"));
    let traced = [("TRUNKLINE_LOG__LEVEL", "trace")];
    let daemon = home.serve_with(&["--die-at", step], &traced).await;
    signed_in(authority, &daemon).await;
    let address = daemon.address().to_owned();
    let client = daemon.client().await;
    authority.expire();
    // The call goes with the daemon.
    let call = tokio::spawn(async move { client.call("guarded__echo", r#"{"message":"in"}"#).await });
    let (status, home) = daemon.ended(PATIENCE).await;
    let _ = call.await;
    assert!(status.code().is_none(), "{step}: {status}");
    home.serve_on(&["--listen", &address], &traced).await
}

#[tokio::test]
async fn s30_f66_a_kill_at_any_step_of_a_refresh_leaves_a_token_that_the_next_daemon_uses() {
    for (step, forgives) in
        [("marked", false), ("renamed", false), ("answered", true), ("written", true), ("synced", true)]
    {
        let authority = Authority::start(Manners { forgives, ..Manners::default() }).await;
        let daemon = killed_at(step, &authority).await;
        daemon.until_ready(&["guarded"]).await;
        assert_eq!(text_of(&echo(&daemon).await), "in", "{step}");
        authority.expire();
        assert_eq!(text_of(&echo(&daemon).await), "in", "{step}: and it is refreshed on");
        let state = authority.state();
        assert_eq!((state.replayed, state.refusals, state.complaints.len()), (false, 0, 0), "{step}");
        drop(state);
        hides_secrets(&authority, &daemon, &[]);
    }
}

#[tokio::test]
async fn s30_f66_a_token_that_went_with_the_process_is_asked_for_once_and_then_a_person_is() {
    let authority = Authority::start(Manners::default()).await;
    let daemon = killed_at("answered", &authority).await;
    let server = daemon.until_state("guarded", "needs_auth").await;
    assert!(server["reason"].as_str().expect("a reason").contains("`trunkline login guarded`"), "{server}");
    for _ in 0..3 {
        let refused = echo(&daemon).await;
        assert!(text_of(&refused).contains("`trunkline login guarded`"), "{refused}");
    }
    assert_eq!(authority.state().refusals, 1, "nobody hammers");
    let log = daemon.home.log();
    assert!(log.contains("the answer that held the next one was lost"), "the log gives the reason");
    // A person mends it.
    signed_in(&authority, &daemon).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    hides_secrets(&authority, &daemon, &[]);
}
