//! Volumes of a job: the checkout, the cache, and what the configuration binds.

use std::collections::HashMap;

use bollard::models::{Mount, MountType, MountVolumeOptions};
use sha2::{Digest as _, Sha256};

use super::label;
use super::stage::Plan;
use crate::config::usable;

/// What both containers mount.
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
    for spec in &config.volumes {
        let destination = destination(spec)?;
        if taken.contains(&destination) {
            return Err(format!(
                "volume for container path {destination:?} is already defined"
            ));
        }
        taken.push(destination.clone());
        if is_one_part(spec) {
            volumes.add(plan, &destination, config.disable_cache.then_some(unique));
        } else {
            volumes.binds.push(spec.clone());
        }
    }
    let covered = |path: &str, taken: &[String]| {
        taken
            .iter()
            .any(|t| path == t || path.starts_with(&format!("{t}/")))
    };
    if !covered(&plan.builds_dir, &taken) {
        taken.push(clean(&plan.builds_dir));
        volumes.add(plan, &clean(&plan.builds_dir), Some(unique));
    }
    if !config.disable_cache && !covered(&plan.cache_dir, &taken) {
        volumes.add(plan, &clean(&plan.cache_dir), None);
    }
    Ok(volumes)
}

impl Volumes {
    fn add(&mut self, plan: &Plan, destination: &str, temporary: Option<&str>) {
        let hash = Sha256::digest(destination.as_bytes());
        let hash: String = hash
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = match temporary {
            Some(unique) => format!("{}-{unique}-cache-{hash}", plan.container_base),
            None => format!("{}-cache-{hash}", plan.volume_base),
        };
        let mut labels: HashMap<String, String> = plan.labels.iter().cloned().collect();
        labels.insert(label::TYPE.into(), "cache".into());
        labels.insert(label::REUSABLE.into(), temporary.is_none().to_string());
        self.mounts.push(Mount {
            target: Some(destination.into()),
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        });
        self.open.push(destination.into());
        if temporary.is_some() {
            self.temporary.push(name);
        }
    }
}

fn is_one_part(spec: &str) -> bool {
    !spec
        .split_once(':')
        .is_some_and(|(_, rest)| rest.starts_with('/'))
}

fn destination(spec: &str) -> Result<String, String> {
    let mut parts = spec.split(':');
    let first = parts.next().unwrap_or_default();
    let path = match parts.next() {
        Some(second) if second.starts_with('/') => second,
        _ => first,
    };
    if !path.starts_with('/') || clean(path) == "/" {
        return Err(format!("invalid volume specification: {spec:?}"));
    }
    Ok(clean(path))
}

fn clean(path: &str) -> String {
    let parts: Vec<_> = path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_name_one_container_path() {
        assert_eq!(destination("/cache").as_deref(), Ok("/cache"));
        assert_eq!(destination("/srv/x:/data/:ro").as_deref(), Ok("/data"));
        assert_eq!(destination("named:/data").as_deref(), Ok("/data"));
        assert!(destination("cache").is_err());
        assert!(destination("/host:/").is_err());
        assert!(is_one_part("/cache") && is_one_part("/cache:ro"));
        assert!(!is_one_part("/srv:/data") && !is_one_part("named:/data:ro"));
    }
}
