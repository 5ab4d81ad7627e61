//! `fleetling plugin …`: one file a command, each of which answers with what is to be printed.

mod install;
mod list;
mod new;
mod push;
mod registry;
mod verify;

use std::path::{Path, PathBuf};

use crate::cli::PluginCommand;

/// Where a command looks.
pub struct Places<'a> {
    /// `--plugin-dir`, in order.
    pub plugin_dirs: &'a [PathBuf],
    /// `config.toml`, which `plugins.toml` stands beside; it need not exist.
    pub config: &'a Path,
}

/// What a command found.
pub struct Answer {
    pub text: String,
    /// False makes exit status 1: what was asked about is not as it should be.
    pub is_good: bool,
}

impl Answer {
    fn good(text: String) -> Self {
        let is_good = true;
        Self { text, is_good }
    }
}

/// # Errors
/// If the command could not do its work; what to do next is in the error.
pub async fn plugin(command: PluginCommand, places: Places<'_>) -> anyhow::Result<Answer> {
    match command {
        PluginCommand::List => list::list(&places).await.map(Answer::good),
        PluginCommand::Install(command) => install::install(&places, command).await,
        PluginCommand::Push(command) => push::push(&places, command).await,
        PluginCommand::Verify(command) => verify::verify(command).await,
        PluginCommand::New { name } => new::new(&name, Path::new("")).map(Answer::good),
    }
}
