//! What job variables tell the runner to do: git strategy, attempts, timeouts, tracing.

use std::time::Duration;

use super::Work;
use super::plan::job_timeout;
use super::variables::Variables;
use crate::config::scalars::GoDuration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Clone,
    Fetch,
    None,
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submodules {
    None,
    Normal,
    Recursive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub strategy: Strategy,
    pub checkout: bool,
    /// Arguments of `git clean`; `None` means not to clean.
    pub clean_flags: Option<Vec<String>>,
    pub fetch_flags: Vec<String>,
    /// For `git clone` alone, which is run only where `FF_USE_GIT_NATIVE_CLONE` is on.
    pub clone_flags: Vec<String>,
    pub lfs_skip_smudge: bool,
    pub submodules: Submodules,
    /// `None`: as deep as the repository itself.
    pub submodule_depth: Option<u32>,
    pub submodule_flags: Vec<String>,
    pub submodule_paths: Vec<String>,
    pub submodule_force_https: bool,
    pub get_sources_attempts: u32,
    /// Tries of a section whose container vanished.
    pub section_attempts: u32,
    /// `None`: only the job's own timeout.
    pub script_timeout: Option<Duration>,
    pub after_script_timeout: Duration,
    pub after_script_ignore_errors: bool,
    pub debug_trace: bool,
    /// `CI_DEBUG_SERVICES`: what services print goes into the job's log.
    pub debug_services: bool,
}

const AFTER_SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// The settings, and a sentence for every value that could not be understood and was left at its default. A submodule
/// strategy that does not exist is an error, as a typo there would build without the sources it needs.
pub fn read(variables: &Variables, work: &Work) -> Result<(Settings, Vec<String>), String> {
    let mut reader = Reader {
        variables,
        job_timeout: job_timeout(&work.payload),
        warnings: Vec::new(),
    };
    let default = if work.payload.allow_git_fetch {
        Strategy::Fetch
    } else {
        Strategy::Clone
    };
    let strategy = reader.parsed("GIT_STRATEGY", default, |text| match text {
        "clone" => Some(Strategy::Clone),
        "fetch" => Some(Strategy::Fetch),
        "none" => Some(Strategy::None),
        "empty" => Some(Strategy::Empty),
        _ => None,
    });
    let submodules = match reader.text("GIT_SUBMODULE_STRATEGY").as_deref() {
        // Without sources there is nothing that a typo could leave out.
        _ if matches!(strategy, Strategy::None | Strategy::Empty) => Submodules::None,
        None | Some("none") => Submodules::None,
        Some("normal") => Submodules::Normal,
        Some("recursive") => Submodules::Recursive,
        Some(other) => {
            return Err(format!(
                "unknown GIT_SUBMODULE_STRATEGY {other:?}: it is one of none, normal, recursive"
            ));
        }
    };
    let submodule_paths = reader.words("GIT_SUBMODULE_PATHS").unwrap_or_default();
    if submodule_paths.iter().any(|path| path == ":(exclude)") {
        return Err("GIT_SUBMODULE_PATHS has an `:(exclude)` without a path behind it".into());
    }
    let clean_flags = match reader.words("GIT_CLEAN_FLAGS") {
        None => Some(vec!["-ffdx".into()]),
        Some(flags) if flags == ["none"] => None,
        Some(flags) => Some(flags),
    };
    let settings = Settings {
        strategy,
        checkout: reader.parsed("GIT_CHECKOUT", true, go_bool),
        clean_flags,
        fetch_flags: reader
            .words("GIT_FETCH_EXTRA_FLAGS")
            .unwrap_or_else(|| vec!["--prune".into(), "--quiet".into()]),
        clone_flags: reader.words("GIT_CLONE_EXTRA_FLAGS").unwrap_or_default(),
        lfs_skip_smudge: reader.parsed("GIT_LFS_SKIP_SMUDGE", false, go_bool),
        submodules,
        submodule_depth: reader.parsed("GIT_SUBMODULE_DEPTH", None, |t| t.parse().ok().map(Some)),
        submodule_flags: reader
            .words("GIT_SUBMODULE_UPDATE_FLAGS")
            .unwrap_or_default(),
        submodule_paths,
        submodule_force_https: reader.parsed("GIT_SUBMODULE_FORCE_HTTPS", false, go_bool),
        get_sources_attempts: reader.attempts("GET_SOURCES_ATTEMPTS"),
        section_attempts: reader.attempts("EXECUTOR_JOB_SECTION_ATTEMPTS"),
        script_timeout: reader.timeout("RUNNER_SCRIPT_TIMEOUT"),
        after_script_timeout: reader
            .timeout("RUNNER_AFTER_SCRIPT_TIMEOUT")
            .unwrap_or(AFTER_SCRIPT_TIMEOUT),
        after_script_ignore_errors: reader.parsed("AFTER_SCRIPT_IGNORE_ERRORS", true, go_bool),
        debug_trace: reader.debug("CI_DEBUG_TRACE", work.runner.debug_trace_disabled),
        debug_services: reader.debug("CI_DEBUG_SERVICES", work.runner.debug_trace_disabled),
    };
    Ok((settings, reader.warnings))
}

/// Go's `ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

struct Reader<'a> {
    variables: &'a Variables,
    job_timeout: Duration,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// Empty counts as not set.
    fn text(&self, key: &str) -> Option<String> {
        self.variables.get(key).filter(|value| !value.is_empty())
    }

    fn words(&self, key: &str) -> Option<Vec<String>> {
        Some(
            self.text(key)?
                .split_whitespace()
                .map(String::from)
                .collect(),
        )
    }

    fn parsed<T>(&mut self, key: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        match self.text(key) {
            None => default,
            Some(text) => parse(&text).unwrap_or_else(|| {
                self.warnings.push(format!(
                    "{key}: {text:?} is not understood, using the default"
                ));
                default
            }),
        }
    }

    fn attempts(&mut self, key: &str) -> u32 {
        let wanted: i64 = self.parsed(key, 1, |text| text.parse().ok());
        let clamped = wanted.clamp(1, 10);
        if clamped != wanted {
            self.warnings.push(format!(
                "{key}: {wanted} is not within 1 to 10, using {clamped}"
            ));
        }
        u32::try_from(clamped).unwrap_or(1)
    }

    /// Zero is as good as not set.
    fn timeout(&mut self, key: &str) -> Option<Duration> {
        let timeout = self.parsed(key, None, |text| {
            let duration: GoDuration = text.trim().parse().ok()?;
            (duration.0 >= 0).then(|| duration.positive())
        })?;
        if timeout > self.job_timeout {
            self.warnings.push(format!(
                "{key}: {} is longer than the job may take ({}), which holds",
                GoDuration::from(timeout),
                GoDuration::from(self.job_timeout)
            ));
        }
        Some(timeout)
    }

    /// `debug_trace_disabled` is the operator's word, which wins.
    fn debug(&mut self, key: &str, debug_trace_disabled: bool) -> bool {
        let wanted = self.parsed(key, false, go_bool);
        if wanted && debug_trace_disabled {
            self.warnings.push(format!(
                "{key}: this runner's operator does not allow it (debug_trace_disabled)"
            ));
        }
        wanted && !debug_trace_disabled
    }
}
