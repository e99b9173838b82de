//! Notices that the machine slept or was stopped, and that its network is another one now.
//!
//! Connections then look alive and are not, so every server is looked at, once for each such event ([`watch`] says when,
//! the fleet does it). A clock that counts sleep tells how late a tick comes: the date may jump by a day without anything
//! having happened. The network is told by its default routes and name servers, read where the system shows them; what
//! changes in several steps, as a VPN does, counts when it has come to rest.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::time::Duration;

use tokio::time::sleep;

use crate::limits::{WAKE_LATE, WAKE_TICK};

/// As much as is read of a file of the system. A machine with more routes than that shows its default ones first.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why every server is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The machine slept, or the process was stopped.
    Slept,
    /// Another default route, or other name servers.
    Network,
}

impl Cause {
    /// For logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Slept => "the machine slept or the process was stopped",
            Self::Network => "the network changed",
        }
    }
}

/// What is seen at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A clock that goes on while the machine sleeps.
    clock: Duration,
    /// Equal for the same network.
    network: u64,
}

/// Compares what is seen at one tick with the one before. Pure.
#[derive(Debug)]
struct Pulse {
    last: Seen,
    /// The network changed and has not come to rest yet.
    restless: bool,
}

impl Pulse {
    fn feel(&mut self, seen: Seen) -> Option<Cause> {
        let late = seen.clock.saturating_sub(self.last.clock) > WAKE_TICK + WAKE_LATE;
        let moved = seen.network != self.last.network;
        let settled = self.restless && !moved;
        self.last = seen;
        // What changed during the sleep is part of it.
        self.restless = moved && !late;
        if late {
            return Some(Cause::Slept);
        }
        settled.then_some(Cause::Network)
    }
}

/// Calls `woke` after each event, as long as that says to go on. `look`: how to see; the system's own way is [`look`].
pub(crate) async fn watch(look: impl Fn() -> Seen, woke: impl Fn(Cause) -> bool) {
    let mut pulse = Pulse { last: look(), restless: false };
    loop {
        sleep(WAKE_TICK).await;
        if let Some(cause) = pulse.feel(look())
            && !woke(cause)
        {
            return;
        }
    }
}

/// Looks at the system.
pub(crate) fn look() -> Seen {
    Seen {
        clock: clock(),
        network: network(&read("/proc/net/route"), &read("/proc/net/ipv6_route"), &read("/etc/resolv.conf")),
    }
}

/// Linux counts sleep in a clock of its own, macOS in this one.
fn clock() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = ClockId::Monotonic;
    let time = clock_gettime(id);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Reads a small file of the system; what is not there is empty. From memory, so that no thread has to wait for it.
fn read(path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // Half a file is as good as one: it is compared, not understood.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A number for the default routes and name servers that these files tell of. The counters in them do not matter.
fn network(routes: &str, routes_v6: &str, resolver: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in routes.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [interface, "00000000", gateway, _flags, _references, _uses, metric, "00000000", ..] = fields[..] {
            (interface, gateway, metric).hash(&mut hasher);
        }
    }
    for line in routes_v6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [destination, "00", _source, _length, gateway, metric, _references, _uses, _flags, interface] =
            fields[..]
            && destination.bytes().all(|digit| digit == b'0')
            && interface != "lo"
        {
            (interface, gateway, metric).hash(&mut hasher);
        }
    }
    resolver.lines().filter(|line| line.trim_start().starts_with("nameserver")).for_each(|line| line.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";

    fn seen(secs: u64, network: u64) -> Seen {
        Seen { clock: Duration::from_secs(secs), network }
    }

    fn felt(ticks: &[(u64, u64)]) -> Vec<Option<Cause>> {
        let mut pulse = Pulse { last: seen(ticks[0].0, ticks[0].1), restless: false };
        ticks[1..].iter().map(|(secs, network)| pulse.feel(seen(*secs, *network))).collect()
    }

    #[test]
    fn r20_a_tick_that_comes_ten_seconds_late_is_one_event_and_a_busy_moment_is_none() {
        let slept = Some(Cause::Slept);
        assert_eq!(felt(&[(0, 1), (2, 1), (14, 1), (16, 1)]), [None, None, None], "ten seconds late, and not more");
        assert_eq!(felt(&[(0, 1), (2, 1), (122, 1), (124, 1), (126, 1)]), [None, slept, None, None]);
        // It woke up in another network: still one event.
        assert_eq!(felt(&[(0, 1), (122, 2), (124, 2), (126, 2)]), [slept, None, None]);
    }

    #[test]
    fn r20_a_network_that_changes_in_steps_is_one_event_when_it_has_come_to_rest() {
        let changed = Some(Cause::Network);
        assert_eq!(felt(&[(0, 1), (2, 2), (4, 3), (6, 4), (8, 4), (10, 4)]), [None, None, None, changed, None]);
    }

    #[test]
    fn f75_the_network_is_told_by_default_routes_and_name_servers_and_by_nothing_else() {
        let v6 = format!(
            "{0} 00 {0} 00 fe800000000000000000000000000001 00000400 00000001 00000002 00000003 eth0\n",
            "0".repeat(32)
        );
        let here = network(ROUTES, &v6, "nameserver 10.0.0.1\n");
        assert_eq!(
            network(&ROUTES.replace("\t0\t0\t100", "\t7\t9\t100"), &v6, "nameserver 10.0.0.1\n"),
            here,
            "counters"
        );
        assert_eq!(
            network(&format!("{ROUTES}tun0\t0000FF0A\t0\t1\t0\t0\t0\t00FFFFFF\n"), &v6, "nameserver 10.0.0.1\n"),
            here
        );
        assert_eq!(network(ROUTES, &v6, "# by dhcp\nnameserver 10.0.0.1\n"), here);
        for other in [
            network(&ROUTES.replace("eth0\t00000000", "tun0\t00000000"), &v6, "nameserver 10.0.0.1\n"),
            network(&ROUTES.replace("0100A8C0", "0200A8C0"), &v6, "nameserver 10.0.0.1\n"),
            network("", &v6, "nameserver 10.0.0.1\n"),
            network(ROUTES, "", "nameserver 10.0.0.1\n"),
            network(ROUTES, &v6, "nameserver 10.0.0.2\n"),
        ] {
            assert_ne!(other, here);
        }
        assert_eq!(look().network, look().network);
        assert!(look().clock > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn r45_the_watch_ends_when_nobody_wants_to_know_and_knows_no_date() {
        let clock = Mutex::new(0);
        let look = || {
            let mut clock = clock.lock().expect("whole");
            *clock += 60;
            seen(*clock, 1)
        };
        let events = Mutex::new(0);
        watch(look, |_| {
            let mut events = events.lock().expect("whole");
            *events += 1;
            *events < 3
        })
        .await;
        assert_eq!(*events.lock().expect("whole"), 3);
    }
}
