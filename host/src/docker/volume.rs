//! Volumes of a job: the checkout, caches, and what the configuration binds.
//!
//! ```text
//! /srv/x:/data, named:/data ─▶ bind, as written
//! /cache, the checkout ──────▶ volume runner-<hex>-cache-<md5 of the path>[-protected], found again by the next job
//!   with disable_cache, and a checkout that is not fetched into ─▶ volume that ends with the job
//!   with cache_dir ─────────▶ bind of <cache_dir>/runner-<hex>/<md5 of the path>[-protected]
//! ```
//! Volumes come to be with the first container that mounts them; the helper opens their mount points.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig};

use super::label;
use super::stage::Plan;
use crate::config::usable;
use crate::config::volume::{clean, covers};

/// What all containers of the job mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Volumes {
    pub(super) binds: Vec<String>,
    pub(super) mounts: Vec<Mount>,
    /// Names of the volumes that end with the job.
    pub(super) temporary: Vec<String>,
    /// Mount points of our own volumes: any user must be able to write there.
    pub(super) open: Vec<String>,
}

/// Plans volumes; `unique` is the random part of this job's names.
pub(super) fn plan(plan: &Plan, config: &usable::Docker, unique: &str) -> Result<Volumes, String> {
    let mut volumes = Volumes::default();
    let mut taken: Vec<String> = Vec::new();
    let builds = clean(&plan.builds_dir);
    let mut is_bound = false;
    let cache = if config.disable_cache {
        Cache::Temporary
    } else {
        config
            .cache_dir
            .as_deref()
            .map_or(Cache::Kept, Cache::Folder)
    };
    let own = Own {
        plan,
        config,
        unique,
    };
    for volume in &plan.volumes {
        let destination = clean(&volume.destination);
        if !volume.destination.starts_with('/') || destination == "/" {
            return Err(format!(
                "a volume cannot be mounted at {:?}; in config.toml, mend the variables in [runners.docker] volumes",
                volume.destination
            ));
        }
        if taken.contains(&destination) {
            return Err(format!(
                "two volumes stand for {destination:?} in the container; leave one in [runners.docker] volumes"
            ));
        }
        match volume.bind(&destination) {
            Some(bind) => {
                is_bound |= covers(&destination, &builds);
                volumes.binds.push(bind);
            }
            None => volumes.add(&own, &destination, cache),
        }
        taken.push(destination);
    }
    if !is_bound && !taken.contains(&builds) {
        let checkout = if plan.keep_builds {
            cache
        } else {
            Cache::Temporary
        };
        volumes.add(&own, &builds, checkout);
    }
    Ok(volumes)
}

/// Where a folder of the job's own is kept.
#[derive(Clone, Copy)]
enum Cache<'a> {
    Kept,
    Temporary,
    /// Below this one of the instance.
    Folder(&'a str),
}

struct Own<'a> {
    plan: &'a Plan,
    config: &'a usable::Docker,
    unique: &'a str,
}

impl Volumes {
    fn add(&mut self, own: &Own<'_>, destination: &str, cache: Cache<'_>) {
        let plan = own.plan;
        let suffix = if plan.protected { "-protected" } else { "" };
        let hash = format!("{:x}{suffix}", md5::compute(destination));
        let temporary = matches!(cache, Cache::Temporary);
        let name = match cache {
            Cache::Kept => format!("{}-cache-{hash}", plan.volume_base),
            Cache::Temporary => format!("{}-{}-cache-{hash}", plan.container_base, own.unique),
            Cache::Folder(folder) => {
                let folder = clean(&format!("{folder}/{}/{hash}", plan.volume_base));
                self.binds.push(format!("{folder}:{destination}"));
                return;
            }
        };
        let mut labels: HashMap<String, String> = plan.labels.iter().cloned().collect();
        let own_labels = [
            (label::TYPE, "cache".to_owned()),
            (label::DESTINATION, destination.to_owned()),
            (label::PROTECTED, plan.protected.to_string()),
            (label::REUSABLE, (!temporary).to_string()),
        ];
        labels.extend(own_labels.map(|(key, value)| (key.to_owned(), value)));
        self.mounts.push(Mount {
            target: Some(destination.into()),
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels),
                driver_config: driver(own.config),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        });
        self.open.push(destination.into());
        if temporary {
            self.temporary.push(name);
        }
    }
}

/// `None` is the daemon's own.
fn driver(config: &usable::Docker) -> Option<MountVolumeOptionsDriverConfig> {
    let options: &BTreeMap<_, _> = &config.volume_driver_ops;
    if config.volume_driver.is_none() && options.is_empty() {
        return None;
    }
    Some(MountVolumeOptionsDriverConfig {
        name: config.volume_driver.clone(),
        options: Some(options.clone().into_iter().collect()),
    })
}

#[cfg(test)]
mod tests;
