//! The door's own limits (reliability 7), in one place.
//!
//! What a person may tune stands in the configuration; these are fixed, because a client that needs other
//! values is broken or hostile. There is no limit per user and none on the rate of new connections: only
//! the owner of the daemon (and root) gets past the door, and their own tools may well open a thousand
//! streams within a second.

use std::time::Duration;

/// A request's head. Session ids and vendor headers fit many times over.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A request's target: path and query. No route of ours comes near it.
pub(crate) const TARGET_BYTES_MAX: usize = 2 * 1024;

/// Largest piece read from a socket at once. Buffers start at 8 KiB and grow to this only while a body
/// fills them, so that idle connections stay small and 16 MiB bodies take few system calls.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// How long a refused body is still read, and thrown away, so that its sender gets to read the refusal.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader that takes nothing for so long is cut.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence on an event stream before a comment keeps it alive (mcp-protocol 3.10).
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Open connections of the owner's socket. Commands are asked one by one.
pub(crate) const OWNER_CONNECTIONS_MAX: usize = 64;

/// How long the accept loop rests when the process or the system has no file left: long enough not to
/// spin, short enough that nobody notices.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel holds while the accept loop is busy. The clients of one machine start
/// together, at login.
pub(crate) const BACKLOG: u32 = 1024;

/// How long a taken address is asked for again before the start fails: a predecessor's drain may end.
pub(crate) const BIND_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two such attempts.
pub(crate) const BIND_PAUSE: Duration = Duration::from_millis(250);

/// Idle streams end spread over this time at shutdown, so that their clients do not return as one.
pub(crate) const STREAM_END_SPREAD: Duration = Duration::from_secs(1);

/// Messages that wait for the reader of an HTTP+SSE stream. Beyond it the calls that have more to say wait, each in
/// its own place of `limits.in_flight`; what has no such place is refused.
pub(crate) const PAIR_QUEUE_MAX: usize = 64;

/// How long the calls of an HTTP+SSE session go on after its stream was lost: what is all but done gets done, and a
/// server that waits for an answer of this client is told within a second.
pub(crate) const PAIR_GRACE: Duration = Duration::from_millis(500);

/// What a standalone stream tells its client to wait before it reconnects after a planned stop.
pub(crate) const STREAM_RETRY: Duration = Duration::from_secs(1);

/// What a request is told to wait that was refused because the gateway has enough to do.
pub(crate) const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// What a probe of a stopping daemon is told to wait: the next one is there by then, or the drain goes on
/// (reliability 8).
pub(crate) const DRAIN_RETRY: Duration = Duration::from_secs(2);

/// Time for the last answers to leave the process after the hard stop.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Pages that may watch at the same time: a person has a few open, and each costs a comparison twice a second.
pub(crate) const BOARD_STREAMS_MAX: usize = 16;

/// How often a page is told what changed: often enough to seem at once, seldom enough that a busy daemon has no more to
/// tell than a quiet one.
pub(crate) const BOARD_TICK: Duration = Duration::from_millis(500);

/// How often what is dear to find out is looked at while somebody watches: processes, and what clients cannot have.
pub(crate) const BOARD_DEAR_EVERY: Duration = Duration::from_secs(5);

/// Clients that the dashboard lists; how many there are is said beside it.
pub(crate) const BOARD_CLIENTS_MAX: usize = 64;

/// Processes that are looked through for those behind the clients, while somebody watches: more than a person's machine runs.
pub(crate) const HOLDERS_PROCESSES_MAX: usize = 8192;

/// Open files of each that are looked at.
pub(crate) const HOLDERS_FILES_MAX: usize = 4096;

/// Calls that the dashboard lists.
pub(crate) const BOARD_CALLS_MAX: u64 = 100;

/// stderr shown per server in health (reliability 7).
pub(crate) const STDERR_SHOWN_BYTES: usize = 8 * 1024;

/// All of the stderr that is kept per server, for `trunkline logs` (reliability 7).
pub(crate) const STDERR_KEPT_BYTES: usize = 64 * 1024;

/// An event below this size is copied into one piece with its framing, a larger one is sent as it lies:
/// one copy costs less than two more chunks only while it is small.
pub(crate) const EVENT_COPIED_BYTES: usize = 16 * 1024;

/// Connections to a port that waits for one browser: browsers open some that they may need.
pub(crate) const CALLBACK_CONNECTIONS_MAX: usize = 16;

/// How long a login waits for its port: the login before it, which is given up, closes it at once.
pub(crate) const CALLBACK_BIND_PATIENCE: Duration = Duration::from_secs(1);

/// Tools that a search of the owner's gives: what a person looks through.
pub(crate) const FOUND_MAX: usize = 20;

/// How often the log says again what the door is short of, and how long health goes on to say it.
pub(crate) const STRAIN_EVERY: Duration = Duration::from_mins(1);

/// What the log shows of what a refused client calls itself.
pub(crate) const AGENT_SHOWN_BYTES: usize = 128;
