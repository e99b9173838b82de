//! The daemon under test: the built binary, a directory of its own, any free port.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::client::Client;
use super::{PATIENCE, census, http, until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_trunkline");

/// A directory with a configuration, and a marker that every process started for it carries.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    pub(crate) marker: String,
}

pub(crate) struct Daemon {
    pub(crate) home: Home,
    pub(crate) url: String,
    child: Mutex<Child>,
}

impl Home {
    pub(crate) fn new() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let marker = format!("mark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Home { directory: tempfile::tempdir().expect("a temporary directory"), marker }
    }

    /// A path inside this home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configure(&self, config: &str) {
        std::fs::create_dir_all(self.path("config/trunkline")).expect("the config can be written");
        std::fs::write(self.path("config/trunkline/config.toml"), config).expect("the config can be written");
    }

    /// The binary with this home's configuration and state, and nothing of the caller's environment that
    /// could steer it.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRUNKLINE_")) {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.path("state"));
        command.env("XDG_CONFIG_HOME", self.path("config"));
        command.env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    pub(crate) async fn serve(self) -> Daemon {
        self.serve_with(&[], &[]).await
    }

    /// Starts the daemon at an address that was its own before.
    pub(crate) async fn serve_at(self, address: &str) -> Daemon {
        self.serve_on(&["--listen", address], &[]).await
    }

    /// Starts the daemon where its configuration says.
    pub(crate) async fn serve_as_configured(self) -> Daemon {
        self.serve_on(&[], &[]).await
    }

    /// Starts the daemon and waits until it listens.
    pub(crate) async fn serve_with(self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        self.serve_on(&[&["--listen", "127.0.0.1:0"], args].concat(), environment).await
    }

    /// The same, with an address of the caller's.
    pub(crate) async fn serve_on(self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let ready = self.path("ready");
        let _ = std::fs::remove_file(&ready);
        let log = File::create(self.path("log")).expect("the log can be created");
        let mut command = self.command(["serve"]);
        command.args(args).envs(environment.iter().copied());
        command.env("TRUNKLINE_READY_FILE", &ready);
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the daemon starts");
        let url = until("the daemon's ready file", async || {
            if let Some(status) = child.try_wait().expect("our child") {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            std::fs::read_to_string(&ready).ok()
        })
        .await;
        Daemon::of(self, url.trim().to_owned(), child)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Daemon {
    /// A daemon with this configuration.
    pub(crate) async fn start(config: &str) -> Daemon {
        let home = Home::new();
        home.configure(config);
        home.serve().await
    }

    /// The one whose process this is.
    pub(crate) fn of(home: Home, url: String, child: Child) -> Daemon {
        Daemon { home, url, child: Mutex::new(child) }
    }

    /// Its process, in whose place another can be put.
    pub(crate) fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client session at the newest legacy revision.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url, "2025-11-25").await
    }

    /// `host:port` of the endpoint.
    pub(crate) fn address(&self) -> &str {
        http::authority(&self.url)
    }

    /// A GET of a page beside the endpoint; its status and text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let reply = http::get(self.address(), path).await;
        (reply.status, reply.text().await)
    }

    pub(crate) async fn health(&self) -> Value {
        let (status, text) = self.page("/health").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("/health is JSON")
    }

    /// What `/health` says of one server.
    pub(crate) async fn server(&self, name: &str) -> Value {
        let health = self.health().await;
        let servers = health["servers"].as_array().expect("/health lists servers");
        let server = servers.iter().find(|server| server["name"] == name);
        server.unwrap_or_else(|| panic!("no server {name} in {health}")).clone()
    }

    /// Waits until a server is in this state, and returns what `/health` says of it.
    pub(crate) async fn until_state(&self, name: &str, state: &str) -> Value {
        let started = tokio::time::Instant::now();
        until("a state", async || {
            let server = self.server(name).await;
            // A little before `until` loses patience: this says more.
            assert!(started.elapsed() < PATIENCE * 9 / 10, "{name} did not become {state}: {server:#}");
            (server["state"] == state).then_some(server)
        })
        .await
    }

    /// Waits until all these servers are ready, and what they offer is in the catalogue.
    pub(crate) async fn until_ready(&self, names: &[&str]) {
        for name in names {
            self.until_state(name, "ready").await;
            let label = format!("server=\"{name}\"");
            until("the catalogue", async || {
                (self.metric("trunkline_catalog_entries", &[&label, "kind=\"tools\""]).await > 0.0).then_some(())
            })
            .await;
        }
    }

    pub(crate) async fn metrics(&self) -> String {
        let (status, text) = self.page("/metrics").await;
        assert_eq!(status, 200);
        text
    }

    /// The sum of a series' values, over all lines whose labels contain every one of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Runs a command of the CLI against this daemon.
    pub(crate) fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.home.run(args)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child().id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        census::signal(self.pid(), signal);
    }

    /// TERM, and the wait for the end.
    pub(crate) async fn stop(self) -> (ExitStatus, Home) {
        self.signal(rustix::process::Signal::TERM);
        let status = until("the daemon to stop", async || self.child().try_wait().expect("our child")).await;
        (status, self.into_home())
    }

    /// KILL, so that it can do nothing for its children.
    pub(crate) fn kill(self) -> Home {
        self.child().kill().expect("our child");
        self.child().wait().expect("our child");
        self.into_home()
    }

    /// Waits until it has ended by itself, for as long as it takes.
    pub(crate) async fn ended(self, patience: std::time::Duration) -> (ExitStatus, Home) {
        let began = tokio::time::Instant::now();
        loop {
            let ended = self.child().try_wait().expect("our child");
            if let Some(status) = ended {
                return (status, self.into_home());
            }
            assert!(began.elapsed() < patience, "the daemon runs on");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child().try_wait().expect("our child").is_none()
    }

    pub(crate) fn show_log(home: &Home) {
        let log = home.log();
        let tail: Vec<&str> = log.lines().rev().take(200).collect();
        eprintln!("--- the daemon's log, newest first ---\n{}\n---", tail.join("\n"));
    }

    fn into_home(mut self) -> Home {
        std::mem::replace(&mut self.home, Home::new())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The guard processes see to the children.
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if std::thread::panicking() {
            Daemon::show_log(&self.home);
        }
    }
}

/// The directory of the sources.
pub(crate) fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
