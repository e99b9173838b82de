//! What is played on: one daemon, ten servers, and a fault proxy before each that is reached by TCP and not spared.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};

use crate::harness::PATIENCE;
use crate::harness::activator::Sockets;
use crate::harness::census;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::proxy::{Door, FaultProxy, Weather};

/// Short limits, so that whatever is lost is told within the harness's patience.
const LIMITS: &str = "\
    startup_timeout_sec = 5\n\
    limits = { read_timeout_sec = 5, list_timeout_sec = 5 }\n";

/// For how long after a kill somebody may still find a connection of the dead.
const AFTER_A_KILL: Duration = Duration::from_secs(1);

/// Name and options of the servers on pipes; the first is left alone.
const PIPES: [(&str, &[&str]); 4] = [
    ("calmpipe", &[]),
    ("pipe", &[]),
    ("pipenew", &["--revision", "2026-07-28"]),
    ("pipeold", &["--revision", "2024-11-05"]),
];

/// Name, mode and options of the servers on ports; the first is left alone.
const PORTS: [(&str, &str, &[&str]); 6] = [
    ("calmweb", "http", &[]),
    ("web", "http", &["--no-get"]),
    ("webstream", "http", &["--streams", "--resumable"]),
    ("webnew", "http", &["--revision", "2026-07-28"]),
    ("webdual", "http", &["--revision", "2026-07-28", "--dual"]),
    ("sse", "sse", &[]),
];

pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    pub(crate) servers: Vec<Server>,
    /// Held for writing while a server is not in the file, and for reading by whoever asks the daemon about one.
    pub(crate) all_there: RwLock<()>,
    /// The process of the server on pipes that is left alone.
    calm_pid: Mutex<Option<u32>>,
    sockets: Sockets,
    /// Until when what was asked could be lost with a daemon, for each that was killed.
    killed: Mutex<Vec<Instant>>,
}

pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Its part of the file, as it was at the start.
    block: String,
    pub(crate) desk: Desk,
    /// Whether nothing is done to it, so that nothing may go wrong.
    pub(crate) calm: bool,
    pub(crate) port: Option<Port>,
}

pub(crate) struct Port {
    pub(crate) proxy: FaultProxy,
    _fake: Fake,
}

impl Stage {
    pub(crate) async fn start() -> Stage {
        let home = Home::new();
        let mut servers = Vec::new();
        for (name, args) in PIPES {
            let (block, desk) = fake::stdio(&home, name, args);
            servers.push(Server { name, block: block + LIMITS, desk, calm: servers.is_empty(), port: None });
        }
        for (place, (name, mode, args)) in PORTS.into_iter().enumerate() {
            let fake = Fake::start(mode, name, args).await;
            let proxy = FaultProxy::before(&fake.address()).await;
            let block = fake.block().replace(&fake.url, &proxy.url(&fake.url)) + LIMITS;
            let desk = fake.desk();
            servers.push(Server { name, block, desk, calm: place == 0, port: Some(Port { proxy, _fake: fake }) });
        }
        let sockets = Sockets::make(&home);
        home.configure(&servers.iter().fold(head(&sockets), |text, server| text + &server.block(0, false)));
        let child = sockets.start(&home, &[]);
        // What connects before it is up waits in the queue of the socket.
        let daemon = Daemon::of(home, format!("http://127.0.0.1:{}/mcp", sockets.port()), child);
        let (all_there, calm_pid, killed) = (RwLock::default(), Mutex::default(), Mutex::default());
        let stage = Stage { daemon, servers, all_there, calm_pid, sockets, killed };
        stage.all_ready().await;
        stage.all_kept().await;
        stage.note_the_calm_one();
        stage
    }

    /// Waits until what each server offers is on disk: a daemon that is killed before could not know it.
    async fn all_kept(&self) {
        let offers = self.daemon.home.path("state/trunkline/offers");
        let started = Instant::now();
        while std::fs::read_dir(&offers).map_or(0, Iterator::count) < self.servers.len() {
            assert!(started.elapsed() < PATIENCE, "what servers offer is not in {}", offers.display());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the daemon, and waits until the next one serves what the calm servers have.
    pub(crate) async fn kill(&self) {
        let note = || self.killed.lock().expect("short").push(Instant::now() + AFTER_A_KILL);
        note();
        {
            let mut child = self.daemon.child();
            child.kill().expect("our child");
            child.wait().expect("our child");
            *child = self.sockets.start(&self.daemon.home, &[]);
        }
        note();
        let started = Instant::now();
        for server in self.servers.iter().filter(|server| server.calm) {
            while self.daemon.server(server.name).await["state"] != "ready" {
                assert!(started.elapsed() < PATIENCE, "{} is not back after the daemon was killed", server.name);
                sleep(Duration::from_millis(50)).await;
            }
        }
        self.note_the_calm_one();
    }

    /// Does what panics when its connection breaks. `None` if it did since a daemon was killed.
    pub(crate) async fn survive<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let begun = Instant::now();
        match tokio::spawn(work).await {
            Ok(done) => Some(done),
            Err(_) if self.was_killed_since(begun) => None,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Whether what began then may have been lost with a daemon.
    pub(crate) fn was_killed_since(&self, begun: Instant) -> bool {
        self.killed.lock().expect("short").iter().any(|until| begun < *until)
    }

    /// How many daemons were killed so far.
    pub(crate) fn kills(&self) -> usize {
        self.killed.lock().expect("short").len() / 2
    }

    fn note_the_calm_one(&self) {
        *self.calm_pid.lock().expect("short") = self.pid_of_the_calm_one();
    }

    /// The file with each server in its variant, but for one perhaps.
    pub(crate) fn file(&self, variants: &[(u32, bool)], without: Option<usize>) -> String {
        let servers = self.servers.iter().zip(variants).enumerate().filter(|(place, _)| without != Some(*place));
        servers
            .fold(head(&self.sockets), |text, (_, (server, (variant, other)))| text + &server.block(*variant, *other))
    }

    fn pid_of_the_calm_one(&self) -> Option<u32> {
        self.servers.iter().find(|server| server.calm)?.pid(&self.daemon.home.marker)
    }

    /// Ends all that goes wrong, and waits until every server is well.
    pub(crate) async fn calm(&self) {
        for server in &self.servers {
            server.heal().await;
        }
        for server in &self.servers {
            if self.daemon.server(server.name).await["state"] != "ready" {
                // A crash loop's wait, or that of what a person must mend, is longer than anybody's patience here.
                self.restart(server.name).await;
            }
        }
        self.all_ready().await;
    }

    /// What an operator does who mended something.
    pub(crate) async fn restart(&self, server: &'static str) {
        let mut command = self.daemon.home.command(["restart", server]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "restart {server}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn all_ready(&self) {
        let names: Vec<&str> = self.servers.iter().map(|server| server.name).collect();
        self.daemon.until_ready(&names).await;
    }

    /// Stops the daemon; what is wrong with how it went.
    pub(crate) async fn stop(self) -> Vec<String> {
        let mut complaints = Vec::new();
        let (pid, before) = (self.pid_of_the_calm_one(), *self.calm_pid.lock().expect("short"));
        if pid.is_none() || pid != before {
            complaints.push(format!("what no file changed has another process (R-36): {before:?}, now {pid:?}"));
        }
        let (status, home) = self.daemon.stop().await;
        if !status.success() {
            complaints.push(format!("the daemon ended with {status}"));
        }
        // The guards have their own time to see to what is left.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = census::marked(&home.marker);
        if !left.is_empty() {
            complaints.push(format!("still alive after the stop (R-30): {left:?}"));
        }
        let log = home.log();
        complaints.extend(log.lines().filter(|line| line.contains("panicked")).map(|line| format!("the log: {line}")));
        complaints
    }
}

/// The first lines of the file.
fn head(sockets: &Sockets) -> String {
    format!("[log]\nlevel = \"info\"\n[listen]\nport = {}\n", sockets.port())
}

impl Server {
    /// Its part of the file, where `variant` says how often it was changed such that it must be connected anew, and
    /// `other_limit` that a limit differs, which must cost it nothing.
    fn block(&self, variant: u32, other_limit: bool) -> String {
        let varied = match self.port {
            None => self.block.replace("TEST_MARK", &format!("VARIANT = \"{variant}\", TEST_MARK")),
            Some(_) => format!("{}http_headers = {{ X-Variant = \"{variant}\" }}\n", self.block),
        };
        format!("{varied}tool_timeout_sec = {}\n", if other_limit { 6 } else { 5 })
    }

    /// The process that runs as this server now, if it is one on pipes.
    pub(crate) fn pid(&self, marker: &str) -> Option<u32> {
        let pid = self.desk.lines("starts").last()?.parse().ok()?;
        census::marked(marker).contains_key(&pid).then_some(pid)
    }

    pub(crate) async fn heal(&self) {
        self.desk.heal();
        if let Some(port) = &self.port {
            port.proxy.set(&Weather::default());
            port.proxy.door(Door::Open).await;
        }
    }
}
