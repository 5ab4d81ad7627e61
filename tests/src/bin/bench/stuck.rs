//! What one plugin's call takes while another plugin is stuck in its own, in each way that a guest can be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use fleetling::fleet::group::{InstanceGroup, ProviderSettings};
use fleetling::plugin::platform::{LoadRequest, Platform, PlatformOptions};
use fleetling::plugin::provider::Provider;
use fleetling::store::Store;
use fleetling_lab::figures::{Figures, Table};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::extent::Extent;
use crate::guest;

/// How `update` is stuck until a clock or a limit ends it, and what the other side of its requests answers.
const WAYS: [(&str, &str, &[u8]); 7] = [
    ("computes", "(loop $l (br $l))", b""),
    (
        "sleeps",
        "(call $block (call $after (i64.const 3600000000000)))",
        b"",
    ),
    (
        "grows its memory as far as it may, then computes",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (loop $m (br $m))",
        b"",
    ),
    (
        "floods the log",
        "(loop $l (call $log (i32.const 0) (i32.const 1056) (i32.const 5) (i32.const 0) (i32.const 0)) (br $l))",
        b"",
    ),
    (
        "waits for an answer that never begins",
        "(call $block (call $send))",
        b"",
    ),
    (
        "floods the network, one request after the other",
        "(loop $l (drop (call $fetch)) (br $l))",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
    ),
    (
        "floods the network, a hundred requests at once",
        "(loop $l (drop (call $send)) (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
           (br_if $l (i32.lt_u (global.get $calls) (i32.const 100))))
         (call $block (call $after (i64.const 3600000000000)))",
        b"",
    ),
];

/// The wall clock of one call, so that whoever waits is stuck for no longer than this.
const STUCK: Duration = Duration::from_secs(3);
/// Between two calls of the plugin that is measured: together they see a good part of the time that the other is stuck.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut grants = String::new();
    for (number, (_, update, answer)) in WAYS.into_iter().enumerate() {
        let authority = listen(answer).await?;
        grants.push_str(&format!(
            "[stuck-{number}]\nhttp = [\"http://{authority}\"]\nplaintext = true\nloopback = true\n"
        ));
        write(dir.path(), &format!("stuck-{number}"), update, &authority)?;
    }
    write(dir.path(), "good", "", "none")?;
    let grants_file = dir.path().join("plugins.toml");
    std::fs::write(&grants_file, grants)?;
    let mut options = PlatformOptions {
        plugin_dirs: vec![dir.path().to_owned()],
        ..PlatformOptions::new(grants_file, Store::in_memory())
    };
    options.clocks.other = STUCK;
    // It is made anew as soon as may be, and is stuck again.
    options.clocks.backoff = PAUSE;
    let platform = Platform::start(options)?;

    let good = load(&platform, "good").await?;
    let calls = extent.calls / 10;
    table.heading("one plugin's `update`, which does nothing, while another plugin");
    let mut alone = Vec::new();
    for _ in 0..calls {
        tokio::time::sleep(PAUSE).await;
        alone.push(timed(&good).await?);
    }
    table.row("is not there", Figures::of_times(alone));
    for (number, (way, ..)) in WAYS.into_iter().enumerate() {
        let stuck = load(&platform, &format!("stuck-{number}")).await?;
        table.row(way, beside(&good, stuck, calls).await?);
    }
    Ok(())
}

/// Only calls that began while the other was stuck count.
async fn beside(good: &Provider, stuck: Arc<Provider>, calls: usize) -> Result<Figures> {
    let call = || {
        let stuck = Arc::clone(&stuck);
        tokio::spawn(async move { stuck.update().await })
    };
    let mut times = Vec::new();
    let mut other = call();
    while times.len() < calls {
        tokio::time::sleep(PAUSE).await;
        if other.is_finished() {
            if let Ok(snapshot) = other.await? {
                bail!("a plugin that should be stuck answered {snapshot:?}");
            }
            other = call();
            continue;
        }
        times.push(timed(good).await?);
    }
    // The next way is not measured beside this one too: its clock ends it.
    let _ = other.await?;
    Ok(Figures::of_times(times))
}

async fn timed(group: &Provider) -> Result<Duration> {
    let began = Instant::now();
    group.update().await?;
    Ok(began.elapsed())
}

/// Where every connection is answered with the same bytes and kept open, until the process ends.
async fn listen(answer: &'static [u8]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let authority = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 << 10];
                // Only the client ends a connection, however it does: there is nothing to do about it.
                if stream.read(&mut request).await.is_ok_and(|read| read > 0)
                    && stream.write_all(answer).await.is_ok()
                {
                    drop(stream.read(&mut request).await);
                }
            });
        }
    });
    Ok(authority)
}

fn write(dir: &Path, name: &str, update: &str, authority: &str) -> Result<()> {
    let bytes = guest::component(update, authority)?;
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
