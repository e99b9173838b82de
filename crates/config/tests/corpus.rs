//! Replays the corpus of the fuzz target `config` on the stable toolchain.

#[path = "../../../tests/fuzz/properties/config.rs"]
mod config;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[test]
fn configurations_are_taken_or_refused_and_no_secret_shows() {
    replay::replay("config", config::check);
}
