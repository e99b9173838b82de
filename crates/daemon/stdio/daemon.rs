//! Where the daemon is: the one that runs, or one that is started and stays.
//!
//! The owner's socket in the state directory tells the address, whatever the configuration says by now; without it the
//! configured port does. Before a word is sent, the kernel is asked whose the listener is: tokens and messages are not for
//! whoever else has taken the port. A daemon that was there and went away is waited for before another is started: a service manager
//! may be about to bring it back, and two would fight for the port.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use trunkline_config::{Secret, Sources};

use crate::limits::{BRIDGE_LOOK, BRIDGE_PATIENCE, BRIDGE_RETURN, LIVE_TIMEOUT};
use crate::{ask, exit, listening, live};

/// The way to the daemon.
pub(super) struct Door {
    sources: Sources,
    state_dir: PathBuf,
    may_start: bool,
    address: Mutex<Option<SocketAddr>>,
    /// Whether there was a daemon before: then it may come back by itself.
    known: AtomicBool,
    /// One looks for it at a time.
    looking: Semaphore,
    token: Option<Secret>,
}

impl Door {
    pub(super) fn new(sources: Sources, state_dir: PathBuf, may_start: bool) -> Self {
        let loaded = trunkline_config::load(&sources).ok();
        let token = loaded.and_then(|loaded| loaded.config.auth.widest().cloned());
        Self {
            sources,
            state_dir,
            may_start,
            address: Mutex::default(),
            known: AtomicBool::new(false),
            looking: Semaphore::new(1),
            token,
        }
    }

    /// The token to show, where the daemon asks for one.
    pub(super) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// A connection to the daemon, and its address; a sentence, if there can be none.
    pub(super) async fn open(&self) -> Result<(TcpStream, SocketAddr), String> {
        if let Some(open) = self.at_once().await? {
            return Ok(open);
        }
        let _looking = self.looking.acquire().await.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let mut child: Option<Child> = None;
        loop {
            if let Some(address) = self.asked().await {
                *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
            }
            if let Some(open) = self.at_once().await? {
                if let Some(child) = child {
                    settle(child, open.1).await;
                }
                return Ok(open);
            }
            let ended = child.as_mut().and_then(|child| child.try_wait().ok()?);
            // Taken means that somebody else has started one at the same time, and that is as good.
            if let Some(status) = ended.filter(|status| status.code() != Some(i32::from(exit::TAKEN))) {
                return Err(format!(
                    "the daemon that was started has ended ({status}); its log says why: {}",
                    self.log().display()
                ));
            }
            let waited = begun.elapsed();
            let due = !self.known.load(Ordering::Relaxed) || waited > BRIDGE_RETURN;
            if child.is_none() && due {
                if !self.may_start {
                    return Err("no daemon is running; `trunkline serve` starts one".to_owned());
                }
                child = Some(self.start()?);
            }
            if waited > BRIDGE_PATIENCE {
                let log = self.log().display().to_string();
                return Err(format!(
                    "no daemon answers after {} s; its log may say why: {log}",
                    BRIDGE_PATIENCE.as_secs()
                ));
            }
            sleep(BRIDGE_LOOK).await;
        }
    }

    /// A connection, if somebody listens; a sentence, if that is somebody else.
    async fn at_once(&self) -> Result<Option<(TcpStream, SocketAddr)>, String> {
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address else { return Ok(None) };
        let Ok(Ok(stream)) = timeout(LIVE_TIMEOUT, TcpStream::connect(address)).await else { return Ok(None) };
        if let Some(uid) = listening::stranger(address) {
            return Err(format!(
                "another user of this machine (uid {uid}) listens at {address}, so nothing was sent there; stop that \
                 program, or set another `port` in `[listen]`. `trunkline doctor` says more"
            ));
        }
        // Small messages that wait for answers gain nothing by being gathered.
        let _ = stream.set_nodelay(true);
        self.known.store(true, Ordering::Relaxed);
        Ok(Some((stream, address)))
    }

    /// Where the running daemon says that it is, else where the configuration has it: the socket of one that was killed
    /// leads nowhere.
    async fn asked(&self) -> Option<SocketAddr> {
        if let Some(address) = ask::address(&self.state_dir).await {
            return Some(address);
        }
        let config = trunkline_config::load(&self.sources).ok()?.config;
        let host = config.listen.hosts.first()?;
        (config.listen.port != 0).then(|| SocketAddr::new(*host, config.listen.port))
    }

    fn log(&self) -> PathBuf {
        self.state_dir.join("started.log")
    }

    /// Starts a daemon that stays when this process ends, and is no child of the terminal.
    fn start(&self) -> Result<Child, String> {
        let cannot = |error: std::io::Error| format!("no daemon is running, and none can be started: {error}");
        let program = std::env::current_exe().map_err(cannot)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.state_dir).map_err(cannot)?;
        let log = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.log());
        let mut command = Command::new(program);
        command.arg("serve");
        if let Some(file) = &self.sources.file {
            command.arg("--config").arg(std::path::absolute(file).map_err(cannot)?);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.map_err(cannot)?);
        // What is sent to the bridge's group, by a terminal or a client that ends it, is not for the daemon.
        command.process_group(0);
        // Nor should it hold the directory of a project.
        if let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) {
            command.current_dir(home);
        }
        command.spawn().map_err(cannot)
    }
}

/// Says that a daemon was started. Where somebody else did so at the same time, ours waits for a place that it will not get.
async fn settle(mut child: Child, address: SocketAddr) {
    match live::ask(address).await {
        Ok(pid) if pid != child.id() => {
            let _ = child.kill();
            let _ = child.wait();
        }
        _ => eprintln!("trunkline: no daemon was running, so one was started (pid {}); it stays", child.id()),
    }
}
