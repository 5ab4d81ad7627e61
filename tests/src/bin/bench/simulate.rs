//! The proof week, simulated: 110,000 jobs, of which 10,000 stand on instances of their own at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fleetling::config::check::check;
use fleetling::simulate::boot::Boot;
use fleetling::simulate::proof;
use fleetling::simulate::replay::{Fate, replay};
use fleetling::simulate::scenario::{Pace, Scenario};
use fleetling_lab::figures::{Figures, Table};
use jiff::tz::TimeZone;

use crate::extent::Extent;

const CONFIG: &str = r#"
concurrent = 12000
[[runners]]
  name = "week"
  url = "https://gitlab.example"
  token = "none"
  executor = "docker-autoscaler"
  [runners.docker]
    image = "busybox"
  [runners.autoscaler]
    plugin = "aws"
    max_use_count = 1
    max_instances = 12000
    [[runners.autoscaler.policy]]
      idle_count = 20
      idle_time = "10m"
      preemptive_mode = false
"#;

pub(crate) fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let loaded = check(Path::new("week.toml"), CONFIG, &|_| None, &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    })?;
    let pace = Pace {
        boot: Boot {
            median: Duration::from_secs(45),
            spread: 0.2,
            seed: 1,
        },
        connect: Duration::from_secs(3),
        deletion: Duration::from_secs(30),
    };
    let start = "2026-01-05T00:00:00Z".parse()?;
    let scenario = Scenario::of(&loaded.config, pace, start, TimeZone::UTC);
    let jobs = proof::week();
    let mut times = Vec::with_capacity(extent.weeks);
    for _ in 0..extent.weeks {
        let began = Instant::now();
        let outcome = replay(&scenario, &jobs, began)?;
        times.push(began.elapsed());
        let unserved = outcome
            .fates
            .iter()
            .filter(|fate| !matches!(fate, Fate::Started(_)));
        ensure!(
            unserved.count() == 0,
            "jobs of the proof week were not served"
        );
        let large = outcome.fleets[0].history.longest_with(8_000);
        ensure!(
            large >= Duration::from_secs(900),
            "8,000 instances stood for {large:?} only"
        );
    }
    table.heading("simulate: a week of 110,000 jobs, up to 10,000 instances".to_owned());
    table.row("the whole week, one core", Figures::of_times(times));
    Ok(())
}
