//! [`Keep`]: what a hub is given of the state directory.

use trunkline_config::StateDir;

/// The file of the key that seals what clients carry.
const KEY_FILE: &str = "session.key";

/// Bytes of that key: as many as the hash puts out.
pub(crate) const KEY_BYTES: usize = 32;

/// Where a hub keeps what must outlive it, and the key by which it knows its own tokens again.
#[derive(Clone)]
pub struct Keep {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) dir: Option<StateDir>,
}

impl Keep {
    /// Nothing outlives the hub.
    ///
    /// # Panics
    /// If the kernel gives no random bytes.
    pub fn nowhere() -> Self {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).expect("the kernel gives random bytes");
        Self { key, dir: None }
    }

    /// Keeps in `dir`, with the key that lies there. One that cannot be used is replaced, since whoever had a hand in it
    /// could make tokens; then no client's session is known any more (R-37: fail closed).
    pub fn in_directory(dir: StateDir) -> Self {
        let found = dir.load(KEY_FILE, KEY_BYTES, |bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        let key = match found {
            Ok(Some(key)) => key,
            Ok(None) => fresh(&dir),
            Err(unusable) => {
                tracing::warn!("{unusable}; clients of earlier sessions get 404 and have to initialize anew");
                fresh(&dir)
            }
        };
        Self { key, dir: Some(dir) }
    }
}

fn fresh(dir: &StateDir) -> [u8; KEY_BYTES] {
    let Keep { key, .. } = Keep::nowhere();
    if let Err(error) = dir.write(KEY_FILE, &key) {
        tracing::warn!(%error, "the key of the sessions cannot be written; they will not survive a restart");
    }
    key
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keep").field("key", &"***").field("dir", &self.dir).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r37_the_key_is_made_once_and_anew_when_somebody_had_a_hand_in_it() {
        let made = tempfile::tempdir().expect("a temporary directory");
        let dir = StateDir::open(made.path()).expect("our own");
        let first = Keep::in_directory(dir.clone()).key;
        assert_eq!(Keep::in_directory(dir.clone()).key, first);
        assert_ne!(Keep::nowhere().key, first);
        for spoilt in ["", "x", "trunkline-state 1 00000000000000000000000000000000\nabc"] {
            std::fs::write(made.path().join(KEY_FILE), spoilt).expect("written");
            let anew = Keep::in_directory(dir.clone()).key;
            assert_ne!(anew, first);
            assert_eq!(Keep::in_directory(dir.clone()).key, anew);
        }
        assert!(!format!("{:?}", Keep::in_directory(dir)).contains(&format!("{first:?}")));
    }
}
