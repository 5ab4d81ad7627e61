//! A time as a person writes it: whole, of today, or so long ago; pure.

use std::str::FromStr as _;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::scalars::GoDuration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time; write it like \"2026-11-25T10:42:00Z\", \"2026-11-25 10:42\", \"10:42\" (the last one there was) or \"-5m\""
)]
pub struct BadTime(String);

/// The moment that `text` means at `now`, for a reader in `zone`.
///
/// # Errors
/// If it is none of the ways to write one.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, BadTime> {
    let bad = || BadTime(text.to_owned());
    if text.starts_with('-') {
        let ago = GoDuration::from_str(text).map_err(|_| bad())?;
        return now
            .checked_add(SignedDuration::from_nanos(ago.0))
            .map_err(|_| bad());
    }
    if let Ok(at) = Timestamp::from_str(text) {
        return Ok(at);
    }
    let local = |at: DateTime| zone.to_timestamp(at).map_err(|_| bad());
    if let Ok(at) = DateTime::from_str(text) {
        return local(at);
    }
    let time = Time::from_str(text).map_err(|_| bad())?;
    let today = zone.to_datetime(now).date();
    let at = local(DateTime::from_parts(today, time))?;
    if at <= now {
        return Ok(at);
    }
    let yesterday = today.yesterday().map_err(|_| bad())?;
    local(DateTime::from_parts(yesterday, time))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_way_to_write_a_time() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, meant) in [
            ("2026-11-20T10:42:00Z", "2026-11-20T10:42:00Z"),
            ("2026-11-20T10:42:00+02:00", "2026-11-20T08:42:00Z"),
            ("2026-11-20 10:42", "2026-11-20T09:42:00Z"),
            ("10:42", "2026-11-25T09:42:00Z"),
            ("10:42:07", "2026-11-25T09:42:07Z"),
            ("11:42", "2026-11-24T10:42:00Z"),
            ("-5m", "2026-11-25T09:55:00Z"),
            ("-1h30m", "2026-11-25T08:30:00Z"),
        ] {
            let meant: Timestamp = meant.parse().unwrap();
            assert_eq!(moment(text, now, &zone), Ok(meant), "{text}");
        }
        for text in ["", "soon", "25:00", "-", "5m"] {
            let refused = moment(text, now, &zone).unwrap_err().to_string();
            assert!(
                refused.starts_with(&format!("{text:?} is no time;")),
                "{refused}"
            );
        }
    }
}
