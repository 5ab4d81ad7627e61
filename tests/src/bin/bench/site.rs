//! An installation's plugin host, with a cache of compiled plugins wherever a measurement wants it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use fleetling::fleet::group::ProviderSettings;
use fleetling::plugin::platform::{LoadRequest, Platform, PlatformOptions};
use fleetling::plugin::provider::Provider;
use fleetling::store::Store;
use serde_json::{Value, json};

/// Where plugins lie, and a place for caches.
pub(crate) struct Site {
    share: PathBuf,
    scratch: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let binary = std::env::current_exe()?;
        let target = binary.parent().and_then(Path::parent);
        let share = target
            .context("the binary has no folder")?
            .join("share/fleetling");
        ensure!(
            share.join("plugins").is_dir(),
            "{} has no plugins; `make parts` puts them there",
            share.display()
        );
        Ok(Self {
            share,
            scratch: tempfile::tempdir()?,
        })
    }

    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn platform(&self, cache: &Path) -> Result<Arc<Platform>> {
        self.granting(&self.scratch.path().join("plugins.toml"), cache)
    }

    pub(crate) fn granting(&self, grants_file: &Path, cache: &Path) -> Result<Arc<Platform>> {
        let options = PlatformOptions {
            plugin_dirs: vec![self.share.join("plugins")],
            data_dir: Some(self.share.clone()),
            cache_dir: Some(cache.to_owned()),
            ..PlatformOptions::new(grants_file.to_owned(), Store::in_memory())
        };
        Ok(Platform::start(options)?)
    }
}

/// Group number `n`, configured as the documentation does.
pub(crate) async fn load_group(platform: &Arc<Platform>, n: usize) -> Result<Arc<Provider>> {
    let config = json!({
        "name": format!("group-{n}"),
        "profile": "default",
        "config_file": "/home/user/.aws/config",
        "credentials_file": "/home/user/.aws/credentials",
    });
    load_group_of(platform, &format!("bench/{n}"), &config).await
}

pub(crate) async fn load_group_of(
    platform: &Arc<Platform>,
    group_key: &str,
    config: &Value,
) -> Result<Arc<Provider>> {
    let settings = ProviderSettings {
        os: None,
        arch: None,
        protocol: None,
        port: None,
        username: Some("ec2-user".to_owned()),
        static_credentials: false,
        ssh_public_key: Some("ssh-ed25519 AAAA".to_owned()),
        owner: "bench".to_owned(),
        max_instances: Some(10),
        capacity_per_instance: 1,
    };
    let request = LoadRequest {
        reference: "fleeting-plugin-aws",
        config,
        settings,
        group_key,
    };
    let loaded = platform.load(request).await;
    loaded.map_err(|report| anyhow!("{report}"))
}
