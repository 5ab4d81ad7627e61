//! Plugins in OCI registries, as other wasm tools keep them: pulled, pushed, their signatures checked.
//!
//! ```text
//! Remote ─► Client ─ tags ─ manifest ─► artifact ─ layer ─► bytes, of the digest that the manifest names
//!             │ login (Docker's own configuration), token, redirects
//!             └ signature: cosign's, by a public key, offline but for the registry itself
//! ```
//! Nothing here runs while the manager does: registries are asked by `plugin install`, `push` and `verify` only.
//! What a registry says is untrusted: answers have limits, digests are computed here, its words are printed without
//! control characters.

pub mod artifact;
pub mod bundle;
pub mod client;
pub mod install;
pub mod login;
pub mod problem;
pub mod pull;
pub mod push;
pub mod signature;
pub mod signed;

#[cfg(test)]
mod fake;

/// A text of somebody else, for a terminal: one line, nothing that moves a cursor.
pub fn printable(text: &str) -> String {
    let text = text.chars().take(400);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `sha256:…` as registries write it.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", super::report::Digest::of(bytes).hex())
}
