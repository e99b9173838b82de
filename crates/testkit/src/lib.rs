//! Fakes for tests: servers and clients that speak the protocol and misbehave on demand. Never shipped.
//!
//! [`Script`] says what a fake server has and which [`Fault`]s it shows. [`serve`] runs it on a pair of
//! in-memory pipes, [`run`] on any reader and writer (a fake child process), and [`Scripted::react`] is its
//! mind alone, for tests that bring their own transport. [`Client`] is a legacy client of an HTTP service in
//! this process. [`http`] calls a router
//! without a socket. [`corpus`] has proptest strategies.
//!
//! Everything here is bytes and `http` requests, never a type of a crate that it helps to test: such a
//! dependency would lead back and give the tested crate two copies of its own types. Nothing here reads a
//! clock but tokio's, so all of it runs with time paused.

mod script;

mod modern;

mod duplex;
mod faults;
mod server;

mod client;
pub mod http;

pub mod corpus;

pub use client::{Answer, Client};
pub use duplex::{End, pipes};
pub use faults::Fault;
pub use script::{Act, Script, Scripted, prompt, resource, template, tool};
pub use server::{Handle, run, serve};
