//! A changed configuration, applied to the running daemon.
//!
//! One task does it, so that no two reloads meet: the file's watcher, SIGHUP and the owner's socket only ask, and who
//! asks while one is under way is answered by the next, which reads the newest. Everything that can be wrong is found
//! before anything is touched: the file is read, checked, its secrets are resolved, new addresses are bound. Only then
//! each part of the program takes its share: the log, the fleet, the hub, the door. If anything is wrong nothing
//! changes, and the log, a metric, `/health` and `status` say so until it is mended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use trunkline_config::{Change, Config, Diff, Loaded, Parts, Sources};
use trunkline_edge::{Configuration, Listeners, Origin, Reloaded};
use trunkline_hub::Hub;
use trunkline_telemetry::{Metrics, logs};

use crate::exit;
use crate::watch::FileWatch;

/// Requests that wait for a reload. All that wait are answered by one; whoever finds it full may ask again.
const WAITING_MAX: usize = 32;

/// Keys of `[limits]` and `[log]` that are read once, at the start.
const AT_START: [&str; 5] = ["buffer_bytes", "drain_sec", "memory_bytes", "upstream_message_bytes", "format"];

/// Makes the configuration that is run by out of the one that was read: `serve --demo` has servers of its own.
pub(crate) type Adapt = Box<dyn Fn(Config) -> Result<Config, exit::Failure> + Send + Sync>;

/// The configuration in force, and the means to put another in its place.
pub(crate) struct Reloader {
    sources: Sources,
    adapt: Adapt,
    metrics: Metrics,
    /// As it was read. What is served may differ: a port of 0 is some port.
    in_force: Config,
    /// Whether the file said anything when it was read.
    said: bool,
    current: watch::Sender<Arc<Config>>,
    origin: watch::Sender<Origin>,
    requests: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    relocate: mpsc::Sender<Listeners>,
    /// The listeners are the service manager's, and stay where they are.
    handed_over: bool,
    address: watch::Sender<Option<SocketAddr>>,
}

/// What a daemon began with.
pub(crate) struct Began {
    pub(crate) sources: Sources,
    pub(crate) adapt: Adapt,
    /// The configuration as it was read.
    pub(crate) read: Config,
    /// The same with the addresses that are really served.
    pub(crate) served: Arc<Config>,
    /// Whether a service manager made the listeners.
    pub(crate) handed_over: bool,
    /// One of the addresses.
    pub(crate) address: Option<SocketAddr>,
}

/// What others get to see of it.
pub(crate) struct Seen {
    pub(crate) configuration: Configuration,
    pub(crate) relocations: mpsc::Receiver<Listeners>,
    /// One of the addresses that are served now.
    pub(crate) address: watch::Receiver<Option<SocketAddr>>,
}

impl Reloader {
    /// Begins with what was loaded at the start.
    pub(crate) fn new(began: Began, loaded: &Loaded, metrics: Metrics) -> (Self, Seen) {
        let Began { sources, adapt, read, served, handed_over, address } = began;
        let (asks, requests) = mpsc::channel(WAITING_MAX);
        let (relocate, relocations) = mpsc::channel(1);
        let (current, current_seen) = watch::channel(served);
        let (origin, origin_seen) = watch::channel(origin_of(loaded));
        let (address, address_seen) = watch::channel(address);
        metrics.config_reload_success(true);
        let reloader = Self {
            sources,
            adapt,
            metrics,
            in_force: read,
            said: !loaded.blank,
            current,
            origin,
            requests,
            relocate,
            handed_over,
            address,
        };
        let configuration = Configuration { current: current_seen, origin: origin_seen, reload: asks };
        (reloader, Seen { configuration, relocations, address: address_seen })
    }

    /// Reloads whenever the file changes, upon SIGHUP and when asked, until the daemon stops.
    pub(crate) async fn run(mut self, hub: Arc<Hub>, stop: CancellationToken) {
        let mut hangup = hangups();
        let mut files = FileWatch::new(&self.sources);
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(request) = self.requests.recv() => waiting.push(request),
                () = hung_up(&mut hangup) => {}
                () = files.changed() => {}
            }
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            // Before the file is read: what changes from here on is another change.
            files.rearm();
            let reloaded = self.reload(&hub, !waiting.is_empty()).await;
            for request in waiting {
                // Whoever does not wait any more reads it in the log.
                let _ = request.send(reloaded.clone());
            }
        }
    }

    /// Reads and applies it. `asked`: somebody wants the file as it is now, whatever it says.
    async fn reload(&mut self, hub: &Hub, asked: bool) -> Reloaded {
        notify_reloading();
        let reloaded = match self.read().await {
            Ok((loaded, _)) if self.said && loaded.blank && !asked => {
                Reloaded { error: Some(self.lost(&loaded)), invalid: true, ..Reloaded::default() }
            }
            Ok((loaded, config)) => self.apply(hub, loaded, config).await,
            Err((error, invalid)) => Reloaded { error: Some(error), invalid, ..Reloaded::default() },
        };
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        self.tell(&reloaded);
        reloaded
    }

    /// Reads and checks the configuration. Fails with the reason, and whether that is the configuration itself.
    async fn read(&self) -> Result<(Loaded, Config), (String, bool)> {
        let sources = self.sources.clone();
        // The files may be on a disk that sleeps.
        let loaded = tokio::task::spawn_blocking(move || trunkline_config::load(&sources)).await;
        let loaded =
            loaded.map_err(|_| ("the reading of the configuration failed; the log says more".into(), false))?;
        let loaded = loaded.map_err(|errors| (errors.to_string(), true))?;
        let config = (self.adapt)(loaded.config.clone()).map_err(|failure| (failure.to_string(), false))?;
        Ok((loaded, config))
    }

    async fn apply(&mut self, hub: &Hub, loaded: Loaded, config: Config) -> Reloaded {
        let diff = Diff::between(&self.in_force, &config);
        let relocated = self.relocates(&diff);
        if relocated {
            match trunkline_edge::bind(&config.listen).await {
                Ok(listeners) => {
                    self.address.send_replace(listeners.addresses().first().copied());
                    // There is room, or the door is not there any more: it takes one after the other at once.
                    let _ = self.relocate.send(listeners).await;
                }
                Err(error) => {
                    let text = format!("listen: the old addresses stay: {}", exit::chain(&error));
                    return Reloaded { error: Some(text), ..Reloaded::default() };
                }
            }
        }
        // What runs by the old secrets may still say them.
        let secrets = self.in_force.secrets().chain(config.secrets());
        logs::hide(secrets.map(|secret| secret.expose().to_owned()));
        logs::set_level(config.log.level.as_str());
        hub.fleet().apply(&config.servers);
        hub.reload(&config);
        if let Some(audit) = hub.recent_calls().audit() {
            // Also where nothing changed: the file may have been moved away (SIGHUP).
            audit.open(config.audit.file.clone());
        }
        retry_misconfigured(hub, &diff);
        self.current.send_replace(Arc::new(config.clone()));
        self.origin.send_replace(origin_of(&loaded));
        let servers = config.servers.clone();
        self.in_force = config;
        self.said = !loaded.blank;
        let enabled = |name: &str| servers.iter().any(|(known, server)| known.as_str() == name && server.enabled);
        Reloaded {
            changed: changed(&diff, &enabled, relocated),
            after_restart: after_restart(&diff, relocated),
            warnings: loaded.warnings,
            ..Reloaded::default()
        }
    }

    /// Whether new listeners are needed that can be had beside those in use: on another port.
    fn relocates(&self, diff: &Diff) -> bool {
        !self.handed_over && diff.listen.iter().any(|key| key == "port")
    }

    /// What is said of a file that had something to say and has nothing any more. Editors and scripts move a file away
    /// or empty it before they write it, and nobody means to stop every server by that.
    fn lost(&self, loaded: &Loaded) -> String {
        let was = self.origin.borrow().path.clone().unwrap_or_default();
        let what = if loaded.path.is_some() { "has nothing in it any more" } else { "is gone" };
        format!("{was}: the file {what}\n    put it back, or run `trunkline reload` if no servers are what you want")
    }

    /// Says in the log, the metric and `/health` what came of it.
    fn tell(&self, reloaded: &Reloaded) {
        self.metrics.config_reload_success(reloaded.error.is_none());
        if let Some(error) = &reloaded.error {
            tracing::error!("the configuration was not taken, and nothing was changed: {error}");
            self.origin.send_modify(|origin| origin.error = Some(error.clone()));
            return;
        }
        for warning in &reloaded.warnings {
            tracing::warn!("{warning}");
        }
        if !reloaded.after_restart.is_empty() {
            let keys = reloaded.after_restart.join(", ");
            tracing::warn!(keys, "these hold from the next start of the daemon on");
        }
        let changes = reloaded.changed.join("; ");
        if changes.is_empty() {
            tracing::info!("the configuration was read anew; nothing changed");
        } else {
            tracing::info!(changes, "the configuration was read anew");
        }
    }
}

/// A server that could not work as it was configured is tried at once: somebody was at it, and a command or variable
/// outside the file may be what changed (reliability 6). Those that are connected anew anyway are left to that.
fn retry_misconfigured(hub: &Hub, diff: &Diff) {
    for upstream in hub.fleet().all().iter() {
        let untouched = !diff.servers.iter().any(|(name, _)| name == upstream.name());
        if untouched && upstream.status().state == "misconfigured" {
            upstream.restart();
        }
    }
}

/// One sentence for each change.
fn changed(diff: &Diff, enabled: &dyn Fn(&str) -> bool, relocated: bool) -> Vec<String> {
    let mut out = Vec::new();
    for (name, change) in &diff.servers {
        let what = match change {
            Change::Added => "added".to_owned(),
            Change::Removed => "removed; calls that run may end".to_owned(),
            Change::Changed(parts) => of_parts(*parts, enabled(name.as_str())),
        };
        out.push(format!("{name}: {what}"));
    }
    if diff.order {
        out.push("the order of the servers".to_owned());
    }
    let sections = [("listen", &diff.listen), ("limits", &diff.limits), ("log", &diff.log)];
    for (section, keys) in sections {
        let keys = keys.iter().filter(|key| !is_at_start(section, key, relocated));
        out.extend(keys.map(|key| format!("{section}.{key}")));
    }
    let whole = [
        (diff.auth, "auth.tokens"),
        (diff.audit, "audit.file"),
        (diff.surface, "which tools are listed"),
        (diff.profiles, "profiles"),
        (diff.errors, "errors"),
    ];
    out.extend(whole.into_iter().filter(|(differs, _)| *differs).map(|(_, key)| key.to_owned()));
    out
}

fn of_parts(parts: Parts, enabled: bool) -> String {
    let Parts { enabled: switched, reconnect, retune, reexpose } = parts;
    let switch = if enabled { "switched on" } else { "switched off; calls that run may end" };
    let now = enabled && !switched;
    let named = [
        (switched, switch),
        (reconnect && now, "is connected anew"),
        (reconnect && !now, "is reached otherwise"),
        (retune, "has other limits"),
        (reexpose, "shows its tools otherwise"),
    ];
    named.into_iter().filter(|(differs, _)| *differs).map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

/// The keys that differ and hold from the next start on.
fn after_restart(diff: &Diff, relocated: bool) -> Vec<String> {
    let of = |section: &'static str, keys: &[String]| -> Vec<String> {
        keys.iter().filter(|key| is_at_start(section, key, relocated)).map(|key| format!("{section}.{key}")).collect()
    };
    let otel: Vec<String> = diff.otel.then(|| "otel".to_owned()).into_iter().collect();
    [of("listen", &diff.listen), of("limits", &diff.limits), of("log", &diff.log), otel].concat()
}

/// Whether a key is read at the start alone. Addresses are, where the service manager holds the listeners; and so are
/// others with the same port, which the daemon itself holds on those that it has.
fn is_at_start(section: &str, key: &str, relocated: bool) -> bool {
    if section == "listen" { !relocated && is_address(key) } else { AT_START.contains(&key) }
}

fn is_address(key: &str) -> bool {
    ["hosts", "port"].contains(&key)
}

fn origin_of(loaded: &Loaded) -> Origin {
    Origin {
        loaded_at_unix_ms: unix_ms(),
        path: loaded.path.as_ref().map(|path| path.display().to_string()),
        error: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "a date that is shown")]
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells the service manager, which wants to know when it began.
fn notify_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
    }
}

fn hangups() -> Option<Signal> {
    signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload")).ok()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use trunkline_wire::ServerName;

    use super::*;

    #[test]
    fn r36_each_change_is_named_and_what_needs_a_restart_stands_apart() {
        let name = |text: &str| ServerName::new(text).expect("a name");
        let only = Parts::default();
        let diff = Diff {
            auth: true,
            audit: true,
            otel: true,
            servers: vec![
                (name("new"), Change::Added),
                (name("moved"), Change::Changed(Parts { reconnect: true, retune: true, ..only })),
                (name("off"), Change::Changed(Parts { enabled: true, ..only })),
                (name("gone"), Change::Removed),
            ],
            order: true,
            listen: vec!["port".into()],
            limits: vec!["buffer_bytes".into(), "in_flight".into()],
            surface: true,
            profiles: true,
            errors: true,
            log: vec!["format".into(), "level".into()],
        };
        assert_eq!(
            changed(&diff, &|name| name != "off", true),
            [
                "new: added",
                "moved: is connected anew, has other limits",
                "off: switched off; calls that run may end",
                "gone: removed; calls that run may end",
                "the order of the servers",
                "listen.port",
                "limits.in_flight",
                "log.level",
                "auth.tokens",
                "audit.file",
                "which tools are listed",
                "profiles",
                "errors",
            ]
        );
        assert_eq!(after_restart(&diff, true), ["limits.buffer_bytes", "log.format", "otel"]);
        assert_eq!(after_restart(&diff, false), ["listen.port", "limits.buffer_bytes", "log.format", "otel"]);
    }
}
