//! Sizes and depths of `wire`, each with its reason (reliability 7, S-21).

/// Deepest nesting of a message. Real tool schemas stay below 20; a stack-eating body does not.
pub const DEPTH_MAX: usize = 64;

/// Members of a 2025-03-26 batch. More is abuse: no known client sends batches at all.
pub const BATCH_MAX: usize = 50;

/// Default size of one upstream message and of one SSE event: Base64 answers pass 16 MiB.
pub const UPSTREAM_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Default size of one request body from a client.
pub const REQUEST_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Default of the one budget that every buffered byte is charged to.
pub const BUFFER_BUDGET_BYTES: usize = 256 * 1024 * 1024;
