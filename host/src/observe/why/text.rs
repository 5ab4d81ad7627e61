//! Stories for people: a line an entry, with the time where the reader is; pure.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Story, Subject};
use crate::observe::journal::{Entry, Event, Numbers};

/// All stories of `subject`, one after the other.
pub fn text(subject: &Subject, stories: &[Story], zone: &TimeZone) -> String {
    let mut out = String::new();
    for (n, story) in stories.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let group = story.group.as_deref();
        let group = group.map_or_else(String::new, |group| format!(", group {group}"));
        let _ = writeln!(out, "{subject} of runner \"{}\"{group}", story.runner);
        if let Some(then) = &story.then {
            let at = time(then.at, zone);
            let _ = writeln!(out, "  at {at}: {}", then.state);
            let _ = match &then.last_decision {
                Some(decision) => writeln!(
                    out,
                    "  last decision before: {} {}",
                    time(decision.at, zone),
                    line(decision, zone)
                ),
                None => writeln!(out, "  last decision before: none in the journal"),
            };
        }
        for entry in &story.entries {
            let _ = writeln!(out, "  {} {}", time(entry.at, zone), line(entry, zone));
        }
    }
    out
}

fn line(entry: &Entry, zone: &TimeZone) -> String {
    let sentence = sentence(&entry.event);
    match entry.until {
        Some(until) => format!(
            "{sentence}; {} times until {}",
            entry.times,
            time(until, zone)
        ),
        None => sentence,
    }
}

/// What an event says.
pub(super) fn sentence(event: &Event) -> String {
    match event {
        Event::ManagerStarted { version } => format!("manager {version} started"),
        Event::ManagerStopped => "manager stopped".to_owned(),
        Event::Lost { entries } => format!("{entries} entries are missing here"),
        Event::Decided { text, numbers, .. } => {
            format!("decided to {text} ({})", taken_on(numbers))
        }
        Event::InstancesRequested { count } => format!("the cloud accepted {count} more"),
        Event::RequestRefused { problem } => format!("the cloud refused instances: {problem}"),
        Event::Problem { problem } => format!("the group has a problem: {problem}"),
        Event::ProblemEnded => "the group's problem ended".to_owned(),
        Event::InstanceListed {
            instance,
            cause,
            adopted,
            asked,
        } => {
            let known = if *adopted {
                ", known from before the manager's start"
            } else {
                ""
            };
            let asked = asked.as_ref().map_or_else(String::new, |asked| {
                format!("; it came of the decision to {}", asked.text)
            });
            format!("{instance} listed by the cloud ({cause}{known}){asked}")
        }
        Event::InstanceRunning { instance } => format!("{instance} running; it is made ready"),
        Event::InstanceReady { instance, after_ms } => {
            format!(
                "{instance} ready, {} after it was listed",
                millis(*after_ms)
            )
        }
        Event::InstanceQuarantined { instance } => {
            format!("{instance} set aside: another manager's jobs run there")
        }
        Event::InstanceRemoving { instance, reason } => format!("{instance} is removed: {reason}"),
        Event::InstanceGone { instance } => format!("{instance} gone"),
        Event::JobReceived { job, queued_ms } => {
            let queued = queued_ms.map_or_else(String::new, |queued| {
                format!(", in whose queue it was for {}", millis(queued))
            });
            format!("job {job} received from GitLab{queued}")
        }
        Event::JobNotTaken { job, why } => format!("job {job} not taken: {why}"),
        Event::JobAcquired {
            job,
            instance,
            slot,
            waited_ms,
        } => format!(
            "job {job} got slot {slot} of {instance} after {}",
            millis(*waited_ms)
        ),
        Event::JobNotServed {
            job,
            why,
            waited_ms,
        } => format!("job {job} got no slot in {}: {why}", millis(*waited_ms)),
        Event::JobEnded {
            job,
            outcome,
            reason,
            exit_code,
            ran_ms,
        } => {
            let mut out = format!("job {job} ended after {}: {outcome}", millis(*ran_ms));
            if let Some(reason) = reason {
                let _ = write!(out, ", {reason}");
            }
            if let Some(code) = exit_code {
                let _ = write!(out, ", exit code {code}");
            }
            out
        }
        Event::JobReleased {
            job,
            instance,
            retired,
        } => match retired {
            Some(why) => format!("job {job} left {instance}, which is not used again: {why}"),
            None => format!("job {job} left {instance}"),
        },
        Event::Unknown => "something that another version wrote".to_owned(),
    }
}

fn taken_on(numbers: &Numbers) -> String {
    let max = numbers.max_instances;
    let max = max.map_or_else(|| "unlimited".to_owned(), |max| max.to_string());
    format!(
        "{} in use, {} waiting, {} reserved, {} wanted idle; {} instances and {} coming of {max}",
        numbers.in_use,
        numbers.waiting,
        numbers.reserved,
        numbers.idle_target,
        numbers.instances,
        numbers.coming
    )
}

fn time(at: Timestamp, zone: &TimeZone) -> String {
    let local = zone.to_datetime(at);
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn millis(millis: u64) -> String {
    span(SignedDuration::from_millis(
        i64::try_from(millis).unwrap_or(i64::MAX),
    ))
}

/// As a person says it: two units at most.
pub(in crate::observe) fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{} ms", span.subsec_millis().max(0)),
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
