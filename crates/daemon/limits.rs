//! The process's own limits, in one place.

use std::time::Duration;

/// What closing the servers may take after the drain, before the process is ended from outside the runtime: with
/// the default drain of 20 s that makes the 30 s of R-35.
pub(crate) const CLOSE_AT_MOST: Duration = Duration::from_secs(10);

/// All that a stop may take after a second signal (reliability 8).
pub(crate) const FAST_STOP: Duration = Duration::from_secs(8);

/// Between the end of accepting and the refusal of what still comes: requests that cross with the stop are on their
/// connections by then (reliability 8, the row of 0.0-0.1 s).
pub(crate) const DOORS: Duration = Duration::from_millis(100);

/// How long work that is left in the system's hands may take once all else has ended.
pub(crate) const LEFT_BEHIND: Duration = Duration::from_millis(200);

/// Notices of servers that wait for the hub. A burst beyond is dropped and counted: each is either repeated
/// by the server or found again by a fresh list.
pub(crate) const NOTICES_WAITING_MAX: usize = 1024;

/// How long a taken state directory is asked for again: its holder may be about to go.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two such attempts.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// How long a daemon may take to say that it is there. One that works needs a millisecond.
pub(crate) const LIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Most that is read of such an answer: a status and a handful of headers.
pub(crate) const LIVE_BYTES_MAX: u64 = 4096;

/// How often the daemon looks whether it is well. A service manager that watches wants to hear at least twice within
/// its patience, which is 30 s in our units.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// A scheduler that comes later than this is not well.
pub(crate) const LAG_MAX: Duration = Duration::from_secs(1);

/// The pulse is looked for once in this time; patience is counted in such ticks, not read from a clock.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// How often the key of the sessions is read if the system does not give it at once, and the pause between two readings:
/// together less than a second, within which clients wait in the kernel's queue.
pub(crate) const KEY_READINGS: usize = 5;
/// See [`KEY_READINGS`].
pub(crate) const KEY_PAUSE: Duration = Duration::from_millis(200);

/// Longest line that the bridge over standard input takes: the largest body that the endpoint can be told to take.
pub(crate) const BRIDGE_LINE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Largest answer or event that the bridge passes on: the largest message that a server can be allowed.
pub(crate) const BRIDGE_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Requests that the bridge has under way; while there are more it reads no further line.
pub(crate) const BRIDGE_REQUESTS_MAX: usize = 256;

/// Lines that wait for the client to read them; while there are more nothing is read from the daemon.
pub(crate) const BRIDGE_LINES_WAITING_MAX: usize = 64;

/// Tools whose annotations the bridge remembers.
pub(crate) const BRIDGE_TOOLS_MAX: usize = 10_000;

/// How long the bridge waits for a daemon that was started, or that comes back.
pub(crate) const BRIDGE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a daemon that went away has to come back, before the bridge starts one: its service manager may be about to.
pub(crate) const BRIDGE_RETURN: Duration = Duration::from_secs(8);

/// How often it is looked for.
pub(crate) const BRIDGE_LOOK: Duration = Duration::from_millis(50);

/// Pause before a stream is opened again: the same second that Codex waits (clients.md 2).
pub(crate) const BRIDGE_LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// How often one answer's stream is taken up again.
pub(crate) const BRIDGE_RESUMES_MAX: usize = 30;

/// How long each step of the bridge's end may take: clients give a program two seconds in all.
pub(crate) const BRIDGE_GOODBYE: Duration = Duration::from_millis(500);

/// How long a stop waits for the last spans to reach a collector that may hang.
pub(crate) const TRACES_WAIT: Duration = Duration::from_secs(2);

/// How long a stop waits for the last calls to reach the audit file, on a disk that may hang.
pub(crate) const AUDIT_WAIT: Duration = Duration::from_secs(1);

/// Descriptors that the daemon takes when it asks itself whether it lives: two for the connection, one for the look-up.
pub(crate) const ASKING_TAKES: usize = 3;

/// Descriptors that the daemon may have, where the system lets it: all of `limits.connections` many times over. Not all that
/// the hard limit gives, which is a billion in some containers: children inherit it, and some close each number at their start.
pub(crate) const DESCRIPTORS: u64 = 65_536;
