//! Figures of what was measured many times, the goals set for them, and the table that shows both.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// What a figure counts; decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Bytes,
    /// One figure as a multiple of another.
    Times,
}

/// One thing's measurements, sorted; at least one.
#[derive(Clone, Debug)]
pub struct Figures {
    sorted: Vec<f64>,
    unit: Unit,
}

impl Figures {
    /// # Panics
    /// Without a single measurement: there is no median of nothing.
    pub fn of_times(times: impl IntoIterator<Item = Duration>) -> Self {
        let seconds = times.into_iter().map(|time| time.as_secs_f64());
        Self::new(seconds.collect(), Unit::Seconds)
    }

    /// # Panics
    /// Without a single measurement.
    pub fn of_sizes(bytes: impl IntoIterator<Item = f64>) -> Self {
        Self::new(bytes.into_iter().collect(), Unit::Bytes)
    }

    fn new(mut sorted: Vec<f64>, unit: Unit) -> Self {
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_by(f64::total_cmp);
        Self { sorted, unit }
    }

    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    pub fn min(&self) -> Value {
        Value(self.sorted[0], self.unit)
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> Value {
        let middle = self.sorted.len() / 2;
        let median = if self.sorted.len().is_multiple_of(2) {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        } else {
            self.sorted[middle]
        };
        Value(median, self.unit)
    }

    /// The least that nine of ten do not exceed.
    fn p90(&self) -> Value {
        let rank = (self.sorted.len() * 9).div_ceil(10);
        Value(self.sorted[rank - 1], self.unit)
    }

    fn max(&self) -> Value {
        Value(self.sorted[self.sorted.len() - 1], self.unit)
    }
}

/// One figure; written with three significant figures in the largest unit that keeps them above one.
#[derive(Clone, Copy, Debug)]
pub struct Value(f64, Unit);

impl Value {
    pub fn time(time: Duration) -> Self {
        Self(time.as_secs_f64(), Unit::Seconds)
    }

    pub fn bytes(bytes: f64) -> Self {
        Self(bytes, Unit::Bytes)
    }

    pub fn times(factor: f64) -> Self {
        Self(factor, Unit::Times)
    }

    /// As a multiple of `other`.
    pub fn over(self, other: Self) -> Self {
        Self::times(self.0 / other.0)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        let scales: &[(f64, &str)] = match unit {
            Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
            Unit::Bytes => &[(1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
            Unit::Times => &[(1.0, "×")],
        };
        let smallest = scales[scales.len() - 1];
        let fits = |&&(scale, _): &&(f64, &str)| value.abs() >= scale;
        let (scale, name) = *scales.iter().find(fits).unwrap_or(&smallest);
        let scaled = value / scale;
        let decimals = match scaled.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{scaled:.decimals$} {name}")
    }
}

/// What a figure is to keep to.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(Value),
    AtLeast(Value),
}

impl Goal {
    fn is_met_by(self, figure: Value) -> bool {
        match self {
            Self::AtMost(most) => figure.0 <= most.0,
            Self::AtLeast(least) => figure.0 >= least.0,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

/// Rows of figures, and of goals beside what was reached, under headings.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

enum Line {
    Heading(String),
    Row(String, Figures),
    Goal(String, Value, Goal),
}

impl Line {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Heading(_) => None,
            Self::Row(what, _) | Self::Goal(what, ..) => Some(what),
        }
    }
}

impl Table {
    pub fn heading(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Heading(text.into()));
    }

    pub fn row(&mut self, what: impl Into<String>, figures: Figures) {
        self.lines.push(Line::Row(what.into(), figures));
    }

    /// Nothing fails by a goal that was missed: the table says so.
    pub fn goal(&mut self, what: impl Into<String>, figure: Value, goal: Goal) {
        self.lines.push(Line::Goal(what.into(), figure, goal));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.lines.iter().filter_map(Line::name);
        let width = names
            .map(|name| name.chars().count() + 2)
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        writeln!(
            text,
            "{:width$}  {:>6}  {:>9}  {:>9}  {:>9}  {:>9}",
            "", "n", "min", "median", "p90", "max"
        )?;
        for line in &self.lines {
            match line {
                Line::Heading(heading) => writeln!(text, "{heading}")?,
                Line::Row(what, figures) => writeln!(
                    text,
                    "  {what:name$}  {:>6}  {:>9}  {:>9}  {:>9}  {:>9}",
                    figures.count(),
                    figures.min().to_string(),
                    figures.median().to_string(),
                    figures.p90().to_string(),
                    figures.max().to_string(),
                    name = width - 2,
                )?,
                Line::Goal(what, figure, goal) => writeln!(
                    text,
                    "  {what:name$}  {:>28}  goal: {goal}, {}",
                    figure.to_string(),
                    if goal.is_met_by(*figure) {
                        "met"
                    } else {
                        "missed"
                    },
                    name = width - 2,
                )?,
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(of: impl IntoIterator<Item = u64>) -> Figures {
        Figures::of_times(of.into_iter().map(Duration::from_millis))
    }

    #[test]
    fn the_median_is_the_middle_and_p90_leaves_one_in_ten_above() {
        for (of, median, p90) in [
            (vec![7], 0.007, 0.007),
            (vec![9, 1], 0.005, 0.009),
            (vec![3, 1, 2], 0.002, 0.003),
            ((1..=10).rev().collect(), 0.0055, 0.009),
            ((1..=20).collect(), 0.0105, 0.018),
        ] {
            let figures = milliseconds(of.clone());
            assert!((figures.median().0 - median).abs() < 1e-9, "{of:?}");
            assert!((figures.p90().0 - p90).abs() < 1e-9, "{of:?}");
        }
    }

    #[test]
    fn values_are_written_in_the_unit_that_fits() {
        for (value, unit, text) in [
            (1.5, Unit::Seconds, "1.50 s"),
            (0.0123, Unit::Seconds, "12.3 ms"),
            (0.000_456, Unit::Seconds, "456 µs"),
            (0.000_000_000_3, Unit::Seconds, "0.30 ns"),
            (3.0 * 1024.0 * 1024.0, Unit::Bytes, "3.00 MiB"),
            (-2048.0, Unit::Bytes, "-2.00 KiB"),
            (0.0, Unit::Bytes, "0.00 B"),
            (0.25, Unit::Times, "0.25 ×"),
        ] {
            assert_eq!(Value(value, unit).to_string(), text);
        }
    }

    #[test]
    fn a_goal_stands_beside_its_figure_and_says_whether_it_was_met() {
        let mut table = Table::default();
        let ratio = milliseconds([300])
            .median()
            .over(milliseconds([200]).median());
        table.goal("slower", ratio, Goal::AtMost(Value::times(1.7)));
        table.goal("sooner", ratio, Goal::AtLeast(Value::times(2.5)));
        table.goal(
            "took",
            Value::bytes(1024.0),
            Goal::AtMost(Value::bytes(1024.0)),
        );
        let text = table.to_string();
        for line in [
            "1.50 ×  goal: at most 1.70 ×, met",
            "1.50 ×  goal: at least 2.50 ×, missed",
            "1.00 KiB  goal: at most 1.00 KiB, met",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_table_lines_up_under_its_heads() {
        let mut table = Table::default();
        table.heading("loads");
        table.row("cold", milliseconds([200, 100, 300]));
        table.row("much longer", milliseconds([1]));
        let text = table.to_string();
        let ends: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!((ends[0], ends[2], ends[1]), (ends[3], ends[3], 5), "{text}");
        assert!(text.contains("  cold              3     100 ms     200 ms     300 ms     300 ms"));
    }
}
