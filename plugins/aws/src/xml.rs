//! The answers of the Query protocol, as far as they are of use.

pub(crate) mod activities;
pub(crate) mod autoscaling;
pub(crate) mod ec2;
pub(crate) mod sts;

use std::time::SystemTime;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::DeserializeOwned;

/// A result, or what about the body is not as expected.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())?;
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

/// Code and message of an error, in whichever of the Query protocol's shapes: both stand in elements of these names,
/// one or three levels deep. Empty where the body is no such XML, as from a proxy in between.
pub(crate) fn error(body: &[u8]) -> (String, String) {
    let body = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&body);
    let mut inside: Option<String> = None;
    let (mut code, mut message) = (String::new(), String::new());
    loop {
        let event = reader.read_event();
        match event {
            Ok(Event::Start(start)) => inside = Some(start.local_name().as_ref().to_owned()),
            Ok(Event::End(_)) => inside = None,
            Ok(Event::Text(text)) => {
                take(inside.as_deref(), &text, &mut code, &mut message);
            }
            Ok(Event::GeneralRef(entity)) => {
                let text = match entity.as_ref() {
                    "lt" => "<",
                    "gt" => ">",
                    "amp" => "&",
                    "quot" => "\"",
                    "apos" => "'",
                    _ => "?",
                };
                take(inside.as_deref(), text, &mut code, &mut message);
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    (code.trim().to_owned(), message.trim().to_owned())
}

fn take(inside: Option<&str>, text: &str, code: &mut String, message: &mut String) {
    match inside {
        Some("Code") => code.push_str(text),
        Some("Message") => message.push_str(text),
        _ => {}
    }
}

/// The time in a `Date` header.
pub(crate) fn http_date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).ok()
}

/// Milliseconds since 1970 of `2026-11-23T22:28:01.500Z`; none if it is anything else.
pub(crate) fn millis(timestamp: &str) -> Option<u64> {
    let (date, time) = timestamp.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970, counting years from March, so that the leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    u64::try_from(seconds * 1000 + thousandths).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_error_shapes_and_no_xml_at_all() {
        let nested =
            b"<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>a &lt;b&gt; c</Message></Error><RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(error(nested), ("AccessDenied".into(), "a <b> c".into()));
        let query = b"<?xml version=\"1.0\"?><Response><Errors><Error><Code>AuthFailure</Code>\
            <Message>AWS was not able\nto validate</Message></Error></Errors><RequestID>1</RequestID></Response>";
        assert_eq!(
            error(query),
            ("AuthFailure".into(), "AWS was not able\nto validate".into())
        );
        for other in [
            "<!doctype html><title>500</title><p>oops",
            "",
            "Bad Gateway",
            "{}",
        ] {
            assert_eq!(error(other.as_bytes()), (String::new(), String::new()));
        }
    }

    #[test]
    fn timestamps_become_milliseconds() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2026-01-02T03:04:05.000Z", Some(1_767_323_045_000)),
            ("2026-13-02T03:04:05Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
