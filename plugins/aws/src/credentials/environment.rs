//! Keys that stand in the environment, or in the configuration itself.

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::{Host, Problem, ProblemKind};

use super::Identity;
use crate::config::PluginConfig;

pub(super) fn written_in_configuration(config: &PluginConfig) -> Option<Identity> {
    let (id, secret) = (
        config.access_key_id.as_ref()?,
        config.secret_access_key.as_ref()?,
    );
    Some(Identity {
        credentials: Credentials::new(
            id,
            secret,
            config.session_token.clone(),
            None,
            "plugin_config",
        ),
        whose: "plugin_config.access_key_id".into(),
        mend: "correct plugin_config.access_key_id and plugin_config.secret_access_key".into(),
    })
}

/// Half a pair is a mistake, not a reason to look elsewhere.
pub(super) fn keys(host: &dyn Host) -> Result<Option<Identity>, Problem> {
    let id = host.variable("AWS_ACCESS_KEY_ID");
    let secret = host.variable("AWS_SECRET_ACCESS_KEY");
    let missing = match (id, secret) {
        (None, None) => return Ok(None),
        (Some(id), Some(secret)) => {
            let token = host.variable("AWS_SESSION_TOKEN");
            return Ok(Some(Identity {
                credentials: Credentials::new(id, secret, token, None, "environment"),
                whose: "the environment (AWS_ACCESS_KEY_ID)".into(),
                mend: "correct the variables in the manager's environment and start it again"
                    .into(),
            }));
        }
        (Some(_), None) => "AWS_SECRET_ACCESS_KEY",
        (None, Some(_)) => "AWS_ACCESS_KEY_ID",
    };
    Err(Problem::new(
        ProblemKind::Unauthenticated,
        format!(
            "the environment has only one half of a pair of AWS keys; next: set {missing}, or unset the other half"
        ),
    )
    .about(missing))
}
