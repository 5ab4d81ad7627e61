//! What the audit log and the metrics have of an instance, from the events of its life.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::app::monitor::Monitor;
use crate::fleet::group::ProviderSettings;
use crate::observe::journal::Recorder;
use crate::observe::metrics::{Metrics, RunnerLabels};
use crate::plugin::platform::{LoadRequest, Platform, PlatformOptions};
use crate::store::Store;
use crate::store::audit::{self, Audit};

/// A runner with a provider, and all that is told of its instances.
struct Told {
    lives: Lives,
    teller: Teller,
    _plugins: TempDir,
    _platform: Arc<Platform>,
}

impl Told {
    async fn new() -> Self {
        let plugins = tempfile::tempdir().unwrap();
        let plugin = wat::parse_str(include_str!("../../plugin/fixtures/provider.wat")).unwrap();
        std::fs::write(plugins.path().join("cloud.wasm"), plugin).unwrap();
        let grants = plugins.path().join("plugins.toml");
        let mut options = PlatformOptions::new(grants, Store::in_memory());
        options.plugin_dirs = vec![plugins.path().into()];
        let platform = Platform::start(options).unwrap();
        let request = LoadRequest {
            reference: "cloud",
            config: &json!({ "name": "group" }),
            settings: ProviderSettings {
                os: None,
                arch: None,
                protocol: None,
                port: None,
                username: None,
                static_credentials: false,
                ssh_public_key: None,
                owner: "test".to_owned(),
                max_instances: Some(3),
                capacity_per_instance: 1,
            },
            group_key: "group",
        };
        let provider = platform.load(request).await.unwrap();
        let monitor = Monitor {
            metrics: Arc::new(Metrics::new("1.2.3")),
            page: watch::Sender::default(),
            recorder: Recorder::default(),
            audit: Audit::in_memory(),
            plugin_rows: Arc::default(),
        };
        let labels = RunnerLabels {
            runner: "glrt-abc".to_owned(),
            runner_name: "builder".to_owned(),
            system_id: "s_1".to_owned(),
        };
        Self {
            lives: Lives::default(),
            teller: Teller {
                monitor,
                labels,
                runner: "builder".to_owned(),
                provider: Some(provider),
                group: Some("cloud/group".to_owned()),
            },
            _plugins: plugins,
            _platform: platform,
        }
    }

    fn hears(&mut self, events: impl IntoIterator<Item = FleetEvent>) {
        for event in events {
            self.lives.tell(&self.teller, event);
        }
    }

    /// The audit log, an entry a line.
    fn audited(&self) -> Vec<String> {
        let line = |event: audit::Event| match event {
            audit::Event::InstanceCreated {
                instance, reason, ..
            } => {
                format!("{instance} created: {reason}")
            }
            audit::Event::InstanceFailed {
                instance, reason, ..
            } => {
                format!("{instance} failed: {reason}")
            }
            audit::Event::InstanceDeleted {
                instance, reason, ..
            } => {
                format!("{instance} deleted: {reason}")
            }
            other => panic!("nobody did that: {other:?}"),
        };
        let recorded = self.teller.monitor.audit.recorded();
        recorded.into_iter().map(line).collect()
    }

    /// A counter of instances made and deleted.
    fn operations(&self, operation: &str) -> u32 {
        self.value("instance_operations_total", operation)
    }

    fn value(&self, metric: &str, with: &str) -> u32 {
        let rendered = self.teller.monitor.metrics.render();
        let name = format!("fleeting_provisioner_{metric}{{");
        let mut lines = rendered.lines();
        let line =
            lines.find(|line| line.starts_with(&name) && line.contains(&format!("{with:?}")));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// How many times of that kind were measured.
    fn measured(&self, metric: &str) -> u32 {
        self.value(&format!("{metric}_count"), "builder")
    }
}

fn id(name: &str) -> InstanceId {
    InstanceId(name.to_owned())
}

fn listed(name: &str, never_ran: Option<&str>) -> FleetEvent {
    FleetEvent::Listed {
        instance: id(name),
        cause: Cause::Requested,
        adopted: None,
        never_ran: never_ran.map(str::to_owned),
    }
}

fn removing(name: &str, reason: &str) -> FleetEvent {
    FleetEvent::Removing {
        instance: id(name),
        reason: reason.to_owned(),
    }
}

fn accepted(name: &str) -> FleetEvent {
    FleetEvent::RemovalAccepted { instance: id(name) }
}

fn gone(name: &str) -> FleetEvent {
    FleetEvent::Gone { instance: id(name) }
}

#[tokio::test]
async fn an_instance_is_deleted_when_the_cloud_agrees_and_not_when_it_is_decided() {
    let mut told = Told::new().await;
    told.hears([
        FleetEvent::Requested { count: 1 },
        listed("i-1", None),
        removing("i-1", "idle"),
    ]);
    assert_eq!(told.audited(), ["i-1 created: requested"]);
    assert_eq!(told.operations("delete"), 0);
    told.hears([accepted("i-1")]);
    let both = ["i-1 created: requested", "i-1 deleted: idle"];
    assert_eq!(told.audited(), both);
    assert_eq!(told.operations("delete"), 1);
    told.hears([gone("i-1")]);
    assert_eq!(told.audited(), both, "it is told once");
    assert_eq!(told.operations("create"), 1);
    assert_eq!(told.operations("delete"), 1);
    assert_eq!(told.measured("instance_creation_time_seconds"), 1);
    assert_eq!(told.measured("instance_deletion_time_seconds"), 1);
    assert_eq!(told.measured("instance_life_duration_seconds"), 1);
}

#[tokio::test]
async fn what_goes_before_the_cloud_agreed_is_told_when_it_is_gone() {
    let mut told = Told::new().await;
    told.hears([
        listed("i-1", None),
        listed("i-2", None),
        removing("i-1", "idle"),
        gone("i-1"),
        gone("i-2"),
    ]);
    assert_eq!(
        told.audited()[2..],
        [
            "i-1 deleted: idle",
            "i-2 deleted: it went without the manager's doing"
        ]
    );
    assert_eq!(told.operations("delete"), 1, "the other was not ours");
}

#[tokio::test]
async fn a_launch_that_failed_is_no_instance_that_was_made_or_deleted() {
    let mut told = Told::new().await;
    told.hears([
        FleetEvent::Requested { count: 2 },
        listed("launch:a", Some("out-of-capacity: no m7i.large")),
        removing("launch:a", "the cloud lists it as failed"),
        accepted("launch:a"),
        gone("launch:a"),
        listed("i-1", None),
    ]);
    assert_eq!(
        told.audited(),
        [
            "launch:a failed: out-of-capacity: no m7i.large",
            "i-1 created: requested"
        ]
    );
    assert_eq!(told.operations("create"), 2, "so many were accepted");
    assert_eq!(told.operations("create_failure"), 1);
    assert_eq!(told.operations("delete"), 0);
    assert_eq!(told.measured("instance_creation_time_seconds"), 1);
    assert_eq!(told.measured("instance_deletion_time_seconds"), 0);
    assert_eq!(told.measured("instance_life_duration_seconds"), 0);
}
