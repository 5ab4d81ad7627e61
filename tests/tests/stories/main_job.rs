//! The main job: the documented configuration runs jobs, each on an instance of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Fact, Installation, Job, JobId, Lab, Manager};

const MINUTE: Duration = Duration::from_secs(60);

/// The documented configuration, to the letter.
const IDLE_COUNT: u32 = 5;
const MAX_INSTANCES: u32 = 10;
const JOBS: usize = 12;

/// Ready instances that live and that no job has had.
fn idle(lab: &Lab, manager: &Manager) -> usize {
    let used: Vec<_> = lab
        .gitlab
        .jobs()
        .iter()
        .filter_map(JobRecord::instance)
        .collect();
    let living = lab.living();
    let ready = manager.lines("instance ready");
    let ready: BTreeSet<_> = ready
        .iter()
        .filter_map(|line| line.field("instance"))
        .collect();
    let is_idle = |id: &&str| living.iter().any(|l| l == id) && !used.iter().any(|u| u == id);
    ready.into_iter().filter(is_idle).count()
}

/// Runs until it is let go, so that how many run at once is no matter of luck.
fn held(name: &str) -> Job {
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.2; done";
    Job::named(name)
        .script(["echo started", wait, "echo finished"])
        .without_sources()
}

async fn let_go(lab: &Lab, instance: &str) -> Result<()> {
    let script = "for c in $(docker ps -q); do docker exec $c touch /tmp/go || true; done";
    lab.instances.exec(instance, script).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_jobs_at_once_each_get_an_instance_that_is_deleted_afterwards() -> Result<()> {
    let lab = Lab::start().await?;
    // Which adds a line for every decision that changes nothing.
    let configuration = lab.configuration().global("log_level = \"debug\"");
    let mut manager = lab.start_manager(&configuration)?;
    let five = || (idle(&lab, &manager) == IDLE_COUNT as usize).then_some(());
    let awaited = "five idle instances before the first job";
    lab.journal.until(awaited, 3 * MINUTE, five).await?;
    ensure!(
        lab.launched().len() == IDLE_COUNT as usize,
        "{:?}",
        lab.launched()
    );

    let jobs: Vec<_> = (1..=JOBS)
        .map(|n| lab.gitlab.queue(held(&format!("job {n}"))))
        .collect();
    let started = |id: &JobId| lab.gitlab.job(*id).shown_at("started\n").is_some();
    let ten = || (jobs.iter().filter(|id| started(id)).count() == 10).then_some(());
    lab.journal
        .until("ten jobs at once", 4 * MINUTE, ten)
        .await?;
    ensure!(lab.living().len() == 10, "living: {:?}", lab.living());

    let mut let_go_at = BTreeMap::new();
    for job in &jobs {
        lab.gitlab.shows(*job, "started\n", 3 * MINUTE).await?;
        let instance = lab.gitlab.job(*job).instance();
        let instance = instance.with_context(|| format!("job {job} names no instance"))?;
        let_go_at.insert(instance.clone(), Instant::now());
        let_go(&lab, &instance).await?;
    }
    let ended = lab.gitlab.ended(&jobs, 2 * MINUTE).await?;
    for job in &ended {
        ensure!(
            job.state == JobState::Success && job.log().contains("finished"),
            "{} is {}:\n{}",
            job.name,
            job.state,
            job.log()
        );
    }
    ensure!(
        let_go_at.len() == JOBS,
        "twelve jobs ran on {} instances: {let_go_at:?}",
        let_go_at.len()
    );

    let last = ended
        .iter()
        .filter_map(|job| job.ended_at)
        .max()
        .context("no end")?;
    let left = MINUTE.saturating_sub(last.elapsed());
    let awaited = "five idle instances within 60 s after the last job";
    lab.journal.until(awaited, left, five).await?;
    println!("five idle {:.1?} after the last job", last.elapsed());
    let gone = || {
        let_go_at
            .keys()
            .all(|id| !lab.living().contains(id))
            .then_some(())
    };
    let awaited = "the end of every used instance";
    lab.journal.until(awaited, MINUTE, gone).await?;
    each_was_removed_through_the_api_after_its_job(&lab, &let_go_at)?;
    every_decision_follows_the_formula(&lab, &manager)?;

    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    lab.was_correct()
}

fn each_was_removed_through_the_api_after_its_job(
    lab: &Lab,
    let_go_at: &BTreeMap<String, Instant>,
) -> Result<()> {
    let mut removed = BTreeMap::new();
    for entry in lab.journal.entries() {
        let Fact::CloudAsked {
            action,
            parameters,
            status: 200,
            ..
        } = entry.fact
        else {
            continue;
        };
        if action != "TerminateInstanceInAutoScalingGroup" {
            continue;
        }
        let id = parameters["InstanceId"].as_str().context("no InstanceId")?;
        ensure!(
            parameters["ShouldDecrementDesiredCapacity"] == "true",
            "the group would replace {id}: {parameters}"
        );
        let twice = removed.insert(id.to_owned(), entry.at);
        ensure!(twice.is_none(), "{id} was removed twice");
    }
    ensure!(
        removed.keys().eq(let_go_at.keys()),
        "used {:?}, removed through the API {:?}",
        let_go_at.keys(),
        removed.keys()
    );
    for (id, at) in &removed {
        ensure!(
            at > &let_go_at[id],
            "{id} was removed while its job still ran"
        );
    }
    Ok(())
}

/// Requested = min(max_instances, in use + waiting + idle_count). Reservations are no part of it: no job stands behind one.
fn every_decision_follows_the_formula(lab: &Lab, manager: &Manager) -> Result<()> {
    let scaled = manager.lines("fleet was scaled");
    let stayed = manager.lines("fleet stays as it is");
    ensure!(
        scaled.len() > 1 && stayed.len() > scaled.len(),
        "{} and {} decisions were told",
        scaled.len(),
        stayed.len()
    );
    let (mut asked, mut most, mut clipped) = (0, 0, 0);
    for line in scaled.iter().chain(&stayed) {
        let (in_use, waiting) = (line.number("in_use")?, line.number("waiting")?);
        let (idle, max) = (line.number("idle_target")?, line.number("max")?);
        let requested = line.number("requested")?;
        ensure!((idle, max) == (IDLE_COUNT, MAX_INSTANCES), "{line}");
        let need = in_use + waiting + IDLE_COUNT;
        ensure!(requested == need.min(MAX_INSTANCES), "{line}");
        asked += line.number("increase")?;
        most = most.max(requested);
        clipped += u32::from(need > MAX_INSTANCES);
    }
    ensure!(
        most == MAX_INSTANCES && clipped > 0,
        "the maximum was never reached"
    );
    // What was decided is what the cloud was asked for: one instance a job and five idle ones, none too many.
    let launched = lab.launched().len();
    ensure!(
        asked as usize == launched && launched == JOBS + IDLE_COUNT as usize,
        "{asked} were asked for and {launched} launched"
    );
    for (parameters, _) in lab.cloud_requests("SetDesiredCapacity") {
        let desired = parameters["DesiredCapacity"].as_str().unwrap_or_default();
        ensure!(
            desired.parse::<u32>()? <= MAX_INSTANCES,
            "{desired} instances were asked for; max_instances is 10"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_found_by_every_way_to_name_it() -> Result<()> {
    let lab = Lab::start().await?;
    let aws = Installation::aws_plugin();
    let aws = aws.to_string_lossy();
    let loads = async |installation: &Installation, written: &str, file: &str| -> Result<()> {
        let configuration = lab
            .configuration()
            .idle_count(0)
            .replace("\"fleeting-plugin-aws\"", &format!("\"{written}\""));
        let manager = lab.start_manager_of(installation, &configuration)?;
        let loaded = ["plugin loaded", "plugin=aws", &format!("file={file} ")];
        manager.says(&loaded, MINUTE).await?;
        let opened = ["instance group opened", "my-docker-asg"];
        manager.says(&opened, MINUTE).await?;
        manager.kill().await
    };
    let built = Installation::built()?;
    for written in ["fleeting-plugin-aws", "aws", "aws:latest", &aws] {
        loads(&built, written, &aws)
            .await
            .with_context(|| format!("plugin = {written:?}"))?;
    }
    // On PATH only, beside a native one of that name.
    let programs = lab.home().join("programs");
    let on_path = programs.join("fleeting-plugin-aws.wasm");
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(aws.as_ref(), &on_path)?;
    std::fs::copy("/bin/true", programs.join("fleeting-plugin-aws"))?;
    let bare = Installation::without_plugins(&lab.home().join("installed"))?.on_path(&programs)?;
    loads(&bare, "fleeting-plugin-aws", &on_path.to_string_lossy())
        .await
        .context("on PATH")?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_its_sources_its_variables_and_its_after_script() -> Result<()> {
    let lab = Lab::start().await?;
    let _manager = lab.start_manager(&lab.configuration().idle_count(2).max_instances(3))?;
    let job = Job::named("all of it")
        .variable("GREETING", "good morning")
        .masked("SECRET", "mellon-and-more")
        .file("LETTER", "dear reader")
        .script([
            "echo \"$GREETING\"",
            "cat \"$LETTER\"",
            "echo \"the word is $SECRET\"",
            "bin/greet",
            "grep -c gitlab-ci-token .git/config || true",
        ])
        .after_script(["echo \"after: $CI_JOB_STATUS\""]);
    let id = lab.gitlab.queue(job);
    let failing = lab.gitlab.queue(
        Job::named("fails")
            .script(["echo before", "exit 3"])
            .without_sources(),
    );
    let ended = lab.gitlab.ended(&[id, failing], 3 * MINUTE).await?;
    let log = ended[0].log();
    ensure!(ended[0].state == JobState::Success, "{log}");
    for part in [
        "good morning",
        "dear reader",
        "the word is [MASKED]",
        "greetings from the sources",
        "after: success",
    ] {
        ensure!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    ensure!(
        !log.contains("mellon-and-more"),
        "a masked value is in the log:\n{log}"
    );
    ensure!(
        !log.contains(&ended[0].token),
        "the job token is in the log"
    );
    ensure!(ended[0].fetches > 0, "the sources did not come from GitLab");

    ensure!(ended[1].state == JobState::Failed, "{}", ended[1].log());
    ensure!(
        ended[1].failure_reason.as_deref() == Some("script_failure"),
        "{:?}",
        ended[1].failure_reason
    );
    ensure!(ended[1].exit_code == Some(3), "{:?}", ended[1].exit_code);
    lab.was_correct()
}

/// Neither a container nor the network that was made for it.
async fn nothing_is_left(lab: &Lab, job: &JobRecord) -> Result<()> {
    let instance = job.instance().context("the log names no instance")?;
    let made = "docker events --since 10m --until 0s --filter type=network --filter event=create \
                --format '{{.Actor.Attributes.name}}' | grep -q runner-";
    let made = lab.instances.exec(&instance, made).await;
    made.context("no network was made for the job")?;
    let of_job = format!(
        "--filter label=com.gitlab.gitlab-runner.job.id={}",
        job.id.0
    );
    let gone = format!(
        "! (docker ps -aq {of_job} | grep -q .) && ! (docker network ls -q {of_job} | grep -q .)"
    );
    lab.instances.until(&instance, &gone, MINUTE).await?;
    let living = lab.living();
    ensure!(
        living.contains(&instance),
        "nothing is left because {instance} is gone"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_its_after_script_runs() -> Result<()> {
    let lab = Lab::start().await?;
    // An instance lives on after its job, so that what a job leaves there would show.
    let configuration = lab.configuration().idle_count(2).max_instances(3);
    let configuration = configuration.replace("max_use_count = 1", "max_use_count = 0");
    let _manager = lab.start_manager(&configuration)?;
    let job = Job::named("long")
        .script(["echo begun", "sleep 600"])
        .after_script(["echo cleaned up"]);
    let cancelled = lab.gitlab.queue(job.without_sources());
    let aborted = lab.gitlab.queue(
        Job::named("longer")
            .script(["echo begun", "sleep 600"])
            .without_sources(),
    );
    let timed_out = Job::named("slow")
        .script(["echo begun", "sleep 600"])
        .variable("FF_NETWORK_PER_BUILD", "true")
        .without_sources();
    let timed_out = lab.gitlab.queue(timed_out.timeout(Duration::from_secs(20)));
    lab.gitlab.shows(cancelled, "begun\n", 2 * MINUTE).await?;
    lab.gitlab.cancel(cancelled);
    lab.gitlab.shows(aborted, "begun\n", 2 * MINUTE).await?;
    let instance = lab.gitlab.job(aborted).instance();
    let instance = instance.context("the log names no instance")?;
    let label = format!("com.gitlab.gitlab-runner.job.id={}", aborted.0);
    let containers = format!("docker ps -aq --filter label={label} | grep -q .");
    lab.instances
        .exec(&instance, &containers)
        .await
        .context("no container of the job was found while it ran")?;
    lab.gitlab.abort(aborted);
    let ended = lab
        .gitlab
        .ended(&[cancelled, aborted, timed_out], 3 * MINUTE)
        .await?;
    ensure!(
        ended[0].state == JobState::Canceled && ended[0].log().contains("cleaned up"),
        "{}",
        ended[0].log()
    );
    let gone = format!("! ({containers})");
    lab.instances.until(&instance, &gone, MINUTE).await?;
    ensure!(
        lab.living().contains(&instance),
        "its containers are gone because {instance} is"
    );
    ensure!(
        ended[2].failure_reason.as_deref() == Some("job_execution_timeout"),
        "{:?}",
        ended[2]
    );
    nothing_is_left(&lab, &ended[2]).await?;
    lab.was_correct()
}
