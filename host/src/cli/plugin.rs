//! What can be asked about plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
