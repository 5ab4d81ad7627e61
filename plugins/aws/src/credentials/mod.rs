//! Whose keys sign: the chain of the AWS SDKs, in two steps.
//!
//! ```text
//! plugin_config → environment → profile → web identity → container → instance metadata
//!   │ choose: from configuration alone, anew for every call, so that what was corrected counts at once
//!   ▼
//! Source ── redeem: STS, the container's or the machine's service is asked ──▶ Identity, held until shortly before
//!                                                                              it expires, in memory only
//! ```
//!
//! A profile that `plugin_config` names comes before the environment's keys: who names one means it.

mod container;
mod environment;
mod metadata;
mod profile;
mod role;
mod vault;

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::{Host, Problem, ProblemKind};
use serde::Deserialize;

use crate::config::PluginConfig;
use crate::endpoint::Endpoints;
use crate::files::{Files, Profile};
use crate::xml::millis;

pub(crate) use metadata::service as machine;
pub(crate) use role::session_name;
pub(crate) use vault::Vault;

/// Whoever gives keys to the manager's machine, task or pod; `metadata = true` grants them all.
pub(crate) const SERVICES: [&str; 5] = [
    "http://169.254.169.254",
    "http://[fd00:ec2::254]",
    "http://169.254.170.2",
    "http://169.254.170.23",
    "http://[fd00:ec2::23]",
];

/// One way to keys, as the configuration has it: nobody was asked yet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// They stand there.
    Keys(Identity),
    /// The container's credential service.
    Container(container::Service),
    /// The machine's.
    Metadata(metadata::Service),
    /// A role, taken with a token that somebody whom AWS trusts has signed.
    WebIdentity(role::Role),
    /// A role, taken by whoever has the keys of another source.
    Role(role::Role, Box<Source>),
}

/// Keys, and what the operator is told about them. Its secret never shows: it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) credentials: Credentials,
    /// As in "AWS refused the credentials of …".
    pub(crate) whose: String,
    /// What mends refused ones.
    pub(crate) mend: String,
}

/// All that the choice depends on.
pub(crate) struct World<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) config: &'a PluginConfig,
    pub(crate) files: &'a Files,
    pub(crate) profile: &'a Profile,
    /// Name of sessions that this manager opens.
    pub(crate) session: &'a str,
}

/// What redeeming needs beside the source.
pub(crate) struct Redeemer<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) region: &'a str,
    pub(crate) agent: &'a str,
}

/// The source to use, and why those before it were passed over.
pub(crate) struct Choice {
    pub(crate) source: Source,
    pub(crate) passed: Vec<String>,
}

/// The name of the profile, and whether somebody chose it.
pub(crate) fn profile_name(host: &dyn Host, config: &PluginConfig) -> (String, bool) {
    let chosen = config
        .profile
        .clone()
        .or_else(|| host.variable("AWS_PROFILE"));
    let is_chosen = chosen.is_some();
    (chosen.unwrap_or_else(|| "default".to_owned()), is_chosen)
}

/// The first source that is configured.
pub(crate) fn choose(world: &World<'_>) -> Result<Choice, Problem> {
    let mut passed = Vec::new();
    let source = first(world, &mut passed)?;
    Ok(Choice { source, passed })
}

fn first(world: &World<'_>, passed: &mut Vec<String>) -> Result<Source, Problem> {
    if let Some(keys) = environment::written_in_configuration(world.config) {
        return Ok(Source::Keys(keys));
    }
    if world.config.profile.is_none() {
        match environment::keys(world.host)? {
            Some(keys) => return Ok(Source::Keys(keys)),
            None => passed.push("the environment has no AWS_ACCESS_KEY_ID".into()),
        }
    }
    match profile::source(world)? {
        Some(source) => return Ok(source),
        None => passed.push(profile::absence(world)),
    }
    match role::by_web_identity(world) {
        Some(role) => return Ok(Source::WebIdentity(role)),
        None => passed.push("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not set".into()),
    }
    match container::service(world.host)? {
        Some(service) => return Ok(Source::Container(service)),
        None => passed.push(
            "no container credentials are offered (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI)".into(),
        ),
    }
    match metadata::service(world.host) {
        Some(service) => Ok(Source::Metadata(service)),
        None => {
            passed.push("instance metadata is switched off (AWS_EC2_METADATA_DISABLED)".into());
            Err(none(passed, None))
        }
    }
}

/// Nothing that was configured leads to keys, and the last resort did not either.
pub(crate) fn none(passed: &[String], last: Option<&Problem>) -> Problem {
    let mut ways = passed.join("; ");
    if let Some(last) = last {
        ways = format!("{ways}; {}", last.message);
    }
    let mut problem = Problem::new(
        ProblemKind::Unauthenticated,
        format!(
            "no AWS credentials were found: {ways}; next: give the manager's machine a role, or add \
             aws_access_key_id and aws_secret_access_key to the credentials file"
        ),
    )
    .about("plugin_config.profile");
    problem.code = last.and_then(|last| last.code.clone());
    problem
}

/// Asks whoever has to be asked.
pub(crate) fn redeem(with: &Redeemer<'_>, source: &Source) -> Result<Identity, Problem> {
    match source {
        Source::Keys(identity) => Ok(identity.clone()),
        Source::Container(service) => service.credentials(with.host),
        Source::Metadata(service) => service.credentials(with.host),
        Source::WebIdentity(role) => role.take_with_token(with),
        Source::Role(role, by) => {
            let by = redeem(with, by)?;
            role.take(with, &by)
        }
    }
}

/// Keys as the container's and the machine's service write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Offered {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Offered {
    /// The answer of `from`; a body that is something else is never repeated, for it may hold a key.
    fn read(body: &[u8], from: &str, provider: &'static str) -> Result<Credentials, Problem> {
        let offered: Self = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Problem::new(
                ProblemKind::Unavailable,
                format!(
                    "{from} answered with something else than credentials (line {line}, column {column})"
                ),
            )
        })?;
        Ok(Credentials::new(
            offered.access_key_id,
            offered.secret_access_key,
            offered.token.filter(|token| !token.is_empty()),
            offered.expiration.as_deref().and_then(expiry),
            provider,
        ))
    }
}

/// An expiry that cannot be read is none: the keys hold until they are refused.
fn expiry(timestamp: &str) -> Option<std::time::SystemTime> {
    let since = std::time::Duration::from_millis(millis(timestamp)?);
    std::time::SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests;
