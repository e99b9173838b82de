//! Looks for bytes that break the property in `properties/headers.rs`.
#![no_main]

#[path = "../properties/headers.rs"]
mod headers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| headers::check(input));
