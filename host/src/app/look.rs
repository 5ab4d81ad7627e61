//! Commands that only look: which runners there are, whether GitLab knows them.

use std::fmt::Write as _;

use tracing::{error, info};

use crate::config::usable::Config;
use crate::coordinator::client::{Client, Settings, Verified};
use crate::coordinator::identity::{SystemId, short_token};
use secrecy::ExposeSecret as _;

/// One line a runner; of the token only what GitLab shows.
pub fn list(config: &Config) -> String {
    let mut out = String::new();
    for runner in &config.runners {
        let token = short_token(runner.token.expose_secret());
        let _ = writeln!(
            out,
            "{}\texecutor={}\ttoken={token}\turl={}",
            runner.name,
            runner.executor.name(),
            runner.url
        );
    }
    out
}

/// Asks GitLab about each runner, or the one called `name`. `false` if one is refused or could not be asked about.
///
/// # Errors
/// If no runner has that name, or one's address cannot be used.
pub async fn verify(config: &Config, name: Option<&str>) -> anyhow::Result<bool> {
    let wanted = |runner: &&crate::config::usable::Runner| name.is_none_or(|n| n == runner.name);
    let mut all_known = true;
    let mut asked = 0;
    for runner in config.runners.iter().filter(wanted) {
        asked += 1;
        let client = Client::new(Settings {
            url: runner.url.clone(),
            server_tls: runner.server_tls.clone(),
            token: runner.token.clone(),
            system_id: SystemId::of_machine(&config.path).id,
            executor: runner.executor.name(),
            shell: runner.shell.name().to_owned(),
            gpus: runner.docker.gpus().to_owned(),
        })?;
        match client.verify().await {
            Verified::Valid { id } => info!(runner = runner.name, id, "runner is known to GitLab"),
            Verified::Refused(why) | Verified::Unknown(why) => {
                error!(runner = runner.name, "runner is not verified: {why}");
                all_known = false;
            }
        }
    }
    match (asked, name) {
        (0, Some(name)) => anyhow::bail!(
            "no runner is called \"{name}\" in {}; next: `fleetling list` shows the names",
            config.path.display()
        ),
        _ => Ok(all_known),
    }
}
