//! Many short jobs over six instances: what is used again and again leaves nothing behind and grows nowhere.
//!
//! Sixty jobs in `make test`; `make soak` runs five hundred, or as many as `FLEETLING_SOAK_JOBS` says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Fact, Job, JobId, Lab, Manager};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const INSTANCES: usize = 6;
const SLOTS: usize = 2;
/// What an allocator keeps while the manager's maps settle. Of the long run's second half, 32 KiB a job are more; a short
/// run is too short to tell.
const MEMORY_SLACK: u64 = 8 << 20;
/// A channel that is being closed; one left by each job is more.
const FILE_SLACK: usize = 4;

fn jobs() -> Result<usize> {
    std::env::var("FLEETLING_SOAK_JOBS").map_or(Ok(60), |jobs| {
        let told = "FLEETLING_SOAK_JOBS is the number of jobs";
        jobs.parse().context(told)
    })
}

/// Every kind of thing that a job makes: sources, a cache volume, a service, a network, an end that is none.
fn job(number: usize) -> Job {
    let name = format!("short {number}");
    let job = Job::named(&name).script(["echo here > /cache/here", "cat /cache/here"]);
    match number % 10 {
        0 => job,
        1 | 2 => {
            let serve = ["/bin/sh", "-c", "exec httpd -f -p 80"];
            let service = json!([{"name": "busybox", "alias": "web", "command": serve}]);
            let job = job.part("services", service).without_sources();
            if number % 10 == 1 {
                job.variable("FF_NETWORK_PER_BUILD", "true")
            } else {
                job
            }
        }
        3 => job.script(["echo here", "exit 3"]).without_sources(),
        4 => job
            .after_script(["echo after"])
            .variable("FF_ENABLE_JOB_CLEANUP", "true"),
        _ => job.without_sources(),
    }
}

fn queue(lab: &Lab, numbers: std::ops::Range<usize>) -> Vec<JobId> {
    numbers.map(|n| lab.gitlab.queue(job(n))).collect()
}

async fn all_end(lab: &Lab, ids: &[JobId]) -> Result<()> {
    let within = Duration::from_secs(120 + 6 * ids.len() as u64);
    for job in lab.gitlab.ended(ids, within).await? {
        let (state, code) = if job.name.ends_with('3') {
            (JobState::Failed, Some(3))
        } else {
            (JobState::Success, None)
        };
        ensure!(
            job.state == state && (code.is_none() || job.exit_code == code),
            "{} is {} ({:?}):\n{}",
            job.name,
            job.state,
            job.exit_code,
            job.log()
        );
    }
    Ok(())
}

/// What stands on an instance beside what every one has, by kind.
type Found = BTreeMap<&'static str, usize>;

async fn found(lab: &Lab, instance: &str) -> Result<Found> {
    let count = async |what: &'static str, command: &str| -> Result<(&'static str, usize)> {
        let counted = lab.instances.exec(instance, command).await?;
        let counted = counted.trim().parse();
        Ok((
            what,
            counted.with_context(|| format!("{what} of {instance}"))?,
        ))
    };
    Ok(BTreeMap::from([
        count("containers", "docker ps -aq | wc -l").await?,
        count("volumes", "docker volume ls -q | wc -l").await?,
        count(
            "volumes of one job",
            "docker volume ls -q --filter label=com.gitlab.gitlab-runner.reusable=false | wc -l",
        )
        .await?,
        count("networks", "docker network ls -q | wc -l").await?,
        count("mounts", "grep -c overlay /proc/mounts || true").await?,
        count("SSH sessions", "pgrep -f '^sshd[^:]*: .*@' | wc -l").await?,
        // Each channel that is not closed is an open file of the session that serves it.
        count(
            "files of SSH sessions",
            "for p in $(pgrep -f '^sshd[^:]*: '); do ls /proc/$p/fd; done | wc -l",
        )
        .await?,
        count("processes", "ls -d /proc/[0-9]* | wc -l").await?,
    ]))
}

/// Every instance, once its jobs are cleaned up after.
async fn at_rest(lab: &Lab) -> Result<BTreeMap<String, Found>> {
    let mut all = BTreeMap::new();
    for instance in lab.living() {
        let nothing = "[ -z \"$(docker ps -aq)\" ]";
        lab.instances.until(&instance, nothing, MINUTE).await?;
        all.insert(instance.clone(), found(lab, &instance).await?);
    }
    Ok(all)
}

struct Rest {
    instances: BTreeMap<String, Found>,
    memory: u64,
    files: usize,
}

async fn rest(lab: &Lab, manager: &Manager) -> Result<Rest> {
    Ok(Rest {
        instances: at_rest(lab).await?,
        memory: manager.resident()?,
        files: manager.open_files()?,
    })
}

/// A job on an instance that is ready needs nothing of its plugin: the snapshots go on, and are all that is asked for.
fn asked_only_for_the_present(lab: &Lab, since: usize) -> Result<()> {
    for entry in lab.journal.since(since) {
        if let Fact::CloudAsked { action, .. } = entry.fact {
            ensure!(action.starts_with("Describe"), "a job asked for {action}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn short_jobs_by_the_hundred_leave_nothing_and_grow_nothing() -> Result<()> {
    let jobs = jobs()?;
    let lab = Lab::start().await?;
    let configuration = lab
        .configuration()
        .replace(
            "concurrent = 10",
            &format!("concurrent = {}", INSTANCES * SLOTS),
        )
        // Slots, as everywhere.
        .idle_count(12)
        .max_instances(6)
        .replace("capacity_per_instance = 1", "capacity_per_instance = 2")
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(
            "image = \"busybox:latest\"",
            "image = \"busybox:latest\"\n    volumes = [\"/cache\"]",
        )
        .autoscaler("reservation_throttling = false");
    let mut manager = lab.start_manager(&configuration)?;
    let ready = || (manager.lines("instance ready").len() >= INSTANCES).then_some(());
    lab.journal
        .until("six instances", 4 * MINUTE, ready)
        .await?;

    // By then every instance has pulled what it needs, and the manager has done everything once.
    let (warm, began) = (jobs / 2, std::time::Instant::now());
    all_end(&lab, &queue(&lab, 0..warm)).await?;
    let before = rest(&lab, &manager).await?;
    let asked = lab.journal.entries().len();
    all_end(&lab, &queue(&lab, warm..jobs)).await?;
    let took = began.elapsed();
    let after = rest(&lab, &manager).await?;
    asked_only_for_the_present(&lab, asked)?;

    println!(
        "{jobs} jobs in {took:.1?}: resident {} KiB and {} files after {warm}, {} KiB and {} files at the end",
        before.memory >> 10,
        before.files,
        after.memory >> 10,
        after.files
    );
    for (instance, found) in &after.instances {
        let earlier = before.instances.get(instance);
        let earlier = earlier.with_context(|| format!("{instance} is new"))?;
        println!("{instance}: {earlier:?} then {found:?}");
        ensure!(found["containers"] == 0, "{instance}: {found:?}");
        ensure!(found["volumes of one job"] == 0, "{instance}: {found:?}");
        ensure!(found["SSH sessions"] > 0, "{instance}: {found:?}");
        // bridge, host and none.
        ensure!(found["networks"] == 3, "{instance}: {found:?}");
        // Sources and cache stay, for each number that a job at work can have: their names are GitLab Runner's.
        ensure!(
            found["volumes"] <= 2 * INSTANCES * SLOTS,
            "{instance}: {found:?}"
        );
        for (what, slack) in [
            ("SSH sessions", 0),
            ("files of SSH sessions", FILE_SLACK),
            ("mounts", 0),
        ] {
            ensure!(
                found[what] <= earlier[what] + slack,
                "{instance}: {what} grew: {earlier:?} then {found:?}"
            );
        }
    }
    ensure!(
        after.instances.len() == INSTANCES,
        "{} instances",
        after.instances.len()
    );
    ensure!(
        after.files <= before.files + FILE_SLACK,
        "the manager had {} files open, and has {}",
        before.files,
        after.files
    );
    ensure!(
        after.memory <= before.memory + MEMORY_SLACK,
        "the manager had {} bytes in memory, and has {}",
        before.memory,
        after.memory
    );
    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    lab.was_correct()
}
