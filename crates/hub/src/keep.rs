//! [`Keep`]: what a hub is given of the state directory.

use std::time::Duration;

use trunkline_config::{LoadError, StateDir};
use trunkline_telemetry::{Metrics, Saver};

/// The file of the key that seals what clients carry.
const KEY_FILE: &str = "session.key";

/// Bytes of that key: as many as the hash puts out.
pub(crate) const KEY_BYTES: usize = 32;

/// Where a hub keeps what must outlive it, and the key by which it knows its own tokens again.
#[derive(Clone)]
pub struct Keep {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) dir: Option<StateDir>,
    /// The key is new, and the disk did not take it.
    unsaved: bool,
}

impl Keep {
    /// Nothing outlives the hub.
    ///
    /// # Panics
    /// If the kernel gives no random bytes.
    pub fn nowhere() -> Self {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).expect("the kernel gives random bytes");
        Self { key, dir: None, unsaved: false }
    }

    /// Keeps in `dir`, with the key that lies there. One that cannot be used is replaced, since whoever had a hand in it
    /// could make tokens; then no client's session is known any more (R-37: fail closed).
    ///
    /// # Errors
    /// The key cannot be read at this moment. It may be sound, so it is neither replaced nor done without: read it again.
    pub fn in_directory(dir: StateDir) -> Result<Self, LoadError> {
        let key = match dir.load(KEY_FILE, KEY_BYTES, |bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()) {
            Ok(key) => key,
            Err(error) if error.may_pass() => return Err(error),
            Err(unusable) => {
                tracing::warn!("{unusable}; clients of earlier sessions get 404 and have to initialize anew");
                None
            }
        };
        if let Some(key) = key {
            return Ok(Self { key, dir: Some(dir), unsaved: false });
        }
        let Self { key, .. } = Self::nowhere();
        let written = dir.write(KEY_FILE, &key);
        if let Err(error) = &written {
            tracing::warn!(%error, "the key of the sessions cannot be written yet; a restart now would not know them");
        }
        Ok(Self { key, dir: Some(dir), unsaved: written.is_err() })
    }

    /// Goes on trying to write a key that the disk did not take.
    pub(crate) fn save_key(&self, metrics: &Metrics) {
        if let (true, Some(dir)) = (self.unsaved, self.dir.clone()) {
            let key = self.key;
            Saver::new("key", Duration::ZERO, metrics.clone(), move || dir.write(KEY_FILE, &key)).changed();
        }
    }
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keep").field("key", &"***").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, StateDir) {
        let made = tempfile::tempdir().expect("a temporary directory");
        let dir = StateDir::open(made.path().join("state")).expect("our own");
        (made, dir)
    }

    fn key(dir: &StateDir) -> [u8; KEY_BYTES] {
        Keep::in_directory(dir.clone()).expect("readable").key
    }

    #[test]
    fn r37_the_key_is_made_once_and_anew_when_somebody_had_a_hand_in_it() {
        let (made, dir) = directory();
        let first = key(&dir);
        assert_eq!(key(&dir), first);
        assert_ne!(Keep::nowhere().key, first);
        for spoilt in ["", "x", "trunkline-state 1 00000000000000000000000000000000\nabc"] {
            std::fs::write(made.path().join("state").join(KEY_FILE), spoilt).expect("written");
            let anew = key(&dir);
            assert_ne!(anew, first);
            assert_eq!(key(&dir), anew);
        }
        assert!(!format!("{:?}", Keep::in_directory(dir)).contains(&format!("{first:?}")));
    }

    #[test]
    fn r37_a_key_that_cannot_be_read_at_this_moment_is_not_replaced() {
        let (made, dir) = directory();
        let first = key(&dir);
        let (state, away) = (made.path().join("state"), made.path().join("away"));
        std::fs::rename(&state, &away).and_then(|()| std::fs::write(&state, "no directory")).expect("moved");
        assert!(Keep::in_directory(dir.clone()).expect_err("nothing can be read").may_pass());
        std::fs::remove_file(&state).and_then(|()| std::fs::rename(&away, &state)).expect("back");
        assert_eq!(key(&dir), first);
    }

    #[tokio::test(start_paused = true)]
    async fn r5_a_key_that_the_disk_did_not_take_is_written_when_it_does() {
        let (made, dir) = directory();
        let state = made.path().join("state");
        // Nobody can write the file while a directory has its place for the time being.
        let partial = state.join(format!(".{KEY_FILE}.partial"));
        std::fs::create_dir(&partial).expect("made");
        let keep = Keep::in_directory(dir.clone()).expect("no key is no failure");
        keep.save_key(&Metrics::new());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!state.join(KEY_FILE).exists());
        std::fs::remove_dir(&partial).expect("removed");
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(key(&dir), keep.key);
    }
}
