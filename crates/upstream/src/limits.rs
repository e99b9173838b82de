//! Times, counts and sizes of this crate that no configuration changes, each with its reason (reliability 7).

use std::time::Duration;

/// Longest wait of a call for its server to become ready. A restart of a child takes a few seconds; a caller
/// that waits longer is better told why.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(10);

/// Shortest time between two attempts to connect that calls ask for.
pub(crate) const DEMAND_SPACING: Duration = Duration::from_secs(2);

/// How long a probe may take.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is seen whether the machine slept, or its network changed. Three small reads.
pub(crate) const WAKE_TICK: Duration = Duration::from_secs(2);

/// A look that comes later than this was slept through.
pub(crate) const WAKE_LATE: Duration = Duration::from_secs(10);

/// How long the probe of a connection may take that the machine slept through, or whose network is another now: with the
/// new connection after it the server is back within ten seconds.
pub(crate) const WAKE_PROBE: Duration = Duration::from_secs(5);

/// Least time between two probes that were missed. A server that restarts refuses for a moment: refusals that follow each
/// other within it are one look, and must not cost the calls that still run.
pub(crate) const PROBE_SPACING: Duration = Duration::from_secs(2);

/// Missed probes in a row that end a connection.
pub(crate) const PROBE_MISSES: u32 = 3;

/// Timeouts of calls in a row that cast doubt on a connection.
pub(crate) const TIMEOUTS_IN_A_ROW: u32 = 3;

/// Time ready after which all retry counters start anew.
pub(crate) const HEALTHY_AFTER: Duration = Duration::from_mins(1);

/// As many exits of a child as the configuration says make a crash loop within it.
pub(crate) const CRASH_WINDOW: Duration = Duration::from_mins(1);

/// Longest time that closing one connection may take: stdin, TERM and KILL of a child take 5 s (reliability 9).
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(8);

/// How long what was posted may still take to be delivered when a connection is closed in order (reliability 8, the row
/// of 20.0-20.5 s). Servers that read need no time at all.
pub(crate) const COURIER_GRACE: Duration = Duration::from_millis(500);

/// The part of it that a server gets to go by itself, once its stdin is closed; TERM follows (reliability 9.6).
pub(crate) const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// How long calls may go on upon a connection that is to end: that of a server that was changed, switched off or taken
/// out of the configuration, or that nobody uses.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);

/// How long a call waits for a changed server whose old connection has to end first.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(5);

/// How long the old connection of a changed server may serve on while the new one does not come about.
pub(crate) const SWAP_WAIT: Duration = Duration::from_secs(30);

/// Wait between two attempts at it. Somebody is changing things, and looks at what comes of it.
pub(crate) const SWAP_PAUSE: Duration = Duration::from_secs(2);

/// Old connections of one server that end beside the one in use: as many as there are changes within [`DRAIN`] by hand.
pub(crate) const RETIRING_MAX: usize = 8;

/// Shortest time between the last new call on such a connection and its end. A call that saw it just before is
/// registered within microseconds.
pub(crate) const DRAIN_LEAST: Duration = Duration::from_millis(100);

/// How often such a connection is looked at.
pub(crate) const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Time that a dial gets beyond its own limits before it is given up: it must never hang.
pub(crate) const DIAL_SLACK: Duration = Duration::from_secs(15);

/// Longest first start: a launcher may download packages.
pub(crate) const FIRST_START: Duration = Duration::from_mins(2);

/// Longest later start, and the handshake over HTTP (reliability 6).
pub(crate) const LATER_START: Duration = Duration::from_secs(30);

/// How long a child may be silent on `server/discover` before it is sent `initialize` as well.
pub(crate) const DISCOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait between a supervisor's panic and its restart.
pub(crate) const SUPERVISOR_RESTART: Duration = Duration::from_secs(1);

/// Notices of one call that are held for a slow reader; later progress supersedes earlier.
pub(crate) const NOTICES_MAX: usize = 64;

/// Questions of a server that wait for an answer during one call. A form has a dozen fields, not a dozen forms.
pub(crate) const QUESTIONS_MAX: usize = 16;

/// Rounds of questions of a modern server in one call; SDK clients stop there as well (mcp-protocol 5.10 rule 6).
pub(crate) const ROUNDS_MAX: u32 = 10;

/// Wait before a modern server that wants nothing but its state back is asked again (mcp-protocol 5.10 rule 6).
pub(crate) const STATE_PAUSE: Duration = Duration::from_millis(250);

/// How often a task is looked at, if the server does not say (mcp-protocol 5.14).
pub(crate) const TASK_POLL: Duration = Duration::from_secs(1);

/// A server that wants its tasks looked at more often than this is not obeyed.
pub(crate) const TASK_POLL_MIN: Duration = Duration::from_millis(100);

/// Nor one that wants it less often: a result lies there and a caller waits.
pub(crate) const TASK_POLL_MAX: Duration = Duration::from_secs(30);

/// How often whoever called what became a task, and wants progress, has a sign of life: a third of the patience of the most
/// impatient clients, which is a minute (mcp-protocol 5.14).
pub(crate) const TASK_BEAT: Duration = Duration::from_secs(20);

/// Looks at a task in a row that may fail on their way.
pub(crate) const TASK_MISSES: u32 = 5;

/// How long a call waits for the list that tells a tool's headers anew. Longer than the quiet time before a refresh.
pub(crate) const HEADERS_WAIT: Duration = Duration::from_secs(5);

/// Notifications and answers waiting to be sent to one server. More than every call of a server can cause.
pub(crate) const COURIER_MAX: usize = 1024;

/// Notifications and answers on their way at the same time, so that one slow POST does not hold up the rest.
pub(crate) const COURIER_WIDTH: usize = 8;

/// How long one of those may take.
pub(crate) const COURIER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages of one list; more is a loop (mcp-protocol 2.11).
pub(crate) const PAGES_MAX: usize = 1000;

/// Entries of one list (mcp-protocol 2.11).
pub(crate) const ITEMS_MAX: usize = 100_000;

/// Bytes kept of one list, so that pages times page size stay bounded.
pub(crate) const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is kept of one server for the next process. Real catalogues take a hundredth.
pub(crate) const SHELF_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Servers that something is kept of, those included that are not configured now.
pub(crate) const SHELF_FILES_MAX: usize = 256;

/// Least time between two writes of what is kept; a list changes no faster.
pub(crate) const SHELF_QUIET: Duration = Duration::from_secs(2);

/// Tools of one server. No client can use more.
pub(crate) const TOOLS_MAX: usize = 1000;

/// Longest description of an entry.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;

/// Largest schema of a tool.
pub(crate) const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// Complaints kept per list; the rest is summed up in one.
pub(crate) const COMPLAINTS_MAX: usize = 50;

/// Quiet time after a change notice before the list is fetched again.
pub(crate) const REFRESH_QUIET: Duration = Duration::from_millis(300);

/// Shortest time between two refreshes, and the longest that a stream of notices can put one off.
pub(crate) const REFRESH_SPACING: Duration = Duration::from_secs(2);

/// When a list that could not be had is asked for again.
pub(crate) const REFRESH_RETRY: Duration = Duration::from_mins(1);

/// Quiet time before a changed log level is sent (mcp-protocol 6.5).
pub(crate) const LEVEL_QUIET: Duration = Duration::from_secs(1);

/// Subscriptions of one server that are restored on each new connection.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1000;

/// Quiet time before a listen with other resources is opened: clients subscribe to many at once.
pub(crate) const LISTEN_QUIET: Duration = Duration::from_millis(50);

/// How long the listen before is still read once the next one stands.
pub(crate) const LISTEN_OVERLAP: Duration = Duration::from_millis(250);

/// Shortest wait before a listen that the server ended itself is opened again (mcp-protocol 4.4).
pub(crate) const LISTEN_GRACE: Duration = Duration::from_secs(1);

/// How long a subscription waits for its listen to stand, before it is answered all the same.
pub(crate) const LISTEN_WAIT: Duration = Duration::from_secs(5);

/// Larger requests are never sent a second time: what they carry is not held back for that (reliability 5).
pub(crate) const REPLAY_BYTES_MAX: usize = 1024 * 1024;

/// How long a program may take that is run for a secret: a password manager that is unlocked answers within a second.
pub(crate) const SECRET_PATIENCE: Duration = Duration::from_secs(10);

/// Most that such a program may print: larger than any token or key.
pub(crate) const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Once in this time, a server that refuses a credential in use is met again with what its files and programs say now.
pub(crate) const SECRET_AGAIN: Duration = Duration::from_mins(1);

/// Longest `Retry-After` of a refused request that is waited for; beyond it the caller decides.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// When a request that a stopping daemon refused may be repeated: a planned restart is over by then (reliability 8).
pub(crate) const RESTART_WAIT: Duration = Duration::from_secs(2);

/// How long it may take a server after its lists to ask for roots that it was told it may ask for. One that wants them asks
/// at once; the first call of a lane waits for it.
pub(crate) const ROOTS_ASKED_IN: Duration = Duration::from_millis(500);

/// How long a server may take to work by the roots that it was told: it looks at each on the disk.
pub(crate) const ROOTS_SETTLE: Duration = Duration::from_millis(200);
