//! New words of the operator for a fleet that stands: everything that does not change what an instance is.

use std::time::Instant;

use jiff::tz::TimeZone;

use super::{Driver, Preparation};
use crate::config::usable::Autoscaler;
use crate::fleet::provisioner::{Order, Rhythm};
use crate::scaler::brake::Brake;
use crate::scaler::schedule::{BadSchedule, Schedule};
use crate::scaler::throttle::Throttle;

/// How often the group is read, and how patiently.
pub(super) fn rhythm(autoscaler: &Autoscaler) -> Rhythm {
    Rhythm {
        update_interval: autoscaler.update_interval,
        update_interval_when_expecting: autoscaler.update_interval_when_expecting,
        deletion_retry_interval: autoscaler.deletion_retry_interval,
        failure_threshold: autoscaler.failure_threshold.max(1),
        slots: autoscaler.capacity_per_instance,
    }
}

impl<P: Preparation> Driver<P> {
    /// Takes the new words, or keeps all old ones.
    pub(super) fn reconfigure(
        &mut self,
        autoscaler: Autoscaler,
        now: Instant,
    ) -> Result<(), BadSchedule> {
        self.schedule = Schedule::new(&autoscaler.policies, &TimeZone::system())?;
        if autoscaler.scale_throttle != self.autoscaler.scale_throttle {
            self.throttle = Throttle::new(autoscaler.scale_throttle, now);
        }
        if autoscaler.instance_acquire_timeout != self.autoscaler.instance_acquire_timeout {
            self.growing = Brake::new(autoscaler.instance_acquire_timeout);
        }
        self.ledger.set_max_use_count(autoscaler.max_use_count, now);
        self.order(Order::Rhythm(rhythm(&autoscaler)));
        self.autoscaler = autoscaler;
        Ok(())
    }
}
