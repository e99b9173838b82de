//! Looks for bytes that break the property in `crates/hub/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trunkline_hub::fuzzing::seals(input));
