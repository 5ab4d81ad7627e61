//! The log's life in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::output::Stream;
use super::*;
use crate::coordinator::api::JobState;
use crate::coordinator::fake::{FakeGitlab, Heard, job, plain, signalled};

/// GitLab, the log, and the folder it keeps itself in.
type Bench = (Arc<FakeGitlab>, Trace, tempfile::TempDir);

fn open_with(gitlab: Arc<FakeGitlab>, masks: &Masks, limit_bytes: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let options = TraceOptions {
        spool_dir: dir.path().join("spool"),
        limit_bytes,
        timestamps: false,
        debug_trace: false,
        retry_limit: 10,
    };
    let trace = Trace::open(gitlab.clone(), &job(), masks, options).unwrap();
    (gitlab, trace, dir)
}

fn open() -> Bench {
    open_with(FakeGitlab::new(), &Masks::default(), 4 << 20)
}

async fn after(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn failed(reason: FailureReason) -> Outcome {
    Outcome::Failed {
        reason,
        exit_code: Some(3),
        message: String::new(),
    }
}

fn ms(when: Duration) -> u128 {
    when.as_millis()
}

fn append_times(gitlab: &FakeGitlab) -> Vec<u128> {
    let appends = gitlab.appends();
    appends.iter().map(|(when, ..)| ms(*when)).collect()
}

fn append_starts(gitlab: &FakeGitlab) -> Vec<u64> {
    let appends = gitlab.appends();
    appends.iter().map(|(_, start, _)| *start).collect()
}

#[tokio::test(start_paused = true)]
async fn first_output_goes_at_once_and_the_rest_by_interval() {
    let (gitlab, trace, _dir) = open();
    let output = trace.output(1);
    after(1_000).await;
    output.write(Stream::Out, b"a\n");
    after(100).await;
    output.write(Stream::Err, b"b\n");
    after(200).await;
    output.write(Stream::Out, b"c\n");
    after(4_000).await;
    let appends: Vec<_> = gitlab
        .appends()
        .into_iter()
        .map(|(when, start, text)| (ms(when), start, text))
        .collect();
    assert_eq!(
        appends,
        [(1_150, 0, "a\nb\n".into()), (4_150, 4, "c\n".into())]
    );
    assert!(
        gitlab.updates().is_empty(),
        "no keep-alive while the log moves"
    );
    assert_eq!(trace.bytes_sent(), 6);
    output.write(Stream::Out, b"d\n");
    assert_eq!(trace.finish(Outcome::Success).await, Report::Accepted);
    let updates = gitlab.updates();
    assert_eq!((updates.len(), ms(updates[0].0)), (1, 5_300), "at once");
    assert_eq!(updates[0].1.state, JobState::Success);
    let log = gitlab.log();
    assert_eq!(log, "a\nb\nc\nd\n");
    let proof = LogProof {
        checksum: crc32fast::hash(log.as_bytes()),
        bytes: 8,
    };
    assert_eq!(updates[0].1.log, Some(proof));
}

#[tokio::test(start_paused = true)]
async fn the_servers_interval_is_obeyed() {
    let (gitlab, trace, _dir) = open();
    gitlab.on_append([Answer {
        interval: Some(Duration::from_secs(20)),
        ..plain(Appended::Accepted)
    }]);
    let output = trace.output(1);
    output.write(Stream::Out, b"a");
    after(1_000).await;
    output.write(Stream::Out, b"b");
    after(40_000).await;
    assert_eq!(append_times(&gitlab), [150, 20_150]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_every_30_seconds() {
    let (gitlab, trace, _dir) = open();
    after(65_000).await;
    let times: Vec<_> = gitlab
        .updates()
        .iter()
        .map(|(when, update)| (ms(*when), update.state))
        .collect();
    assert_eq!(
        times,
        [(30_000, JobState::Running), (60_000, JobState::Running)]
    );
    drop(trace);
}

#[tokio::test(start_paused = true)]
async fn a_secret_split_between_writes_does_not_show() {
    let masks = Masks {
        phrases: vec!["hunter2".into()],
        ..Masks::default()
    };
    let (gitlab, trace, _dir) = open_with(FakeGitlab::new(), &masks, 4 << 20);
    let output = trace.output(1);
    output.write(Stream::Out, b"x hun");
    after(1_000).await;
    assert_eq!(gitlab.log(), "x ");
    output.write(Stream::Err, b"other ");
    output.write(Stream::Out, b"ter2 y hun");
    assert_eq!(trace.finish(Outcome::Success).await, Report::Accepted);
    assert_eq!(gitlab.log(), "x other [MASKED] y hun");
}

#[tokio::test(start_paused = true)]
async fn a_long_log_goes_in_chunks() {
    let (gitlab, trace, _dir) = open();
    let text = "0123456789abcdef".repeat(160 * 1024);
    trace.output(1).write(Stream::Out, text.as_bytes());
    after(200).await;
    assert_eq!(append_starts(&gitlab), [0, 1 << 20, 2 << 20]);
    assert!(gitlab.log() == text);
    drop(trace);
}

#[tokio::test(start_paused = true)]
async fn signals_by_table_move_forward_only() {
    for (answer, expected) in [
        (signalled(Appended::Accepted, Signal::Run), Signal::Run),
        (
            signalled(Appended::Accepted, Signal::Cancel),
            Signal::Cancel,
        ),
        (signalled(Appended::Accepted, Signal::Abort), Signal::Abort),
        (signalled(Appended::Refused, Signal::Abort), Signal::Abort),
        (plain(Appended::NotFound), Signal::Run),
        (plain(Appended::Failed("500".into())), Signal::Run),
    ] {
        let (gitlab, trace, _dir) = open();
        let said = format!("{answer:?}");
        gitlab.on_append([answer, plain(Appended::Accepted)]);
        trace.output(1).write(Stream::Out, b"a");
        after(10_000).await;
        assert_eq!(*trace.signals().borrow(), expected, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_hears_signals_too() {
    let (gitlab, trace, _dir) = open();
    gitlab.on_update([
        signalled(Updated::Succeeded, Signal::Cancel),
        signalled(Updated::Gone("x".into()), Signal::Abort),
    ]);
    let mut signals = trace.signals();
    signals.changed().await.unwrap();
    assert_eq!(*signals.borrow_and_update(), Signal::Cancel);
    signals.changed().await.unwrap();
    assert_eq!(*signals.borrow(), Signal::Abort);
}

#[tokio::test(start_paused = true)]
async fn not_found_and_failures_are_tried_again_while_the_job_runs() {
    let (gitlab, trace, _dir) = open();
    gitlab.on_append([
        plain(Appended::NotFound),
        plain(Appended::Failed("502".into())),
    ]);
    trace.output(1).write(Stream::Out, b"a");
    after(10_000).await;
    assert_eq!(append_times(&gitlab), [150, 3_150, 6_150]);
    assert_eq!(gitlab.log(), "a");
    drop(trace);
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_gitlab_corrects_is_taken() {
    let (gitlab, trace, _dir) = open();
    gitlab.set_log("hel");
    trace.output(1).write(Stream::Out, b"hello");
    after(200).await;
    assert_eq!(gitlab.log(), "hello");
    assert_eq!(gitlab.appends().len(), 2);
    drop(trace);
}

#[tokio::test(start_paused = true)]
async fn final_answers_by_table() {
    use Updated as U;
    let many = |n| vec![plain(U::Failed("500".into())); n];
    // (answers, report, updates sent, seconds until the last of them)
    for (answers, report, sent, seconds) in [
        (vec![], Report::Accepted, 1, 0),
        (vec![plain(U::Pending); 3], Report::Accepted, 4, 9),
        (vec![plain(U::LogInvalid)], Report::Accepted, 2, 1),
        (
            vec![plain(U::Gone("403".into()))],
            Report::NoLongerWanted,
            1,
            0,
        ),
        (
            vec![plain(U::Conflict("409".into()))],
            Report::Accepted,
            2,
            1,
        ),
        (many(3), Report::Accepted, 4, 1 + 2 + 4),
        (many(9), Report::Accepted, 10, 511),
        (many(10), Report::GaveUp("500".into()), 10, 511),
    ] {
        let (gitlab, trace, _dir) = open();
        let said = format!("{answers:?}");
        gitlab.on_update(answers);
        trace.output(1).write(Stream::Out, b"log");
        let found = trace.finish(failed(FailureReason::ScriptFailure)).await;
        let updates = gitlab.updates();
        assert_eq!((found, updates.len()), (report, sent), "{said}");
        assert_eq!(updates[sent - 1].0.as_secs(), seconds, "{said}");
        assert_eq!(updates[0].1.exit_code, Some(3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_neither_for_the_logs_interval_nor_by_it() {
    let (gitlab, trace, _dir) = open();
    let rarely = || Answer {
        interval: Some(Duration::from_secs(60)),
        ..plain(Appended::Accepted)
    };
    gitlab.on_append([rarely(), rarely()]);
    let asked_back = Answer {
        interval: Some(Duration::from_secs(1)),
        ..plain(Updated::Pending)
    };
    gitlab.on_update([asked_back, plain(Updated::Pending)]);
    let output = trace.output(1);
    output.write(Stream::Out, b"a");
    after(1_000).await;
    output.write(Stream::Out, b"b");
    assert_eq!(trace.finish(Outcome::Success).await, Report::Accepted);
    let appends: Vec<_> = gitlab
        .appends()
        .iter()
        .map(|(when, ..)| ms(*when))
        .collect();
    assert_eq!(appends, [150, 1_000], "the last of the log at once");
    let updates: Vec<_> = gitlab.updates().iter().map(|(when, _)| ms(*when)).collect();
    // At once; after the wait GitLab asked for; after the usual one where it asked for none.
    assert_eq!(updates, [1_000, 2_000, 5_000]);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_log_is_sent_whole_again() {
    let (gitlab, trace, _dir) = open();
    gitlab.on_update([plain(Updated::LogInvalid)]);
    trace.output(1).write(Stream::Out, b"log");
    // GitLab lost what it had: the strict fake then takes the log from 0 only.
    gitlab.on_append([plain(Appended::Accepted)]);
    let told = tokio::spawn(trace.finish(Outcome::Success));
    after(500).await;
    gitlab.set_log("");
    assert_eq!(told.await.unwrap(), Report::Accepted);
    assert_eq!(gitlab.log(), "log");
    assert_eq!(append_starts(&gitlab), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_the_log_by_table() {
    for (answer, report, updates) in [
        (plain(Appended::NotFound), Report::Accepted, 1),
        (
            signalled(Appended::Refused, Signal::Abort),
            Report::NoLongerWanted,
            0,
        ),
        (plain(Appended::Failed("500".into())), Report::Accepted, 1),
    ] {
        let (gitlab, trace, _dir) = open();
        let said = format!("{answer:?}");
        gitlab.on_append([answer]);
        trace.output(1).write(Stream::Out, b"log");
        assert_eq!(trace.finish(Outcome::Success).await, report, "{said}");
        assert_eq!(gitlab.updates().len(), updates, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_job_is_not_told() {
    let (gitlab, trace, _dir) = open();
    trace.output(1).write(Stream::Out, b"log");
    assert_eq!(
        trace.finish(Outcome::Abandoned).await,
        Report::NoLongerWanted
    );
    assert_eq!(gitlab.heard(), Vec::<(Duration, Heard)>::new());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_vanishes_is_a_system_failure() {
    let (gitlab, trace, _dir) = open();
    let output = trace.output(1);
    output.write(Stream::Out, b"log\n");
    drop(trace);
    after(1_000).await;
    let updates = gitlab.updates();
    assert_eq!(updates.len(), 1);
    assert_eq!(
        updates[0].1.failure_reason,
        Some(FailureReason::RunnerSystemFailure)
    );
    assert_eq!(gitlab.log(), "log\n");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_said_in_the_log_and_counted() {
    let (gitlab, trace, _dir) = open_with(FakeGitlab::new(), &Masks::default(), 10);
    let output = trace.output(1);
    output.write(Stream::Out, b"0123456789");
    output.write(Stream::Out, b"x");
    assert_eq!(trace.finish(Outcome::Success).await, Report::Accepted);
    let log = gitlab.log();
    assert!(log.starts_with("0123456789\n\x1b[33;1mJob's log exceeded limit of 10 bytes."));
    let proof = LogProof {
        checksum: crc32fast::hash(log.as_bytes()),
        bytes: log.len() as u64,
    };
    assert_eq!(gitlab.updates()[0].1.log, Some(proof));
}

#[tokio::test]
async fn a_spool_that_cannot_be_made_says_where() {
    let options = TraceOptions {
        spool_dir: "/proc/none".into(),
        limit_bytes: 1,
        timestamps: true,
        debug_trace: false,
        retry_limit: 1,
    };
    let problem = Trace::open(FakeGitlab::new(), &job(), &Masks::default(), options)
        .err()
        .unwrap()
        .to_string();
    assert!(
        problem.contains("/proc/none") && problem.contains("next:"),
        "{problem}"
    );
}
