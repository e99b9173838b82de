//! The life of the process: lock, configuration, listeners, then servers; one way out.
//!
//! The order at start is a promise: the listener is up before the first server is dialed, so `initialize`
//! and lists never wait for one (R-1, R-2). Listeners that a service manager handed over are there even before, and
//! win over the configuration. The order at the end is `stop`'s (reliability 8); when the last connection has
//! gone, all servers are closed in parallel, then the lock is let go.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
#[cfg(debug_assertions)]
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use trunkline_config::{Config, Connect, Listen, Loaded, Otel, Server, Sources, StateDir, StateDirError, Stdio};
use trunkline_edge::{BindError, Door, Listeners, OwnerSocket, Steps};
use trunkline_hub::{Hub, Keep};
use trunkline_signin::{SignIn, Store};
use trunkline_telemetry::{Audit, Journal, Metrics, Traced, Tracer, logs};
use trunkline_upstream::{Collector, Environment, Fleet, GuardProgram, Predecessors, Shelf};
use trunkline_wire::{Budget, ServerName};

use crate::activation::Handed;
use crate::exit::{self, Failure};
use crate::limits::{
    AUDIT_WAIT, CLOSE_AT_MOST, DESCRIPTORS, KEY_PAUSE, KEY_READINGS, LEFT_BEHIND, NOTICES_WAITING_MAX, TRACES_WAIT,
};
use crate::lock::{self, Lock};
use crate::reload::{Adapt, Began, Reloader};
use crate::stop::{self, Signals, Wanted};
use crate::watchdog::Watchdog;
use crate::{live, vitals};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The CLI's way in, inside the state directory.
pub(crate) const OWNER_SOCKET: &str = "trunkline.sock";

/// Where the servers' last offers are kept, inside the state directory.
const OFFERS: &str = "offers";

/// Where the tokens of servers are kept, inside the state directory.
pub(crate) const SIGNINS: &str = "signin";

/// What `serve` needs to know besides the configuration.
pub(crate) struct Serve {
    pub(crate) loaded: Loaded,
    /// Where it came from, to be read anew.
    pub(crate) sources: Sources,
    pub(crate) place: Place,
    /// Sockets of the service manager.
    pub(crate) handed: Handed,
    /// Serve the demo in place of the configured servers.
    pub(crate) demo: bool,
    /// Gets the URL once the listener is up; for scripts and tests that ask for port 0.
    pub(crate) ready_file: Option<PathBuf>,
    /// How long the watchdog bears silence.
    pub(crate) watchdog_ticks: u64,
    /// When to stop moving, for tests of the watchdog.
    #[cfg(debug_assertions)]
    pub(crate) wedge_after: Option<Duration>,
    /// How far a refresh of a sign-in may come before the process ends, for tests of what is left then.
    #[cfg(debug_assertions)]
    pub(crate) die_at: Option<trunkline_signin::Step>,
}

/// Where the daemon runs.
pub(crate) struct Place {
    pub(crate) state_dir: PathBuf,
    /// The process's own variables, of which children get those on the allow-list.
    pub(crate) inherited: Vec<(String, String)>,
}

/// What a daemon holds before it serves, in the order in which it is taken.
struct Held {
    lock: Lock,
    listeners: Listeners,
    owner: OwnerSocket,
}

/// Runs the daemon until a signal ends it.
pub(crate) fn serve(serve: Serve) -> ExitCode {
    leave_no_core();
    have_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(serve));
            // What hangs in the system by now, a look-up or a disk, must not hold up whoever comes next.
            runtime.shutdown_timeout(LEFT_BEHIND);
            outcome
        }
        Err(error) => Err(Failure::failed(format!("no runtime: {error}"))),
    };
    exit::report(outcome)
}

/// Has a crash leave no image of the memory, which holds every token (S-31). Children inherit that: theirs holds what was
/// configured for them. Whoever looks for a fault raises the limit again, which it may.
fn leave_no_core() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // On Linux a limit of 0 does not hold for a program that takes the image through a pipe; one of 1 does (core(5)), and no
    // file is that small either.
    let current = Some(u64::from(cfg!(target_os = "linux")));
    let maximum = getrlimit(Resource::Core).maximum;
    if maximum != Some(0) && setrlimit(Resource::Core, Rlimit { current, maximum }).is_err() {
        tracing::warn!("a crash of this process may write its memory, tokens included, to the disk");
    }
}

/// Has as many descriptors as the clients that may connect take: the usual 1024 are those of a program with few of them.
fn have_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, wanted, "the limit of file descriptors stays as it is; `ulimit -n` raises it");
    }
}

async fn run(serve: Serve) -> Result<(), Failure> {
    let refresh_watch = crate::login::refresh_watch(&serve);
    let Serve { loaded, sources, place, handed, demo, ready_file, watchdog_ticks, .. } = serve;
    let Place { state_dir, inherited } = place;
    let mut signals = Signals::catch()?;
    let adapt: Adapt = if demo { Box::new(demo_config) } else { Box::new(Ok) };
    let mut config = adapt(loaded.config.clone())?;
    logs::hide(config.secrets().map(|secret| secret.expose().to_owned()));
    let handed_over = !handed.tcp.is_empty();
    let held = tokio::select! {
        biased;
        () = stop_wanted(&mut signals) => return Ok(()),
        held = hold(&state_dir, &config, handed) => held?,
    };
    let Held { mut lock, listeners, owner } = held;
    let state = StateDir::open(&state_dir).map_err(|error| state_failure(&error))?;
    let addresses = listeners.addresses();
    let read = config.clone();
    as_served(&mut config.listen, &addresses);
    let config = Arc::new(config);

    let metrics = Metrics::new();
    metrics.build_info(VERSION);
    let journal = Arc::new(Journal::new());
    let budget = Budget::new(config.limits.buffer_bytes);
    let (notices, notices_in) = mpsc::channel(NOTICES_WAITING_MAX);
    let offers = state.below(OFFERS).map_err(|error| state_failure(&error))?;
    let shelf = Shelf::at(offers, metrics.clone());
    let signins = state.below(SIGNINS).map_err(|error| state_failure(&error))?;
    let signin = SignIn::new(Store::watched(signins, metrics.clone(), refresh_watch));
    let guard = GuardProgram::this_binary().map_err(|error| Failure::failed(error.to_string()))?;
    // They are ended while clients are served already; children start once nothing of them is left.
    let guard = guard.in_groups().after(predecessors(&state), metrics.clone());
    warn_of_limits(&config, guard.enforces_limits());
    let variables = inherited.clone();
    let environment = Environment {
        metrics: metrics.clone(),
        journal: Arc::clone(&journal),
        budget: budget.clone(),
        limits: config.limits.clone(),
        notices,
        shelf: shelf.clone(),
        signin: Some(signin.clone()),
        guard,
        inherited,
    };
    vitals::watch(metrics.clone(), budget.clone(), config.limits.memory_bytes);
    let fleet = Fleet::start(&config.servers, environment);
    fleet.watch_for_wakes();
    let keep = keep(&state).await;
    let hub = Hub::keeping(&keep, Arc::clone(&fleet), &config, metrics.clone(), budget.clone(), notices_in);
    note_calls(&hub, &config, &variables, metrics.clone());

    let steps = Steps::default();
    let slots = Arc::new(Semaphore::new(config.limits.connections));
    let beginnings =
        Began { sources, adapt, read, served: Arc::clone(&config), handed_over, address: addresses.first().copied() };
    let (reloader, seen) = Reloader::new(beginnings, &loaded, metrics.clone());
    let watchdog = Watchdog {
        address: seen.address,
        slots: Arc::clone(&slots),
        metrics: metrics.clone(),
        patience: watchdog_ticks,
    };
    trunkline_telemetry::spawn("reload", reloader.run(Arc::clone(&hub), steps.doors.clone()));
    let door = Door {
        hub: Arc::clone(&hub),
        configuration: seen.configuration,
        relocations: seen.relocations,
        metrics,
        journal,
        budget,
        version: VERSION,
        slots,
    };
    let serving = trunkline_edge::serve(listeners, Some(owner), door, steps.clone());

    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    announce(&config, &addresses, demo, ready_file.as_deref(), loaded.path.as_deref())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let stopping = watchdog.start();
    #[cfg(debug_assertions)]
    if let Some(after) = serve.wedge_after {
        crate::watchdog::wedge_after(after);
    }

    let begun = || {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stopping.begun();
        lock.stopping();
    };
    let stopped = stop::on_signal(signals, Arc::clone(&hub), config.limits.drain, steps, begun);
    tokio::pin!(serving);
    tokio::select! {
        // The listener ends by itself only when something is broken: a deaf daemon must not linger.
        () = &mut serving => return Err(Failure::failed("the listener ended by itself".into())),
        () = stopped => {}
    }
    serving.await;
    wind_up(&hub, &shelf, &signin).await;
    tracing::info!("stopped");
    drop(lock);
    Ok(())
}

/// Has calls noted in the file, and requests traced for the collector, that the configuration names.
fn note_calls(hub: &Hub, config: &Config, variables: &[(String, String)], metrics: Metrics) {
    trace_calls(hub, config, variables, metrics.clone());
    let audit = Audit::start(metrics);
    audit.open(config.audit.file.clone());
    hub.recent_calls().also_to(audit);
}

/// A collector that cannot be used is no reason not to serve.
fn trace_calls(hub: &Hub, config: &Config, variables: &[(String, String)], metrics: Metrics) {
    let Otel { endpoint: Some(endpoint), headers, sample, service_name, propagate } = &config.otel else { return };
    match Collector::new(endpoint, headers, variables) {
        Ok(collector) => {
            let service = (service_name.clone(), VERSION);
            let traced = Traced { service, share: *sample, propagate: *propagate };
            hub.trace_to(Tracer::start(traced, collector, metrics));
        }
        Err(why) => tracing::warn!("there are no traces, since `otel.endpoint` cannot be used: {why}"),
    }
}

/// Ends what no connection waits for: calls of clients that went away, then the servers, then what is to be written.
async fn wind_up(hub: &Hub, shelf: &Shelf, signin: &SignIn) {
    let left = hub.busy().requests;
    if left > 0 {
        tracing::info!(left, "waiting for calls of clients that went away");
    }
    hub.finished().await;
    hub.fleet().stop().await;
    hub.remembered().await;
    if let Some(audit) = hub.recent_calls().audit() {
        let _ = tokio::time::timeout(AUDIT_WAIT, audit.settled()).await;
    }
    if let Some(tracer) = hub.tracer() {
        let _ = tokio::time::timeout(TRACES_WAIT, tracer.settled()).await;
    }
    shelf.settled().await;
    // A token that is being rotated is lost if its successor does not reach the disk.
    signin.settled().await;
}

/// What outlives the process. A key that cannot be read is waited for a moment, since clients lose their sessions without
/// it; then sessions live as long as this process, and the next start finds what is there as it was.
async fn keep(state: &StateDir) -> Keep {
    for _ in 1..KEY_READINGS {
        match Keep::in_directory(state.clone()) {
            Ok(keep) => return keep,
            Err(error) => tracing::warn!("{error}; it is read again"),
        }
        tokio::time::sleep(KEY_PAUSE).await;
    }
    Keep::in_directory(state.clone()).unwrap_or_else(|error| {
        tracing::error!(
            "{error}; earlier sessions get 404, and those from now on end with this process: mend the disk, then \
             restart"
        );
        Keep::nowhere()
    })
}

/// The daemons before this one, with what they may have left behind.
fn predecessors(state: &StateDir) -> Option<Predecessors> {
    Predecessors::enter(state)
        .inspect_err(|error| tracing::warn!(%error, "children of a daemon that was killed here are not looked for"))
        .ok()
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

/// Takes the state directory, then the sockets. In this order: who holds the first may replace the owner's socket.
async fn hold(state_dir: &Path, config: &Config, handed: Handed) -> Result<Held, Failure> {
    let stop_at_most = config.limits.drain + CLOSE_AT_MOST;
    let lock =
        lock::wait(state_dir, stop_at_most, |text| eprintln!("{text}")).await.map_err(|error| error.failure())?;
    let Handed { tcp, owner } = handed;
    let listeners = if tcp.is_empty() { trunkline_edge::bind(&config.listen).await } else { Listeners::adopt(tcp) };
    let listeners = match listeners {
        Ok(listeners) => listeners,
        Err(error) => return Err(bind_failure(&error).await),
    };
    let owner = match owner {
        Some(socket) => OwnerSocket::adopt(socket),
        None => OwnerSocket::bind(&state_dir.join(OWNER_SOCKET)),
    };
    match owner {
        Ok(owner) => Ok(Held { lock, listeners, owner }),
        Err(error) => Err(bind_failure(&error).await),
    }
}

/// Puts the addresses that are really served in the place of those that were wanted: whoever asks whether a URL is the
/// gateway's own asks the configuration.
fn as_served(listen: &mut Listen, addresses: &[SocketAddr]) {
    let mut hosts: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    let port = addresses.first().map_or(listen.port, SocketAddr::port);
    let mut wanted = listen.hosts.clone();
    hosts.sort_unstable();
    wanted.sort_unstable();
    // A port of 0 wants any.
    if hosts != wanted || (listen.port != 0 && listen.port != port) {
        let served: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "`[listen]` wants port {} on {:?}, and {} is served: by the sockets of the service manager, or because the \
             machine has no such address",
            listen.port,
            listen.hosts,
            served.join(", ")
        );
    }
    listen.hosts = addresses.iter().map(SocketAddr::ip).collect();
    listen.port = port;
}

/// Waits for a signal to stop; others find nothing yet.
async fn stop_wanted(signals: &mut Signals) {
    while signals.next().await == Wanted::Dump {
        tracing::info!("waiting for the state directory or the port");
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

/// That others may write there is for a person to mend; a full disk passes, and a restart may find it so.
fn state_failure(error: &StateDirError) -> Failure {
    let text = exit::chain(error);
    match error {
        StateDirError::Open(..) => Failure::config(text),
        StateDirError::Io(..) => Failure::failed(text),
    }
}

/// One line about a socket that cannot be had, and if a trunkline has it, which (R-41).
async fn bind_failure(error: &BindError) -> Failure {
    let BindError::InUse { address } = error else {
        let text = exit::chain(error);
        return if error.is_of_configuration() { Failure::config(text) } else { Failure::failed(text) };
    };
    let holder = match address.parse::<SocketAddr>() {
        Ok(address) => live::ask(address).await.ok(),
        Err(_) => None,
    };
    let who = match holder {
        Some(pid) => format!("another trunkline (pid {pid}, by its own account)"),
        None => "another program".to_owned(),
    };
    Failure::taken(format!("{address} is taken by {who}; stop it, or choose another port with `--listen`"))
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
    let mut text = format!("trunkline {VERSION} serves at {url}, and its dashboard at http://{address}/\n");
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
