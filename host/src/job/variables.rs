//! A job's variables: composed of the runner's and GitLab's, the last definition of a name wins, expanded once.

use secrecy::ExposeSecret as _;

use crate::coordinator::payload::{Image, Variable};
use crate::coordinator::server_files::ServerFiles;

use super::Work;
use super::flags::Flags;
use super::plan::Directories;
use crate::config::flags::{self, GIT_URLS_WITHOUT_TOKENS};

/// What stands before the payload's variables can be overridden by them; what stands behind cannot.
#[derive(Clone, Debug)]
pub struct Variables {
    /// In order of definition, unexpanded.
    list: Vec<Variable>,
    tmp_dir: String,
}

/// A variable as a script sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Expanded {
    pub key: String,
    /// The content, of a file variable too.
    pub value: String,
    /// Where a file variable's content goes.
    pub file: Option<String>,
}

impl std::fmt::Debug for Expanded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expanded")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn plain(key: &str, value: impl Into<String>) -> Variable {
    Variable {
        key: key.into(),
        value: value.into(),
        public: true,
        file: false,
        masked: false,
        raw: false,
    }
}

/// All variables of this job. Order and names are GitLab Runner's.
pub fn compose(work: &Work, directories: &Directories, flags: &Flags) -> Variables {
    let Work {
        payload,
        runner,
        manager,
        ..
    } = work;
    let mut list: Vec<Variable> = flags
        .all()
        .map(|(flag, on)| plain(flag, on.to_string()))
        .collect();
    if let Some(image) = &payload.image {
        list.push(plain("CI_JOB_IMAGE", &image.name));
    }
    list.push(plain("CI_RUNNER_SHORT_TOKEN", &work.short_token));
    // Flags stand as what holds, whoever set them.
    let is_no_flag = |key: &str| flags::find(key).is_none();
    let of_entry = runner.environment.iter().filter(|(key, _)| is_no_flag(key));
    list.extend(of_entry.map(|(key, value)| plain(key, value)));
    list.extend([
        plain("CI_BUILDS_DIR", &directories.builds),
        plain("CI_PROJECT_DIR", &directories.project),
        plain("CI_CONCURRENT_ID", work.concurrent_id.to_string()),
        plain(
            "CI_CONCURRENT_PROJECT_ID",
            work.project_concurrent_id.to_string(),
        ),
        plain("CI_SERVER", "yes"),
        plain("GITLAB_CI", "true"),
        plain("CI_JOB_STATUS", "running"),
        plain(
            "CI_JOB_TIMEOUT",
            super::plan::job_timeout(payload).as_secs().to_string(),
        ),
        // The credential helper reads it; GitLab sends it too, and what it sends wins.
        Variable {
            masked: true,
            raw: true,
            public: false,
            ..plain("CI_JOB_TOKEN", &payload.token.0)
        },
    ]);
    list.extend(server_files(&work.server_files));
    let of_job = payload.variables.iter().filter(|v| is_no_flag(&v.key));
    list.extend(of_job.cloned());
    list.extend([
        plain("CI_DISPOSABLE_ENVIRONMENT", "true"),
        plain("CI_RUNNER_VERSION", &manager.version),
        plain("CI_RUNNER_REVISION", &manager.revision),
        plain("CI_RUNNER_EXECUTABLE_ARCH", executable_arch()),
        plain("RUNNER_TEMP_PROJECT_DIR", &directories.tmp),
    ]);
    if flags.is_on(GIT_URLS_WITHOUT_TOKENS) {
        list.push(plain("GIT_CONFIG_GLOBAL", global_config(&directories.tmp)));
    }
    Variables {
        list,
        tmp_dir: directories.tmp.clone(),
    }
}

/// Files by which a job reaches GitLab as the manager does. The key is nobody's but the job's own.
fn server_files(files: &ServerFiles) -> Vec<Variable> {
    let file = |key, value: &str| Variable {
        file: true,
        raw: true,
        ..plain(key, value)
    };
    let mut all = Vec::new();
    if let Some(authority) = &files.authority {
        all.push(file("CI_SERVER_TLS_CA_FILE", authority));
    }
    if let Some(client) = &files.client {
        all.push(file("CI_SERVER_TLS_CERT_FILE", &client.certificate));
        all.push(Variable {
            public: false,
            masked: true,
            ..file("CI_SERVER_TLS_KEY_FILE", client.key.expose_secret())
        });
    }
    all
}

/// Git's global configuration of a job whose git commands all get the job's token, inside the project and outside of it.
pub(super) fn global_config(tmp: &str) -> String {
    format!("{tmp}/.glr.gconf")
}

/// What this manager was built for, as Go says it: `linux/amd64`.
fn executable_arch() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

impl Variables {
    /// Adds a definition that wins over all before it, such as `CI_JOB_STATUS`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.list.push(plain(key, value));
    }

    /// The expanded value; of a file variable its path. `None` if it is not defined.
    pub fn get(&self, key: &str) -> Option<String> {
        let variable = self.list.iter().rev().find(|v| v.key == key)?;
        Some(if variable.file {
            self.file_path(key)
        } else {
            self.expanded(variable)
        })
    }

    /// The expanded value; of a file variable what it holds.
    pub fn content(&self, key: &str) -> Option<String> {
        let variable = self.list.iter().rev().find(|v| v.key == key)?;
        Some(self.expanded(variable))
    }

    /// Replaces `$NAME` and `${NAME}` by unexpanded values: one pass, unknown names are empty.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.reference(name))
    }

    /// Every variable once, in the order of its last definition.
    pub fn all(&self) -> Vec<Expanded> {
        let mut seen = std::collections::HashSet::new();
        let mut all: Vec<_> = self
            .list
            .iter()
            .rev()
            .filter(|v| seen.insert(v.key.as_str()))
            .map(|v| Expanded {
                key: v.key.clone(),
                value: self.expanded(v),
                file: v.file.then(|| self.file_path(&v.key)),
            })
            .collect();
        all.reverse();
        all
    }

    /// For containers: file variables are paths. What no process can have in its environment is left out.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.all()
            .into_iter()
            .filter(|v| !v.key.is_empty() && !v.key.contains(['=', '\0']))
            .map(|v| (v.key, v.file.unwrap_or(v.value).replace('\0', "")))
            .collect()
    }

    /// For a service: what everybody may see of the job's, then the service's own, which may refer to all of the job's.
    pub fn for_service(&self, own: &[Variable]) -> Vec<(String, String)> {
        let is_public = |key: &str| {
            let last = self.list.iter().rev().find(|v| v.key == key);
            last.is_some_and(|v| v.public)
        };
        let mut all = self.environment();
        all.retain(|(key, _)| is_public(key) && own.iter().all(|v| v.key != *key));
        all.extend(own.iter().map(|v| {
            let value = if v.file {
                self.file_path(&v.key)
            } else {
                self.expanded(v)
            };
            (v.key.clone(), value)
        }));
        all
    }

    /// Values that must not be seen in the log: the job's, and those that `services` have of their own.
    pub fn masked(&self, services: &[Image]) -> Vec<String> {
        let own = services.iter().flat_map(|service| &service.variables);
        let all = self.list.iter().chain(own);
        let values = all
            .filter(|v| v.masked)
            // Another variable that refers to it gets it as it was written.
            .flat_map(|v| [self.expanded(v), v.value.clone()]);
        let mut values: Vec<_> = values.filter(|value| !value.trim().is_empty()).collect();
        values.dedup();
        values
    }

    pub fn tmp_dir(&self) -> &str {
        &self.tmp_dir
    }

    fn expanded(&self, variable: &Variable) -> String {
        if variable.raw {
            variable.value.clone()
        } else {
            self.expand(&variable.value)
        }
    }

    fn reference(&self, name: &str) -> String {
        match self.list.iter().rev().find(|v| v.key == name) {
            Some(v) if v.file => self.file_path(name),
            Some(v) => v.value.clone(),
            None if name == "$" => "$".into(),
            None => String::new(),
        }
    }

    fn file_path(&self, key: &str) -> String {
        format!("{}/{key}", self.tmp_dir)
    }
}

/// Go's `os.Expand`: names as a shell lexes them; bad syntax is eaten; a `$` before anything else stays.
fn expand(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = name_at(after);
        match (name, length) {
            ("", 0) => out.push('$'),
            ("", _) => {}
            (name, _) => out.push_str(&value(name)),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// The name after a `$` and how many bytes it takes with its braces.
fn name_at(text: &str) -> (&str, usize) {
    let special = |c: u8| b"*#$@!?-0123456789".contains(&c);
    match text.as_bytes() {
        [] => ("", 0),
        [b'{', c, b'}', ..] if special(*c) => (&text[1..2], 3),
        [b'{', ..] => match text.find('}') {
            None => ("", 1),
            Some(end) => (&text[1..end], end + 1),
        },
        [c, ..] if special(*c) => (&text[..1], 1),
        _ => {
            let end = text
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(text.len());
            (&text[..end], end)
        }
    }
}

#[cfg(test)]
mod tests;
