//! `gpus` and `service_gpus`, in the words of `docker run --gpus`: `all`, `2`, `"device=0,1",capabilities=utility`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What Docker calls a device request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpus {
    /// As the operator wrote it, for GitLab.
    pub written: String,
    pub driver: String,
    /// -1 is all; 0 where `devices` names them.
    pub count: i64,
    pub devices: Vec<String>,
    pub capabilities: Vec<String>,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoGpus {
    Count(String),
    Key(String),
    Twice(String),
    Quotes,
}

impl fmt::Display for NoGpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(text) => {
                write!(
                    f,
                    r#"{text:?} is no count of GPUs; write "all" or a number"#
                )
            }
            Self::Key(key) => write!(
                f,
                "{key:?} is unknown; it may be count, device, driver, capabilities or options"
            ),
            Self::Twice(key) => write!(f, "{key} is given twice; leave one"),
            Self::Quotes => f.write_str(
                r#"its quotes do not match; write it like '"device=0,1",capabilities=utility'"#,
            ),
        }
    }
}

impl FromStr for Gpus {
    type Err = NoGpus;

    fn from_str(text: &str) -> Result<Self, NoGpus> {
        let mut gpus = Self {
            written: text.into(),
            driver: String::new(),
            count: 0,
            devices: Vec::new(),
            capabilities: vec!["gpu".into()],
            options: BTreeMap::new(),
        };
        let mut seen: Vec<String> = Vec::new();
        for field in record(text)? {
            let (key, value) = match field.split_once('=') {
                Some(pair) => pair,
                None => ("count", field.as_str()),
            };
            if seen.iter().any(|earlier| earlier == key) {
                return Err(NoGpus::Twice(key.into()));
            }
            seen.push(key.into());
            match key {
                "count" => gpus.count = count(value)?,
                "driver" => gpus.driver = value.into(),
                "device" => gpus.devices = listed(value),
                "capabilities" => {
                    gpus.capabilities = listed(value);
                    gpus.capabilities.push("gpu".into());
                }
                "options" => {
                    let pairs = record(value)?.into_iter().map(|option| {
                        let (key, value) = option.split_once('=').unwrap_or((&option, ""));
                        (key.to_owned(), value.to_owned())
                    });
                    gpus.options = pairs.collect();
                }
                other => return Err(NoGpus::Key(other.into())),
            }
        }
        let counted = seen.iter().any(|key| key == "count");
        if !counted && gpus.devices.is_empty() {
            gpus.count = 1;
        }
        Ok(gpus)
    }
}

fn count(text: &str) -> Result<i64, NoGpus> {
    let number = || text.parse().ok().filter(|count| *count >= -1);
    match text {
        "all" => Ok(-1),
        _ => number().ok_or_else(|| NoGpus::Count(text.into())),
    }
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// One line of comma-separated values.
fn record(text: &str) -> Result<Vec<String>, NoGpus> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let record = reader.records().next().transpose();
    let record = record.map_err(|_| NoGpus::Quotes)?.unwrap_or_default();
    // The reader is lenient with a quote that is never closed.
    if text.matches('"').count() % 2 == 1 {
        return Err(NoGpus::Quotes);
    }
    Ok(record.iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: i64, devices: &[&str], capabilities: &[&str]) -> Gpus {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Gpus {
            written: String::new(),
            driver: String::new(),
            count,
            devices: owned(devices),
            capabilities: owned(capabilities),
            options: BTreeMap::new(),
        }
    }

    #[test]
    fn requests_are_read_as_docker_run_reads_them() {
        for (text, wanted) in [
            ("all", gpus(-1, &[], &["gpu"])),
            ("2", gpus(2, &[], &["gpu"])),
            ("count=3", gpus(3, &[], &["gpu"])),
            ("device=GPU-1", gpus(0, &["GPU-1"], &["gpu"])),
            (r#""device=0,1""#, gpus(0, &["0", "1"], &["gpu"])),
            ("capabilities=utility", gpus(1, &[], &["utility", "gpu"])),
            (
                r#"all,"capabilities=compute,utility",driver=nvidia,"options=a=1,b""#,
                Gpus {
                    driver: "nvidia".into(),
                    options: [("a".into(), "1".into()), ("b".into(), String::new())].into(),
                    ..gpus(-1, &[], &["compute", "utility", "gpu"])
                },
            ),
        ] {
            let written = text.to_owned();
            assert_eq!(text.parse(), Ok(Gpus { written, ..wanted }), "{text}");
        }
        for (text, why) in [
            ("some", NoGpus::Count("some".into())),
            ("count=-2", NoGpus::Count("-2".into())),
            ("1,count=2", NoGpus::Twice("count".into())),
            ("driver=a,driver=b", NoGpus::Twice("driver".into())),
            ("colour=red", NoGpus::Key("colour".into())),
            (r#""device=0,1"#, NoGpus::Quotes),
        ] {
            assert_eq!(text.parse::<Gpus>(), Err(why), "{text}");
        }
    }
}
