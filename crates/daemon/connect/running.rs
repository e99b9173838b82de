//! Where the daemon that runs is, if not where the configuration has it: `serve --listen` has the last word, and an entry that
//! leads elsewhere leads nowhere.

use std::net::SocketAddr;
use std::path::Path;

use trunkline_config::Listen;

use super::entry;
use crate::ask;
use crate::exit::Failure;

/// The address that the daemon of this state directory says that it is at, if the configuration has another.
pub(super) fn elsewhere(listen: &Listen, state_dir: &Path) -> Result<Option<SocketAddr>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let running = runtime.block_on(ask::address(state_dir));
    // One that has another port with each start is told to be given a number first.
    Ok(running.filter(|at| listen.port != 0 && (at.ip(), at.port()) != (entry::host(listen), listen.port)))
}

/// What to know of that.
pub(super) fn note(at: SocketAddr, listen: &Listen) -> String {
    format!(
        "The entry leads to the daemon that runs, at {at}; the configuration has {}.\nSet `port = {}` in \
         `[listen]`, unless `serve --listen` says so at each start.",
        SocketAddr::new(entry::host(listen), listen.port),
        at.port()
    )
}
