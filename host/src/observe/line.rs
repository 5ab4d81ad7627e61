//! How one event looks in the log: pure, one line an event, whatever it carries.

use std::fmt::Write as _;

use serde_json::Value;
use tracing::Level;

/// GitLab Runner's three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, message, fields.
    Runner,
    /// `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// By the name it has in a configuration; the default for any other.
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("text") => Self::Text,
            Some("json") => Self::Json,
            _ => Self::Runner,
        }
    }
}

/// One event, ready to be written.
#[derive(Clone, Debug)]
pub struct Line {
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    pub level: Level,
    pub message: String,
    /// Those of the spans around it first, from the outermost in.
    pub fields: Vec<(String, Value)>,
}

impl Line {
    /// The text with its newline at the end and none before. Colour is for [`Format::Runner`] alone.
    pub fn render(&self, format: Format, coloured: bool) -> String {
        let mut out = match format {
            Format::Runner => self.for_people(coloured),
            Format::Text => self.for_grep(),
            Format::Json => self.for_machines(),
        };
        out.push('\n');
        out
    }

    fn for_people(&self, coloured: bool) -> String {
        let (on, off) = match (coloured, self.level) {
            (false, _) => ("", ""),
            (_, Level::ERROR) => ("\x1b[31;1m", "\x1b[0m"),
            (_, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (_, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
            (_, _) => ("\x1b[2m", "\x1b[0m"),
        };
        let message = without_control(&self.message);
        let mut out = format!("{} {on}{:<7}{off} {message}", self.time, word(self.level));
        for (key, value) in &self.fields {
            let _ = write!(out, " {key}={}", quoted(value));
        }
        out
    }

    fn for_grep(&self) -> String {
        let mut out = format!(
            "time={:?} level={} msg={:?}",
            self.time,
            word(self.level),
            self.message
        );
        for (key, value) in &self.fields {
            let _ = write!(out, " {key}={}", quoted(value));
        }
        out
    }

    /// logrus' own keys; a field that bears one of their names is kept under `fields.`.
    fn for_machines(&self) -> String {
        let mut object = serde_json::Map::new();
        for (key, value) in &self.fields {
            let key = match key.as_str() {
                "time" | "level" | "msg" => format!("fields.{key}"),
                _ => key.clone(),
            };
            object.insert(key, value.clone());
        }
        object.insert("time".to_owned(), self.time.clone().into());
        object.insert("level".to_owned(), word(self.level).into());
        object.insert("msg".to_owned(), self.message.clone().into());
        Value::Object(object).to_string()
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Bare where that is unmistakable, else in quotes with everything odd escaped.
fn quoted(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("{text:?}")
    }
}

/// A message may quote what a cloud or a job said: it must not draw on the terminal or begin a line of its own.
fn without_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            time: "2026-11-23T10:00:00.000Z".to_owned(),
            level: Level::WARN,
            message: "instance was lost\nand \x1b[1mgone".to_owned(),
            fields: vec![
                ("job".to_owned(), 7.into()),
                ("why".to_owned(), "two words".into()),
                ("level".to_owned(), "mine".into()),
                ("none".to_owned(), "".into()),
            ],
        }
    }

    #[test]
    fn each_format_keeps_an_event_on_one_line() {
        assert_eq!(
            line().render(Format::Runner, false),
            "2026-11-23T10:00:00.000Z warning instance was lost\\nand \\u{1b}[1mgone job=7 why=\"two words\" \
             level=mine none=\"\"\n"
        );
        assert_eq!(
            line().render(Format::Text, true),
            "time=\"2026-11-23T10:00:00.000Z\" level=warning msg=\"instance was lost\\nand \\u{1b}[1mgone\" job=7 \
             why=\"two words\" level=mine none=\"\"\n"
        );
        assert_eq!(
            line().render(Format::Json, true),
            "{\"fields.level\":\"mine\",\"job\":7,\"level\":\"warning\",\"msg\":\"instance was lost\\nand \
             \\u001b[1mgone\",\"none\":\"\",\"time\":\"2026-11-23T10:00:00.000Z\",\"why\":\"two words\"}\n"
        );
    }

    #[test]
    fn colour_marks_the_level_alone() {
        let coloured = line().render(Format::Runner, true);
        assert!(
            coloured.contains("\x1b[33mwarning\x1b[0m instance"),
            "{coloured:?}"
        );
    }

    #[test]
    fn formats_go_by_gitlab_runners_names() {
        assert_eq!(Format::named(Some("json")), Format::Json);
        assert_eq!(Format::named(Some("text")), Format::Text);
        assert_eq!(Format::named(Some("runner")), Format::Runner);
        assert_eq!(Format::named(None), Format::Runner);
    }
}
