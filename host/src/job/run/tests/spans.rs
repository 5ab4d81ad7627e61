//! Where a job's time goes is told stage by stage.

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::*;

/// Keeps the `stage` of every step, in the order they begin.
struct Stages(Record);

impl<S: Subscriber> Layer<S> for Stages {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "step" {
            attributes.record(&mut Named(&self.0));
        }
    }
}

struct Named<'a>(&'a Record);

impl Visit for Named<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "stage" {
            self.0.add(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[tokio::test(start_paused = true)]
async fn every_stage_is_a_step_whose_time_is_told() {
    let stages = Record::default();
    let _told = tracing::subscriber::set_default(Registry::default().with(Stages(stages.clone())));
    let told = job(json!({}), &Fake::default(), undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    // Both containers are prepared side by side, in either order.
    let mut stages = stages.all();
    let all = stages.len();
    stages.retain(|stage| stage != "prepare_executor");
    assert_eq!(all - stages.len(), 2);
    let others = [
        "prepare_script",
        "get_sources",
        "step_script",
        "after_script",
        "cleanup_file_variables",
    ];
    assert_eq!(stages, others);
}
