//! Instances and waiting jobs over time as an SVG, one panel a runner; pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::history::{History, Share};
use super::report::Replayed;
use crate::config::scalars::GoDuration;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const PANEL: f64 = HEIGHT + 70.0;
/// Moments drawn: more than a screen shows side by side would only make the file large.
const COLUMNS: usize = 500;
const WAITING: &str = "#b3261e";

fn colour(share: Share) -> &'static str {
    match share {
        Share::Boot => "#f2b134",
        Share::Idle => "#b8c4ce",
        Share::Run => "#2f6fb5",
        Share::Drain => "#7b5ea7",
    }
}

/// A part of the time: instances on average, by share, and the most jobs that waited.
#[derive(Clone, Copy, Default)]
struct Column {
    instances: [f64; 4],
    waiting: u32,
}

/// All panels have the same scale of time, so that configurations can be compared.
pub fn svg(replays: &[Replayed]) -> String {
    let span = replays.iter().map(|replayed| replayed.outcome.span).max();
    let span = span.unwrap_or_default().max(Duration::from_secs(1));
    let panels: Vec<_> = replays
        .iter()
        .flat_map(|replayed| {
            let fleets = replayed.outcome.fleets.iter();
            fleets.map(|fleet| {
                (
                    format!("{}: {}", replayed.config, fleet.name),
                    &fleet.history,
                )
            })
        })
        .collect();
    let (width, height) = (LEFT + WIDTH + LEFT, TOP + PANEL * panels.len() as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    legend(&mut out);
    for (index, (title, history)) in panels.iter().enumerate() {
        panel(&mut out, title, history, span, TOP + PANEL * index as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String) {
    let shares = Share::ALL.map(|share| (share.name(), colour(share)));
    let all = shares.into_iter().chain([("jobs waiting", WAITING)]);
    for (index, (name, colour)) in all.enumerate() {
        let x = LEFT + 90.0 * index as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"25\">{name}</text>",
            x + 17.0
        );
    }
}

fn panel(out: &mut String, title: &str, history: &History, span: Duration, top: f64) {
    let columns = columns(history, span);
    let most = columns
        .iter()
        .map(|column| {
            column
                .instances
                .iter()
                .sum::<f64>()
                .max(column.waiting.into())
        })
        .fold(1.0, f64::max);
    let bottom = top + HEIGHT;
    let x = |index: usize| LEFT + WIDTH * index as f64 / COLUMNS as f64;
    let y = |count: f64| bottom - HEIGHT * count / most;

    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">{}</text>",
        top - 8.0,
        escaped(title)
    );
    let mut below = [0.0; COLUMNS];
    // What is paid for and of use at the bottom, so that the rest stands out above it.
    for share in [Share::Run, Share::Idle, Share::Boot, Share::Drain] {
        let above: Vec<f64> = columns
            .iter()
            .zip(below)
            .map(|(column, below)| below + column.instances[share as usize])
            .collect();
        let mut path = String::new();
        for (index, count) in above.iter().enumerate() {
            let _ = write!(
                path,
                "{:.1},{:.1} {:.1},{:.1} ",
                x(index),
                y(*count),
                x(index + 1),
                y(*count)
            );
        }
        for (index, count) in below.iter().enumerate().rev() {
            let _ = write!(
                path,
                "{:.1},{:.1} {:.1},{:.1} ",
                x(index + 1),
                y(*count),
                x(index),
                y(*count)
            );
        }
        let _ = writeln!(
            out,
            "<polygon points=\"{}\" fill=\"{}\"/>",
            path.trim_end(),
            colour(share)
        );
        below.copy_from_slice(&above);
    }
    let waiting = columns.iter().enumerate().map(|(index, column)| {
        let y = y(column.waiting.into());
        format!("{:.1},{y:.1} {:.1},{y:.1}", x(index), x(index + 1))
    });
    let waiting: Vec<_> = waiting.collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{WAITING}\" stroke-width=\"1.5\"/>\n\
         <path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>",
        waiting.join(" "),
        LEFT + WIDTH
    );
    for part in [0.0, 0.5, 1.0] {
        let time = Duration::from_secs(span.mul_f64(part).as_secs());
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.0}</text>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT - 6.0,
            y(most * part) + 4.0,
            most * part,
            LEFT + WIDTH * part,
            bottom + 18.0,
            GoDuration::from(time)
        );
    }
}

fn columns(history: &History, span: Duration) -> Vec<Column> {
    let mut columns = vec![Column::default(); COLUMNS];
    let width = span.as_secs_f64() / COLUMNS as f64;
    for pair in history.points().windows(2) {
        let [(from, level), (to, _)] = pair else {
            continue;
        };
        let (from, to) = (from.as_secs_f64() / width, to.as_secs_f64() / width);
        let last = (to.ceil() as usize).min(COLUMNS);
        let meant = columns.iter_mut().enumerate().take(last);
        for (index, column) in meant.skip(from as usize) {
            let overlap = to.min(index as f64 + 1.0) - from.max(index as f64);
            for (sum, instances) in column.instances.iter_mut().zip(level.instances) {
                *sum += overlap * f64::from(instances);
            }
            column.waiting = column.waiting.max(level.waiting);
        }
    }
    columns
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::history::Level;

    #[test]
    fn columns_hold_the_average_and_the_most_that_waited() {
        let mut history = History::default();
        let level = |run, waiting| Level {
            instances: [0, 0, run, 0],
            waiting,
        };
        history.note(Duration::ZERO, level(1, 9));
        history.note(Duration::from_secs(1), level(3, 0));
        history.close(Duration::from_secs(1000));
        let columns = columns(&history, Duration::from_secs(1000));
        assert!((columns[0].instances[2] - 2.0).abs() < 1e-9);
        assert!((columns[1].instances[2] - 3.0).abs() < 1e-9);
        assert_eq!((columns[0].waiting, columns[1].waiting), (9, 0));
    }

    #[test]
    fn a_name_cannot_break_the_picture() {
        assert_eq!(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
