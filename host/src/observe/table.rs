//! The status page for people: what a manager answered at `/status`, as a table; pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// `page` as text at `now`. What an older or newer manager does not tell is left out.
pub fn table(page: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "manager {} is {}, since {}",
        text(page, "version"),
        text(page, "state"),
        text(page, "started_at")
    );
    plugins(page, now, &mut out);
    for group in rows(page, "groups") {
        describe(group, now, &mut out);
    }
    let instances: Vec<_> = rows(page, "instances")
        .map(|row| {
            let jobs: Vec<String> = rows(row, "jobs").map(Value::to_string).collect();
            let state = if jobs.is_empty() {
                text(row, "state")
            } else {
                "in use".to_owned()
            };
            let because = text(row, "removed_because");
            [
                text(row, "id"),
                text(row, "runner"),
                if because == "-" {
                    state
                } else {
                    format!("{state}: {because}")
                },
                age(row, "listed_at", now),
                text(row, "uses"),
                or_dash(jobs.join(", ")),
            ]
        })
        .collect();
    let heads = ["INSTANCE", "RUNNER", "STATE", "AGE", "USES", "JOBS"];
    columns(heads, &instances, &mut out);
    let jobs: Vec<_> = rows(page, "jobs")
        .map(|row| {
            let instance = text(row, "instance");
            [
                text(row, "id"),
                text(row, "runner"),
                age(row, "since", now),
                if instance == "-" {
                    "waits for one".to_owned()
                } else {
                    instance
                },
            ]
        })
        .collect();
    columns(["JOB", "RUNNER", "FOR", "INSTANCE"], &jobs, &mut out);
    out
}

/// One line a runner's plugin, and below it what is wrong with it.
fn plugins(page: &Value, now: Timestamp, out: &mut String) {
    let mut reports = Vec::new();
    let plugins: Vec<_> = rows(page, "plugins")
        .map(|row| {
            let report = row.get("last_error").and_then(Value::as_str);
            reports.push(report.map(|report| {
                let since = age(row, "last_error_since", now);
                format!("for {since}: {report}")
            }));
            [
                text(row, "name"),
                text(row, "version"),
                text(row, "runner"),
                text(row, "state"),
                text(row, "digest").chars().take(12).collect(),
                text(row, "file"),
            ]
        })
        .collect();
    let heads = ["PLUGIN", "VERSION", "RUNNER", "STATE", "DIGEST", "FILE"];
    let mut lines = String::new();
    columns(heads, &plugins, &mut lines);
    // An empty line, the heads, and then one line a row.
    let before = 2;
    for (number, line) in lines.lines().enumerate() {
        let _ = writeln!(out, "{line}");
        let report = number
            .checked_sub(before)
            .and_then(|at| reports[at].as_ref());
        for line in report.iter().flat_map(|report| report.lines()) {
            let _ = writeln!(out, "  {line}");
        }
    }
}

fn describe(group: &Value, now: Timestamp, out: &mut String) {
    let number = |key| text(group, key);
    let max = match number("max_instances").as_str() {
        "-" => "without a limit".to_owned(),
        max => format!("at most {max}"),
    };
    let _ = writeln!(
        out,
        "\nrunner {}, group {}, plugin {}",
        number("runner"),
        or_dash(number("id")),
        number("plugin")
    );
    let _ = writeln!(
        out,
        "  slots: {} in use, {} waited for, {} reserved, {} free, {} wanted free",
        number("in_use"),
        number("waiting"),
        number("reserved"),
        number("available"),
        number("idle_target")
    );
    let _ = writeln!(
        out,
        "  instances: {} wanted, {} coming, {max}",
        number("wanted"),
        number("coming")
    );
    let limits = group.get("limits").and_then(Value::as_object);
    let limits = limits.into_iter().flatten();
    let limits: Vec<_> = limits
        .map(|(key, _)| format!("{key} {}", text(&group["limits"], key)))
        .collect();
    if !limits.is_empty() {
        let _ = writeln!(out, "  the plugin's limits: {}", limits.join(", "));
    }
    let problem = number("last_error");
    if problem != "-" {
        let since = age(group, "last_error_since", now);
        let _ = writeln!(out, "  problem for {since}: {problem}");
    }
    for notice in rows(group, "notices").filter_map(Value::as_str) {
        let _ = writeln!(out, "  notice: {notice}");
    }
    for decision in rows(group, "decisions") {
        let _ = write!(
            out,
            "  {} ago: {}",
            age(decision, "at", now),
            text(decision, "text")
        );
        let times = decision.get("times").and_then(Value::as_u64).unwrap_or(1);
        if times > 1 {
            let last = age(decision, "until", now);
            let _ = write!(out, "; {times} times until {last} ago");
        }
        out.push('\n');
    }
}

fn rows<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(of: &Value, key: &str) -> String {
    match of.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => or_dash(text.clone()),
        Some(other) => other.to_string(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn age(of: &Value, key: &str, now: Timestamp) -> String {
    let since = of.get(key).and_then(Value::as_str);
    let since = since.and_then(|text| text.parse::<Timestamp>().ok());
    since.map_or_else(
        || "-".to_owned(),
        |since| super::why::span(now.duration_since(since)),
    )
}

/// Nothing where there are no rows.
fn columns<const N: usize>(heads: [&str; N], rows: &[[String; N]], out: &mut String) {
    if rows.is_empty() {
        return;
    }
    let heads = heads.map(str::to_owned);
    let width = |n: usize| {
        let cells = rows
            .iter()
            .chain([&heads])
            .map(|row| row[n].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    out.push('\n');
    for row in [&heads].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_busy_manager_at_a_glance() {
        let page = json!({
            "version": "0.1.0", "state": "running", "started_at": "2026-11-25T09:00:00Z",
            "plugins": [
                {"runner": "x", "name": "aws", "state": "loaded", "version": "1.2.3", "digest": "0b60c96e4500503d9b4d2a14",
                 "file": "/srv/plugins/aws.wasm", "last_error_since": "2026-11-25T09:58:30Z",
                 "last_error": "plugin `aws` (/srv/plugins/aws.wasm, sha256 aaaaaaaaaaaa…) was not loaded\n  it is damaged \
                                or cut short\n  next: copy it here again, in one piece"},
                {"runner": "yy", "name": "none", "state": "waiting", "version": null, "digest": null, "file": null,
                 "last_error_since": "2026-11-25T09:00:30Z",
                 "last_error": "plugin `none` was not loaded\n  it was found nowhere\n  next: put it there"},
                {"runner": "z", "name": "static", "state": "loaded", "version": "0.1.0", "digest": "ff",
                 "file": "/srv/static.wasm", "last_error": null, "last_error_since": null},
            ],
            "groups": [{
                "id": "aws/eu-west-1/asg", "runner": "x", "plugin": "aws", "in_use": 1, "waiting": 1, "reserved": 1,
                "available": 0, "idle_target": 0, "wanted": 2, "coming": 1, "max_instances": 10,
                "limits": {"concurrent_requests": "8", "memory": "128MiB"},
                "last_error": "quota: no more vCPUs", "last_error_since": "2026-11-25T09:58:30Z",
                "notices": ["suspend the process AZRebalance"],
                "decisions": [
                    {"at": "2026-11-25T09:58:00Z", "times": 1, "text": "ask for 2 more: jobs wait for a slot"},
                    {"at": "2026-11-25T09:59:00Z", "until": "2026-11-25T09:59:57Z", "times": 20,
                     "text": "ask GitLab for no job: no slot is ready and free"},
                ],
            }],
            "instances": [
                {"id": "i-1", "runner": "x", "state": "ready", "listed_at": "2026-11-25T08:10:00Z", "uses": 3,
                 "jobs": [41], "removed_because": null},
                {"id": "i-22", "runner": "x", "state": "removing", "listed_at": "2026-11-25T09:59:50Z", "uses": 0,
                 "jobs": [], "removed_because": "max_use_count reached"},
            ],
            "jobs": [
                {"id": 41, "runner": "x", "since": "2026-11-25T09:59:18Z", "instance": "i-1"},
                {"id": 42, "runner": "x", "since": "2026-11-25T09:59:59Z", "instance": null},
            ],
        });
        let now = "2026-11-25T10:00:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&page, now), @"
        manager 0.1.0 is running, since 2026-11-25T09:00:00Z

        PLUGIN  VERSION  RUNNER  STATE    DIGEST        FILE
        aws     1.2.3    x       loaded   0b60c96e4500  /srv/plugins/aws.wasm
          for 1 min 30 s: plugin `aws` (/srv/plugins/aws.wasm, sha256 aaaaaaaaaaaa…) was not loaded
            it is damaged or cut short
            next: copy it here again, in one piece
        none    -        yy      waiting  -             -
          for 59 min 30 s: plugin `none` was not loaded
            it was found nowhere
            next: put it there
        static  0.1.0    z       loaded   ff            /srv/static.wasm

        runner x, group aws/eu-west-1/asg, plugin aws
          slots: 1 in use, 1 waited for, 1 reserved, 0 free, 0 wanted free
          instances: 2 wanted, 1 coming, at most 10
          the plugin's limits: concurrent_requests 8, memory 128MiB
          problem for 1 min 30 s: quota: no more vCPUs
          notice: suspend the process AZRebalance
          2 min 0 s ago: ask for 2 more: jobs wait for a slot
          1 min 0 s ago: ask GitLab for no job: no slot is ready and free; 20 times until 3 s ago

        INSTANCE  RUNNER  STATE                            AGE         USES  JOBS
        i-1       x       in use                           1 h 50 min  3     41
        i-22      x       removing: max_use_count reached  10 s        0     -

        JOB  RUNNER  FOR   INSTANCE
        41   x       42 s  i-1
        42   x       1 s   waits for one
        ");
    }

    #[test]
    fn a_manager_that_tells_little_is_shown_as_far_as_it_goes() {
        let page = json!({"version": "9.9.9", "groups": [{"runner": "x"}]});
        let shown = table(&page, Timestamp::UNIX_EPOCH);
        assert!(
            shown.starts_with("manager 9.9.9 is -, since -\n"),
            "{shown}"
        );
        assert!(shown.contains("without a limit"), "{shown}");
    }
}
