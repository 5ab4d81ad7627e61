//! The lab: a GitLab, an AWS and instances on real sockets, with real parts wherever one exists.
//!
//! ```text
//! Lab ── gitlab     coordinator: the job API and git over HTTP, ours, strict
//!     ├─ cloud      moto with signature checking on, in a process of its own
//!     ├─ instances  a container with sshd and Docker Engine for each instance the cloud starts
//!     ├─ manager    `fleetling run` as a subprocess, with its files
//!     └─ journal    everything that happened, in order: what stories assert and the demo shows
//! ```
//!
//! Each lab has a network, a label and a folder of its own, and a reaper process that removes them however the lab ends.

pub mod aws_machine;
pub mod busy_registry;
pub mod cloud;
pub mod cloud_alone;
pub mod coordinator;
pub mod detour;
pub mod figures;
pub mod installation;
pub mod instances;
pub mod journal;
pub mod lab;
pub mod line;
pub mod manager;
pub mod registry;
mod run;
pub mod tunnel;

pub use aws_machine::AwsMachine;
pub use cloud_alone::CloudAlone;
pub use coordinator::job::Job;
pub use coordinator::{Certificates, Coordinator, JobId};
pub use detour::{Detour, Way};
pub use installation::Installation;
pub use journal::{Fact, Journal};
pub use lab::Lab;
pub use manager::{Configuration, Manager};
pub use run::{Left, left_by};
pub use tunnel::Tunnel;
