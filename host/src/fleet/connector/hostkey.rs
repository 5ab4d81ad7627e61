//! Host keys: the cloud's word is checked, otherwise the first key seen of an instance is pinned.

use russh::keys::PublicKey;
use tracing::warn;

use crate::fleet::group::InstanceId;
use crate::store::Store;

const KIND: &str = "hostkeys";

pub(super) struct HostKeys {
    store: Store,
}

impl HostKeys {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Whether this key may be the instance's; the error says why not and what next.
    pub(super) fn check(
        &self,
        instance: &InstanceId,
        presented: &PublicKey,
        given: &[String],
    ) -> Result<(), String> {
        if !given.is_empty() {
            return match given.iter().any(|line| is_same(line, presented)) {
                true => Ok(()),
                false => Err(format!(
                    "instance {instance} showed a host key that the provider does not list for it; somebody may be \
                     between, or the image changed its keys after they were reported"
                )),
            };
        }
        let pinned = self
            .store
            .read_plain(KIND, &instance.0)
            .ok()
            .flatten()
            .and_then(|line| String::from_utf8(line).ok());
        match pinned {
            Some(line) if is_same(&line, presented) => Ok(()),
            Some(_) => Err(format!(
                "the host key of instance {instance} changed since it was first dialled; somebody may be between; \
                 the instance is not used"
            )),
            None => {
                let line = presented.to_openssh().map_err(|e| e.to_string())?;
                if let Err(problem) = self.store.write_plain(KIND, &instance.0, line.as_bytes()) {
                    warn!(%instance, %problem, "host key not kept");
                }
                Ok(())
            }
        }
    }

    pub(super) fn forget(&self, instance: &InstanceId) {
        if let Err(problem) = self.store.remove(KIND, &instance.0) {
            warn!(%instance, %problem, "host key not forgotten");
        }
    }
}

fn is_same(line: &str, presented: &PublicKey) -> bool {
    PublicKey::from_openssh(line.trim()).is_ok_and(|key| key.key_data() == presented.key_data())
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .expect("a key can be made")
            .public_key()
            .clone()
    }

    #[test]
    fn the_first_key_is_pinned_and_another_refused_until_it_is_forgotten() {
        let keys = HostKeys::new(Store::in_memory());
        let (instance, first, other) = (InstanceId("i-1".into()), key(), key());
        assert_eq!(keys.check(&instance, &first, &[]), Ok(()));
        assert_eq!(keys.check(&instance, &first, &[]), Ok(()));
        assert!(keys.check(&instance, &other, &[]).is_err());
        keys.forget(&instance);
        assert_eq!(keys.check(&instance, &other, &[]), Ok(()));
    }

    #[test]
    fn keys_the_provider_lists_are_the_only_ones() {
        let keys = HostKeys::new(Store::in_memory());
        let (instance, known, other) = (InstanceId("i-1".into()), key(), key());
        let given = [known.to_openssh().expect("a key has a text")];
        assert_eq!(keys.check(&instance, &known, &given), Ok(()));
        assert!(keys.check(&instance, &other, &given).is_err());
    }
}
