//! What can be asked about plugins.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Print the plugins that were found, where, with which digest, and whether they would be loaded
    List,
}
