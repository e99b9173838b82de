//! The commands that question the running daemon: `status`, `tools`, `call`, `logs`, `explain`, `reload`,
//! `restart`, and, in `login.rs`, `login` and `logout`.
//!
//! They speak HTTP/1 over the owner's unix socket in the state directory, which only the owner can open; the paths are
//! those of edge's `api.rs`. One command is one request on one connection. How an answer looks is `render`'s.
//!
//! A question is answered within seconds or the daemon is stuck; a call takes as long as its tool does. The daemon bounds
//! that (R-7), and if it ends, so does the connection.

use std::future::Future;
use std::io::{ErrorKind, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use trunkline_wire::{Json, Malformed, Object};

use crate::cli::Ask;
use crate::exit::{self, Failure};
use crate::state::Report;
use crate::{login, pins, render, tokens};

/// How long the daemon has for an answer that waits for no server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a status that is watched is asked for.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Largest answer that is read: four of the largest messages a server can send by default.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &str = "trunkline.sock";

/// Asks the daemon and prints its answer.
pub(crate) fn run(ask: &Ask, state_dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let path = state_dir.join(SOCKET);
            let socket = Socket { path: &path };
            if let Ask::Status { watch: true, .. } = ask {
                return exit::report(runtime.block_on(watch(ask, &socket)));
            }
            runtime.block_on(answer(ask, &socket))
        }
        Err(error) => Err(Failure::failed(format!("no runtime: {error}"))),
    };
    match outcome {
        Ok(Printed { text, well }) => exit::printed(&text, well),
        Err(failure) => exit::report(Err(failure)),
    }
}

/// Where the running daemon listens, by its own account; `None` if none answers.
pub(crate) async fn address(state_dir: &Path) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Listens {
        listen: Vec<String>,
    }
    let path = state_dir.join(SOCKET);
    let body = soon(Socket { path: &path }.get("/api/v1/state")).await.ok()?;
    let listens: Listens = read(&body).ok()?;
    let addresses = listens.listen.iter().filter_map(|url| {
        let url = url::Url::parse(url).ok()?;
        let host: IpAddr = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(host, url.port_or_known_default()?))
    });
    let addresses: Vec<SocketAddr> = addresses.collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

/// What to print, and whether it is good news.
#[derive(Debug, PartialEq)]
pub(crate) struct Printed {
    pub(crate) text: String,
    pub(crate) well: bool,
}

pub(crate) fn good(text: String) -> Printed {
    Printed { text, well: true }
}

/// Shows the same answer again and again, until somebody has seen enough. A daemon that is away may come back, so its
/// absence is shown as well. It ends where it cannot be shown.
async fn watch(ask: &Ask, socket: &Socket<'_>) -> Result<(), Failure> {
    // On a terminal each is written over the last one, line by line, since one that is emptied first flickers; elsewhere they
    // follow each other.
    let over = std::io::stdout().is_terminal();
    if over {
        render::print("\x1b[2J");
    }
    let mut enough = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let text = match answer(ask, socket).await {
            Ok(printed) => printed.text,
            Err(failure) => failure.to_string(),
        };
        let text = if over { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        if let Err(error) = render::put(&text) {
            return exit::unwritten(Err(error));
        }
        tokio::select! {
            biased;
            _ = &mut enough => std::process::exit(0),
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
    }
}

async fn answer(ask: &Ask, socket: &Socket<'_>) -> Result<Printed, Failure> {
    match ask {
        Ask::Status { json, watch: _ } => {
            let body = soon(socket.get("/api/v1/state")).await?;
            let report: Report = read(&body)?;
            let text = if *json { raw(&body) } else { render::status(&report) };
            Ok(Printed { text, well: report.is_well() })
        }
        Ask::Tools { server, find, profile, tokens, json } => {
            let also = tokens.then(|| "also".to_owned());
            let asked = [("server", server), ("find", find), ("profile", profile), ("search", &also)];
            let asked = asked.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(value.as_deref()?))));
            let target = format!("/api/v1/tools?{}", asked.collect::<Vec<_>>().join("&"));
            let body = soon(socket.get(&target)).await?;
            if *tokens {
                return tokens::answer(&body, server.as_deref(), *json).await;
            }
            let list: Tools = read(&body)?;
            Ok(good(if *json { raw(&body) } else { render::tools(&list.tools) }))
        }
        Ask::Logs { server } => {
            let body = soon(socket.get(&format!("/api/v1/logs{}", of_server(server.as_deref())))).await?;
            let list: Logs = read(&body)?;
            Ok(good(render::logs(&list.servers)))
        }
        Ask::Explain { server, client, json } => {
            let client = client.as_deref().map(|client| format!("&client={}", escaped(client))).unwrap_or_default();
            let body = soon(socket.get(&format!("/api/v1/explain{}{client}", of_server(Some(server))))).await?;
            let report: render::Explained = read(&body)?;
            Ok(good(if *json { raw(&body) } else { render::explained(&report) }))
        }
        Ask::Reload => {
            let body = soon(socket.post("/api/v1/reload", Bytes::new())).await?;
            reloaded(&read(&body)?)
        }
        Ask::Restart { server } => {
            soon(socket.post(&format!("/api/v1/servers/{}/restart", escaped(server)), Bytes::new())).await?;
            Ok(good(format!("{} is restarting; `trunkline status` shows how it goes", render::field(server))))
        }
        Ask::Pins(asked) => pins::answer(socket, asked).await,
        Ask::Login { server, device: true, .. } => login::login_by_device(socket, server).await,
        Ask::Login { server, no_browser, .. } => login::login(socket, server, !no_browser).await,
        Ask::Logout { server } => login::logout(socket, server).await,
        Ask::Call { name, arguments, json } => {
            let body = socket.post("/api/v1/call", call_body(name, arguments)?).await?;
            called(&body, *json)
        }
    }
}

#[derive(Deserialize)]
struct Tools {
    #[serde(default)]
    tools: Vec<render::Tool>,
}

#[derive(Deserialize)]
struct Logs {
    #[serde(default)]
    servers: Vec<render::Log>,
}

/// What a reload changed, or why it changed nothing.
fn reloaded(reloaded: &trunkline_edge::Reloaded) -> Result<Printed, Failure> {
    match &reloaded.error {
        None => Ok(good(render::reloaded(reloaded))),
        Some(error) => {
            let text = format!("nothing was changed:\n{}", render::safe(error));
            Err(if reloaded.invalid { Failure::config(text) } else { Failure::failed(text) })
        }
    }
}

/// The arguments go as they were typed: a number of many digits keeps them all.
fn call_body(name: &str, arguments: &str) -> Result<Bytes, Failure> {
    let arguments = Json::parse(arguments.to_owned()).ok().filter(Json::is_object).ok_or_else(|| {
        Failure::usage("the arguments must be a JSON object, for example '{\"path\": \"/tmp\"}'".to_owned())
    })?;
    let body: Object = [("name", Json::from(name)), ("arguments", arguments)].into_iter().collect();
    Ok(body.to_json().into_bytes())
}

/// A tool's result, as text where it is nothing but text; or the error in its place.
fn called(body: &Bytes, json: bool) -> Result<Printed, Failure> {
    let unreadable = |error: Malformed| Failure::failed(format!("the daemon's answer is not understood ({error})"));
    let answer = Json::parse(body.clone()).and_then(|answer| Object::parse(&answer)).map_err(unreadable)?;
    let Some(result) = answer.get("result") else {
        return Err(Failure::failed(refusal(StatusCode::OK, body)));
    };
    // Printed from the server's own text, so that numbers and the order of keys stay as they are.
    let value: Value = read(result.bytes())?;
    let well = value.get("isError").and_then(Value::as_bool) != Some(true);
    let text = if json { None } else { render::result_text(&value) };
    Ok(Printed { text: text.unwrap_or_else(|| raw(result.bytes())), well })
}

/// JSON as the daemon wrote it, harmless to a terminal.
pub(crate) fn raw(body: &Bytes) -> String {
    render::safe_json(&String::from_utf8_lossy(body))
}

pub(crate) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::failed(format!("the daemon's answer is not understood ({error}); is it of another version?"))
    })
}

pub(crate) async fn soon<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| {
        let seconds = ANSWER_TIMEOUT.as_secs();
        Err(Failure::failed(format!("the daemon did not answer within {seconds} s; its log may say why")))
    })
}

pub(crate) fn of_server(server: Option<&str>) -> String {
    server.map(|server| format!("?server={}", escaped(server))).unwrap_or_default()
}

/// A name as part of a URL.
pub(crate) fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The owner's socket of the daemon.
pub(crate) struct Socket<'a> {
    pub(crate) path: &'a Path,
}

impl Socket<'_> {
    pub(crate) async fn get(&self, target: &str) -> Result<Bytes, Failure> {
        self.request(Method::GET, target, Bytes::new()).await
    }

    pub(crate) async fn post(&self, target: &str, body: Bytes) -> Result<Bytes, Failure> {
        self.request(Method::POST, target, body).await
    }

    /// One request; the body of its answer, if that is a good one.
    async fn request(&self, method: Method, target: &str, body: Bytes) -> Result<Bytes, Failure> {
        let stream = UnixStream::connect(self.path).await.map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| Failure::failed(format!("the daemon broke off: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(http::header::HOST, "localhost")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::failed(format!("no request can be made of this: {error}")))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Failure::failed(format!("the daemon's answer broke off: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        // The connection does the reading and writing while the exchange waits for it. It may end first, with the
        // answer already read.
        tokio::pin!(exchange);
        let (status, body) = tokio::select! {
            biased;
            exchanged = &mut exchange => exchanged?,
            _ = connection => exchange.await?,
        };
        if status.is_success() { Ok(body) } else { Err(Failure::failed(refusal(status, &body))) }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let path = render::field(&self.path.display().to_string());
        // The socket's file outlives a daemon that was killed: then nobody accepts.
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return Failure::failed(format!(
                "no daemon is running: nothing answers at {path}\nstart one with `trunkline serve`"
            ));
        }
        Failure::failed(format!("the daemon's socket {path} cannot be opened: {error}"))
    }
}

/// Why the daemon said no: its own sentence, or that of a JSON-RPC error.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    let text = error.as_str().or_else(|| error["message"].as_str());
    text.map_or_else(|| format!("the daemon answered {status}"), render::safe)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Asks a daemon that gives one answer, and returns the head of what it was asked, too.
    async fn asked(ask: Ask, status: &str, body: &str) -> (Result<Printed, Failure>, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(SOCKET);
        let listener = UnixListener::bind(&path).expect("bound");
        let answering = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.expect("read");
            let length = body.len();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.expect("written");
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let socket = Socket { path: &path };
        tokio::join!(answer(&ask, &socket), answering)
    }

    fn call(arguments: &str) -> Ask {
        Ask::Call { name: "memory__add".to_owned(), arguments: arguments.to_owned(), json: false }
    }

    #[tokio::test]
    async fn without_a_daemon_the_answer_says_how_to_start_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(SOCKET);
        let ask = Ask::Status { json: false, watch: false };
        let never = answer(&ask, &Socket { path: &path }).await.expect_err("nobody there").to_string();
        assert_snapshot!(never.replace(&dir.path().display().to_string(), "…"), @r"
        no daemon is running: nothing answers at …/trunkline.sock
        start one with `trunkline serve`
        ");
        // One that was killed leaves its socket's file behind.
        drop(UnixListener::bind(&path).expect("bound"));
        let killed = answer(&ask, &Socket { path: &path }).await.expect_err("nobody there").to_string();
        assert_eq!(killed, never);
    }

    #[tokio::test]
    async fn a_call_carries_its_arguments_as_typed_and_prints_its_text() {
        let body = r#"{"result":{"content":[{"type":"text","text":"done"}]}}"#;
        let (printed, request) = asked(call(r#"{"n": 12345678901234567890}"#), "200 OK", body).await;
        assert_eq!(printed.expect("printed"), good("done".to_owned()));
        assert!(request.starts_with("POST /api/v1/call HTTP/1.1"), "{request}");
        assert!(request.ends_with(r#"{"name":"memory__add","arguments":{"n": 12345678901234567890}}"#), "{request}");
    }

    #[tokio::test]
    async fn a_tools_own_error_and_a_refusal_both_fail() {
        let body = r#"{"result":{"content":[{"type":"text","text":"no such file"}],"isError":true}}"#;
        let (printed, _) = asked(call("{}"), "200 OK", body).await;
        assert_eq!(printed.expect("printed"), Printed { text: "no such file".to_owned(), well: false });
        let body = r#"{"error":{"code":-32602,"message":"unknown tool"}}"#;
        let (printed, _) = asked(call("{}"), "200 OK", body).await;
        assert_eq!(printed.expect_err("refused").to_string(), "unknown tool");
        let (printed, _) = asked(call("{}"), "503 Service Unavailable", "").await;
        assert_eq!(printed.expect_err("refused").to_string(), "the daemon answered 503 Service Unavailable");
    }

    #[tokio::test]
    async fn a_result_that_is_more_than_text_is_printed_as_the_server_wrote_it() {
        let body = r#"{"result":{"z":1.50,"content":[],"a":12345678901234567890}}"#;
        let (printed, _) = asked(call("{}"), "200 OK", body).await;
        assert_eq!(printed.expect("printed").text, r#"{"z":1.50,"content":[],"a":12345678901234567890}"#);
    }

    #[test]
    fn arguments_must_be_an_object() {
        for arguments in ["", "[]", "path=/tmp", "{\"a\":1"] {
            call_body("t", arguments).expect_err("refused");
        }
    }

    #[tokio::test]
    async fn a_server_is_named_in_the_path_whatever_it_is_called() {
        let (printed, request) = asked(Ask::Restart { server: "my server/é".to_owned() }, "200 OK", "{}").await;
        assert!(printed.expect("printed").well);
        assert!(request.starts_with("POST /api/v1/servers/my%20server%2F%C3%A9/restart HTTP/1.1"), "{request}");
        let body = r#"{"error":"there is no server of this name; configured are: a"}"#;
        let (printed, request) = asked(Ask::Logs { server: Some("b".to_owned()) }, "404 Not Found", body).await;
        assert!(request.starts_with("GET /api/v1/logs?server=b HTTP/1.1"), "{request}");
        assert_eq!(printed.expect_err("refused").to_string(), "there is no server of this name; configured are: a");
    }

    #[tokio::test]
    async fn an_explanation_is_asked_for_by_server_and_client() {
        let ask = Ask::Explain { server: "a b".to_owned(), client: Some("c&d".to_owned()), json: false };
        let body = r#"{"server":"a b","state":"ready","revision":"2025-11-25","clients":[]}"#;
        let (printed, request) = asked(ask, "200 OK", body).await;
        assert!(request.starts_with("GET /api/v1/explain?server=a%20b&client=c%26d HTTP/1.1"), "{request}");
        assert!(printed.expect("printed").text.contains("no client was seen yet"));
    }

    #[tokio::test]
    async fn r36_a_reload_says_what_changed_or_why_nothing_did() {
        let body = r#"{"changed":["linear: added","old: removed"],"after_restart":["log.format"],"warnings":["w"]}"#;
        let (printed, request) = asked(Ask::Reload, "200 OK", body).await;
        assert!(request.starts_with("POST /api/v1/reload HTTP/1.1"), "{request}");
        assert_snapshot!(printed.expect("printed").text, @r"
        linear: added
        old: removed
        log.format: holds from the next start of the daemon on
        warning: w
        ");
        let (printed, _) = asked(Ask::Reload, "200 OK", r#"{"changed":[]}"#).await;
        assert_eq!(printed.expect("printed").text, "nothing changed\n");
        let body = r#"{"error":"config.toml:3: mcp_servers.a.url: is no URL","invalid":true}"#;
        let (printed, _) = asked(Ask::Reload, "200 OK", body).await;
        assert_snapshot!(printed.expect_err("refused").to_string(), @r"
        nothing was changed:
        config.toml:3: mcp_servers.a.url: is no URL
        ");
    }

    #[tokio::test]
    async fn status_fails_when_a_server_is_not_ready() {
        let body = r#"{"status":"ok","servers":[{"name":"a","state":"backoff"}]}"#;
        let (printed, _) = asked(Ask::Status { json: true, watch: false }, "200 OK", body).await;
        assert_eq!(printed.expect("printed"), Printed { text: body.to_owned(), well: false });
    }
}
