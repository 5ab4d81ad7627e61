//! One entry of `ulimit`: `soft[:hard]`; -1 is no limit.

use std::fmt;
use std::str::FromStr;

/// The limits that Linux knows, by Docker's names.
pub const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    pub soft: i64,
    /// Not below `soft`, or -1.
    pub hard: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUlimit;

impl fmt::Display for NoUlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"is no limit; write it like "1024" or "1024:2048", the soft one first"#)
    }
}

impl FromStr for Ulimit {
    type Err = NoUlimit;

    fn from_str(text: &str) -> Result<Self, NoUlimit> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| {
            let number: i64 = text.parse().map_err(|_| NoUlimit)?;
            if number < -1 {
                Err(NoUlimit)
            } else {
                Ok(number)
            }
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        // Without a limit is above every limit.
        if hard != -1 && (soft > hard || soft == -1) {
            return Err(NoUlimit);
        }
        Ok(Self { soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_soft_one_unless_it_is_given() {
        for (text, soft, hard) in [
            ("1024", 1024, 1024),
            ("1024:2048", 1024, 2048),
            ("0", 0, 0),
            ("-1", -1, -1),
            ("1024:-1", 1024, -1),
        ] {
            assert_eq!(text.parse(), Ok(Ulimit { soft, hard }), "{text}");
        }
        for text in ["", "many", "1:2:3", "2:1", "-1:5", "-2", "1:", ":1", "1.5"] {
            assert_eq!(text.parse::<Ulimit>(), Err(NoUlimit), "{text}");
        }
    }
}
