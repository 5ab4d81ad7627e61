//! The AWS plugin as the manager loads it: time to load, memory of a group, cost of a call.

use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fleeting_plugin_aws::Aws;
use fleetling::fleet::group::InstanceGroup;
use fleetling_lab::figures::{Figures, Table};
use fleetling_plugin_sdk::script::Script;
use fleetling_plugin_sdk::{Provider, Settings};
use tokio::sync::{mpsc, oneshot};

use crate::extent::Extent;
use crate::groups;
use crate::site::{Site, load_group};

/// Calls in one measurement where one alone is too short for the clock.
const BATCH: u32 = 1_000;

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let site = Site::new()?;
    let (cold, cached) = loads(&site, extent).await?;
    let sizes = groups::measure(&site.cache("cold-0"), extent).await?;
    table.heading("AWS plugin: load (find, digest, compile, instantiate, describe, init)");
    table.row("cold: the cache is empty", cold);
    table.row("cached: compiled before", cached);
    table.heading(format!(
        "AWS plugin: private memory of one group, and of {} more (mean of each)",
        groups::GROUPS
    ));
    table.row("the first, with the code that all share", sizes.first);
    table.row("one more, loaded: one instance", sizes.loaded);
    table.row(
        "one more, after its first mutating call: two instances",
        sizes.called,
    );
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

/// With a platform of its own each, as at the start of a manager.
async fn loads(site: &Site, extent: &Extent) -> Result<(Figures, Figures)> {
    let timed = async |cache: PathBuf| -> Result<Duration> {
        let platform = site.platform(&cache)?;
        let began = Instant::now();
        let actor = load_group(&platform, 0).await?;
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

async fn sandboxed(site: &Site, extent: &Extent) -> Result<Figures> {
    let platform = site.platform(&site.cache("calls"))?;
    let actor = load_group(&platform, 0).await?;
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
