//! Looks for bytes that break the property in `properties/sse.rs`.
#![no_main]

#[path = "../properties/sse.rs"]
mod sse;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sse::check(input));
