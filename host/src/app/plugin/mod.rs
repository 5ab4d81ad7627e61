//! `fleetling plugin …`: one file a command, each of which answers with what is to be printed.

mod call;
mod check;
mod chosen;
mod inspect;
mod install;
mod json;
mod list;
mod live;
mod new;
mod push;
mod registry;
mod table;
mod trust;
mod verify;

use std::path::{Path, PathBuf};

use crate::cli::PluginCommand;
use crate::plugin::redact::clean;

/// Where a command looks.
pub struct Places<'a> {
    /// `--plugin-dir`, in order.
    pub plugin_dirs: &'a [PathBuf],
    /// `config.toml`, which `plugins.toml` stands beside; it need not exist.
    pub config: &'a Path,
    /// Somebody named that file, as opposed to it being found.
    pub is_config_given: bool,
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
        PluginCommand::List { address, format } => {
            list::list(&places, address, format).await.map(Answer::good)
        }
        PluginCommand::Inspect { subject, format } => {
            inspect::inspect(&places, &subject, format).await
        }
        PluginCommand::Check { subject, of, live } => {
            check::check(&places, &subject, &of, live).await
        }
        PluginCommand::Call(call) => call::call(&places, &call).await,
        PluginCommand::Trust { subject, of, yes } => {
            trust::trust(&places, &subject, &of, yes).await
        }
        PluginCommand::Install(command) => install::install(&places, command).await,
        PluginCommand::Push(command) => push::push(&places, command).await,
        PluginCommand::Verify(command) => verify::verify(command).await,
        PluginCommand::New { name } => new::new(&name, Path::new("")).map(Answer::good),
    }
}

/// A line as soon as it is known; who stopped reading has read enough.
fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
