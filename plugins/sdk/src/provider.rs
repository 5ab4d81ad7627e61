//! The contract as a trait. What each call means is documented once, in `wit/provider.wit`; here what Rust adds.

use std::rc::Rc;

use crate::{
    Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, InstanceRef, Problem,
    Removal, Settings, Snapshot,
};

/// A cloud's instances, as one group.
///
/// Several values of one provider live side by side, each in a sandbox of its own, and each may vanish between two
/// calls: keep nothing that cannot be asked again.
///
/// The clocks of each call, and 2 s of processor time, are the host's. A call cut off there has an unknown outcome; the
/// host asks again, with a fresh value.
pub trait Provider: Sized + 'static {
    /// What the plugin is. Pure: the same answer always, and before `init`. [`crate::config::schema`] makes the schema.
    fn describe() -> Description;

    /// Understands the operator's `plugin_config` (JSON); [`crate::config::parse`] names the key that is wrong. No
    /// network, at most 60 s: it runs after every rebuild.
    ///
    /// # Errors
    /// `invalid-config`, where the configuration alone shows that it cannot work.
    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem>;

    /// Authenticates and checks the group; changes nothing. Once per load.
    ///
    /// # Errors
    /// Until it succeeds the entry gets no jobs. `unauthenticated`, `forbidden` and `not-found` wait for the operator,
    /// the others pass.
    fn open(&self) -> Result<Group, Problem>;

    /// Every instance of the group, whatever its state and whoever started it; one that is not listed is gone. At most
    /// 60 s.
    ///
    /// # Errors
    /// If there is no whole picture: the host keeps its last one and starts nothing new. One unwell instance is no such
    /// reason; it is listed as far as it is known.
    fn update(&self) -> Result<Snapshot, Problem>;

    /// Asks for more and does not wait for them. Reads the group's size in the same call. The same token twice adds
    /// nothing the second time and repeats its answer. At most 120 s.
    ///
    /// Failure is `accepted: 0` with problems ([`IncreaseOutcome::refused`]); some accepted, and problems for the rest,
    /// is a normal answer.
    fn increase(&self, request: IncreaseRequest) -> IncreaseOutcome;

    /// Asks for the end of these and does not wait: one answer for each in their order. `instances` has at most 50
    /// entries and may be empty; one that is gone or never existed is [`Removal::Gone`]. Twice is once. At most 120 s.
    fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal>;

    /// How to dial an instance now; may authorise the host's key on the way, and be called at once for several. At most
    /// 60 s.
    ///
    /// # Errors
    /// `not-ready` before it runs, `not-found` once it is gone.
    fn connect_info(&self, of: InstanceRef) -> Result<Connection, Problem>;

    /// Whether the cloud thinks that the instance is well: one cheap request at most, within 10 s. A provider that
    /// cannot tell answers `Ok`.
    fn heartbeat(&self, of: InstanceRef) -> Result<(), Problem> {
        let _ = of;
        Ok(())
    }

    /// The last call. `for_good`: take away what the plugin itself put into the cloud, such as uploaded keys; else
    /// instances and their keys must survive.
    fn shutdown(&self, for_good: bool) -> Result<(), Problem> {
        let _ = for_good;
        Ok(())
    }
}
