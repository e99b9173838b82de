//! Who is alive: processes found by a marker in their environment, however far they ran from their parents.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal};

/// Processes whose environment holds `marker`, by pid, with their command lines. Zombies have no environment
/// and are not counted. Linux only: elsewhere the environment of others cannot be read, and nobody is found.
pub(crate) fn marked(marker: &str) -> BTreeMap<u32, String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = environment.windows(marker.len()).any(|window| window == marker.as_bytes());
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        found.then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    })
    .collect()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // It may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, signal);
}
