use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use trunkline_config::{Secret, StateDir};
use trunkline_wire::ServerName;

use super::*;
use crate::record::sample;
use crate::store::{Store, file_of};

mod processes;

fn server() -> ServerName {
    ServerName::new("linear").expect("a name")
}

fn store_at(path: &Path) -> Store {
    Store::at(StateDir::open(path).expect("our own"))
}

fn temporary() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store_at(&dir.path().join("signin"));
    (dir, store)
}

fn tokens(number: usize) -> Tokens {
    Tokens {
        access: Secret::new(format!("a{number}")),
        refresh: Some(Secret::new(format!("r{number}"))),
        issued: 1,
        expires: None,
    }
}

async fn put(store: &Store, record: &Record) -> Result<(), StoreError> {
    store.hold(&server()).await?.write(record).await
}

async fn renew(
    store: &Store,
    stale: u64,
    unkept: Option<Record>,
    exchange: impl AsyncFn(Record) -> Result<Tokens, Unsigned>,
) -> Renewal {
    store.hold(&server()).await.expect("free").renew(stale, unkept, |record| exchange(record)).await
}

/// The refresh token of a record.
fn refresh_of(record: &Record) -> String {
    let tokens = record.tokens.as_ref().expect("tokens");
    tokens.refresh.as_ref().expect("a refresh token").expose().to_owned()
}

#[tokio::test]
async fn s30_who_waited_for_the_lock_takes_the_newer_generation_and_asks_for_nothing() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let first = renew(&store, 1, None, async |_: Record| Ok(tokens(2))).await;
    assert!(matches!(first, Renewal::New(record) if record.generation == 2));
    let second = renew(&store, 1, None, async |_: Record| panic!("a second refresh of one generation")).await;
    assert!(matches!(second, Renewal::New(record) if record.generation == 2 && record.tokens == Some(tokens(2))));
}

#[tokio::test]
async fn s30_a_refresh_that_crosses_a_logout_brings_no_token_back() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    put(&store, &sample().next(None)).await.expect("signed out");
    let renewed = renew(&store, 1, None, async |_: Record| panic!("nobody is signed in")).await;
    assert!(matches!(renewed, Renewal::SignedOut));
}

/// F-66. What the process has is newer than what the disk has; with the disk's, the family would be revoked.
#[tokio::test]
async fn s30_a_disk_that_takes_nothing_leaves_the_old_record_and_the_new_tokens_are_those_that_are_refreshed_next() {
    let (dir, store) = temporary();
    put(&store, &sample()).await.expect("written");
    block(dir.path());
    let Renewal::Unkept(second, StoreError::Io(_)) = renew(&store, 1, None, async |_: Record| Ok(tokens(2))).await
    else {
        panic!("the disk took it");
    };
    assert_eq!(second.tokens, Some(tokens(2)));
    assert_eq!(store.read(&server()).await, Some(sample()));
    let third = renew(&store, 2, Some(second), async |record: Record| {
        assert_eq!(refresh_of(&record), "r2");
        Ok(tokens(3))
    });
    assert!(matches!(third.await, Renewal::Unkept(record, _) if record.generation == 3));
}

/// Puts a directory in the place of the file that is written first: no disk is full for root.
fn block(dir: &Path) {
    std::fs::create_dir(dir.join("signin").join(format!(".{}.partial", file_of(&server())))).expect("made");
}

#[tokio::test]
async fn s30_a_refused_refresh_token_signs_out_and_the_record_is_set_aside() {
    let (dir, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let rejected = renew(&store, 1, None, async |_: Record| Err(Unsigned::Rejected)).await;
    assert!(matches!(rejected, Renewal::Rejected(Why::Untold)));
    let now = store.read(&server()).await.expect("a record");
    assert_eq!((now.generation, now.tokens), (2, None));
    let files = std::fs::read_dir(dir.path().join("signin")).expect("there").flatten();
    let aside = files.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "refused"));
    let text = std::fs::read(aside.expect("set aside")).expect("readable");
    assert!(String::from_utf8_lossy(&text).contains("refresh-canary"));
}

#[tokio::test]
async fn s30_a_refresh_that_fails_leaves_the_token_that_is_still_good() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    for _ in 0..3 {
        // Each was answered, so none is a repetition that has to wait.
        let failed = renew(&store, 1, None, async |_: Record| Err(Unsigned::Failed("slow down".to_owned()))).await;
        assert!(matches!(failed, Renewal::Failed(reason) if reason == "slow down"));
    }
    assert_eq!(store.read(&server()).await, Some(sample()));
}

#[tokio::test]
async fn s30_an_answer_that_was_lost_is_asked_for_once_more_at_once_and_then_no_sooner_than_after_a_pause() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let asked = AtomicUsize::new(0);
    let lost = async |_: Record| {
        asked.fetch_add(1, Ordering::SeqCst);
        Err(Unsigned::Unheard("no answer".to_owned()))
    };
    for _ in 0..5 {
        assert!(matches!(renew(&store, 1, None, &lost).await, Renewal::Failed(_)));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2, "by whatever process");
    let early = wall_clock() - REFRESH_PAUSE.as_secs();
    let held = store.hold(&server()).await.expect("free");
    held.set_mark(&Mark { generation: 1, at: early, times: 2 }).await.expect("written");
    drop(held);
    let rejected = renew(&store, 1, None, async |_: Record| Err(Unsigned::Rejected)).await;
    assert!(matches!(rejected, Renewal::Rejected(Why::AnswerLost)));
}

#[tokio::test]
async fn s30_tokens_before_the_newest_are_kept_until_these_were_good_for_a_request_and_tried_if_these_are_refused() {
    let (_keep, store) = temporary();
    put(&store, &Record { tokens: Some(tokens(1)), ..sample() }).await.expect("written");
    let forgetful = async |record: Record| match refresh_of(&record).as_str() {
        "r1" => Ok(tokens(2)),
        _ => Err(Unsigned::Rejected),
    };
    assert!(matches!(renew(&store, 1, None, &forgetful).await, Renewal::New(record) if record.generation == 2));
    let again = renew(&store, 2, None, &forgetful).await;
    assert!(matches!(again, Renewal::New(record) if record.generation == 3 && record.tokens == Some(tokens(2))));
    store.hold(&server()).await.expect("free").proven(3).await.expect("written");
    assert!(matches!(renew(&store, 3, None, &forgetful).await, Renewal::Rejected(Why::Untold)));
}
