//! The configuration of the manager.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetling::fuzz::config_toml(bytes));
