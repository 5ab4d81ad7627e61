//! What groups of one plugin take: many of them in a process that never compiled, because a compiler's freed pages
//! would hide it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fleetling::fleet::group::InstanceGroup;
use fleetling_lab::figures::Figures;
use tokio::process::Command;

use crate::extent::Extent;
use crate::memory;
use crate::site::{Site, load_group};

/// In one process, beside the first, which brings what all share: the engine, its threads, the allocator's reserves.
pub(crate) const GROUPS: usize = 100;

/// Bytes, once for every process.
pub(crate) struct Sizes {
    /// Of the first group, with what all share.
    pub(crate) first: Figures,
    /// Of each further one, loaded.
    pub(crate) loaded: Figures,
    /// Of each further one, called.
    pub(crate) called: Figures,
}

pub(crate) async fn measure(cache: &Path, extent: &Extent) -> Result<Sizes> {
    let (mut first, mut loaded, mut called) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..extent.memories {
        let child = Command::new(std::env::current_exe()?)
            .arg("--groups")
            .arg(cache)
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&child.stderr);
        ensure!(child.status.success(), "groups were not loaded: {said}");
        let printed = String::from_utf8_lossy(&child.stdout);
        let numbers: Result<Vec<f64>, _> = printed.split_whitespace().map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("not three numbers: {printed:?}"))?;
        let [with_the_first, when_loaded, when_called] = numbers[..] else {
            bail!("not three numbers: {printed:?}");
        };
        first.push(with_the_first);
        loaded.push(when_loaded);
        called.push(when_called);
    }
    Ok(Sizes {
        first: Figures::of_sizes(first),
        loaded: Figures::of_sizes(loaded),
        called: Figures::of_sizes(called),
    })
}

/// The child's part: prints what the first takes, and both means.
pub(crate) async fn load(cache: &Path) -> Result<()> {
    let platform = Site::new()?.platform(cache)?;
    let nothing = memory::private()?;
    let first = load_group(&platform, 0).await?;
    first.shutdown(false).await?;
    let before = memory::private()?;
    let mut actors = Vec::new();
    for n in 1..=GROUPS {
        actors.push(load_group(&platform, n).await?);
    }
    let loaded = memory::private()?;
    for actor in &actors {
        actor.shutdown(false).await?;
    }
    let called = memory::private()?;
    let each = |now: u64| (now as f64 - before as f64) / GROUPS as f64;
    let first = before as f64 - nothing as f64;
    println!("{first} {} {}", each(loaded), each(called));
    Ok(())
}
