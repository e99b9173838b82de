//! The state directory: small files that outlive the process.
//!
//! What is written is there as a whole or not at all: a temporary file, its data on the disk, a rename, the directory
//! on the disk. What is read is bounded, and is what was written: each file begins with a line that holds a
//! digest of the rest. A file that is cut off, empty or garbage is moved aside under the name `*.bad`, the caller gets
//! a sentence to log, and the start goes on. So is one that somebody else may have had a hand in: a link, a foreign
//! owner, a mode that lets others in (S-35). One that the system does not let be read at this moment, for want of
//! descriptors or because a disk fails, says nothing about what it holds: it stays where it is.
//!
//! What is in the files, and when they are written, is the business of those who keep them. One process at a time has
//! the directory: the daemon holds its lock.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Begins every file: who wrote it, and in which form.
const HEAD: &str = "trunkline-state 1 ";

/// Hexadecimal digits of the digest in the first line; half of the hash finds every accident.
const DIGEST_CHARS: usize = 32;

/// The directory, known to be the user's own. Cloning names the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// The wall clock, in seconds of the Unix age.
///
/// It is for what outlives the process, and for nothing else: the next process shares no other clock with this one. It may
/// jump by a day, so whoever reads such a date leaves room for that.
#[expect(clippy::disallowed_methods, reason = "a date for another process, which shares no other clock with this one")]
pub fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// Why the directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Somebody else could change what the daemon remembers.
    #[error("state directory {0} can be changed by other users of this machine; {1}")]
    Open(PathBuf, &'static str),
    /// The system said no.
    #[error("state directory {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// Why a file is not used. The text is a sentence for the log.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not hold what was written, or somebody else may have written it. It is out of the way now, if it could be
    /// moved.
    #[error("state file {} {why}; {}", path.display(), match moved { Ok(to) => format!("it is set aside as {}", to.display()), Err(error) => format!("and it cannot be set aside: {error}") })]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// Where it is now.
        moved: Result<PathBuf, io::Error>,
    },
    /// The system said no. The file may be sound, and a later reading may have it.
    #[error("state file {} cannot be read and is left as it is: {error}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl LoadError {
    /// Whether reading it again may help; until then it is not to be written over.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unread { .. })
    }
}

/// How far the writing of a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it is in the temporary file, and perhaps not on the disk.
    Whole,
    /// The temporary file is on the disk.
    Synced,
    /// It has the name of the file, and the directory is perhaps not on the disk.
    Renamed,
}

/// Why [`read`] has no bytes.
enum Unreadable {
    /// The file is none of ours.
    Wrong(&'static str),
    /// The system said no.
    System(io::Error),
}

impl StateDir {
    /// Takes `path` for the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// It belongs to somebody else, or others may write into it. That others may look into it is mended.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateDirError> {
        let path = path.into();
        let own = rustix::process::geteuid().as_raw();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| fs::metadata(&path));
        let metadata = made.map_err(|error| StateDirError::Io(path.clone(), error))?;
        if metadata.uid() != own {
            return Err(StateDirError::Open(path, "make yourself its owner (chown)"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(StateDirError::Open(path, "`chmod go-w` takes that right away"));
        }
        if metadata.mode() & 0o077 != 0 {
            let closed = fs::set_permissions(&path, Permissions::from_mode(0o700));
            closed.map_err(|error| StateDirError::Io(path.clone(), error))?;
        }
        Ok(Self(path))
    }

    /// The directory `name` inside this one, made if it is not there.
    ///
    /// # Errors
    /// As [`StateDir::open`].
    pub fn below(&self, name: &str) -> Result<Self, StateDirError> {
        Self::open(self.0.join(name))
    }

    /// The names of the files in it, without those that were set aside or are being written, and when each was written,
    /// in seconds of the Unix age.
    ///
    /// # Errors
    /// The system said no.
    pub fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let file = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let metadata = entry.metadata().ok()?;
            let listed = metadata.is_file() && !name.starts_with('.') && !is_set_aside(&name);
            listed.then(|| (name, u64::try_from(metadata.mtime()).unwrap_or_default()))
        };
        Ok(fs::read_dir(&self.0)?.filter_map(file).collect())
    }

    /// Reads a file of at most `bytes_max` bytes and takes it apart; `None` if there is none.
    ///
    /// # Errors
    /// It is not what was written, or `parse` cannot use it: it is moved aside then. Or the system does not let it be read.
    pub fn load<T>(
        &self,
        name: &str,
        bytes_max: usize,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let path = self.0.join(name);
        let why = match read(&path, bytes_max) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => match body(&bytes).and_then(parse) {
                Some(parsed) => return Ok(Some(parsed)),
                None => "does not hold what was written",
            },
            Err(Unreadable::Wrong(why)) => why,
            Err(Unreadable::System(error)) => return Err(LoadError::Unread { path, error }),
        };
        let aside = self.0.join(format!("{name}.bad"));
        let moved = fs::rename(&path, &aside).map(|()| aside);
        Err(LoadError::Unusable { path, why, moved })
    }

    /// Writes a file: whoever reads it finds the old text or the new one, whenever the process ends.
    ///
    /// # Errors
    /// The system said no; the old text stands.
    pub fn write(&self, name: &str, body: &[u8]) -> io::Result<()> {
        self.write_watched(name, body, |_| {})
    }

    /// As [`StateDir::write`]; `watch` hears of each step, so that a test can end the process there (F-66).
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub fn write_watched(&self, name: &str, body: &[u8], watch: impl Fn(Written)) -> io::Result<()> {
        let partial = self.0.join(format!(".{name}.partial"));
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // What a killed process left.
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(HEAD.as_bytes())?;
        file.write_all(digest(body).as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(body)?;
        watch(Written::Whole);
        file.sync_all()?;
        drop(file);
        watch(Written::Synced);
        fs::rename(&partial, self.0.join(name))?;
        watch(Written::Renamed);
        File::open(&self.0)?.sync_all()
    }

    /// Opens the file `name`, made if it is not there, to be locked in the kernel: for what several processes change. It
    /// is never removed, since then two could hold locks of the same name.
    ///
    /// # Errors
    /// The system said no, or it is a link.
    pub fn lockable(&self, name: &str) -> io::Result<File> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("the flags of a system call are an int");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        match options.open(self.0.join(name)) {
            // What is there can be locked all the same.
            Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {
                OpenOptions::new().read(true).custom_flags(flags).open(self.0.join(name))
            }
            opened => opened,
        }
    }

    /// Removes a file that is no longer of use.
    ///
    /// # Errors
    /// The system said no.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

fn is_set_aside(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "bad")
}

/// The whole file, if it is one that only this user can have written.
fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, Unreadable> {
    // Not through a link, and never waiting for the writer of a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).expect("the flags of a system call are an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::LOOP) => Unreadable::Wrong("is a link"),
                Some(Errno::ACCESS) => Unreadable::Wrong("is closed to its user"),
                // A socket.
                Some(Errno::NXIO) => Unreadable::Wrong("is no regular file"),
                _ => Unreadable::System(error),
            });
        }
    };
    let metadata = file.metadata().map_err(Unreadable::System)?;
    let limit = bytes_max.saturating_add(HEAD.len() + DIGEST_CHARS + 1) as u64;
    let why = if !metadata.is_file() {
        "is no regular file"
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if metadata.nlink() > 1 {
        "has a second name"
    } else if metadata.mode() & 0o077 != 0 {
        "is open to other users"
    } else if metadata.len() > limit {
        "is larger than it can have been written"
    } else {
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Unreadable::System)?;
        return Ok(Some(bytes));
    };
    Err(Unreadable::Wrong(why))
}

/// What follows the first line, if that line speaks of it.
fn body(file: &[u8]) -> Option<&[u8]> {
    let rest = file.strip_prefix(HEAD.as_bytes())?;
    let (told, rest) = rest.split_at_checked(DIGEST_CHARS)?;
    let body = rest.strip_prefix(b"\n")?;
    (digest(body).as_bytes() == told).then_some(body)
}

fn digest(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let mut text = String::with_capacity(DIGEST_CHARS);
    for byte in &hash[..DIGEST_CHARS / 2] {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(half.into(), 16).expect("four bits are one digit"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let made = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::open(made.path().join("state")).expect("our own");
        (made, state)
    }

    fn load(state: &StateDir) -> Result<Option<Vec<u8>>, LoadError> {
        state.load("file", 1000, |body| Some(body.to_vec()))
    }

    #[test]
    fn what_was_written_is_read_and_only_by_its_owner() {
        let (_keep, state) = dir();
        assert!(load(&state).expect("nothing wrong").is_none());
        state.write("file", b"one").expect("written");
        state.write("file", b"two").expect("written over");
        assert_eq!(load(&state).expect("sound").as_deref(), Some(&b"two"[..]));
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&state.0), mode(&state.0.join("file"))), (0o700, 0o600));
        let names: Vec<String> = state.files().expect("readable").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["file"], "nothing partial is left");
    }

    #[test]
    fn r37_a_file_that_a_killed_process_left_half_written_is_in_nobodys_way() {
        let (_keep, state) = dir();
        state.write("file", b"one").expect("written");
        fs::write(state.0.join(".file.partial"), "trunk").expect("as a killed process leaves it");
        assert_eq!(load(&state).expect("sound").as_deref(), Some(&b"one"[..]));
        state.write("file", b"two").expect("written over");
        assert_eq!(load(&state).expect("sound").as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn s35_links_second_names_open_modes_and_other_kinds_are_refused_and_moved_aside() {
        type Spoil = fn(&Path);
        let spoilt: [(&str, Spoil); 5] = [
            ("is a link", |file| {
                fs::rename(file, file.with_extension("real")).expect("moved");
                std::os::unix::fs::symlink(file.with_extension("real"), file).expect("a link");
            }),
            ("has a second name", |file| fs::hard_link(file, file.with_extension("other")).expect("a link")),
            ("is open to other users", |file| {
                fs::set_permissions(file, Permissions::from_mode(0o640)).expect("changed");
            }),
            ("is no regular file", |file| {
                fs::remove_file(file).expect("removed");
                fs::create_dir(file).expect("made");
            }),
            ("is larger than", |file| {
                let grown = OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(&[0; 2000]));
                grown.expect("grown");
            }),
        ];
        for (why, spoil) in spoilt {
            let (_keep, state) = dir();
            state.write("file", b"one").expect("written");
            spoil(&state.0.join("file"));
            let told = load(&state).expect_err(why).to_string();
            assert!(told.contains(why) && told.contains("file.bad"), "{told}");
            assert!(load(&state).expect("out of the way").is_none());
            state.write("file", b"two").expect("written anew");
            assert!(load(&state).expect("sound").is_some());
        }
    }

    #[test]
    fn r37_a_file_that_the_system_does_not_let_be_read_stays_where_it_is() {
        let (keep, state) = dir();
        state.write("file", b"one").expect("written");
        let away = keep.path().join("away");
        fs::rename(&state.0, &away).expect("moved");
        fs::write(&state.0, "no directory").expect("written");
        let told = load(&state).expect_err("no directory is there");
        assert!(told.may_pass() && told.to_string().contains("left as it is"), "{told}");
        fs::remove_file(&state.0).and_then(|()| fs::rename(&away, &state.0)).expect("back");
        assert_eq!(load(&state).expect("sound").as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn s35_a_directory_that_others_may_write_is_refused_and_one_they_may_read_is_closed() {
        let (_keep, state) = dir();
        let set = |mode| fs::set_permissions(&state.0, Permissions::from_mode(mode)).expect("changed");
        set(0o755);
        assert_eq!(StateDir::open(&state.0).expect("closed"), state);
        assert_eq!(fs::metadata(&state.0).expect("there").mode() & 0o777, 0o700);
        set(0o770);
        let told = StateDir::open(&state.0).expect_err("open to the group").to_string();
        assert!(told.contains("chmod go-w"), "{told}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// F-41: truncations, and bytes changed anywhere, the first line included.
        #[test]
        fn r37_no_truncation_and_no_changed_byte_is_taken_for_what_was_written(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
            changed in any::<Option<(prop::sample::Index, u8)>>(),
        ) {
            let (_keep, state) = dir();
            state.write("file", &body).expect("written");
            let path = state.0.join("file");
            let whole = fs::read(&path).expect("there");
            let mut bytes = whole.clone();
            match changed {
                Some((at, to)) => { let at = at.index(bytes.len()); bytes[at] = to; }
                None => bytes.truncate(cut.index(bytes.len())),
            }
            fs::write(&path, &bytes).expect("changed");
            match load(&state) {
                Ok(read) => prop_assert!(bytes == whole && read.as_deref() == Some(&body[..])),
                Err(_) => prop_assert!(bytes != whole && state.0.join("file.bad").exists()),
            }
            state.write("file", b"new").expect("written anew");
            prop_assert_eq!(load(&state).expect("sound"), Some(b"new".to_vec()));
        }
    }
}
