//! The configuration changes under a running manager and its running jobs.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Fact, Job, Lab};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_taken_while_a_job_runs_or_refused_with_everything_as_it_was() -> Result<()>
{
    let lab = Lab::start().await?;
    let shown = "max_instances = 4\n    log_internal_ip = true\n    log_external_ip = true";
    let configuration = || {
        let documented = lab.configuration().max_instances(4);
        documented.replace("max_instances = 4", shown)
    };
    let before = configuration().idle_count(1);
    let mut manager = lab.start_manager(&before)?;
    let long = lab.gitlab.queue(
        Job::named("long")
            .script(["echo begun", "sleep 50", "echo over"])
            .without_sources(),
    );
    lab.gitlab.shows(long, "begun\n", 2 * MINUTE).await?;
    let old = lab.gitlab.job(long).instance().context("no instance")?;

    let mut broken = before.clone();
    broken.config.push_str("[[runners]\n");
    lab.rewrite(&broken)?;
    manager.reload()?;
    let words = ["not applied", "everything goes on as it was"];
    manager.says(&words, 10 * SECOND).await?;

    // Without a signal: the file is looked at.
    let wider = configuration().idle_count(2);
    lab.rewrite(&wider)?;
    let applied = [
        "changed configuration is applied",
        "in_place=1",
        "replaced=0",
    ];
    manager.says(&applied, 20 * SECOND).await?;
    let three = || (lab.living().len() == 3).then_some(());
    let what = "a third instance, for the second that is to stand idle";
    lab.journal.until(what, 30 * SECOND, three).await?;

    let other = wider.replace("capacity_per_instance = 1", "capacity_per_instance = 2");
    let other = other.replace("max_use_count = 1", "max_use_count = 2");
    lab.rewrite(&other)?;
    manager.reload()?;
    manager
        .says(
            &["takes new instances", "capacity_per_instance"],
            10 * SECOND,
        )
        .await?;
    let words = ["until the jobs of its earlier configuration have ended"];
    manager.says(&words, 20 * SECOND).await?;
    let after = lab
        .gitlab
        .queue(Job::named("after").script(["echo new"]).without_sources());
    let ended = lab.gitlab.ended(&[long, after], 4 * MINUTE).await?;
    for job in &ended {
        ensure!(job.state == JobState::Success, "{}", job.log());
    }
    ensure!(ended[0].log().contains("over\n"), "{}", ended[0].log());
    let log = ended[0].log();
    let dialing = format!("Dialing instance {old}, ");
    let (_, address) = log.split_once(&dialing).with_context(|| log.clone())?;
    let (address, _) = address.split_once("...").context("half a line")?;
    // The lab's instances have no external one.
    ensure!(address.parse::<IpAddr>().is_ok(), "an address: {address:?}");
    let on = ended[1].instance().context("no instance")?;
    ensure!(on != old, "the new entry has instances of its own");
    let gone = || {
        let entries = lab.journal.entries();
        let ended = |id: &str| {
            let mut facts = entries.iter().map(|entry| &entry.fact);
            facts.any(|fact| matches!(fact, Fact::InstanceEnded(ended) if ended == id))
        };
        ended(&old).then_some(())
    };
    lab.journal
        .until("the old instance is gone", MINUTE, gone)
        .await?;
    manager.quit()?;
    ensure!(manager.ended(MINUTE).await?.success(), "{}", manager.said());
    lab.was_correct()
}
