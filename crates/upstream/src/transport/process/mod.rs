//! Child processes: each one behind a guard, in one owned task (reliability 9).
//!
//! [`start`] runs this binary once more as a guard ([`guard`]), hands it the command and three pipes, and returns
//! when the command runs or could not be run. From then on one task owns the tree. It ends the tree when [`Tree`]
//! says so or is dropped, at whatever await that happens, and it is done only when nobody is left: the guard goes
//! through the stop order, the task bounds it, kills a guard that hangs, sweeps by marker and reaps.
//!
//! Nothing here reads or writes the child's pipes.

mod cgroup;
pub mod guard;
mod predecessors;
mod sweep;
mod unix;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trunkline_config::Caps;
use trunkline_telemetry::{Metrics, TreeAccount};
use trunkline_wire::ServerName;

use crate::environment::GuardProgram;
use cgroup::Group;

pub(crate) use cgroup::Groups;

pub use predecessors::Predecessors;
pub(crate) use sweep::MARK;
pub(crate) use unix::own_program;

/// Time a child gets to heed the end of its stdin; TERM and its wait of one and a half times as long follow.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the pipe of a child's stdout holds. With the usual 64 KiB a result of 1 MiB costs sixteen rounds of waking
/// each other. Not more: a user's pipes share 64 MiB (`pipe-user-pages-soft`), beyond which everybody's shrink.
#[cfg(target_os = "linux")]
const STDOUT_PIPE_BYTES: usize = 256 * 1024;

/// For the guard to report that the command runs. It takes milliseconds; the rest is for a machine that swaps.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What the guard may need beyond both waits of the stop order: four seconds of KILL, and some slack.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// For a guard that said it is done to be gone.
const GUARD_EXIT_LIMIT: Duration = Duration::from_secs(1);

/// Rounds of the sweep: more than one, for what forked during the first.
const SWEEP_ROUNDS: u32 = 5;

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No guard: the system is short of something, or the guard failed.
    #[error("its guard process could not be started: {0}")]
    Guard(#[from] io::Error),
    /// What the system said to the command itself.
    #[error("{0}")]
    Command(String),
}

/// What to run. There is no shell between this and the process.
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The whole environment, but for the marker.
    pub(crate) env: Vec<(String, String)>,
    /// `None`: the daemon's own.
    pub(crate) cwd: Option<PathBuf>,
    /// What it may take, where the system lets us say so.
    pub(crate) caps: Caps,
}

/// A command that runs, and its three pipes.
pub(crate) struct Started {
    pub(crate) tree: Tree,
    pub(crate) stdin: pipe::Sender,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// The handle of a process tree. Dropping it ends the tree, in the task that owns it.
pub(crate) struct Tree {
    pid: u32,
    stop: watch::Sender<Option<Duration>>,
    life: watch::Receiver<Life>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By the kernel, because the tree took more memory than it may.
    OutOfMemory,
    /// Unseen: its guard was killed.
    Unknown,
}

/// What is known of a tree. Facts are only ever added: whoever looks late, after a child that ended at once, still
/// sees that it began.
#[derive(Debug, Clone, Default)]
struct Life {
    /// The command's process id, or why it could not be run.
    begun: Option<Result<u32, String>>,
    /// How the command ended.
    exit: Option<Exit>,
    /// Nobody is left.
    gone: bool,
}

/// A line of the guard's.
enum Report {
    Begun(Result<u32, String>),
    Exited(Exit),
    Gone,
}

/// This daemon's part of every marker. Random, so that no other daemon's children are ever taken for ours.
pub fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| format!("{:016x}", getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))))
}

/// Runs `command` under a guard, once nothing is left of the daemons before this one.
///
/// Dropping the future ends what it started.
pub(crate) async fn start(
    program: &GuardProgram,
    name: &ServerName,
    command: Command,
    metrics: &Metrics,
) -> Result<Started, StartError> {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    program.opened().await;
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let mark = format!("{}.{}.{generation}", instance(), name.namespace());
    let (program, marked) = (program.clone(), mark.clone());
    // A fork and a few writes: short, but not for a thread that serves calls. What is under way when this future
    // is dropped ends with the socket.
    let spawned = tokio::task::spawn_blocking(move || spawn_guard(&program, &command, &marked));
    let Spawned { guard, group, life, stdin, stdout, stderr } = spawned.await.map_err(io::Error::other)??;

    let (stop, stopped) = watch::channel(None);
    let (living, life_seen) = watch::channel(Life::default());
    let account = metrics.tree(name, guard.id().unwrap_or_default());
    let owner = Owner { guard, group: group.take(), living, stopped, mark, account, metrics: metrics.clone() };
    trunkline_telemetry::spawn("child", owner.run(life));

    let mut tree = Tree { pid: 0, stop, life: life_seen };
    let begun = timeout(START_LIMIT, tree.life.wait_for(|life| life.begun.is_some() || life.gone)).await;
    let begun = begun.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not report in time"))?;
    match begun.ok().and_then(|life| life.begun.clone()) {
        Some(Ok(pid)) => tree.pid = pid,
        Some(Err(why)) => return Err(StartError::Command(why)),
        None => return Err(io::Error::other("it ended before it ran the command").into()),
    }
    Ok(Started { tree, stdin, stdout, stderr })
}

impl Tree {
    /// Process id of the command.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when the command itself has ended.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        self.life_until(|life| life.exit.is_some() || life.gone)
    }

    /// Ends the tree: `grace` to heed the end of stdin, TERM, one and a half times `grace`, KILL. Resolves when
    /// nobody is left. Dropping the future changes nothing.
    pub(crate) fn stop(&self, grace: Duration) -> impl Future<Output = Exit> + Send + 'static {
        self.stop.send_replace(Some(grace));
        self.life_until(|life| life.gone)
    }

    fn life_until(&self, holds: fn(&Life) -> bool) -> impl Future<Output = Exit> + Send + 'static {
        let mut life = self.life.clone();
        async move { life.wait_for(holds).await.ok().and_then(|life| life.exit).unwrap_or(Exit::Unknown) }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exited with status {code}"),
            Self::Signal(signal) => write!(out, "was killed by signal {signal}{}", signal_name(*signal)),
            Self::OutOfMemory => {
                out.write_str("was killed because it took more memory than it may (`limits.memory_bytes`)")
            }
            Self::Unknown => out.write_str("ended"),
        }
    }
}

/// The names people know, where the numbers are the same on all systems.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        15 => " (TERM)",
        _ => "",
    }
}

struct Spawned {
    guard: Child,
    group: Entered,
    life: UnixStream,
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// The control group of a tree that nobody owns yet: ended if it is not taken, for it would stay for ever. What is in it
/// then is a guard whose orders did not reach it, or a child that nobody waits for any more.
struct Entered(Option<Group>);

impl Entered {
    fn take(mut self) -> Option<Group> {
        self.0.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            group.end();
        }
    }
}

fn spawn_guard(program: &GuardProgram, command: &Command, mark: &str) -> io::Result<Spawned> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let ((stdin_read, stdin), (stdout, stdout_write), (stderr, stderr_write)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    // A wish: the kernel may refuse, and then a large answer comes in smaller pieces.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, STDOUT_PIPE_BYTES);
    let mut guard = tokio::process::Command::new(&program.path);
    guard.arg0("trunkline").args(&program.args).arg("watch");
    guard.env_clear().envs(command.env.iter().map(|(key, value)| (key, value))).env(MARK, mark);
    if let Some(cwd) = &command.cwd {
        guard.current_dir(cwd);
    }
    guard.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let child = guard.spawn()?;
    drop(guard);
    // Before it has its orders, so that all it starts begins inside.
    let group = Entered(program.groups().and_then(|groups| enter_group(groups, mark, command, &child)));
    ours.set_write_timeout(Some(START_LIMIT))?;
    let argv = std::iter::once(command.program.as_os_str()).chain(command.args.iter().map(OsStr::new));
    unix::hand_over(&ours, argv, [stdin_read.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()])?;
    ours.set_nonblocking(true)?;
    Ok(Spawned {
        guard: child,
        group,
        life: UnixStream::from_std(ours)?,
        stdin: pipe::Sender::from_owned_fd(stdin.into())?,
        stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
        stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
    })
}

/// Gives the tree a control group of its own. It runs without one, too.
fn enter_group(groups: &Groups, mark: &str, command: &Command, guard: &Child) -> Option<Group> {
    // Without the instance, which is the same for all.
    let name = mark.split_once('.').map_or(mark, |(_, name)| name);
    let entered = groups.make(name, &command.caps).and_then(|group| match guard.id().map(|pid| group.admit(pid)) {
        Some(Err(error)) => {
            group.end();
            Err(error)
        }
        Some(Ok(())) | None => Ok(group),
    });
    entered.inspect_err(|error| tracing::warn!(%error, name, "a child got no control group of its own")).ok()
}

/// The one owner of a tree.
struct Owner {
    guard: Child,
    group: Option<Group>,
    living: watch::Sender<Life>,
    stopped: watch::Receiver<Option<Duration>>,
    mark: String,
    account: TreeAccount,
    metrics: Metrics,
}

impl Owner {
    async fn run(mut self, life: UnixStream) {
        self.follow(life).await;
        // The socket is closed by now, so even a guard that missed every word is on its way out.
        if timeout(GUARD_EXIT_LIMIT, self.guard.wait()).await.is_err() {
            let _ = self.guard.kill().await;
        }
        let (mark, group) = (self.mark.clone(), self.group.take());
        let swept = move || group.map_or(0, Group::end) + sweep::sweep(&mark, SWEEP_ROUNDS);
        match tokio::task::spawn_blocking(swept).await {
            Ok(0) => {}
            Ok(found) => {
                self.metrics.orphans_swept(found);
                tracing::warn!(mark = self.mark, found, "killed processes that had escaped their guard");
            }
            Err(error) => tracing::error!(mark = self.mark, %error, "sweep failed"),
        }
        drop(self.account);
        self.living.send_modify(|life| life.gone = true);
    }

    /// A process that the kernel killed for its memory is told apart from one that somebody killed.
    fn why(&self, exit: Exit) -> Exit {
        match exit {
            Exit::Signal(9) if self.group.as_ref().is_some_and(Group::ran_out_of_memory) => Exit::OutOfMemory,
            Exit::Signal(_) | Exit::Code(_) | Exit::OutOfMemory | Exit::Unknown => exit,
        }
    }

    /// Follows the guard's reports to the last, and passes on the word to stop.
    async fn follow(&mut self, life: UnixStream) {
        let (reports, mut words) = life.into_split();
        let mut reports = BufReader::new(reports).lines();
        let mut deadline = None;
        loop {
            tokio::select! {
                report = reports.next_line() => match report {
                    Ok(Some(report)) => match read_report(&report) {
                        Some(Report::Begun(begun)) => self.living.send_modify(|life| life.begun = Some(begun)),
                        Some(Report::Exited(exit)) => {
                            let exit = self.why(exit);
                            if deadline.is_none() {
                                self.account.ended("exited");
                            }
                            deadline.get_or_insert_with(|| stop_deadline(STOP_GRACE));
                            self.living.send_modify(|life| life.exit = Some(exit));
                        }
                        Some(Report::Gone) => return,
                        None => tracing::warn!(report, "report of a guard not understood"),
                    },
                    Ok(None) | Err(_) => return self.account.ended("guard_lost"),
                },
                grace = next_word(&mut self.stopped), if deadline.is_none() => {
                    deadline = Some(stop_deadline(grace));
                    // A failed write means that the guard is gone, which the reports' end will say.
                    let _ = words.write_all(format!("stop {}\n", grace.as_millis()).as_bytes()).await;
                }
                () = until(deadline) => {
                    tracing::warn!(mark = self.mark, "guard did not end its tree in time");
                    let _ = self.guard.start_kill();
                    return;
                }
            }
        }
    }
}

/// The word to stop; that nobody is left who could say it is one, too.
async fn next_word(stopped: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stopped.wait_for(Option::is_some).await.ok().and_then(|word| *word).unwrap_or(STOP_GRACE)
}

fn stop_deadline(grace: Duration) -> Instant {
    Instant::now() + grace * 5 / 2 + STOP_SLACK
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn read_report(line: &str) -> Option<Report> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match what {
        "started" => Report::Begun(Ok(rest.parse().ok()?)),
        "failed" => Report::Begun(Err(rest.to_owned())),
        "exited" => Report::Exited(match rest.split_once(' ')? {
            ("code", number) => Exit::Code(number.parse().ok()?),
            ("signal", number) => Exit::Signal(number.parse().ok()?),
            _ => return None,
        }),
        "gone" => Report::Gone,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r30_a_start_that_fails_leaves_no_control_group_behind() {
        let unit = tempfile::tempdir().expect("a directory");
        let path = unit.path().join("git.7");
        cgroup::tests::group(&path);
        let program = GuardProgram::new("/bin/sh", []).in_these(Groups::at(unit.path()));
        let args = vec!["an argument that cannot be passed on\0".to_owned()];
        let command = Command { program: "server".into(), args, env: Vec::new(), cwd: None, caps: Caps::default() };
        assert!(spawn_guard(&program, &command, "0123456789abcdef.git.7").is_err());
        assert_ne!(std::fs::read_to_string(path.join("cgroup.procs")).expect("readable"), "", "the guard was in it");
        assert_eq!(std::fs::read_to_string(path.join("cgroup.kill")).expect("readable"), "1", "it is ended");
    }
}
