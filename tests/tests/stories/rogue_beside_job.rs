//! A job runs while the plugin of another runner does its worst: the job and its instance feel nothing of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Configuration, Job, Lab};

const MINUTE: Duration = Duration::from_secs(60);

/// The manager's own fixture; a block comment of a function's name is where its instructions go.
const PROVIDER: &str = include_str!("../../../host/src/plugin/fixtures/provider.wat");
const SPIN: &str = "(loop $l (br $l))";
const FLOOD: &str = "(loop $l
    (call $log (i32.const 3) (i32.const 1056) (i32.const 5) (i32.const 0) (i32.const 0)) (br $l))";

/// In one piece, as an operator's tool puts it there.
fn put(plugins: &Path, instructions: &[(&str, &str)]) -> Result<()> {
    let mut text = PROVIDER.to_owned();
    for (place, with) in instructions {
        text = text.replace(&format!("(;{place};)"), with);
    }
    let new = plugins.join("rogue.new");
    std::fs::create_dir_all(plugins)?;
    std::fs::write(
        &new,
        wat::parse_str(text).context("the fixture cannot be assembled")?,
    )?;
    Ok(std::fs::rename(new, plugins.join("rogue.wasm"))?)
}

/// With a second runner, whose plugin is the rogue.
fn with_a_rogue(mut configuration: Configuration) -> Configuration {
    let runner = configuration.config.find("[[runners]]");
    let runner = runner.map(|at| configuration.config[at..].to_owned());
    let rogue = runner.unwrap_or_default();
    let rogue = rogue.replace("instance autoscaler example", "the rogue's");
    let rogue = rogue.replace("fleeting-plugin-aws", "rogue");
    configuration.config.push_str(&rogue);
    configuration
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_beside_a_rogue_that_is_replaced_by_a_worse_one() -> Result<()> {
    let lab = Lab::start().await?;
    let plugins = lab.home().join("plugins");
    put(&plugins, &[("update", SPIN)])?;
    let configuration = with_a_rogue(lab.configuration().idle_count(1).max_instances(2));
    let mut manager = lab.start_manager(&configuration)?;
    let dropped = [
        "plugin instance dropped",
        "rogue",
        "of processor time in `update`",
    ];
    manager.says(&dropped, MINUTE).await?;
    manager.says(&["instance ready"], 3 * MINUTE).await?;

    // Forty lines in twenty seconds, which is longer than everything below.
    let ticks = "i=0; while [ $i -lt 40 ]; do echo tick $i; i=$((i+1)); sleep 0.5; done";
    let job = Job::named("beside a rogue")
        .script([ticks])
        .without_sources();
    let id = lab.gitlab.queue(job);
    let running = || {
        let jobs = lab.gitlab.jobs();
        jobs.iter()
            .find(|job| job.log().contains("tick 3"))
            .map(|_| ())
    };
    lab.journal
        .until("the job's third line", 2 * MINUTE, running)
        .await?;

    // Another file that never gets as far as running, and one that does and floods the log.
    put(&plugins, &[("init", SPIN)])?;
    let refused = [
        "plugin file was replaced, and the one before goes on",
        "`init` did not end well",
    ];
    manager.says(&refused, MINUTE).await?;
    put(&plugins, &[("update", FLOOD)])?;
    manager
        .says(&["plugin file was replaced, and the new one runs"], MINUTE)
        .await?;

    let job = &lab.gitlab.ended(&[id], 3 * MINUTE).await?[0];
    ensure!(
        job.state == JobState::Success,
        "{}\n{}",
        job.state,
        job.log()
    );
    let log = job.log();
    let told = (0..40).filter(|i| log.contains(&format!("tick {i}\n")));
    ensure!(told.count() == 40, "lines are missing:\n{log}");
    let (first, last) = (job.shown_at("tick 4"), job.shown_at("tick 39"));
    let took = last.zip(first).map(|(last, first)| last - first);
    let took = took.context("the log tells no times")?;
    ensure!(
        took < Duration::from_secs(35),
        "35 half seconds took {took:?}"
    );
    ensure!(manager.is_running(), "{}", manager.said());
    lab.was_correct()
}
