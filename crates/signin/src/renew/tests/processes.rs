//! Several processes with one store, real ones: this test binary, which runs [`one_of_several`] in each. One of them is killed
//! at a step of its refresh (F-66).

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use http::HeaderMap;
use tokio::task::spawn_blocking;
use trunkline_config::OAuth;
use trunkline_telemetry::Metrics;

use super::*;
use crate::key::Key;

/// Tells a process where to work: the directory, the authorization server, and the step that kills it.
const PLACE: &str = "SIGNIN_TEST_PLACE";

/// How a process ends that finds nobody signed in.
const SIGNED_OUT: i32 = 3;

/// How often each process wants a newer token.
const ROUNDS: usize = 6;

/// An authorization server that rotates refresh tokens and revokes the whole family when one comes a second time.
#[derive(Default)]
struct Rotating {
    current: usize,
    /// The token before the current one is taken once more: the answer may have been lost.
    forgives: bool,
    revoked: bool,
    exchanges: usize,
    /// Requests after the family was revoked.
    late: usize,
}

fn rotating(forgives: bool) -> (String, Arc<Mutex<Rotating>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let state = Arc::new(Mutex::new(Rotating { current: 1, forgives, ..Rotating::default() }));
    let shared = Arc::clone(&state);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let state = Arc::clone(&shared);
            // One that was killed with its request under way is no business of ours.
            thread::spawn(move || stream.and_then(|stream| answer(stream, &state)));
        }
    });
    (origin, state)
}

fn answer(mut stream: TcpStream, state: &Mutex<Rotating>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let number = loop {
        let mut some = [0; 4096];
        let read = stream.read(&mut some)?;
        request.extend_from_slice(&some[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if length.is_some_and(|length: usize| body.len() >= length) {
            let token = body.split('&').find_map(|field| field.strip_prefix("refresh_token=r"));
            break token.expect("a refresh token").parse::<usize>().expect("a number");
        }
    };
    // Long enough that refreshes would overlap.
    thread::sleep(std::time::Duration::from_millis(5));
    let (status, body) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let good = number == state.current || state.forgives && number + 1 == state.current;
        state.late += usize::from(state.revoked);
        state.revoked |= !good;
        if state.revoked {
            ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned())
        } else {
            state.current += 1;
            state.exchanges += 1;
            let number = state.current;
            ("200 OK", format!(r#"{{"access_token":"a{number}","refresh_token":"r{number}","token_type":"Bearer"}}"#))
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes())
}

/// Not a test by itself: one of the processes of the tests below.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several() {
    #[expect(clippy::disallowed_methods, reason = "the way in for the parent of this process")]
    let Ok(place) = std::env::var(PLACE) else { return };
    let [path, origin, step] = *place.split(' ').collect::<Vec<_>>() else { panic!("three words") };
    let fatal = Step::ALL.into_iter().find(|(name, _)| *name == step).map(|(_, step)| step);
    let store = Store::watched(StateDir::open(path).expect("our own"), Metrics::new(), move |step| {
        if fatal == Some(step) {
            // As `kill -9` does it: nothing of this process goes on from here.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    });
    let endpoint = format!("{origin}/mcp").parse().expect("a URL");
    let key = Key::new(&server(), &endpoint, &OAuth::default(), None, store);
    // Who is to be killed goes on until then.
    for _ in 0..if fatal.is_some() { usize::MAX } else { ROUNDS } {
        let carried = key.carried().await;
        if carried.is_none() || !key.refused(carried.as_ref(), &HeaderMap::new()).await {
            std::process::exit(SIGNED_OUT);
        }
    }
}

/// Five processes, the first of which `step` kills, and one that starts when they are gone; how each ended, what the
/// authorization server saw, and what is kept.
async fn five(step: &str, forgives: bool) -> (Vec<ExitStatus>, Rotating, Option<Record>) {
    let (dir, store) = temporary();
    let path = dir.path().join("signin");
    let (origin, state) = rotating(forgives);
    let metadata = serde_json::json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
    });
    let endpoint = format!("{origin}/mcp");
    let first = Record {
        resource: endpoint.clone(),
        endpoint,
        metadata: metadata.to_string(),
        tokens: Some(tokens(1)),
        ..sample()
    };
    put(&store, &first).await.expect("written");
    let start = |step: &str| {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "renew::tests::processes::one_of_several"]);
        command.env(PLACE, format!("{} {origin} {step}", path.display())).spawn().expect("started")
    };
    let children: Vec<Child> = [step, "-", "-", "-", "-"].into_iter().map(start).collect();
    let mut ends = Vec::new();
    for mut child in children {
        ends.push(spawn_blocking(move || child.wait()).await.expect("waited").expect("ended"));
    }
    let mut next = start("-");
    ends.push(spawn_blocking(move || next.wait()).await.expect("waited").expect("ended"));
    let seen = std::mem::take(&mut *state.lock().expect("sound"));
    (ends, seen, store_at(&path).read(&server()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_five_processes_that_refresh_one_rotating_token_never_have_its_family_revoked() {
    let (ends, seen, kept) = five("-", false).await;
    assert!(ends.iter().all(ExitStatus::success), "{ends:?}");
    assert!(!seen.revoked && seen.exchanges >= ROUNDS, "{} exchanges", seen.exchanges);
    assert_eq!(refresh_of(&kept.expect("a record")), format!("r{}", seen.current), "the newest is on the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_a_kill_at_each_step_of_the_write_leaves_the_others_a_usable_token() {
    for (step, forgives) in [
        ("marked", false),
        ("renamed", false),
        // The new token went with the process; whether the old one is good once more is the authorization server's to say.
        ("answered", true),
        ("written", true),
        ("synced", true),
    ] {
        let (ends, seen, kept) = five(step, forgives).await;
        assert!(!ends[0].success() && ends[0].code().is_none(), "{step} kills: {:?}", ends[0]);
        assert!(ends[1..].iter().all(ExitStatus::success), "{step}: {ends:?}");
        assert!(!seen.revoked, "{step}");
        assert_eq!(refresh_of(&kept.expect("a record")), format!("r{}", seen.current), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_a_token_that_a_kill_took_along_is_asked_for_once_and_then_a_person_is() {
    let (ends, seen, kept) = five("answered", false).await;
    let signed_out = |end: &ExitStatus| end.code() == Some(SIGNED_OUT);
    assert!(ends[1..].iter().all(|end| end.success() || signed_out(end)), "{ends:?}");
    assert!(signed_out(ends.last().expect("six")), "{ends:?}");
    assert_eq!((seen.revoked, seen.late), (true, 0), "one repetition, by whatever process");
    assert_eq!(kept.expect("a record").tokens, None);
}
