//! Requests of plugins: how many, to which granted host, how they ended, how large and how long.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Labels;
use super::times::Times;

const DURATIONS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// One request that is over. Every text is one of few, whatever a plugin asks for.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnd<'a> {
    pub plugin: &'a str,
    /// The granted entry that admitted it, `metadata`, or `other`.
    pub host: &'a str,
    pub method: &'a str,
    /// 1xx to 5xx, denied, failed.
    pub status: &'a str,
    /// Bytes of bodies.
    pub sent: u64,
    pub received: u64,
    pub took: Duration,
}

#[derive(Debug)]
pub(super) struct Requests {
    total: Family<Labels, Counter>,
    sent: Family<Labels, Counter>,
    received: Family<Labels, Counter>,
    duration: Times,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            total: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            duration: Times::new(&DURATIONS),
        }
    }
}

impl Requests {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register(
            "requests",
            "Requests of plugins by granted host, method and how they ended",
            self.total.clone(),
        );
        to.register(
            "request_sent_bytes",
            "Bytes of the bodies that plugins sent",
            self.sent.clone(),
        );
        to.register(
            "request_received_bytes",
            "Bytes of the bodies that plugins were answered with",
            self.received.clone(),
        );
        to.register(
            "request_duration_seconds",
            "Asked until the answer's end, waits for a turn included",
            self.duration.clone(),
        );
    }

    pub(super) fn ended(&self, end: &RequestEnd<'_>) {
        let host: Labels = vec![
            ("plugin", end.plugin.to_owned()),
            ("host", end.host.to_owned()),
        ];
        let mut all = host.clone();
        all.extend([
            ("method", end.method.to_owned()),
            ("status", end.status.to_owned()),
        ]);
        self.total.get_or_create(&all).inc();
        self.sent.get_or_create(&host).inc_by(end.sent);
        self.received.get_or_create(&host).inc_by(end.received);
        self.duration.observe(host, end.took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn a_request_is_counted_under_its_grant() {
        let metrics = Metrics::new("1.2.3");
        let end = RequestEnd {
            plugin: "aws",
            host: "https://ec2.*.amazonaws.com",
            method: "POST",
            status: "2xx",
            sent: 8,
            received: 1_000,
            took: Duration::from_millis(30),
        };
        metrics.requested(&end);
        metrics.requested(&RequestEnd {
            status: "5xx",
            sent: 2,
            ..end
        });
        let text = metrics.render();
        let labels = "plugin=\"aws\",host=\"https://ec2.*.amazonaws.com\"";
        for line in [
            format!("fleetling_plugin_requests_total{{{labels},method=\"POST\",status=\"2xx\"}} 1"),
            format!("fleetling_plugin_requests_total{{{labels},method=\"POST\",status=\"5xx\"}} 1"),
            format!("fleetling_plugin_request_sent_bytes_total{{{labels}}} 10"),
            format!("fleetling_plugin_request_received_bytes_total{{{labels}}} 2000"),
            format!("fleetling_plugin_request_duration_seconds_count{{{labels}}} 2"),
            format!("fleetling_plugin_request_duration_seconds_bucket{{le=\"0.05\",{labels}}} 2"),
        ] {
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
