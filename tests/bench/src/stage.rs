//! The processes of a measurement: started for it, ended with it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hyper::body::Bytes;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::Options;
use crate::load::{Client, Failure};
use crate::turns::Middle;

/// How long a process may take to be ready before the bench gives up.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A child that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ready_address(path: &Path) -> Result<SocketAddr, Failure> {
    let start = Instant::now();
    while start.elapsed() < READY_WITHIN {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Some(address) = text.trim().strip_prefix("http://").and_then(|rest| rest.split('/').next())
        {
            return Ok(address.parse()?);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("not ready: {}", path.display()).into())
}

/// The fast upstream over one of the HTTP transports.
pub(crate) struct Upstream {
    _process: Process,
    url: String,
    transport: &'static str,
}

impl Upstream {
    pub(crate) fn http(options: &Options, name: &str, tools: usize) -> Result<Self, Failure> {
        Self::start(options, "http", name, tools, "2025-11-25")
    }

    /// One that speaks 2026-07-28.
    pub(crate) fn modern(options: &Options, name: &str) -> Result<Self, Failure> {
        Self::start(options, "http", name, 0, "2026-07-28")
    }

    pub(crate) fn sse(options: &Options, name: &str) -> Result<Self, Failure> {
        Self::start(options, "sse", name, 0, "2025-11-25")
    }

    fn start(
        options: &Options,
        transport: &'static str,
        name: &str,
        tools: usize,
        revision: &str,
    ) -> Result<Self, Failure> {
        let dir = TempDir::new()?;
        let ready = dir.path().join("ready");
        let process = Command::new(&options.upstream)
            .args([transport, "--name", name, "--tools", &tools.to_string(), "--revision", revision, "--ready-file"])
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let process = Process(process);
        ready_address(&ready)?;
        let url = std::fs::read_to_string(&ready)?.trim().to_owned();
        Ok(Self { _process: process, url, transport })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        let rest = self.url.trim_start_matches("http://");
        Ok(rest.split('/').next().unwrap_or(rest).parse()?)
    }

    /// The block of a configuration that attaches this server.
    pub(crate) fn config(&self, name: &str) -> String {
        format!("[mcp_servers.{name}]\nurl = \"{}\"\ntransport = \"{}\"\n", self.url, self.transport)
    }
}

/// The block of a configuration that attaches the fast upstream as a child.
pub(crate) fn stdio(options: &Options, name: &str, tools: usize) -> String {
    let command = std::path::absolute(&options.upstream).unwrap_or_else(|_| options.upstream.clone());
    let args = format!(r#"["stdio", "--name", "{name}", "--tools", "{tools}"]"#);
    format!("[mcp_servers.{name}]\ncommand = {:?}\nargs = {args}\n", command.display().to_string())
}

/// The same, with a directory by which it can be put to sleep.
pub(crate) fn sleeper(options: &Options, name: &str, tools: usize, desk: &Path) -> String {
    stdio(options, name, tools).replacen(r#"["stdio""#, &format!(r#"["stdio", "--desk", "{}""#, desk.display()), 1)
}

/// The bare proxy.
pub(crate) struct Proxy {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--proxy-to", &target.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().expect("the standard output is piped");
        let process = Process(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// What the hidden mode does: says where it listens, then forwards.
pub(crate) async fn be_proxy(target: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    crate::proxy::serve(listener, target).await
}

/// The daemon with a configuration of its own.
pub(crate) struct Daemon {
    process: Process,
    pub(crate) address: SocketAddr,
    /// From exec to the listener, in milliseconds (R-1).
    pub(crate) listening_ms: f64,
    /// From exec to the first list that has every server's tools, in milliseconds.
    pub(crate) ready_ms: f64,
    dir: TempDir,
}

impl Daemon {
    pub(crate) async fn start(options: &Options, servers: &[&str]) -> Result<Self, Failure> {
        Self::again(options, servers, TempDir::new()?).await
    }

    /// Starts it where another one may have run before.
    pub(crate) async fn again(options: &Options, servers: &[&str], dir: TempDir) -> Result<Self, Failure> {
        Self::exec(&options.trunkline, servers, dir).await
    }

    async fn exec(binary: &Path, servers: &[&str], dir: TempDir) -> Result<Self, Failure> {
        let config = dir.path().join("config.toml");
        std::fs::write(&config, servers.join("\n"))?;
        let ready = dir.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let start = Instant::now();
        let process = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .env("TRUNKLINE_READY_FILE", &ready)
            .env("XDG_STATE_HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log"))?)
            .spawn()?;
        let process = Process(process);
        let address = ready_address(&ready)?;
        let listening_ms = start.elapsed().as_secs_f64() * 1000.0;
        let mut client = Client::open(address).await?;
        let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
        loop {
            let (_, list) = client.post(body.clone()).await?;
            let list = String::from_utf8_lossy(&list);
            let complete = servers.iter().all(|block| list.contains(&format!("\"{}__echo\"", name_of(block))));
            if complete {
                break;
            }
            if start.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                return Err(format!("the list stays incomplete; the daemon says:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ready_ms = start.elapsed().as_secs_f64() * 1000.0;
        crate::process::forget_peak(process.0.id());
        Ok(Self { process, address, listening_ms, ready_ms, dir })
    }

    pub(crate) fn middle(&self) -> Middle {
        Middle { address: self.address, pid: self.pid() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Waits until it has kept the catalogue of this many servers, and kills it.
    pub(crate) async fn kill(self, servers: usize) -> Result<TempDir, Failure> {
        let offers = self.dir.path().join("trunkline/offers");
        let start = Instant::now();
        let kept = || std::fs::read_dir(&offers).map_or(0, Iterator::count);
        while kept() < servers {
            if start.elapsed() > READY_WITHIN {
                return Err("the catalogue is not kept".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last one may be half written.
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(self.process);
        Ok(self.dir)
    }
}

/// The daemon, and beside it an older one with the same servers, if one is named.
pub(crate) struct Both {
    pub(crate) daemon: Daemon,
    pub(crate) rival: Option<Daemon>,
}

impl Both {
    pub(crate) async fn start(options: &Options, servers: &[&str]) -> Result<Self, Failure> {
        let rival = match &options.against {
            Some(binary) => Some(Daemon::exec(binary, servers, TempDir::new()?).await?),
            None => None,
        };
        Ok(Self { daemon: Daemon::start(options, servers).await?, rival })
    }
}

fn name_of(block: &str) -> &str {
    let rest = block.strip_prefix("[mcp_servers.").unwrap_or(block);
    rest.split(']').next().unwrap_or(rest)
}
