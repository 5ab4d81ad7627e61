//! One job from GitLab's payload to its accepted end: record, commit, trace, run, release, final update.
//!
//! ```text
//! payload ─► sealed record ─► PUT running ─► job::run (acquire, stages) ─► slot released ─► trace drains ─► record removed
//!                 │                 └─ refused: forgotten
//!                 └─ a crash from here on is reported by the next start
//! ```
//!
//! Invariant: the slot is given back before GitLab has accepted the end, so a slow GitLab never holds a paid instance.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::runner::{Permits, Serving};
use crate::coordinator::commit::{Commitment, commit};
use crate::coordinator::mask::Masks;
use crate::coordinator::outcome::{FailureReason, Outcome};
use crate::coordinator::payload::Job;
use crate::coordinator::pending::{JobRecord, PendingJob};
use crate::coordinator::trace::{Log, Report, Trace, TraceOptions};
use crate::docker::executor::DockerExecutor;
use crate::docker::readiness::Readiness;
use crate::docker::stage::{Output, Plan};
use crate::job::{self, AcquireProblem, Ended, JobLog, Work};
use crate::scaler::{Acquisition, Health, Reservation};
