//! A fleet whose servers are reached over byte streams instead of processes: for the tests of the crates above, which thus
//! run with a paused clock and with everything of this crate but the launching of a child. Feature `testing`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use trunkline_config::Server;
use trunkline_wire::{Revision, ServerName};

use crate::environment::Environment;
use crate::error::{DialError, DialErrorKind};
use crate::fleet::Fleet;
use crate::handshake;
use crate::supervisor::Dialer;
use crate::transport::{Dialed, stdio};

/// What a server writes and what it reads.
pub type Streams = (Pin<Box<dyn AsyncRead + Send>>, Pin<Box<dyn AsyncWrite + Send>>);

/// Opens the streams of a new connection to the server of this name.
pub type Open = Arc<dyn Fn(&ServerName) -> Streams + Send + Sync>;

struct Over(Open);

/// Starts a fleet over streams.
pub fn start(servers: &[(ServerName, Server)], environment: &Environment, open: Open) -> Arc<Fleet> {
    let dialer: Arc<dyn Dialer> = Arc::new(Over(open));
    Fleet::start_with(servers, environment, &dialer)
}

impl Dialer for Over {
    fn dial<'a>(
        &'a self,
        name: &'a ServerName,
        server: &'a Server,
        _first_start: bool,
        environment: &'a Environment,
    ) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            let (reader, writer) = (self.0)(name);
            let (transport, mut shared) = stdio::over(name, reader, writer, environment);
            let failed = |text: String| DialError::new(DialErrorKind::Handshake, text);
            let initialize = handshake::initialize(1, Revision::NEWEST_LEGACY, &server.declared);
            let sent = transport.send(initialize).await.map_err(|error| failed(error.text))?;
            let finished = handshake::finish(&*transport, &mut shared, sent, 1).await;
            let handshake = finished.map_err(|missed| failed(format!("{missed:?}")))?;
            Ok(Dialed { transport, shared, handshake, next_id: 2 })
        })
    }
}
