//! The command `simulate`: reads the trace, replays it against each configuration, and answers what is printed.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;

use crate::cli::{AnswerFormat, Simulate};
use crate::config::usable::Config;
use crate::simulate::boot::Boot;
use crate::simulate::recommend::{self, Target};
use crate::simulate::replay::{Job, replay};
use crate::simulate::report::{self, Replayed};
use crate::simulate::scenario::{Pace, Scenario};
use crate::simulate::{chart, proof, trace};

/// What `fleetling simulate` prints for these configurations: the operator's, and the one it is compared with.
///
/// # Errors
/// If the trace cannot be read, names a runner that is not configured, or no runner can be used.
pub fn simulate(options: &Simulate, configs: &[Config]) -> anyhow::Result<String> {
    let Some(path) = &options.trace else {
        return Ok(trace::write(&proof::week()));
    };
    let text = read(path)?;
    let mut replays = Vec::with_capacity(configs.len());
    for config in configs {
        let scenario = scenario(options, config);
        let runner = default_runner(options, config)?;
        let jobs = trace::read(path, &text, &scenario.names(), runner)?;
        if let Some(p95) = options.p95_wait {
            return recommend(options, &scenario, &jobs, Target { runner, p95 });
        }
        let outcome = replay(&scenario, &jobs, Instant::now())?;
        replays.push(Replayed {
            config: config.path.display().to_string(),
            jobs,
            outcome,
        });
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, chart::svg(&replays)).with_context(|| {
            let path = path.display();
            format!("{path}: the chart could not be written; check the folder and its disk")
        })?;
    }
    Ok(match options.format {
        AnswerFormat::Text => report::text(&replays, options.decisions),
        AnswerFormat::Json => report::json(&replays, options.decisions),
    })
}

fn recommend(
    options: &Simulate,
    scenario: &Scenario,
    jobs: &[Job],
    target: Target,
) -> anyhow::Result<String> {
    let recommendation = recommend::recommend(scenario, jobs, target, Instant::now())?;
    Ok(match options.format {
        AnswerFormat::Text => recommendation.toml(),
        AnswerFormat::Json => recommendation.json(),
    })
}

fn scenario(options: &Simulate, config: &Config) -> Scenario {
    let pace = Pace {
        boot: Boot {
            median: options.boot,
            spread: options.boot_spread,
            seed: options.seed,
        },
        connect: options.connect,
        deletion: options.delete,
    };
    Scenario::of(config, pace, options.start, TimeZone::system())
}

/// Position of the runner whose the jobs are that name none.
fn default_runner(options: &Simulate, config: &Config) -> anyhow::Result<usize> {
    let path = config.path.display();
    if config.runners.is_empty() {
        bail!("{path}: no [[runners]] entry can be used; next: `fleetling config lint` says why");
    }
    let Some(name) = &options.runner else {
        return Ok(0);
    };
    let position = config.runners.iter().position(|r| r.name == *name);
    position.with_context(|| {
        format!("no runner is called {name:?} in {path}; next: `fleetling list` shows the names")
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        let next = match std::fs::metadata(path).map_err(|problem| problem.kind()) {
            Err(ErrorKind::NotFound) => "name a file that exists with --trace",
            Ok(found) if found.is_dir() => "name the file, not its folder",
            _ => "let this user read it, and save it as UTF-8",
        };
        format!("{}: the trace cannot be read; {next}", path.display())
    })
}
