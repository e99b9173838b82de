//! The files of secrets beside the configuration: one for each, for its owner alone, and what references to them stand for.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The directory of such files, beside the configuration.
pub(super) const DIRECTORY: &str = "secrets";

/// A secret that is to be written.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its file's name.
    pub(super) file: String,
    /// Where it stood.
    pub(super) place: String,
    pub(super) text: String,
}

impl Kept {
    /// Whether this is the secret.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// Without the secret.
impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Kept({}, {})", self.file, self.place)
    }
}

/// The files of secrets beside a configuration.
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn beside(config: &Path) -> Self {
        Self { directory: config.parent().unwrap_or(Path::new("")).join(DIRECTORY) }
    }

    /// Whether a file of this name holds another text.
    pub(super) fn is_taken(&self, name: &str, text: &str) -> bool {
        match fs::read_to_string(self.directory.join(name)) {
            Ok(have) => have.strip_suffix('\n').unwrap_or(&have) != text,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Writes them, and returns which were not there before.
    pub(super) fn write(&self, kept: &[Kept]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut written = Vec::new();
        for secret in kept {
            let path = self.directory.join(&secret.file);
            let write = || -> io::Result<bool> {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let mut file = match file {
                    // It holds this text already.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                    file => file?,
                };
                // One line end is no part of a secret, so one that ends with one keeps it.
                file.write_all(secret.text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()?;
                Ok(true)
            };
            match write() {
                Ok(true) => written.push(path),
                Ok(false) => {}
                Err(error) => {
                    undo(&written);
                    return Err((path, error));
                }
            }
        }
        Ok(written)
    }

    /// A text with what such references stand for in their place; as it is, where they lead nowhere.
    pub(super) fn expanded(&self, text: &str) -> String {
        let mark = format!("${{file:{DIRECTORY}/");
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once(&mark) {
            out.push_str(before);
            let named = from.split_once('}').filter(|(name, _)| !name.contains('/'));
            let read = named.and_then(|(name, after)| {
                let secret = fs::read_to_string(self.directory.join(name)).ok()?;
                Some((secret.strip_suffix('\n').unwrap_or(&secret).to_owned(), after))
            });
            let Some((secret, after)) = read else {
                out.push_str(&mark);
                rest = from;
                continue;
            };
            out.push_str(&secret);
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// Takes files away again that nothing refers to.
pub(super) fn undo(written: &[PathBuf]) {
    for path in written {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s31_a_secret_is_written_for_its_owner_alone_and_as_it_was() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::beside(&dir.path().join("config.toml"));
        let kept = Kept { file: "s.T".into(), place: "T".into(), text: "line\n".into() };
        assert!(!format!("{kept:?}").contains("line"));
        let written = files.write(std::slice::from_ref(&kept)).expect("written");
        assert_eq!(fs::read_to_string(&written[0]).expect("there"), "line\n\n");
        assert_eq!(fs::metadata(&written[0]).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join(DIRECTORY)).expect("there").permissions().mode() & 0o777, 0o700);
        assert!(!files.is_taken("s.T", "line\n") && files.is_taken("s.T", "other") && !files.is_taken("s.U", "other"));
        assert!(files.write(&[kept]).expect("written").is_empty(), "it is there");
        undo(&written);
        assert!(!written[0].exists());
    }
}
