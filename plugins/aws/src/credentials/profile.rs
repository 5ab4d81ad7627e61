//! Keys by way of a profile: its own, or those of a role that another profile's keys may take.
//!
//! ```text
//! profile a ─ role_arn, source_profile ─▶ profile b ─ role_arn, credential_source ─▶ Environment │ Ec2InstanceMetadata
//!                                                   └ aws_access_key_id …                        │ EcsContainer
//! ```

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::{Problem, ProblemKind};

use super::{Identity, Source, World, container, environment, metadata, role};
use crate::files::Profile;
use crate::ini;

/// Ways to keys that would need a program or a browser beside the sandbox.
const UNSUPPORTED: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "login_session",
    "credential_process",
    "mfa_serial",
];

/// What the profile leads to; nothing where it says nothing about keys.
pub(super) fn source(world: &World<'_>) -> Result<Option<Source>, Problem> {
    step(world, world.profile, &mut Vec::new())
}

/// Why it leads to nothing.
pub(super) fn absence(world: &World<'_>) -> String {
    let (name, files) = (&world.profile.name, world.files);
    let is_there = !(world.profile.config.is_empty() && world.profile.credentials.is_empty());
    let looked = files.looked_in();
    if is_there {
        format!("profile `{name}` has no aws_access_key_id, {looked}")
    } else {
        format!("profile `{name}` stands {looked}")
    }
}

fn step(
    world: &World<'_>,
    profile: &Profile,
    above: &mut Vec<String>,
) -> Result<Option<Source>, Problem> {
    let name = &profile.name;
    let is_first = above.is_empty();
    above.push(name.clone());
    // Below the first one, keys end the chain: they are those that may take the role.
    if !is_first && let Some(keys) = own_keys(world, profile)? {
        return Ok(Some(Source::Keys(keys)));
    }
    if let Some(arn) = profile.get("role_arn") {
        return role_of(world, profile, arn, above).map(Some);
    }
    if let Some(keys) = own_keys(world, profile)? {
        return Ok(Some(Source::Keys(keys)));
    }
    if let Some(key) = UNSUPPORTED
        .into_iter()
        .find(|key| profile.get(key).is_some())
    {
        return Err(unsupported(name, key));
    }
    Ok(None)
}

fn role_of(
    world: &World<'_>,
    profile: &Profile,
    arn: &str,
    above: &mut Vec<String>,
) -> Result<Source, Problem> {
    let name = &profile.name;
    if profile.get("mfa_serial").is_some() {
        return Err(unsupported(name, "mfa_serial"));
    }
    let role = role::of_profile(world, profile, arn)?;
    let ways = (
        profile.get("web_identity_token_file"),
        profile.get("source_profile"),
        profile.get("credential_source"),
    );
    let by = match ways {
        (Some(token_file), None, None) => {
            role::must_be_granted(world, profile, token_file)?;
            return Ok(Source::WebIdentity(role));
        }
        (None, Some(source), None) => by_profile(world, profile, source, above)?,
        (None, None, Some(source)) => by_service(world, name, source)?,
        (None, None, None) => {
            return Err(Problem::invalid_config(
                "role_arn",
                format!(
                    "profile `{name}` has role_arn and does not say whose keys take that role; next: add source_profile, \
                     credential_source or web_identity_token_file"
                ),
            ));
        }
        _ => {
            return Err(Problem::invalid_config(
                "source_profile",
                format!(
                    "profile `{name}` has more than one of source_profile, credential_source and \
                     web_identity_token_file; next: keep one"
                ),
            ));
        }
    };
    Ok(Source::Role(role, Box::new(by)))
}

fn by_profile(
    world: &World<'_>,
    profile: &Profile,
    source: &str,
    above: &mut Vec<String>,
) -> Result<Source, Problem> {
    let name = &profile.name;
    // A profile may name itself: its own keys take its role.
    if source == name
        && let Some(keys) = own_keys(world, profile)?
    {
        return Ok(Source::Keys(keys));
    }
    if above.iter().any(|seen| seen == source) {
        let circle = above.join(" → ");
        return Err(Problem::invalid_config(
            "source_profile",
            format!(
                "source_profile leads in a circle: {circle} → {source}; next: let one of these profiles have \
                 keys of its own"
            ),
        ));
    }
    let Some(next) = world.files.profile(source) else {
        return Err(Problem::invalid_config(
            "source_profile",
            format!(
                "source_profile of profile `{name}` is `{source}`, which stands {}; next: correct it",
                world.files.looked_in()
            ),
        ));
    };
    step(world, &next, above)?.ok_or_else(|| {
        Problem::new(
            ProblemKind::Unauthenticated,
            format!(
                "source_profile of profile `{name}` is `{source}`, which has no aws_access_key_id, {}; next: add it, \
                 with aws_secret_access_key",
                world.files.looked_in()
            ),
        )
        .about("source_profile")
    })
}

fn by_service(world: &World<'_>, profile: &str, source: &str) -> Result<Source, Problem> {
    let lacking = |what: &str| {
        Problem::new(
            ProblemKind::Unauthenticated,
            format!(
                "credential_source of profile `{profile}` is {source}, and {what}; next: correct it, or the manager's \
                 environment"
            ),
        )
        .about("credential_source")
    };
    match source {
        "Environment" => environment::keys(world.host)?
            .map(Source::Keys)
            .ok_or_else(|| lacking("the environment has no AWS_ACCESS_KEY_ID")),
        "EcsContainer" => container::service(world.host)?
            .map(Source::Container)
            .ok_or_else(|| lacking("no container credentials are offered")),
        "Ec2InstanceMetadata" => metadata::service(world.host)
            .map(Source::Metadata)
            .ok_or_else(|| lacking("instance metadata is switched off")),
        _ => Err(Problem::invalid_config(
            "credential_source",
            format!(
                "credential_source of profile `{profile}` is `{source}`; next: write Environment, \
                 Ec2InstanceMetadata or EcsContainer"
            ),
        )),
    }
}

/// Keys come whole from one file, and from the credentials file first.
fn own_keys(world: &World<'_>, profile: &Profile) -> Result<Option<Identity>, Problem> {
    let in_credentials = pair(profile, &profile.credentials, &world.files.credentials.path)?;
    if in_credentials.is_some() {
        return Ok(in_credentials);
    }
    pair(profile, &profile.config, &world.files.config.path)
}

/// Both keys of a section, neither, or the complaint that one is missing.
fn pair(
    profile: &Profile,
    section: &ini::Section,
    path: &str,
) -> Result<Option<Identity>, Problem> {
    let name = &profile.name;
    let value = |key: &str| section.get(key).filter(|value| !value.is_empty());
    let missing = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (None, None) => return Ok(None),
        (Some(id), Some(secret)) => {
            let token = value("aws_session_token").cloned();
            return Ok(Some(Identity {
                credentials: Credentials::new(id, secret, token, None, "profile"),
                whose: format!("profile `{name}` from {path}"),
                mend: "correct the keys in that file".into(),
            }));
        }
        (Some(_), None) => "aws_secret_access_key",
        (None, Some(_)) => "aws_access_key_id",
    };
    Err(Problem::new(
        ProblemKind::Unauthenticated,
        format!("profile `{name}` in {path} has no {missing}; next: add it there"),
    )
    .about(missing))
}

fn unsupported(profile: &str, key: &str) -> Problem {
    Problem::invalid_config(
        key,
        format!(
            "profile `{profile}` has `{key}`, which needs a program or a person beside the plugin; next: use a profile \
             with keys, with a role that other keys may take, or the role of the manager's machine"
        ),
    )
}
