//! What the author of a provider plugin builds on: the contract as a trait, and the world around a plugin as another.
//!
//! ```text
//! host ──calls──▶ export_provider!(Mine) ──▶ impl Provider for Mine ──asks──▶ dyn Host ──▶ Sandbox (in the host)
//!                                                   │                                 ├──▶ Script  (in a test: a list)
//!                              config, Api, json, xml, paging, retry                   └──▶ testing (real sockets, records)
//! ```
//!
//! A plugin is written against [`Host`] and never names the sandbox, so its logic runs natively in plain tests.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "contract",
        additional_derives: [PartialEq],
        additional_type_attributes: {
            "fleetling:provider/provider-types@0.1.0/increase-outcome": [#[derive(Default)]],
            "fleetling:provider/provider-types@0.1.0/snapshot": [#[derive(Default)]],
        },
        pub_export_macro: true,
        export_macro_name: "export_contract",
    });
}

mod answer;
mod api;
pub mod config;
mod export;
mod host;
pub mod http;
pub mod json;
pub mod paging;
mod problem;
mod provider;
pub mod retry;
#[cfg(target_family = "wasm")]
mod sandbox;
#[cfg(not(target_family = "wasm"))]
pub mod script;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
#[cfg(feature = "xml")]
pub mod xml;

pub use api::Api;
pub use bindings::fleetling::provider::kv::KvProblem;
pub use bindings::fleetling::provider::log::Level;
pub use bindings::fleetling::provider::provider_types::{
    Address, Cipher, Connection, Connector, Description, Group, IncreaseOutcome, IncreaseRequest,
    Instance, InstanceRef, InstanceState, Interruption, InterruptionKind, Login, Notice, Problem,
    ProblemKind, Protocol, Reach, Removal, RsaKey, SealedPassword, Settings, Snapshot,
};
pub use bindings::fleetling::provider::secrets::SecretProblem;
pub use host::Host;
pub use provider::Provider;
#[cfg(target_family = "wasm")]
pub use sandbox::Sandbox;

/// What [`export_provider!`] expands to; not for use by hand.
#[doc(hidden)]
pub mod exported {
    pub use crate::bindings::*;
    pub use crate::export::{Exported, Slot};
}
