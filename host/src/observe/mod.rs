//! What operators see: logs, metrics, status.

pub mod line;
pub mod metrics;
pub mod status;
pub mod telemetry;
