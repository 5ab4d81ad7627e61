//! The story of one job or one instance, out of the journal; pure.
//!
//! A job's story has what was decided for its runner while it waited, and the life of the instance it got; an
//! instance's has what asked for it, its jobs, and what removed it.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::journal::{Entry, Event};

mod moment;
mod text;

pub use moment::{BadTime, moment};
pub(super) use text::span;
pub use text::text;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Job(u64),
    Instance(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Instance(id) => write!(f, "instance {id}"),
        }
    }
}

/// What the journal tells of a subject at one runner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    pub runner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How things stood at the time that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// In order; only those before the time that was asked about.
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Then {
    pub at: Timestamp,
    pub state: String,
    /// The runner's last before that time, for whomever it was.
    pub last_decision: Option<Entry>,
}

/// The stories of `subject`, one a runner: two GitLabs may have given jobs one number, two clouds instances one name.
/// `entries` are in order.
pub fn stories(entries: &[Entry], subject: &Subject, at: Option<Timestamp>) -> Vec<Story> {
    let is_of = |entry: &&Entry| match subject {
        Subject::Job(id) => entry.event.job() == Some(*id),
        Subject::Instance(id) => entry.event.concerns(id),
    };
    let runners: BTreeSet<&str> = entries
        .iter()
        .filter(is_of)
        .map(|entry| entry.runner.as_str())
        .collect();
    let told = |runner: &str| {
        let of_runner = |entry: &&Entry| entry.runner == runner;
        let all: Vec<&Entry> = entries.iter().filter(of_runner).collect();
        let mut chosen = match subject {
            Subject::Job(id) => of_job(&all, *id),
            Subject::Instance(id) => of_instance(&all, id),
        };
        chosen.retain(|entry| at.is_none_or(|at| entry.at <= at));
        let then = at.map(|at| Then {
            at,
            state: match subject {
                Subject::Job(id) => job_state(&chosen, *id, at),
                Subject::Instance(id) => instance_state(&chosen, id),
            },
            last_decision: all
                .iter()
                .rfind(|entry| entry.at <= at && matches!(entry.event, Event::Decided { .. }))
                .map(|entry| (*entry).clone()),
        });
        Story {
            runner: runner.to_owned(),
            group: all
                .iter()
                .filter(|entry| is_of(entry))
                .find_map(|entry| entry.group.clone()),
            then,
            entries: chosen.into_iter().cloned().collect(),
        }
    };
    runners.into_iter().map(told).collect()
}

fn of_job<'a>(all: &[&'a Entry], id: u64) -> Vec<&'a Entry> {
    let own = |entry: &&&Entry| entry.event.job() == Some(id);
    let Some(first) = all.iter().find(own) else {
        return Vec::new();
    };
    let queued = match first.event {
        Event::JobReceived { queued_ms, .. } => queued_ms.unwrap_or(0),
        _ => 0,
    };
    let queued = SignedDuration::from_millis(i64::try_from(queued).unwrap_or(0));
    let since = first.at.checked_sub(queued).unwrap_or(first.at);
    // Until it had its slot or would never have one; still waiting, it is told everything.
    let waited = all.iter().filter(own).find(|entry| {
        !matches!(
            entry.event,
            Event::JobReceived { .. } | Event::JobNotTaken { .. }
        )
    });
    let until = waited.map(|entry| entry.at);
    let instance = all.iter().filter(own).find_map(|entry| match &entry.event {
        Event::JobAcquired { instance, .. } => Some(instance.as_str()),
        _ => None,
    });
    let meanwhile = |entry: &Entry| {
        let overlaps = entry.end() >= since && until.is_none_or(|until| entry.at <= until);
        let in_queue = entry.end() < first.at;
        match &entry.event {
            // In GitLab's queue, only what kept the manager from asking matters.
            Event::Decided { decision, .. } => overlaps && (!in_queue || decision == "refuse"),
            Event::Problem { .. } | Event::ProblemEnded | Event::Lost { .. } => overlaps,
            Event::RequestRefused { .. } | Event::InstancesRequested { .. } => {
                overlaps && !in_queue
            }
            _ => false,
        }
    };
    let of_its_instance = |entry: &Entry| {
        entry.event.job().is_none() && instance.is_some_and(|i| entry.event.concerns(i))
    };
    let chosen = all.iter().copied().filter(|entry| {
        entry.event.job() == Some(id) || meanwhile(entry) || of_its_instance(entry)
    });
    told_once(chosen.collect())
}

fn of_instance<'a>(all: &[&'a Entry], id: &str) -> Vec<&'a Entry> {
    let jobs: BTreeSet<u64> = all
        .iter()
        .filter(|entry| entry.event.concerns(id))
        .filter_map(|entry| entry.event.job())
        .collect();
    let ends = |entry: &Entry| {
        matches!(entry.event, Event::JobEnded { .. })
            && entry.event.job().is_some_and(|job| jobs.contains(&job))
    };
    let chosen = all.iter().copied();
    told_once(chosen.filter(|e| e.event.concerns(id) || ends(e)).collect())
}

/// Our decision to remove an instance tells more than that it is being removed.
fn told_once(mut entries: Vec<&Entry>) -> Vec<&Entry> {
    let decided: BTreeSet<String> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Decided { instances, .. } => Some(instances.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    entries.retain(|entry| match &entry.event {
        Event::InstanceRemoving { instance, .. } => !decided.contains(instance),
        _ => true,
    });
    entries
}

fn job_state(entries: &[&Entry], id: u64, at: Timestamp) -> String {
    let own = entries.iter().filter(|entry| entry.event.job() == Some(id));
    let since = |entry: &Entry| text::span(at.duration_since(entry.at));
    let mut state = "not received from GitLab yet".to_owned();
    for entry in own {
        state = match &entry.event {
            Event::JobReceived { .. } => format!("waiting for a slot, for {}", since(entry)),
            Event::JobAcquired { instance, .. } => {
                format!("running on {instance}, for {}", since(entry))
            }
            Event::JobReleased { .. } => continue,
            over => text::sentence(over),
        };
    }
    state
}

fn instance_state(entries: &[&Entry], id: &str) -> String {
    let mut state = "not listed by the cloud yet".to_owned();
    let mut jobs = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.event.concerns(id)) {
        state = match &entry.event {
            Event::InstanceListed { .. } => "listed by the cloud, not running yet".to_owned(),
            Event::InstanceRunning { .. } => "running, being made ready".to_owned(),
            // A job that waited may have its slot before the fleet's own word is kept.
            Event::InstanceReady { .. } if !jobs.is_empty() => in_use_by(&jobs),
            Event::InstanceReady { .. } => "ready and idle".to_owned(),
            Event::JobAcquired { job, .. } => {
                jobs.insert(*job);
                in_use_by(&jobs)
            }
            Event::JobReleased { job, .. } => {
                jobs.remove(job);
                if jobs.is_empty() {
                    "ready and idle".to_owned()
                } else {
                    in_use_by(&jobs)
                }
            }
            other => text::sentence(other),
        };
    }
    state
}

fn in_use_by(jobs: &BTreeSet<u64>) -> String {
    let jobs: Vec<String> = jobs.iter().map(u64::to_string).collect();
    format!("in use by job {}", jobs.join(", "))
}

#[cfg(test)]
mod tests;
