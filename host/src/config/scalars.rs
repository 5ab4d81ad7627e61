//! Values that GitLab Runner reads with Go libraries: durations, sizes, processor counts, `$VAR` in text.
//!
//! Each accepts exactly what its Go original accepts: a file that works here and fails there would be a trap.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Magnitudes up to here fit; exactly this one fits only below zero.
const LIMIT: u64 = 1 << 63;

/// Go's `time.Duration`: nanoseconds, from about -292 to 292 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl GoDuration {
    /// `None` where it is zero or less: GitLab Runner then takes the key's default.
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// Longer than Go can say becomes the longest that it can.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// The text is none of Go's durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no duration")]
pub struct NoDuration;

impl FromStr for GoDuration {
    type Err = NoDuration;

    /// `time.ParseDuration`: sums of decimal numbers with a unit each, such as `1h30m`, `1.5h`, `-.5s`, and the bare `0`.
    fn from_str(text: &str) -> Result<Self, NoDuration> {
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(NoDuration);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (part, after) = one_part(rest)?;
            total = total
                .checked_add(part)
                .filter(|sum| *sum <= LIMIT)
                .ok_or(NoDuration)?;
            rest = after;
        }
        match (negative, i64::try_from(total)) {
            (false, Ok(nanos)) => Ok(Self(nanos)),
            (true, Ok(nanos)) => Ok(Self(-nanos)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Err(_)) => Err(NoDuration),
        }
    }
}

/// Reads one number and its unit; answers nanoseconds and what follows.
fn one_part(text: &str) -> Result<(u64, &str), NoDuration> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();

    let whole_len = digits(text);
    let mut whole: u64 = 0;
    for digit in text[..whole_len].bytes() {
        whole = whole
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= LIMIT)
            .ok_or(NoDuration)?;
    }
    let mut rest = &text[whole_len..];

    let (mut fraction, mut scale, mut fraction_len) = (0_u64, 1.0_f64, 0);
    if let Some(after_point) = rest.strip_prefix('.') {
        fraction_len = digits(after_point);
        for digit in after_point[..fraction_len].bytes() {
            // Digits beyond what fits are below a nanosecond: Go drops them, and so do we.
            let Some(next) = fraction
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit - b'0')))
                .filter(|value| *value < LIMIT)
            else {
                break;
            };
            fraction = next;
            scale *= 10.0;
        }
        rest = &after_point[fraction_len..];
    }
    if whole_len == 0 && fraction_len == 0 {
        return Err(NoDuration);
    }

    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let unit = match &rest[..unit_len] {
        "ns" => NANOSECOND,
        // U+00B5, the micro sign, and U+03BC, the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return Err(NoDuration),
    };
    let mut nanos = whole
        .checked_mul(unit)
        .filter(|value| *value <= LIMIT)
        .ok_or(NoDuration)?;
    if fraction > 0 {
        nanos += (fraction as f64 * (unit as f64 / scale)) as u64;
        if nanos > LIMIT {
            return Err(NoDuration);
        }
    }
    Ok((nanos, &rest[unit_len..]))
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `20m0s`, `1.5s`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            n if n < MICROSECOND => write!(f, "{n}ns"),
            n if n < MILLISECOND => decimal(f, n, MICROSECOND, "\u{b5}s"),
            n if n < SECOND => decimal(f, n, MILLISECOND, "ms"),
            n => {
                if n >= HOUR {
                    write!(f, "{}h", n / HOUR)?;
                }
                if n >= MINUTE {
                    write!(f, "{}m", n % HOUR / MINUTE)?;
                }
                decimal(f, n % MINUTE, SECOND, "s")
            }
        }
    }
}

/// `nanos` in `unit`, without trailing zeros.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let remainder = nanos % unit;
    if remainder > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{remainder:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

/// Bytes, as Docker's `units.RAMInBytes` reads them: `512m`, `1.5 GiB`, `64kb`, `100`. Units count in 1024.
pub fn bytes(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let suffix = text[last + 1..].to_ascii_lowercase();
    let number = match text.as_bytes()[last] {
        b' ' => &text[..last],
        _ => &text[..=last],
    };
    let number: f64 = number.parse().ok().filter(|n: &f64| *n >= 0.0)?;
    let shift = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let size = number * f64::from(shift).exp2();
    (size < i64::MAX as f64).then_some(size as i64)
}

/// Billionths of a processor: a decimal or a fraction such as `0.5`, `1.5e-1`, `3/2`, times 10⁹, cut off.
pub fn nano_cpus(text: &str) -> Option<i64> {
    let (numerator, denominator) = match text.split_once('/') {
        Some((above, below)) if below.bytes().all(|b| b.is_ascii_digit()) => {
            (scaled(above, 0)?, below.parse::<i128>().ok()?)
        }
        Some(_) => return None,
        None => (scaled(text, 9)?, 1),
    };
    let times = if text.contains('/') { 1_000_000_000 } else { 1 };
    let nanos = numerator.checked_mul(times)?.checked_div(denominator)?;
    i64::try_from(nanos).ok()
}

/// A decimal number times 10^`places`, what is below one cut off. With no places it must be whole.
fn scaled(text: &str, places: i32) -> Option<i128> {
    let (sign, text) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || places == 0 && text.contains(['.', 'e', 'E']) {
        return None;
    }
    let digits: i128 = match format!("{whole}{fraction}") {
        all if all.bytes().all(|b| b.is_ascii_digit()) => all.parse().ok()?,
        _ => return None,
    };
    let shift = exponent
        .checked_add(places)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let value = match (shift >= 0, power) {
        (true, Some(power)) => digits.checked_mul(power)?,
        (true, None) => return (digits == 0).then_some(0),
        (false, Some(power)) => digits / power,
        (false, None) => 0,
    };
    Some(sign * value)
}

/// `$VAR` and `${VAR}` replaced as Go's `os.ExpandEnv` does; a variable that is not set becomes nothing and is told to
/// `unset`.
pub fn expand(
    text: &str,
    env: impl Fn(&str) -> Option<String>,
    mut unset: impl FnMut(&str),
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, used) = variable_name(after);
        match name {
            Some(name) => match env(name) {
                Some(value) => out.push_str(&value),
                None => unset(name),
            },
            // Malformed braces vanish; a dollar sign that begins no name stays.
            None if used == 0 => out.push('$'),
            None => {}
        }
        rest = &after[used..];
    }
    out.push_str(rest);
    out
}

/// The name that begins `text`, which follows a dollar sign, and how many bytes it takes.
fn variable_name(text: &str) -> (Option<&str>, usize) {
    let special = |b: u8| {
        matches!(
            b,
            b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9'
        )
    };
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'{') => match text.find('}') {
            Some(1) => (None, 2),
            Some(end) => (Some(&text[1..end]), end + 1),
            None => (None, 1),
        },
        Some(b) if special(*b) => (Some(&text[..1]), 1),
        _ => {
            let len = bytes
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count();
            ((len > 0).then(|| &text[..len]), len)
        }
    }
}

#[cfg(test)]
mod tests;
