//! Which policy holds now: the last whose period contains the minute; pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::period::{BadPeriod, Period};
use crate::config::usable::Policy;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error(transparent)]
    Period(#[from] BadPeriod),
    #[error("timezone {0:?} is not known; an IANA name such as \"Europe/Berlin\" is needed")]
    Timezone(String),
}

#[derive(Clone, Debug)]
struct Entry {
    /// None at all means always.
    periods: Vec<Period>,
    zone: TimeZone,
    policy: Policy,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    entries: Vec<Entry>,
    none: Policy,
}

impl Schedule {
    /// `system` is the time zone of policies that name none.
    pub fn new(policies: &[Policy], system: &TimeZone) -> Result<Self, BadSchedule> {
        let entries = policies
            .iter()
            .map(|policy| {
                let periods = policy.periods.iter().map(|p| Period::parse(p));
                Ok(Entry {
                    periods: periods.collect::<Result<_, _>>()?,
                    zone: match policy.timezone.as_deref() {
                        None | Some("") => system.clone(),
                        Some(name) => {
                            TimeZone::get(name).map_err(|_| BadSchedule::Timezone(name.into()))?
                        }
                    },
                    policy: policy.clone(),
                })
            })
            .collect::<Result<_, BadSchedule>>()?;
        Ok(Self {
            entries,
            none: no_policy(),
        })
    }

    pub fn at(&self, now: Timestamp) -> &Policy {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.holds(now))
            .map_or(&self.none, |entry| &entry.policy)
    }

    /// Whether the policy may differ from one minute to the next.
    pub fn changes(&self) -> bool {
        self.entries.iter().any(|e| !e.periods.is_empty())
    }
}

impl Entry {
    fn holds(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        self.periods.is_empty() || self.periods.iter().any(|period| period.contains(local))
    }
}

/// What holds when no policy does: nothing idle, and what is idle may stay for five minutes.
fn no_policy() -> Policy {
    Policy {
        periods: Vec::new(),
        timezone: None,
        idle_count: 0,
        idle_time: Duration::from_secs(300),
        scale_factor: 0.0,
        scale_factor_limit: 0,
        preemptive_mode: false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn policy(periods: &[&str], timezone: Option<&str>, idle_count: u32) -> Policy {
        Policy {
            periods: periods.iter().map(ToString::to_string).collect(),
            timezone: timezone.map(Into::into),
            idle_count,
            ..no_policy()
        }
    }

    #[test]
    fn the_last_that_matches_wins_and_none_is_nothing_idle() {
        let policies = [
            policy(&["* 6-20 * * *"], Some("UTC"), 1),
            policy(&["* 8-9 * * *", "* 12 * * *"], Some("UTC"), 5),
        ];
        let schedule = Schedule::new(&policies, &TimeZone::UTC).unwrap();
        for (at, idle) in [
            ("07:59", 1),
            ("08:00", 5),
            ("10:00", 1),
            ("12:30", 5),
            ("21:00", 0),
        ] {
            let now: Timestamp = format!("2026-11-23T{at}:00Z").parse().unwrap();
            assert_eq!(schedule.at(now).idle_count, idle, "{at}");
        }
        let night = schedule.at("2026-11-23T03:00:00Z".parse().unwrap());
        assert_eq!(night.idle_time, Duration::from_secs(300));
    }

    #[test]
    fn a_policy_has_its_own_clock() {
        let policies = [policy(&["* 8 * * *"], Some("America/New_York"), 3)];
        let schedule = Schedule::new(&policies, &TimeZone::UTC).unwrap();
        assert_eq!(
            schedule
                .at("2026-07-01T12:10:00Z".parse().unwrap())
                .idle_count,
            3
        );
        assert_eq!(
            schedule
                .at("2026-07-01T08:10:00Z".parse().unwrap())
                .idle_count,
            0
        );
    }

    /// Clocks go forward and back, by an hour and by half of one, at night and on either side of the equator.
    #[test]
    fn a_policy_follows_its_clock_through_both_changes_of_time() {
        for (zone, period, at, holds) in [
            // Berlin, 29 March: 02:00 is followed by 03:00. The hour of 2 does not exist.
            ("Europe/Berlin", "* 1 * * *", "2026-03-29T00:59:00Z", true),
            ("Europe/Berlin", "* 2 * * *", "2026-03-29T00:59:00Z", false),
            ("Europe/Berlin", "* 2 * * *", "2026-03-29T01:00:00Z", false),
            ("Europe/Berlin", "* 2 * * *", "2026-03-29T01:59:00Z", false),
            ("Europe/Berlin", "* 3 * * *", "2026-03-29T01:00:00Z", true),
            ("Europe/Berlin", "* 2-4 * * *", "2026-03-29T01:00:00Z", true),
            // Berlin, 25 October: 03:00 is followed by 02:00. The hour of 2 comes twice.
            ("Europe/Berlin", "* 2 * * *", "2026-10-24T23:59:00Z", false),
            ("Europe/Berlin", "* 2 * * *", "2026-10-25T00:00:00Z", true),
            ("Europe/Berlin", "* 2 * * *", "2026-10-25T00:59:00Z", true),
            ("Europe/Berlin", "* 2 * * *", "2026-10-25T01:00:00Z", true),
            ("Europe/Berlin", "* 2 * * *", "2026-10-25T01:59:00Z", true),
            ("Europe/Berlin", "* 2 * * *", "2026-10-25T02:00:00Z", false),
            ("Europe/Berlin", "* * * * sun", "2026-10-24T22:00:00Z", true),
            ("Europe/Berlin", "* * * * sun", "2026-10-25T22:59:00Z", true),
            (
                "Europe/Berlin",
                "* * * * sun",
                "2026-10-25T23:00:00Z",
                false,
            ),
            // New York, 8 March and 1 November.
            (
                "America/New_York",
                "* 2 * * *",
                "2026-03-08T07:00:00Z",
                false,
            ),
            (
                "America/New_York",
                "* 3 * * *",
                "2026-03-08T07:00:00Z",
                true,
            ),
            (
                "America/New_York",
                "* 1 * * *",
                "2026-11-01T05:30:00Z",
                true,
            ),
            (
                "America/New_York",
                "* 1 * * *",
                "2026-11-01T06:30:00Z",
                true,
            ),
            (
                "America/New_York",
                "* 1 * * *",
                "2026-11-01T07:00:00Z",
                false,
            ),
            // Lord Howe, half an hour: 5 April 02:00 is followed by 01:30; 4 October 02:00 by 02:30.
            (
                "Australia/Lord_Howe",
                "30-59 1 * * *",
                "2026-04-04T14:59:00Z",
                true,
            ),
            (
                "Australia/Lord_Howe",
                "30-59 1 * * *",
                "2026-04-04T15:00:00Z",
                true,
            ),
            (
                "Australia/Lord_Howe",
                "* 2 * * *",
                "2026-04-04T15:30:00Z",
                true,
            ),
            (
                "Australia/Lord_Howe",
                "0-29 2 * * *",
                "2026-10-03T15:30:00Z",
                false,
            ),
            (
                "Australia/Lord_Howe",
                "30 2 * * *",
                "2026-10-03T15:30:00Z",
                true,
            ),
            // No change of time, and a date line.
            ("Asia/Kolkata", "* 0 * * *", "2026-06-30T18:30:00Z", true),
            (
                "Pacific/Kiritimati",
                "* * 1 jan *",
                "2025-12-31T10:00:00Z",
                true,
            ),
        ] {
            let schedule = Schedule::new(&[policy(&[period], Some(zone), 7)], &TimeZone::UTC);
            let found = schedule.unwrap().at(at.parse().unwrap()).idle_count == 7;
            assert_eq!(found, holds, "{period:?} in {zone} at {at}");
        }
    }

    #[test]
    fn no_period_is_always_and_never_changes() {
        let schedule = Schedule::new(&[policy(&[], None, 2)], &TimeZone::UTC).unwrap();
        assert_eq!(schedule.at(Timestamp::UNIX_EPOCH).idle_count, 2);
        assert!(!schedule.changes());
    }

    #[test]
    fn an_unknown_timezone_is_named() {
        let bad = Schedule::new(&[policy(&[], Some("Mars/Olympus"), 2)], &TimeZone::UTC);
        assert_eq!(
            bad.unwrap_err().to_string(),
            "timezone \"Mars/Olympus\" is not known; an IANA name such as \"Europe/Berlin\" is needed"
        );
    }
}
