//! The instance group: the provider contract in the manager's own types, without a trace of WebAssembly.
//!
//! Field meanings are documented once, in `wit/types.wit`; here only what the host adds.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

/// The cloud's own name of an instance, such as `i-0abc`.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    Unauthenticated,
    Forbidden,
    Throttled,
    Quota,
    OutOfCapacity,
    NotFound,
    NotReady,
    Conflict,
    InvalidConfig,
    Unavailable,
    Unsupported,
    Other,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::OutOfCapacity => "out-of-capacity",
            Self::NotFound => "not-found",
            Self::NotReady => "not-ready",
            Self::Conflict => "conflict",
            Self::InvalidConfig => "invalid-config",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        })
    }
}

/// What a provider could not do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    pub message: String,
    pub subject: Option<String>,
    pub code: Option<String>,
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        if let Some(subject) = &self.subject {
            write!(f, " ({subject})")?;
        }
        if let Some(code) = &self.code {
            write!(f, " [{code}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Why a call gave no answer of the provider's kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The provider answered: it could not.
    #[error("{0}")]
    Refused(Problem),
    /// The call trapped or ran out of one of its three clocks: whether the cloud acted is unknown.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// The call was never begun: the plugin is not loaded, is backing off, or its queue is closed.
    #[error("{0}")]
    NotCalled(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceState {
    Creating,
    Running,
    Suspending,
    Suspended,
    Resuming,
    Stopped,
    Deleting,
    Deleted,
    Failed,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptionKind {
    Reclaim,
    Rebalance,
    Maintenance,
    ScaleIn,
}

impl fmt::Display for InterruptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reclaim => "a spot instance is taken back",
            Self::Rebalance => "it is likely to be taken back",
            Self::Maintenance => "the machine beneath is replaced",
            Self::ScaleIn => "the group is made smaller by somebody else",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    pub kind: InterruptionKind,
    pub at: Option<SystemTime>,
}

/// One instance as the provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: InstanceId,
    pub state: InstanceState,
    pub created_at: Option<SystemTime>,
    pub pool: Option<String>,
    pub generation: Option<String>,
    pub interruption: Option<Interruption>,
    pub reason: Option<Problem>,
    pub request: Option<String>,
    pub memo: String,
    /// Reserved keys: type, arch, zone, price-class.
    pub extras: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceRef {
    pub id: InstanceId,
    pub memo: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub subject: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub instances: Vec<Listed>,
    pub target: Option<u32>,
    pub max_size: Option<u32>,
    pub owner: Option<String>,
    pub notices: Vec<Notice>,
    /// What the group makes new instances from now: the reserved key `generation` of the snapshot's extras.
    pub generation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncreaseRequest {
    /// Made anew for every decision, repeated when the same decision is tried again.
    pub token: String,
    pub count: u32,
    pub avoid_pools: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncreaseOutcome {
    pub accepted: u32,
    pub ids: Vec<InstanceId>,
    pub target: Option<u32>,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Accepted,
    Gone,
    Refused(Problem),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Ssh,
    Winrm,
    WinrmTls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    PublicKey,
    Password(Password),
    /// Encrypted to the manager's RSA key (Windows).
    Sealed(Vec<u8>),
    AsConfigured,
}

/// A password that never shows in a log or a `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Internal,
    External,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub reach: Reach,
    pub host: String,
    pub port: Option<u16>,
}

/// How an instance is reached, as the provider says; the operator's `connector_config` wins over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub os: Option<String>,
    pub arch: Option<String>,
    pub protocol: Option<Protocol>,
    pub username: Option<String>,
    pub login: Login,
    pub addresses: Vec<Address>,
    /// OpenSSH public key lines; empty means unknown, and the first key seen is pinned.
    pub host_keys: Vec<String>,
    pub valid_until: Option<SystemTime>,
}

/// What `open` learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Path-like, such as `aws/eu-west-1/my-asg`; the group's identity.
    pub id: String,
    pub max_size: Option<u32>,
    pub owner: Option<String>,
    pub notices: Vec<Notice>,
}

/// What the host tells a provider at `init`.
#[derive(Clone, Debug, Default)]
pub struct ProviderSettings {
    pub os: Option<String>,
    pub arch: Option<String>,
    pub protocol: Option<Protocol>,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub static_credentials: bool,
    /// OpenSSH form; absent with `use_static_credentials`.
    pub ssh_public_key: Option<String>,
    pub owner: String,
    pub max_instances: Option<u32>,
    pub capacity_per_instance: u32,
}

/// A provider, however it is run. Every call may be made while others are under way.
///
/// Dropping a call's future abandons the wait, not the cloud's work: treat it as [`CallFailure::OutcomeUnknown`].
#[async_trait]
pub trait InstanceGroup: Send + Sync + 'static {
    async fn open(&self) -> Result<Group, CallFailure>;
    async fn update(&self) -> Result<Snapshot, CallFailure>;
    async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure>;
    /// Answers in the order of `instances`; at most 50 of them.
    async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure>;
    async fn connect_info(&self, of: InstanceRef) -> Result<Connection, CallFailure>;
    async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure>;
    async fn shutdown(&self, for_good: bool) -> Result<(), CallFailure>;
    /// Counts changes to what the provider was granted (credential files, grants): each one ends an authentication
    /// back-off at once.
    fn granted(&self) -> watch::Receiver<u64>;
}
