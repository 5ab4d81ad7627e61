//! Conformance: what every provider must do, tried one by one on a plugin in the sandbox it will run in.
//!
//! ```text
//! Trial ─ perform(Item) ─► Check { name, verdict }, told as soon as it is known
//!   │       words: describe, init       listing: open, update      resize: increase, decrease
//!   │       reach: connect-info, …      faults: every call, every request of it     killed: increase, cut off anywhere
//!   │       scripted: what of all this needs no cloud
//!   ├─ Subject: instances of the plugin, fresh ones at any time
//!   └─ Wire: the plugin's way out, which faults and deaths come by
//! ```
//! Invariants: every item has exactly one verdict, and one that was not tried says why, or what the provider lacks; instances are made only in a
//! group that was found empty, and `sweep` removes them however the trial ended.

mod faults;
mod killed;
mod listing;
mod reach;
mod resize;
pub mod scripted;
mod seat;
mod trial;
pub mod wire;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use seat::{Sandboxed, Subject};
pub use trial::{Ground, Trial};

use wire::Fault;

/// One thing that a provider must do, and whether this one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// What, where, and what its author does next.
    Failed(String),
    /// Why it was not tried, though it could be.
    NotChecked(String),
    /// What this provider does not have or do, so that there is nothing to try.
    Inapplicable(String),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match &self.verdict {
            Verdict::Passed => write!(f, "passed       {name}"),
            Verdict::Failed(why) => write!(f, "failed       {name}: {why}"),
            Verdict::NotChecked(why) => write!(f, "not checked  {name}: {why}"),
            Verdict::Inapplicable(why) => write!(f, "inapplicable {name}: {why}"),
        }
    }
}

/// How long the cloud may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a change shows in `update`, and until an instance runs.
    pub cloud: Duration,
    /// Between two looks.
    pub pause: Duration,
    /// A heartbeat's.
    pub heartbeat: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            cloud: Duration::from_secs(120),
            pause: Duration::from_millis(250),
            heartbeat: Duration::from_secs(2),
        }
    }
}

/// Why an item ended without passing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    Failed(String),
    NotChecked(String),
    Inapplicable(String),
}

impl Stop {
    /// In words alone.
    fn why(self) -> String {
        match self {
            Self::Failed(why) | Self::NotChecked(why) | Self::Inapplicable(why) => why,
        }
    }
}

type Outcome = Result<(), Stop>;

fn failed(why: impl Into<String>) -> Stop {
    Stop::Failed(why.into())
}

fn not_checked(why: impl Into<String>) -> Stop {
    Stop::NotChecked(why.into())
}

fn inapplicable(why: impl Into<String>) -> Stop {
    Stop::Inapplicable(why.into())
}

/// Everything that is checked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    DescribeIsPure,
    DescriptionIsUsable,
    InitRefuses,
    InitIsQuiet,
    OpenAnswers,
    SnapshotIsStable,
    IncreaseAdds,
    ConnectBeforeRunning,
    IncreaseRepeated,
    ConnectRunning,
    ConnectUnknown,
    HeartbeatIsQuick,
    Survives(Fault),
    DecreaseNothing,
    DecreaseTwice,
    IncreaseKilled,
    IncreasePartial,
    ShutdownKeeps,
    MemosAreShort,
    GrantsSuffice,
}

impl Item {
    fn all() -> Vec<Self> {
        let before = [
            Self::DescribeIsPure,
            Self::DescriptionIsUsable,
            Self::InitRefuses,
            Self::InitIsQuiet,
            Self::OpenAnswers,
            Self::SnapshotIsStable,
            Self::IncreaseAdds,
            Self::ConnectBeforeRunning,
            Self::IncreaseRepeated,
            Self::ConnectRunning,
            Self::ConnectUnknown,
            Self::HeartbeatIsQuick,
        ];
        let after = [
            Self::DecreaseNothing,
            Self::DecreaseTwice,
            Self::IncreaseKilled,
            Self::IncreasePartial,
            Self::ShutdownKeeps,
            Self::MemosAreShort,
            Self::GrantsSuffice,
        ];
        let faults = Fault::ALL.map(Self::Survives);
        before.into_iter().chain(faults).chain(after).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::DescribeIsPure => "describe is pure and stable",
            Self::DescriptionIsUsable => "describe says a name, a version, a schema and origins",
            Self::InitRefuses => "init refuses a configuration without its required keys",
            Self::InitIsQuiet => "init needs no network",
            Self::OpenAnswers => "open names the group, and changes nothing",
            Self::SnapshotIsStable => "update lists every instance once, and the same again",
            Self::IncreaseAdds => "increase adds what it accepts, and update lists it",
            Self::ConnectBeforeRunning => "connect-info before running is not-ready",
            Self::IncreaseRepeated => "increase with a repeated token adds nothing",
            Self::ConnectRunning => "connect-info of a running instance says where it is",
            Self::ConnectUnknown => "connect-info of an unknown instance is not-found",
            Self::HeartbeatIsQuick => "heartbeat is quick, with one request at most",
            Self::Survives(fault) => fault.check(),
            Self::DecreaseNothing => "decrease of nothing and of an unknown instance is harmless",
            Self::DecreaseTwice => "decrease of the same instance twice removes one",
            Self::IncreaseKilled => "increase killed between any two of its requests leaks nothing",
            Self::IncreasePartial => "increase beyond the maximum is accepted in part",
            Self::ShutdownKeeps => "shutdown that is not for good keeps instances",
            Self::MemosAreShort => "memos are at most 4 KiB",
            Self::GrantsSuffice => "no request and no secret is outside of its grants",
        }
    }
}

#[cfg(test)]
/// The names of all items, in their order.
fn names() -> Vec<&'static str> {
    Item::all().into_iter().map(Item::name).collect()
}
