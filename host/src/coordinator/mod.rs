//! GitLab's job API: asking for jobs, keeping their logs, telling their ends.
//!
//! ```text
//! client  POST jobs/request ─→ commit (sealed record, PUT running) ─→ job
//!    ↑                                                                 │ output
//!    │ PATCH, PUT                                                      ▼
//! trace ◀── spool ◀── timestamps ◀── encode (UTF-8) ◀── mask ◀─────────┘
//! ```
//!
//! `api` holds what GitLab may answer, in types; `pending` what a restart must still tell GitLab.

pub mod api;
pub mod client;
pub mod commit;
mod encode;
#[cfg(test)]
mod fake;
pub mod health;
pub mod identity;
pub mod log;
pub mod mask;
pub mod outcome;
pub mod output;
pub mod payload;
pub mod pending;
mod presentation;
pub mod retry;
pub mod server_files;
mod spool;
mod timestamps;
pub mod trace;
mod update;
