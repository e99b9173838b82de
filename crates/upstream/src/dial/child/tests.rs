//! Processes on pipes: of either era, deaf, slow, or mortally offended by the probe.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;
use trunkline_config::Server;
use trunkline_testkit::{Fault, Handle, Script, pipes, serve};
use trunkline_wire::{Message, Method};

use super::*;
use crate::era::Memory;
use crate::fakes::{config, environment, name};

/// Each start is a server of the next script.
struct Scripts {
    environment: crate::environment::Environment,
    next: Mutex<VecDeque<Script>>,
    servers: Mutex<Vec<Handle>>,
}

impl Start for Scripts {
    fn start(&self) -> BoxFuture<'_, Started> {
        let script = self.next.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("a script");
        let (here, there) = pipes(65_536);
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(serve(script, there));
        let started = stdio::over(&name(), here.reader, here.writer, &self.environment);
        Box::pin(std::future::ready(Ok(started)))
    }
}

/// What each started server was sent, in order.
fn seen(scripts: &Scripts) -> Vec<Vec<String>> {
    let method = |message: &Message| match message {
        Message::Request(request) => request.method.to_string(),
        Message::Notification(notice) => notice.method.to_string(),
        Message::Response(_) => "response".to_owned(),
    };
    let servers = scripts.servers.lock().unwrap_or_else(PoisonError::into_inner);
    servers.iter().map(|server| server.seen().iter().map(method).collect()).collect()
}

/// One dial, with what was remembered before and is after.
async fn dial(
    server: &Server,
    memory: &Mutex<Memory>,
    scripts: impl IntoIterator<Item = Script>,
) -> (Result<Dialed, DialError>, Vec<Vec<String>>) {
    let (environment, _notices) = environment();
    let scripts = Scripts {
        environment: environment.clone(),
        next: Mutex::new(scripts.into_iter().collect()),
        servers: Mutex::default(),
    };
    let order = Order { name: &name(), server, first_start: false, environment: &environment, memory };
    let dialed = open(order, &scripts, LATER_START).await;
    // What was sent last is read by then.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let seen = seen(&scripts);
    (dialed, seen)
}

fn modern() -> Script {
    Script { modern: true, instructions: Some("hello".into()), ..Script::default() }
}

fn with(faults: impl IntoIterator<Item = Fault>) -> Script {
    Script { faults: faults.into_iter().collect(), ..Script::default() }
}

fn remembers(memory: &Mutex<Memory>) -> Option<Way> {
    memory.lock().unwrap_or_else(PoisonError::into_inner).shortcut(Instant::now())
}

const GREETED: [&str; 2] = ["initialize", "notifications/initialized"];

#[tokio::test(start_paused = true)]
async fn a_modern_server_is_opened_by_the_probe_alone() {
    let memory = Mutex::default();
    let (dialed, seen) = dial(&config(), &memory, [modern()]).await;
    let dialed = dialed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((dialed.handshake.revision, dialed.next_id), (Revision::V2026_07_28, 2));
    assert_eq!(dialed.handshake.instructions.as_deref(), Some("hello"));
    assert_eq!(seen, [["server/discover"]]);
    assert_eq!(remembers(&memory), None, "it is probed each time");
}

#[tokio::test(start_paused = true)]
async fn g58_any_other_error_leads_to_initialize_and_is_remembered() {
    for code in [-32601, -32602, -32600, -32000, 0] {
        let error = format!(r#"{{"code":{code},"message":"no"}}"#).leak();
        let memory = Mutex::default();
        let (dialed, seen) = dial(&config(), &memory, [with([Fault::error("server/discover", error)])]).await;
        assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2025_11_25);
        assert_eq!(seen[0], [&["server/discover"][..], &GREETED].concat(), "{code}");
        let (dialed, seen) = dial(&config(), &memory, [Script::default()]).await;
        assert!(dialed.is_ok());
        assert_eq!(seen, [GREETED], "no probe");
    }
}

#[tokio::test(start_paused = true)]
async fn g58_a_refusal_that_names_our_revision_is_not_followed_by_initialize() {
    let refusal = r#"{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}"#;
    let once = Script { faults: vec![Fault::error("server/discover", refusal).times(1)], ..modern() };
    let (dialed, seen) = dial(&config(), &Mutex::default(), [once]).await;
    assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2026_07_28);
    assert_eq!(seen, [["server/discover", "server/discover"]]);

    let foreign = r#"{"code":-32022,"message":"no","data":{"supported":["2031-01-01"]}}"#;
    let foreign = Script { faults: vec![Fault::error("server/discover", foreign)], ..modern() };
    let (dialed, seen) = dial(&config(), &Mutex::default(), [foreign]).await;
    let error = dialed.err().expect("nothing in common");
    assert!(error.kind == DialErrorKind::Revision && error.text.contains("2031-01-01"), "{error}");
    assert_eq!(seen, [["server/discover"]], "there is no way down");
}

#[tokio::test(start_paused = true)]
async fn g58_silence_is_followed_by_initialize_on_the_same_process_after_five_seconds() {
    let memory = Mutex::default();
    let begun = Instant::now();
    let (dialed, seen) = dial(&config(), &memory, [with([Fault::silent("server/discover")])]).await;
    assert_eq!(dialed.expect("a connection").next_id, 3);
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(seen[0], [&["server/discover"][..], &GREETED].concat());
    assert_eq!(remembers(&memory), Some(Way::Initialize));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_answered_late_is_made_again_at_the_next_start() {
    let memory = Mutex::default();
    let slow = Duration::from_secs(6);
    let late = with([Fault::slow("server/discover", slow), Fault::slow("initialize", Duration::from_secs(3))]);
    let (dialed, _) = dial(&config(), &memory, [late]).await;
    assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2025_11_25);
    assert_eq!(remembers(&memory), None);

    let late =
        Script { faults: vec![Fault::slow("server/discover", slow), Fault::slow("initialize", slow)], ..modern() };
    let (dialed, seen) = dial(&config(), &memory, [late]).await;
    assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2026_07_28, "it refused `initialize`");
    assert_eq!(seen, [["server/discover", "initialize"]]);
}

#[tokio::test(start_paused = true)]
async fn g57_a_server_that_exits_on_the_probe_is_started_again_once_and_remembered() {
    let memory = Mutex::default();
    let touchy = || with([Fault::exit("server/discover")]);
    let (dialed, seen) = dial(&config(), &memory, [touchy(), touchy()]).await;
    assert!(dialed.is_ok());
    assert_eq!(seen, [&["server/discover"][..], &GREETED]);
    let (dialed, seen) = dial(&config(), &memory, [touchy()]).await;
    assert!(dialed.is_ok());
    assert_eq!(seen, [GREETED], "the next start sends `initialize` first");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_neither_is_started_again_once() {
    let deaf = || with([Fault::silent("server/discover"), Fault::silent("initialize")]);
    let begun = Instant::now();
    let (dialed, seen) = dial(&config(), &Mutex::default(), [deaf(), Script::default()]).await;
    assert!(dialed.is_ok());
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(seen, [&["server/discover", "initialize"][..], &GREETED]);
    let (dialed, seen) = dial(&config(), &Mutex::default(), [deaf(), deaf()]).await;
    let error = dialed.err().expect("deaf");
    assert!(error.kind == DialErrorKind::Timeout && error.text.contains("did not answer `initialize` within 30 s"));
    assert_eq!(seen, [&["server/discover", "initialize"][..], &["initialize"]]);
}

/// A program that writes this to stdout, reads nothing, and stays.
struct NoServer {
    writes: &'static [u8],
    environment: crate::environment::Environment,
    ends: Mutex<Vec<trunkline_testkit::End>>,
}

impl Start for NoServer {
    fn start(&self) -> BoxFuture<'_, Started> {
        Box::pin(async {
            let (here, mut there) = pipes(65_536);
            there.writer.write_all(self.writes).await.expect("room");
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(there);
            Ok(stdio::over(&name(), here.reader, here.writer, &self.environment))
        })
    }
}

/// How the failure of such a program reads, of which an earlier start had written a banner.
async fn failure_after_a_banner(writes: &'static [u8]) -> String {
    let (environment, _notices) = environment();
    let banner = format!("{} (no JSON): the banner of an earlier start\n", stdio::NOT_A_MESSAGE);
    environment.journal.stderr(&name(), banner.as_bytes());
    let program = NoServer { writes, environment: environment.clone(), ends: Mutex::default() };
    let (server, memory) = (config(), Mutex::default());
    let order =
        Order { name: &name(), server: &server, first_start: false, environment: &environment, memory: &memory };
    open(order, &program, LATER_START).await.err().expect("no connection").text
}

#[tokio::test(start_paused = true)]
async fn what_is_no_mcp_on_stdout_is_shown_by_its_first_line_and_an_earlier_start_counts_for_nothing() {
    let text = failure_after_a_banner(b"usage: \x1b[1mtool\x1b[0m COMMAND\n\nmore of it\n").await;
    assert!(text.contains("what is no message of MCP: ") && text.contains("usage: "), "{text}");
    assert!(
        !text.contains("more of it") && !text.contains("startup_timeout_sec") && !text.contains("stderr"),
        "{text}"
    );
    assert!(!text.contains('\x1b') && !text.contains("earlier"), "{text}");
    let text = failure_after_a_banner(b"").await;
    assert!(text.contains("startup_timeout_sec") && !text.contains("stdout") && !text.contains("banner"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_exits_whatever_it_is_sent_is_an_exit_and_costs_no_second_start_each_time() {
    let memory = Mutex::default();
    let dead = || with([Fault::exit("server/discover"), Fault::exit("initialize")]);
    for starts in [2, 1, 2] {
        let (dialed, seen) = dial(&config(), &memory, [dead(), dead()]).await;
        let error = dialed.err().expect("dead");
        assert_eq!((error.kind, seen.len()), (DialErrorKind::Exited, starts), "{error}");
    }
}

/// A server whose process ends at once, however it is started, under the whole of supervision.
struct Dead {
    scripts: Scripts,
    starts: std::sync::atomic::AtomicUsize,
}

impl Start for Dead {
    fn start(&self) -> BoxFuture<'_, Started> {
        self.starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dead = with([Fault::exit("server/discover"), Fault::exit("initialize")]);
        self.scripts.next.lock().unwrap_or_else(PoisonError::into_inner).push_back(dead);
        self.scripts.start()
    }
}

impl crate::supervisor::Dialer for Dead {
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(open(order, self, LATER_START))
    }
}

/// F-36. Each dial of a process that ends on the probe may start it twice (R-47), and those count too.
#[tokio::test(start_paused = true)]
async fn r33_a_process_that_exits_at_once_is_started_twelve_times_in_ten_minutes_at_most() {
    let (environment, _notices) = environment();
    let scripts = Scripts { environment: environment.clone(), next: Mutex::default(), servers: Mutex::default() };
    let dead = Arc::new(Dead { scripts, starts: std::sync::atomic::AtomicUsize::new(0) });
    let dialer: Arc<dyn crate::supervisor::Dialer> = dead.clone();
    let fleet = crate::fleet::Fleet::start_with(&[(name(), config())], environment, dialer);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let starts = dead.starts.load(std::sync::atomic::Ordering::Relaxed);
    assert!((8..=12).contains(&starts), "{starts} starts");
    let status = fleet.all()[0].status();
    assert_eq!(status.state, "open", "{status:?}");
    assert!(status.reason.is_some_and(|reason| reason.contains("keeps exiting")));
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_became_modern_is_found_out_on_the_same_process() {
    let memory = Mutex::default();
    dial(&config(), &memory, [Script::default()]).await.0.expect("a legacy server");
    assert_eq!(remembers(&memory), Some(Way::Initialize));
    let (dialed, seen) = dial(&config(), &memory, [modern()]).await;
    assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2026_07_28);
    assert_eq!(seen, [["initialize", "server/discover"]]);
    assert_eq!(remembers(&memory), None);
}

#[tokio::test(start_paused = true)]
async fn the_configured_era_is_not_questioned() {
    let legacy = Server { era: Some(Era::Legacy), ..config() };
    let (dialed, seen) = dial(&legacy, &Mutex::default(), [Script::default()]).await;
    assert!(dialed.is_ok());
    assert_eq!(seen, [GREETED]);
    let must = Server { era: Some(Era::Modern), ..config() };
    let (dialed, seen) = dial(&must, &Mutex::default(), [Script::default()]).await;
    let error = dialed.err().expect("legacy");
    assert!(error.text.contains("`era` in [mcp_servers.git]") && error.text.contains("-32602"), "{error}");
    assert_eq!(seen, [["server/discover"]]);
    let slow = Script { faults: vec![Fault::slow("server/discover", Duration::from_secs(20))], ..modern() };
    assert!(dial(&must, &Mutex::default(), [slow]).await.0.is_ok(), "it has the whole start for its answer");
}

#[test]
fn the_probe_carries_the_envelope() {
    let out = discover::request(1, NEWEST);
    assert_eq!(out.method, Method::Discover);
    let Ok(Message::Request(request)) = Message::parse(&out.text) else { panic!("a request") };
    let meta = request.params().expect("an object").get_object("_meta").expect("an envelope");
    assert_eq!(meta.get_str(trunkline_wire::key::PROTOCOL_VERSION).as_deref(), Some("2026-07-28"));
}
