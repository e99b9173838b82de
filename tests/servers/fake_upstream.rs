//! A scriptable MCP server (legacy revisions) that behaves well or exactly as badly as asked.
//!
//! One server, three transports: `stdio`, `http` (streamable HTTP) and `sse` (HTTP+SSE). The tests point the
//! daemon at it, and so does the bench: the plain path (request in, answer out) costs one parse of the envelope
//! and one write. It stands alone, on tokio, hyper and `serde_json`'s raw text, and shares nothing with the
//! crates under test, so that a mistake of theirs is not also its own.
//!
//! * `fake/options.rs`: what the command line chooses, and the faults, each named for what goes wrong.
//! * `fake/desk.rs`: what a test can read afterwards (files in the `--desk` directory) and change meanwhile.
//! * `fake/protocol.rs`: the MCP server itself. `fake/tools.rs`: its tools, prompts and resources.
//! * `fake/stdio.rs`, `fake/http.rs`: the transports. `fake/family.rs`: descendants that will not die.

#![expect(clippy::disallowed_methods, reason = "stands alone: none of the crates' helpers, and no lint of theirs")]

#[path = "fake/desk.rs"]
mod desk;
#[path = "fake/family.rs"]
mod family;
#[path = "fake/http.rs"]
mod http;
#[path = "fake/options.rs"]
mod options;
#[path = "fake/protocol.rs"]
mod protocol;
#[path = "fake/stdio.rs"]
mod stdio;
#[path = "fake/tools.rs"]
mod tools;

use std::process::ExitCode;
use std::sync::Arc;

use options::{Mode, Options};

fn main() -> ExitCode {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("fake-upstream: {problem}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        match options.mode {
            Mode::Grandchild => family::linger(&options).await,
            Mode::Stdio => stdio::serve(Arc::new(protocol::Server::new(options))).await,
            Mode::Http | Mode::Sse => http::serve(Arc::new(protocol::Server::new(options))).await,
        }
    })
}
