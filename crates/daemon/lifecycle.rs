//! The life of the process: lock, configuration, listeners, then servers; two tokens; one way out.
//!
//! The order at start is a promise: the listener is up before the first server is dialed, so `initialize`
//! and lists never wait for one (R-1, R-2). The order at the end is reliability 8: the soft token stops
//! accepting and lets running calls finish; the hard token gives every open call its final event; then all
//! servers are closed in parallel. A second signal jumps to the hard token, and a timer thread outside the
//! runtime ends the process if even that hangs (R-35).

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use trunkline_config::{Config, Connect, Loaded, Server, StateDir, Stdio};
use trunkline_edge::{BindError, Door, OwnerSocket};
use trunkline_hub::{Hub, Keep};
use trunkline_telemetry::{Journal, Metrics, logs};
use trunkline_upstream::{Environment, Fleet, GuardProgram, Predecessors};
use trunkline_wire::{Budget, ServerName};

use crate::exit::{self, Failure};
use crate::{lock, vitals};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The CLI's way in, inside the state directory.
pub(crate) const OWNER_SOCKET: &str = "trunkline.sock";

/// What closing the servers may take after the drain, before the process is ended from outside the runtime: with
/// the default drain of 20 s that makes the 30 s of R-35.
const CLOSE_AT_MOST: Duration = Duration::from_secs(10);

/// Notices of servers that wait for the hub. A burst beyond is dropped and counted: each is either repeated
/// by the server or found again by a fresh list.
const NOTICES_WAITING_MAX: usize = 1024;

/// What `serve` needs to know besides the configuration.
pub(crate) struct Serve {
    pub(crate) loaded: Loaded,
    pub(crate) place: Place,
    /// Serve the demo in place of the configured servers.
    pub(crate) demo: bool,
    /// Gets the URL once the listener is up; for scripts and tests that ask for port 0.
    pub(crate) ready_file: Option<PathBuf>,
}

/// Where the daemon runs.
pub(crate) struct Place {
    pub(crate) state_dir: PathBuf,
    /// The process's own variables, of which children get those on the allow-list.
    pub(crate) inherited: Vec<(String, String)>,
}

/// Runs the daemon until a signal ends it.
pub(crate) fn serve(serve: Serve) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(serve)),
        Err(error) => Err(Failure::failed(format!("no runtime: {error}"))),
    };
    exit::report(outcome)
}

async fn run(serve: Serve) -> Result<(), Failure> {
    let Serve { loaded, place: Place { state_dir, inherited }, demo, ready_file } = serve;
    let config = Arc::new(if demo { demo_config(loaded.config)? } else { loaded.config });
    let secrets = config.servers.iter().flat_map(|(_, server)| &server.secrets);
    logs::hide(secrets.map(|secret| secret.expose().to_owned()));
    let _lock = lock::take(&state_dir).map_err(|error| error.failure())?;
    let state = StateDir::open(&state_dir).map_err(|error| Failure::config(exit::chain(&error)))?;
    let listeners = trunkline_edge::bind(&config.listen).await.map_err(|error| bind_failure(&error))?;
    let addresses = listeners.addresses();
    let owner = OwnerSocket::bind(&state_dir.join(OWNER_SOCKET)).map_err(|error| bind_failure(&error))?;

    let metrics = Metrics::new();
    metrics.build_info(VERSION);
    let journal = Arc::new(Journal::new());
    let budget = Budget::new(config.limits.buffer_bytes);
    let (notices, notices_in) = mpsc::channel(NOTICES_WAITING_MAX);
    let guard = GuardProgram::this_binary().map_err(|error| Failure::failed(error.to_string()))?;
    let guard = guard.behind(sweep_predecessors(&state_dir, metrics.clone())).in_groups();
    warn_of_limits(&config, guard.enforces_limits());
    let environment = Environment {
        metrics: metrics.clone(),
        journal: Arc::clone(&journal),
        budget: budget.clone(),
        limits: config.limits.clone(),
        notices,
        guard,
        inherited,
    };
    vitals::watch(metrics.clone(), budget.clone(), config.limits.memory_bytes);
    let fleet = Fleet::start(&config.servers, environment);
    let keep = Keep::in_directory(state);
    let hub = Hub::keeping(&keep, Arc::clone(&fleet), &config, metrics.clone(), budget.clone(), notices_in);

    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let door = Door { hub: Arc::clone(&hub), config: Arc::clone(&config), metrics, journal, budget, version: VERSION };
    let serving = trunkline_edge::serve(listeners, Some(owner), door, soft.clone(), hard.clone());

    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    announce(&config, &addresses, demo, ready_file.as_deref(), loaded.path.as_deref())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let stopped = stop_on_signal(Arc::clone(&hub), config.limits.drain, soft, hard);
    tokio::pin!(serving);
    tokio::select! {
        // The listener ends by itself only when something is broken: a deaf daemon must not linger.
        () = &mut serving => return Err(Failure::failed("the listener ended by itself".into())),
        () = stopped => {}
    }
    serving.await;
    fleet.stop().await;
    hub.remembered().await;
    tracing::info!("stopped");
    Ok(())
}

/// Ends what daemons before this one left behind, while clients are served already. Children start from when the gate
/// that is returned opens.
fn sweep_predecessors(state_dir: &Path, metrics: Metrics) -> watch::Receiver<bool> {
    let (gate, opened) = watch::channel(false);
    match Predecessors::enter(state_dir) {
        Ok(predecessors) => drop(trunkline_telemetry::spawn("predecessors", async move {
            predecessors.sweep(&metrics).await;
            let _ = gate.send(true);
        })),
        Err(error) => tracing::warn!(%error, "children of a daemon that was killed here are not looked for"),
    }
    opened
}

/// Says which limits stand in the configuration and mean nothing here.
fn warn_of_limits(config: &Config, enforced: bool) {
    for (server, settings) in config.servers.iter().filter(|_| !enforced) {
        if matches!(&settings.connect, Connect::Stdio(child) if child.caps.memory_bytes.is_some()) {
            tracing::warn!(
                server = server.as_str(),
                "`limits.memory_bytes` is not enforced: the daemon's control group is not delegated to it (`Delegate=yes` \
                 in its systemd unit)"
            );
        }
    }
}

/// The configuration with the demo server, a mode of this very binary, in place of the configured ones.
fn demo_config(mut config: Config) -> Result<Config, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::failed(format!("own binary: {error}")))?;
    let connect = Connect::Stdio(Stdio::new(program.display().to_string(), ["__demo"]));
    let name = ServerName::new("demo").expect("`demo` is a name");
    config.servers = vec![(name, Server::new(connect))];
    Ok(config)
}

fn bind_failure(error: &BindError) -> Failure {
    let text = exit::chain(error);
    if matches!(error, BindError::InUse { .. }) { Failure::taken(text) } else { Failure::failed(text) }
}

/// Waits for the first signal, then walks the tokens through the drain. Returns once the hard token fell or
/// the drain is over.
async fn stop_on_signal(hub: Arc<Hub>, drain: Duration, soft: CancellationToken, hard: CancellationToken) {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be caught; only a kill will end this process");
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
    tracing::info!("stopping: running calls have {} s", drain.as_secs());
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    end_at_last(drain + CLOSE_AT_MOST);
    hub.drain();
    soft.cancel();
    trunkline_telemetry::spawn("drain", async move {
        tokio::select! {
            () = tokio::time::sleep(drain) => tracing::warn!("calls still running after the drain are cut"),
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        hard.cancel();
    });
}

/// Starts the thread that ends the process if the orderly way hangs.
fn end_at_last(after: Duration) {
    let spawned = std::thread::Builder::new().name("end-at-last".into()).spawn(move || {
        std::thread::sleep(after);
        exit::abort();
    });
    if let Err(error) = spawned {
        tracing::warn!("no timer thread for the stop: {error}");
    }
}

/// Tells people, and scripts that asked for it, where the daemon listens and what to do next.
fn announce(
    config: &Config,
    addresses: &[SocketAddr],
    demo: bool,
    ready_file: Option<&Path>,
    config_path: Option<&Path>,
) -> Result<(), Failure> {
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let address = address.ok_or_else(|| Failure::failed("no address to listen on".into()))?;
    let url = format!("http://{address}/mcp");
    if let Some(path) = ready_file {
        // Whole or not at all: the reader polls for the file.
        let partial = path.with_extension("partial");
        let written = std::fs::write(&partial, format!("{url}\n")).and_then(|()| std::fs::rename(&partial, path));
        written.map_err(|error| Failure::failed(format!("ready file {}: {error}", path.display())))?;
    }
    let mut text = format!("trunkline {VERSION} serves at {url}\n");
    if demo {
        text += &demo_hints(&url);
    } else if config.servers.is_empty() {
        text += &empty_hints(config_path);
    }
    // A closed standard output is no reason to stop serving.
    let _ = std::io::stdout().write_all(text.as_bytes());
    tracing::info!(url, servers = config.servers.len(), "serving");
    Ok(())
}

fn demo_hints(url: &str) -> String {
    format!(
        r#"
For Codex, put this into ~/.codex/config.toml:

    [mcp_servers.tl]
    url = "{url}"

To try it at once:

    curl -s {url} -H 'Content-Type: application/json' -d '{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{}},"clientInfo":{{"name":"curl","version":"1"}}}}}}'

or, in another terminal, `trunkline call demo__add '{{"a":2,"b":3}}'`. Ctrl-C stops the daemon.
"#
    )
}

fn empty_hints(config_path: Option<&Path>) -> String {
    let path = config_path.map_or_else(|| "~/.config/trunkline/config.toml".into(), |path| path.display().to_string());
    format!(
        r#"
No servers are configured. Add one to {path} and start again, for instance:

    [mcp_servers.files]
    command = "npx"
    args = ["-y", "@modelcontextprotocol/server-filesystem", "/home/you/Documents"]

    [mcp_servers.linear]
    url = "https://mcp.linear.app/mcp"
    bearer_token_env_var = "LINEAR_API_KEY"

Blocks of a Codex config.toml work unchanged. `trunkline check` reads the file and says what is wrong with it.
"#
    )
}
