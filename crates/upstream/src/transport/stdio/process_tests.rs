//! Real processes and real time: what only the system can show.

use std::path::Path;
use std::process::Command as StdCommand;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use trunkline_config::Secret;
use trunkline_telemetry::table;
use trunkline_wire::{Budget, Method};

use super::*;
use crate::environment::GuardProgram;

/// A server in shell: answers every line with an empty result of id 1. Shells are for tests; the daemon uses none.
const ECHO: &str = r#"while read -r line; do echo '{"jsonrpc":"2.0","id":1,"result":{}}'; done"#;

fn environment() -> Environment {
    let test = std::env::current_exe().expect("known");
    let target = test.ancestors().nth(2).expect("test programs are two levels down");
    let guard = target.join("examples/guard");
    assert!(guard.exists(), "{} is missing; run the tests without --lib, or build the example", guard.display());
    Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::new()),
        budget: Budget::new(64 << 20),
        limits: trunkline_config::Limits::default(),
        notices: mpsc::channel(1).0,
        guard: GuardProgram::new(guard, ["__guard"]),
        shelf: crate::Shelf::none(),
        signin: None,
        inherited: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
    }
}

fn name() -> ServerName {
    ServerName::new("git").expect("a name")
}

async fn run(script: &str, environment: &Environment) -> (Arc<dyn Transport>, MessageStream) {
    let config = trunkline_config::Stdio::new("sh", ["-c", script]);
    start(&name(), &config, &[], environment).await.expect("it runs")
}

async fn broken(stream: &mut MessageStream) -> String {
    stream.next().await.expect("not the end").expect_err("broken").text
}

fn ping() -> Outgoing {
    let text = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    Outgoing::new(text, Some(1), Method::Ping)
}

/// Waits until no process has `needle` on its command line, or returns `false` after `limit`.
async fn vanished(needle: &str, limit: Duration) -> bool {
    let gone = async {
        while is_running(needle) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, gone).await.is_ok()
}

fn is_running(needle: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let command_lines = entries.flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    command_lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(needle))
}

/// An argument that no other process on the machine has: sleeps take fractions.
fn unique_seconds() -> String {
    format!("987.{}", fastrand::u32(100_000_000..))
}

#[tokio::test]
async fn a_child_answers_and_ends_with_its_stdin() {
    let environment = environment();
    let (transport, mut stream) = run(ECHO, &environment).await;
    transport.send(ping()).await.expect("sent");
    assert!(matches!(stream.next().await, Some(Ok(Message::Response(_)))));
    let pid = transport.facts().pid.expect("a child");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let begun = Instant::now();
    transport.close(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "the end of stdin was heeded");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "gone and reaped");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_exit_is_told_with_its_status_and_last_words() {
    let environment = environment();
    let (_transport, mut stream) = run("echo key missing >&2; exit 3", &environment).await;
    assert_eq!(broken(&mut stream).await, "the process exited with status 3; its last words: key missing");
}

#[tokio::test]
async fn a_command_that_exits_at_once_was_run() {
    let environment = environment();
    for _ in 0..20 {
        let (_transport, mut stream) = run("exit 5", &environment).await;
        assert_eq!(broken(&mut stream).await, "the process exited with status 5; it wrote nothing to stderr");
    }
}

#[tokio::test]
async fn last_words_are_told_without_the_secrets_in_them() {
    let environment = environment();
    let mut config = trunkline_config::Stdio::new("sh", ["-c", "echo bad key $KEY >&2; exit 3"]);
    config.env.insert("KEY".into(), Secret::new("correct-horse"));
    let (_transport, mut stream) = start(&name(), &config, &[], &environment).await.expect("it runs");
    assert_eq!(broken(&mut stream).await, "the process exited with status 3; its last words: bad key ***");
}

#[tokio::test]
async fn last_words_leave_out_the_stack_trace() {
    let environment = environment();
    let script = r#"printf "%s\n" loader:1 "Error: Cannot find module 'x'" "    at load (a.js:1)" "    at main {" "  code: 1" "}" "" "v20" >&2"#;
    let (_transport, mut stream) = run(&format!("{script}; exit 1"), &environment).await;
    let said = "loader:1 | Error: Cannot find module 'x' | v20";
    assert_eq!(broken(&mut stream).await, format!("the process exited with status 1; its last words: {said}"));
}

#[tokio::test]
async fn a_kill_is_told_as_one() {
    let environment = environment();
    let (_transport, mut stream) = run("kill -9 $$", &environment).await;
    assert_eq!(broken(&mut stream).await, "the process was killed by signal 9 (KILL); it wrote nothing to stderr");
}

#[tokio::test]
async fn r9_an_exit_is_seen_although_a_descendant_holds_the_pipes() {
    let environment = environment();
    let seconds = unique_seconds();
    let (_transport, mut stream) = run(&format!("setsid sleep {seconds} & exit 4"), &environment).await;
    let text = timeout(Duration::from_secs(2), broken(&mut stream)).await.expect("at once");
    assert!(text.starts_with("the process exited with status 4"), "{text}");
    assert!(vanished(&format!("sleep\0{seconds}"), Duration::from_secs(10)).await, "what it left behind is ended");
}

#[tokio::test]
async fn a_file_that_cannot_be_executed_is_no_exit() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server");
    std::fs::write(&file, "#!/no/such/interpreter\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).expect("set");
    let config = trunkline_config::Stdio::new(file.to_str().expect("text"), []);
    let error = start(&name(), &config, &[], &environment()).await.err().expect("it cannot run");
    assert_eq!(error.kind, DialErrorKind::Config);
    assert!(error.text.contains("is the interpreter"), "{}", error.text);
}

#[tokio::test]
async fn a_guard_that_is_none_is_named() {
    let mut environment = environment();
    environment.guard = GuardProgram::new("/bin/true", []);
    let config = trunkline_config::Stdio::new("sh", ["-c", ECHO]);
    let error = start(&name(), &config, &[], &environment).await.err().expect("it cannot run");
    assert_eq!(error.kind, DialErrorKind::Spawn);
    assert!(error.text.contains("its guard process could not be started"), "{}", error.text);
}

#[tokio::test]
async fn r30_a_tree_that_ignores_everything_is_gone_after_close() {
    let environment = environment();
    let seconds = unique_seconds();
    // A grandchild that left the group and ignores TERM, a child that ignores TERM and the end of its stdin.
    let script = format!(
        "trap '' TERM; setsid sh -c \"trap '' TERM; sleep {seconds}; sleep {seconds}\" & sleep {seconds}; sleep {seconds}"
    );
    let (transport, _stream) = run(&script, &environment).await;
    while !is_running(&format!("sleep\0{seconds}")) {
        sleep(Duration::from_millis(10)).await;
    }
    transport.close(Duration::from_millis(200)).await;
    assert!(!is_running(&seconds), "nobody is left when close returns");
}

#[tokio::test]
async fn dropping_everything_ends_the_tree() {
    let environment = environment();
    let seconds = unique_seconds();
    let (transport, stream) = run(&format!("cat >/dev/null; sleep {seconds}"), &environment).await;
    drop((transport, stream));
    assert!(vanished(&seconds, Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let environment = environment();
    let seconds = unique_seconds();
    let config = trunkline_config::Stdio::new("sleep", [seconds.as_str()]);
    for wait in [0, 1, 2, 5, 10] {
        let _ = timeout(Duration::from_millis(wait), start(&name(), &config, &[], &environment)).await;
    }
    assert!(vanished(&seconds, Duration::from_secs(10)).await);
}

#[tokio::test]
async fn r30_a_killed_guard_takes_its_tree_along() {
    let environment = environment();
    let seconds = unique_seconds();
    let script = format!("setsid sleep {seconds} & sleep {seconds}");
    let (transport, mut stream) = run(&script, &environment).await;
    let pid = transport.facts().pid.expect("a child");
    while !is_running(&format!("sleep\0{seconds}")) {
        sleep(Duration::from_millis(10)).await;
    }
    let guard = guard_of(pid);
    assert!(StdCommand::new("kill").args(["-9", &guard.to_string()]).status().expect("runs").success());
    // On a machine that is busy the end of the pipe is seen, and that of the process not in time to be told.
    let text = broken(&mut stream).await;
    assert!(["the process ended", "it closed its stdout"].iter().any(|begin| text.starts_with(begin)), "{text}");
    assert!(vanished(&seconds, Duration::from_secs(10)).await);
}

/// What [`r30_a_killed_daemon_leaves_nobody`] runs as a process of its own, in order to kill it.
#[tokio::test]
#[ignore = "a part of another test"]
async fn daemon_to_be_killed() {
    #[expect(clippy::disallowed_methods, reason = "it is how the outer test talks to this one")]
    let seconds = std::env::var("SECONDS_TO_SLEEP").expect("set by the test that runs this");
    let script = format!(
        "trap '' TERM; setsid sh -c \"trap '' TERM; sleep {seconds}; sleep {seconds}\" & sleep {seconds}; sleep {seconds}"
    );
    let _held = run(&script, &environment()).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn r30_a_killed_daemon_leaves_nobody() {
    let seconds = unique_seconds();
    let test = "transport::stdio::process_tests::daemon_to_be_killed";
    let mut daemon = StdCommand::new(std::env::current_exe().expect("known"))
        .args(["--ignored", "--exact", test])
        .env("SECONDS_TO_SLEEP", &seconds)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    while !is_running(&format!("sleep\0{seconds}")) {
        sleep(Duration::from_millis(10)).await;
    }
    daemon.kill().expect("it ran");
    daemon.wait().expect("reaped");
    assert!(vanished(&seconds, Duration::from_secs(10)).await, "R-30");
}

#[tokio::test]
async fn s32_a_child_starts_with_its_own_variables_three_descriptors_and_a_private_umask() {
    let mut environment = environment();
    environment.inherited.push(("SECRET_OF_THE_DAEMON".into(), "x".into()));
    let mut config =
        trunkline_config::Stdio::new("sh", ["-c", "env | sort >&2; ls /proc/self/fd >&2; umask >&2; pwd >&2; exit 5"]);
    config.env.insert("OWN".into(), Secret::new("/value"));
    config.cwd = Some("/".into());
    let (_transport, mut stream) = start(&name(), &config, &[], &environment).await.expect("it runs");
    broken(&mut stream).await;
    let said = environment.journal.stderr_tail(&name(), 9999);
    let lines: Vec<_> = said
        .lines()
        .filter(|line| !["PWD", "OLDPWD", "SHLVL", "_"].iter().any(|own| line.starts_with(&format!("{own}="))))
        .collect();
    let mark =
        lines.iter().position(|line| line.starts_with(&format!("{}={}.git.", process::MARK, process::instance())));
    assert!(mark.is_some(), "{said}");
    let others: Vec<_> = lines.iter().filter(|line| !line.starts_with(process::MARK)).collect();
    // The last descriptor is that of `ls` itself, reading the directory.
    assert_eq!(
        others,
        [&"OWN=/value", &"PATH=/usr/local/bin:/usr/bin:/bin", &"0", &"1", &"2", &"3", &"0077", &"/"],
        "{said}"
    );
}

/// F-32.
#[tokio::test]
async fn r29_ten_mebibytes_of_stderr_before_the_first_answer_and_during_a_call_block_nobody() {
    let environment = environment();
    let flood = "head -c 10485760 /dev/zero | tr '\\0' e >&2";
    let script = format!("{flood}; {}", ECHO.replace("do ", &format!("do {flood}; ")));
    let (transport, mut stream) = run(&script, &environment).await;
    for call in 1..=2_u64 {
        transport.send(ping()).await.expect("sent");
        assert!(matches!(stream.next().await, Some(Ok(Message::Response(_)))));
        // The last of it may still be in the pipe.
        let kept = 64 * 1024;
        let written = (call + 1) * (10 << 20);
        let drained = async {
            while environment.journal.stderr_dropped(&name()) + kept < written {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), drained).await.expect("all of it is read");
        assert_eq!(
            environment.journal.stderr_dropped(&name()) + kept,
            written,
            "the ring is bounded, the rest counted"
        );
    }
}

/// The guard of a child: its parent.
fn guard_of(pid: u32) -> i32 {
    let pid = i32::try_from(pid).expect("a pid");
    table::Process::look_up(pid).expect("it runs").parent
}

/// F-34. The shell's own children are no orphans, so each goes by way of one that ends first.
#[tokio::test]
async fn r31_no_zombie_of_five_hundred_short_lived_orphans_is_seen_for_a_second() {
    let environment = environment();
    let breed = "i=0; while [ $i -lt 500 ]; do (setsid true & true & sleep 0.01 &); i=$((i+1)); done";
    let (transport, mut stream) = run(&format!("{breed}; {ECHO}"), &environment).await;
    let guard = guard_of(transport.facts().pid.expect("a child"));
    transport.send(ping()).await.expect("sent");
    let mut since = std::collections::HashMap::new();
    let mut answered = false;
    loop {
        if !answered {
            answered = timeout(Duration::from_millis(20), stream.next()).await.is_ok();
        }
        let family = table::descendants(&table::Process::all(), guard);
        for zombie in family.iter().filter(|process| process.zombie) {
            let seen = since.entry((zombie.pid, zombie.started)).or_insert_with(Instant::now);
            assert!(seen.elapsed() < Duration::from_secs(1), "{zombie:?} is left to rot");
        }
        if answered && family.len() == 1 {
            break;
        }
    }
    transport.close(Duration::from_secs(2)).await;
    assert!(table::Process::look_up(guard).is_none(), "the guard itself is reaped");
}

/// F-35, its second half.
#[tokio::test]
async fn r32_a_handshake_that_fails_leaves_no_tree() {
    let environment = environment();
    let seconds = unique_seconds();
    // Deaf, and it has brought up a family.
    let script = format!("setsid sleep {seconds} & sleep {seconds}");
    let config = trunkline_config::Stdio::new("sh", ["-c", script.as_str()]);
    let mut server = trunkline_config::Server::new(trunkline_config::Connect::Stdio(config));
    server.tuning.startup_timeout = Some(Duration::from_millis(300));
    let memory = std::sync::Mutex::default();
    let order = crate::dial::Order {
        name: &name(),
        server: &server,
        first_start: true,
        environment: &environment,
        memory: &memory,
    };
    let error = crate::dial::dial(order).await.err().expect("it says nothing");
    assert_eq!(error.kind, DialErrorKind::Timeout, "{error}");
    assert!(!is_running(&seconds), "nobody is left when the dial has failed");
}

/// Reliability 9.8, with a real pipe and a real process behind it; the ten seconds are shown on a paused clock.
#[tokio::test]
async fn a_child_that_does_not_read_holds_up_nobody_who_sends() {
    let environment = environment();
    let seconds = unique_seconds();
    let (transport, _stream) = run(&format!("exec sleep {seconds}"), &environment).await;
    let large = Outgoing::new(vec![b'x'; 1 << 20].into(), Some(1), Method::Ping);
    let sent = timeout(Duration::from_secs(5), transport.send(large)).await.expect("at once");
    assert!(sent.is_ok(), "what the pipe does not take waits elsewhere");
    transport.close(Duration::from_millis(100)).await;
    assert!(!is_running(&seconds));
}

/// F-68: descriptors, environment, umask and directory are shown above; here the rest of what a process inherits.
#[tokio::test]
async fn s32_a_child_starts_with_default_signals_and_the_limits_of_the_daemon() {
    let environment = environment();
    let script = "cat /proc/self/status /proc/self/limits >&2; exit 5";
    let (_transport, mut stream) = run(script, &environment).await;
    broken(&mut stream).await;
    let said = environment.journal.stderr_tail(&name(), 9999);
    let mask = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux");
        let all = u64::from_str_radix(line.trim_start_matches(":\t"), 16).expect("a mask");
        // The C library keeps two real-time signals for itself, and spawns with them ignored.
        all & 0x7fff_ffff
    };
    let pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    let ignored = mask(&std::fs::read_to_string("/proc/self/status").expect("Linux"), "SigIgn");
    assert_ne!(ignored & pipe, 0, "the test's own setting: the runtime ignores PIPE");
    assert_eq!(["SigBlk", "SigIgn", "SigCgt"].map(|name| mask(&said, name)), [0, ignored & !pipe, 0], "{said}");
    let own = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    assert!(said.ends_with(&own), "{said}\n{own}");
}

#[tokio::test]
async fn the_ledger_counts_trees_by_how_they_ended() {
    let environment = environment();
    // Only servers that were begun are counted.
    let _begun = environment.metrics.server(&name());
    let shown = |name: &str| {
        environment.metrics.measure();
        let text = environment.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let (transport, stream) = run(&format!("sleep 60 & {ECHO}"), &environment).await;
    assert_eq!(shown("trunkline_children "), "1");
    let processes = async {
        while shown(r#"trunkline_server_processes{server="git"} "#) != "2" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), processes).await.expect("the shell and what it started");
    assert!(environment.metrics.usage(&name()).is_some_and(|usage| usage.resident_bytes > 0 && usage.open_fds >= 6));
    transport.close(Duration::from_secs(2)).await;
    drop(stream);
    assert_eq!(shown("trunkline_children "), "0");
    let (exited, mut stream) = run("exit 3", &environment).await;
    broken(&mut stream).await;
    exited.close(Duration::from_secs(2)).await;
    run(ECHO, &environment).await.0.close(Duration::from_secs(2)).await;
    assert_eq!(shown(r#"trunkline_child_restarts_total{reason="exited",server="git"} "#), "1");
    assert_eq!(shown(r#"trunkline_child_restarts_total{reason="stopped",server="git"} "#), "1");
}

#[tokio::test]
async fn megabytes_cross_both_ways() {
    let environment = environment();
    let (transport, mut stream) = run("exec cat", &environment).await;
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"t":"{}"}}}}"#, "x".repeat(8 << 20));
    let out = Outgoing::new(text.clone().into(), Some(1), Method::Ping);
    for _ in 0..3 {
        transport.send(out.clone()).await.expect("sent");
        let Some(Ok(message)) = stream.next().await else { panic!("no message") };
        assert!(message.encode() == text.as_bytes());
        drop(message);
        assert_eq!(environment.budget.used(), 0);
    }
}
