//! The AWS plugin as the manager loads it: time to load, memory of a group, cost of a call.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use fleeting_plugin_aws::Aws;
use fleetling::fleet::group::{InstanceGroup, ProviderSettings};
use fleetling::plugin::actor::Actor;
use fleetling::plugin::platform::{LoadRequest, Platform, PlatformOptions};
use fleetling::store::Store;
use fleetling_lab::figures::{Figures, Table};
use fleetling_plugin_sdk::script::Script;
use fleetling_plugin_sdk::{Provider, Settings};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::extent::Extent;
use crate::memory;

/// Calls in one measurement where one alone is too short for the clock.
const BATCH: u32 = 1_000;

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let site = Site::new()?;
    let (loaded, called) = groups(&site, extent).await?;
    let (cold, cached) = loads(&site, extent).await?;
    table.heading("AWS plugin: load (find, digest, compile, instantiate, describe, init)");
    table.row("cold: the cache is empty", cold);
    table.row("cached: compiled before", cached);
    table.heading("AWS plugin: private memory of one group, beyond the first");
    table.row("loaded: one instance", loaded);
    table.row("after its first mutating call: two instances", called);
    table.heading("AWS plugin: `shutdown(false)`, which does nothing");
    table.row(
        "through the actor, in the sandbox",
        sandboxed(&site, extent).await?,
    );
    table.row(
        "peer: a native task behind such a queue",
        queued(extent).await?,
    );
    table.row(
        "peer: the provider's function called natively",
        native(extent)?,
    );
    Ok(())
}

/// Where plugins lie, and a place for caches.
struct Site {
    share: PathBuf,
    scratch: tempfile::TempDir,
}

impl Site {
    fn new() -> Result<Self> {
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

    fn cache(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn platform(&self, cache: &Path) -> Result<Platform> {
        let options = PlatformOptions {
            plugin_dirs: vec![self.share.join("plugins")],
            data_dir: Some(self.share.clone()),
            cache_dir: Some(cache.to_owned()),
            ..PlatformOptions::new(self.scratch.path().join("plugins.toml"), Store::in_memory())
        };
        Ok(Platform::start(options)?)
    }
}

/// Group number `n`, configured as the documentation does.
async fn load(platform: &Platform, n: usize) -> Result<Arc<Actor>> {
    let config = json!({
        "name": format!("group-{n}"),
        "profile": "default",
        "config_file": "/home/user/.aws/config",
        "credentials_file": "/home/user/.aws/credentials",
    });
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
        config: &config,
        settings,
        group_key: &format!("bench/{n}"),
    };
    let loaded = platform.load(request).await;
    loaded.map_err(|report| anyhow!("{report}"))
}

/// With a platform of its own each, as at the start of a manager.
async fn loads(site: &Site, extent: &Extent) -> Result<(Figures, Figures)> {
    let timed = async |cache: PathBuf| -> Result<Duration> {
        let platform = site.platform(&cache)?;
        let began = Instant::now();
        let actor = load(&platform, 0).await?;
        let took = began.elapsed();
        drop(actor);
        Ok(took)
    };
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for n in 0..extent.loads {
        let cache = site.cache(&format!("cold-{n}"));
        cold.push(timed(cache.clone()).await?);
        cached.push(timed(cache).await?);
    }
    Ok((Figures::of_times(cold), Figures::of_times(cached)))
}

/// By how much this process grows with each group of one platform.
async fn groups(site: &Site, extent: &Extent) -> Result<(Figures, Figures)> {
    let platform = site.platform(&site.cache("groups"))?;
    // The first one brings what all share: the compiler's remains, the engine's pools, the runtime's stacks.
    let first = load(&platform, 0).await?;
    first.shutdown(false).await?;
    let (mut loaded, mut called) = (Vec::new(), Vec::new());
    let mut kept = vec![first];
    let grown = |from: u64, to: u64| to as f64 - from as f64;
    for n in 1..=extent.groups {
        let before = memory::private()?;
        let actor = load(&platform, n).await?;
        let between = memory::private()?;
        actor.shutdown(false).await?;
        let after = memory::private()?;
        loaded.push(grown(before, between));
        called.push(grown(before, after));
        kept.push(actor);
    }
    Ok((Figures::of_sizes(loaded), Figures::of_sizes(called)))
}

async fn sandboxed(site: &Site, extent: &Extent) -> Result<Figures> {
    let platform = site.platform(&site.cache("calls"))?;
    let actor = load(&platform, 0).await?;
    // The lane's instance is made by its first call.
    actor.shutdown(false).await?;
    let mut times = Vec::with_capacity(extent.calls);
    for _ in 0..extent.calls {
        let began = Instant::now();
        actor.shutdown(false).await?;
        times.push(began.elapsed());
    }
    Ok(Figures::of_times(times))
}

/// What the queue alone costs: a task on the same threads as the caller, an answer by `oneshot`.
async fn queued(extent: &Extent) -> Result<Figures> {
    let (calls, mut waiting) = mpsc::channel::<oneshot::Sender<bool>>(64);
    tokio::spawn(async move {
        while let Some(reply) = waiting.recv().await {
            // A caller that left needs no answer.
            let _ = reply.send(true);
        }
    });
    let mut times = Vec::with_capacity(extent.calls);
    for _ in 0..extent.calls {
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        calls.send(reply).await?;
        black_box(answer.await?);
        times.push(began.elapsed());
    }
    Ok(Figures::of_times(times))
}

fn native(extent: &Extent) -> Result<Figures> {
    let host = Rc::new(Script::default());
    let aws = Aws::init(host, r#"{"name":"group"}"#, Settings::for_tests());
    let aws = aws.map_err(|problem| anyhow!("the provider's `init`: {}", problem.message))?;
    let times = (0..extent.calls).map(|_| {
        let began = Instant::now();
        for _ in 0..BATCH {
            // It cannot fail: what it answers is kept from being optimised away, no more.
            let _ = black_box(black_box(&aws).shutdown(black_box(false)));
        }
        began.elapsed() / BATCH
    });
    Ok(Figures::of_times(times))
}
