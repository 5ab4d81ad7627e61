//! `make demo`: the main job for real, told line by line, with a table and a verdict at the end.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fleetling_lab::coordinator::{JobRecord, JobState};
use fleetling_lab::{Fact, Job, JobId, Lab, Manager};

const LIMIT: Duration = Duration::from_secs(600);
/// What every script prints first.
const HELLO: &str = "hello from job";

#[tokio::main]
async fn main() -> ExitCode {
    let told = tokio::select! {
        told = tell() => told,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; everything is being removed")),
    };
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("demo: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

/// How a job is to end.
struct Expected {
    job: Job,
    state: JobState,
    exit_code: Option<i64>,
    reason: Option<&'static str>,
    shows: &'static str,
}

fn good(job: Job, shows: &'static str) -> Expected {
    Expected {
        job,
        state: JobState::Success,
        exit_code: None,
        reason: None,
        shows,
    }
}

/// The last one is cancelled while it runs.
fn jobs() -> Vec<Expected> {
    let named = |name: &str| Job::named(name).without_sources();
    let plain = (1..=5).map(|n| {
        good(
            named(&format!("build {n}")).script([HELLO_LINE, "sleep 2", "echo built"]),
            "built",
        )
    });
    let mut jobs: Vec<_> = plain.collect();
    jobs.extend([
        good(
            Job::named("with sources").script([HELLO_LINE, "bin/greet"]),
            "greetings from the sources",
        ),
        good(
            Job::named("sources and history").script([HELLO_LINE, "cat CHANGES"]),
            "second",
        ),
        good(
            named("variables")
                .variable("COLOUR", "teal")
                .script([HELLO_LINE, "echo colour=$COLOUR"]),
            "colour=teal",
        ),
        good(
            named("file variable")
                .file("LETTER", "dear reader")
                .script([HELLO_LINE, "cat $LETTER"]),
            "dear reader",
        ),
        good(
            named("masked variable")
                .masked("WORD", "speak-friend")
                .script([HELLO_LINE, "echo word=$WORD"]),
            "word=[MASKED]",
        ),
        good(
            named("after_script")
                .script([HELLO_LINE])
                .after_script(["echo tidied up"]),
            "tidied up",
        ),
        Expected {
            job: named("fails with 3").script([HELLO_LINE, "exit 3"]),
            state: JobState::Failed,
            exit_code: Some(3),
            reason: Some("script_failure"),
            shows: HELLO,
        },
        Expected {
            job: named("cancelled").script([HELLO_LINE, "sleep 600"]),
            state: JobState::Canceled,
            exit_code: None,
            reason: None,
            shows: HELLO,
        },
    ]);
    jobs
}

const HELLO_LINE: &str = "echo hello from 'job' $CI_JOB_ID";

async fn tell() -> Result<bool> {
    let begun = Instant::now();
    println!(
        "The lab: a GitLab, an AWS with signature checking on, instances with sshd and Docker Engine."
    );
    let lab = Lab::start().await?;
    println!(
        "GitLab answers at {}, AWS at {}.",
        lab.gitlab.url(),
        lab.cloud.access.endpoint
    );
    println!(
        "fleetling run with the documented configuration; idle_count 2 and max_instances 5, for a small machine.\n"
    );
    let configuration = lab.configuration().idle_count(2).max_instances(5);
    let mut manager = lab.start_manager(&configuration)?;

    let expected = jobs();
    let ids: Vec<JobId> = expected
        .iter()
        .map(|expected| lab.gitlab.queue(expected.job.clone()))
        .collect();
    let mut story = Story {
        begun,
        shown: 0,
        names: HashMap::new(),
        greeted: Vec::new(),
    };
    let to_cancel = ids.last().copied();
    follow(&lab, &mut manager, &mut story, &ids, to_cancel).await?;

    println!("\nAll jobs have ended; the manager is asked to stop (SIGQUIT).");
    manager.quit()?;
    let status = manager.ended(Duration::from_secs(60)).await?;
    story.go_on(&lab);

    let records: Vec<JobRecord> = ids.iter().map(|id| lab.gitlab.job(*id)).collect();
    let wrong = table(&records, &expected);
    let mut problems = lab.gitlab.violations();
    if !status.success() {
        problems.push(format!("the manager ended with {status}"));
    }
    for problem in &problems {
        println!("problem: {problem}");
    }
    let well = wrong == 0 && problems.is_empty();
    let seconds = begun.elapsed().as_secs();
    if well {
        println!(
            "\nVerdict: all {} jobs ended as expected, in {seconds} s.",
            records.len()
        );
    } else {
        println!(
            "\nVerdict: NOT as expected: {wrong} of {} jobs, {} other problems; {seconds} s.",
            records.len(),
            problems.len()
        );
        println!(
            "The manager's last words:\n{}",
            last_lines(&manager.said(), 40)
        );
    }
    Ok(well)
}

async fn follow(
    lab: &Lab,
    manager: &mut Manager,
    story: &mut Story,
    ids: &[JobId],
    mut to_cancel: Option<JobId>,
) -> Result<()> {
    let mut length = lab.journal.length();
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        story.go_on(lab);
        if let Some(id) = to_cancel
            && lab.gitlab.job(id).shown_at(&greeting(id)).is_some()
        {
            story.line(
                Instant::now(),
                &format!("job {id} is cancelled by its user"),
            );
            lab.gitlab.cancel(id);
            to_cancel = None;
        }
        let jobs_over = ids.iter().all(|id| lab.gitlab.job(*id).state.is_final());
        let used_gone = ids
            .iter()
            .filter_map(|id| lab.gitlab.job(*id).instance())
            .all(|instance| !lab.living().contains(&instance));
        if jobs_over && used_gone {
            return Ok(());
        }
        if !manager.is_running() {
            bail!(
                "the manager ended by itself; it said:\n{}",
                last_lines(&manager.said(), 40)
            );
        }
        if tokio::time::Instant::now() >= deadline {
            bail!(
                "not over after {} s; the manager said:\n{}",
                LIMIT.as_secs(),
                last_lines(&manager.said(), 40)
            );
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), length.changed()).await;
    }
}

fn greeting(id: JobId) -> String {
    format!("{HELLO} {}", id.0)
}

/// One line an event, as it happens.
struct Story {
    begun: Instant,
    /// Entries of the journal that were told.
    shown: usize,
    names: HashMap<JobId, String>,
    /// Jobs whose first output was told.
    greeted: Vec<JobId>,
}

impl Story {
    fn go_on(&mut self, lab: &Lab) {
        let entries = lab.journal.since(self.shown);
        self.shown += entries.len();
        for entry in entries {
            let text = match entry.fact {
                Fact::JobQueued(id, name) => {
                    self.names.insert(id, name);
                    self.job(id, "queued")
                }
                Fact::JobGiven(id) => self.job(id, "given to the manager"),
                Fact::JobConfirmed(id) => self.job(id, "started"),
                Fact::LogGrew(id, length) => {
                    let log = lab.gitlab.job(id).log_bytes;
                    let so_far =
                        String::from_utf8_lossy(&log[..length.min(log.len())]).into_owned();
                    if self.greeted.contains(&id) || !so_far.contains(&greeting(id)) {
                        continue;
                    }
                    self.greeted.push(id);
                    self.job(id, "first output")
                }
                Fact::JobEnded(id, state) => self.job(id, &format!("done: {state}")),
                Fact::CloudAsked {
                    action,
                    parameters,
                    status,
                    ..
                } if action == "SetDesiredCapacity" => {
                    format!(
                        "instances requested: {} in all (status {status})",
                        parameters["DesiredCapacity"]
                    )
                }
                Fact::InstanceLaunched(id) => format!("instance {id} is being made"),
                Fact::InstanceBooted(id) => format!("instance {id} is running"),
                Fact::InstanceEnded(id) => format!("instance {id} deleted"),
                Fact::Said(line) if line.contains("instance ready") => {
                    let id = line.find("i-").and_then(|at| line.get(at..at + 19));
                    format!("instance {} is ready", id.unwrap_or("(unnamed)"))
                }
                Fact::Violation(text) => format!("PROBLEM: {text}"),
                _ => continue,
            };
            self.line(entry.at, &text);
        }
    }

    fn job(&self, id: JobId, what: &str) -> String {
        let name = self.names.get(&id).map_or("", String::as_str);
        format!("job {id} ({name}) {what}")
    }

    fn line(&self, at: Instant, text: &str) {
        println!("{:7.2} s  {text}", (at - self.begun).as_secs_f32());
    }
}

/// Prints it and returns how many jobs did not end as expected.
fn table(records: &[JobRecord], expected: &[Expected]) -> usize {
    let mut wrong = 0;
    println!(
        "\n{:<28} {:<20} {:>8} {:>8}  result",
        "job", "instance", "waited", "ran"
    );
    for (record, expected) in records.iter().zip(expected) {
        let instance = record.instance();
        let first = record.shown_at(&greeting(record.id));
        let waited = first.map(|at| at - record.queued_at);
        let ran = first.and_then(|at| Some(record.ended_at? - at));
        let seconds = |time: Option<Duration>| {
            time.map_or("-".to_owned(), |t| format!("{:.1} s", t.as_secs_f32()))
        };
        let as_expected = record.state == expected.state
            && (expected.exit_code.is_none() || record.exit_code == expected.exit_code)
            && (expected.reason.is_none() || record.failure_reason.as_deref() == expected.reason)
            && record.log().contains(expected.shows)
            && instance.is_some();
        let reason = record
            .failure_reason
            .as_deref()
            .map(|reason| format!(" ({reason})"));
        let mark = if as_expected {
            "as expected"
        } else {
            "NOT as expected"
        };
        println!(
            "{:<28} {:<20} {:>8} {:>8}  {}{}, {mark}",
            format!("{} {}", record.id, record.name),
            instance.as_deref().unwrap_or("-"),
            seconds(waited),
            seconds(ran),
            record.state,
            reason.unwrap_or_default(),
        );
        if !as_expected {
            wrong += 1;
            println!("--- its log\n{}\n---", last_lines(&record.log(), 30));
        }
    }
    wrong
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
