//! Durations as job variables hold them and as job logs show them: Go's notation.

use std::time::Duration;

/// Reads `1h30m`, `90s`, `1.5h`, `0`. `None` for anything else, negative ones included.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    rest = rest.strip_prefix('+').unwrap_or(rest);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let count: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        seconds += count * unit;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Writes `1h0m0s`, `2m30s`, `15s`, `500ms`.
pub fn show(of: Duration) -> String {
    let (hours, minutes) = (of.as_secs() / 3600, of.as_secs() / 60 % 60);
    let seconds = of.as_secs() % 60;
    let fraction = of.subsec_nanos();
    if of.as_secs() == 0 && fraction > 0 {
        return format!("{}ms", f64::from(fraction) / 1e6);
    }
    let seconds = match fraction {
        0 => seconds.to_string(),
        _ => format!(
            "{seconds}.{}",
            format!("{fraction:09}").trim_end_matches('0')
        ),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_notation_is_read_and_written() {
        let cases = [
            ("1h", 3_600_000, "1h0m0s"),
            ("1h30m5s", 5_405_000, "1h30m5s"),
            ("1.5m", 90_000, "1m30s"),
            ("15s", 15_000, "15s"),
            ("1500ms", 1_500, "1.5s"),
            ("500ms", 500, "500ms"),
            ("0", 0, "0s"),
        ];
        for (text, millis, shown) in cases {
            let duration = parse(text);
            assert_eq!(duration, Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show(Duration::from_millis(millis)), shown);
        }
        for bad in ["", "5", "-1h", "1x", "h", "1h-2m", ".", "soon"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
