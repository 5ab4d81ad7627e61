//! The manager's own lines in a job log: colours, sections, header and final line. GitLab's log viewer knows them.

use crate::coordinator::outcome::{FailureReason, Outcome};
use crate::coordinator::payload::PolicyOptions;

use super::Work;
use super::flags::Flags;

const RESET: &str = "\x1b[0;m";
const CLEAR: &str = "\x1b[0K";

pub fn plain(text: &str) -> String {
    format!("{CLEAR}{text}{RESET}\n")
}

pub fn info(text: &str) -> String {
    format!("\x1b[32;1m{text}{RESET}\n")
}

pub fn warning(text: &str) -> String {
    format!("\x1b[0;33mWARNING: {text}{RESET}\n")
}

pub fn error(text: &str) -> String {
    format!("\x1b[31;1mERROR: {text}{RESET}\n")
}

/// A section's title.
pub fn title(text: &str) -> String {
    format!("{CLEAR}\x1b[36;1m{text}{RESET}\n")
}

/// Without a newline: what follows stands on the same line.
pub fn section_start(name: &str, unix_seconds: u64) -> String {
    format!("section_start:{unix_seconds}:{name}\r{CLEAR}")
}

pub fn section_end(name: &str, unix_seconds: u64) -> String {
    format!("section_end:{unix_seconds}:{name}\r{CLEAR}")
}

/// Who runs the job.
pub fn header(work: &Work) -> String {
    let manager = &work.manager;
    let mut lines = plain(&format!(
        "Running with fleetling {} ({})",
        manager.version, manager.revision
    ));
    if !work.short_token.is_empty() {
        lines += &plain(&format!(
            "  on {} {}, system ID: {}",
            work.runner.name, work.short_token, manager.system_id
        ));
    }
    let (flags, _) = Flags::read(&work.runner, &work.payload.variables);
    let flags: Vec<_> = flags
        .unusual()
        .map(|(flag, on)| format!("{flag}:{on}"))
        .collect();
    if !flags.is_empty() {
        lines += &plain(&format!("  feature flags: {}", flags.join(", ")));
    }
    lines
}

/// Whose variables hold in a job that a policy made; nothing for others.
pub fn policy(options: &PolicyOptions) -> String {
    if !options.execution_policy_job {
        return String::new();
    }
    let exceptions = options.policy_variables_override_exceptions.join(", ");
    let except = match exceptions.as_str() {
        "" => String::new(),
        names => format!(" (except for {names})"),
    };
    let variables = match options.policy_variables_override_allowed {
        None => "Variables defined in the policy take precedence over user-defined CI/CD variables of the same name."
            .to_owned(),
        Some(true) => format!("User-defined CI/CD variables are allowed in this job{except}, as the policy says."),
        Some(false) => format!("User-defined CI/CD variables are ignored in this job{except}, as the policy says."),
    };
    let made = format!("Job triggered by policy \"{}\".", options.policy_name);
    info(&made) + &info(&variables)
}

/// How it ended; nothing for a job that nobody asks about any more.
pub fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => info("Job succeeded"),
        Outcome::Abandoned => String::new(),
        Outcome::Failed {
            reason: FailureReason::RunnerSystemFailure,
            message,
            ..
        } => error(&format!("Job failed (system failure): {message}")),
        Outcome::Failed { message, .. } => error(&format!("Job failed: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_gitlab_runner_s() {
        let failed = |reason, message: &str| Outcome::Failed {
            reason,
            exit_code: None,
            message: message.into(),
        };
        let cases = [
            (
                section_start("get_sources", 7),
                "section_start:7:get_sources\r\x1b[0K",
            ),
            (
                title("Preparing environment"),
                "\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\n",
            ),
            (warning("careful"), "\x1b[0;33mWARNING: careful\x1b[0;m\n"),
            (
                ending(&Outcome::Success),
                "\x1b[32;1mJob succeeded\x1b[0;m\n",
            ),
            (
                ending(&failed(FailureReason::ScriptFailure, "exit code 1")),
                "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n",
            ),
            (
                ending(&failed(FailureReason::RunnerSystemFailure, "instance lost")),
                "\x1b[31;1mERROR: Job failed (system failure): instance lost\x1b[0;m\n",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(line, expected);
        }
    }
    #[test]
    fn a_policy_s_job_says_whose_variables_hold() {
        let policy = |allowed, exceptions: &[&str]| {
            policy(&PolicyOptions {
                execution_policy_job: true,
                policy_name: "scan".into(),
                policy_variables_override_allowed: allowed,
                policy_variables_override_exceptions: exceptions
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            })
        };
        insta::assert_snapshot!(policy(Some(false), &["A", "B"]).replace('\x1b', "^"), @r#"
        ^[32;1mJob triggered by policy "scan".^[0;m
        ^[32;1mUser-defined CI/CD variables are ignored in this job (except for A, B), as the policy says.^[0;m
        "#);
        assert!(policy(None, &[]).contains("take precedence"));
        assert!(policy(Some(true), &[]).contains("are allowed in this job, as"));
        assert_eq!(super::policy(&PolicyOptions::default()), "");
    }
}
