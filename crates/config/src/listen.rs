//! `[listen]`: where the daemon is reached, and under which names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the daemon listens and which `Host` and `Origin` values it takes as its own (S-1…S-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The port, the same on every host. 0 lets the system choose.
    pub port: u16,
    /// Loopback addresses, all of which must bind.
    pub hosts: Vec<IpAddr>,
    /// Further names that `Host` may carry, beside `127.0.0.1`, `[::1]` and `localhost` (S-2).
    pub names: Vec<String>,
    /// Origins of browser pages that may connect. Empty means none but the gateway's own (S-3).
    pub origins: Vec<String>,
}

impl Listen {
    /// The port of the one URL that every client is given.
    pub const PORT: u16 = 6270;
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            port: Self::PORT,
            hosts: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            names: Vec::new(),
            origins: Vec::new(),
        }
    }
}
