//! `trunkline service` with stand-ins for `systemctl` and `launchctl`: which calls are made, and what people read. The real
//! ones are machine-wide, and are not there where tests run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use crate::harness::daemon::{BINARY, Home};

/// A machine whose service manager writes down what it is asked, and says what the test has it say.
struct Machine {
    home: Home,
    bin: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        home.configure("[listen]\nport = 6399\n");
        let bin = home.path("bin");
        fs::create_dir_all(&bin).expect("made");
        let machine = Self { home, bin };
        machine.stand_in("systemctl", "case \"$*\" in *is-active*) [ -e \"$HOME/active\" ];; esac");
        machine.stand_in("launchctl", "case \"$*\" in print*) [ -e \"$HOME/active\" ];; esac");
        machine.stand_in("loginctl", "echo no");
        machine.stand_in("shell", "PATH=/from/the/shell:/usr/bin; eval \"$4\"");
        machine
    }

    /// A program that writes down its arguments, and then does this.
    fn stand_in(&self, name: &str, script: &str) {
        let path = self.bin.join(name);
        let noted = format!("#!/bin/sh\necho \"{name} $*\" >> \"$HOME/calls\"\n{script}\n");
        fs::write(&path, noted).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.home.command(args);
        command.env("HOME", self.home.path("")).env("SHELL", self.bin.join("shell"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.bin.display()));
        command.output().expect("the binary runs")
    }

    /// What it printed, and the calls that change something.
    fn service(&self, args: &[&str]) -> (String, Vec<String>, Option<i32>) {
        let _ = fs::remove_file(self.home.path("calls"));
        let output = self.run(&[&["service"], args].concat());
        let calls = fs::read_to_string(self.home.path("calls")).unwrap_or_default();
        let asks = ["show", "is-active", "print", "loginctl", "shell", "reset-failed"];
        let calls =
            calls.lines().filter(|call| !asks.iter().any(|ask| call.contains(ask))).map(str::to_owned).collect();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, calls, output.status.code())
    }

    fn unit(&self, name: &str) -> String {
        fs::read_to_string(self.home.path("config/systemd/user").join(name)).unwrap_or_default()
    }
}

#[test]
fn r4_install_writes_socket_and_service_with_the_login_shells_path_and_starts_both() {
    let machine = Machine::new();
    let (text, calls, code) = machine.service(&["install"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        calls,
        ["systemctl --user daemon-reload", "systemctl --user enable --now trunkline.socket trunkline.service"]
    );
    assert!(machine.unit("trunkline.service").contains("\nEnvironment=\"PATH=/from/the/shell:/usr/bin\"\n"));
    assert!(machine.unit("trunkline.service").contains(&format!("ExecStart=\"{BINARY}\" serve")));
    let socket = machine.unit("trunkline.socket");
    assert!(socket.contains("\nListenStream=127.0.0.1:6399\n"), "{socket}");
    // One without IPv6 has none to make, and its manager would make none of them.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(socket.contains("\nListenStream=[::1]:6399\n"), has_ipv6, "{socket}");
    for part in ["http://127.0.0.1:6399/mcp", "trunkline connect codex", "loginctl enable-linger", "make install"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    // Once more, while it runs: nothing is to be done.
    fs::write(machine.home.path("active"), "").expect("written");
    let (text, calls, code) = machine.service(&["install"]);
    assert_eq!(
        (code, calls),
        (Some(0), vec!["systemctl --user enable --now trunkline.socket trunkline.service".to_owned()])
    );
    assert!(text.contains("nothing had to be changed"), "{text}");
    // Another port: the socket has to be made anew, and the service with it.
    machine.home.configure("[listen]\nport = 6398\n");
    let (text, calls, _) = machine.service(&["install"]);
    assert_eq!(
        calls[..2],
        ["systemctl --user daemon-reload", "systemctl --user stop trunkline.socket trunkline.service"]
    );
    assert!(text.contains("http://127.0.0.1:6398/mcp"), "{text}");
}

#[test]
fn uninstall_takes_away_what_install_wrote_and_nothing_else() {
    let machine = Machine::new();
    assert!(machine.service(&["uninstall"]).0.contains("not installed"));
    machine.service(&["install"]);
    let (text, calls, code) = machine.service(&["uninstall"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        calls,
        ["systemctl --user disable --now trunkline.socket trunkline.service", "systemctl --user daemon-reload"]
    );
    assert_eq!(machine.unit("trunkline.service"), "");
    assert!(machine.home.path("config/trunkline/config.toml").exists());
}

#[test]
fn start_stop_and_restart_take_socket_and_service_together() {
    let machine = Machine::new();
    let (text, calls, code) = machine.service(&["start"]);
    assert_eq!((code, calls.len()), (Some(1), 0), "{text}");
    assert!(text.contains("trunkline service install"), "{text}");
    machine.service(&["install"]);
    assert_eq!(machine.service(&["start"]).1, ["systemctl --user start trunkline.socket trunkline.service"]);
    assert_eq!(machine.service(&["stop"]).1, ["systemctl --user stop trunkline.socket trunkline.service"]);
    let restarted = ["systemctl --user start trunkline.socket", "systemctl --user restart trunkline.service"];
    assert_eq!(machine.service(&["restart"]).1, restarted);
}

#[test]
fn status_says_whether_it_runs_by_its_exit_code_too() {
    let machine = Machine::new();
    machine.service(&["install"]);
    let shown = "case \"$*\" in *'show trunkline.service'*) printf 'ActiveState=%s\\nSubState=x\\nMainPID=42\\nUnitFileState=enabled\
                 \\nResult=exit-code\\nExecMainStatus=78\\n' \"$(cat $HOME/is)\";; esac";
    machine.stand_in("systemctl", shown);
    fs::write(machine.home.path("is"), "active").expect("written");
    let (text, _, code) = machine.service(&["status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("pid 42") && text.contains("starts at login"), "{text}");
    fs::write(machine.home.path("is"), "failed").expect("written");
    let (text, _, code) = machine.service(&["status"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("exit-code 78") && text.contains("trunkline service logs"), "{text}");
}

#[test]
fn where_there_is_no_session_it_says_what_brings_one_and_writes_nothing() {
    let machine = Machine::new();
    machine.stand_in("systemctl", "echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let (text, _, code) = machine.service(&["install"]);
    assert_eq!(code, Some(1), "{text}");
    for part in ["No medium found", "loginctl enable-linger", "container"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert_eq!(machine.unit("trunkline.service"), "");
    let (text, _, code) = machine.service(&["print"]);
    assert_eq!(code, Some(0), "printing needs no session: {text}");
    assert!(text.contains("[Service]") && text.contains("[Socket]"), "{text}");
}

#[tokio::test]
async fn a_daemon_that_was_started_by_hand_is_told_of_before_anything_is_written() {
    let Machine { home, bin } = Machine::new();
    let daemon = home.serve().await;
    let pid = daemon.child().id();
    let mut command = daemon.home.command(["service", "install"]);
    command.env("HOME", daemon.home.path("")).env("SHELL", bin.join("shell"));
    let output = command.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).output().expect("the binary runs");
    let (text, code) = (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code());
    assert!(!daemon.home.path("config/systemd").exists());
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains(&format!("kill {pid}")), "{text}");
}

#[test]
fn a_configuration_that_is_wrong_is_told_before_anything_is_written() {
    let machine = Machine::new();
    machine.home.configure("[listen]\nprot = 1\n");
    let (text, calls, code) = machine.service(&["install"]);
    assert_eq!((code, calls.len()), (Some(78), 0), "{text}");
    assert!(text.contains("listen.prot"), "{text}");
}

#[test]
fn launchd_gets_a_job_that_is_loaded_once() {
    let machine = Machine::new();
    let (text, calls, code) = machine.service(&["--manager", "launchd", "install"]);
    assert_eq!(code, Some(0), "{text}");
    let plist = machine.home.path("Library/LaunchAgents/org.trunkline.daemon.plist");
    let text = fs::read_to_string(&plist).expect("written");
    assert!(
        text.contains("<string>/from/the/shell:/usr/bin</string>") && text.contains("<string>6399</string>"),
        "{text}"
    );
    assert_eq!(calls.len(), 1);
    assert!(
        calls[0].starts_with("launchctl bootstrap gui/") && calls[0].ends_with(&plist.display().to_string()),
        "{calls:?}"
    );
    fs::write(machine.home.path("active"), "").expect("written");
    let (_, calls, _) = machine.service(&["--manager", "launchd", "restart"]);
    assert!(calls[0].starts_with("launchctl kickstart -k gui/"), "{calls:?}");
    let (_, calls, _) = machine.service(&["--manager", "launchd", "uninstall"]);
    assert!(calls[0].starts_with("launchctl bootout gui/") && !plist.exists(), "{calls:?}");
}

/// Where the tool is there; it finds what no reading of ours would.
#[test]
fn the_units_as_they_are_written_are_valid() {
    let machine = Machine::new();
    machine.service(&["install"]);
    let units = machine.home.path("config/systemd/user");
    let mut command = std::process::Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(["trunkline.service", "trunkline.socket"].map(|unit| units.join(unit)));
    let Ok(output) = command.output() else { return eprintln!("systemd-analyze is not here") };
    let said = String::from_utf8_lossy(&output.stderr);
    // It cannot work at all in some containers; what it finds in our files names them.
    assert!(output.status.success() || !said.contains("trunkline."), "{said}");
}
