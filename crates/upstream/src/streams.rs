//! A fleet whose servers are reached over byte streams instead of processes: for the tests of the crates above, which thus
//! run with a paused clock and with everything of this crate but the launching of a child,
//! the search for the era included. Feature `testing`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use trunkline_config::Server;
use trunkline_wire::ServerName;

use crate::dial::{Order, child};
use crate::environment::Environment;
use crate::error::DialError;
use crate::fleet::Fleet;
use crate::limits::LATER_START;
use crate::supervisor::Dialer;
use crate::transport::{Dialed, stdio};

/// What a server writes and what it reads.
pub type Streams = (Pin<Box<dyn AsyncRead + Send>>, Pin<Box<dyn AsyncWrite + Send>>);

/// Opens the streams of a new connection to the server of this name.
pub type Open = Arc<dyn Fn(&ServerName) -> Streams + Send + Sync>;

struct Over(Open);

/// Starts a fleet over streams.
pub fn start(servers: &[(ServerName, Server)], environment: &Environment, open: Open) -> Arc<Fleet> {
    Fleet::start_with(servers, environment.clone(), Arc::new(Over(open)))
}

impl Dialer for Over {
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move { child::open(order, &Once(self, order), LATER_START).await })
    }
}

/// One attempt to connect.
struct Once<'a>(&'a Over, Order<'a>);

impl child::Start for Once<'_> {
    fn start(&self) -> BoxFuture<'_, child::Started> {
        let Self(over, order) = self;
        let (reader, writer) = (over.0)(order.name);
        Box::pin(std::future::ready(Ok(stdio::over(order.name, reader, writer, order.environment))))
    }
}
