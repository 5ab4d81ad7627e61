//! Hours that no policy covers: users were hurt by nights in which nothing they had written held.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::config::period::Period;
use crate::config::usable::Policy;

/// A Monday. Any year will do: periods know no year.
const BEGIN: Date = date(2026, 1, 5);

struct Covered {
    periods: Vec<Period>,
    zone: TimeZone,
}

/// The first time without a policy, in words; `None` when there is none. Looks at every minute of a week and every
/// hour of a year. A policy that names no zone is in the system's, which is not asked for here: all such are alike.
pub(super) fn gap(policies: &[Policy]) -> Option<String> {
    let covered: Option<Vec<Covered>> = policies
        .iter()
        .map(|policy| {
            let periods = policy.periods.iter().map(|text| Period::parse(text).ok());
            let zone = policy.timezone.as_deref().filter(|name| !name.is_empty());
            Some(Covered {
                periods: periods.collect::<Option<_>>()?,
                zone: zone.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())?,
            })
        })
        .collect();
    // What cannot be read is told by itself.
    let covered = covered.filter(|covered| !covered.is_empty())?;
    let holds = |at: Timestamp| {
        covered.iter().any(|policy| {
            let local = policy.zone.to_datetime(at);
            policy.periods.iter().any(|period| period.contains(local))
        })
    };
    let zone = policies[0].timezone.as_deref().unwrap_or_default();
    let said = if zone.is_empty() {
        "the system's time zone"
    } else {
        zone
    };
    let shown =
        |at: Timestamp, format: &str| covered[0].zone.to_datetime(at).strftime(format).to_string();

    let start = covered[0].zone.to_timestamp(BEGIN.at(0, 0, 0, 0)).ok()?;
    let minute = |n: i64| start + n.minutes();
    let week = 7 * 24 * 60;
    if let Some(from) = (0..week).find(|n| !holds(minute(*n))) {
        let to = (from..from + week).find(|n| holds(minute(*n)));
        let until = to.map_or_else(
            || "on".to_owned(),
            |to| format!("to {}", shown(minute(to), "%A %H:%M")),
        );
        return Some(format!(
            "{} {until} ({said})",
            shown(minute(from), "%A %H:%M")
        ));
    }
    let hour = |n: i64| start + n.hours();
    let from = (0..366 * 24).find(|n| !holds(hour(*n)))?;
    Some(format!("{} on ({said})", shown(hour(from), "%d %B %H:%M")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(timezone: Option<&str>, periods: &[&str]) -> Policy {
        Policy {
            periods: periods.iter().map(ToString::to_string).collect(),
            timezone: timezone.map(Into::into),
            idle_count: 1,
            idle_time: Duration::ZERO,
            scale_factor: 0.0,
            scale_factor_limit: 0,
            preemptive_mode: true,
        }
    }

    #[test]
    fn the_first_hour_without_a_policy_is_named() {
        let always = ["* * * * *"];
        for (policies, expected) in [
            (vec![], None),
            (vec![policy(None, &always)], None),
            (
                vec![policy(None, &["* 8-17 * * mon-fri"])],
                Some("Monday 00:00 to Monday 08:00 (the system's time zone)"),
            ),
            (
                vec![policy(Some("Europe/Berlin"), &["* 0-17 * * *"])],
                Some("Monday 18:00 to Tuesday 00:00 (Europe/Berlin)"),
            ),
            (
                vec![
                    policy(Some("Europe/Berlin"), &["* 0-17 * * *"]),
                    policy(Some("UTC"), &["* 15-22 * * *"]),
                ],
                None,
            ),
            (
                vec![policy(None, &["0-58 * * * *"])],
                Some("Monday 00:59 to Monday 01:00 (the system's time zone)"),
            ),
            (
                vec![policy(None, &["* * * 1-6,8-12 *"])],
                Some("01 July 00:00 on (the system's time zone)"),
            ),
            (vec![policy(None, &["not a period"])], None),
        ] {
            assert_eq!(gap(&policies).as_deref(), expected, "{policies:?}");
        }
    }
}
