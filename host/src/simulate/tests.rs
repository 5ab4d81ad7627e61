//! Small replays told in full, the proof week, and the same traces by an oracle that knows nothing of the ledger.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::boot::Boot;
use super::figures::Figures;
use super::recommend::{Recommendation, Target, recommend};
use super::replay::{Fate, Job, Outcome, replay};
use super::report::{self, Replayed};
use super::scenario::{Pace, Scenario};
use super::{chart, proof, trace};
use crate::config::check::check;

mod oracle;

/// The scenario of a configuration whose runners each have these lines below `[runners.autoscaler]`.
fn scenario(top: &str, runners: &[(&str, &str)], boot: u64) -> Scenario {
    let mut text = format!("check_interval = 3\n{top}\n");
    for (name, lines) in runners {
        text.push_str(&format!(
            "[[runners]]\nname = \"{name}\"\nurl = \"https://gitlab.example\"\ntoken = \"t\"\nshell = \"sh\"\n\
             executor = \"docker-autoscaler\"\n[runners.docker]\nimage = \"busybox\"\n[runners.autoscaler]\n\
             plugin = \"aws\"\n{lines}\n"
        ));
    }
    let loaded = check(Path::new("config.toml"), &text, &|_| None, &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    })
    .unwrap();
    assert_eq!(loaded.problems, []);
    let pace = Pace {
        boot: Boot {
            median: Duration::from_secs(boot),
            spread: 0.0,
            seed: 1,
        },
        connect: Duration::from_secs(3),
        deletion: Duration::from_secs(30),
    };
    let start = "2026-01-05T00:00:00Z".parse().unwrap();
    Scenario::of(&loaded.config, pace, start, TimeZone::UTC)
}

/// Arrival, duration and runner, in seconds.
fn jobs(jobs: &[(u64, u64, usize)]) -> Vec<Job> {
    let jobs = (2..)
        .zip(jobs)
        .map(|(line, (arrival, duration, runner))| Job {
            arrival: Duration::from_secs(*arrival),
            duration: Duration::from_secs(*duration),
            runner: *runner,
            line,
        });
    jobs.collect()
}

fn play(scenario: &Scenario, jobs: &[Job]) -> Outcome {
    replay(scenario, jobs, Instant::now()).unwrap()
}

fn waits(jobs: &[Job], outcome: &Outcome) -> Vec<Option<u64>> {
    let waits = jobs
        .iter()
        .zip(&outcome.fates)
        .map(|(job, fate)| match fate {
            Fate::Started(at) => Some((*at - job.arrival).as_secs()),
            Fate::GivenUp(_) | Fate::NotTaken => None,
        });
    waits.collect()
}

fn told(scenario: &Scenario, jobs: &[Job]) -> String {
    let replayed = Replayed {
        config: "config.toml".to_owned(),
        outcome: play(scenario, jobs),
        jobs: jobs.to_vec(),
    };
    report::text(&[replayed], true)
}

const ONE_USE: &str = "capacity_per_instance = 1\nmax_use_count = 1\nmax_instances = 3";

#[test]
fn a_small_trace_in_full() {
    let scenario = scenario("concurrent = 10", &[("small", ONE_USE)], 45);
    let jobs = jobs(&[
        (0, 60, 0),
        (0, 60, 0),
        (100, 30, 0),
        (100, 30, 0),
        (101, 900, 0),
    ]);
    insta::assert_snapshot!(told(&scenario, &jobs), @r#"
                       config.toml
    jobs                         5
      served                     5
      given up                   0
      not taken                  0
    wait p50                   51s
    wait p90                 1m31s
    wait p95                 1m31s
    wait p99                 1m31s
    wait max                 1m31s
    instance hours            0.41
      boot                    0.07
      idle                    0.00
      run                     0.30
      drain                   0.05
    utilisation              72.6%
    peak of instances            3
    instances made               5
    decisions                    7

    config.toml: 18m43s until every fleet was at rest

    decisions for "small":
      time  in use  waiting  instances  change  reason
        0s       0        2          0      +2  jobs wait for a slot
     1m42s       2        1          2      +1  jobs wait for a slot
     1m49s       0        1          3      -2  instances are used up, surplus or broken
     2m22s       0        3          1      +2  jobs wait for a slot
      3m1s       0        2          3      -1  instances are used up, surplus or broken
     3m41s       1        0          2      -1  instances are used up, surplus or broken
    18m11s       0        0          1      -1  instances are used up, surplus or broken
    "#);
}

#[test]
fn several_runners_stand_beside_each_other() {
    let idle =
        format!("{ONE_USE}\n[[runners.autoscaler.policy]]\nidle_count = 1\nidle_time = \"1m\"");
    let scenario = scenario("concurrent = 10", &[("cold", ONE_USE), ("warm", &idle)], 45);
    let jobs = jobs(&[(200, 60, 0), (200, 60, 1), (400, 5, 1)]);
    insta::assert_snapshot!(told(&scenario, &jobs), @r#"
                       config.toml   cold   warm
    jobs                         3      1      2
      served                     3      1      2
      given up                   0      0      0
      not taken                  0      0      0
    wait p50                    2s    50s     1s
    wait p90                   50s    50s     2s
    wait p95                   50s    50s     2s
    wait p99                   50s    50s     2s
    wait max                   50s    50s     2s
    instance hours            0.20   0.04   0.16
      boot                    0.05   0.01   0.04
      idle                    0.08   0.00   0.08
      run                     0.03   0.02   0.02
      drain                   0.03   0.01   0.02
    utilisation              17.3%  42.6%  11.2%
    peak of instances            3      1      2
    instances made               4      1      3
    decisions                    7      2      5

    config.toml: 7m30s until every fleet was at rest

    decisions for "cold":
     time  in use  waiting  instances  change  reason
    3m21s       0        1          0      +1  jobs wait for a slot
    5m10s       0        0          1      -1  instances are used up, surplus or broken

    decisions for "warm":
     time  in use  waiting  instances  change  reason
       0s       0        0          0      +1  fewer slots are idle than the policy wants
    3m22s       1        0          1      +1  fewer slots are idle than the policy wants
    4m22s       0        0          2      -1  instances are used up, surplus or broken
    6m41s       1        0          1      +1  fewer slots are idle than the policy wants
    6m46s       0        0          2      -1  instances are used up, surplus or broken
    "#);
}

#[test]
fn an_idle_instance_serves_at_the_next_request_for_jobs() {
    let idle = "max_use_count = 0\n[[runners.autoscaler.policy]]\nidle_count = 1";
    let scenario = scenario("concurrent = 10", &[("warm", idle)], 45);
    let jobs = jobs(&[(300, 60, 0)]);
    let waits = waits(&jobs, &play(&scenario, &jobs));
    assert!(waits[0].is_some_and(|wait| wait < 3), "{waits:?}");
}

#[test]
fn nobody_waits_longer_than_the_acquire_timeout() {
    let patient = "max_instances = 1\ninstance_acquire_timeout = \"2m\"";
    let scenario = scenario("concurrent = 10", &[("small", patient)], 118);
    let jobs = jobs(&[(0, 10, 0), (200, 10, 0)]);
    let outcome = play(&scenario, &jobs);
    assert_eq!(outcome.fates[0], Fate::GivenUp(Duration::from_secs(120)));
    assert!(waits(&jobs, &outcome)[1].is_some());
    let told = told(&scenario, &jobs);
    assert!(
        told.contains(
            "1 given up after instance_acquire_timeout without a slot: lines 2 of the trace"
        ),
        "{told}"
    );
}

#[test]
fn what_boots_for_longer_than_a_job_waits_is_given_up() {
    let scenario = scenario("concurrent = 10", &[("small", ONE_USE)], 1200);
    let jobs = jobs(&[(0, 10, 0)]);
    let outcome = play(&scenario, &jobs);
    assert_eq!(outcome.fates[0], Fate::GivenUp(Duration::from_secs(900)));
    let last = outcome.fleets[0].decisions.last().unwrap();
    assert_eq!((last.at.as_secs(), last.remove), (902, 1));
    assert!(
        outcome.span < Duration::from_secs(1000),
        "{:?}",
        outcome.span
    );
}

#[test]
fn a_policy_that_never_asks_ends_and_is_told() {
    let never = "[[runners.autoscaler.policy]]\npreemptive_mode = true";
    let scenario = scenario("concurrent = 10", &[("never", never)], 45);
    let jobs = jobs(&[(10, 10, 0)]);
    assert_eq!(play(&scenario, &jobs).fates, [Fate::NotTaken]);
    let told = told(&scenario, &jobs);
    assert!(told.contains("1 not taken from GitLab"), "{told}");
    assert!(told.contains("never"), "{told}");
}

#[test]
fn periods_hold_by_the_clock_of_the_simulation() {
    let night = "[[runners.autoscaler.policy]]\n[[runners.autoscaler.policy]]\nperiods = [\"* 1 * * *\"]\ntimezone = \"UTC\"\nidle_count = 2";
    let scenario = scenario("concurrent = 10", &[("night", night)], 45);
    // One job before the hour, one within it.
    let jobs = jobs(&[(600, 10, 0), (4500, 10, 0)]);
    let outcome = play(&scenario, &jobs);
    let waits = waits(&jobs, &outcome);
    assert!(
        waits[0].unwrap() >= 45 && waits[1].unwrap() < 3,
        "{waits:?}"
    );
    let first = outcome.fleets[0]
        .decisions
        .iter()
        .find(|d| d.increase == 2)
        .unwrap();
    assert_eq!(first.at, Duration::from_secs(3600));
}

#[test]
fn policies_that_take_turns_for_ever_end_too() {
    let turns = "max_instances = 3\n[[runners.autoscaler.policy]]\nidle_count = 2\nidle_time = \"7s\"\n\
                 [[runners.autoscaler.policy]]\nperiods = [\"*/2 * * * *\"]\nidle_time = \"7s\"";
    let scenario = scenario("concurrent = 10", &[("turns", turns)], 90);
    let jobs = jobs(&[(0, 10, 0)]);
    let outcome = play(&scenario, &jobs);
    assert!(matches!(outcome.fates[0], Fate::Started(_)));
    assert!(
        outcome.span <= Duration::from_secs(24 * 3600 + 60),
        "{:?}",
        outcome.span
    );
}

#[test]
fn concurrent_and_limit_hold() {
    let runners = [("a", "max_instances = 50"), ("b", "max_instances = 50")];
    for (top, most) in [("concurrent = 2", 2), ("concurrent = 50", 11)] {
        let mut scenario = scenario(top, &runners, 45);
        scenario.runners[0].limit = 1;
        let all: Vec<_> = (0..20).map(|n| (0, 100, n % 2)).collect();
        let jobs = jobs(&all);
        let outcome = play(&scenario, &jobs);
        let running = |at: u64, runner: Option<usize>| {
            let at = Duration::from_secs(at);
            let running = jobs.iter().zip(&outcome.fates).filter(|(job, fate)| {
                runner.is_none_or(|runner| job.runner == runner)
                    && matches!(fate, Fate::Started(from) if *from <= at && at < *from + job.duration)
            });
            running.count()
        };
        let end = outcome.span.as_secs();
        assert_eq!((0..end).map(|at| running(at, Some(0))).max(), Some(1));
        assert_eq!((0..end).map(|at| running(at, None)).max(), Some(most));
    }
}

#[test]
fn no_jobs_are_a_simulation_too() {
    let scenario = scenario("concurrent = 10", &[("small", ONE_USE)], 45);
    let told = told(&scenario, &[]);
    assert!(
        told.contains("utilisation") && !told.contains("NaN"),
        "{told}"
    );
}

#[test]
fn json_and_chart_tell_the_same() {
    let scenario = scenario("concurrent = 10", &[("small <1>", ONE_USE)], 45);
    let jobs = jobs(&[(0, 60, 0), (100, 30, 0)]);
    let replayed = || Replayed {
        config: "config.toml".to_owned(),
        outcome: play(&scenario, &jobs),
        jobs: jobs.clone(),
    };
    let json = report::json(&[replayed()], true);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let one = &json["simulations"][0];
    let figures = Figures::of_all(&jobs, &replayed().outcome);
    assert_eq!(one["all"]["served"], 2);
    assert_eq!(one["all"]["peak_instances"], figures.peak);
    assert_eq!(one["runners"][0]["name"], "small <1>");
    let decisions = one["runners"][0]["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), figures.decisions);
    assert_eq!(decisions[0]["reason"], "jobs wait for a slot");
    let svg = chart::svg(&[replayed(), replayed()]);
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert!(svg.contains("small &lt;1&gt;") && svg.ends_with("</svg>\n"));
}

fn recommended(lines: &str, p95: u64, all: &[(u64, u64, usize)]) -> (Scenario, Recommendation) {
    let scenario = scenario("concurrent = 100", &[("small", lines)], 45);
    let target = Target {
        runner: 0,
        p95: Duration::from_secs(p95),
    };
    let recommendation = recommend(&scenario, &jobs(all), target, Instant::now()).unwrap();
    (scenario, recommendation)
}

fn steady() -> Vec<(u64, u64, usize)> {
    (0..80).map(|n| (300 + n * 45, 100, 0)).collect()
}

#[test]
fn what_is_recommended_does_what_it_says_and_pastes() {
    let wasteful =
        "max_instances = 50\n[[runners.autoscaler.policy]]\nidle_count = 40\nidle_time = \"30m\"";
    let (_, recommendation) = recommended(wasteful, 10, &steady());
    let toml = recommendation.toml();
    let found = recommendation.found.unwrap();
    assert!(
        found.figures.total() < recommendation.configured.total() / 4,
        "{toml}"
    );
    let pasted = scenario(
        "concurrent = 100",
        &[("small", &format!("max_instances = 50\n{toml}"))],
        45,
    );
    let jobs = jobs(&steady());
    let again = Figures::of_all(&jobs, &play(&pasted, &jobs));
    assert_eq!(again.total(), found.figures.total(), "{toml}");
    assert!(
        again.waits.percentile(95).unwrap() <= Duration::from_secs(10),
        "{toml}"
    );
}

#[test]
fn what_limits_every_policy_is_named() {
    let burst: Vec<_> = (0..40).map(|_| (300, 600, 0)).collect();
    let (_, few) = recommended("max_instances = 5", 30, &burst);
    assert!(few.found.is_none());
    assert_eq!(few.limits, ["max_instances"]);
    assert!(
        few.toml().contains("# what limits: max_instances"),
        "{}",
        few.toml()
    );
    let at_once: Vec<_> = (0..40).map(|_| (0, 600, 0)).collect();
    let (_, cold) = recommended("max_instances = 50", 30, &at_once);
    assert_eq!(cold.limits, ["the boot time of instances"]);
}

#[test]
fn the_proof_week_is_served_with_eight_thousand_instances() {
    let lines = "max_use_count = 1\nmax_instances = 12000\n[[runners.autoscaler.policy]]\nidle_count = 20\nidle_time = \"10m\"\npreemptive_mode = false";
    let scenario = scenario("concurrent = 12000", &[("week", lines)], 45);
    let jobs = proof::week();
    assert_eq!(jobs.len(), 110_000);
    let half_hours: Vec<_> = jobs
        .iter()
        .filter(|j| j.duration.as_secs() == 1800)
        .collect();
    assert_eq!(half_hours.len(), 10_000);
    let within = half_hours[9_999].arrival - half_hours[0].arrival;
    assert!(within <= Duration::from_secs(20 * 60));
    // Written and read again it is the same trace.
    let read = trace::read(Path::new("week.csv"), &trace::write(&jobs), &["week"], 0).unwrap();
    assert_eq!(read, jobs);
    let outcome = play(&scenario, &jobs);
    let figures = Figures::of_all(&jobs, &outcome);
    assert_eq!(figures.served, 110_000);
    assert!(outcome.fleets[0].history.longest_with(8_000) >= Duration::from_secs(15 * 60));
    insta::assert_snapshot!(
        report::text(&[Replayed { config: "week.toml".to_owned(), jobs, outcome }], false),
        @"
                       week.toml
    jobs                  110000
      served              110000
      given up                 0
      not taken                0
    wait p50                1.7s
    wait p90               10.9s
    wait p95               47.6s
    wait p99               49.1s
    wait max               50.8s
    instance hours      16309.41
      boot               1483.24
      idle               2018.12
      run               11799.26
      drain              1008.79
    utilisation            72.3%
    peak of instances      10134
    instances made        110020
    decisions             174074

    week.toml: 168h8m26.4s until every fleet was at rest
    "
    );
}
