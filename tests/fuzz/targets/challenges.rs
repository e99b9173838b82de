//! Looks for bytes that break the property in `crates/signin/src/challenge.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trunkline_signin::fuzzing::challenges(input));
