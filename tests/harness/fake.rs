//! The scriptable server of `tests/servers/fake_upstream.rs`, as a block of configuration or as a process.

use std::path::{Path, PathBuf};

use super::daemon::{BINARY, Daemon, Home};
use super::parts::Process;
use super::{array, quoted};

/// The built example, found beside the binary under test.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(BINARY).with_file_name("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

/// What a fake shares with the test: what it received, what it did, what it shall do wrong.
pub(crate) struct Desk(PathBuf);

impl Desk {
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The requests that came in, as JSON: `verb`, `body`, and over HTTP `path` and `headers`.
    pub(crate) fn received(&self) -> Vec<serde_json::Value> {
        self.lines("received").iter().map(|line| super::client::json(line)).collect()
    }

    /// Makes the fault hold from now on.
    pub(crate) fn fail(&self, fault: &str) {
        std::fs::create_dir_all(&self.0).expect("a desk");
        std::fs::write(self.0.join("fault"), fault).expect("a desk");
    }

    /// Ends the fault that `fail` began, if there is one.
    pub(crate) fn heal(&self) {
        let _ = std::fs::remove_file(self.0.join("fault"));
    }

    /// The HTTP server forgets all sessions before the next POST.
    pub(crate) fn forget_sessions(&self) {
        std::fs::write(self.0.join("forget"), "").expect("a desk");
    }
}

/// A stdio fake for this home's configuration: the TOML block, and its desk.
pub(crate) fn stdio(home: &Home, name: &str, args: &[&str]) -> (String, Desk) {
    let desk = home.path(&format!("desk-{name}"));
    let mut all = vec!["stdio", "--name", name, "--desk"];
    let desk_text = desk.to_str().expect("a UTF-8 path").to_owned();
    all.push(&desk_text);
    all.extend(args);
    let block = format!(
        "[mcp_servers.{name}]\ncommand = {}\nargs = {}\nenv = {{ TEST_MARK = {:?} }}\n",
        quoted(program("fake-upstream")),
        array(&all),
        home.marker,
    );
    (block, Desk(desk))
}

/// A daemon with one such fake, `one`, which is ready.
pub(crate) async fn one() -> Daemon {
    let home = Home::new();
    let (block, _) = stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    daemon
}

/// A fake on a port of its own.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) desk: Desk,
    name: String,
    pub(crate) process: Process,
}

impl Fake {
    /// `mode` is `http` or `sse`.
    pub(crate) async fn start(mode: &str, name: &str, args: &[&str]) -> Fake {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ready = directory.path().join("ready");
        let desk = directory.path().join("desk");
        let mut command = std::process::Command::new(program("fake-upstream"));
        command.arg(mode).args(["--name", name, "--desk"]).arg(&desk).arg("--ready-file").arg(&ready).args(args);
        let (process, url) = Process::start_until_ready(command, &ready, directory).await;
        Fake { url, desk: Desk(desk), name: name.to_owned(), process }
    }

    /// Its block of configuration; `transport` is left to be found out.
    pub(crate) fn block(&self) -> String {
        format!("[mcp_servers.{}]\nurl = {:?}\n", self.name, self.url)
    }

    /// The desk, for those who keep the fake elsewhere.
    pub(crate) fn desk(&self) -> Desk {
        Desk(self.desk.0.clone())
    }

    /// `host:port`, for starting another one in its place.
    pub(crate) fn address(&self) -> String {
        super::http::authority(&self.url).to_owned()
    }
}

/// One fake per transport, named after it, and a configuration with all three.
pub(crate) async fn trio(home: &Home, args: &[&str]) -> (String, Vec<Fake>, Desk) {
    let (block, desk) = stdio(home, "stdio", args);
    let fakes = vec![Fake::start("http", "http", args).await, Fake::start("sse", "sse", args).await];
    let config = fakes.iter().fold(block, |config, fake| config + &fake.block());
    (config, fakes, desk)
}

pub(crate) const TRIO: [&str; 3] = ["stdio", "http", "sse"];
