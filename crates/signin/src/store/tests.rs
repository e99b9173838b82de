use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread;

use trunkline_config::Secret;

use super::*;
use crate::record::sample;

/// Tells the processes of a test where to work.
const PLACE: &str = "SIGNIN_TEST_PLACE";

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

#[tokio::test]
async fn s30_an_older_generation_never_takes_the_place_of_a_newer_one() {
    let (_keep, store) = temporary();
    let first = sample();
    let second = first.next(Some(tokens(2)));
    put(&store, &second).await.expect("nothing is there");
    for late in [&first, &second] {
        assert!(matches!(put(&store, late).await, Err(StoreError::Overtaken)));
    }
    assert_eq!(store.read(&server()).await, Some(second));
}

#[tokio::test]
async fn s30_who_waited_for_the_lock_takes_the_newer_generation_and_asks_for_nothing() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let refreshed = async |_: &Record| Ok::<_, Unsigned>(tokens(2));
    let first = store.hold(&server()).await.expect("free").renew(1, refreshed).await;
    assert!(matches!(first, Renewal::New(record) if record.generation == 2));
    let never = async |_: &Record| -> Result<Tokens, Unsigned> { panic!("a second refresh of one generation") };
    let second = store.hold(&server()).await.expect("free").renew(1, never).await;
    assert!(matches!(second, Renewal::New(record) if record.generation == 2 && record.tokens == Some(tokens(2))));
}

#[tokio::test]
async fn s30_a_refresh_that_crosses_a_logout_brings_no_token_back() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    put(&store, &sample().next(None)).await.expect("signed out");
    let never = async |_: &Record| -> Result<Tokens, Unsigned> { panic!("nobody is signed in") };
    let renewed = store.hold(&server()).await.expect("free").renew(1, never).await;
    assert!(matches!(renewed, Renewal::SignedOut));
}

/// F-66: what a process leaves that is killed before the write, in the middle of it, before the rename, and after it.
#[tokio::test]
async fn s30_a_kill_at_each_step_of_the_write_leaves_a_usable_token() {
    let next = sample().next(Some(tokens(2)));
    for (step, expected) in [("before", 1), ("midway", 1), ("synced", 1), ("renamed", 2)] {
        let (dir, store) = temporary();
        let path = dir.path().join("signin");
        let file = path.join(file_of(&server()));
        put(&store, &next).await.expect("written");
        let whole = std::fs::read(&file).expect("there");
        std::fs::remove_file(&file).expect("removed");
        put(&store, &sample()).await.expect("written");
        let partial = path.join(format!(".{}.partial", file_of(&server())));
        match step {
            "midway" => std::fs::write(&partial, &whole[..whole.len() / 2]).expect("written"),
            "synced" => std::fs::write(&partial, &whole).expect("written"),
            "renamed" => std::fs::write(&file, &whole).expect("written"),
            _ => {}
        }
        let found = store_at(&path).read(&server()).await.expect(step);
        assert_eq!(found.generation, expected, "{step}");
        assert!(found.tokens.is_some(), "{step}");
        let refreshed = async |_: &Record| Ok::<_, Unsigned>(tokens(9));
        let renewed = store_at(&path).hold(&server()).await.expect("free").renew(expected, refreshed).await;
        assert!(matches!(renewed, Renewal::New(record) if record.generation == expected + 1), "{step}");
    }
}

#[tokio::test]
async fn s30_a_disk_that_takes_nothing_leaves_the_old_record_and_the_new_tokens_in_memory() {
    let (dir, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let held = store.hold(&server()).await.expect("free");
    // A directory in the place of the file that is written first: no disk is full for root.
    let partial = dir.path().join("signin").join(format!(".{}.partial", file_of(&server())));
    std::fs::create_dir(&partial).expect("made");
    let refreshed = async |_: &Record| Ok::<_, Unsigned>(tokens(2));
    let renewed = held.renew(1, refreshed).await;
    assert!(matches!(renewed, Renewal::Unkept(record, StoreError::Io(_)) if record.tokens == Some(tokens(2))));
    assert_eq!(store.read(&server()).await, Some(sample()));
}

#[tokio::test]
async fn s30_a_refused_refresh_token_signs_out_and_the_record_is_set_aside() {
    let (dir, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let rejected = async |_: &Record| Err(Unsigned::Rejected);
    assert!(matches!(store.hold(&server()).await.expect("free").renew(1, rejected).await, Renewal::Rejected));
    let now = store.read(&server()).await.expect("a record");
    assert_eq!((now.generation, now.tokens), (2, None));
    let aside = dir.path().join("signin").join(format!("{}.refused", file_of(&server())));
    assert!(String::from_utf8_lossy(&std::fs::read(aside).expect("set aside")).contains("refresh-canary"));
}

#[tokio::test]
async fn s30_a_refresh_that_fails_leaves_the_token_that_is_still_good() {
    let (_keep, store) = temporary();
    put(&store, &sample()).await.expect("written");
    let failed = async |_: &Record| Err(Unsigned::Failed("503".to_owned()));
    assert!(matches!(store.hold(&server()).await.expect("free").renew(1, failed).await, Renewal::Failed(_)));
    assert_eq!(store.read(&server()).await, Some(sample()));
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

/// An authorization server that rotates refresh tokens and revokes the whole family when one comes a second time. One
/// line in, one line out.
struct Rotating {
    current: usize,
    revoked: bool,
    exchanges: usize,
}

fn rotating(listener: TcpListener, state: &'static Mutex<Rotating>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut line = String::new();
                BufReader::new(stream.try_clone().expect("a second handle")).read_line(&mut line).expect("a line");
                // Long enough that refreshes would overlap.
                thread::sleep(std::time::Duration::from_millis(5));
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.revoked || line.trim() != format!("r{}", state.current) {
                    state.revoked = true;
                    let _ = writeln!(stream, "revoked");
                    return;
                }
                state.current += 1;
                state.exchanges += 1;
                let _ = writeln!(stream, "{}", state.current);
            });
        }
    });
}

/// Not a test by itself: one of the processes of the test below, which runs this very function.
#[tokio::test]
async fn one_of_several_processes() {
    #[expect(clippy::disallowed_methods, reason = "the way in for the parent of this process")]
    let Ok(place) = std::env::var(PLACE) else { return };
    let (path, address) = place.split_once(' ').expect("two words");
    let store = store_at(Path::new(path));
    for _ in 0..20 {
        let seen = store.read(&server()).await.expect("a record at any time").generation;
        let exchange = async |record: &Record| {
            let refresh = record.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref()).expect("a token");
            let mut stream = TcpStream::connect(address).expect("connected");
            writeln!(stream, "{}", refresh.expose()).expect("sent");
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).expect("an answer");
            line.trim().parse().map(tokens).map_err(|_| Unsigned::Rejected)
        };
        let renewed = store.hold(&server()).await.expect("the lock").renew(seen, exchange).await;
        assert!(matches!(renewed, Renewal::New(_)), "{renewed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_five_processes_that_refresh_one_rotating_token_never_have_its_family_revoked() {
    let (dir, store) = temporary();
    let path = dir.path().join("signin");
    let first = Record { tokens: Some(tokens(1)), ..sample() };
    put(&store, &first).await.expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let state: &'static Mutex<Rotating> =
        Box::leak(Box::new(Mutex::new(Rotating { current: 1, revoked: false, exchanges: 0 })));
    rotating(listener, state);
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "store::tests::one_of_several_processes"]);
        command.env(PLACE, format!("{} {address}", path.display())).spawn().expect("started")
    };
    let children: Vec<Child> = (0..5).map(|_| start()).collect();
    for mut child in children {
        let ended = spawn_blocking(move || child.wait()).await.expect("waited").expect("ended");
        assert!(ended.success(), "a process met a revoked token, or none");
    }
    let current = {
        let state = state.lock().expect("sound");
        assert!(!state.revoked);
        assert!(state.exchanges >= 20, "each process saw a token go stale at least as often as it asked");
        state.current
    };
    let kept = store.read(&server()).await.expect("a record");
    assert_eq!(kept.tokens, Some(tokens(current)), "the newest token is the one on disk");
}
