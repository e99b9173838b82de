//! What was done to a client's file, so that it can be undone: for each change the bytes before and after it.
//!
//! They lie in the state directory, readable by their owner alone, since clients' files hold keys. Changes of one file are a
//! stack: one that was made right upon another becomes one with it, and an undo goes down as far as the bytes are still
//! those that were left behind.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::Found;
use crate::render;

/// Changes kept of one file. The oldest go: nobody goes back further.
const CHANGES_MAX: usize = 16;

/// An entry of a file: the name, and the project that it is for, where the file has several.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) project: Option<String>,
}

impl Named {
    /// `at`: the project whose file it is.
    pub(super) fn of(found: &Found, at: Option<&Path>) -> Self {
        let project = found.project.as_deref().filter(|project| Some(*project) != at);
        Self { name: found.name.clone(), project: project.map(|project| project.display().to_string()) }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match self.project.as_deref().map(|project| Path::new(project).file_name().unwrap_or(project.as_ref())) {
            Some(project) => render::field(&format!("{} ({})", self.name, project.to_string_lossy())),
            None => render::field(&self.name),
        }
    }
}

/// A server that was switched off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Off {
    pub(super) name: String,
    /// The project that it is for, where the file has several.
    #[serde(default)]
    pub(super) project: Option<String>,
    /// The switch, where the client has one.
    pub(super) key: Option<String>,
    /// What the switch was.
    pub(super) had: Option<Value>,
    /// The entry's own text, where it was moved out.
    pub(super) raw: Option<String>,
    /// Where it stood among the others.
    #[serde(default)]
    pub(super) index: usize,
}

/// A change of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) file: PathBuf,
    /// What our entry is called there.
    pub(super) name: String,
    /// Whether the file was there before.
    pub(super) existed: bool,
    #[serde(default)]
    pub(super) off: Vec<Off>,
}

/// The changes of one file.
pub(super) struct Ledger {
    directory: PathBuf,
}

/// A change with its bytes.
pub(super) struct Kept {
    pub(super) change: Change,
    pub(super) before: Vec<u8>,
    pub(super) after: Vec<u8>,
    place: PathBuf,
}

impl Ledger {
    /// The one of this file.
    pub(super) fn of(state_dir: &Path, word: &str, file: &Path) -> Self {
        // FNV-1a: a name for a path, the same in every version of this program.
        let hash = file
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self { directory: state_dir.join("clients").join(format!("{word}-{hash:016x}")) }
    }

    /// The changes, the newest last.
    pub(super) fn changes(&self) -> io::Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut places = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        places.sort();
        let mut kept = Vec::new();
        for place in places {
            // One that was cut short was followed by no change of the file.
            let Ok(text) = fs::read(place.join("change.json")) else { continue };
            let Ok(change) = serde_json::from_slice(&text) else { continue };
            let (before, after) = (fs::read(place.join("before"))?, fs::read(place.join("after"))?);
            kept.push(Kept { change, before, after, place });
        }
        Ok(kept)
    }

    /// Keeps a change that is about to be made; [`Pending::done`] says that it was.
    pub(super) fn keep(&self, change: Change, before: &[u8], after: &[u8]) -> io::Result<Pending> {
        let mut changes = self.changes()?;
        let newest = changes.pop_if(|newest| newest.after == before && newest.change.name == change.name);
        let (change, before, replaced) = match newest {
            Some(newest) => {
                let mut off = newest.change.off;
                off.extend(change.off);
                (Change { off, ..newest.change }, newest.before, Some(newest.place))
            }
            None => (change, before.to_vec(), None),
        };
        let last = changes.last().map_or(0, |kept| number(&kept.place));
        let number = replaced.as_deref().map_or(0, number).max(last) + 1;
        let place = self.directory.join(format!("{number:08}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        write(&place.join("before"), &before)?;
        write(&place.join("after"), after)?;
        write(&place.join("change.json"), &serde_json::to_vec(&change)?)?;
        let old = changes.len().saturating_sub(CHANGES_MAX - 1);
        let gone = changes.into_iter().take(old).map(|kept| kept.place).chain(replaced).collect();
        Ok(Pending { place: Some(place), gone })
    }

    /// Forgets all changes: they are undone.
    pub(super) fn clear(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.directory)
    }
}

/// A change that is kept and not made yet. Dropped, it is forgotten.
pub(super) struct Pending {
    place: Option<PathBuf>,
    gone: Vec<PathBuf>,
}

impl Pending {
    pub(super) fn done(mut self) {
        self.place = None;
        for place in &self.gone {
            let _ = fs::remove_dir_all(place);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            let _ = fs::remove_dir_all(place);
        }
    }
}

fn number(place: &Path) -> u32 {
    place.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
