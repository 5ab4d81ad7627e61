//! The stage loop over an executor that is told how long each stage takes, in paused time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::config::usable::Runner;
use crate::docker::stage::{Addresses, Notes, Output, StageFailure, StageScript, Stream};
use crate::job::tests::work;

mod limits;
mod spans;

type Answer = Result<i32, StageFailure>;

/// What was done and written, in order.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Output for Record {
    fn write(&self, _: Stream, bytes: &[u8]) {
        self.add(String::from_utf8_lossy(bytes));
    }
}

struct Log(Record);

impl JobLog for Log {
    fn output(&self, _: u8) -> Arc<dyn Output> {
        Arc::new(self.0.clone())
    }
}

/// Every stage answers 0 after a second, unless it is told otherwise.
#[derive(Clone, Default)]
struct Fake {
    did: Record,
    stages: HashMap<&'static str, (u64, Vec<Answer>)>,
    build: (u64, Vec<StageFailure>),
    /// What scripts print instead of their name.
    says: HashMap<&'static str, &'static str>,
    /// What comes before it, on standard error.
    complains: HashMap<&'static str, &'static str>,
    /// How long a stopped stage takes to end.
    grace: u64,
    begun: Arc<Mutex<HashMap<String, usize>>>,
    scripts: Arc<Mutex<HashMap<String, String>>>,
}

impl Fake {
    fn stage(mut self, name: &'static str, seconds: u64, answers: Vec<Answer>) -> Self {
        self.stages.insert(name, (seconds, answers));
        self
    }

    fn nth(&self, name: &str) -> usize {
        let mut begun = self.begun.lock().unwrap();
        let count = begun.entry(name.into()).or_default();
        *count += 1;
        *count - 1
    }
}

#[async_trait]
impl Executor for Fake {
    fn instance(&self) -> String {
        "i-1".into()
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            internal: Some("10.0.0.7".into()),
            external: Some("192.0.2.7".into()),
        }
    }

    async fn ready_helper(&self, notes: Arc<dyn Notes>) -> Result<(), StageFailure> {
        notes.info("helper is ready");
        Ok(())
    }

    async fn ready_build(
        &self,
        notes: Arc<dyn Notes>,
        _: Arc<dyn Output>,
    ) -> Result<(), StageFailure> {
        let nth = self.nth("ready_build");
        notes.info("pulling");
        sleep(Duration::from_secs(self.build.0)).await;
        self.build
            .1
            .get(nth)
            .map_or(Ok(()), |failure| Err(failure.clone()))
    }

    async fn run(
        &self,
        stage: StageScript,
        output: Arc<dyn Output>,
        stop: CancellationToken,
    ) -> Result<i32, StageFailure> {
        self.did.add(&stage.name);
        let nth = self.nth(&stage.name);
        self.scripts
            .lock()
            .unwrap()
            .insert(stage.name.clone(), stage.text);
        let said = match self.says.get(stage.name.as_str()) {
            Some(said) => (*said).to_owned(),
            None => format!("output of {}", stage.name),
        };
        if let Some(complaint) = self.complains.get(stage.name.as_str()) {
            output.write(Stream::Err, complaint.as_bytes());
        }
        output.write(Stream::Out, said.as_bytes());
        let (seconds, answers) = self
            .stages
            .get(stage.name.as_str())
            .cloned()
            .unwrap_or((1, vec![]));
        tokio::select! {
            () = sleep(Duration::from_secs(seconds)) => answers.get(nth).cloned().unwrap_or(Ok(0)),
            () = stop.cancelled() => {
                sleep(Duration::from_secs(self.grace)).await;
                self.did.add(format!("stopped {}", stage.name));
                Err(StageFailure::Stopped)
            }
        }
    }

    async fn cleanup(&self) -> Result<(), String> {
        self.did.add("cleanup");
        Ok(())
    }
}

struct Told {
    outcome: Outcome,
    did: Vec<String>,
    log: String,
}

const STEPS: &str =
    r#"[{"name":"script","script":["make"]},{"name":"after_script","script":["tidy"]}]"#;

/// Runs a job with both scripts; `disturb` acts beside it.
async fn job<D, F>(parts: Value, fake: &Fake, disturb: D) -> Told
where
    D: FnOnce(watch::Sender<Signal>, CancellationToken) -> F,
    F: Future<Output = ()>,
{
    job_by(|_| {}, parts, fake, disturb).await
}

/// The same by a runner that its operator has changed.
async fn job_by<D, F>(
    operator: impl FnOnce(&mut Runner),
    parts: Value,
    fake: &Fake,
    disturb: D,
) -> Told
where
    D: FnOnce(watch::Sender<Signal>, CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let mut all = json!({ "steps": serde_json::from_str::<Value>(STEPS).unwrap() });
    all.as_object_mut()
        .unwrap()
        .extend(parts.as_object().unwrap().clone());
    let (signal, signals) = watch::channel(Signal::Run);
    let shutdown = CancellationToken::new();
    let log = Record::default();
    let executor = fake.clone();
    let mut work = work(&all);
    operator(Arc::make_mut(&mut work.runner));
    let running = run(
        work,
        Arc::new(Log(log.clone())),
        |_plan| async { Ok(executor) },
        signals,
        shutdown.clone(),
    );
    let (ended, ()) = tokio::join!(running, disturb(signal, shutdown));
    if let Some(executor) = &ended.executor {
        executor.cleanup().await.unwrap();
    }
    Told {
        outcome: ended.outcome,
        did: fake.did.all(),
        log: log.all().concat(),
    }
}

async fn undisturbed(_: watch::Sender<Signal>, _: CancellationToken) {}

fn reason(outcome: &Outcome) -> FailureReason {
    match outcome {
        Outcome::Failed { reason, .. } => *reason,
        other => panic!("{other:?} is no failure"),
    }
}

/// Where each text stands in the log; all must be there, in this order.
fn assert_in_order(log: &str, texts: &[&str]) {
    let mut from = 0;
    for text in texts {
        let at = log[from..].find(text);
        from += at.unwrap_or_else(|| panic!("{text:?} is not behind the others in:\n{log}"));
    }
}

#[tokio::test(start_paused = true)]
async fn stages_run_in_order_and_sources_show_behind_the_slower_preparation() {
    let fake = Fake {
        build: (60, vec![]),
        ..Fake::default()
    };
    let begun = Instant::now();
    let told = job(json!({}), &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    let order = [
        "prepare_script",
        "get_sources",
        "step_script",
        "after_script",
    ];
    assert_eq!(told.did[..4], order);
    assert_eq!(told.did[4..], ["cleanup_file_variables", "cleanup"]);
    // Sources came while the image was pulled: 60 s, then three stages of a second.
    assert_eq!(begun.elapsed().as_secs(), 63);
    assert_in_order(
        &told.log,
        &[
            "Running with fleetling",
            "section_start:",
            ":prepare_executor",
            "Dialing instance i-1...",
            "Instance i-1 connected",
            "helper is ready",
            "pulling",
            "section_end:",
            "Preparing environment",
            "output of prepare_script",
            "Getting source",
            "output of get_sources",
            "output of step_script",
            "output of after_script",
            "Job succeeded",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_script_lets_after_script_know() {
    let fake = Fake::default().stage("step_script", 1, vec![Ok(42)]);
    let told = job(json!({}), &fake, undisturbed).await;
    let expected = Outcome::Failed {
        reason: FailureReason::ScriptFailure,
        exit_code: Some(42),
        message: "exit code 42".into(),
    };
    assert_eq!(told.outcome, expected);
    let after = fake.scripts.lock().unwrap()["after_script"].clone();
    assert!(
        after.contains(r"export CI_JOB_STATUS='\''failed'\''"),
        "{after}"
    );
    assert!(
        told.log
            .ends_with("ERROR: Job failed: exit code 42\x1b[0;m\n"),
        "{}",
        told.log
    );
}

#[tokio::test(start_paused = true)]
async fn after_script_s_failure_counts_only_when_asked() {
    let fake = Fake::default().stage("after_script", 1, vec![Ok(1)]);
    let told = job(json!({}), &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    let strict =
        json!({ "variables": [{ "key": "AFTER_SCRIPT_IGNORE_ERRORS", "value": "false" }] });
    let fake = Fake::default().stage("after_script", 1, vec![Ok(1)]);
    let told = job(strict, &fake, undisturbed).await;
    assert_eq!(reason(&told.outcome), FailureReason::ScriptFailure);
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_the_script_and_after_script_still_runs() {
    let fake = Fake::default().stage("step_script", 1000, vec![]);
    let told = job(json!({}), &fake, |signal, _| async move {
        sleep(Duration::from_secs(30)).await;
        signal.send(Signal::Cancel).unwrap();
        sleep(Duration::from_secs(30)).await;
    })
    .await;
    assert_eq!(reason(&told.outcome), FailureReason::JobCanceled);
    let end = [
        "stopped step_script",
        "after_script",
        "cleanup_file_variables",
        "cleanup",
    ];
    assert!(told.did.ends_with(&end.map(String::from)), "{:?}", told.did);
    let after = fake.scripts.lock().unwrap()["after_script"].clone();
    assert!(after.contains(r"CI_JOB_STATUS='\''canceled'\''"), "{after}");
    assert!(told.log.contains("script canceled externally (UI, API)"));
}

#[tokio::test(start_paused = true)]
async fn what_ends_everything_is_heard_while_a_cancelled_script_ends() {
    for case in ["abort", "shutdown", "timeout"] {
        let mut fake = Fake::default().stage("step_script", 1_000_000, vec![]);
        fake.grace = 200;
        let begun = Instant::now();
        let parts = json!({ "runner_info": { "timeout": 60 } });
        let told = job(parts, &fake, |signal, shutdown| async move {
            sleep(Duration::from_secs(30)).await;
            signal.send(Signal::Cancel).unwrap();
            sleep(Duration::from_secs(30)).await;
            match case {
                "abort" => signal.send(Signal::Abort).unwrap(),
                "shutdown" => shutdown.cancel(),
                _ => {}
            }
        })
        .await;
        assert_eq!(begun.elapsed().as_secs(), 60, "{case}");
        assert_eq!(
            told.did,
            ["prepare_script", "get_sources", "step_script", "cleanup"],
            "{case}"
        );
        match case {
            "abort" => assert_eq!(told.outcome, Outcome::Abandoned),
            "shutdown" => assert_eq!(
                reason(&told.outcome),
                FailureReason::RunnerSystemFailure,
                "{case}"
            ),
            _ => assert_eq!(
                reason(&told.outcome),
                FailureReason::JobExecutionTimeout,
                "{case}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn abort_shutdown_and_the_job_s_timeout_end_everything_but_cleanup() {
    for (case, text) in [
        ("abort", ""),
        (
            "shutdown",
            "Job failed (system failure): the manager was stopped while this job ran",
        ),
        (
            "timeout",
            "Job failed: execution took longer than 1h0m0s seconds",
        ),
    ] {
        let fake = Fake::default().stage("step_script", 1_000_000, vec![]);
        let told = job(json!({}), &fake, |signal, shutdown| async move {
            sleep(Duration::from_secs(30)).await;
            match case {
                "abort" => signal.send(Signal::Abort).unwrap(),
                "shutdown" => shutdown.cancel(),
                _ => {}
            }
            sleep(Duration::from_secs(4000)).await;
        })
        .await;
        assert_eq!(
            told.did,
            ["prepare_script", "get_sources", "step_script", "cleanup"],
            "{case}"
        );
        assert_eq!(told.outcome == Outcome::Abandoned, case == "abort");
        assert!(told.log.contains(text), "{case}: {}", told.log);
    }
}

#[tokio::test(start_paused = true)]
async fn the_script_s_own_timeout_lets_after_script_run() {
    let fake = Fake::default().stage("step_script", 1000, vec![]);
    let parts = json!({ "variables": [{ "key": "RUNNER_SCRIPT_TIMEOUT", "value": "1m" }] });
    let told = job(parts, &fake, undisturbed).await;
    assert_eq!(reason(&told.outcome), FailureReason::JobExecutionTimeout);
    assert!(told.did.contains(&"after_script".into()), "{:?}", told.did);
    let after = fake.scripts.lock().unwrap()["after_script"].clone();
    assert!(after.contains(r"CI_JOB_STATUS='\''timedout'\''"), "{after}");
}

#[tokio::test(start_paused = true)]
async fn preparing_is_tried_again_only_where_that_may_help() {
    let failure = |retry| StageFailure::Failed {
        reason: FailureReason::ImagePullFailure,
        message: "no such image".into(),
        retry,
    };
    let fake = Fake {
        build: (1, vec![failure(true); 2]),
        ..Fake::default()
    };
    assert_eq!(
        job(json!({}), &fake, undisturbed).await.outcome,
        Outcome::Success
    );
    for (failures, tries) in [(vec![failure(true); 3], 3), (vec![failure(false)], 1)] {
        let fake = Fake {
            build: (1, failures),
            ..Fake::default()
        };
        let told = job(json!({}), &fake, undisturbed).await;
        assert_eq!(reason(&told.outcome), FailureReason::ImagePullFailure);
        assert_eq!(fake.nth("ready_build"), tries);
        assert_eq!(told.did.last().unwrap(), "cleanup");
        assert!(!told.log.contains("output of"), "{}", told.log);
    }
}

#[tokio::test(start_paused = true)]
async fn sources_are_tried_again_as_often_as_asked() {
    let fake = Fake::default().stage("get_sources", 1, vec![Ok(128), Ok(0)]);
    let parts = json!({ "variables": [{ "key": "GET_SOURCES_ATTEMPTS", "value": "2" }] });
    let told = job(parts, &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    let begin = [
        "prepare_script",
        "get_sources",
        "clear_worktree",
        "get_sources",
        "step_script",
    ];
    assert_eq!(told.did[..5], begin);
    let fake = Fake {
        build: (60, vec![]),
        ..Fake::default()
    }
    .stage("get_sources", 1, vec![Ok(1)]);
    let told = job(json!({}), &fake, undisturbed).await;
    assert_eq!(reason(&told.outcome), FailureReason::ScriptFailure);
    assert_eq!(told.did[2..], ["cleanup_file_variables", "cleanup"]);
    assert_in_order(
        &told.log,
        &[":prepare_executor", "section_end:", "output of get_sources"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_vanished_container_is_made_again_only_as_often_as_asked() {
    let vanished = || Err(StageFailure::ContainerVanished("c1".into()));
    let fake = Fake::default().stage("step_script", 1, vec![vanished()]);
    let told = job(json!({}), &fake, undisturbed).await;
    assert_eq!(reason(&told.outcome), FailureReason::RunnerSystemFailure);
    let parts = json!({ "variables": [{ "key": "EXECUTOR_JOB_SECTION_ATTEMPTS", "value": "2" }] });
    let fake = Fake::default().stage("step_script", 1, vec![vanished()]);
    let told = job(parts, &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    assert!(
        told.log
            .contains("Container \"c1\" not found or removed. Will retry...")
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_without_an_instance_says_what_it_waits_for_and_why_it_failed() {
    let log = Record::default();
    let (_signal, signals) = watch::channel(Signal::Run);
    let acquire = |_| async {
        sleep(Duration::from_secs(900)).await;
        Err::<Fake, _>(AcquireProblem::NoInstance(
            "no instance within 15m0s".into(),
        ))
    };
    let all = Arc::new(Log(log.clone()));
    let ended = run(
        work(&json!({})),
        all,
        acquire,
        signals,
        CancellationToken::new(),
    )
    .await;
    assert_eq!(reason(&ended.outcome), FailureReason::RunnerSystemFailure);
    let expected = [
        "Waiting for an instance...",
        "Job failed (system failure): no instance within 15m0s",
    ];
    assert_in_order(&log.all().concat(), &expected);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_no_instance_can_meet_fails_for_its_own_reason() {
    let log = Record::default();
    let (_signal, signals) = watch::channel(Signal::Run);
    let acquire = |_| async {
        let refused = StageFailure::Failed {
            reason: FailureReason::RunnerConfigurationError,
            message: "two volumes stand for \"/cache\"".into(),
            retry: false,
        };
        Err::<Fake, _>(refused.into())
    };
    let (work, all) = (work(&json!({})), Arc::new(Log(log.clone())));
    let ended = run(work, all, acquire, signals, CancellationToken::new()).await;
    assert_eq!(
        reason(&ended.outcome),
        FailureReason::RunnerConfigurationError
    );
    let expected = ["Job failed: two volumes stand for \"/cache\""];
    assert_in_order(&log.all().concat(), &expected);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_honoured_fails_before_an_instance_is_asked_for() {
    let parts = json!({ "secrets": { "TOKEN": {} } });
    let told = job(parts, &Fake::default(), undisturbed).await;
    assert_eq!(
        reason(&told.outcome),
        FailureReason::RunnerConfigurationError
    );
    assert!(
        told.did.is_empty() && told.log.contains("secrets (TOKEN)"),
        "{}",
        told.log
    );
}

#[test]
fn the_log_names_the_addresses_the_operator_asked_for() {
    let mut autoscaler = work(&json!({})).runner.autoscaler.clone();
    let line = |autoscaler: &Autoscaler| dialing(autoscaler, &Fake::default());
    assert_eq!(line(&autoscaler), "Dialing instance i-1...");
    autoscaler.log_external_ip = true;
    assert_eq!(line(&autoscaler), "Dialing instance i-1, 192.0.2.7...");
    autoscaler.log_internal_ip = true;
    let both = "Dialing instance i-1, 10.0.0.7, 192.0.2.7...";
    assert_eq!(line(&autoscaler), both);
}

#[tokio::test(start_paused = true)]
async fn every_step_runs_until_one_fails() {
    let steps = json!({ "steps": [
        { "name": "script", "script": ["make"] },
        { "name": "release", "script": ["release"] },
        { "name": "custom", "script": ["more"] },
        { "name": "after_script", "script": ["tidy"] },
    ] });
    let told = job(steps.clone(), &Fake::default(), undisturbed).await;
    assert_eq!(
        told.did[2..6],
        ["step_script", "step_release", "step_custom", "after_script"]
    );
    let fake = Fake::default().stage("step_release", 1, vec![Ok(5)]);
    let told = job(steps, &fake, undisturbed).await;
    assert_eq!(
        told.did[2..5],
        ["step_script", "step_release", "after_script"]
    );
    assert!(told.log.ends_with("Job failed: exit code 5\x1b[0;m\n"));
}
