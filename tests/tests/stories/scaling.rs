//! The fleet follows its schedule and its load, whatever is lost meanwhile: instances, the manager, the cloud's API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Configuration, Detour, Fact, Job, JobId, Lab, Manager, Way};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Jobs can see whether their instance was let go.
fn configuration(lab: &Lab) -> Configuration {
    let image = "image = \"busybox:latest\"";
    let volumes = "volumes = [\"/tmp:/instance:ro\"]";
    lab.configuration()
        .replace(image, &format!("{image}\n    {volumes}"))
}

/// Tells GitLab that its script begins, past the log, and runs until its instance is let go.
fn held(lab: &Lab, name: &str) -> JobId {
    let job = Job::named(name).script([
        "wget -q -O /dev/null \"$CI_SERVER_URL/script-began/$CI_JOB_ID\" || true",
        "echo it has 'begun'",
        "while [ ! -e /instance/go ]; do sleep 0.2; done",
        "echo it is 'over'",
    ]);
    lab.gitlab.queue(job.without_sources())
}

fn several(lab: &Lab, name: &str, count: usize) -> Vec<JobId> {
    let job = |n| held(lab, &format!("{name} {n}"));
    (1..=count).map(job).collect()
}

/// The jobs' instances, once they all run.
async fn running(lab: &Lab, jobs: &[JobId]) -> Result<Vec<String>> {
    let mut instances = Vec::new();
    for id in jobs {
        lab.gitlab.shows(*id, "it has begun\n", 3 * MINUTE).await?;
        let instance = lab.gitlab.job(*id).instance();
        instances.push(instance.context("the log names no instance")?);
    }
    Ok(instances)
}

/// Jobs that run on these instances end, and so do later ones there.
async fn let_go(lab: &Lab, instances: &[String]) -> Result<()> {
    for instance in instances {
        lab.instances.exec(instance, "touch /tmp/go").await?;
    }
    Ok(())
}

/// Every one ended in success, and its script ran once.
async fn succeed(lab: &Lab, jobs: &[JobId], within: Duration) -> Result<()> {
    for job in lab.gitlab.ended(jobs, within).await? {
        let log = job.log();
        let complete = job.state == JobState::Success && log.contains("it is over\n");
        ensure!(complete, "{} is {}:\n{log}", job.name, job.state);
        ran_once(lab, &job)?;
    }
    Ok(())
}

/// Whatever became of it.
fn ran_once(lab: &Lab, job: &JobRecord) -> Result<()> {
    let begun = lab.asked(&format!("/script-began/{}", job.id.0));
    ensure!(begun == 1, "{} ran {begun} times:\n{}", job.name, job.log());
    let entries = lab.journal.entries();
    let is_given = |fact: &Fact| matches!(fact, Fact::JobGiven(id) if *id == job.id);
    let given = entries.iter().filter(|entry| is_given(&entry.fact)).count();
    ensure!(given == 1, "{} was given {given} times", job.name);
    Ok(())
}

/// Failed by what the runner is responsible for, and says so in its log.
fn lost(lab: &Lab, id: JobId, why: &str) -> Result<()> {
    let job = lab.gitlab.job(id);
    let reason = job.failure_reason.as_deref();
    ensure!(job.state == JobState::Failed, "{} is {}", id, job.state);
    ensure!(reason == Some("runner_system_failure"), "{reason:?}");
    ensure!(job.log().contains(why), "no {why:?}:\n{}", job.log());
    ran_once(lab, &job)
}

async fn ready(lab: &Lab, manager: &Manager, count: usize) -> Result<()> {
    let ready = || (manager.lines("instance ready").len() == count).then_some(());
    let awaited = format!("{count} ready instances");
    let waited = lab.journal.until(&awaited, 2 * MINUTE, ready).await;
    waited.with_context(|| manager.said())
}

/// Begins in the lab's own time: the cloud's, GitLab's and the manager's.
struct Period {
    since_epoch: u64,
}

impl Period {
    /// The first minute that is at least `lead` away.
    fn ahead(lead: Duration) -> Result<Self> {
        let from = SystemTime::now().duration_since(UNIX_EPOCH)? + lead;
        Ok(Self {
            since_epoch: (from.as_secs() / 60 + 1) * 60,
        })
    }

    /// The minute of the hour and the hour, every day.
    fn cron(&self) -> String {
        let minutes = self.since_epoch / 60;
        format!("{} {} * * *", minutes % 60, minutes / 60 % 24)
    }

    fn begins_in(&self) -> Result<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Duration::from_secs(self.since_epoch).saturating_sub(now))
    }

    fn ends_in(&self) -> Result<Duration> {
        let next = Self {
            since_epoch: self.since_epoch + 60,
        };
        next.begins_in()
    }
}

/// What nothing may change until an edge is watched until just before it: the manager's look at
/// the clock and the story's are not the same moment.
fn short_of(edge: Duration) -> Duration {
    edge.saturating_sub(SECOND / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idle_target_follows_the_schedule_and_the_last_policy_that_holds_wins() -> Result<()> {
    let lab = Lab::start().await?;
    // Long enough for the manager to start and to decide on the policy that holds before.
    let period = Period::ahead(20 * SECOND)?;
    let documented = "idle_count = 5\n      idle_time = \"20m0s\"";
    let policies = format!(
        "idle_count = 3\n      timezone = \"UTC\"\n\
         [[runners.autoscaler.policy]]\n      idle_count = 0\n      timezone = \"UTC\"\n\
         [[runners.autoscaler.policy]]\n      idle_count = 2\n      timezone = \"UTC\"\n\
         periods = [\"{}\"]",
        period.cron()
    );
    // Debug adds the decisions that change nothing.
    let configuration = lab.configuration().replace(documented, &policies);
    let manager = lab.start_manager(&configuration.global("log_level = \"debug\""))?;
    let nothing = ["fleet stays as it is", "idle_target=0", "requested=0"];
    manager.says(&nothing, period.begins_in()?).await?;
    let early = || (!lab.launched().is_empty()).then(|| format!("{:?}", lab.launched()));
    let what = "no instance before the period";
    lab.journal
        .holds(what, short_of(period.begins_in()?), early)
        .await?;

    let two = || (lab.launched().len() == 2).then_some(());
    let awaited = "two instances as the period begins";
    lab.journal.until(awaited, 10 * SECOND, two).await?;
    ready(&lab, &manager, 2).await?;
    let (left, launched) = (period.ends_in()?, lab.launched());
    ensure!(left > 5 * SECOND, "ready only {left:?} before its end");
    let changed = || {
        let (living, removed) = (lab.living(), lab.removed());
        (living != launched || !removed.is_empty()).then(|| format!("{living:?}, {removed:?}"))
    };
    let what = "two idle instances until the period ends";
    lab.journal.holds(what, short_of(left), changed).await?;

    // An end may be seen before the answer to the call that brought it.
    let none = || (lab.living().is_empty() && lab.removed().len() == 2).then_some(());
    let awaited = "the end of both as the period ends";
    lab.journal.until(awaited, 10 * SECOND, none).await?;
    let (mut removed, mut launched) = (lab.removed(), lab.launched());
    removed.sort();
    launched.sort();
    ensure!(removed == launched, "{removed:?}, {launched:?}");
    let mut decisions = Vec::new();
    for line in manager.lines("fleet was scaled") {
        let (increase, remove) = (line.number("increase")?, line.number("remove")?);
        decisions.push((increase, remove, line.number("idle_target")?));
    }
    // Three is the target of the first policy, which holds all the while.
    let (rises, falls) = ((2, 0, 2), (0, 2, 0));
    ensure!(decisions == [rises, falls], "{decisions:?}");
    manager
        .says(&["idle for longer than idle_time"], SECOND)
        .await?;
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_third_of_the_instances_under_load_loses_no_queued_job() -> Result<()> {
    let lab = Lab::start().await?;
    let configuration = configuration(&lab)
        .idle_count(0)
        .max_instances(6)
        .replace("max_use_count = 1", "max_use_count = 50");
    let manager = lab.start_manager(&configuration)?;
    let jobs = several(&lab, "job", 14);
    let started = |id: &JobId| lab.gitlab.job(*id).shown_at("it has begun\n").is_some();
    let (first, queued) = jobs.split_at(6);
    let instances = running(&lab, first).await?;
    let distinct: BTreeSet<_> = instances.iter().collect();
    ensure!(distinct.len() == 6, "{instances:?}");
    ensure!(!queued.iter().any(started), "more than six run");

    let (terminated, died) = (&instances[0], &instances[1]);
    lab.cloud.terminate(terminated).await?;
    lab.instances.kill(died).await?;
    lab.gitlab.ended(&first[..1], 15 * SECOND).await?;
    lost(&lab, first[0], "the cloud")?;
    lab.gitlab.ended(&first[1..2], 75 * SECOND).await?;
    lost(&lab, first[1], "did not answer")?;

    // Six jobs run again: four of the first, and two that were queued.
    let again = || (queued.iter().filter(|id| started(id)).count() == 2).then_some(());
    let awaited = "two queued jobs in the place of those that were lost";
    lab.journal.until(awaited, 2 * MINUTE, again).await?;
    let strength = || {
        let (launched, living) = (lab.launched(), lab.living());
        (launched.len() != 8 || living.len() != 6)
            .then(|| format!("launched {launched:?}, living {living:?}"))
    };
    let what = "six instances, two more than six launched";
    lab.journal.holds(what, 5 * SECOND, strength).await?;

    let_go(&lab, &lab.living()).await?;
    succeed(&lab, &first[2..], MINUTE).await?;
    succeed(&lab, queued, 2 * MINUTE).await?;
    let how = strength();
    ensure!(how.is_none(), "at the end: {how:?}\n{}", manager.said());
    let corrected = manager.lines("target is not what was asked for");
    ensure!(corrected.is_empty(), "{corrected:?}");
    // What the cloud ended itself needs no removal, and no other instance is used up.
    ensure!(lab.removed() == [died.clone()], "{:?}", lab.removed());
    lab.was_correct()
}

/// How many jobs each instance had, by the jobs' own logs.
fn uses(lab: &Lab) -> BTreeMap<String, u32> {
    let mut uses = BTreeMap::new();
    for instance in lab.gitlab.jobs().iter().filter_map(JobRecord::instance) {
        *uses.entry(instance).or_default() += 1;
    }
    uses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_killed_under_load_takes_up_its_instances_with_their_counts() -> Result<()>
{
    let lab = Lab::start().await?;
    let idle = configuration(&lab)
        .idle_count(2)
        .max_instances(6)
        .replace("max_use_count = 1", "max_use_count = 2")
        .autoscaler("delete_instances_on_shutdown = true")
        .replace(
            "[runners.autoscaler.plugin_config]",
            "[runners.autoscaler.state_storage]\n\
             keep_instance_with_acquisitions = true\n\
             [runners.autoscaler.plugin_config]",
        );
    // So that some wait in GitLab while instances are idle.
    let three_at_once = idle.clone().replace("concurrent = 10", "concurrent = 3");
    let manager = lab.start_manager(&three_at_once)?;
    let short = Job::named("short").without_sources();
    let short = lab.gitlab.queue(short);
    let short = lab.gitlab.ended(&[short], 2 * MINUTE).await?.remove(0);
    ensure!(short.state == JobState::Success, "{}", short.log());
    let killed = several(&lab, "killed", 3);
    let in_use = running(&lab, &killed).await?;
    ready(&lab, &manager, 5).await?;
    let queued = several(&lab, "queued", 6);
    let before = lab.launched();
    let used_up: Vec<_> = uses(&lab).into_iter().filter(|(_, n)| *n == 2).collect();
    ensure!(used_up.len() == 1, "one of five is used up: {used_up:?}");
    let (used_up, _) = &used_up[0];
    ensure!(in_use.contains(used_up), "{used_up} is not in use");
    manager.kill().await?;

    let mut manager = lab.start_manager(&idle)?;
    lab.gitlab.ended(&killed, 10 * SECOND).await?;
    for id in &killed {
        lost(&lab, *id, "the manager stopped while this job ran")?;
    }
    // Six at once are as many as there may be: four of the old instances and two new ones.
    let now = running(&lab, &queued).await?;
    let now: BTreeSet<_> = now.into_iter().collect();
    let thrown_away = before.iter().filter(|id| !now.contains(*id));
    ensure!(
        thrown_away.eq([used_up]),
        "{before:?}, now used {now:?}, used up {used_up}"
    );
    let adopted = manager.lines("adopted=true");
    ensure!(adopted.len() == 5, "{adopted:?}");
    let gone = || lab.removed().contains(used_up).then_some(());
    let awaited = "the removal of what was used up";
    lab.journal.until(awaited, MINUTE, gone).await?;
    ensure!(lab.launched().len() == 7, "{:?}", lab.launched());

    let_go(&lab, &lab.living()).await?;
    succeed(&lab, &queued, MINUTE).await?;
    let uses = uses(&lab);
    ensure!(uses.values().all(|count| *count <= 2), "{uses:?}");
    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    let group = lab.cloud.group().await?;
    ensure!(
        lab.living().is_empty() && group.desired == 0,
        "{:?}, {group:?}",
        lab.living()
    );
    lab.was_correct()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_minutes_without_the_clouds_api_disturb_no_job_and_end_by_themselves() -> Result<()> {
    const AWAY: Duration = Duration::from_secs(180);
    let lab = Lab::start().await?;
    let detour = Detour::to(&lab.cloud).await?;
    let configuration = configuration(&lab)
        .idle_count(2)
        .max_instances(5)
        .replace("max_use_count = 1", "max_use_count = 0")
        .autoscaler("update_interval = \"5s\"")
        .through(&detour);
    let manager = lab.start_manager(&configuration)?;
    let jobs = several(&lab, "job", 2);
    let instances = running(&lab, &jobs).await?;
    ready(&lab, &manager, 4).await?;
    let before = lab.launched();

    detour.set(Way::Silent);
    let away = Instant::now();
    let unreadable = "instance group could not be read";
    // A call may take a minute.
    manager.says(&[unreadable], 80 * SECOND).await?;
    let meanwhile = several(&lab, "meanwhile", 2);
    let on = running(&lab, &meanwhile).await?;
    ensure!(on.iter().all(|id| before.contains(id)), "{on:?}");
    let_go(&lab, &instances[..1]).await?;
    succeed(&lab, &jobs[..1], 20 * SECOND).await?;
    // From now on one idle instance is missing, and cannot be asked for.
    let ended_in = away.elapsed();
    ensure!(ended_in < AWAY, "one ended only after {ended_in:?}");
    let disturbed = || {
        let (living, removed) = (lab.living(), lab.removed());
        let lines = ["instance gone", "instance is being removed"];
        let said = lines.iter().any(|words| !manager.lines(words).is_empty());
        (living != before || !removed.is_empty() || said)
            .then(|| format!("{living:?}, {removed:?}:\n{}", manager.said()))
    };
    let what = "the same instances while the API is silent";
    let half = (AWAY / 2).saturating_sub(away.elapsed());
    lab.journal.holds(what, half, disturbed).await?;
    detour.set(Way::Shut);
    let what = "the same instances while the API refuses";
    let rest = AWAY.saturating_sub(away.elapsed());
    lab.journal.holds(what, rest, disturbed).await?;

    detour.set(Way::Open);
    let again = ["instance group is read again"];
    manager.says(&again, 2 * MINUTE).await?;
    println!("read again after {:.1?}", away.elapsed());
    let five = || (lab.living().len() == 5).then_some(());
    let awaited = "the idle instance that was missing";
    lab.journal.until(awaited, 2 * MINUTE, five).await?;
    ready(&lab, &manager, 5).await?;
    let_go(&lab, &[&instances[1..], &on].concat()).await?;
    succeed(&lab, &jobs[1..], 20 * SECOND).await?;
    succeed(&lab, &meanwhile, 20 * SECOND).await?;
    let (launched, removed) = (lab.launched(), lab.removed());
    ensure!(
        launched.len() == 5 && removed.is_empty(),
        "{launched:?}, {removed:?}"
    );
    lab.was_correct()
}

/// As another manager's would: by its labels.
const OTHERS: &str = "--label com.gitlab.gitlab-runner.managed=true \
                      --label com.gitlab.gitlab-runner.runner.system_id=s_another00000";
const OTHERS_JOB: &str = "runner-other-project-1-concurrent-0-build";

async fn others_job_runs(lab: &Lab, instance: &str) -> Result<()> {
    let running = format!("docker ps --format '{{{{.Names}}}}' | grep -qx {OTHERS_JOB}");
    let looked = lab.instances.exec(instance, &running).await;
    looked.map(drop).context("the other manager's job is gone")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_beside_another_manager_leaves_its_job_alone_until_that_ends() -> Result<()> {
    let lab = Lab::start().await?;
    lab.cloud.desire(2).await?;
    let booted = || {
        let entries = lab.journal.entries();
        let booted = entries.iter().filter_map(|entry| match &entry.fact {
            Fact::InstanceBooted(id) => Some(id.clone()),
            _ => None,
        });
        <[String; 2]>::try_from(booted.collect::<Vec<_>>()).ok()
    };
    let awaited = "two instances of somebody else";
    let [busy, bare] = lab.journal.until(awaited, MINUTE, booted).await?;
    let over = "/job-of-another-manager-is-over";
    let script = format!(
        "while [ ! -e /go ]; do sleep 0.2; done; wget -q -O /dev/null {}{over}",
        lab.gitlab.url()
    );
    let job = format!("docker run -d --name {OTHERS_JOB} {OTHERS} busybox:latest sh -c '{script}'");
    lab.instances.exec(&busy, &job).await?;
    // A container that has ended is no job that runs.
    let ended = format!("docker run {OTHERS} busybox:latest true");
    lab.instances.exec(&bare, &ended).await?;

    let configuration = lab
        .configuration()
        .idle_count(1)
        .max_instances(3)
        .autoscaler("update_interval = \"5s\"")
        .autoscaler("delete_instances_on_shutdown = true");
    let mut manager = lab.start_manager(&configuration)?;
    let left_alone = ["runs jobs of another manager", &busy, OTHERS_JOB];
    manager.says(&left_alone, MINUTE).await?;
    let removed = || (lab.removed() == [bare.clone()]).then_some(());
    let awaited = "the removal of the instance without a job";
    lab.journal.until(awaited, MINUTE, removed).await?;
    for name in ["one", "two"] {
        let own = lab.gitlab.queue(Job::named(name).without_sources());
        let own = lab.gitlab.ended(&[own], 2 * MINUTE).await?.remove(0);
        ensure!(own.state == JobState::Success, "{}", own.log());
        let on = own.instance().context("the log names no instance")?;
        ensure!(on != busy && on != bare, "{on} is not the manager's own");
    }
    // It is looked at every five seconds.
    let touched = || lab.removed().contains(&busy).then(|| manager.said());
    let what = "no removal while another manager's job runs";
    lab.journal.holds(what, 12 * SECOND, touched).await?;
    others_job_runs(&lab, &busy).await?;
    // What goes at the end is the manager's own.
    manager.quit()?;
    let status = manager.ended(MINUTE).await?;
    ensure!(status.success(), "{status}: {}", manager.said());
    ensure!(lab.living() == [busy.clone()], "{:?}", lab.living());
    others_job_runs(&lab, &busy).await?;

    let manager = lab.start_manager(&configuration)?;
    manager.says(&left_alone, MINUTE).await?;
    others_job_runs(&lab, &busy).await?;
    let end = format!("docker exec {OTHERS_JOB} touch /go");
    lab.instances.exec(&busy, &end).await?;
    let removed = || lab.removed().contains(&busy).then_some(());
    let awaited = "the removal of the instance after its job";
    lab.journal.until(awaited, MINUTE, removed).await?;
    // By then it had told GitLab of its end, or it was killed before.
    ensure!(lab.asked(over) == 1, "it was removed under its job");
    manager
        .says(&["without a record of ours", &busy], SECOND)
        .await?;
    let one = || (lab.living().len() == 1).then_some(());
    let awaited = "the manager's own idle instance and no other";
    lab.journal.until(awaited, MINUTE, one).await?;
    lab.was_correct()
}
