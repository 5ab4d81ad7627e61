//! What one plugin's call takes while another plugin is stuck in its own, in each way that a guest can be.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use fleetling::fleet::group::{InstanceGroup, ProviderSettings};
use fleetling::plugin::platform::{LoadRequest, Platform, PlatformOptions};
use fleetling::plugin::provider::Provider;
use fleetling::store::Store;
use fleetling_lab::figures::{Figures, Table};
use serde_json::Value;

use crate::extent::Extent;

/// The manager's own fixture; a block comment of a function's name is where its instructions go.
const PROVIDER: &str = include_str!("../../../../host/src/plugin/fixtures/provider.wat");

/// How `update` is stuck until a clock ends it.
const WAYS: [(&str, &str); 4] = [
    ("computes", "(loop $l (br $l))"),
    (
        "sleeps",
        "(call $block (call $after (i64.const 3600000000000)))",
    ),
    (
        "grows its memory as far as it may, then computes",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (loop $m (br $m))",
    ),
    (
        "floods the log",
        "(loop $l (call $log (i32.const 0) (i32.const 1056) (i32.const 5) (i32.const 0) (i32.const 0)) (br $l))",
    ),
];

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(dir.path(), "good", "")?;
    let options = PlatformOptions {
        plugin_dirs: vec![dir.path().to_owned()],
        ..PlatformOptions::new(dir.path().join("plugins.toml"), Store::in_memory())
    };
    let platform = Platform::start(options)?;
    let good = load(&platform, "good").await?;
    table.heading("A plugin's `update`, which does nothing, while another plugin");
    let mut alone = Vec::new();
    for _ in 0..extent.calls / 10 {
        alone.push(timed(&good).await?);
    }
    table.row("does nothing either", Figures::of_times(alone));
    for (number, (way, instructions)) in WAYS.into_iter().enumerate() {
        let name = format!("stuck-{number}");
        write(dir.path(), &name, instructions)?;
        let stuck = load(&platform, &name).await?;
        let mut times = Vec::new();
        let mut call = Box::pin(stuck.update());
        while times.len() < extent.calls / 10 {
            tokio::select! {
                biased;
                // It is made anew after a while, and is stuck again.
                _ = &mut call => call = Box::pin(stuck.update()),
                took = timed(&good) => times.push(took?),
            }
        }
        table.row(way, Figures::of_times(times));
    }
    Ok(())
}

async fn timed(group: &Provider) -> Result<std::time::Duration> {
    let began = Instant::now();
    group.update().await?;
    Ok(began.elapsed())
}

fn write(dir: &Path, name: &str, update: &str) -> Result<()> {
    let text = PROVIDER.replace("(;update;)", update);
    let bytes = wat::parse_str(text).context("the fixture cannot be assembled")?;
    Ok(std::fs::write(dir.join(format!("{name}.wasm")), bytes)?)
}

async fn load(platform: &Arc<Platform>, name: &str) -> Result<Arc<Provider>> {
    let request = LoadRequest {
        reference: name,
        config: &Value::Null,
        settings: ProviderSettings::default(),
        group_key: name,
    };
    let loaded = platform.load(request).await;
    loaded.map_err(|report| anyhow!("{report}"))
}
