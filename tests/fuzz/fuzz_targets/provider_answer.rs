//! What a provider may answer, converted into the manager's own types.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetling::fuzz::provider_answer(bytes));
