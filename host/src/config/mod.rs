//! The configuration: as the operator wrote it, and as the manager uses it.

pub mod changes;
pub mod check;
pub mod device;
pub mod flags;
pub mod gpus;
pub mod lint;
pub mod locate;
pub mod period;
pub mod places;
pub mod problem;
pub mod pull_policy;
mod raw;
pub mod scalars;
pub mod server_tls;
pub mod server_url;
pub mod service;
pub mod ulimit;
pub mod usable;
pub mod volume;

use std::path::Path;

pub use check::Loaded;
pub use problem::{Fatal, Problem, Severity};

/// Reads and checks a `config.toml`, and the files that it names. `env` answers the environment's variables,
/// which only `url` and `token` may name.
///
/// # Errors
/// [`Fatal`] if there is no file, if it cannot be read, or if nothing of it can be used. Problems of single entries are
/// in [`Loaded::problems`], and those entries are left out of [`usable::Config::runners`].
pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Loaded, Fatal> {
    let text = std::fs::read_to_string(path).map_err(|reason| match reason.kind() {
        std::io::ErrorKind::NotFound => Fatal::NotFound {
            looked_for: vec![path.to_owned()],
        },
        _ => Fatal::Unreadable {
            path: path.to_owned(),
            reason,
        },
    })?;
    check::check(path, &text, &env, &|file| std::fs::read_to_string(file))
}
