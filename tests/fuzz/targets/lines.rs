//! Looks for bytes that break the property in `crates/upstream/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trunkline_upstream::fuzzing::lines(input));
