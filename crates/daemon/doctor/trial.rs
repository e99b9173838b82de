//! Tries every server while no daemon runs: all at once, as the daemon would run them, and for a moment.
//!
//! What is wrong with one is said by the table that the dashboard has too (`edge::advice`).

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trunkline_config::{Config, Connect, Server, Start, StateDir, Tuning};
use trunkline_edge::advice::{self, Case};
use trunkline_signin::{SignIn, Store, has_credential};
use trunkline_upstream::{Fleet, Upstream};

use super::report::{Finding, Mark, Report};
use crate::add;
use crate::exit::Failure;
use crate::lifecycle::SIGNINS;

/// How often a server is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Tries the servers, each for at most `patience`. Those in `explained` are known not to work, and why.
pub(super) async fn run(
    config: Config,
    (env, state_dir): (&[(String, String)], &Path),
    patience: Duration,
    explained: &[Finding],
    report: &mut Report,
) -> Result<(), Failure> {
    let known = |name: &str| explained.iter().any(|finding| finding.server.as_deref() == Some(name));
    let (count, limits) = (config.servers.iter().filter(|(_, server)| server.enabled).count(), config.limits);
    let servers = config.servers.into_iter().filter(|(_, server)| server.enabled);
    let servers: Vec<_> = servers
        .filter(|(name, _)| !known(name.as_str()))
        .map(|(name, server)| {
            let tuning = Tuning { start: Start::Eager, ..server.tuning };
            (name, Server { tuning, ..server })
        })
        .collect();
    if count == 0 {
        report.note("servers", Mark::Absent, "none are configured");
        return Ok(());
    }
    let (environment, _unread) = add::trial(limits, signins(state_dir), env.to_vec())?;
    let fleet = Fleet::start(&servers, environment);
    let begun = Instant::now();
    let mut pending: Vec<_> = servers.iter().filter_map(|(name, _)| fleet.get(name.as_str())).collect();
    let mut findings = Vec::new();
    while !pending.is_empty() {
        let late = begun.elapsed() > patience;
        pending.retain(|upstream| match verdict(upstream, late.then_some(patience)) {
            Verdict::Open => true,
            Verdict::Well => false,
            Verdict::Wrong(finding) => {
                findings.push(finding);
                false
            }
        });
        sleep(LOOK).await;
    }
    fleet.stop().await;
    let well = servers.len() - findings.len();
    report.part("servers", format!("{well} of {count} answer; each was tried once, since no daemon runs"), findings);
    Ok(())
}

/// The sign-ins that there are; a doctor begins none.
fn signins(state_dir: &Path) -> Option<SignIn> {
    let dir = state_dir.join(SIGNINS);
    let dir = dir.is_dir().then(|| StateDir::open(dir).ok()).flatten()?;
    Some(SignIn::new(Store::at(dir)))
}

/// What a look at a server showed.
enum Verdict {
    /// Nothing yet.
    Open,
    Well,
    Wrong(Finding),
}

/// Looks at a server. `late`: it has had this time.
fn verdict(upstream: &Upstream, late: Option<Duration>) -> Verdict {
    let (view, server) = (upstream.states().borrow().clone(), upstream.config());
    let signs_in = match &server.connect {
        Connect::Http(http) => !has_credential(http),
        Connect::Stdio(_) => false,
    };
    let slow = late.map(|time| format!("no connection within {} s, the time that the doctor gives it", time.as_secs()));
    let (state, cause) = match (view.state, slow.as_deref()) {
        ("ready", _) => return Verdict::Well,
        // It would be tried again and again; whoever asks wants to know now.
        ("needs_auth" | "backoff" | "open" | "misconfigured", _) => (view.state, view.cause.as_deref()),
        (_, Some(slow)) => ("starting", Some(slow)),
        (_, None) => return Verdict::Open,
    };
    // What was seen is told without what the daemon would do next.
    let standing = Case { name: upstream.name().as_str(), state, says: cause, cause, server: &server, signs_in };
    match advice::of_server(&standing).map(Finding::from) {
        None => Verdict::Well,
        Some(finding) => Verdict::Wrong(without_daemon(finding)),
    }
}

/// These commands would ask a daemon that does not run.
fn without_daemon(finding: Finding) -> Finding {
    let asks = |command: &String| command.starts_with("trunkline logs ") || command.starts_with("trunkline restart ");
    Finding { command: finding.command.filter(|command| !asks(command)), ..finding }
}
