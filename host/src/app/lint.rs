//! `fleetling config lint`: the file's own problems, its plugins' schemas, and the grants.

use std::path::Path;

use super::{Places, places};
use crate::config::lint::{FromPlugins, lint as judged};
use crate::config::problem::Entry;
use crate::config::usable::{Executor, Runner};
use crate::config::{Fatal, Loaded, Problem, Severity, locate};
use crate::plugin::grants::GrantsProblems;
use crate::plugin::platform::{Platform, StartProblem};
use crate::plugin::schema;
use crate::store::Store;

/// What to print, and whether there is no problem.
pub async fn lint(loaded: Result<Loaded, Fatal>, at: Places<'_>) -> (String, bool) {
    let from_plugins = match &loaded {
        Ok(loaded) => ask_plugins(&loaded.config.runners, &at).await,
        Err(_) => FromPlugins::default(),
    };
    judged(at.config, &loaded, from_plugins)
}

async fn ask_plugins(runners: &[Runner], at: &Places<'_>) -> FromPlugins {
    let mut found = FromPlugins::default();
    let platform = match places::platform(at.plugin_dirs, at.config, Store::in_memory()) {
        Ok(platform) => platform,
        Err(problem) => {
            match problem.downcast_ref() {
                Some(StartProblem::Grants { file, problems }) => {
                    found.problems = in_grants(file, problems);
                }
                _ => found.unchecked.push(format!("plugins: {problem:#}")),
            }
            return found;
        }
    };
    // The text gives the places; what it says was read before.
    let text = std::fs::read_to_string(at.config).unwrap_or_default();
    let with_plugin = |runner: &&Runner| runner.executor == Executor::DockerAutoscaler;
    for runner in runners.iter().filter(with_plugin) {
        let Runner { index, name, .. } = runner;
        match mismatches(runner, &platform).await {
            Ok(mismatches) => found
                .problems
                .extend(mismatches.into_iter().map(|mismatch| {
                    let (line, column) =
                        locate::plugin_config(&text, *index, &mismatch.path).unwrap_or((1, 1));
                    let (index, name) = (*index, name.clone());
                    let path = mismatch.path.iter().map(|step| format!(".{step}"));
                    Problem {
                        severity: Severity::Warning,
                        file: at.config.to_owned(),
                        line,
                        column,
                        entry: Some(Entry { index, name }),
                        key: format!("autoscaler.plugin_config{}", path.collect::<String>()),
                        text: mismatch.text,
                    }
                })),
            Err(why) => found.unchecked.push(format!(
                "[[runners]] {name:?}: plugin_config is not checked: {why}"
            )),
        }
    }
    found
}

async fn mismatches(runner: &Runner, platform: &Platform) -> Result<Vec<schema::Mismatch>, String> {
    let autoscaler = &runner.autoscaler;
    let described = platform.description(&autoscaler.plugin).await;
    let described = described.map_err(|report| report.in_one_line())?;
    Ok(schema::mismatches(
        &described.config_schema,
        &autoscaler.plugin_config,
    ))
}

fn in_grants(file: &Path, problems: &GrantsProblems) -> Vec<Problem> {
    let problem = |problem: &crate::plugin::grants::GrantsProblem| Problem {
        severity: Severity::File,
        file: file.to_owned(),
        line: problem.line,
        column: problem.column,
        entry: None,
        key: String::new(),
        text: problem.message.clone(),
    };
    problems.0.iter().map(problem).collect()
}
