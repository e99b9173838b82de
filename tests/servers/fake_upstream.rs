//! A scriptable MCP server of any revision that behaves well or exactly as badly as asked.
//!
//! One server, three transports: `stdio`, `http` (streamable HTTP) and `sse` (HTTP+SSE). `--revision` says how new it
//! is: up to 2025-11-25 it wants `initialize`, at 2026-07-28 it takes requests as they come. The tests point the
//! daemon at it, and so does the bench: the plain path (request in, answer out) costs one parse of the envelope
//! and one write. It stands alone, on tokio, hyper and `serde_json`'s raw text, and shares nothing with the
//! crates under test, so that a mistake of theirs is not also its own.
//!
//! * `fake/options.rs`: what the command line chooses, and the faults, each named for what goes wrong.
//! * `fake/desk.rs`: what a test can read afterwards (files in the `--desk` directory) and change meanwhile.
//! * `fake/message.rs`, `fake/session.rs`: messages as text, connections and calls.
//! * `fake/protocol.rs`: the MCP server itself, legacy revisions. `fake/modern.rs`: 2026-07-28, with `fake/listen.rs`
//!   (subscriptions) and `fake/headers.rs`. `fake/probe.rs`: how it meets a probe for the other era.
//! * `fake/tools.rs`, `fake/offers.rs`: tools; prompts, resources, completion.
//! * `fake/questions.rs`: what is asked of the client; `fake/ask.rs` and `fake/rounds.rs` ask it, era by era.
//! * `fake/tasks.rs`: background work; `fake/core_tasks.rs` and `fake/ext_tasks.rs` show it, era by era.
//! * `fake/stdio.rs`, `fake/http.rs`, `fake/modern_http.rs`: the transports. `fake/family.rs`: descendants that will
//!   not die.

#![expect(clippy::disallowed_methods, reason = "stands alone: none of the crates' helpers, and no lint of theirs")]

#[path = "fake/ask.rs"]
mod ask;
#[path = "fake/core_tasks.rs"]
mod core_tasks;
#[path = "fake/desk.rs"]
mod desk;
#[path = "fake/ext_tasks.rs"]
mod ext_tasks;
#[path = "fake/family.rs"]
mod family;
#[path = "fake/headers.rs"]
mod headers;
#[path = "fake/http.rs"]
mod http;
#[path = "fake/listen.rs"]
mod listen;
#[path = "fake/message.rs"]
mod message;
#[path = "fake/modern.rs"]
mod modern;
#[path = "fake/modern_http.rs"]
mod modern_http;
#[path = "fake/offers.rs"]
mod offers;
#[path = "fake/options.rs"]
mod options;
#[path = "fake/probe.rs"]
mod probe;
#[path = "fake/protocol.rs"]
mod protocol;
#[path = "fake/questions.rs"]
mod questions;
#[path = "fake/rounds.rs"]
mod rounds;
#[path = "fake/session.rs"]
mod session;
#[path = "fake/stdio.rs"]
mod stdio;
#[path = "fake/tasks.rs"]
mod tasks;
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
