//! Files are read here: bounded, regular, and not writable by others.
//!
//! A configuration names commands that will be run, so whoever can write it can run programs as this user. A file
//! that others may write is therefore refused (S-35). Links and wide read permission are not: many people keep
//! their configuration in a linked directory, and nobody needs to write a secret into it. Group write is accepted
//! for the user's own group, as systems with one group per user hand it out by default.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Far above any real configuration, far below what would hurt.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It is not there.
    #[error("no such file")]
    Missing,
    /// It is a directory, a pipe or a device, on which reading could wait for ever.
    #[error("not a regular file")]
    NotRegular,
    /// It is larger than any configuration.
    #[error("larger than {} KiB", FILE_BYTES_MAX / 1024)]
    TooLarge,
    /// It is not text.
    #[error("not UTF-8 text")]
    NotText,
    /// Somebody else could write it.
    #[error("can be changed by other users of this machine, who could then run programs as you; {0}")]
    Open(&'static str),
    /// The system said no.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
}

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let (file, metadata) = open(path)?;
    check_writers(&metadata)?;
    text_of(file)
}

/// Reads a file that holds one secret. One line end after it is not part of it.
pub(crate) fn read_secret(path: &Path) -> Result<String, FileError> {
    let mut text = text_of(open(path)?.0)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn open(path: &Path) -> Result<(File, std::fs::Metadata), FileError> {
    let io = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound { FileError::Missing } else { FileError::Io(error) }
    };
    // Looked at before it is opened: opening a pipe waits for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    Ok((file, metadata))
}

fn text_of(file: File) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

#[cfg(unix)]
fn check_writers(metadata: &std::fs::Metadata) -> Result<(), FileError> {
    use std::os::unix::fs::MetadataExt;

    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(FileError::Open("make yourself its owner (chown)"));
    }
    let own_group = metadata.gid() == rustix::process::getegid().as_raw();
    if metadata.mode() & 0o002 != 0 || (metadata.mode() & 0o020 != 0 && !own_group) {
        return Err(FileError::Open("chmod go-w takes that right away"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_writers(_: &std::fs::Metadata) -> Result<(), FileError> {
    Ok(())
}
