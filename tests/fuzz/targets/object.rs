//! Looks for bytes that break the property in `properties/object.rs`.
#![no_main]

#[path = "../properties/object.rs"]
mod object;

libfuzzer_sys::fuzz_target!(|input: &[u8]| object::check(input));
