//! GitLab's job API: asking for jobs, keeping their logs, telling their ends.

pub mod outcome;
pub mod payload;
