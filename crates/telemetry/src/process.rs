//! Figures of the process itself, read from `/proc` when asked; absent where there is no `/proc`.

use std::fmt::Write as _;
use std::fs;

use crate::table::TICKS_PER_SECOND;

/// Appends the process figures in Prometheus' text form, under the names that every exporter uses.
pub(crate) fn render(out: &mut String) {
    if let Some(bytes) = resident_bytes() {
        gauge(out, "gauge", "process_resident_memory_bytes", "Resident memory.", &bytes.to_string());
    }
    if let Some(seconds) = cpu_seconds() {
        gauge(out, "counter", "process_cpu_seconds_total", "User and system time spent.", &seconds.to_string());
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // The listing itself holds one.
        let open = files.count().saturating_sub(1);
        gauge(out, "gauge", "process_open_fds", "Open file descriptors.", &open.to_string());
    }
}

fn gauge(out: &mut String, kind: &str, name: &str, help: &str, value: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> Option<u64> {
    resident_bytes_of("self")
}

/// Resident memory of a process, by its id in decimal.
pub(crate) fn resident_bytes_of(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces; what follows its closing bracket does not. Fields 14 and 15 are
    // user and system time.
    let after_name = stat.rsplit_once(')')?.1;
    let mut times = after_name.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn shows_memory_time_and_files() {
        let mut out = String::new();
        render(&mut out);
        for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            assert!(out.contains(&format!("\n{name} ")), "{name} in {out}");
        }
        assert!(resident_bytes().expect("linux") > 100_000);
    }
}
