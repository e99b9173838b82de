//! The guard: a tiny mode of this binary that stands between the daemon and each child (reliability 9.1, 9.2).
//!
//! It is a process of its own because only that outlives a `kill -9` of the daemon. It owns the child and all its
//! descendants, for which it is subreaper, and nothing else: the child's pipes pass through it by descriptor, it
//! never reads a byte of them and keeps no copy. Its stdin is a socket whose other end only the daemon holds: over it
//! comes the command, then `stop <ms>`, and its end means that the daemon is dead. Back go, one per line, `started
//! <pid>` or `failed <why>`, `exited code <n>` or `exited signal <n>`, and `gone` once no descendant lives.
//!
//! Stop order, on a word, on the daemon's death, and for what a child leaves behind when it ends by itself: wait for
//! the end of stdin to be heeded, TERM, wait, KILL until nobody is left. The child leads a group apart from the
//! guard's, so that neither a group kill nor a child's own `kill 0` hits the guard.
//!
//! A second stage, `exec`, sets on itself what only the process concerned can set without `unsafe` (the signal on
//! the parent's death, the umask) and then becomes the command. Signal mask and SIGPIPE are put back by std.
//!
//! No runtime, no logging, no configuration. Three threads: `main`, which lives longest because the parent-death
//! signal is tied to the thread that spawned; one that listens to the daemon; one that reaps.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::time::Instant;

use super::sweep;
use super::unix::{self, Argv};

/// Time to heed the end of stdin when the daemon gives none, being dead.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long KILL is repeated: beyond it the process hangs in the kernel, where no signal reaches it.
const KILL_LIMIT: Duration = Duration::from_secs(4);

/// Between two rounds of KILL, for what forks faster than one round finds.
const KILL_ROUND: Duration = Duration::from_millis(50);

/// Runs this process as a guard. `args` are the last arguments of the process: those after its hidden `__guard`.
///
/// Returns when the child and all its descendants are gone.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.into_iter().filter_map(|arg| arg.into_string().ok()).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["watch"] => watch(),
        ["exec", guard] => exec(guard),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "this mode is for trunkline's own use")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkline guard: {error}");
            ExitCode::FAILURE
        }
    }
}

/// First stage: starts the command and guards it to the end.
fn watch() -> io::Result<()> {
    unix::close_inherited()?;
    let daemon = unix::take_stdin_socket()?;
    let (argv, pipes) = unix::take_over(&daemon)?;
    #[cfg(target_os = "linux")]
    {
        rustix::thread::set_name(sweep::GUARD_NAME)?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    match begin(&argv, pipes) {
        Ok(child) => Watch::new(daemon, child)?.run(),
        Err(error) => report(&daemon, &format!("failed {error}")),
    }
    Ok(())
}

/// Second stage: becomes the command, or sends back why it could not.
fn exec(guard: &str) -> io::Result<()> {
    let mut answer = unix::take_stdin_socket()?;
    let (argv, [stdin, stdout, stderr]) = unix::take_over(&answer)?;
    rustix::stdio::dup2_stdin(stdin.as_fd())?;
    rustix::stdio::dup2_stdout(stdout.as_fd())?;
    rustix::stdio::dup2_stderr(stderr.as_fd())?;
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The guard may have died before the signal was set.
    if Pid::as_raw(rustix::process::getppid()).to_string() != guard {
        return Err(io::Error::other("the guard is gone"));
    }
    let (program, rest) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let error = Command::new(program).args(rest).exec();
    answer.write_all(error.to_string().as_bytes())
}

/// Starts the second stage and waits until it has become the command.
fn begin(argv: &Argv, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<Pid> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let guard = Pid::as_raw(Some(rustix::process::getpid()));
    let mut stage = Command::new(unix::own_program()?);
    // All that led here, but for `watch` itself.
    let mode = std::env::args_os().skip(1).filter(|arg| arg != "watch");
    stage.arg0("trunkline").args(mode).args(["exec", &guard.to_string()]);
    stage.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let child = Pid::from_child(&stage.spawn()?);
    // What the other side holds must be held by nobody else, or its end is not seen here.
    drop(stage);
    unix::hand_over(&ours, argv.iter().map(OsStr::new), [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    drop((stdin, stdout, stderr));
    let mut failure = String::new();
    ours.read_to_string(&mut failure)?;
    if failure.is_empty() { Ok(child) } else { Err(io::Error::other(failure)) }
}

enum Event {
    /// End the tree, giving it this long to heed the end of its stdin.
    Stop(Duration),
    /// This process has ended.
    Reaped(Pid, WaitStatus),
    /// No descendant is left: an orphan would have become ours.
    Childless,
}

struct Watch {
    daemon: UnixStream,
    events: Receiver<Event>,
    child: Pid,
    stop: Option<Duration>,
    exited: bool,
    childless: bool,
}

impl Watch {
    fn new(daemon: UnixStream, child: Pid) -> io::Result<Self> {
        report(&daemon, &format!("started {}", child.as_raw_pid()));
        let (sender, events) = sync_channel(64);
        let (listener, reaper) = (sender.clone(), sender);
        let words = daemon.try_clone()?;
        thread::Builder::new().name("listen".into()).spawn(move || listen(words, &listener))?;
        thread::Builder::new().name("reap".into()).spawn(move || reap(&reaper))?;
        Ok(Self { daemon, events, child, stop: None, exited: false, childless: false })
    }

    fn run(mut self) {
        self.take_events(None, |it| it.stop.is_some() || it.exited);
        let grace = self.stop.unwrap_or(STOP_GRACE);
        if !self.exited {
            self.take_events(Some(grace), |it| it.exited);
        }
        // Mostly nobody is left behind, and this says so at once.
        self.take_events(Some(KILL_ROUND), |it| it.childless);
        if !self.childless {
            self.signal(Signal::TERM);
            self.take_events(Some(grace * 3 / 2), |it| it.childless);
        }
        let mut spent = Duration::ZERO;
        while !self.childless && spent < KILL_LIMIT {
            self.signal(Signal::KILL);
            self.take_events(Some(KILL_ROUND), |it| it.childless);
            spent += KILL_ROUND;
        }
        if self.childless {
            report(&self.daemon, "gone");
        }
    }

    /// Takes events until `enough`, or until the time is over.
    fn take_events(&mut self, limit: Option<Duration>, enough: impl Fn(&Self) -> bool) {
        let deadline = limit.map(|limit| Instant::now() + limit);
        while !enough(self) {
            let event = match deadline {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Stop(grace)) => self.stop = Some(self.stop.map_or(grace, |before| before.min(grace))),
                Ok(Event::Reaped(pid, status)) if pid == self.child => {
                    self.exited = true;
                    report(&self.daemon, &describe(status));
                }
                Ok(Event::Reaped(..)) => {}
                Ok(Event::Childless) => self.childless = true,
                Err(_) => return,
            }
        }
    }

    /// Signals the whole tree, nobody twice: the group first, because that catches members that fork meanwhile.
    fn signal(&self, signal: Signal) {
        // Once the leader is reaped, its id may name another group.
        if !self.exited {
            let _ = rustix::process::kill_process_group(self.child, signal);
        }
        let strays = sweep::descendants(rustix::process::getpid());
        for stray in strays.iter().filter(|it| self.exited || it.group != self.child.as_raw_pid()) {
            sweep::signal(stray, signal);
        }
    }
}

/// Passes on the daemon's word. The end of the socket is the daemon's end.
fn listen(daemon: UnixStream, events: &SyncSender<Event>) {
    for word in BufReader::new(daemon).lines() {
        let Ok(word) = word else { break };
        let Some(grace) = word.strip_prefix("stop ").and_then(|ms| ms.parse().ok()) else { continue };
        if events.send(Event::Stop(Duration::from_millis(grace))).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Stop(STOP_GRACE));
}

/// Reaps whoever ends, adopted descendants included, as soon as it ends.
fn reap(events: &SyncSender<Event>) {
    loop {
        let event = match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => Event::Reaped(pid, status),
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(_) => Event::Childless,
        };
        let last = matches!(event, Event::Childless);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status.terminating_signal() {
        Some(signal) => format!("exited signal {signal}"),
        None => format!("exited code {}", status.exit_status().unwrap_or_default()),
    }
}

/// Tells the daemon, if it is still there to hear it.
fn report(mut daemon: &UnixStream, line: &str) {
    let _ = daemon.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes());
}
