//! The services of a job: those of the configuration, then those of the payload, each with the names it is found by.

mod name;

use super::flags::Flags;
use super::plan::short_name;
use super::settings::Settings;
use super::variables::Variables;
use super::{Work, image};
use crate::config::flags::NETWORK_PER_BUILD;
use crate::config::service::Definition;
use crate::coordinator::payload::{Image, Variable};
use crate::docker::stage::{Network, Service, Services};
use name::ImageName;

/// Which network the job's containers share.
pub(super) fn network(work: &Work, flags: &Flags) -> Network {
    let docker = &work.runner.docker;
    match &docker.network_mode {
        None if flags.is_on(NETWORK_PER_BUILD) => Network::PerBuild {
            name: short_name(work),
            mtu: docker.network_mtu,
            ipv6: docker.enable_ipv6,
        },
        mode => Network::Given(mode.clone()),
    }
}

/// The services to start; an error is the sentence that fails the job.
pub(super) fn services(
    work: &Work,
    variables: &Variables,
    settings: &Settings,
) -> Result<Services, String> {
    let configured = &work.runner.docker.services;
    let wanted: Vec<Wanted> = configured
        .definitions
        .iter()
        .map(Wanted::of_configuration)
        .chain(work.payload.services.iter().map(Wanted::of_job))
        .collect();
    if let Some(limit) = configured.limit
        && wanted.len() > usize::try_from(limit).unwrap_or(usize::MAX)
    {
        return Err(format!(
            "too many services requested: {}, only {limit} allowed; remove some from the job, or raise services_limit \
             in config.toml",
            wanted.len()
        ));
    }
    let mut services = Services {
        debug: settings.debug_services,
        configured: configured
            .definitions
            .iter()
            .map(|definition| variables.expand(&definition.name))
            .collect(),
        ..Services::default()
    };
    for (index, wanted) in wanted.into_iter().enumerate() {
        services.add(index, wanted, work, variables)?;
    }
    Ok(services)
}

/// A service as configuration and payload alike ask for it; nothing expanded.
struct Wanted {
    image: String,
    alias: String,
    command: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    variables: Vec<Variable>,
    pull_policies: Vec<String>,
    options: Option<serde_json::Value>,
}

impl Wanted {
    fn of_configuration(definition: &Definition) -> Self {
        let variable = |(key, value): &(String, String)| Variable {
            key: key.clone(),
            value: value.clone(),
            public: true,
            file: false,
            masked: false,
            raw: false,
        };
        Self {
            image: definition.name.clone(),
            alias: definition.alias.clone(),
            command: definition.command.clone(),
            entrypoint: definition.entrypoint.clone(),
            variables: definition.environment.iter().map(variable).collect(),
            pull_policies: Vec::new(),
            options: None,
        }
    }

    fn of_job(image: &Image) -> Self {
        let list = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
        Self {
            image: image.name.clone(),
            alias: image.alias.clone().unwrap_or_default(),
            command: list(&image.command),
            entrypoint: list(&image.entrypoint),
            variables: image.variables.clone(),
            pull_policies: image.pull_policy.clone().unwrap_or_default(),
            options: image.executor_opts.clone(),
        }
    }
}

impl Services {
    fn add(
        &mut self,
        index: usize,
        wanted: Wanted,
        work: &Work,
        variables: &Variables,
    ) -> Result<(), String> {
        let image = variables.expand(&wanted.image);
        let name = ImageName::parse(&image).ok_or_else(|| {
            format!(
                "invalid service image name: {image:?} of services[{index}] is no image reference"
            )
        })?;
        let alias = variables.expand(&wanted.alias);
        let own = alias.split([' ', ',']).filter(|name| !name.is_empty());
        let mut aliases: Vec<String> = Vec::new();
        for alias in name.derived().into_iter().chain(own.map(String::from)) {
            if self.list.iter().any(|other| other.aliases.contains(&alias)) {
                self.notices.push(format!(
                    "Skipping alias {alias:?} for service {:?} (services[{index}]): alias is already in use by another \
                     service.",
                    name.service
                ));
            } else if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        if aliases.is_empty() {
            self.notices.push(format!(
                "Service {image:?} (services[{index}]) is not started: it has no name of its own, give it an alias"
            ));
            return Ok(());
        }
        let mut entrypoint = wanted.entrypoint.clone();
        if entrypoint.is_some() && work.runner.docker.disable_entrypoint_overwrite {
            self.notices.push("Entrypoint override disabled".into());
            entrypoint = None;
        }
        let option = |key| image::docker_option(wanted.options.as_ref(), key, variables);
        let platform = option("platform").map(|text| image::platform(text, &mut self.notices));
        self.list.push(Service {
            index,
            title: name.title(),
            slug: name.slug(),
            version: name.version,
            name: name.service,
            aliases,
            environment: variables.for_service(&wanted.variables),
            entrypoint,
            user: option("user"),
            platform,
            pull_policies: image::pull_policies(
                &image,
                &wanted.pull_policies,
                &work.runner.docker,
            )?,
            command: wanted.command,
            image,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
