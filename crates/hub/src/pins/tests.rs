//! Definitions that change under their pins: what is seen, withheld and kept.

use std::os::unix::fs::PermissionsExt as _;

use trunkline_config::Server;

use super::*;
use crate::fakes::{entries, server, source};

fn tool(name: &str, description: &str) -> String {
    format!(r#"{{"name":"{name}","description":"{description}","inputSchema":{{"type":"object"}}}}"#)
}

fn offer(tools: &[(&str, &str)]) -> Offer {
    let bodies: Vec<String> = tools.iter().map(|(name, description)| tool(name, description)).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    Offer { tools: entries("name", &bodies), ..Offer::default() }
}

fn with(rule: PinRule) -> Server {
    let mut server = server();
    server.expose.pin = rule;
    server
}

/// What a process that begins with these pins says of one offer after the other, by the tools that are not as pinned.
fn judged(pins: &Pins, rule: PinRule, tools: &[(&str, &str)]) -> Vec<(String, Why)> {
    let (upstream, offer) = source("git", with(rule), offer(tools));
    let verdict = pins.judge(&upstream, &offer).unwrap_or_default();
    verdict.tools.iter().map(|(tool, why)| (tool.to_string(), *why)).collect()
}

fn changed(tool: &str) -> Vec<(String, Why)> {
    vec![(tool.to_owned(), Why::Changed)]
}

struct State {
    made: tempfile::TempDir,
    dir: StateDir,
}

impl State {
    fn new() -> Self {
        let made = tempfile::tempdir().expect("a temporary directory");
        let dir = StateDir::open(made.path().join("state")).expect("our own");
        Self { made, dir }
    }

    /// The pins as the next process reads them.
    fn next(&self) -> Pins {
        Pins::in_directory(Some(&self.dir), Metrics::new())
    }

    fn file(&self) -> std::path::PathBuf {
        let name = ServerName::new("git").expect("a name");
        self.made.path().join("state").join(DIRECTORY).join(book::file_of(&name))
    }
}

#[tokio::test(start_paused = true)]
async fn s15_f58_a_tool_is_pinned_on_first_use_and_each_change_of_it_is_seen_by_every_later_process() {
    let state = State::new();
    let pins = state.next();
    assert!(judged(&pins, PinRule::Warn, &[("a", "reads"), ("b", "reads")]).is_empty());
    assert!(judged(&pins, PinRule::Warn, &[("b", "reads"), ("a", "reads")]).is_empty(), "the order means nothing");
    assert_eq!(judged(&pins, PinRule::Warn, &[("a", "writes"), ("b", "reads")]), changed("a"));
    // A tool that is new is pinned as it is seen, and one that vanished stays pinned.
    assert!(judged(&pins, PinRule::Warn, &[("c", "new"), ("b", "reads")]).is_empty());
    pins.settled().await;
    let next = state.next();
    assert_eq!(judged(&next, PinRule::Warn, &[("a", "writes")]), changed("a"));
    assert_eq!(judged(&next, PinRule::Warn, &[("c", "other")]), changed("c"));
    assert!(judged(&next, PinRule::Warn, &[("a", "reads"), ("c", "new")]).is_empty(), "what goes back is as pinned");
    assert!(judged(&next, PinRule::Off, &[("a", "writes")]).is_empty());
    let mode = std::fs::metadata(state.file()).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn s15_what_a_person_accepts_is_pinned_from_then_on() {
    let state = State::new();
    let pins = state.next();
    assert!(judged(&pins, PinRule::Block, &[("a", "reads"), ("b", "reads")]).is_empty());
    // The fakes' servers offer nothing by themselves: what is accepted here is given by hand.
    let now = [("a", "writes"), ("b", "writes")];
    assert_eq!(judged(&pins, PinRule::Block, &now).len(), 2);
    let accept = |wanted: &[(&str, &str)], all| {
        let (offer, expose) = (offer(wanted), Expose::default());
        let mut books = pins.shared.books();
        let judged = books.get_mut("git").expect("known");
        judged.last = None;
        judged.book.accept(shown(&offer, &expose).collect(), all)
    };
    assert_eq!(accept(&now[..1], false), ["a"]);
    assert_eq!(judged(&pins, PinRule::Block, &now), changed("b"));
    assert_eq!(accept(&now, true), ["b"]);
    assert!(judged(&pins, PinRule::Block, &now).is_empty());
    assert!(accept(&now, true).is_empty());
    pins.save();
    pins.settled().await;
    assert!(judged(&state.next(), PinRule::Block, &now).is_empty());
    assert_eq!(judged(&state.next(), PinRule::Block, &[("a", "reads")]), changed("a"));
}

#[tokio::test(start_paused = true)]
async fn s15_pins_that_were_spoilt_are_no_new_first_use() {
    let state = State::new();
    let first = state.next();
    assert!(judged(&first, PinRule::Block, &[("a", "reads")]).is_empty());
    first.settled().await;
    std::fs::write(state.file(), "spoilt").expect("written");
    let lost = vec![("a".to_owned(), Why::Lost)];
    let next = state.next();
    assert_eq!(judged(&next, PinRule::Block, &[("a", "reads")]), lost);
    next.settled().await;
    // Nor in the process after that, which finds a sound file.
    let third = state.next();
    assert_eq!(judged(&third, PinRule::Block, &[("a", "reads")]), lost);
    let (upstream, _) = source("git", with(PinRule::Block), Offer::default());
    assert_eq!(third.accept(&upstream, Some("a")), Err(NotAccepted::NoSuchTool));
    assert_eq!(third.accept(&upstream, None), Ok(Vec::new()));
    assert!(judged(&third, PinRule::Block, &[("a", "reads")]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn s15_pins_that_cannot_be_read_now_withhold_and_are_read_when_they_can_be() {
    let state = State::new();
    let first = state.next();
    assert!(judged(&first, PinRule::Block, &[("a", "reads")]).is_empty());
    first.settled().await;
    // The directory is closed for a while.
    let (dir, away) = (state.file().parent().expect("a directory").to_owned(), state.made.path().join("away"));
    let next = state.next();
    std::fs::rename(&dir, &away).and_then(|()| std::fs::write(&dir, "no directory")).expect("moved");
    assert_eq!(judged(&next, PinRule::Block, &[("a", "reads")]), [("a".to_owned(), Why::Lost)]);
    std::fs::remove_file(&dir).and_then(|()| std::fs::rename(&away, &dir)).expect("back");
    assert!(judged(&next, PinRule::Block, &[("a", "reads")]).is_empty());
    assert_eq!(judged(&next, PinRule::Block, &[("a", "writes")]), changed("a"));
    let closed = Pins::at(Place::Closed, Metrics::new());
    assert_eq!(judged(&closed, PinRule::Block, &[("a", "reads")]), [("a".to_owned(), Why::Lost)]);
}

#[tokio::test(start_paused = true)]
async fn s15_nothing_is_accepted_while_pins_cannot_be_read_and_they_are_not_written_over() {
    let state = State::new();
    let first = state.next();
    assert!(judged(&first, PinRule::Block, &[("a", "reads"), ("b", "reads")]).is_empty());
    first.settled().await;
    let (dir, away) = (state.file().parent().expect("a directory").to_owned(), state.made.path().join("away"));
    let next = state.next();
    std::fs::rename(&dir, &away).and_then(|()| std::fs::write(&dir, "no directory")).expect("moved");
    let (upstream, _) = source("git", with(PinRule::Block), Offer::default());
    let refused = next.accept(&upstream, None).expect_err("they cannot be read");
    assert!(refused.to_string().contains("`git` cannot be read now, so nothing was accepted"), "{refused}");
    std::fs::remove_file(&dir).and_then(|()| std::fs::rename(&away, &dir)).expect("back");
    assert_eq!(next.accept(&upstream, None), Ok(vec![]), "it is tried again each time");
    next.settled().await;
    assert_eq!(judged(&state.next(), PinRule::Block, &[("a", "writes"), ("b", "reads")]), changed("a"));
}

#[tokio::test(start_paused = true)]
async fn s15_a_server_that_lists_others_each_time_does_not_push_pins_out() {
    let pins = Pins::at(Place::Nowhere, Metrics::new());
    assert!(judged(&pins, PinRule::Block, &[("a", "reads")]).is_empty());
    let names: Vec<String> = (0..crate::limits::PINS_MAX).map(|number| format!("t{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    assert_eq!(judged(&pins, PinRule::Block, &many).into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [Why::Full]);
    assert_eq!(judged(&pins, PinRule::Block, &[("a", "writes")]), changed("a"));
}

#[tokio::test(start_paused = true)]
async fn s15_drift_is_counted_told_and_shown_with_what_differs() {
    let metrics = Metrics::new();
    let pins = Pins::at(Place::Nowhere, metrics.clone());
    let (upstream, before) = source("git", with(PinRule::Block), offer(&[("a", "reads")]));
    let _series = metrics.server(upstream.name());
    let after = Arc::new(offer(&[("a", "writes"), ("b", "new")]));
    pins.judge(&upstream, &before);
    assert!(pins.drift(std::slice::from_ref(&upstream)).is_empty());
    pins.judge(&upstream, &after);
    assert!(metrics.render().contains(r#"trunkline_tools_changed{server="git"} 1"#));
    // A server that is switched off concerns nobody.
    assert!(pins.drift(std::slice::from_ref(&upstream)).is_empty());
    let mut enabled = with(PinRule::Block);
    enabled.enabled = true;
    let (fleet, _) = crate::fakes::fleet(&[("git", enabled)]);
    let drift = pins.drift(&[fleet.all()[0].clone()]);
    assert_eq!(drift, [Drift { server: upstream.name().clone(), tools: 1, withheld: true }]);
}
