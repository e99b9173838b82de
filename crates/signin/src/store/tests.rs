use std::path::Path;

use super::*;
use crate::record::sample;

fn server() -> ServerName {
    ServerName::new("linear").expect("a name")
}

fn temporary() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store_at(&dir.path().join("signin"));
    (dir, store)
}

fn store_at(path: &Path) -> Store {
    Store::at(StateDir::open(path).expect("our own"))
}

async fn put(store: &Store, record: &Record) -> Result<(), StoreError> {
    store.hold(&server()).await?.write(record).await
}

#[tokio::test]
async fn s30_an_older_generation_never_takes_the_place_of_a_newer_one() {
    let (_keep, store) = temporary();
    let first = sample();
    let second = first.next(sample().tokens);
    put(&store, &second).await.expect("nothing is there");
    for late in [&first, &second] {
        assert!(matches!(put(&store, late).await, Err(StoreError::Overtaken)));
    }
    assert_eq!(store.read(&server()).await, Some(second));
}

#[tokio::test]
async fn s35_the_file_is_the_owners_alone() {
    use std::os::unix::fs::MetadataExt;
    let (dir, store) = temporary();
    put(&store, &sample()).await.expect("written");
    for name in [file_of(&server()), format!("{}.lock", file_of(&server()))] {
        let mode = std::fs::metadata(dir.path().join("signin").join(&name)).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
