//! A file's text, put into its place whole: written beside it, made durable, then renamed over it.
//!
//! A reader sees the old text or the new one, and a full disk leaves the old one. Owner and rights of the old one stay; a
//! new file is its owner's alone.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::edit::shown;
use crate::exit::Failure;

/// A file that lies ready to take another's place, and is gone otherwise.
pub(crate) struct Staged(PathBuf);

/// Lays a text ready beside `path`.
pub(crate) fn stage(path: &Path, text: &[u8]) -> Result<Staged, Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let staged = Staged(directory.join(format!(".{name}.{}.new", std::process::id())));
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Of a process that was killed, and had the number of this one.
        let _ = fs::remove_file(&staged.0);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged.0)?;
        if let Ok(before) = fs::metadata(path) {
            // Those may read it who may read the one before: the daemon may run as another user.
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(before.permissions().mode() & 0o777))?;
        }
        file.write_all(text)?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", &staged.0, &error))?;
    Ok(staged)
}

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn take_place(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.0, path)?;
        // Not every file system knows it, and the file is whole without.
        let _ = self.0.parent().map(|directory| fs::File::open(directory).and_then(|directory| directory.sync_all()));
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Puts `after` in the place of a file that was read as `before`, unless somebody has written it meanwhile.
pub(crate) fn replace(path: &Path, before: Option<&[u8]>, after: &[u8]) -> Result<(), Failure> {
    let staged = stage(path, after)?;
    let now = match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", path, &error)),
    };
    if now.as_deref() != before {
        let text =
            format!("{} was written by somebody else at the same time; nothing was changed, try again", shown(path));
        return Err(Failure::failed(text));
    }
    staged.take_place(path).map_err(|error| failed("write", path, &error))
}

/// The file that a path leads to. A link is followed: it stays, and what it leads to changes.
pub(crate) fn behind_links(path: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|known| known.is_symlink()) => {
            Err(Failure::failed(format!("{} is a link that leads nowhere; nothing was written", shown(path))))
        }
        Err(_) => Ok(path.to_path_buf()),
    }
}

pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}", shown(path)))
}
