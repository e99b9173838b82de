//! [`Fleet`]: all configured servers.

use std::sync::Arc;

use tokio::sync::watch;
use trunkline_config::Server;
use trunkline_wire::ServerName;

use crate::environment::Environment;
use crate::handle::Upstream;

/// All configured servers, in the order of the configuration.
#[derive(Debug)]
pub struct Fleet {
    servers: Vec<Upstream>,
    offers_changed: watch::Sender<u64>,
}

impl Fleet {
    /// Starts a supervisor for each enabled server. Returns at once; nothing is connected yet.
    pub fn start(servers: &[(ServerName, Server)], _environment: Environment) -> Arc<Self> {
        let servers = servers.iter().map(|(name, server)| Upstream::new(name.clone(), server.clone())).collect();
        Arc::new(Self { servers, offers_changed: watch::Sender::new(0) })
    }

    /// All servers, disabled ones too, in the order of the configuration.
    pub fn all(&self) -> &[Upstream] {
        &self.servers
    }

    /// The server of this name.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.servers.iter().find(|upstream| upstream.name().as_str() == name)
    }

    /// Counts the changes of any server's offer.
    pub fn offers_changed(&self) -> watch::Receiver<u64> {
        self.offers_changed.subscribe()
    }

    /// Closes all connections, all at the same time, and returns when no child is left.
    #[expect(clippy::unused_async, reason = "the waiting comes with the supervisors")]
    pub async fn stop(&self) {}
}
