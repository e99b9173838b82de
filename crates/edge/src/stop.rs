//! [`Steps`]: how the door is told that the daemon stops (reliability 8).
//!
//! Three tokens, each cancelled later than the one before, by whoever owns the process. What each means is done where
//! it concerns: accepts and connections in `serve`, streams in `reply`, refusals in `mcp` and `sse_pair`.

use tokio_util::sync::CancellationToken;

/// The steps of a stop, in their order.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// Nothing is accepted any more, and readiness is denied. What was accepted is still served, its last answer with
    /// `Connection: close`: a request that crosses with the stop is none that has to be refused.
    pub doors: CancellationToken,
    /// Connections that rest are closed, streams without an end of their own end, new requests are refused. Work in
    /// flight goes on.
    pub soft: CancellationToken,
    /// Work in flight gets its final answers, then the connections go.
    pub hard: CancellationToken,
}
