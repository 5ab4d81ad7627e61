//! The manager's own log: events of `tracing` become lines on standard error, in the format and from the level asked for.
//!
//! ```text
//! tracing ─▶ level (reloadable) ─▶ Lines ─▶ one line an event
//!                               └▶ Counted ─▶ gitlab_runner_errors_total
//! ```

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::line::{Format, Line};
use super::metrics::Metrics;

/// The level by GitLab Runner's name for it; `info` for what is none.
pub fn level_named(name: &str) -> Level {
    match name {
        "panic" | "fatal" | "error" => Level::ERROR,
        "warning" | "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => Level::INFO,
    }
}

/// Sets the level of the log while it runs.
#[derive(Clone, Debug)]
pub struct Verbosity {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Verbosity {
    /// Takes effect for the next event. A log that is gone already needs no level: that is not told.
    pub fn set(&self, level: Level) {
        let _ = self.filter.reload(filter(level));
    }
}

/// Begins to log to standard error, for the whole process.
///
/// # Errors
/// If the process logs already.
pub fn start(
    level: Level,
    format: Format,
    metrics: &Arc<Metrics>,
) -> Result<Verbosity, TryInitError> {
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (subscriber, verbosity) = subscriber(level, format, coloured, metrics, io::stderr);
    subscriber.try_init()?;
    Ok(verbosity)
}

fn subscriber<W>(
    level: Level,
    format: Format,
    coloured: bool,
    metrics: &Arc<Metrics>,
    writer: W,
) -> (impl Subscriber + Send + Sync + 'static, Verbosity)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    let subscriber = Registry::default()
        .with(filter)
        .with(Lines {
            format,
            coloured,
            writer,
        })
        .with(Counted {
            metrics: metrics.clone(),
        });
    (subscriber, Verbosity { filter: handle })
}

/// Our own events from `level`; those of libraries only where they warn, because they are many and not facts of ours.
fn filter(level: Level) -> EnvFilter {
    let libraries = match level {
        Level::ERROR => "error",
        Level::TRACE => "info",
        _ => "warn",
    };
    EnvFilter::new(format!(
        "{libraries},fleetling={}",
        level.as_str().to_ascii_lowercase()
    ))
}

/// Writes one line an event.
struct Lines<W> {
    format: Format,
    coloured: bool,
    writer: W,
}

/// What a span carries, kept beside it.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => {
                self.message = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                }
            }
            name => {
                let name = name.strip_prefix("r#").unwrap_or(name);
                self.named.push((name.to_owned(), value));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::String(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    fields.named.extend(outer.named.iter().cloned());
                }
            }
        }
        event.record(&mut fields);
        let line = Line {
            time: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                .to_string(),
            level: *event.metadata().level(),
            message: fields.message,
            fields: fields.named,
        };
        let text = line.render(self.format, self.coloured);
        // A log that cannot be written has nowhere to say so, and must stop no job.
        let _ = self.writer.make_writer().write_all(text.as_bytes());
    }
}

/// Counts warnings and errors for `gitlab_runner_errors_total`.
struct Counted {
    metrics: Arc<Metrics>,
}

impl<S: Subscriber> Layer<S> for Counted {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => self.metrics.logged("error"),
            Level::WARN => self.metrics.logged("warning"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Mutex;

    use tracing::{debug, error, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_become_lines_with_the_fields_of_their_spans() {
        let kept = Kept::default();
        let writer = kept.clone();
        let metrics = Arc::new(Metrics::new("1.0.0"));
        let (subscriber, verbosity) =
            subscriber(Level::INFO, Format::Text, false, &metrics, move || {
                writer.clone()
            });
        tracing::subscriber::with_default(subscriber, || {
            let _job = info_span!("job", job = 7).entered();
            info!(instance = %"i-1", "slot acquired");
            debug!("not yet");
            verbosity.set(Level::DEBUG);
            debug!(fits = true, "decided");
            warn!(target: "hyper", "seen");
            info!(target: "hyper", "not seen");
            error!("broke");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(
            lines,
            [
                r#"level=info msg="slot acquired" job=7 instance=i-1"#,
                r#"level=debug msg="decided" job=7 fits=true"#,
                r#"level=warning msg="seen" job=7"#,
                r#"level=error msg="broke" job=7"#,
            ]
        );
        assert!(
            text.starts_with("time=\"20") && text.contains("Z\" level"),
            "{text}"
        );
        let counted = metrics.render();
        assert!(
            counted.contains("gitlab_runner_errors_total{level=\"error\"} 1"),
            "{counted}"
        );
        assert!(
            counted.contains("gitlab_runner_errors_total{level=\"warning\"} 1"),
            "{counted}"
        );
    }
}
