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
pub trait Provider: Sized + 'static {
    /// What the plugin is. Pure.
    fn describe() -> Description;

    /// Understands the operator's `plugin_config` (JSON). No network: runs after every rebuild.
    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem>;

    /// Authenticates and checks the group; changes nothing.
    fn open(&self) -> Result<Group, Problem>;

    /// Every instance of the group. An unwell one must not fail the call.
    fn update(&self) -> Result<Snapshot, Problem>;

    /// Asks for more and does not wait. The same token twice adds nothing the second time.
    fn increase(&self, request: IncreaseRequest) -> IncreaseOutcome;

    /// Asks for the end of these, one answer for each in their order. `instances` has at most 50 entries and may be
    /// empty.
    fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal>;

    /// How to dial an instance now.
    fn connect_info(&self, of: InstanceRef) -> Result<Connection, Problem>;

    /// Whether the cloud thinks that the instance is well.
    fn heartbeat(&self, of: InstanceRef) -> Result<(), Problem>;

    /// The last call; see the contract for what `for_good` may take away.
    fn shutdown(&self, for_good: bool) -> Result<(), Problem>;
}
