//! What replays came to, told as a table or as JSON; pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::Figures;
use super::history::Share;
use super::manager::Effective;
use super::replay::{Job, Outcome};
use crate::config::scalars::GoDuration;

/// Lines of the trace that are named; a count tells the rest.
const MOST_NAMED: usize = 10;
const PERCENTILES: [(&str, usize); 5] = [
    ("p50", 50),
    ("p90", 90),
    ("p95", 95),
    ("p99", 99),
    ("max", 100),
];

/// One configuration's replay.
pub struct Replayed {
    /// The configuration, as the operator named it.
    pub config: String,
    pub jobs: Vec<Job>,
    pub outcome: Outcome,
}

impl Replayed {
    /// All runners together, then each, where there are several.
    fn columns(&self) -> Vec<(String, Figures)> {
        let all = Figures::of_all(&self.jobs, &self.outcome);
        let mut columns = vec![(self.config.clone(), all)];
        if self.outcome.fleets.len() > 1 {
            for (index, fleet) in self.outcome.fleets.iter().enumerate() {
                let figures = Figures::of_runner(&self.jobs, &self.outcome, index);
                columns.push((fleet.name.clone(), figures));
            }
        }
        columns
    }
}

/// A table with one column a configuration, and one for each of its runners where there are several.
pub fn text(replays: &[Replayed], with_decisions: bool) -> String {
    let columns: Vec<_> = replays.iter().flat_map(Replayed::columns).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells = columns.iter().map(|(_, figures)| cell(figures));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    };
    row("jobs", &|f| f.jobs.to_string());
    row("  served", &|f| f.served.to_string());
    row("  given up", &|f| f.given_up.len().to_string());
    row("  not taken", &|f| f.not_taken.len().to_string());
    for (name, percent) in PERCENTILES {
        row(&format!("wait {name}"), &|f| wait(f, percent));
    }
    row("instance hours", &|f| hours(f.total()));
    for share in Share::ALL {
        row(&format!("  {}", share.name()), &|f| {
            hours(f.spent[share as usize])
        });
    }
    row("utilisation", &|f| {
        let used = f.utilisation();
        used.map_or_else(|| "-".to_owned(), |used| format!("{:.1}%", used * 100.0))
    });
    row("peak of instances", &|f| f.peak.to_string());
    row("instances made", &|f| f.made.to_string());
    row("decisions", &|f| f.decisions.to_string());

    let titles = columns.iter().map(|(title, _)| title.clone());
    rows.insert(0, std::iter::once(String::new()).chain(titles).collect());
    let mut out = aligned(&rows, 1);
    for replayed in replays {
        let span = written(replayed.outcome.span);
        let _ = writeln!(
            out,
            "\n{}: {span} until every fleet was at rest",
            replayed.config
        );
        let figures = Figures::of_all(&replayed.jobs, &replayed.outcome);
        unserved(&mut out, &figures);
        if with_decisions {
            decisions(&mut out, replayed);
        }
    }
    out
}

fn unserved(out: &mut String, figures: &Figures) {
    let kinds = [
        (
            &figures.given_up,
            "given up after instance_acquire_timeout without a slot",
        ),
        (
            &figures.not_taken,
            "not taken from GitLab, because no policy ever promised them a slot",
        ),
    ];
    for (lines, what) in kinds.into_iter().filter(|(lines, _)| !lines.is_empty()) {
        let named: Vec<_> = lines.iter().take(MOST_NAMED).map(u64::to_string).collect();
        let more = lines.len() - named.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let (count, named) = (lines.len(), named.join(", "));
        let _ = writeln!(out, "{count} {what}: lines {named}{more} of the trace");
    }
}

fn decisions(out: &mut String, replayed: &Replayed) {
    for fleet in &replayed.outcome.fleets {
        let head = ["time", "in use", "waiting", "instances", "change", "reason"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(fleet.decisions.iter().map(|decision| {
            vec![
                written(decision.at),
                decision.in_use.to_string(),
                decision.waiting.to_string(),
                decision.instances.to_string(),
                change(decision),
                decision.why.to_string(),
            ]
        }));
        let _ = writeln!(out, "\ndecisions for {:?}:", fleet.name);
        out.push_str(&aligned(&rows, 0));
    }
}

fn change(decision: &Effective) -> String {
    let signed = |sign, count| (count > 0).then(|| format!("{sign}{count}"));
    let parts = [signed('+', decision.increase), signed('-', decision.remove)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join(" ")
}

/// Columns as wide as their widest cell: the first `left` and the last of a text to the left, the others to the right.
fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let is_text = column < left || left == 0 && column + 1 == count;
            let _ = match is_text {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// One object: each configuration with all runners together and each of them.
pub fn json(replays: &[Replayed], with_decisions: bool) -> String {
    let replays = replays.iter().map(|replayed| {
        let runners = replayed.outcome.fleets.iter().enumerate();
        let runners = runners.map(|(index, fleet)| {
            let figures = Figures::of_runner(&replayed.jobs, &replayed.outcome, index);
            let mut told = figures_json(&figures);
            told["name"] = json!(fleet.name);
            if with_decisions {
                told["decisions"] = fleet.decisions.iter().map(decision_json).collect();
            }
            told
        });
        json!({
            "config": replayed.config,
            "span_seconds": replayed.outcome.span.as_secs_f64(),
            "all": figures_json(&Figures::of_all(&replayed.jobs, &replayed.outcome)),
            "runners": runners.collect::<Vec<_>>(),
        })
    });
    let told = json!({ "simulations": replays.collect::<Vec<_>>() });
    format!("{told:#}\n")
}

pub(super) fn figures_json(figures: &Figures) -> Value {
    let waits = PERCENTILES.map(|(name, percent)| {
        let wait = figures.waits.percentile(percent);
        (name.to_owned(), json!(wait.map(|wait| wait.as_secs_f64())))
    });
    let in_hours = |time: Duration| json!(time.as_secs_f64() / 3600.0);
    let spent = Share::ALL.map(|share| {
        let time = figures.spent[share as usize];
        (share.name().to_owned(), in_hours(time))
    });
    let total = ("total".to_owned(), in_hours(figures.total()));
    json!({
        "jobs": figures.jobs,
        "served": figures.served,
        "given_up_lines": figures.given_up,
        "not_taken_lines": figures.not_taken,
        "wait_seconds": Value::Object(waits.into_iter().collect()),
        "instance_hours": Value::Object(spent.into_iter().chain([total]).collect()),
        "utilisation": figures.utilisation(),
        "peak_instances": figures.peak,
        "instances_made": figures.made,
        "decisions_count": figures.decisions,
    })
}

fn decision_json(decision: &Effective) -> Value {
    json!({
        "at_seconds": decision.at.as_secs_f64(),
        "in_use": decision.in_use,
        "waiting": decision.waiting,
        "instances": decision.instances,
        "increase": decision.increase,
        "remove": decision.remove,
        "reason": decision.why.to_string(),
    })
}

fn wait(figures: &Figures, percent: usize) -> String {
    match figures.waits.percentile(percent) {
        Some(wait) => written(wait),
        None if figures.jobs == 0 => "-".to_owned(),
        None => "never".to_owned(),
    }
}

/// The wait that 95 of a hundred jobs do not exceed, for people.
pub(super) fn p95(figures: &Figures) -> String {
    wait(figures, 95)
}

/// To a tenth of a second, as Go writes durations.
pub(super) fn written(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    let tenths = u64::try_from(tenths).unwrap_or(u64::MAX);
    GoDuration::from(Duration::from_millis(tenths.saturating_mul(100))).to_string()
}

pub(super) fn hours(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() / 3600.0)
}
