//! The command line: what can be asked of `fleetling`, and the help that says so.

pub mod plugin;
pub mod simulate;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use plugin::PluginCommand;
pub use simulate::Simulate;

/// A GitLab runner manager for autoscaled Docker instances.
///
/// It reads the config.toml of GitLab Runner's docker-autoscaler executor, takes CI jobs from GitLab and runs each on a
/// cloud instance that is created when jobs wait and deleted when they are done. Clouds are reached through plugins:
/// one .wasm file each, run in a sandbox that reaches nothing but what you granted.
#[derive(Debug, Parser)]
#[command(name = "fleetling", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The configuration file
    ///
    /// Without it: as root /etc/fleetling/config.toml, then /etc/gitlab-runner/config.toml; as another user the same
    /// in ~/.fleetling and ~/.gitlab-runner; last of all ./config.toml.
    #[arg(short, long, global = true, env = "CONFIG_FILE", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A folder with plugins (.wasm); may be given more than once, the first that has a plugin wins
    #[arg(long = "plugin-dir", global = true, value_name = "FOLDER")]
    pub plugin_dirs: Vec<PathBuf>,
    /// How much is logged; wins over the configuration's log_level
    #[arg(
        short,
        long,
        global = true,
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        ignore_case = true
    )]
    pub log_level: Option<LogLevel>,
    /// How a log line looks; wins over the configuration's log_format
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        ignore_case = true
    )]
    pub log_format: Option<LogFormat>,
    /// The same as --log-level debug
    #[arg(long, global = true, env = "RUNNER_DEBUG", value_parser = BoolishValueParser::new())]
    pub debug: bool,
}

impl Common {
    /// The level asked for here, if any.
    pub fn level(&self) -> Option<LogLevel> {
        if self.debug {
            return Some(LogLevel::Debug);
        }
        self.log_level
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the manager: take jobs and scale instances until told to stop
    ///
    /// SIGQUIT stops asking for jobs and waits for those that run. SIGTERM and SIGINT end running jobs within
    /// shutdown_timeout; a second one ends at once.
    Run(Run),
    /// Ask GitLab whether it knows each runner's token
    Verify(Verify),
    /// Print the runners of the configuration, without their tokens
    List,
    /// Replay a trace of jobs against the configured policies, in virtual time
    ///
    /// The manager's own rules decide; instances are simulated. The fleet is empty at second 0 and the simulation ends
    /// when the last job has ended and nothing idle is left to be removed. Taking a job from GitLab takes no time beside
    /// check_interval, calls of the plugin answer at once and well, and instances never fail. The cloud is read every
    /// update_interval_when_expecting while something is to change there, else every update_interval. An instance is
    /// paid for from the request until it is seen gone. A job starts when it gets its slot, and waits until then from
    /// its arrival.
    Simulate(Box<Simulate>),
    /// Show how a running manager stands: groups, decisions, problems, instances, jobs
    ///
    /// It asks at the configuration's listen_address and changes nothing. Exit status 1 if no manager answers.
    Status(Status),
    /// Tell the story of a job or an instance, and why it went as it did
    ///
    /// It reads the journal in the state directory, which covers the last 14 days; no manager needs to run.
    #[command(subcommand)]
    Why(WhyCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Compile the plugin on standard input into a cache; what `run` starts for a large one
    #[command(hide = true)]
    CompilePlugin {
        /// The cache's folder
        cache: PathBuf,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub struct Run {
    /// Where metrics and status are served, as host:port; wins over the configuration's listen_address
    #[arg(long, env = "LISTEN_ADDRESS", value_name = "ADDRESS")]
    pub listen_address: Option<String>,
    /// Change to this folder first
    #[arg(short = 'd', long, value_name = "FOLDER")]
    pub working_directory: Option<PathBuf>,
    /// Taken so that service files of GitLab Runner work; systemd's own `User=` decides
    #[arg(short, long, hide = true)]
    pub user: Option<String>,
    /// Taken so that service files of GitLab Runner work; it has no effect
    #[arg(short = 'n', long, hide = true)]
    pub service: Option<String>,
    /// Taken so that service files of GitLab Runner work; the log goes to standard error
    #[arg(long, hide = true, env = "LOG_SYSLOG", value_parser = BoolishValueParser::new())]
    pub syslog: bool,
}

impl Run {
    /// Options that were given and have no effect, to be told at start.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let given = [
            ("--user", self.user.is_some()),
            ("--service", self.service.is_some()),
            ("--syslog", self.syslog),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }
}

#[derive(Args, Debug)]
pub struct Verify {
    /// Only the runner of this name
    #[arg(short, long)]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Status {
    /// Where the manager listens, as host:port; wins over the configuration's listen_address
    #[arg(long, env = "LISTEN_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<String>,
    /// How the answer looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AnswerFormat,
}

#[derive(Debug, Subcommand)]
pub enum WhyCommand {
    /// When it was received, what was decided while it waited, its instance, its end
    Job {
        /// GitLab's number of the job
        id: u64,
        #[command(flatten)]
        how: How,
    },
    /// What asked for it, which jobs used it, why it was removed
    Instance {
        /// The cloud's name of the instance
        id: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args, Debug)]
pub struct How {
    /// Show the state and the last decision at a time: 2026-11-25T10:42:00Z, "2026-11-25 10:42", 10:42, -5m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// How the answer looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AnswerFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every problem of the configuration; exit status 1 if there is one
    Lint,
}

/// GitLab Runner's names; `panic` and `fatal` are read as `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    #[value(aliases = ["panic", "fatal"])]
    Error,
    #[value(alias = "warn")]
    Warning,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, message, fields; coloured on a terminal
    Runner,
    /// key=value
    Text,
    /// One JSON object a line
    Json,
}

/// The completion script for `shell`.
pub fn completion(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "fleetling", &mut script);
    script
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_may_stand_before_and_after_the_command() {
        for line in [
            "fleetling -c a.toml --plugin-dir p --plugin-dir q --log-level warn run",
            "fleetling run -c a.toml --plugin-dir p --plugin-dir q -l warning",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.common.config, Some("a.toml".into()), "{line}");
            assert_eq!(
                cli.common.plugin_dirs,
                [PathBuf::from("p"), "q".into()],
                "{line}"
            );
            assert_eq!(cli.common.level(), Some(LogLevel::Warning), "{line}");
        }
    }

    #[test]
    fn a_service_file_of_gitlab_runner_works() {
        let line = "gitlab-runner run --config /etc/gitlab-runner/config.toml --working-directory /home/gitlab-runner \
                    --service gitlab-runner --user gitlab-runner";
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(run.working_directory, Some("/home/gitlab-runner".into()));
        assert_eq!(run.without_effect(), ["--user", "--service"]);
    }

    #[test]
    fn only_what_works_is_listed() {
        let command = Cli::command();
        let names: Vec<_> = command
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "run",
                "verify",
                "list",
                "simulate",
                "status",
                "why",
                "config",
                "plugin",
                "compile-plugin",
                "completion"
            ]
        );
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("takes CI jobs from GitLab"), "{help}");
    }

    #[test]
    fn a_time_ago_is_no_option() {
        let line = "fleetling why job 123 --at -5m --format json";
        let Command::Why(WhyCommand::Job { id, how }) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("not why job");
        };
        assert_eq!((id, how.at.as_deref()), (123, Some("-5m")));
        assert_eq!(how.format, AnswerFormat::Json);
    }

    #[test]
    fn completions_know_the_commands() {
        let script = String::from_utf8(completion(clap_complete::Shell::Bash)).unwrap();
        assert!(
            script.contains("fleetling__run") || script.contains("fleetling__subcmd__run"),
            "{script}"
        );
    }
}
