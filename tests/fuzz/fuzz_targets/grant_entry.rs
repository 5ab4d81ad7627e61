//! A grant as an operator writes it, and a URL as a guest asks for it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetling::fuzz::grant_entry(bytes));
