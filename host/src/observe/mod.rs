//! What operators see: logs, metrics, status, and why things are as they are.

pub mod ask;
pub mod journal;
pub mod line;
pub mod metrics;
pub mod status;
pub mod table;
pub mod telemetry;
pub mod why;
