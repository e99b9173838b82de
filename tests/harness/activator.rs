//! Does what a service manager does with a socket unit: it makes the sockets, hands them over, and starts the daemon
//! again whenever it ends. A manager that is really there (`systemd-socket-activate`) is not needed.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::{BINARY, Daemon, Home};
use super::{census, until};

/// Puts the descriptors 0, 1 and 2 where they are announced, and becomes the daemon: the pid stays the shell's.
/// Started like this, nothing has to be made inheritable while other tests start processes too.
const SCRIPT: &str = "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>>\"$1\"; shift; \
    export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=http:http:owner; exec \"$@\"";

/// What outlives every daemon.
pub(crate) struct Sockets {
    v4: TcpListener,
    v6: TcpListener,
    owner: UnixListener,
}

pub(crate) struct Activator {
    pub(crate) home: Arc<Home>,
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Of the daemon that runs.
    pid: Option<u32>,
    ends: Vec<ExitStatus>,
    over: bool,
}

impl Sockets {
    pub(crate) fn make(home: &Home) -> Sockets {
        let (v4, v6) = loop {
            let v4 = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = v4.local_addr().expect("bound").port();
            // Taken on the other family, with bad luck.
            if let Ok(v6) = TcpListener::bind(("::1", port)) {
                break (v4, v6);
            }
        };
        let directory = home.path("state/trunkline");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).expect("a state directory");
        Sockets { v4, v6, owner: UnixListener::bind(directory.join("trunkline.sock")).expect("free") }
    }

    pub(crate) fn port(&self) -> u16 {
        self.v4.local_addr().expect("bound").port()
    }

    /// The kernel's names of the sockets, as links of `/proc/PID/fd` show them.
    #[cfg(target_os = "linux")]
    pub(crate) fn names(&self) -> Vec<std::path::PathBuf> {
        use std::os::fd::AsRawFd;
        let sockets = [self.v4.as_raw_fd(), self.v6.as_raw_fd(), self.owner.as_raw_fd()];
        sockets.iter().map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("open")).collect()
    }

    /// Starts a daemon with these sockets.
    pub(crate) fn start(&self, home: &Home, args: &[&str]) -> Child {
        start_with(
            home,
            args,
            [
                self.v4.try_clone().map(Into::into),
                self.v6.try_clone().map(Into::into),
                self.owner.try_clone().map(Into::into),
            ],
        )
    }
}

/// Starts a daemon with any three descriptors handed over.
pub(crate) fn start_with(home: &Home, args: &[&str], sockets: [std::io::Result<OwnedFd>; 3]) -> Child {
    let log = home.path("log");
    OpenOptions::new().create(true).append(true).open(&log).expect("a log");
    // The environment as for any daemon of this home.
    let plain = home.command(["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(log).arg(BINARY).arg("serve").args(args);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let [stdin, stdout, stderr] = sockets.map(|socket| Stdio::from(socket.expect("a descriptor")));
    command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("the daemon starts")
}

impl Activator {
    /// Makes sockets, and keeps a daemon with this configuration running behind them.
    pub(crate) async fn start(home: Home, config: &str) -> Activator {
        let sockets = Sockets::make(&home);
        let port = sockets.port();
        home.configure(&format!("{config}\n[listen]\nport = {port}\n"));
        let home = Arc::new(home);
        let state = Arc::new(Mutex::new(State::default()));
        let keeper = {
            let (home, state) = (Arc::clone(&home), Arc::clone(&state));
            std::thread::spawn(move || keep(&home, &sockets, &state))
        };
        let url = format!("http://127.0.0.1:{port}/mcp");
        let activator = Activator { home, url, state, keeper: Some(keeper) };
        activator.until_ready().await;
        activator
    }

    /// Waits until a daemon answers that takes work.
    pub(crate) async fn until_ready(&self) {
        until("a daemon behind the sockets", async || (self.page("/health/ready").await.0 == 200).then_some(())).await;
    }

    /// A GET of a page beside the endpoint; its status and text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let reply = super::http::get(super::http::authority(&self.url), path).await;
        (reply.status, reply.text().await)
    }

    /// Waits until these servers are ready in the daemon that runs now.
    pub(crate) async fn until_servers_are_ready(&self, names: &[&str]) {
        until("the servers", async || {
            let (_, text) = self.page("/health").await;
            let health: serde_json::Value = serde_json::from_str(&text).ok()?;
            let servers = health["servers"].as_array()?;
            let is_ready = |name: &&str| servers.iter().any(|s| s["name"] == **name && s["state"] == "ready");
            names.iter().all(is_ready).then_some(())
        })
        .await;
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.state.lock().expect("short").pid
    }

    /// How the daemons before this one ended.
    pub(crate) fn ends(&self) -> Vec<ExitStatus> {
        self.state.lock().expect("short").ends.clone()
    }

    /// Sends the daemon that runs a signal, and waits until the next one is started.
    pub(crate) async fn replace(&self, signal: Signal) {
        let ends = self.ends().len();
        census::signal(self.pid().expect("one runs"), signal);
        until("the next daemon", async || (self.ends().len() > ends && self.pid().is_some()).then_some(())).await;
    }
}

fn keep(home: &Home, sockets: &Sockets, state: &Mutex<State>) {
    loop {
        let mut child = {
            let mut state = state.lock().expect("short");
            if state.over {
                return;
            }
            let child = sockets.start(home, &[]);
            state.pid = Some(child.id());
            child
        };
        let status = child.wait().expect("our child");
        let mut state = state.lock().expect("short");
        state.pid = None;
        state.ends.push(status);
        drop(state);
        // A manager does not start anything in no time at all.
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        {
            let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            state.over = true;
            if let Some(pid) = state.pid {
                census::signal(pid, Signal::KILL);
            }
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        if std::thread::panicking() {
            Daemon::show_log(&self.home);
        }
    }
}
