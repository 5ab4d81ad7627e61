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
pub(crate) const GROUPS: usize = 20;

/// Bytes of a loaded group, and of one that was called, once for every process.
pub(crate) async fn measure(cache: &Path, extent: &Extent) -> Result<(Figures, Figures)> {
    let (mut loaded, mut called) = (Vec::new(), Vec::new());
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
        let numbers = numbers.with_context(|| format!("not two numbers: {printed:?}"))?;
        let [when_loaded, when_called] = numbers[..] else {
            bail!("not two numbers: {printed:?}");
        };
        loaded.push(when_loaded);
        called.push(when_called);
    }
    Ok((Figures::of_sizes(loaded), Figures::of_sizes(called)))
}

/// The child's part: prints both means.
pub(crate) async fn load(cache: &Path) -> Result<()> {
    let platform = Site::new()?.platform(cache)?;
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
    println!("{} {}", each(loaded), each(called));
    Ok(())
}
