//! From the operator's words to a region, endpoints and the source of keys.
//!
//! ```text
//! profile:  plugin_config.profile → AWS_PROFILE → "default"
//! region:   plugin_config.region → AWS_REGION → AWS_DEFAULT_REGION → the profile's → the machine's (instance metadata)
//! ```

use fleetling_plugin_sdk::{Host, Problem};

use crate::config::PluginConfig;
use crate::credentials::{Choice, Vault, World, choose, machine, profile_name};
use crate::endpoint::Endpoints;
use crate::files::{Files, Profile};

/// Who asks, and where.
pub(crate) struct Account {
    pub(crate) region: String,
    pub(crate) endpoints: Endpoints,
    pub(crate) choice: Choice,
}

impl Account {
    /// Reads the files and chooses. Only for a region that nobody wrote down is anybody asked.
    pub(crate) fn load(
        host: &dyn Host,
        config: &PluginConfig,
        session: &str,
        vault: &Vault,
    ) -> Result<Self, Problem> {
        let files = Files::read(host, config)?;
        let (name, is_chosen) = profile_name(host, config);
        let profile = match files.profile(&name) {
            Some(profile) => profile,
            // Nobody has to have a profile of that name, unless somebody said so.
            None if is_chosen => return Err(no_profile(&name, &files)),
            None => Profile {
                name,
                ..Profile::default()
            },
        };
        let endpoints = Endpoints::read(host, &files, &profile)?;
        let choice = choose(&World {
            host,
            config,
            files: &files,
            profile: &profile,
            session,
        })?;
        let region = region(host, config, &profile, &files, vault)?;
        Ok(Self {
            region,
            endpoints,
            choice,
        })
    }
}

fn no_profile(name: &str, files: &Files) -> Problem {
    let message = format!(
        "profile `{name}` stands {}; next: add it, or correct plugin_config.profile",
        files.looked_in()
    );
    if files.may_still_come() {
        let kind = fleetling_plugin_sdk::ProblemKind::Unauthenticated;
        return Problem::new(kind, message).about("plugin_config.profile");
    }
    Problem::invalid_config("plugin_config.profile", message)
}

fn region(
    host: &dyn Host,
    config: &PluginConfig,
    profile: &Profile,
    files: &Files,
    vault: &Vault,
) -> Result<String, Problem> {
    let written = config
        .region
        .clone()
        .or_else(|| host.variable("AWS_REGION"))
        .or_else(|| host.variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.get("region").map(str::to_owned));
    let region = match written {
        Some(region) => region,
        None => machine_region(host, profile, files, vault)?,
    };
    // It becomes a part of a host name.
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_empty() || !region.chars().all(is_label) {
        return Err(Problem::invalid_config(
            "plugin_config.region",
            format!("`{region}` is not an AWS region; next: write it as in `eu-west-1`"),
        ));
    }
    Ok(region)
}

fn machine_region(
    host: &dyn Host,
    profile: &Profile,
    files: &Files,
    vault: &Vault,
) -> Result<String, Problem> {
    let told = match machine(host) {
        Some(service) => match vault.machine_region(host, &service) {
            Err(problem) if service.passes(&problem, false) => return Err(problem),
            told => told,
        },
        None => Err(Problem::invalid_config(
            "AWS_EC2_METADATA_DISABLED",
            "instance metadata is switched off (AWS_EC2_METADATA_DISABLED)",
        )),
    };
    told.map_err(|problem| {
        Problem::invalid_config(
            "plugin_config.region",
            format!(
                "no region: plugin_config.region and AWS_REGION are not set, profile `{}` in {} has none, and {}; \
                 next: set one of them",
                profile.name, files.config.path, problem.message
            ),
        )
    })
}
