//! The manager's own log: events of `tracing` become lines on standard error, in the format and from the level asked for.
//!
//! ```text
//! tracing ─▶ level (reloadable) ─▶ Lines ─▶ one line an event, and one a step that ended
//!                               └▶ Counted ─▶ gitlab_runner_errors_total
//! ```
//!
//! A step is a span called "step": at debug level its end is told with how long it took, which shows where a job's time
//! goes. What it is called is in its fields, `stage` for a stage of the job and `step` for a part of one.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::line::{Format, Line};
use super::metrics::Metrics;

/// The name of spans whose end is told.
const STEP: &str = "step";

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

/// What a span or an event carries.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, Value)>,
}

/// When a span was made.
struct Begun(Instant);

impl Fields {
    /// Those of a span and of the ones around it, from the outermost in.
    fn around<'s, S>(span: Option<SpanRef<'s, S>>) -> Self
    where
        S: for<'l> LookupSpan<'l>,
    {
        let mut all = Self::default();
        for span in span.iter().flat_map(|span| span.scope().from_root()) {
            if let Some(outer) = span.extensions().get::<Self>() {
                for (name, value) in &outer.named {
                    all.name(name, value.clone());
                }
            }
        }
        all
    }

    /// The innermost value of a name is the one that holds.
    fn name(&mut self, name: &str, value: Value) {
        match self.named.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.named.push((name.to_owned(), value)),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => {
                self.message = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                }
            }
            name => self.name(name.strip_prefix("r#").unwrap_or(name), value),
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
        let mut extensions = span.extensions_mut();
        extensions.insert(fields);
        extensions.insert(Begun(Instant::now()));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::around(context.event_span(event));
        event.record(&mut fields);
        self.tell(*event.metadata().level(), fields);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id).filter(|span| span.name() == STEP) else {
            return;
        };
        let took = span
            .extensions()
            .get::<Begun>()
            .map(|begun| begun.0.elapsed());
        let level = *span.metadata().level();
        let mut fields = Fields::around(Some(span));
        fields.message = "step ended".to_owned();
        let milliseconds = took.unwrap_or_default().as_secs_f64() * 1000.0;
        fields.name("took_ms", Value::from((milliseconds * 10.0).round() / 10.0));
        self.tell(level, fields);
    }
}

impl<W: for<'w> MakeWriter<'w>> Lines<W> {
    fn tell(&self, level: Level, fields: Fields) {
        let line = Line {
            time: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                .to_string(),
            level,
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

    use tracing::{debug, debug_span, error, info, info_span, warn};

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

    #[test]
    fn a_step_s_end_is_told_at_debug_level_with_what_it_was_and_took() {
        let kept = Kept::default();
        let writer = kept.clone();
        let metrics = Arc::new(Metrics::new("1.0.0"));
        let (subscriber, verbosity) =
            subscriber(Level::DEBUG, Format::Text, false, &metrics, move || {
                writer.clone()
            });
        tracing::subscriber::with_default(subscriber, || {
            let _job = debug_span!("job", job = 7).entered();
            let stage = debug_span!("step", stage = "get_sources").entered();
            debug_span!("step", step = "attach").in_scope(|| info!(job = 8, "seen"));
            drop(stage);
            debug_span!("other").in_scope(|| ());
            verbosity.set(Level::INFO);
            debug_span!("step", stage = "not told").in_scope(|| ());
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .map(|line| line.split(" took_ms=").next().unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                r#"level=info msg="seen" job=8 stage=get_sources step=attach"#,
                r#"level=debug msg="step ended" job=7 stage=get_sources step=attach"#,
                r#"level=debug msg="step ended" job=7 stage=get_sources"#,
            ]
        );
        assert_eq!(text.matches(" took_ms=").count(), 2, "{text}");
    }
}
