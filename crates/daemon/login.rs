//! `trunkline login` and `trunkline logout`: a person signs in to a server, or out.
//!
//! The daemon finds out where to go and waits for the browser to come back; this only shows the address, and opens it. What
//! a server, through its authorization server, has us open is looked at here once more (S-28): an address of the web,
//! written anew, handed to the system's own opener as one argument and through no shell.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use trunkline_signin::Step;
use url::{Host, Url};

use crate::ask::{Printed, Socket, escaped, good, read};
use crate::exit::Failure;
use crate::lifecycle::Serve;
use crate::render;

/// How long finding the authorization server and registering there may take: a few requests of ten seconds each.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest address that is opened (S-28).
const URL_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
struct Begun {
    url: String,
}

#[derive(Deserialize)]
struct Given {
    url: String,
    whole: Option<String>,
    code: String,
    seconds: u64,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Deserialize)]
struct Gone {
    was_signed_in: bool,
    revoked: bool,
}

/// Signs in.
pub(crate) async fn login(socket: &Socket<'_>, server: &str, browser: bool) -> Result<Printed, Failure> {
    let path = format!("/api/v1/servers/{}/login", escaped(server));
    let begun = tokio::time::timeout(BEGIN_TIMEOUT, socket.post(&path, Bytes::new())).await.unwrap_or_else(|_| {
        let seconds = BEGIN_TIMEOUT.as_secs();
        Err(Failure::failed(format!("the authorization server was not reached within {seconds} s")))
    })?;
    let begun: Begun = read(&begun)?;
    let name = render::field(server);
    let url = openable(&begun.url).map_err(|why| {
        let shown = render::field(&begun.url);
        Failure::failed(format!("the address to sign in to {name} at is not opened, since it {why}: {shown}"))
    })?;
    let opened = browser && open(&url);
    let what = if opened { "Your browser opens" } else { "Open this address in a browser on this machine" };
    let host = url.host_str().unwrap_or_default();
    let elsewhere = if opened {
        String::new()
    } else {
        // The way back leads to this machine's own loopback address.
        format!("\n\nIf your browser is on another machine: stop this, and run `trunkline login {name} --device`.")
    };
    render::print(&format!(
        "{what} to sign in to {name}, at {host}:\n\n    {url}{elsewhere}\n\nWaiting for you to come back…"
    ));
    waited(socket, &path, &name).await
}

/// Signs in by a code that is entered on another device.
pub(crate) async fn login_by_device(socket: &Socket<'_>, server: &str) -> Result<Printed, Failure> {
    let path = format!("/api/v1/servers/{}/login", escaped(server));
    let given = tokio::time::timeout(BEGIN_TIMEOUT, socket.post(&format!("{path}/device"), Bytes::new())).await;
    let given = given.unwrap_or_else(|_| {
        let seconds = BEGIN_TIMEOUT.as_secs();
        Err(Failure::failed(format!("the authorization server was not reached within {seconds} s")))
    })?;
    let given: Given = read(&given)?;
    let name = render::field(server);
    let shown = |text: &str| {
        openable(text)
            .map_err(|why| Failure::failed(format!("the address to sign in to {name} at is not shown, since it {why}")))
    };
    let url = shown(&given.url)?;
    let whole = match given.whole.as_deref().map(shown).transpose()? {
        Some(whole) => format!("\n\nor open this one, and look whether it shows the same code:\n\n    {whole}"),
        None => String::new(),
    };
    render::print(&format!(
        "To sign in to {name}, open this address on any device:\n\n    {url}\n\nand enter this code, good for {} minutes:\n\n    \
         {}{whole}\n\nWaiting for you to enter it…",
        given.seconds.div_ceil(60),
        render::field(&given.code),
    ));
    waited(socket, &path, &name).await
}

/// Waits for the end of a login that a person was told of.
async fn waited(socket: &Socket<'_>, path: &str, name: &str) -> Result<Printed, Failure> {
    let ended: Ended = read(&socket.post(&format!("{path}/wait"), Bytes::new()).await?)?;
    let scopes = ended.scopes.join(" ");
    let granted = if scopes.is_empty() { String::new() } else { format!(", for {}", render::field(&scopes)) };
    Ok(good(format!("signed in to {name}{granted}; `trunkline status` shows how it goes on")))
}

/// Signs out.
pub(crate) async fn logout(socket: &Socket<'_>, server: &str) -> Result<Printed, Failure> {
    let path = format!("/api/v1/servers/{}/logout", escaped(server));
    let gone = tokio::time::timeout(BEGIN_TIMEOUT, socket.post(&path, Bytes::new())).await;
    let gone =
        gone.unwrap_or_else(|_| Err(Failure::failed("the daemon did not answer; its log may say why".to_owned())))?;
    let name = render::field(server);
    let gone: Gone = read(&gone)?;
    Ok(good(match gone {
        Gone { was_signed_in: false, .. } => format!("nobody was signed in to {name}"),
        Gone { revoked: true, .. } => format!("signed out of {name}; the tokens are revoked"),
        Gone { revoked: false, .. } => format!(
            "signed out of {name}: the tokens are forgotten here. They were not revoked, since the authorization server \
             offers no such thing or did not answer"
        ),
    }))
}

/// The address if it may be opened, or what speaks against it.
fn openable(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err("names no host"),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err("is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("hides its host behind a user name");
    }
    if url.as_str().len() > URL_BYTES_MAX {
        return Err("is longer than 4 KiB");
    }
    Ok(url)
}

/// Asks the system to open an address; whether it took it.
fn open(url: &Url) -> bool {
    let Some(program) = opener() else { return false };
    let mut command = Command::new(program);
    command.arg(url.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().as_ref().is_ok_and(ExitStatus::success)
}

#[cfg(target_os = "macos")]
fn opener() -> Option<&'static str> {
    Some("open")
}

/// Without a display there is no browser that could be opened.
#[cfg(not(target_os = "macos"))]
fn opener() -> Option<&'static str> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")).then_some("xdg-open")
}

/// The step of a refresh with this name.
#[cfg(debug_assertions)]
pub(crate) fn step(name: &str) -> Result<Step, String> {
    let found = Step::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, step)| step).ok_or_else(|| format!("the steps are {:?}", Step::ALL.map(|(known, _)| known)))
}

/// Ends the process as `kill -9` does if a refresh has come as far as it may (F-66).
#[cfg(debug_assertions)]
pub(crate) fn refresh_watch(serve: &Serve) -> impl Fn(Step) + Send + Sync + 'static {
    let last = serve.die_at;
    move |reached| {
        if last == Some(reached) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

/// Only tests look how far a refresh has come.
#[cfg(not(debug_assertions))]
pub(crate) fn refresh_watch(_: &Serve) -> impl Fn(Step) + Send + Sync + 'static {
    |_| {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_only_addresses_of_the_web_are_opened_and_written_anew() {
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://as.example/authorize",
            "-version",
            "--help",
            "ms-msdt:/id",
            "https://real.example@evil.example/",
            "https://",
            "",
        ] {
            openable(bad).expect_err(bad);
        }
        openable(&format!("https://as.example/{}", "a".repeat(5000))).expect_err("too long");
        let rewritten = openable("https://as.example/a b?x=$(id)`id`\"'\n&y=1").expect("an address");
        assert!(!rewritten.as_str().contains([' ', '"', '\n']), "{rewritten}");
        openable("http://127.0.0.1:8080/authorize").expect("on this machine");
        openable("http://localhost:8080/authorize").expect("on this machine");
    }
}
