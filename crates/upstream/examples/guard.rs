//! The guard as a program of its own, for the tests of this crate: they need a binary that has the mode.

use std::process::ExitCode;

fn main() -> ExitCode {
    trunkline_upstream::guard::main(std::env::args_os().skip(2).collect())
}
