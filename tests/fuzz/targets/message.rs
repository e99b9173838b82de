//! Looks for bytes that break the property in `properties/message.rs`.
#![no_main]

#[path = "../properties/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|input: &[u8]| message::check(input));
