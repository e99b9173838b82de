//! One daemon per state directory: a kernel lock on a file, released by the kernel when the process ends in
//! any way. The file's text, the holder's pid, is for people only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::exit::{self, Failure};

/// Holds the state directory until dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] File);

/// Why the state directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "another trunkline (pid {pid}) already runs with this state directory, {dir}; stop it, or set XDG_STATE_HOME"
    )]
    Taken { pid: String, dir: String },
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

/// Makes the directory if need be (0700) and takes its lock.
pub(crate) fn take(dir: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::Io { dir: dir.display().to_string(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(LockError::Taken { pid: pid.trim().to_owned(), dir: dir.display().to_string() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed)?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = take(dir.path()).expect("free");
        let refused = take(dir.path()).expect_err("taken").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        take(dir.path()).expect("free again");
    }
}
