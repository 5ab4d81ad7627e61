//! What can be asked about plugins.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Print the plugins that were found, where, with which digest, and whether they would be loaded
    List,
    /// Make a folder with a provider plugin that works, for you to change
    ///
    /// It is written in Rust, has tests, and brings along what it needs of this project: the SDK and the contract. It
    /// builds wherever crates.io can be reached.
    New {
        /// What the plugin is called: small letters, digits and hyphens
        name: String,
    },
}
