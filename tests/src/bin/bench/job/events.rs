//! What Docker on an instance did, and when, by its own events.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fleetling_lab::Lab;

/// Of containers; the instance has this machine's clock.
pub(super) struct Events(Vec<Event>);

struct Event {
    at: SystemTime,
    action: String,
    container: String,
}

impl Events {
    /// Docker remembers the last 256 only.
    pub(super) async fn since(lab: &Lab, instance: &str, begin: SystemTime) -> Result<Self> {
        let begin = begin.duration_since(SystemTime::UNIX_EPOCH)?;
        let ask = format!(
            "docker events --filter type=container --since {}.{:09} --until \"$(date +%s.%N)\" \
             --format '{{{{.TimeNano}}}} {{{{.Action}}}} {{{{.Actor.Attributes.name}}}}'",
            begin.as_secs(),
            begin.subsec_nanos(),
        );
        let told = lab.instances.exec(instance, &ask).await?;
        let events = told.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let nanoseconds = words.next()?.parse().ok()?;
            Some(Event {
                at: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
                action: words.next()?.to_owned(),
                container: words.next_back()?.to_owned(),
            })
        });
        Ok(Self(events.collect()))
    }

    /// To a container whose name ends with `kind`.
    pub(super) fn first(&self, action: &str, kind: &str) -> Result<SystemTime> {
        let found = self
            .0
            .iter()
            .find(|event| event.action == action && event.container.ends_with(kind));
        Ok(found
            .with_context(|| format!("Docker tells of no {action} of a {kind} container"))?
            .at)
    }
}
