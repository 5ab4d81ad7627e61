//! A policy's period: five cron fields read as a range of minutes, not as a trigger; pure.

use jiff::civil::DateTime;

/// Minute, hour, day of month, month, day of week; a set bit is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Unix cron: when both day fields are restricted, either may match.
    either_day: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPeriod {
    #[error(
        "period {0:?} has {1} fields; five are needed: minute, hour, day of month, month, day of week"
    )]
    Fields(String, usize),
    #[error(
        "period {period:?}: {part:?} is not a {field} ({min}-{max}, names, lists, ranges and steps such as {min}-{max}/2)"
    )]
    Part {
        period: String,
        part: String,
        field: &'static str,
        min: u32,
        max: u32,
    },
}

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Field {
        name: "day of month",
        min: 1,
        max: 31,
        names: &[],
    },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    // 7 is Sunday too.
    Field {
        name: "day of week",
        min: 0,
        max: 7,
        names: &WEEKDAYS,
    },
];

impl Period {
    pub fn parse(text: &str) -> Result<Self, BadPeriod> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(BadPeriod::Fields(text.into(), parts.len()));
        }
        let mut sets = [0; 5];
        for ((set, part), field) in sets.iter_mut().zip(&parts).zip(&FIELDS) {
            *set = field.parse(part).ok_or_else(|| BadPeriod::Part {
                period: text.into(),
                part: (*part).into(),
                field: field.name,
                min: field.min,
                max: field.max,
            })?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let restricted = |part: &str| !part.starts_with(['*', '?']);
        Ok(Self {
            minutes,
            hours,
            days,
            months,
            weekdays: weekdays | (weekdays >> 7 & 1),
            either_day: restricted(parts[2]) && restricted(parts[4]),
        })
    }

    pub fn contains(&self, at: DateTime) -> bool {
        let has = |set: u64, n: i8| set >> n & 1 == 1;
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        let on_day = if self.either_day {
            day || weekday
        } else {
            day && weekday
        };
        has(self.minutes, at.minute())
            && has(self.hours, at.hour())
            && has(self.months, at.month())
            && on_day
    }
}

impl Field {
    fn parse(&self, text: &str) -> Option<u64> {
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|s| *s > 0)?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                None if matches!(range, "*" | "?") => (self.min, self.max),
                None => {
                    let from = self.value(range)?;
                    (from, if step.is_some() { self.max } else { from })
                }
            };
            if from > to {
                return None;
            }
            for n in (from..=to).step_by(step.unwrap_or(1) as usize) {
                set |= 1u64 << n;
            }
        }
        Some(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        if let Some(n) = self.names.iter().position(|name| *name == lower) {
            return u32::try_from(n).ok().map(|n| n + self.min);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let n = text.parse().ok().filter(|_| digits)?;
        (self.min..=self.max).contains(&n).then_some(n)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn membership() {
        // 2026-11-23 is a Monday.
        let monday = date(2026, 11, 23);
        let sunday = date(2026, 11, 22);
        for (period, at, expected) in [
            ("* * * * *", monday.at(3, 14, 15, 0), true),
            ("* 8-17 * * mon-fri", monday.at(8, 0, 0, 0), true),
            ("* 8-17 * * mon-fri", monday.at(17, 59, 59, 0), true),
            ("* 8-17 * * mon-fri", monday.at(18, 0, 0, 0), false),
            ("* 8-17 * * MON-FRI", sunday.at(9, 0, 0, 0), false),
            ("* * * * 7", sunday.at(9, 0, 0, 0), true),
            ("* * * * 0", sunday.at(9, 0, 0, 0), true),
            ("* * * * 5-7", sunday.at(9, 0, 0, 0), true),
            ("* * * * 6,sun", sunday.at(9, 0, 0, 0), true),
            ("*/20 * * * *", monday.at(1, 40, 0, 0), true),
            ("*/20 * * * *", monday.at(1, 41, 0, 0), false),
            ("5/20 * * * *", monday.at(1, 45, 0, 0), true),
            ("10-30/10 * * * *", monday.at(1, 40, 0, 0), false),
            ("* * * nov *", monday.at(0, 0, 0, 0), true),
            ("* * * jan,feb *", monday.at(0, 0, 0, 0), false),
            ("* * 23 * sun", monday.at(0, 0, 0, 0), true),
            ("* * 23 * sun", sunday.at(0, 0, 0, 0), true),
            ("* * 22 * mon", date(2026, 11, 24).at(0, 0, 0, 0), false),
            ("* * */2 * mon", date(2026, 11, 24).at(0, 0, 0, 0), false),
        ] {
            let parsed = Period::parse(period).unwrap();
            assert_eq!(parsed.contains(at), expected, "{period} at {at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(
            Period::parse("* * *").unwrap_err().to_string(),
            "period \"* * *\" has 3 fields; five are needed: minute, hour, day of month, month, day of week"
        );
        assert_eq!(
            Period::parse("* 25 * * *").unwrap_err().to_string(),
            "period \"* 25 * * *\": \"25\" is not a hour (0-23, names, lists, ranges and steps such as 0-23/2)"
        );
        for bad in [
            "60 * * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "+1 * * * *",
            ", * * * *",
            "- * * * *",
        ] {
            Period::parse(bad).unwrap_err();
        }
    }
}
