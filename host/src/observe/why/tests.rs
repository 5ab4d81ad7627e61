//! Stories out of entries: what is told, what is left out, and how it stood at a time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;

use super::*;
use crate::observe::journal::{Asked, Numbers};

fn at(clock: &str) -> Timestamp {
    format!("2026-11-25T{clock}Z").parse().unwrap()
}

fn entry(clock: &str, event: Event) -> Entry {
    Entry::new(at(clock), "x", Some("aws/eu-west-1/asg"), event)
}

fn decided(clock: &str, decision: &str, text: &str, instances: &[&str], waiting: u32) -> Entry {
    let event = Event::Decided {
        decision: decision.into(),
        reason: "counted".into(),
        text: text.into(),
        instances: instances.iter().map(|id| (*id).to_owned()).collect(),
        numbers: Numbers {
            in_use: 1,
            waiting,
            reserved: 1,
            idle_target: 0,
            instances: 1,
            coming: 2,
            max_instances: Some(10),
        },
    };
    entry(clock, event)
}

/// Job 122 runs; job 123 needs a new instance, i-2; job 124 comes much later.
fn journal() -> Vec<Entry> {
    let (id, i) = (|| "i-2".to_owned(), |id: &str| id.to_owned());
    let refused = Entry {
        until: Some(at("10:00:09")),
        times: 4,
        ..decided(
            "10:00:00",
            "refuse",
            "ask GitLab for no job: the instance group was not read yet",
            &[],
            0,
        )
    };
    let received = |clock, job, queued| {
        let queued_ms = Some(queued);
        entry(clock, Event::JobReceived { job, queued_ms })
    };
    vec![
        entry("09:00:00", Event::InstanceGone { instance: i("i-0") }),
        refused,
        received("10:00:11", 122, 3),
        received("10:00:12", 123, 5_000),
        decided(
            "10:00:12",
            "increase",
            "ask for 1 more: jobs wait for a slot",
            &[],
            1,
        ),
        entry("10:00:13", Event::InstancesRequested { count: 1 }),
        decided(
            "10:00:14",
            "hold",
            "ask for no instance although jobs wait: enough instances were asked for and are not ready yet",
            &[],
            1,
        ),
        entry(
            "10:00:20",
            Event::InstanceListed {
                instance: id(),
                cause: "requested".into(),
                adopted: false,
                asked: Some(Asked {
                    at: at("10:00:12"),
                    text: "ask for 1 more: jobs wait for a slot".into(),
                }),
            },
        ),
        entry("10:00:25", Event::InstanceRunning { instance: id() }),
        entry(
            "10:00:31",
            Event::InstanceReady {
                instance: id(),
                after_ms: 11_000,
            },
        ),
        entry(
            "10:00:31",
            Event::JobAcquired {
                job: 123,
                instance: id(),
                slot: 0,
                waited_ms: 19_000,
            },
        ),
        decided(
            "10:01:00",
            "increase",
            "ask for 1 more: jobs wait for a slot",
            &[],
            1,
        ),
        entry(
            "10:02:31",
            Event::JobEnded {
                job: 123,
                outcome: "failed".into(),
                reason: Some("script_failure".into()),
                exit_code: Some(3),
                ran_ms: 139_000,
            },
        ),
        entry(
            "10:02:33",
            Event::JobReleased {
                job: 123,
                instance: id(),
                retired: None,
            },
        ),
        decided(
            "10:02:33",
            "remove",
            "remove i-2: max_use_count reached",
            &["i-2"],
            0,
        ),
        entry(
            "10:02:33",
            Event::InstanceRemoving {
                instance: id(),
                reason: "max_use_count reached".into(),
            },
        ),
        entry("10:02:50", Event::InstanceGone { instance: id() }),
        received("11:00:00", 124, 0),
    ]
}

fn told(subject: &Subject, clock: Option<&str>) -> String {
    let stories = stories(&journal(), subject, clock.map(at));
    text(subject, &stories, &TimeZone::UTC)
}

#[test]
fn a_job_is_told_from_queue_to_end() {
    insta::assert_snapshot!(told(&Subject::Job(123), None), @r#"
    job 123 of runner "x", group aws/eu-west-1/asg
      2026-11-25 10:00:00 decided to ask GitLab for no job: the instance group was not read yet (1 in use, 0 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10); 4 times until 2026-11-25 10:00:09
      2026-11-25 10:00:12 job 123 received from GitLab, in whose queue it was for 5 s
      2026-11-25 10:00:12 decided to ask for 1 more: jobs wait for a slot (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:13 the cloud accepted 1 more
      2026-11-25 10:00:14 decided to ask for no instance although jobs wait: enough instances were asked for and are not ready yet (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:20 i-2 listed by the cloud (requested); it came of the decision to ask for 1 more: jobs wait for a slot
      2026-11-25 10:00:25 i-2 running; it is made ready
      2026-11-25 10:00:31 i-2 ready, 11 s after it was listed
      2026-11-25 10:00:31 job 123 got slot 0 of i-2 after 19 s
      2026-11-25 10:02:31 job 123 ended after 2 min 19 s: failed, script_failure, exit code 3
      2026-11-25 10:02:33 job 123 left i-2
      2026-11-25 10:02:33 decided to remove i-2: max_use_count reached (1 in use, 0 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:02:50 i-2 gone
    "#);
}

#[test]
fn an_instance_is_told_from_its_cause_to_its_removal() {
    insta::assert_snapshot!(told(&Subject::Instance("i-2".into()), None), @r#"
    instance i-2 of runner "x", group aws/eu-west-1/asg
      2026-11-25 10:00:20 i-2 listed by the cloud (requested); it came of the decision to ask for 1 more: jobs wait for a slot
      2026-11-25 10:00:25 i-2 running; it is made ready
      2026-11-25 10:00:31 i-2 ready, 11 s after it was listed
      2026-11-25 10:00:31 job 123 got slot 0 of i-2 after 19 s
      2026-11-25 10:02:31 job 123 ended after 2 min 19 s: failed, script_failure, exit code 3
      2026-11-25 10:02:33 job 123 left i-2
      2026-11-25 10:02:33 decided to remove i-2: max_use_count reached (1 in use, 0 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:02:50 i-2 gone
    "#);
}

#[test]
fn a_time_shows_the_state_and_the_decision_before_it() {
    insta::assert_snapshot!(told(&Subject::Job(123), Some("10:00:22")), @r#"
    job 123 of runner "x", group aws/eu-west-1/asg
      at 2026-11-25 10:00:22: waiting for a slot, for 10 s
      last decision before: 2026-11-25 10:00:14 decided to ask for no instance although jobs wait: enough instances were asked for and are not ready yet (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:00 decided to ask GitLab for no job: the instance group was not read yet (1 in use, 0 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10); 4 times until 2026-11-25 10:00:09
      2026-11-25 10:00:12 job 123 received from GitLab, in whose queue it was for 5 s
      2026-11-25 10:00:12 decided to ask for 1 more: jobs wait for a slot (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:13 the cloud accepted 1 more
      2026-11-25 10:00:14 decided to ask for no instance although jobs wait: enough instances were asked for and are not ready yet (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:20 i-2 listed by the cloud (requested); it came of the decision to ask for 1 more: jobs wait for a slot
    "#);
    insta::assert_snapshot!(told(&Subject::Instance("i-2".into()), Some("10:01:30")), @r#"
    instance i-2 of runner "x", group aws/eu-west-1/asg
      at 2026-11-25 10:01:30: in use by job 123
      last decision before: 2026-11-25 10:01:00 decided to ask for 1 more: jobs wait for a slot (1 in use, 1 waiting, 1 reserved, 0 wanted idle; 1 instances and 2 coming of 10)
      2026-11-25 10:00:20 i-2 listed by the cloud (requested); it came of the decision to ask for 1 more: jobs wait for a slot
      2026-11-25 10:00:25 i-2 running; it is made ready
      2026-11-25 10:00:31 i-2 ready, 11 s after it was listed
      2026-11-25 10:00:31 job 123 got slot 0 of i-2 after 19 s
    "#);
    let early = told(&Subject::Job(123), Some("08:00:00"));
    assert!(early.contains("not received from GitLab yet"), "{early}");
    assert!(early.contains("none in the journal"), "{early}");
}

#[test]
fn one_number_at_two_runners_is_two_stories() {
    let mut entries = journal();
    let other = Entry {
        runner: "y".into(),
        ..entries[3].clone()
    };
    entries.push(other);
    let stories = stories(&entries, &Subject::Job(123), None);
    let runners: Vec<_> = stories.iter().map(|story| story.runner.as_str()).collect();
    assert_eq!(runners, ["x", "y"]);
    assert_eq!(stories[1].entries.len(), 1, "nothing of x: {stories:?}");
}

#[test]
fn what_is_unknown_has_no_story() {
    assert_eq!(stories(&journal(), &Subject::Job(9), None), []);
    let nobody = Subject::Instance("i-9".into());
    assert_eq!(stories(&journal(), &nobody, Some(at("10:00:00"))), []);
}

#[test]
fn a_machine_reads_the_same_entries() {
    let stories = stories(&journal(), &Subject::Job(124), None);
    let json = serde_json::to_string(&stories).unwrap();
    insta::assert_snapshot!(json, @r#"
    [{"runner":"x","group":"aws/eu-west-1/asg","entries":[{"at":"2026-11-25T11:00:00Z","runner":"x","group":"aws/eu-west-1/asg","event":"job_received","job":124,"queued_ms":0}]}]
    "#);
}
