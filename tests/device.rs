//! Signing in on a machine without a browser: a code that is entered elsewhere (RFC 8628).

use crate::harness::authority::{Authority, Manners};
use crate::harness::client::text_of;
use crate::signin::{cli, echo, hides_secrets, serve};

#[tokio::test]
async fn s27_a_code_that_is_entered_on_another_device_signs_in_and_names_the_resource() {
    let authority = Authority::start(Manners { gives_codes: Some(1), ..Manners::default() }).await;
    let daemon = serve(&authority.block("guarded")).await;
    daemon.until_state("guarded", "needs_auth").await;
    let out = cli(&daemon, &["login", "guarded", "--device"]).await;
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    for part in ["/activate", "WDJB-MJHT", "good for 5 minutes", "signed in to guarded, for read write"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    daemon.until_ready(&["guarded"]).await;
    assert_eq!(text_of(&echo(&daemon).await), "in");
    authority.expire();
    assert_eq!(text_of(&echo(&daemon).await), "in", "it is refreshed as any other");
    assert_eq!(authority.state().complaints, Vec::<String>::new());
    hides_secrets(&authority, &daemon, &[&said]);
}

#[tokio::test]
async fn a_code_that_is_declined_or_not_offered_is_told_plainly() {
    for (manners, expected) in [
        (Manners { gives_codes: Some(0), denies: true, ..Manners::default() }, "declined there (access_denied)"),
        (Manners::default(), "`device_authorization_endpoint`"),
    ] {
        let authority = Authority::start(manners).await;
        let daemon = serve(&authority.block("guarded")).await;
        let out = cli(&daemon, &["login", "guarded", "--device"]).await;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{said}");
    }
}
