//! Providers as WebAssembly components: found, pinned, granted, run in a sandbox.
