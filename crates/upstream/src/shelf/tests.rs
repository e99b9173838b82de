//! What a process finds of the servers that an earlier one knew.

use std::path::Path;
use std::time::Duration;

use trunkline_config::Stdio;
use trunkline_testkit::{Script, prompt, resource, template, tool};
use trunkline_wire::Revision;

use super::*;
use crate::error::{DialError, DialErrorKind};
use crate::fakes::{Plan, World, config, name};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn shelf(dir: &Path) -> Shelf {
    Shelf::at(StateDir::open(dir).expect("our own"), Metrics::new())
}

/// A server with something of everything, and with texts that any rewriting would change.
fn script() -> Script {
    let odd = r#"{ "inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}},"name":"odd", "n":1.0e2, "n2":12345678901234567890123, "execution":{"taskSupport":"required"}}"#;
    Script {
        instructions: Some("Be kind.\n".into()),
        tools: vec![tool("echo"), odd.to_owned()],
        prompts: vec![prompt("p")],
        resources: vec![resource("file:///a")],
        templates: vec![template("file:///{x}")],
        ..Script::default()
    }
}

fn away() -> Plan {
    Plan::Fail(DialError::new(DialErrorKind::Connect, "down".to_owned()))
}

/// The files of a shelf.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("there");
    entries.map(|entry| entry.expect("readable").path()).collect()
}

/// Lets a server be known to a process that ends then. Returns what it offered.
async fn known(dir: &Path) -> Arc<Offer> {
    let world = World::kept(shelf(dir), config(), [], script());
    world.ready().await;
    world.environment.shelf.settled().await;
    world.upstream().offer()
}

#[tokio::test(start_paused = true)]
async fn r3_a_server_that_an_earlier_process_knew_is_offered_before_it_is_up() {
    let dir = directory();
    let offered = known(dir.path()).await;
    let world = World::kept(shelf(dir.path()), config(), [away()], script());
    let offer = world.upstream().offer();
    assert_eq!(offer, offered, "every list with its own text, and all that follows from it");
    assert!(offer.as_tasks.contains("odd") && offer.mirrored.contains_key("odd"), "{offer:?}");
    assert!(world.upstream().ever_ready(), "nobody waits for it");
    let status = world.upstream().status();
    assert_eq!((status.state, status.stale, status.tools), ("starting", true, 2), "and nobody is told that it is up");
    let offers = world.upstream().offers();
    let count = *world.fleet.offers_changed().borrow();
    world.ready().await;
    assert!(!offers.has_changed().expect("the fleet lives") && *world.fleet.offers_changed().borrow() == count);
    assert!(!world.upstream().status().stale);
}

#[tokio::test(start_paused = true)]
async fn r22_a_list_that_cannot_be_had_keeps_what_an_earlier_process_knew() {
    let dir = directory();
    let offered = known(dir.path()).await;
    let refuses = Script {
        faults: vec![trunkline_testkit::Fault::error("prompts/list", r#"{"code":-32000,"message":"no"}"#)],
        ..script()
    };
    let world = World::kept(shelf(dir.path()), config(), [], refuses);
    world.ready().await;
    let offer = world.upstream().offer();
    assert_eq!((&offer.tools, &offer.prompts), (&offered.tools, &offered.prompts));
    assert_eq!(offer.complaints.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r22_a_server_that_shuffles_its_lists_changes_no_list() {
    let dir = directory();
    let offered = known(dir.path()).await;
    let shuffled = Script { tools: script().tools.into_iter().rev().chain([tool("new")]).collect(), ..script() };
    let world = World::kept(shelf(dir.path()), config(), [], shuffled);
    world.ready().await;
    let tools = world.upstream().offer().tools.clone();
    assert_eq!(tools[..2], offered.tools[..]);
    assert_eq!((tools.len(), tools[2].name.as_str()), (3, "new"), "a new one follows");
}

#[tokio::test(start_paused = true)]
async fn r3_r22_a_server_that_a_reload_switches_on_is_offered_as_an_earlier_process_knew_it() {
    let dir = directory();
    let offered = known(dir.path()).await;
    let disabled = trunkline_config::Server { enabled: false, ..config() };
    let refuses = Script {
        faults: vec![trunkline_testkit::Fault::error("prompts/list", r#"{"code":-32000,"message":"no"}"#)],
        ..script()
    };
    // By its supervisor, or before that has begun.
    for seen in [true, false] {
        let world = World::kept(shelf(dir.path()), disabled.clone(), [away()], refuses.clone());
        assert!(!world.upstream().ever_ready(), "switched off, it is not listed");
        if seen {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let count = *world.fleet.offers_changed().borrow();
        world.fleet.apply(&[(name(), config())]);
        world.is("backoff").await;
        assert_eq!(world.upstream().offer(), offered);
        assert!(world.upstream().ever_ready(), "nobody waits for it");
        assert_eq!(*world.fleet.offers_changed().borrow() - count, 2, "by the reload, and by what it brought");
        world.ready().await;
        assert_eq!(world.upstream().offer().prompts, offered.prompts, "what cannot be had now is kept as well");
    }
}

#[tokio::test(start_paused = true)]
async fn r3_what_is_offered_under_another_credential_is_found_again_under_that_one() {
    let dir = directory();
    let offered = known(dir.path()).await;
    let mut changed = config();
    if let Connect::Stdio(stdio) = &mut changed.connect {
        stdio.env.insert("TOKEN".into(), trunkline_config::Secret::new("another"));
    }
    let kept = shelf(dir.path());
    let world = World::kept(kept.clone(), config(), [], script());
    world.ready().await;
    world.fleet.apply(&[(name(), changed.clone())]);
    world.ready().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    world.fleet.stop().await;
    kept.settled().await;
    let next = World::kept(shelf(dir.path()), changed, [away()], script());
    assert_eq!(next.upstream().offer(), offered);
}

#[tokio::test(start_paused = true)]
async fn another_server_under_the_same_name_starts_empty() {
    let dir = directory();
    known(dir.path()).await;
    let other = trunkline_config::Server::new(Connect::Stdio(Stdio::new("other", [])));
    let world = World::kept(shelf(dir.path()), other, [away()], script());
    assert!(world.upstream().offer().tools.is_empty() && !world.upstream().ever_ready());
    let disabled = trunkline_config::Server { enabled: false, ..config() };
    let world = World::kept(shelf(dir.path()), disabled, [], script());
    assert!(world.upstream().offer().tools.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_not_written_again() {
    let dir = directory();
    known(dir.path()).await;
    let before = std::fs::read(&files(dir.path())[0]).expect("there");
    known(dir.path()).await;
    // Each text has a salt of its own.
    assert_eq!(std::fs::read(&files(dir.path())[0]).expect("there"), before);
}

#[tokio::test(start_paused = true)]
async fn s31_no_secret_of_how_a_server_is_reached_is_in_its_file() {
    let dir = directory();
    let mut stdio = Stdio::new("server", ["--key", "canary-argument"]);
    stdio.env.insert("KEY".into(), Secret::new("canary-variable"));
    let server = trunkline_config::Server::new(Connect::Stdio(stdio));
    let world = World::kept(shelf(dir.path()), server, [], script());
    world.ready().await;
    world.environment.shelf.settled().await;
    let text = std::fs::read_to_string(&files(dir.path())[0]).expect("there");
    assert!(text.contains("Be kind.") && !text.contains("canary"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn r37_a_spoilt_file_costs_its_server_the_head_start_and_nothing_else() {
    let dir = directory();
    known(dir.path()).await;
    let file = files(dir.path()).remove(0);
    let whole = std::fs::read(&file).expect("there");
    for kept in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..kept]).expect("written");
        let world = World::kept(shelf(dir.path()), config(), [], script());
        assert!(world.upstream().offer().tools.is_empty());
        assert!(files(dir.path()).iter().any(|path| path.extension().is_some_and(|it| it == "bad")));
        world.ready().await;
        world.environment.shelf.settled().await;
        assert!(file.exists(), "written anew");
    }
}

#[test]
fn r47_the_era_that_was_found_out_is_kept_with_the_offer() {
    let era = Memory::of(crate::era::Way::Pair, Duration::from_hours(5), tokio::time::Instant::now());
    let offer = Offer { revision: Some(Revision::V2024_11_05), ..Offer::default() };
    let signature = config().connect.signature();
    let volume = Volume { signature: signature.clone(), offer: offer.clone().into(), era };
    let read = |wall| {
        let text = saved::write(&name(), &volume, wall).expect("serialises");
        saved::read(&text, &name(), &signature).expect("sound").expect("the same server")
    };
    let now = tokio::time::Instant::now();
    let back = read(wall_clock());
    assert_eq!(*back.offer, offer);
    let (way, left) = back.era.proven(now).expect("still holds");
    assert!(way == crate::era::Way::Pair && left > Duration::from_mins(299), "{left:?}");
    assert_eq!(read(wall_clock() - 6 * 3600).era.proven(now), None, "six hours later");
}

#[tokio::test(start_paused = true)]
async fn r37_what_the_disk_did_not_take_is_written_once_it_does() {
    let dir = directory();
    let state = StateDir::open(dir.path()).expect("our own");
    let offer = |instructions: &str| {
        let offer = Offer { instructions: Some(instructions.to_owned()), ..Offer::default() };
        Volume { signature: config().connect.signature(), offer: offer.into(), era: Memory::default() }
    };
    let (other, waiting) = (ServerName::new("other").expect("a name"), Mutex::new(Waiting::new()));
    // A directory in the place of the file is what no disk takes.
    let (first, second) = (dir.path().join(file_of(&name())), dir.path().join(file_of(&other)));
    std::fs::create_dir_all(first.join("full")).expect("made");
    lock(&waiting).insert(name(), offer("old"));
    lock(&waiting).insert(other.clone(), offer("fine"));
    write(&state, &waiting).expect_err("the disk is full");
    assert!(second.is_file(), "one failure costs no other server its file");
    assert_eq!(lock(&waiting).keys().collect::<Vec<_>>(), [&name()], "it waits for the next time");
    std::fs::remove_dir_all(&first).expect("removed");
    write(&state, &waiting).expect("the disk takes it");
    let kept = |text: &[u8]| String::from_utf8_lossy(text).contains("old");
    assert!(lock(&waiting).is_empty() && kept(&std::fs::read(&first).expect("written")));
}

#[test]
fn names_that_look_alike_have_files_of_their_own() {
    let file = |key| file_of(&ServerName::new(key).expect("a name"));
    assert_ne!(file("a/b"), file("a_b"));
    assert!(file("../../etc").chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{}", file("../../etc"));
}

#[test]
fn files_of_servers_that_are_long_gone_are_not_kept_for_ever() {
    let dir = directory();
    let state = StateDir::open(dir.path()).expect("our own");
    for number in 0..SHELF_FILES_MAX + 3 {
        state.write(&format!("{number}.json"), b"{}").expect("written");
    }
    Shelf::at(state, Metrics::new());
    assert_eq!(files(dir.path()).len(), SHELF_FILES_MAX);
}
