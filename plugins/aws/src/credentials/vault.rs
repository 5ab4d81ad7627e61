//! Keys that were redeemed, held until shortly before they expire.
//!
//! ```text
//!            redeemed                5 min before the end: redeemed anew, or, where that fails, used while they last
//!  empty ──────────────▶ held ◀───┐ │
//!    ▲                   │  └─────┴─┘
//!    └───────────────────┘ another source was chosen, or AWS refused them
//! ```
//!
//! Invariant: what is held was redeemed from the source it is held with. A rebuilt plugin starts empty and asks again.

use std::cell::RefCell;
use std::time::Duration;

use fleetling_plugin_sdk::{Host, Level, Problem};

use super::metadata;
use super::{Identity, Redeemer, Source, redeem};

/// How long before their end keys are renewed: longer than any call of the contract may take.
const EARLY: Duration = Duration::from_secs(300);
/// How long before it they are not used any more.
const LATE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Vault {
    held: RefCell<Option<(Source, Identity)>>,
    region: RefCell<Option<String>>,
}

impl Vault {
    pub(crate) fn identity(
        &self,
        with: &Redeemer<'_>,
        source: &Source,
    ) -> Result<Identity, Problem> {
        if let Source::Keys(identity) = source {
            return Ok(identity.clone());
        }
        let held = self.held(source);
        let holds = |identity: &Identity, margin: Duration| {
            let expiry = identity.credentials.expiry();
            expiry.is_none_or(|expiry| with.host.now() + margin < expiry)
        };
        if let Some(identity) = held.as_ref().filter(|held| holds(held, EARLY)) {
            return Ok(identity.clone());
        }
        match (redeem(with, source), held) {
            (Ok(identity), _) => {
                let new = (source.clone(), identity.clone());
                self.held.replace(Some(new));
                Ok(identity)
            }
            (Err(problem), Some(identity)) if holds(&identity, LATE) => {
                with.host.log(
                    Level::Warn,
                    "AWS credentials could not be renewed yet; those held are used while they last",
                    &[("problem", problem.message)],
                );
                Ok(identity)
            }
            (Err(problem), _) => Err(problem),
        }
    }

    fn held(&self, source: &Source) -> Option<Identity> {
        let held = self.held.borrow();
        let (from, identity) = held.as_ref()?;
        (from == source).then(|| identity.clone())
    }

    /// Whether this source gave keys before, however old they are.
    pub(crate) fn has_held(&self, source: &Source) -> bool {
        self.held(source).is_some()
    }

    /// AWS does not take them any more.
    pub(crate) fn forget(&self) {
        self.held.replace(None);
    }

    /// Where the manager's machine is; a machine does not move.
    pub(crate) fn machine_region(
        &self,
        host: &dyn Host,
        service: &metadata::Service,
    ) -> Result<String, Problem> {
        if let Some(region) = self.region.borrow().clone() {
            return Ok(region);
        }
        let region = service.region(host)?;
        self.region.replace(Some(region.clone()));
        Ok(region)
    }
}
