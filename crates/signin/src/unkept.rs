//! What the disk did not take. It goes on in memory, [`Key::is_unkept`] says so, and it is written as soon as the disk
//! takes it (reliability 10): a full disk ends no sign-in, unless the daemon ends before there is room again.
//!
//! Nothing here asks for newer tokens; a refresh meanwhile goes by what is in memory (`renew.rs`).

use std::sync::{Arc, Weak};

use tokio::time::sleep;
use trunkline_telemetry::spawn;

use crate::key::{Key, Shared};
use crate::limits::KEEP_PAUSE;
use crate::record::Record;
use crate::store::StoreError;

impl Key {
    /// Goes by a record that the disk did not take, and has it written later.
    pub(crate) fn keep_later(&self, record: Record, error: &StoreError) {
        let error: &dyn std::error::Error = error;
        tracing::warn!(
            server = %self.0.server,
            error,
            "the new token cannot be written; it is tried again, and a restart before that would want a new sign-in"
        );
        self.adopt(Some(record.clone()));
        let mut now = self.now();
        now.unkept = Some(Arc::new(record));
        if !std::mem::replace(&mut now.keeping, true) {
            let key = Arc::downgrade(&self.0);
            spawn("signin-keep", keep(key));
        }
    }

    /// Whether the disk lacks what this key goes by.
    pub(crate) fn is_unkept(&self) -> bool {
        self.now().unkept.is_some()
    }

    /// Writes what is not on the disk; whether there is nothing left to write.
    pub(crate) async fn kept(&self) -> bool {
        let Some(record) = self.now().unkept.clone() else { return self.is_done() };
        let Shared { store, server, .. } = &*self.0;
        let written = match store.hold(server).await {
            Ok(held) => held.write(&record).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => tracing::info!(%server, "the new token is on the disk now"),
            // Another process has signed in, or out.
            Err(StoreError::Overtaken) => self.look().await,
            Err(StoreError::Io(_) | StoreError::Locked) => return false,
        }
        // A refresh may have brought another one meanwhile.
        self.now().unkept.take_if(|there| Arc::ptr_eq(there, &record));
        self.is_done()
    }

    /// Whether nothing is left; then the next record that is not taken begins a task of its own.
    fn is_done(&self) -> bool {
        let mut now = self.now();
        now.keeping = now.unkept.is_some();
        !now.keeping
    }
}

async fn keep(key: Weak<Shared>) {
    loop {
        sleep(KEEP_PAUSE).await;
        let Some(shared) = key.upgrade() else { return };
        if Key(shared).kept().await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_config::{Http, OAuth, StateDir};
    use trunkline_wire::ServerName;

    use super::*;
    use crate::desk::{SignIn, SignedOut};
    use crate::record::sample;
    use crate::store::{Store, file_of};

    /// A key whose first record met a disk that takes nothing; removing the directory makes room.
    async fn refused() -> (tempfile::TempDir, Store, ServerName, Key, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signin");
        let store = Store::at(StateDir::open(&path).expect("our own"));
        let server = ServerName::new("linear").expect("a name");
        let endpoint = sample().endpoint.parse().expect("a URL");
        let key = Key::new(&server, &endpoint, &OAuth::default(), None, store.clone());
        // No disk is full for root.
        let partial = path.join(format!(".{}.partial", file_of(&server)));
        std::fs::create_dir(&partial).expect("made");
        let error = store.hold(&server).await.expect("free").write(&sample()).await.expect_err("no room");
        key.keep_later(sample(), &error);
        (dir, store, server, key, partial)
    }

    #[tokio::test(start_paused = true)]
    async fn s30_a_token_that_the_disk_did_not_take_is_used_and_written_when_there_is_room() {
        let (_keep, store, server, key, partial) = refused().await;
        assert_eq!(key.carried().await.expect("signed in").header, "Bearer access-canary");
        sleep(3 * KEEP_PAUSE).await;
        assert!(key.is_unkept() && store.read(&server).await.is_none());
        std::fs::remove_dir(partial).expect("room");
        while key.is_unkept() {
            sleep(KEEP_PAUSE).await;
        }
        assert_eq!(store.read(&server).await, Some(sample()));
    }

    #[tokio::test(start_paused = true)]
    async fn s30_a_sign_in_that_the_disk_did_not_take_is_ended_by_a_logout() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signin");
        let store = Store::at(StateDir::open(&path).expect("our own"));
        let server = ServerName::new("linear").expect("a name");
        // Nothing listens there: what cannot be revoked is forgotten all the same.
        let http = Http::new("http://127.0.0.1:9/mcp".parse().expect("a URL"));
        let signin = SignIn::new(store.clone());
        let key = signin.key(&server, &http).expect("no credential is configured");
        let record = Record { endpoint: http.url.to_string(), issuer: "http://127.0.0.1:9".into(), ..sample() };
        let partial = path.join(format!(".{}.partial", file_of(&server)));
        std::fs::create_dir(&partial).expect("made");
        let error = store.hold(&server).await.expect("free").write(&record).await.expect_err("no room");
        key.keep_later(record, &error);
        assert!(key.is_signed_in());
        let done = signin.logout(&server, &http).await.expect("signed out");
        assert!(done != SignedOut::WasNot && !key.is_signed_in());
        std::fs::remove_dir(partial).expect("room");
        while key.is_unkept() {
            sleep(KEEP_PAUSE).await;
        }
        let kept = store.read(&server).await.expect("written");
        assert!(kept.tokens.is_none() && !key.is_signed_in());
    }

    #[tokio::test(start_paused = true)]
    async fn s30_a_token_that_the_disk_did_not_take_does_not_take_the_place_of_a_newer_one() {
        let (_keep, store, server, key, partial) = refused().await;
        std::fs::remove_dir(partial).expect("room");
        let newer = sample().next(None);
        store.hold(&server).await.expect("free").write(&newer).await.expect("signed out elsewhere");
        while key.is_unkept() {
            sleep(KEEP_PAUSE).await;
        }
        assert_eq!(store.read(&server).await, Some(newer));
        assert!(!key.is_signed_in());
    }
}
