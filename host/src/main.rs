//! Parses the command line, loads the configuration, starts logging, calls one function, turns its error into an exit code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};
use fleetling::app::{self, Look, RunOptions};
use fleetling::cli::{
    self, AnswerFormat, Cli, Command, Common, ConfigCommand, LogFormat, LogLevel, WhyCommand,
};
use fleetling::config::{self, places};
use fleetling::observe::line::Format;
use fleetling::observe::metrics::Metrics;
use fleetling::observe::telemetry;
use fleetling::observe::why::Subject;
use tracing::Level;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    // The environment's may be the one of a manager at work, which nobody who tries a plugin thought of.
    let is_config_given = matches.value_source("config") == Some(ValueSource::CommandLine);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|problem| problem.exit());
    match dispatch(cli, is_config_given) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("fleetling: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli, is_config_given: bool) -> anyhow::Result<ExitCode> {
    let Cli { common, command } = cli;
    match command {
        Command::Run(run) => serve(&common, run),
        Command::Verify(verify) => {
            let loaded = load(&config_path(&common)?)?;
            start_logging(&common, &loaded.config)?;
            let known = runtime()?.block_on(app::verify(&loaded.config, verify.name.as_deref()))?;
            Ok(exit_code(known))
        }
        Command::List => {
            let loaded = load(&config_path(&common)?)?;
            print(app::list(&loaded.config).as_bytes())
        }
        Command::Simulate(options) => print(simulated(&common, &options)?.as_bytes()),
        Command::Status(status) => {
            let loaded = load(&config_path(&common)?)?;
            let (address, look) = (status.address.as_deref(), look(status.format));
            let asked = app::status(&loaded.config, address, look);
            print(runtime()?.block_on(asked)?.as_bytes())
        }
        Command::Why(why) => {
            let (subject, how) = match why {
                WhyCommand::Job { id, how } => (Subject::Job(id), how),
                WhyCommand::Instance { id, how } => (Subject::Instance(id), how),
            };
            let loaded = load(&config_path(&common)?)?;
            start_logging(&common, &loaded.config)?;
            let (at, look) = (how.at.as_deref(), look(how.format));
            print(app::why(&loaded.config, &subject, at, look)?.as_bytes())
        }
        Command::Config(ConfigCommand::Lint) => {
            let path = config_path(&common)?;
            let places = app::Places {
                plugin_dirs: &common.plugin_dirs,
                config: &path,
                is_config_given,
            };
            let linting = app::lint(config::load(&path, variable), places);
            let (text, clean) = runtime()?.block_on(linting);
            print(text.as_bytes())?;
            Ok(exit_code(clean))
        }
        Command::Plugin(command) => {
            // None need be there: plugins can be looked at, and made, before a manager is configured.
            let config = config_path(&common).unwrap_or_else(|_| "config.toml".into());
            let places = app::Places {
                plugin_dirs: &common.plugin_dirs,
                config: &config,
                is_config_given,
            };
            let answer = runtime()?.block_on(app::plugin(command, places))?;
            print(answer.text.as_bytes())?;
            Ok(exit_code(answer.is_good))
        }
        Command::CompilePlugin { cache } => app::compile_plugin(&cache).map(|()| ExitCode::SUCCESS),
        Command::Completion { shell } => print(&cli::completion(shell)),
    }
}

fn serve(common: &Common, run: cli::Run) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &run.working_directory {
        std::env::set_current_dir(folder)
            .with_context(|| format!("could not change to {}", folder.display()))?;
    }
    let loaded = load(&config_path(common)?)?;
    let metrics = start_logging(common, &loaded.config)?;
    for option in run.without_effect() {
        tracing::warn!(option, "option has no effect");
    }
    let options = RunOptions {
        plugin_dirs: common.plugin_dirs.clone(),
        listen_address: run
            .listen_address
            .or_else(|| loaded.config.listen_address.clone()),
        metrics,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(app::run(options, loaded));
    // A thread that waits for the system, as for a name server that is gone, must not hold the exit.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Problems of the configurations go to standard error, so that what is printed can be piped.
fn simulated(common: &Common, options: &cli::Simulate) -> anyhow::Result<String> {
    let mut paths = Vec::new();
    if options.trace.is_some() {
        paths.push(config_path(common)?);
        paths.extend(options.compare.clone());
    }
    let mut configs = Vec::new();
    for path in paths {
        let loaded = load(&path)?;
        for problem in &loaded.problems {
            eprintln!("fleetling: {problem}");
        }
        configs.push(loaded.config);
    }
    app::simulate(options, &configs)
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn look(format: AnswerFormat) -> Look {
    match format {
        AnswerFormat::Text => Look::Text,
        AnswerFormat::Json => Look::Json,
    }
}

fn config_path(common: &Common) -> anyhow::Result<PathBuf> {
    let home = std::env::home_dir();
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    Ok(places::find(
        common.config.clone(),
        is_root,
        home.as_deref(),
        Path::exists,
    )?)
}

fn load(path: &Path) -> anyhow::Result<config::Loaded> {
    Ok(config::load(path, variable)?)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The command line's word, then the configuration's, then `info` and GitLab Runner's own look.
fn start_logging(common: &Common, config: &config::usable::Config) -> anyhow::Result<Arc<Metrics>> {
    let level = match common.level() {
        Some(LogLevel::Error) => Level::ERROR,
        Some(LogLevel::Warning) => Level::WARN,
        Some(LogLevel::Info) => Level::INFO,
        Some(LogLevel::Debug) => Level::DEBUG,
        Some(LogLevel::Trace) => Level::TRACE,
        None => config
            .log_level
            .as_deref()
            .map_or(Level::INFO, telemetry::level_named),
    };
    let format = match common.log_format {
        Some(LogFormat::Runner) => Format::named(Some("runner")),
        Some(LogFormat::Text) => Format::named(Some("text")),
        Some(LogFormat::Json) => Format::named(Some("json")),
        None => Format::named(config.log_format.as_deref()),
    };
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    telemetry::start(level, format, &metrics)?;
    Ok(metrics)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime did not start")
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text) {
        // Who stops reading, as `head` does, has read enough.
        Err(problem) if problem.kind() != std::io::ErrorKind::BrokenPipe => Err(problem.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
