//! Rules of the house that no compiler checks: the crates' arrows point down, versions live once, and each promise has its
//! test (`house/promises.rs`).

#[path = "house/codes.rs"]
mod codes;
#[path = "house/promises.rs"]
mod promises;

use std::collections::BTreeMap;
use std::path::Path;

/// Which of our crates each crate may use: "daemon → edge → hub → upstream → signin → telemetry → wire, levels may be
/// skipped downward", and everyone above telemetry may use config.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("config", &["wire"]),
    ("telemetry", &["wire"]),
    ("signin", &["telemetry", "config", "wire"]),
    ("upstream", &["signin", "telemetry", "config", "wire"]),
    ("hub", &["upstream", "telemetry", "config", "wire"]),
    ("edge", &["hub", "upstream", "signin", "telemetry", "config", "wire"]),
    ("testkit", &["wire"]),
];

fn manifest(path: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dependencies(manifest: &toml::Table, section: &str) -> BTreeMap<String, toml::Value> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn ours(manifest: &toml::Table, section: &str) -> Vec<String> {
    let names = dependencies(manifest, section).into_keys();
    names.filter_map(|name| name.strip_prefix("trunkline-").map(str::to_owned)).collect()
}

#[test]
fn the_arrows_between_the_crates_point_down() {
    for (name, allowed) in ARROWS {
        let manifest = manifest(&format!("crates/{name}/Cargo.toml"));
        for used in ours(&manifest, "dependencies") {
            assert!(allowed.contains(&used.as_str()), "{name} may not use {used}");
        }
        // A dev-dependency that leads back would give a crate two copies of its own types.
        for used in ours(&manifest, "dev-dependencies") {
            assert!(used == "testkit" || allowed.contains(&used.as_str()), "tests of {name} may not use {used}");
        }
    }
}

#[test]
fn every_crate_stands_in_the_table_of_arrows() {
    let root = manifest("Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    for member in members.iter().filter_map(toml::Value::as_str) {
        let Some(name) = member.strip_prefix("crates/") else { continue };
        assert!(ARROWS.iter().any(|(known, _)| *known == name), "{name} has no row in ARROWS");
    }
}

#[test]
fn versions_live_in_the_workspace_manifest_alone() {
    let root = manifest("Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    let paths = members.iter().filter_map(toml::Value::as_str).map(|member| format!("{member}/Cargo.toml"));
    for path in paths.chain(["Cargo.toml".to_owned()]) {
        let manifest = manifest(&path);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in dependencies(&manifest, section) {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{path}: {name} must be `workspace = true`");
            }
        }
    }
}

fn deployed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a tool if this machine has it, and returns what it said if it complained.
fn complaint_of(program: &str, args: &[&std::ffi::OsStr]) -> Option<String> {
    let Ok(output) = std::process::Command::new(program).args(args).output() else {
        eprintln!("{program} is not here; what it would check stays unchecked");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then_some(said)
}

#[test]
fn the_units_of_systemd_are_valid_and_leave_time_for_the_drain() {
    for place in ["systemd", "systemd/system"] {
        let service = deployed(&format!("{place}/trunkline.service"));
        for line in
            ["Type=notify", "KillMode=mixed", "TimeoutStopSec=45", "RestartPreventExitStatus=78", "WatchdogSec=30"]
        {
            assert!(service.lines().any(|have| have == line), "{place}: {line}");
        }
        let socket = deployed(&format!("{place}/trunkline.socket"));
        for line in ["ListenStream=127.0.0.1:6270", "ListenStream=[::1]:6270", "SocketMode=0600"] {
            assert!(socket.lines().any(|have| have == line), "{place}: {line}");
        }
        // Elsewhere there is neither this program nor this user, of which the tool would complain.
        let known = |line: &str| match line.split_once('=') {
            Some(("ExecStart", _)) => "ExecStart=/bin/true serve".to_owned(),
            Some(("User" | "SocketUser" | "SocketGroup", _)) => String::new(),
            _ => line.to_owned(),
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut paths = Vec::new();
        for (name, text) in [("trunkline.service", &service), ("trunkline.socket", &socket)] {
            let path = directory.path().join(name);
            std::fs::write(&path, text.lines().map(known).collect::<Vec<_>>().join("\n") + "\n").expect("written");
            paths.push(path);
        }
        let args = ["verify".as_ref(), "--man=no".as_ref(), paths[0].as_os_str(), paths[1].as_os_str()];
        if let Some(said) = complaint_of("systemd-analyze", &args) {
            // It cannot work at all in some containers; what it finds in our files names them.
            assert!(!said.contains("trunkline."), "{place}: {said}");
        }
    }
}

#[test]
fn the_plist_of_launchd_can_be_read_and_its_sockets_are_those_that_are_asked_for() {
    let text = deployed("launchd/org.trunkline.daemon.plist");
    let asked = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/daemon/activation.rs"));
    let asked = asked.expect("the source");
    for name in ["trunkline-v4", "trunkline-v6", "trunkline-owner"] {
        assert!(text.contains(&format!("<key>{name}</key>")) && asked.contains(&format!("\"{name}\"")), "{name}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/launchd/org.trunkline.daemon.plist");
    let read = "import plistlib, sys; p = plistlib.load(open(sys.argv[1], 'rb')); assert p['ExitTimeOut'] == 45";
    if let Some(said) = complaint_of("python3", &["-c".as_ref(), read.as_ref(), path.as_os_str()]) {
        panic!("{said}");
    }
}
