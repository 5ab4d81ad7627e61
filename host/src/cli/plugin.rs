//! What can be asked about plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::AnswerFormat;

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Print the plugins that were found: version, digest, where, and whether they would be loaded
    List {
        /// How the answer looks
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: AnswerFormat,
    },
    /// Show what a plugin is made of, what it asks for and what it is granted
    ///
    /// Nothing is granted to it meanwhile, so that a file nobody trusts yet can be looked at. Exit status 1 if a manager
    /// would not load it.
    Inspect {
        #[command(flatten)]
        subject: Subject,
        /// How the answer looks
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: AnswerFormat,
    },
    /// Try whether a plugin does what every provider must
    ///
    /// Without --config, what needs no cloud. With it, everything, with the plugin_config and the grants of a runner,
    /// whose group must be empty: instances are made, and removed at the end, also after Ctrl-C. Exit status 1 if a
    /// check failed.
    Check {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        of: OfRunner,
        /// Scale from 0 to 2 to 0 besides, and run a container on each instance over SSH; needs --config
        #[arg(long)]
        live: bool,
    },
    /// Call one function of a plugin and print its answer as JSON, passwords left out
    Call(Call),
    /// Let a plugin try to reach its cloud, ask about each thing it is refused, and write what you grant it
    ///
    /// It runs `open` and `update` with what plugins.toml grants already. The table that you saw is then written into
    /// plugins.toml, with the digest of the file: that is also how a new file of a trusted plugin is accepted.
    Trust {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        of: OfRunner,
        /// Is refused: a grant is something somebody has read
        #[arg(long, hide = true)]
        yes: bool,
    },
}

#[derive(Args, Clone, Debug)]
pub struct Subject {
    /// The plugin's .wasm, or its name as `plugin list` prints it
    #[arg(value_name = "FILE")]
    pub file: String,
}

#[derive(Args, Clone, Debug)]
pub struct OfRunner {
    /// The runner whose plugin_config and connector_config are used; default: the one that names this plugin
    #[arg(long, value_name = "NAME")]
    pub runner: Option<String>,
}

#[derive(Args, Debug)]
pub struct Call {
    #[command(flatten)]
    pub subject: Subject,
    /// The function of the contract
    pub function: Function,
    /// For increase a count; for decrease, connect-info and heartbeat the instances' IDs
    #[arg(value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
    #[command(flatten)]
    pub of: OfRunner,
    /// The token of an increase; the same one again adds nothing
    #[arg(long)]
    pub token: Option<String>,
    /// For shutdown: the entry was removed, so take away what the plugin itself put into the cloud
    #[arg(long)]
    pub for_good: bool,
    /// Print each exchange with the cloud to standard error, secrets left out
    #[arg(long)]
    pub trace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Function {
    Describe,
    Open,
    Update,
    Increase,
    Decrease,
    ConnectInfo,
    Heartbeat,
    Shutdown,
}

/// A file as the command line has it: what looks like a path is one.
pub fn path(written: &str) -> Option<PathBuf> {
    let is_path = written.contains('/') || written.ends_with(".wasm");
    is_path.then(|| PathBuf::from(written))
}
