//! What a start tells GitLab of the jobs before it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::coordinator::api::JobState;
use crate::coordinator::fake::{FakeGitlab, job, plain};

fn record(timestamps: bool) -> JobRecord {
    let url = "https://user:hunter2@gitlab.example:8443/path"
        .parse()
        .unwrap();
    JobRecord::new(&url, "abcdefghi", job(), timestamps)
}

async fn left_behind(timestamps: bool) -> Store {
    let store = Store::in_memory();
    let mut pending = PendingJob::begin(store.clone(), record(timestamps))
        .await
        .unwrap();
    pending.confirm().await.unwrap();
    store
}

fn start(store: &Store, gitlab: &Arc<FakeGitlab>) -> (Vec<Left>, Vec<StoreProblem>) {
    recover(store, |_| Ok(gitlab.clone() as Arc<dyn JobApi>))
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_job_is_failed_at_once_and_its_log_says_why() {
    let store = left_behind(false).await;
    let gitlab = FakeGitlab::new();
    gitlab.set_log("hello wor");
    let (left, problems) = start(&store, &gitlab);
    assert!(problems.is_empty());
    let [left] = left.try_into().ok().unwrap();
    assert_eq!(left.report.await.unwrap(), Report::Accepted);
    assert_eq!(
        gitlab.log(),
        "hello wor\n\x1b[31;1mERROR: Job failed (system failure): the manager stopped while this job ran\x1b[0;m\n"
    );
    let (when, update) = gitlab.updates().remove(0);
    assert_eq!(when, Duration::ZERO);
    assert_eq!(update.state, JobState::Failed);
    assert_eq!(
        update.failure_reason,
        Some(FailureReason::RunnerSystemFailure)
    );
    assert_eq!(update.log, None);
    assert!(store.list("job").unwrap().is_empty());
}

#[tokio::test]
async fn a_stop_names_the_jobs_whose_end_gitlab_was_not_told() {
    let store = left_behind(false).await;
    assert_eq!(untold(&store), [record(false).job.id]);
    let unconfirmed = Store::in_memory();
    PendingJob::begin(unconfirmed.clone(), record(false))
        .await
        .unwrap();
    assert_eq!(untold(&unconfirmed), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_job_is_forgotten() {
    let store = Store::in_memory();
    PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    let gitlab = FakeGitlab::new();
    let (left, problems) = start(&store, &gitlab);
    assert!(left.is_empty() && problems.is_empty());
    assert!(store.list("job").unwrap().is_empty() && gitlab.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_gitlab_that_is_down_is_told_when_it_is_back_and_hears_the_line_once() {
    let store = left_behind(true).await;
    let gitlab = FakeGitlab::new();
    gitlab.on_append([plain(Appended::Failed("refused".into()))]);
    gitlab.on_update(vec![plain(Updated::Failed("refused".into())); 3]);
    let (mut left, _) = start(&store, &gitlab);
    assert_eq!(left.remove(0).report.await.unwrap(), Report::Accepted);
    let last = gitlab.updates().pop().unwrap();
    assert!(last.0 < Duration::from_secs(10), "{:?}", last.0);
    assert_eq!(gitlab.log().matches("the manager stopped").count(), 1);
    assert!(
        gitlab.log().contains(" 00O \x1b[31;1mERROR"),
        "stamped: {}",
        gitlab.log()
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gitlab_never_hears_of_is_left_to_the_next_start() {
    let store = left_behind(false).await;
    let gitlab = FakeGitlab::new();
    gitlab.on_update(vec![plain(Updated::Failed("refused".into())); 100]);
    let (mut left, _) = start(&store, &gitlab);
    assert!(matches!(
        left.remove(0).report.await.unwrap(),
        Report::GaveUp(_)
    ));
    assert_eq!(store.list("job").unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_reported_and_kept() {
    let store = left_behind(false).await;
    store.write_sealed("job", "8", b"{\"secret\": 1").unwrap();
    let gitlab = FakeGitlab::new();
    let (left, problems) = start(&store, &gitlab);
    assert_eq!((left.len(), problems.len()), (1, 1));
    let text = problems[0].to_string();
    assert!(
        text.contains("job/8") && text.contains("next:") && !text.contains("secret"),
        "{text}"
    );
    assert!(store.list("job").unwrap().contains(&"8".into()));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_had_ended_is_told_as_it_ended() {
    let store = Store::in_memory();
    let mut pending = PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    pending.confirm().await.unwrap();
    pending.ended(&Outcome::Success, 2).await.unwrap();
    let gitlab = FakeGitlab::new();
    gitlab.set_log("hi");
    let (mut left, _) = start(&store, &gitlab);
    assert_eq!(left.remove(0).report.await.unwrap(), Report::Accepted);
    assert_eq!(gitlab.updates()[0].1.state, JobState::Success);
    assert_eq!(
        gitlab.log(),
        "hi\n\x1b[0;33mWARNING: the manager stopped before it had sent the end of this log\x1b[0;m\n"
    );
    assert!(store.list("job").unwrap().is_empty());
}

#[tokio::test]
async fn a_finished_job_leaves_nothing() {
    let store = Store::in_memory();
    let pending = PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    assert_eq!(store.list("job").unwrap(), ["7-gitlab.example_8443_path"]);
    pending.done().await.unwrap();
    assert!(store.list("job").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unheard_job_is_told_when_gitlab_answers_again_and_its_log_left_alone() {
    use Updated as U;
    let silence = || vec![plain(U::Failed("504".into())); 7];
    for (answer, expected) in [
        (plain(U::Succeeded), Report::Accepted),
        (plain(U::Gone("403".into())), Report::NoLongerWanted),
        (plain(U::Conflict("400".into())), Report::NoLongerWanted),
    ] {
        let (store, gitlab) = (Store::in_memory(), FakeGitlab::new());
        let pending = PendingJob::begin(store.clone(), record(false))
            .await
            .unwrap();
        gitlab.on_update([silence(), vec![answer]].concat());
        assert_eq!(pending.unheard(gitlab.clone()).await, expected);
        let update = gitlab.updates().pop().unwrap().1;
        assert_eq!(update.state, JobState::Failed);
        assert_eq!(
            update.failure_reason,
            Some(FailureReason::RunnerSystemFailure)
        );
        assert!(gitlab.appends().is_empty());
        assert!(store.list("job").unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unheard_job_is_told_by_the_next_start() {
    let (store, silent) = (Store::in_memory(), FakeGitlab::new());
    silent.on_update(vec![plain(Updated::Failed("504".into())); 100]);
    let pending = PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    let telling = tokio::spawn(pending.unheard(silent.clone()));
    while silent.updates().is_empty() {
        tokio::task::yield_now().await;
    }
    // The manager stops while it tells.
    telling.abort();
    assert_eq!(untold(&store), [record(false).job.id]);
    let gitlab = FakeGitlab::new();
    let (mut left, problems) = start(&store, &gitlab);
    assert!(problems.is_empty());
    assert_eq!(left.remove(0).report.await.unwrap(), Report::Accepted);
    assert_eq!(gitlab.updates()[0].1.state, JobState::Failed);
    assert!(store.list("job").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unheard_job_that_comes_here_again_is_left_to_run() {
    let (store, gitlab) = (Store::in_memory(), FakeGitlab::new());
    gitlab.on_update(vec![plain(Updated::Failed("504".into())); 3]);
    let pending = PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    let telling = tokio::spawn(pending.unheard(gitlab.clone()));
    while gitlab.updates().is_empty() {
        tokio::task::yield_now().await;
    }
    let told = gitlab.updates().len();
    let mut again = PendingJob::begin(store.clone(), record(false))
        .await
        .unwrap();
    again.confirm().await.unwrap();
    assert_eq!(telling.await.unwrap(), Report::NoLongerWanted);
    assert_eq!(gitlab.updates().len(), told, "the new job was ended");
    assert_eq!(untold(&store), [record(false).job.id]);
}

#[test]
fn a_record_s_name_and_problems_show_no_login() {
    let record = record(false);
    assert_eq!(record.shown_url(), "https://gitlab.example:8443/path");
    assert!(record.url.contains("hunter2"), "it is dialled with it");
    assert!(!record.name().contains("hunter2"), "{}", record.name());
}
