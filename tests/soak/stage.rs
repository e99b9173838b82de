//! What is played on: one daemon, ten servers, and a fault proxy before each that is reached by TCP and not spared.

use std::time::Duration;

use crate::harness::census;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::proxy::{Door, FaultProxy, Weather};

/// Short limits, so that whatever is lost is told within the harness's patience.
const LIMITS: &str = "\
    startup_timeout_sec = 5\n\
    tool_timeout_sec = 5\n\
    limits = { read_timeout_sec = 5, list_timeout_sec = 5 }\n";

/// Name and options of the servers on pipes; the first is left alone.
const PIPES: [(&str, &[&str]); 4] = [
    ("calmpipe", &[]),
    ("pipe", &[]),
    ("pipenew", &["--revision", "2026-07-28"]),
    ("pipeold", &["--revision", "2024-11-05"]),
];

/// Name, mode and options of the servers on ports; the first is left alone.
const PORTS: [(&str, &str, &[&str]); 6] = [
    ("calmweb", "http", &[]),
    ("web", "http", &["--no-get"]),
    ("webstream", "http", &["--streams", "--resumable"]),
    ("webnew", "http", &["--revision", "2026-07-28"]),
    ("webdual", "http", &["--revision", "2026-07-28", "--dual"]),
    ("sse", "sse", &[]),
];

pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    pub(crate) servers: Vec<Server>,
}

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) desk: Desk,
    /// Whether nothing is done to it, so that nothing may go wrong.
    pub(crate) calm: bool,
    pub(crate) port: Option<Port>,
}

pub(crate) struct Port {
    pub(crate) proxy: FaultProxy,
    _fake: Fake,
}

impl Stage {
    pub(crate) async fn start() -> Stage {
        let home = Home::new();
        let mut config = String::from("[log]\nlevel = \"info\"\n");
        let mut servers = Vec::new();
        for (name, args) in PIPES {
            let (block, desk) = fake::stdio(&home, name, args);
            config.extend([block.as_str(), LIMITS]);
            servers.push(Server { name, desk, calm: servers.is_empty(), port: None });
        }
        for (place, (name, mode, args)) in PORTS.into_iter().enumerate() {
            let fake = Fake::start(mode, name, args).await;
            let proxy = FaultProxy::before(&fake.address()).await;
            config.extend([fake.block().replace(&fake.url, &proxy.url(&fake.url)).as_str(), LIMITS]);
            let desk = fake.desk();
            servers.push(Server { name, desk, calm: place == 0, port: Some(Port { proxy, _fake: fake }) });
        }
        home.configure(&config);
        let daemon = home.serve().await;
        let stage = Stage { daemon, servers };
        stage.all_ready().await;
        stage
    }

    /// Ends all that goes wrong, and waits until every server is well.
    pub(crate) async fn calm(&self) {
        for server in &self.servers {
            server.heal().await;
        }
        for server in &self.servers {
            if self.daemon.server(server.name).await["state"] != "ready" {
                // A crash loop's wait, or that of what a person must mend, is longer than anybody's patience here.
                self.restart(server.name).await;
            }
        }
        self.all_ready().await;
    }

    /// What an operator does who mended something.
    pub(crate) async fn restart(&self, server: &'static str) {
        let mut command = self.daemon.home.command(["restart", server]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "restart {server}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn all_ready(&self) {
        let names: Vec<&str> = self.servers.iter().map(|server| server.name).collect();
        self.daemon.until_ready(&names).await;
    }

    /// Stops the daemon; what is wrong with how it went.
    pub(crate) async fn stop(self) -> Vec<String> {
        let mut complaints = Vec::new();
        let (status, home) = self.daemon.stop().await;
        if !status.success() {
            complaints.push(format!("the daemon ended with {status}"));
        }
        // The guards have their own time to see to what is left.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = census::marked(&home.marker);
        if !left.is_empty() {
            complaints.push(format!("still alive after the stop (R-30): {left:?}"));
        }
        let log = home.log();
        complaints.extend(log.lines().filter(|line| line.contains("panicked")).map(|line| format!("the log: {line}")));
        complaints
    }
}

impl Server {
    /// The process that runs as this server now, if it is one on pipes.
    pub(crate) fn pid(&self, marker: &str) -> Option<u32> {
        let pid = self.desk.lines("starts").last()?.parse().ok()?;
        census::marked(marker).contains_key(&pid).then_some(pid)
    }

    pub(crate) async fn heal(&self) {
        self.desk.heal();
        if let Some(port) = &self.port {
            port.proxy.set(&Weather::default());
            port.proxy.door(Door::Open).await;
        }
    }
}
