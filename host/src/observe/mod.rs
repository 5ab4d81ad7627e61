//! What operators see: logs, metrics, status.
