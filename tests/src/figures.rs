//! Figures of what was measured many times, and the table that shows them.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// What a figure counts; decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Bytes,
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

    /// The middle one, or the mean of the two in the middle.
    fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len().is_multiple_of(2) {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        } else {
            self.sorted[middle]
        }
    }

    /// The least that nine of ten do not exceed.
    fn p90(&self) -> f64 {
        let rank = (self.sorted.len() * 9).div_ceil(10);
        self.sorted[rank - 1]
    }

    fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }
}

/// Three significant figures in the largest unit that keeps them above one.
struct Written(f64, Unit);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        let scales: &[(f64, &str)] = match unit {
            Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
            Unit::Bytes => &[(1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
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

/// Rows of figures under headings.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

enum Line {
    Heading(String),
    Row(String, Figures),
}

impl Table {
    pub fn heading(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Heading(text.into()));
    }

    pub fn row(&mut self, what: impl Into<String>, figures: Figures) {
        self.lines.push(Line::Row(what.into(), figures));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.lines.iter().filter_map(|line| match line {
            Line::Heading(_) => None,
            Line::Row(what, _) => Some(what.chars().count() + 2),
        });
        let width = names.max().unwrap_or(0);
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
                    Written(figures.sorted[0], figures.unit).to_string(),
                    Written(figures.median(), figures.unit).to_string(),
                    Written(figures.p90(), figures.unit).to_string(),
                    Written(figures.max(), figures.unit).to_string(),
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
            assert!((figures.median() - median).abs() < 1e-9, "{of:?}");
            assert!((figures.p90() - p90).abs() < 1e-9, "{of:?}");
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
        ] {
            assert_eq!(Written(value, unit).to_string(), text);
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
