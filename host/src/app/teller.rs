//! Tells of one runner: its metrics, its entries of the journal, its rows of the status page.

use std::sync::Arc;

use jiff::Timestamp;

use super::monitor::Monitor;
use super::runner::Serving;
use crate::fleet::group::InstanceId;
use crate::observe::journal::{Entry, Event};
use crate::observe::metrics::{FleetCounts, Metrics, RunnerLabels};
use crate::observe::status::{DecisionStatus, GroupStatus, InstanceStatus};
use crate::plugin::provider::Provider;
use crate::scaler::Status;
use crate::store::audit;

/// Decisions of a runner that the status page shows.
const DECISIONS: usize = 5;

pub(super) struct Teller {
    pub(super) monitor: Monitor,
    pub(super) labels: RunnerLabels,
    pub(super) runner: String,
    /// Absent for the manager's own daemon, of which the audit log has nothing to tell.
    pub(super) provider: Option<Arc<Provider>>,
    /// Once it is known.
    pub(super) group: Option<String>,
}

impl Teller {
    pub(super) fn metrics(&self) -> &Metrics {
        &self.monitor.metrics
    }

    pub(super) fn labels(&self) -> &RunnerLabels {
        &self.labels
    }

    pub(super) fn runner(&self) -> &str {
        &self.runner
    }

    /// What holds as long as the entry's words do.
    pub(super) fn declare(&self, serving: &Serving) {
        let metrics = &self.monitor.metrics;
        metrics.set_limit(&self.labels, serving.runner.limit);
        metrics.declare_fleet(&self.labels, &serving.runner.autoscaler.buckets);
    }

    /// Nothing of the runner is the present any more.
    pub(super) fn ended(&self) {
        self.monitor.page.send_modify(|page| {
            page.groups.retain(|row| row.runner != self.runner);
            page.instances.retain(|row| row.runner != self.runner);
        });
    }

    pub(super) fn record(&self, at: Timestamp, event: Event) {
        let group = self.group.as_deref();
        let entry = Entry::new(at, &self.runner, group, event);
        self.monitor.recorder.record(entry);
    }

    /// For the audit log.
    pub(super) fn created(&self, instance: &InstanceId, reason: String) {
        let Some(provider) = &self.provider else {
            return;
        };
        self.monitor.audit.record(audit::Event::InstanceCreated {
            plugin: provider.plugin(),
            group: self.group.clone().unwrap_or_default(),
            runner: self.runner.clone(),
            digest: provider.digest().hex(),
            instance: instance.to_string(),
            reason,
        });
    }

    /// For the audit log.
    pub(super) fn failed(&self, instance: &InstanceId, reason: String) {
        let Some(provider) = &self.provider else {
            return;
        };
        self.monitor.audit.record(audit::Event::InstanceFailed {
            plugin: provider.plugin(),
            group: self.group.clone().unwrap_or_default(),
            runner: self.runner.clone(),
            digest: provider.digest().hex(),
            instance: instance.to_string(),
            reason,
        });
    }

    /// For the audit log.
    pub(super) fn deleted(&self, instance: &InstanceId, reason: String) {
        let Some(provider) = &self.provider else {
            return;
        };
        self.monitor.audit.record(audit::Event::InstanceDeleted {
            plugin: provider.plugin(),
            group: self.group.clone().unwrap_or_default(),
            runner: self.runner.clone(),
            digest: provider.digest().hex(),
            instance: instance.to_string(),
            reason,
        });
    }

    pub(super) fn listed(&self, row: InstanceStatus) {
        self.monitor
            .page
            .send_modify(|page| page.instances.push(row));
    }

    pub(super) fn show(&self, instance: &InstanceId, change: impl FnOnce(&mut InstanceStatus)) {
        self.monitor.page.send_if_modified(|page| {
            let of = |row: &&mut InstanceStatus| row.id == instance.0 && row.runner == self.runner;
            page.instances.iter_mut().find(of).map(change).is_some()
        });
    }

    pub(super) fn gone(&self, instance: &InstanceId) {
        self.monitor.page.send_modify(|page| {
            page.instances
                .retain(|row| row.id != instance.0 || row.runner != self.runner);
        });
    }

    pub(super) fn decided(
        &self,
        at: Timestamp,
        decision: &'static str,
        reason: &'static str,
        text: &str,
        again: bool,
    ) {
        self.group_row(|row| {
            let last = row.decisions.iter_mut().rev();
            let same = last.into_iter().find(|last| last.decision == decision);
            if let Some(last) = same.filter(|last| again && last.text == text) {
                last.until = Some(at);
                last.times += 1;
                return;
            }
            if row.decisions.len() == DECISIONS {
                row.decisions.remove(0);
            }
            row.decisions.push(DecisionStatus {
                at,
                until: None,
                times: 1,
                decision,
                reason,
                text: text.to_owned(),
            });
        });
    }

    fn group_row(&self, change: impl FnOnce(&mut GroupStatus)) {
        self.monitor.page.send_modify(|page| {
            let place = page.groups.iter().position(|row| row.runner == self.runner);
            let place = place.unwrap_or_else(|| {
                page.groups.push(GroupStatus {
                    runner: self.runner.clone(),
                    ..GroupStatus::default()
                });
                page.groups.len() - 1
            });
            change(&mut page.groups[place]);
        });
    }

    /// What the scaler says of itself.
    pub(super) fn publish(&self, serving: &Serving, now: &Status) {
        let autoscaler = &serving.runner.autoscaler;
        let instances = &now.instances;
        let capacity = autoscaler.capacity_per_instance;
        let serving_slots =
            (instances.ready + instances.in_use + instances.draining).saturating_mul(capacity);
        let pending = instances.inspecting + instances.preparing;
        self.metrics().set_fleet(
            &self.labels,
            &FleetCounts {
                max_instances: now.max.unwrap_or(0),
                instances: vec![
                    ("requested", instances.coming),
                    ("creating", instances.listed),
                    ("pending", pending),
                    (
                        "running",
                        instances.ready + instances.in_use + instances.draining,
                    ),
                    ("deleting", instances.removing),
                ],
                tasks: vec![
                    ("idle", now.available),
                    ("pending", now.waiting),
                    ("acquired", now.in_use),
                    ("reserved", now.reserved),
                    // Used up, on their way out, or without a connection.
                    (
                        "unavailable",
                        serving_slots.saturating_sub(now.in_use + now.available),
                    ),
                    ("unhealthy", instances.quarantined.saturating_mul(capacity)),
                ],
                desired_instances: now.requested,
                max_use_count: autoscaler.max_use_count,
                capacity_per_instance: capacity,
            },
        );
        let at = Timestamp::now();
        let mut change = None;
        self.group_row(|row| {
            if row.last_error != now.problem {
                row.last_error_since = now.problem.as_ref().map(|_| at);
                change = Some(now.problem.clone());
            }
            *row = GroupStatus {
                id: now.group_id().unwrap_or_default().to_owned(),
                runner: self.runner.clone(),
                plugin: autoscaler.plugin.clone(),
                limits: serving
                    .plugin
                    .iter()
                    .flat_map(|plugin| plugin.provider.limits().shown())
                    .collect(),
                in_use: now.in_use,
                waiting: now.waiting,
                reserved: now.reserved,
                available: now.available,
                idle_target: now.idle_target,
                requested: now.requested,
                coming: instances.coming,
                wanted: now.wanted,
                max_instances: now.max,
                draining: now.draining,
                last_decision: now.last_decision.clone(),
                last_error: now.problem.clone(),
                last_error_since: row.last_error_since,
                notices: now.notices.iter().map(|n| n.message.clone()).collect(),
                decisions: std::mem::take(&mut row.decisions),
            };
        });
        match change {
            Some(Some(problem)) => self.record(at, Event::Problem { problem }),
            Some(None) => self.record(at, Event::ProblemEnded),
            None => {}
        }
    }
}
