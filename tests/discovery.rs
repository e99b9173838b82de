//! How far a sign-in lets itself be led by what a server says of its authorization server (S-26), and the way it takes there.
//! Addresses are `signin::fetch::tests`.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::authority::{Authority, Hostile, Manners};
use crate::harness::daemon::Home;
use crate::signin::{Login, cli, serve, visit};

#[tokio::test]
async fn s26_f64_metadata_that_leads_away_or_on_and_on_or_is_too_large_or_of_another_leads_nowhere() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("set");
    let address = format!("http://{}/x", elsewhere.local_addr().expect("an address"));
    for (hostile, expected) in [
        (Hostile::Hops(4), "discovery refused: it is led on more than 3 times"),
        (Hostile::Elsewhere(address), "redirect"),
        (Hostile::Large(300 * 1024), "larger than 256 KiB"),
        (Hostile::OtherResource, "other.example"),
    ] {
        let authority = Authority::start(Manners { hostile: Some(hostile.clone()), ..Manners::default() }).await;
        let daemon = serve(&authority.block("guarded")).await;
        let out = cli(&daemon, &["login", "guarded", "--no-browser"]).await;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{hostile:?}: {said}");
        assert_eq!(authority.state().registrations, 0, "{hostile:?}");
    }
    let nobody = elsewhere.accept().expect_err("nobody comes there");
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn s26_metadata_within_the_bounds_is_found() {
    for hostile in [Hostile::Hops(3), Hostile::Large(200 * 1024)] {
        let authority = Authority::start(Manners { hostile: Some(hostile.clone()), ..Manners::default() }).await;
        let daemon = serve(&authority.block("guarded")).await;
        let login = Login::begin(&daemon, "guarded").await;
        assert_eq!(visit(&login.url).await.0, 200, "{hostile:?}");
        assert!(login.end().await.0, "{hostile:?}");
    }
}

/// R-43 is about servers; whoever signs in to one takes the same way.
#[tokio::test]
async fn r43_a_sign_in_goes_through_the_proxy_that_the_server_is_reached_through() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", proxy.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = proxy.accept().await {
            let mut head = [0; 4096];
            let read = socket.read(&mut head).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&head[..read]).into_owned();
            seen.lock().expect("sound").extend(text.lines().next().map(str::to_owned));
            let _ = socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let home = Home::new();
    // Nobody but the login dials it.
    home.configure("[mcp_servers.far]\nurl = \"https://mcp.example/mcp\"\nstart = \"lazy\"\n");
    let environment = [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", ""), ("no_proxy", "")];
    let daemon = home.serve_with(&[], &environment).await;
    assert_eq!(*asked.lock().expect("sound"), Vec::<String>::new());
    let out = cli(&daemon, &["login", "far", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("no sign-in to server `far`"), "{said}");
    let asked = asked.lock().expect("sound").clone();
    assert!(asked.iter().any(|line| line.starts_with("CONNECT mcp.example:443 ")), "{asked:?}: {said}");
}
