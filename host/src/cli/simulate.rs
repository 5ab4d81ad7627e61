//! The options of `fleetling simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::AnswerFormat;
use crate::config::scalars::GoDuration;

#[derive(Args, Debug)]
pub struct Simulate {
    /// The jobs, as CSV with the columns arrival and duration in seconds, and runner where several are configured
    #[arg(long, value_name = "FILE", required_unless_present = "proof_trace")]
    pub trace: Option<PathBuf>,
    /// A second configuration, whose figures stand beside the first one's
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Look for the cheapest policy that keeps 95 of a hundred waits within --p95-wait, and print it as TOML
    ///
    /// Tried are policies that hold at all times, for the runner of --runner; each is simulated in full. Cheap is what
    /// spends the fewest instance hours.
    #[arg(long, requires = "p95_wait", conflicts_with_all = ["compare", "svg", "decisions"])]
    pub recommend: bool,
    /// The longest wait of 95 of a hundred jobs that --recommend takes, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "recommend")]
    pub p95_wait: Option<Duration>,
    /// Whose jobs are those that name no runner; the first one that can be used, if not given
    #[arg(long, value_name = "NAME")]
    pub runner: Option<String>,
    /// Wall time of second 0: it decides which periods of the policies hold
    #[arg(long, value_name = "TIME", default_value = "2026-01-05T00:00:00Z")]
    pub start: Timestamp,
    /// From the request for an instance until the cloud lists it as running: the median
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "45s")]
    pub boot: Duration,
    /// How far boot times lie apart: the standard deviation of their logarithms; at 0.2 two of three are within a fifth
    #[arg(long, value_name = "NUMBER", value_parser = spread, default_value = "0.2")]
    pub boot_spread: f64,
    /// From the first sight of a running instance until it takes jobs
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s")]
    pub connect: Duration,
    /// From the request to delete an instance until it is gone
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub delete: Duration,
    /// Chooses the boot times; the same seed gives the same result
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How the answer looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AnswerFormat,
    /// Also draw instances and waiting jobs over time into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Also print every decision that changed something, with its reason
    #[arg(long)]
    pub decisions: bool,
    /// Print a trace to try this with, and do nothing else: a week of 110,000 jobs, 10,000 of them within 20 minutes
    #[arg(long, exclusive = true)]
    pub proof_trace: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let GoDuration(nanos) = text
        .parse()
        .map_err(|_| "no duration; write one such as 45s or 1m30s".to_owned())?;
    let nanos = u64::try_from(nanos).map_err(|_| "below zero; write one from 0s".to_owned())?;
    Ok(Duration::from_nanos(nanos))
}

fn spread(text: &str) -> Result<f64, String> {
    let spread = text
        .parse()
        .ok()
        .filter(|spread| (0.0..=2.0).contains(spread));
    spread.ok_or_else(|| "no spread; write a number from 0 to 2, such as 0.2".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<super::Simulate, clap::Error> {
        let cli = Cli::try_parse_from(line.split(' '))?;
        match cli.command {
            Command::Simulate(simulate) => Ok(*simulate),
            other => panic!("{other:?} is not simulate"),
        }
    }

    #[test]
    fn the_words_of_the_manual_are_understood() {
        let line = "fleetling simulate --config config.toml --trace jobs.csv";
        let simulate = parse(line).unwrap();
        assert_eq!(simulate.boot.as_secs(), 45);
        assert_eq!(simulate.start.to_string(), "2026-01-05T00:00:00Z");
        parse(&format!(
            "{line} --compare other.toml --svg a.svg --decisions"
        ))
        .unwrap();
        let recommend = parse(&format!("{line} --recommend --p95-wait 1m30s")).unwrap();
        assert_eq!(recommend.p95_wait.unwrap().as_secs(), 90);
        assert!(
            parse("fleetling simulate --proof-trace")
                .unwrap()
                .proof_trace
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (options, told) in [
            ("", "--trace <FILE>"),
            (" --trace a.csv --recommend", "--p95-wait <DURATION>"),
            (
                " --trace a.csv --boot soon",
                "no duration; write one such as 45s or 1m30s",
            ),
            (" --trace a.csv --boot=-1s", "below zero; write one from 0s"),
            (
                " --trace a.csv --boot-spread 3",
                "no spread; write a number from 0 to 2",
            ),
            (" --trace a.csv --start yesterday", "--start <TIME>"),
        ] {
            let told_now = parse(&format!("fleetling simulate{options}"))
                .unwrap_err()
                .to_string();
            assert!(told_now.contains(told), "{told_now}");
        }
    }
}
