//! What a command line means: which file, under which name, for which runner.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::Places;
use crate::app::places;
use crate::cli::plugin::{OfRunner, Subject, path};
use crate::config::usable::Executor;
use crate::config::{self, usable};
use crate::fleet::connector::Identity;
use crate::fleet::group::ProviderSettings;
use crate::plugin::directory::{Directory, Reference};
use crate::plugin::egress::tap::Tap;
use crate::plugin::platform::{Platform, PlatformOptions, Rehearsal, RehearsalRequest};
use crate::store::Store;

/// A file, and the operator's name of it.
pub(super) struct Chosen {
    pub(super) plugin: String,
    pub(super) file: PathBuf,
}

/// The runner whose words are used.
pub(super) struct ForRunner {
    pub(super) chosen: Chosen,
    pub(super) runner: usable::Runner,
    /// What the manager trusts is read; what is written stays in this process.
    pub(super) store: Store,
    /// None where no key is used.
    pub(super) identity: Option<Identity>,
}

/// State of this command alone, under a name no runner has.
const GROUP: &str = "fleetling-plugin-command";

impl Chosen {
    pub(super) fn of(subject: &Subject, options: &PlatformOptions) -> anyhow::Result<Self> {
        let written = &subject.file;
        if let Some(path) = path(written) {
            let file = std::path::absolute(&path)?;
            named(&file)?;
            let reference = Reference::parse(&file.to_string_lossy());
            return Ok(Self {
                plugin: reference.name,
                file,
            });
        }
        let reference = Reference::parse(written);
        let search = options.search_path.as_deref();
        let found = Directory::new(options.plugin_dirs.clone(), search).find(&reference);
        let file = found.map_err(|missing| {
            let places: Vec<_> = missing
                .looked_in
                .iter()
                .map(|place| place.display().to_string())
                .collect();
            anyhow::anyhow!(
                "no plugin `{written}` is in any of: {}; next: give the path of its .wasm, or see `fleetling plugin list`",
                places.join(", ")
            )
        })?;
        Ok(Self {
            plugin: reference.name,
            file,
        })
    }
}

/// A path that somebody wrote leads to a file, or it is said what it leads to.
pub(super) fn named(file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => {
            bail!("{shown} is a folder; next: name the plugin's .wasm in it")
        }
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => {
            bail!("{shown} is not there; next: check the path, or see `fleetling plugin list`")
        }
        // Whatever else is wrong with it, who reads it says.
        _ => Ok(()),
    }
}

/// For commands that need no runner; the configuration is looked at only to find the manager's state.
pub(super) fn options(places: &Places<'_>) -> anyhow::Result<PlatformOptions> {
    let loaded = config::load(places.config, variable);
    if let (Err(problem), true) = (&loaded, places.config.exists()) {
        eprintln!("fleetling: {problem}\nfleetling: so what a manager trusts is not known here");
    }
    let loaded = loaded.ok();
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let store = places::beside_manager(places.config, config);
    places::platform_options(places.plugin_dirs, places.config, store)
}

/// Where the manager of this configuration answers.
pub(super) fn listen_address(places: &Places<'_>) -> Option<String> {
    let loaded = config::load(places.config, variable).ok()?;
    loaded.config.listen_address
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn load(places: &Places<'_>) -> anyhow::Result<usable::Config> {
    let loaded = config::load(places.config, variable)?;
    for problem in &loaded.problems {
        eprintln!("fleetling: {problem}");
    }
    Ok(loaded.config)
}

impl ForRunner {
    pub(super) fn of(
        subject: &Subject,
        of: &OfRunner,
        places: &Places<'_>,
    ) -> anyhow::Result<Self> {
        let config = load(places)?;
        let store = places::beside_manager(places.config, Some(&config));
        let options = places::platform_options(places.plugin_dirs, places.config, store.clone())?;
        let mut chosen = Chosen::of(subject, &options)?;
        let runner = runner(&config, &chosen.plugin, of.runner.as_deref())?.clone();
        // The file stands in for what the runner names, under that name: its grants are meant.
        chosen.plugin = Reference::parse(&runner.autoscaler.plugin).name;
        let identity = Identity::chosen(&runner.autoscaler.connector, &store, GROUP)?;
        Ok(Self {
            chosen,
            runner,
            store,
            identity,
        })
    }

    pub(super) fn platform(
        &self,
        places: &Places<'_>,
        tap: Option<Arc<dyn Tap>>,
    ) -> anyhow::Result<Arc<Platform>> {
        let (dirs, store) = (places.plugin_dirs, self.store.clone());
        let options = places::platform_options(dirs, places.config, store)?;
        Ok(Platform::start(PlatformOptions { tap, ..options })?)
    }

    /// With what a manager would grant it, if it would.
    pub(super) async fn rehearse(&self, platform: &Platform) -> anyhow::Result<Rehearsal> {
        let request = self.request(None)?;
        Ok(platform.rehearse(request).await?)
    }

    pub(super) fn request(
        &self,
        grants: Option<crate::plugin::grants::Grants>,
    ) -> anyhow::Result<RehearsalRequest<'_>> {
        Ok(RehearsalRequest {
            plugin: &self.chosen.plugin,
            file: self.chosen.file.clone(),
            config: &self.runner.autoscaler.plugin_config,
            settings: self.settings()?,
            group_key: GROUP,
            grants,
        })
    }

    fn settings(&self) -> anyhow::Result<ProviderSettings> {
        let autoscaler = &self.runner.autoscaler;
        let connector = &autoscaler.connector;
        Ok(ProviderSettings {
            os: connector.os.clone(),
            arch: connector.arch.clone(),
            protocol: connector.protocol,
            port: connector.protocol_port,
            username: connector.username.clone(),
            static_credentials: connector.use_static_credentials,
            ssh_public_key: self
                .identity
                .as_ref()
                .map(Identity::public_openssh)
                .transpose()?,
            owner: GROUP.to_owned(),
            max_instances: autoscaler.max_instances,
            capacity_per_instance: autoscaler.capacity_per_instance,
        })
    }
}

/// The one named, else the one that names this plugin, else the only one there is.
fn runner<'a>(
    config: &'a usable::Config,
    plugin: &str,
    named: Option<&str>,
) -> anyhow::Result<&'a usable::Runner> {
    let file = config.path.display();
    let runners = config.runners.iter();
    let runners: Vec<_> = runners
        .filter(|r| r.executor == Executor::DockerAutoscaler)
        .collect();
    if let Some(named) = named {
        let found = runners.into_iter().find(|runner| runner.name == named);
        return found.with_context(|| {
            format!(
                "no runner that can work is called \"{named}\" in {file}; next: `fleetling list` shows the names"
            )
        });
    }
    let names_it =
        |runner: &&usable::Runner| Reference::parse(&runner.autoscaler.plugin).name == plugin;
    let theirs: Vec<_> = runners.iter().copied().filter(names_it).collect();
    match (&theirs[..], &runners[..]) {
        ([one], _) => Ok(one),
        ([], [one]) => Ok(one),
        ([], []) => bail!(
            "{file} has no [[runners]] entry that can work; next: `fleetling config lint` says why"
        ),
        ([], _) => {
            bail!("no runner of {file} names the plugin `{plugin}`; next: choose one with --runner")
        }
        _ => bail!(
            "several runners of {file} name the plugin `{plugin}`; next: choose one with --runner"
        ),
    }
}
