//! What can be seen of a server from outside: [`StateView`], published at each change, and [`Status`], the whole
//! picture for `status` and `/health`. The sentences that say why a server is away are written here, once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::{Json, Revision, ServerName};

use crate::link::Link;
use crate::offer::Complaint;
use crate::state::{Fuse, Phase, State};

/// A wait that a caller would rather cut short.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// The state a server is in, as its supervisor published it.
#[derive(Clone)]
pub struct StateView {
    /// The name of the state (reliability 6).
    pub state: &'static str,
    /// What was seen last that keeps it from being ready: a fragment without the server's name.
    pub cause: Option<Arc<str>>,
    /// Since when it is in this state.
    pub since: Instant,
    /// When it is tried again, if that is planned.
    pub next_attempt: Option<Instant>,
    pub(crate) phase: Phase,
    /// From when on a call may bring the next attempt forward.
    pub(crate) demand_from: Option<Instant>,
    /// The last connection has to end before the next one begins, and its calls may take their time.
    pub(crate) changing: bool,
    /// It is off because somebody paused it.
    pub(crate) paused: bool,
    /// The connection, while calls may use it.
    pub(crate) link: Option<Arc<Link>>,
}

/// All that is shown of a server.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name of the state (reliability 6).
    pub state: &'static str,
    /// If it is not ready, one sentence: server, phase, what was seen, next step.
    pub reason: Option<String>,
    /// Time to the next attempt, if one is planned.
    pub retry_in: Option<Duration>,
    /// How long it has been in this state.
    pub since: Duration,
    /// `stdio`, `http` or `sse`, while connected.
    pub transport: Option<&'static str>,
    /// The agreed revision.
    pub revision: Option<Revision>,
    /// `serverInfo`, as sent.
    pub identity: Option<Json>,
    /// Process id of the child.
    pub pid: Option<u32>,
    /// Requests the server is working on.
    pub in_flight: usize,
    /// Connections made after the first.
    pub restarts: u64,
    /// State of the GET stream, over streamable HTTP.
    pub get_stream: Option<&'static str>,
    /// Tools offered.
    pub tools: usize,
    /// Prompts offered.
    pub prompts: usize,
    /// Resources offered.
    pub resources: usize,
    /// Resource templates offered.
    pub templates: usize,
    /// What was left out of the offer, and why.
    pub complaints: Vec<Complaint>,
    /// Its lanes beyond the first, where sessions or projects have their own.
    pub lanes: Vec<LaneStatus>,
    /// Whether the offer is one of an earlier connection.
    pub stale: bool,
}

/// What is shown of a lane.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    /// Whose it is: the client that it began with, or a project.
    pub owner: String,
    /// The name of its state.
    pub state: &'static str,
    /// If it is not ready, one sentence.
    pub reason: Option<String>,
    /// How long it has been in this state.
    pub since: Duration,
    /// Process id of its child.
    pub pid: Option<u32>,
    /// Calls that use it.
    pub in_flight: usize,
    /// How long ago it was used last.
    pub unused: Duration,
}

impl StateView {
    /// What to publish of `state`. `link` is given as soon as calls may use it.
    pub(crate) fn new(state: &State, since: Instant, cause: Option<Arc<str>>, link: Option<Arc<Link>>) -> Self {
        let phase = state.phase;
        Self {
            state: phase.name(),
            cause,
            since,
            next_attempt: state.next_attempt(),
            phase,
            demand_from: state.demand_from(),
            changing: false,
            paused: false,
            link,
        }
    }

    /// When there may be a connection again, as far as is known: at once, at the next attempt, or not by itself.
    /// `may_demand`: the caller may bring that attempt forward.
    pub(crate) fn next_chance(&self, may_demand: bool, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Probing { .. } => Some(now),
            Phase::Backoff { .. } if may_demand => self.demand_from.or(self.next_attempt),
            Phase::Backoff { .. } => self.next_attempt,
            // Refused at once: not even a wait that would be short.
            Phase::Open { .. }
            | Phase::NeedsAuth { .. }
            | Phase::Misconfigured { .. }
            | Phase::Disabled
            | Phase::Draining { .. }
            | Phase::Stopped => None,
        }
    }

    /// One sentence that says why the server is away, the same for as long as the state lasts; `None` if it is ready.
    /// When the next attempt is stands beside it, for whoever counts down by himself.
    pub fn standing(&self, server: &ServerName) -> Option<String> {
        self.told(server, "")
    }

    /// One sentence that says why the server is away and what happens next; `None` if it is ready.
    pub(crate) fn sentence(&self, server: &ServerName, now: Instant) -> Option<String> {
        let next = match self.next_attempt {
            Some(at) => {
                let wait = at.saturating_duration_since(now);
                // Whoever reads of a long wait must know that it need not be waited for.
                let sooner = self.demand_from.is_some() && wait > LONG_WAIT;
                format!(", next attempt in {}{}", seconds(wait), if sooner { ", or with the next call" } else { "" })
            }
            None => String::new(),
        };
        self.told(server, &next)
    }

    fn told(&self, server: &ServerName, next: &str) -> Option<String> {
        let cause = self.cause.as_deref().map_or_else(String::new, |cause| format!(": {cause}"));
        let what = match self.phase {
            Phase::Ready { .. } => return None,
            Phase::Disabled if self.paused => {
                return Some(format!("server `{server}` is paused; resume it on the dashboard, or restart it"));
            }
            Phase::Disabled => return Some(format!("server `{server}` is disabled in the configuration")),
            Phase::Idle => return Some(format!("server `{server}` is asleep; the next call starts it")),
            Phase::Draining { .. } => return Some(format!("server `{server}` is being stopped")),
            Phase::Stopped => return Some(format!("server `{server}` is stopped")),
            Phase::Starting if self.cause.is_some() => "is reconnecting",
            Phase::Starting => return Some(format!("server `{server}` is starting: it has not answered yet")),
            Phase::Handshake => return Some(format!("server `{server}` is starting: its lists are being fetched")),
            Phase::Suspect { .. } => {
                return Some(format!("server `{server}` is connected but does not answer; it is being probed"));
            }
            Phase::Backoff { .. } => "is reconnecting",
            Phase::Open { fuse: Fuse::CrashLoop, .. } => "keeps exiting and waits",
            Phase::Open { fuse: Fuse::Breaker, .. } => "fails too many requests and is left alone",
            Phase::Probing { .. } => "failed and is being tried again",
            Phase::NeedsAuth { .. } => "refuses the credential",
            Phase::Misconfigured { .. } => "cannot work as it is configured",
        };
        Some(format!("server `{server}` {what}{next}{cause}"))
    }
}

impl fmt::Debug for StateView {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StateView").field("state", &self.state).field("cause", &self.cause).finish_non_exhaustive()
    }
}

/// Whole seconds, rounded up: "0 s" would read as a promise.
fn seconds(wait: Duration) -> String {
    let up = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    format!("{} s", up.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Luck;
    use crate::error::Disposition;
    use crate::state::{Event, Failure, step};

    fn failed(disposition: Disposition) -> StateView {
        let now = Instant::now();
        let failed = Event::DialFailed(Failure { disposition, ..Failure::SILENT });
        let (state, _) = step(State::starting(now), failed, now, Luck(0.5));
        StateView::new(&state, now, Some("no route".into()), None)
    }

    fn sentence(view: &StateView) -> String {
        let server = ServerName::new("git").expect("a name");
        view.sentence(&server, Instant::now()).expect("it is away")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_says_why_and_what_comes_next() {
        let backoff = sentence(&failed(Disposition::Backoff));
        assert_eq!(backoff, "server `git` is reconnecting, next attempt in 1 s: no route");
        let auth = sentence(&failed(Disposition::NeedsAuth));
        assert_eq!(auth, "server `git` refuses the credential, next attempt in 60 s: no route");
        let view = failed(Disposition::Backoff);
        let standing = view.standing(&ServerName::new("git").expect("a name"));
        assert_eq!(standing.as_deref(), Some("server `git` is reconnecting: no route"), "it does not count down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_told_with_what_cuts_it_short() {
        let far = Some(Instant::now() + Duration::from_secs(48));
        let backoff = StateView { next_attempt: far, ..failed(Disposition::Backoff) };
        let told = sentence(&backoff);
        assert_eq!(told, "server `git` is reconnecting, next attempt in 48 s, or with the next call: no route");
        let on_its_word = StateView { demand_from: None, ..backoff };
        assert_eq!(sentence(&on_its_word), "server `git` is reconnecting, next attempt in 48 s: no route");
    }
}
