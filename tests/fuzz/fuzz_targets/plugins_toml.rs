//! The operator's grants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetling::fuzz::plugins_toml(bytes));
