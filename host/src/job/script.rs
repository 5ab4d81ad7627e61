//! The text of a stage's shell script, for bash, dash and busybox ash alike.
//!
//! ```text
//!   trap on TERM, errexit, pipefail where there is one
//!   standard error kept as 9
//!   (eval 'print the begin mark
//!          exports, directory, commands …') </dev/null 2>&9
//!   exit 0
//! ```
//! A script that was cut on its way is a syntax error, because its body is one quoted argument: it never exits 0. The
//! begin mark tells that the body was begun. Quotes are POSIX single quotes, which every shell reads alike. The outer shell
//! has no standard error: bash prints the whole text of a subshell that is killed, with the values in it.

pub mod sources;
pub mod steps;

use std::fmt::Write as _;

use super::Work;
use super::plan::Prepared;
use super::variables::{Expanded, Variables};
use crate::config::flags;

/// A file in the tmp directory whose lines later stages export.
const ENV_FILE: &str = "gitlab_runner_env";

/// Commands of one stage, in order.
#[derive(Default)]
pub struct Body {
    text: String,
}

/// How a job's commands are shown, checked and framed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// A command of many lines is shown whole, in a section that the log viewer folds.
    pub sections: bool,
    /// Every command's exit code is looked at, beside errexit.
    pub exit_checks: bool,
    /// Standard input is an empty pipe instead of `/dev/null`.
    pub legacy_eval: bool,
    /// The shell tells every command that it runs.
    pub trace: bool,
}

impl Style {
    pub fn of(work: &Work, prepared: &Prepared) -> Self {
        let is_on = |flag| prepared.flags.is_on(flag);
        Self {
            sections: is_on(flags::SCRIPT_SECTIONS) && work.payload.features.trace_sections,
            exit_checks: is_on(flags::BASH_EXIT_CODE_CHECK),
            legacy_eval: is_on(flags::LEGACY_BASH_EVAL),
            trace: prepared.settings.debug_trace,
        }
    }
}

/// In single quotes, so that a shell takes it as one word. NUL cannot be in a script and is dropped.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// Each in quotes, with blanks between.
pub fn quote_all<T: AsRef<str>>(words: &[T]) -> String {
    words
        .iter()
        .map(|word| quote(word.as_ref()))
        .collect::<Vec<_>>()
        .join(" ")
}

impl Body {
    /// A line of shell.
    pub fn line(&mut self, line: impl AsRef<str>) -> &mut Self {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
        self
    }

    /// Prints a line as it is; `echo` would read backslashes in some shells.
    pub fn print(&mut self, text: &str) -> &mut Self {
        self.line(format!("printf '%s\\n' {}", quote(text)))
    }

    /// Prints a line in green.
    pub fn notice(&mut self, text: &str) -> &mut Self {
        self.print(&format!("\x1b[32;1m{text}\x1b[0;m"))
    }

    /// Exports every variable, writes file variables, and takes in what earlier stages left in `GITLAB_ENV`.
    pub fn exports(&mut self, variables: &Variables) -> &mut Self {
        let tmp = quote(variables.tmp_dir());
        self.line(format!("mkdir -p {tmp}"));
        for variable in variables.all() {
            self.export(&variable);
        }
        let file = quote(&format!("{}/{ENV_FILE}", variables.tmp_dir()));
        self.line(format!("export GITLAB_ENV={file}"))
            .line("[ -e \"$GITLAB_ENV\" ] || : > \"$GITLAB_ENV\"")
            .line("while IFS= read -r fleetling_line || [ -n \"$fleetling_line\" ]; do")
            .line("  if [ -n \"$fleetling_line\" ]; then export \"$fleetling_line\"; fi")
            .line("done < \"$GITLAB_ENV\"")
            .line("unset fleetling_line")
    }

    fn export(&mut self, variable: &Expanded) {
        // A shell cannot hold other names; containers can, and have them in their environment.
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = &variable.key;
        if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(fits)
        {
            return;
        }
        match &variable.file {
            None => self.line(format!("export {key}={}", quote(&variable.value))),
            Some(path) => self
                .line(format!(
                    "printf '%s' {} > {}",
                    quote(&variable.value),
                    quote(path)
                ))
                .line(format!("export {key}={}", quote(path))),
        };
    }

    /// The user's commands, each shown before it runs. `prefix` names their sections.
    pub fn commands<T: AsRef<str>>(
        &mut self,
        style: Style,
        prefix: &str,
        commands: &[T],
    ) -> &mut Self {
        for (index, command) in commands.iter().enumerate() {
            let command = command.as_ref().trim();
            match command.split_once('\n') {
                _ if command.is_empty() => {
                    self.line("echo");
                    continue;
                }
                None => self.notice(&format!("$ {command}")),
                Some(_) if style.sections => self.section(
                    &format!("section_{prefix}_{index}"),
                    &format!("$ {command}"),
                ),
                Some((first, _)) => self.notice(&format!(
                    "$ {} # collapsed multi-line command",
                    first.trim_end()
                )),
            };
            self.line(command);
            if style.exit_checks {
                self.line("fleetling_code=$?")
                    .line("if [ \"$fleetling_code\" -ne 0 ]; then exit \"$fleetling_code\"; fi");
            }
        }
        self
    }

    /// A folded section that holds a text. Its times are those of the shell.
    fn section(&mut self, name: &str, text: &str) -> &mut Self {
        let mark = |what: &str, options: &str| {
            format!(
                "printf 'section_{what}:%s:{name}{options}\\r\\033[0K' \"$(date +%s 2> /dev/null || echo 0)\""
            )
        };
        self.line(mark("start", "[hide_duration=true,collapsed=true]"))
            .notice(text)
            .line(mark("end", ""))
    }

    /// The whole script; `begin_mark` is one line.
    pub fn script(&self, begin_mark: &str, style: Style) -> String {
        let mut body = format!("printf '%s\\n' {}\n", quote(begin_mark));
        if style.trace {
            body.push_str("set -o xtrace\n");
        }
        body.push_str(&self.text);
        let body = quote(&body);
        let trap = "trap 'exit 1' TERM";
        let told = "2>&9 9>&-";
        let run = if style.legacy_eval {
            // Parentheses, because bash's own subshell of a pipeline loses the code of what errexit ends.
            format!("({trap}; : | ({trap}; eval {body}) {told})")
        } else {
            format!("({trap}; eval {body}) < /dev/null {told}")
        };
        let mut script = String::new();
        // A subshell tries, because a shell that knows no pipefail may exit over it.
        let _ = write!(
            script,
            "{trap}\n\
             if (set -o pipefail) 2> /dev/null; then set -o pipefail; fi\n\
             set -o errexit\n\
             set +o noclobber\n\
             exec 9>&2 2> /dev/null\n\
             {run}\n\
             exit 0\n"
        );
        script
    }
}

#[cfg(test)]
mod tests;
