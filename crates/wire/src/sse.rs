//! Server-sent events: a bounded decoder and an encoder (mcp-protocol 3.10, 4.10).
