//! What an operator would read in the log about one plugin: warnings and errors, by the plugin's name.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::plugin::house::until;

static HEARD: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);
static LISTENING: Once = Once::new();

/// For the whole test program: guests run on threads of their own. Every test has names of its own.
pub(in crate::plugin) fn listen() {
    LISTENING.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Ear.with_filter(LevelFilter::WARN));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
    });
}

/// Everything heard about `plugin`, once it is `lines` lines.
pub(in crate::plugin) async fn heard(plugin: &str, lines: usize) -> String {
    until("heard", || async { all(plugin).len() >= lines }).await;
    all(plugin).join("\n")
}

pub(in crate::plugin) fn all(plugin: &str) -> Vec<String> {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    let heard = heard.as_ref().and_then(|heard| heard.get(plugin));
    heard.cloned().unwrap_or_default()
}

struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let Some(plugin) = words.plugin else { return };
        let level = if *event.metadata().level() == Level::ERROR {
            "error"
        } else {
            "warning"
        };
        let line = format!("{level}: {}{}", words.message, words.fields);
        let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = heard.get_or_insert_default();
        heard.entry(plugin).or_default().push(line);
    }
}

#[derive(Default)]
struct Words {
    plugin: Option<String>,
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "plugin" => self.plugin = Some(value),
            "message" => self.message = value,
            // Places and digests differ from run to run.
            "group" | "file" | "digest" => {}
            _ if value.is_empty() => {}
            name => {
                let _ = write!(self.fields, "\n  {name}: {value}");
            }
        }
    }
}
