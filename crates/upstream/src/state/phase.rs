//! The states by name: what each says of a server, how it is shown, and which of several lanes' is the best.
//!
//! The ways between them are `state.rs`'s.

use tokio::time::Instant;

use super::alone::{Fuse, Trial};

/// The states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The configuration says off.
    Disabled,
    /// Not connected because nobody wants anything of it; the next call starts it.
    Idle,
    /// A connection is being opened, handshake included.
    Starting,
    /// The connection stands; its lists are being fetched.
    Handshake,
    /// Works. `check_at`: when to see whether it has been silent for too long.
    Ready { check_at: Instant },
    /// Connected, but a probe was missed or calls time out.
    Suspect { misses: u32 },
    /// Away; tried again soon. `told`: the wait is the server's own wish, and calls do not shorten it.
    Backoff { until: Instant, told: bool },
    /// Left alone: calls are refused at once. `linked`: the connection stands.
    Open { until: Instant, fuse: Fuse, linked: bool },
    /// One probe, or one start, by us says whether it works again; never a caller's call.
    Probing { fuse: Fuse, by: Trial },
    /// A person must set a key or sign in.
    NeedsAuth { until: Instant },
    /// A person must change the configuration.
    Misconfigured { until: Instant },
    /// Being closed for good, or until the configuration says on again.
    Draining { until: Instant, end: End },
    /// Closed for good, unless it comes back into the configuration while an older connection of it ends.
    Stopped,
}

/// Where a server is when its connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The daemon stops, or the server left the configuration.
    Stopped,
    /// The configuration says off.
    Disabled,
}

impl Phase {
    /// Whether a fresh connection's lists are awaited.
    pub(crate) fn is_opening(self) -> bool {
        matches!(self, Self::Handshake | Self::Probing { by: Trial::Start, .. })
    }

    /// Whether the breaker is what keeps calls away.
    pub(crate) fn is_broken(self) -> bool {
        matches!(self, Self::Open { fuse: Fuse::Breaker, .. } | Self::Probing { fuse: Fuse::Breaker, .. })
    }

    /// The place of a lane's state among those of others, the best first.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Ready { .. } => 0,
            Self::Suspect { .. } => 1,
            Self::Handshake => 2,
            Self::Starting => 3,
            Self::Probing { .. } => 4,
            Self::Backoff { .. } => 5,
            Self::Open { .. } => 6,
            Self::NeedsAuth { .. } => 7,
            Self::Misconfigured { .. } => 8,
            Self::Idle => 9,
            Self::Draining { .. } | Self::Stopped => 10,
            Self::Disabled => 11,
        }
    }

    /// The name in logs, metrics and status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Handshake => "handshake",
            Self::Ready { .. } => "ready",
            Self::Suspect { .. } => "suspect",
            Self::Backoff { .. } => "backoff",
            Self::Open { .. } => "open",
            Self::Probing { .. } => "probing",
            Self::NeedsAuth { .. } => "needs_auth",
            Self::Misconfigured { .. } => "misconfigured",
            Self::Draining { .. } => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl End {
    /// The state after the close.
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Stopped => Phase::Stopped,
            Self::Disabled => Phase::Disabled,
        }
    }
}
