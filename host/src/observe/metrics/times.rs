//! Histograms of one name whose buckets may differ from runner to runner, which a `Family` cannot do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;

use super::Labels;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Times {
    usual: &'static [f64],
    series: Arc<RwLock<BTreeMap<Labels, Series>>>,
}

#[derive(Clone, Debug)]
struct Series {
    bounds: Vec<f64>,
    histogram: Histogram,
}

impl Times {
    /// `usual` are the upper bounds where nobody chose others.
    pub(super) fn new(usual: &'static [f64]) -> Self {
        let series = Arc::default();
        Self { usual, series }
    }

    /// The bounds of a series, which shows from now on; one that had others begins anew.
    pub(super) fn choose(&self, labels: Labels, bounds: Option<&[f64]>) {
        let bounds = bounds.unwrap_or(self.usual);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let known = series.get(&labels);
        if known.is_none_or(|known| known.bounds != bounds) {
            series.insert(labels, Series::new(bounds));
        }
    }

    pub(super) fn observe(&self, labels: Labels, time: Duration) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let of = series
            .entry(labels)
            .or_insert_with(|| Series::new(self.usual));
        of.histogram.observe(time.as_secs_f64());
    }
}

impl Series {
    fn new(bounds: &[f64]) -> Self {
        Self {
            bounds: bounds.to_vec(),
            histogram: Histogram::new(bounds.iter().copied()),
        }
    }
}

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, of) in series.iter() {
            of.histogram.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
