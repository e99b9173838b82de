//! Descendants as bad launchers leave them behind: out of the process group, deaf to TERM, reparented.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::options::Options;

/// Starts a grandchild by way of a child that exits at once, so that nobody up here is its parent any more.
/// Its environment, and with it the test's marker, is inherited.
pub(crate) fn raise() {
    let itself = std::env::current_exe().expect("a program knows its path");
    let mut launcher = Command::new(itself);
    launcher.args(["grandchild", "--name", "launcher"]);
    launcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut launcher = launcher.spawn().expect("a grandchild can be started");
    launcher.wait().expect("the launcher exits at once");
}

/// The life of a grandchild: as `launcher` it starts the one that lingers and exits.
pub(crate) async fn linger(options: &Options) -> ExitCode {
    if options.name == "launcher" {
        let itself = std::env::current_exe().expect("a program knows its path");
        let mut child = Command::new(itself);
        child.args(["grandchild", "--name", "lingering"]);
        #[expect(clippy::zombie_processes, reason = "to be left behind is the point")]
        child.spawn().expect("the lingering one can be started");
        return ExitCode::SUCCESS;
    }
    rustix::process::setsid().expect("a fresh child leads no group");
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a handler");
    // Ends by itself in the end, so that a failed test leaves nothing for ever.
    let end = tokio::time::sleep(Duration::from_mins(2));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return ExitCode::SUCCESS,
            _ = term.recv() => {}
        }
    }
}
