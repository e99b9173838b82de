//! The black-box suite: the real binary, real processes, real sockets, real time.
//!
//! It proves what only the whole can prove: wiring, processes, the wire as clients see it, and that software
//! which is not ours gets along with it. Rules of one crate are tested beside that crate. Each module is one
//! group of promises; tests are named for what must hold, and cite the G-, R- or F-item they stand for.
//!
//! `tests/install` brings the parts that are not ours; a test that needs them and does not find them fails
//! and says so. Nothing is asserted about time.

#![expect(clippy::disallowed_methods, reason = "stands outside: none of the crates' helpers, and no lint of theirs")]

mod harness;

mod audit;
mod boot;
mod bridge;
mod call;
mod canary;
mod cli;
mod conform;
mod dashboard;
mod deploy;
mod device;
mod discovery;
mod doctor;
mod door;
mod eras;
mod fakes;
mod faults;
mod lanes;
mod legacy;
mod matrix;
mod memory;
mod modern;
mod once;
mod orphans;
mod outlive;
mod pair;
mod pins;
mod profiles;
mod proxy;
mod questions;
mod recover;
mod relay;
mod reload;
mod restart;
// The daemon dies at a word only in such builds.
#[cfg(debug_assertions)]
mod rotation;
mod sdk;
mod secrets;
mod servers;
mod service;
mod shapes;
mod signals;
mod signin;
mod tasks;
