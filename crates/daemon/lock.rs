//! One daemon per state directory: a kernel lock on a file, released by the kernel when the process ends in
//! any way. The file that a dead process left is therefore no obstacle.
//!
//! The file's text is for whoever finds the lock taken: the holder's pid, and whether it is on its way out. One that is
//! gets all the time that a stop may take, so that a restart may overlap with the drain before it; any other gets a
//! few seconds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::exit::{self, Failure};
use crate::limits::{LOCK_PATIENCE, LOCK_PAUSE};

/// The holder's word that it stops.
const STOPPING: &str = "stopping";

/// Holds the state directory until dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// Why the state directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "another trunkline (pid {pid}) already runs with this state directory, {dir}; stop it, or set XDG_STATE_HOME"
    )]
    Taken { pid: String, dir: String, stopping: bool },
    #[error("state directory {dir}")]
    Io { dir: String, source: io::Error },
}

impl LockError {
    /// What it means for the process.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Taken { .. } => Failure::taken(self.to_string()),
            Self::Io { .. } => Failure::failed(exit::chain(self)),
        }
    }
}

impl Lock {
    /// Tells a successor that it is worth waiting.
    pub(crate) fn stopping(&mut self) {
        if let Err(error) = note(&mut self.0, &format!("{} {STOPPING}", std::process::id())) {
            tracing::debug!(%error, "the lock file cannot be written");
        }
    }
}

/// Takes the directory, waiting for its holder for a while: for `stop_at_most` if that is stopping. Whoever waits hears at
/// once for whom and how long.
pub(crate) async fn wait(dir: &Path, stop_at_most: Duration, say: impl Fn(&str)) -> Result<Lock, LockError> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        let error = match take(dir) {
            Err(error @ LockError::Taken { .. }) => error,
            done => return done,
        };
        let stopping = matches!(error, LockError::Taken { stopping: true, .. });
        let patience = if stopping { LOCK_PATIENCE.max(stop_at_most) } else { LOCK_PATIENCE };
        if began.elapsed() >= patience {
            return Err(error);
        }
        if let (LockError::Taken { pid, .. }, false) = (&error, told) {
            let seconds = patience.as_secs();
            say(&format!(
                "another trunkline (pid {pid}) has the state directory; waiting up to {seconds} s for it to end"
            ));
            told = true;
        }
        sleep(LOCK_PAUSE).await;
    }
}

/// Makes the directory if need be (0700) and takes its lock.
fn take(dir: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::Io { dir: dir.display().to_string(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            let mut words = text.split_whitespace();
            let pid = words.next().unwrap_or("unknown").to_owned();
            let stopping = words.next() == Some(STOPPING);
            return Err(LockError::Taken { pid, dir: dir.display().to_string(), stopping });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    note(&mut file, &std::process::id().to_string()).map_err(failed)?;
    Ok(Lock(file))
}

/// The pid of whoever holds the directory, by his own word; `None` if it is free or not there.
pub(crate) fn holder(dir: &Path) -> Option<String> {
    let mut file = OpenOptions::new().read(true).open(dir.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text.split_whitespace().next().unwrap_or("unknown").to_owned())
}

fn note(file: &mut File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn r41_a_second_daemon_is_told_who_holds_the_directory_after_five_seconds() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(holder(dir.path()), None);
        let held = wait(dir.path(), STOP, |_| {}).await.expect("free");
        assert_eq!(holder(dir.path()), Some(std::process::id().to_string()));
        let began = Instant::now();
        let told = std::cell::RefCell::new(Vec::new());
        let refused = wait(dir.path(), STOP, |text| told.borrow_mut().push(text.to_owned()))
            .await
            .expect_err("taken")
            .to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert_eq!(began.elapsed(), LOCK_PATIENCE);
        let told = told.into_inner();
        assert!(told.len() == 1 && told[0].contains("(pid ") && told[0].contains("up to 5 s"), "{told:?}");
        drop(held);
        wait(dir.path(), STOP, |_| {}).await.expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn r41_a_holder_that_stops_is_waited_for_as_long_as_a_stop_may_take() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut held = wait(dir.path(), STOP, |_| {}).await.expect("free");
        held.stopping();
        let began = Instant::now();
        let (next, ()) = tokio::join!(wait(dir.path(), STOP, |_| {}), async {
            sleep(Duration::from_secs(25)).await;
            drop(held);
        });
        next.expect("it came free");
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(25) && waited < Duration::from_secs(26), "{waited:?}");
    }

    #[tokio::test]
    async fn f44_the_file_of_a_dead_daemon_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("lock"), "1 of another life\n").expect("written");
        let _held = wait(dir.path(), STOP, |_| {}).await.expect("nobody holds it");
        let text = fs::read_to_string(dir.path().join("lock")).expect("there");
        assert_eq!(text.trim(), std::process::id().to_string());
    }
}
