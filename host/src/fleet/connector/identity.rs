//! The manager's own SSH identity: made once for each group and kept sealed, or the operator's `key_path`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use crate::config::usable;
use crate::store::{Store, StoreProblem};

const KIND: &str = "identity";

#[derive(Debug, thiserror::Error)]
pub enum IdentityProblem {
    #[error("cannot read the key file {path}: {why}; check `key_path` in connector_config")]
    KeyFile { path: PathBuf, why: String },
    #[error("the key kept for this group cannot be used: {0}; remove its record to make a new one")]
    Kept(String),
    #[error("cannot make a key: {0}")]
    Making(String),
    #[error(transparent)]
    Store(#[from] StoreProblem),
}

/// A private key; it is used inside the connector and never shown.
#[derive(Clone)]
pub struct Identity {
    key: Arc<PrivateKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// The identity these settings ask for: `key_path` wins; static credentials without it use no key.
    pub fn chosen(
        settings: &usable::Connector,
        store: &Store,
        group_key: &str,
    ) -> Result<Option<Self>, IdentityProblem> {
        if let Some(path) = &settings.key_path {
            return Self::load(path).map(Some);
        }
        if settings.use_static_credentials {
            return Ok(None);
        }
        Self::load_or_make(store, group_key).map(Some)
    }

    /// The group's own ed25519 key, made at the first call and sealed in the store.
    pub fn load_or_make(store: &Store, group_key: &str) -> Result<Self, IdentityProblem> {
        if let Some(kept) = store.read_sealed(KIND, group_key)? {
            let text = String::from_utf8(kept).map_err(|e| IdentityProblem::Kept(e.to_string()))?;
            return Self::parse(&text).map_err(IdentityProblem::Kept);
        }
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(|e| IdentityProblem::Making(e.to_string()))?;
        let text = key
            .to_openssh(LineEnding::LF)
            .map_err(|e| IdentityProblem::Making(e.to_string()))?;
        store.write_sealed(KIND, group_key, text.as_bytes())?;
        Ok(Self { key: Arc::new(key) })
    }

    fn load(path: &Path) -> Result<Self, IdentityProblem> {
        let problem = |why| IdentityProblem::KeyFile {
            path: path.into(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
        Self::parse(&text).map_err(problem)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let key = russh::keys::decode_secret_key(text, None).map_err(|e| e.to_string())?;
        Ok(Self { key: Arc::new(key) })
    }

    /// The public half as one line of OpenSSH's form, for the provider.
    pub fn public_openssh(&self) -> Result<String, IdentityProblem> {
        self.key
            .public_key()
            .to_openssh()
            .map_err(|e| IdentityProblem::Making(e.to_string()))
    }

    pub(super) fn private(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.key)
    }

    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.key.algorithm(), Algorithm::Rsa { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_for_a_group() {
        let store = Store::in_memory();
        let made = |group| {
            Identity::load_or_make(&store, group)
                .and_then(|identity| identity.public_openssh())
                .expect("a key can be made")
        };
        let first = made("aws/a");
        assert!(first.starts_with("ssh-ed25519 "));
        assert_eq!(first, made("aws/a"));
        assert_ne!(first, made("aws/b"));
    }
}
