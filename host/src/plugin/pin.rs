//! Which digest of a plugin is trusted: the first one that ran with grants, until the operator says otherwise.

use super::grants::{Grants, Reload};
use super::report::{Cause, Digest};
use crate::store::Store;
use crate::store::audit::{Audit, Event};

/// Digests first trusted, by the operator's plugin name.
#[derive(Clone)]
pub struct Pins {
    store: Store,
    audit: Audit,
}

const KIND: &str = "plugin-pin";

impl Pins {
    pub fn new(store: Store, audit: Audit) -> Self {
        Self { store, audit }
    }

    /// Refuses a digest that is not the trusted one. Pins nothing: see [`Pins::trust`].
    ///
    /// `is_shipped` says that the digest stands in `shipped.toml` under this name, which trusts it by itself.
    pub fn check(
        &self,
        plugin: &str,
        digest: Digest,
        grants: &Grants,
        is_shipped: bool,
    ) -> Result<(), Cause> {
        if let Some(wanted) = &grants.sha256 {
            return if *wanted == digest.hex() {
                Ok(())
            } else {
                Err(Cause::NotPinned {
                    wanted: wanted.clone(),
                })
            };
        }
        if is_shipped {
            return Ok(());
        }
        if grants.require_pins == Some(true) {
            return Err(Cause::PinMissing);
        }
        if !grants.give_anything() || grants.reload == Some(Reload::Any) {
            return Ok(());
        }
        match self.trusted(plugin)? {
            Some(trusted) if trusted != digest.hex() => Err(Cause::NotTrusted { trusted }),
            _ => Ok(()),
        }
    }

    /// Called when a plugin was loaded: the first digest that ran with grants is the one to compare with.
    pub fn trust(&self, plugin: &str, digest: Digest, grants: &Grants) -> Result<(), Cause> {
        if !grants.give_anything() || self.trusted(plugin)?.is_some_and(|t| t == digest.hex()) {
            return Ok(());
        }
        self.store
            .write_plain(KIND, plugin, digest.hex().as_bytes())
            .map_err(|problem| Cause::Store(problem.to_string()))?;
        self.audit.record(Event::PluginTrusted {
            plugin: plugin.to_owned(),
            digest: digest.hex(),
        });
        Ok(())
    }

    fn trusted(&self, plugin: &str) -> Result<Option<String>, Cause> {
        let record = self
            .store
            .read_plain(KIND, plugin)
            .map_err(|problem| Cause::Store(problem.to_string()))?;
        Ok(record.map(|record| String::from_utf8_lossy(&record).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_digest_under_a_trusted_name_is_refused_unless_it_may_change() {
        let pins = Pins::new(Store::in_memory(), Audit::default());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let granted = Grants {
            env: vec!["REGION".into()],
            ..Grants::default()
        };
        assert_eq!(pins.check("p", old, &granted, false), Ok(()));
        assert_eq!(pins.trust("p", old, &granted), Ok(()));
        assert_eq!(pins.check("p", old, &granted, false), Ok(()));
        let refused = Cause::NotTrusted { trusted: old.hex() };
        assert_eq!(pins.check("p", new, &granted, false), Err(refused));
        assert_eq!(pins.check("other", new, &granted, false), Ok(()));
        assert_eq!(pins.check("p", new, &granted, true), Ok(()));
        assert_eq!(pins.check("p", new, &Grants::default(), false), Ok(()));
        let any = Grants {
            reload: Some(Reload::Any),
            ..granted.clone()
        };
        assert_eq!(pins.check("p", new, &any, false), Ok(()));
        let named = Grants {
            sha256: Some(new.hex()),
            ..granted
        };
        assert_eq!(pins.check("p", new, &named, false), Ok(()));
        let refused = Cause::NotPinned { wanted: new.hex() };
        assert_eq!(pins.check("p", old, &named, true), Err(refused));
    }

    #[test]
    fn where_pins_are_required_only_a_digest_that_somebody_named_is_loaded() {
        let pins = Pins::new(Store::in_memory(), Audit::default());
        let digest = Digest::of(b"it");
        let required = Grants {
            require_pins: Some(true),
            reload: Some(Reload::Any),
            ..Grants::default()
        };
        let check = |grants: &Grants, is_shipped| pins.check("p", digest, grants, is_shipped);
        assert_eq!(check(&required, false), Err(Cause::PinMissing));
        assert_eq!(check(&required, true), Ok(()));
        let named = Grants {
            sha256: Some(digest.hex()),
            ..required
        };
        assert_eq!(check(&named, false), Ok(()));
    }
}
