//! What can be asked about plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::AnswerFormat;

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Print the plugins that were found: version, digest, where, and whether they would be loaded
    ///
    /// What a running manager uses is shown as it says itself: which runner has it, and why it is waited for or not
    /// replaced. A configuration without listen_address has no manager to ask.
    List {
        /// Where the manager listens, as host:port; wins over the configuration's listen_address
        #[arg(long, env = "LISTEN_ADDRESS", value_name = "ADDRESS")]
        address: Option<String>,
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
    /// Make a folder with a provider plugin that works, for you to change
    ///
    /// It is written in Rust, has tests, and brings along what it needs of this project: the SDK and the contract. It
    /// builds wherever crates.io can be reached.
    New {
        /// What the plugin is called: small letters, digits and hyphens
        name: String,
    },
    /// Get a plugin from a registry and put it where `plugin = "…"` finds it
    ///
    /// Logins are those of `docker login` and `podman login`. The file is checked to be a plugin of this manager before
    /// it is put in place. It is granted nothing by that: grants stand in plugins.toml.
    Install(Install),
    /// Put a plugin's file into a registry, as other WebAssembly tools read it
    ///
    /// Without a tag it is pushed under the version that it has.
    Push(Push),
    /// Check a plugin's signature with its publisher's public key; exit status 1 if it is not signed by it
    ///
    /// Signatures are those of `cosign sign-blob --key` and `openssl dgst -sha256 -sign` for files, and of
    /// `cosign sign --key` for registries. Nobody but the registry is asked.
    Verify(Verify),
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

#[derive(Args, Debug)]
pub struct Install {
    /// name, name:1.5, group/name:1.5.1 or registry.example.com/group/name@sha256:…
    pub reference: String,
    /// The plugin folder; without it, the first one that plugins are looked for in
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Get the newest version that fits, though one that fits is installed
    #[arg(long)]
    pub upgrade: bool,
    /// Install only what this public key signed
    #[arg(long, value_name = "PEM")]
    pub key: Option<PathBuf>,
    #[command(flatten)]
    pub transport: Transport,
}

#[derive(Args, Debug)]
pub struct Push {
    /// The plugin's .wasm
    pub file: PathBuf,
    /// registry.example.com/group/name, with or without a version
    pub reference: String,
    /// Who made it, for the artifact's config
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    #[command(flatten)]
    pub transport: Transport,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// A .wasm file, or a plugin in a registry
    #[arg(value_name = "FILE|REFERENCE")]
    pub target: String,
    /// The publisher's public key
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// The file's signature; without it, the file's name with .sig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    #[command(flatten)]
    pub transport: Transport,
}

#[derive(Args, Debug)]
pub struct Transport {
    /// Speak to the registry without TLS, as is done on loopback
    #[arg(long)]
    pub plain_http: bool,
}

/// A file as the command line has it: what looks like a path is one.
pub fn path(written: &str) -> Option<PathBuf> {
    let is_path = written.contains('/') || written.ends_with(".wasm");
    is_path.then(|| PathBuf::from(written))
}
