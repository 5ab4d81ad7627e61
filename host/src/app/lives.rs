//! The lives of one runner's instances: each event of the fleet becomes a metric, an entry of the journal, a row of the
//! status page.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use jiff::Timestamp;

use super::teller::Teller;
use crate::fleet::group::InstanceId;
use crate::fleet::instance::Cause;
use crate::observe::journal::{Asked, Event, Numbers};
use crate::observe::metrics::InstanceTime;
use crate::observe::status::InstanceStatus;
use crate::scaler::capacity::Refusal;
use crate::scaler::{Decided, FleetEvent, NoCapacity, Verdict};

/// Instances that live, and requests that were not seen as instances yet.
#[derive(Default)]
pub(super) struct Lives {
    requested: VecDeque<Request>,
    instances: HashMap<InstanceId, Life>,
    /// The last increase that was decided: what the next accepted request came of.
    increase: Option<Asked>,
}

/// One instance that the group accepted to make.
struct Request {
    at: Instant,
    asked: Option<Asked>,
}

/// The moments of one instance's life that are timed, and what was told of its end.
struct Life {
    requested: Option<Instant>,
    listed: Instant,
    running: Option<Instant>,
    removing: Option<(Instant, String)>,
    /// Nothing was made, so nothing ends: what the cloud could not launch stands in its list for a while.
    never_ran: bool,
    /// Its deletion stands in the audit log.
    deleted: bool,
}

impl Life {
    /// Tells once that it is deleted, and only of what was there: when the cloud agrees, for a manager that stops does
    /// not see it go.
    fn deleted(&mut self, to: &Teller, instance: &InstanceId) {
        if self.never_ran || std::mem::replace(&mut self.deleted, true) {
            return;
        }
        let decided = self.removing.as_ref().map(|(_, reason)| reason.clone());
        if decided.is_some() {
            to.metrics().instances_operated(to.labels(), "delete", 1);
        }
        let reason = decided.unwrap_or_else(|| "it went without the manager's doing".to_owned());
        to.deleted(instance, reason);
    }
}

impl Lives {
    pub(super) fn tell(&mut self, to: &Teller, event: FleetEvent) {
        let (now, at) = (Instant::now(), Timestamp::now());
        let (metrics, of) = (to.metrics(), to.labels());
        let took = |what, since: Option<Instant>| {
            if let Some(since) = since {
                metrics.instance_took(of, what, now - since);
            }
        };
        match event {
            FleetEvent::Decided(decided) => self.decided(to, decided, at),
            FleetEvent::Called { operation } => metrics.group_called(of, operation),
            FleetEvent::Reserved => metrics.slot_operated(of, "reserve"),
            FleetEvent::Unreserved => metrics.slot_operated(of, "unreserve"),
            FleetEvent::Requested { count } => {
                metrics.instances_operated(of, "create", count);
                metrics.scaled(of, "up");
                let asked = || self.increase.clone();
                let requests = (0..count).map(|_| Request {
                    at: now,
                    asked: asked(),
                });
                self.requested.extend(requests);
                to.record(at, Event::InstancesRequested { count });
            }
            FleetEvent::RequestRefused { problem } => {
                to.record(at, Event::RequestRefused { problem });
            }
            FleetEvent::Listed {
                instance,
                cause,
                adopted,
                never_ran,
            } => {
                let ours = cause == Cause::Requested && adopted.is_none();
                let request = ours.then(|| self.requested.pop_front()).flatten();
                let requested = request.as_ref().map(|request| request.at);
                if let Some(problem) = &never_ran {
                    metrics.instances_operated(of, "create_failure", 1);
                    to.failed(&instance, problem.clone());
                } else if ours {
                    let asked = request.as_ref().and_then(|request| request.asked.as_ref());
                    let reason =
                        asked.map_or_else(|| cause.to_string(), |asked| asked.text.clone());
                    to.created(&instance, reason);
                }
                if never_ran.is_none() {
                    took(InstanceTime::Creation, requested);
                }
                let life = Life {
                    requested,
                    listed: now,
                    running: None,
                    removing: None,
                    never_ran: never_ran.is_some(),
                    deleted: false,
                };
                self.instances.insert(instance.clone(), life);
                to.listed(InstanceStatus {
                    id: instance.to_string(),
                    runner: to.runner().to_owned(),
                    state: if never_ran.is_some() {
                        "failed"
                    } else {
                        "starting"
                    },
                    listed_at: at,
                    uses: adopted.unwrap_or(0),
                    jobs: Vec::new(),
                    removed_because: None,
                });
                let event = Event::InstanceListed {
                    instance: instance.to_string(),
                    cause: cause.to_string(),
                    adopted: adopted.is_some(),
                    asked: request.and_then(|request| request.asked),
                };
                to.record(at, event);
            }
            FleetEvent::Missed { .. } => metrics.missed(of),
            FleetEvent::Running { instance } => {
                if let Some(life) = self.instances.get_mut(&instance) {
                    life.running = Some(now);
                    took(InstanceTime::IsRunning, life.requested);
                }
                to.show(&instance, |row| row.state = "preparing");
                let instance = instance.to_string();
                to.record(at, Event::InstanceRunning { instance });
            }
            FleetEvent::Quarantined { instance } => {
                to.show(&instance, |row| row.state = "set aside");
                let instance = instance.to_string();
                to.record(at, Event::InstanceQuarantined { instance });
            }
            FleetEvent::Ready { instance, after } => {
                let running = self.instances.get(&instance).and_then(|life| life.running);
                took(InstanceTime::Readiness, running);
                to.show(&instance, |row| row.state = "ready");
                let event = Event::InstanceReady {
                    instance: instance.to_string(),
                    after_ms: super::monitor::millis(after),
                };
                to.record(at, event);
            }
            FleetEvent::Acquired { instance, .. } => {
                metrics.slot_operated(of, "acquire");
                to.show(&instance, |row| row.uses += 1);
            }
            FleetEvent::Released { .. } => metrics.slot_operated(of, "release"),
            FleetEvent::Removing { instance, reason } => {
                if let Some(life) = self.instances.get_mut(&instance) {
                    life.removing = Some((now, reason.clone()));
                    if !life.never_ran {
                        metrics.scaled(of, "down");
                    }
                }
                to.show(&instance, |row| {
                    row.state = "removing";
                    row.removed_because = Some(reason.clone());
                });
                let instance = instance.to_string();
                to.record(at, Event::InstanceRemoving { instance, reason });
            }
            FleetEvent::RemovalAccepted { instance } => {
                if let Some(life) = self.instances.get_mut(&instance) {
                    life.deleted(to, &instance);
                }
            }
            FleetEvent::Gone { instance } => {
                if let Some(mut life) = self.instances.remove(&instance) {
                    life.deleted(to, &instance);
                    if !life.never_ran {
                        took(
                            InstanceTime::Deletion,
                            life.removing.map(|(since, _)| since),
                        );
                        took(InstanceTime::Life, Some(life.listed));
                    }
                }
                to.gone(&instance);
                let instance = instance.to_string();
                to.record(at, Event::InstanceGone { instance });
            }
        }
    }

    fn decided(&mut self, to: &Teller, decided: Decided, at: Timestamp) {
        let Decided {
            verdict,
            numbers,
            again,
        } = decided;
        let (decision, reason) = (verdict.decision(), verdict.reason());
        if !again {
            to.metrics().decided(to.labels(), decision, reason);
        }
        if let Verdict::Refuse(why) = &verdict {
            to.metrics().slot_operated(to.labels(), failure(why));
        }
        let text = verdict.to_string();
        if matches!(verdict, Verdict::Increase(..)) {
            let text = text.clone();
            self.increase = Some(Asked { at, text });
        }
        let instances = match verdict {
            Verdict::Remove(instances, _) => instances,
            Verdict::Increase(..) | Verdict::Refuse(_) | Verdict::Hold(_) => Vec::new(),
        };
        to.decided(at, decision, reason, &text, again);
        let event = Event::Decided {
            decision: decision.to_owned(),
            reason: reason.to_owned(),
            text,
            instances: instances.iter().map(InstanceId::to_string).collect(),
            numbers: Numbers {
                in_use: numbers.in_use,
                waiting: numbers.waiting,
                reserved: numbers.reserved,
                idle_target: numbers.idle_target,
                instances: numbers.instances,
                coming: numbers.coming,
                max_instances: numbers.max,
            },
        };
        to.record(at, event);
    }
}

/// taskscaler's two names: nothing free now, and nothing possible either; the others are our own.
fn failure(why: &NoCapacity) -> &'static str {
    match why {
        NoCapacity::Full(Refusal::NothingAvailable | Refusal::MakingRoom) => {
            "reserve_available_capacity_failure"
        }
        NoCapacity::Full(Refusal::NothingPossible) => "reserve_iop_capacity_failure",
        NoCapacity::NotOpened | NoCapacity::Problem(_) | NoCapacity::ShuttingDown => {
            "reserve_failure"
        }
    }
}

#[cfg(test)]
mod tests;
