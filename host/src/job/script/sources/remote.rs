//! Where the sources come from, and what git is told of it beside the project.

use std::fmt::Write as _;

use url::Url;

use crate::config::flags;
use crate::job::Work;
use crate::job::plan::{Prepared, fetches};
use crate::job::variables::Variables;

/// The repository's address, without any credentials.
pub(super) struct Remote {
    pub(super) address: String,
    /// What stands before the project's path; `None` where it is no web address.
    base: Option<String>,
    /// Servers that know the job's token.
    hosts: Vec<String>,
}

impl Remote {
    pub(super) fn of(work: &Work, variables: &Variables) -> Self {
        let given = without_credentials(&work.payload.git_info.repo_url);
        let path = variables.get("CI_PROJECT_PATH").unwrap_or_default();
        let address = match &work.runner.clone_url {
            Some(base) => {
                without_credentials(&format!("{}/{path}.git", base.trim_end_matches('/')))
            }
            None => given.clone(),
        };
        let mut hosts: Vec<_> = [&address, &given]
            .into_iter()
            .filter_map(|a| host(a))
            .collect();
        hosts.dedup();
        let base = host(&address).map(|host| {
            let end = format!("/{path}.git");
            let base = address.strip_suffix(&end).filter(|_| !path.is_empty());
            base.map_or(host, String::from)
        });
        Self {
            address,
            base,
            hosts,
        }
    }
}

fn without_credentials(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else {
        return address.into();
    };
    if matches!(url.scheme(), "http" | "https") {
        // Both fail only for addresses without a host, which http has not.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        return url.into();
    }
    address.into()
}

/// `https://host:port` of a web address.
fn host(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

/// How Gitaly's log names the requests of this job.
pub(super) fn correlation_id(work: &Work) -> String {
    format!("fleetling-job-{}", work.payload.id)
}

/// Credentials and habits that the repository includes.
pub(super) fn configuration(remote: &Remote, work: &Work, prepared: &Prepared) -> String {
    let (is_on, variables) = (|flag| prepared.flags.is_on(flag), &prepared.variables);
    let mut config = Configuration::default();
    config
        .section("fetch", None, &[("recurseSubmodules", "false")])
        .section("credential", None, &[("interactive", "never")])
        .section("gc", None, &[("autoDetach", "false")]);
    if is_on(flags::GIT_BUNDLE_URIS) {
        config.section("transfer", None, &[("bundleURI", "true")]);
    }
    for host in &remote.hosts {
        // The empty entry forgets helpers that were configured before.
        config.section(
            "credential",
            Some(host),
            &[
                ("username", "gitlab-ci-token"),
                ("helper", ""),
                ("helper", TOKEN_HELPER),
            ],
        );
        let mut entries = Vec::new();
        if is_on(flags::GITALY_CORRELATION_ID) && fetches(&prepared.settings) {
            let header = format!("X-Gitaly-Correlation-ID: {}", correlation_id(work));
            entries.push(("extraHeader", header));
        }
        if is_on(flags::GIT_PROACTIVE_AUTH) {
            entries.push(("proactiveAuth", "basic".into()));
        }
        for (key, variable) in [
            ("sslCAInfo", "CI_SERVER_TLS_CA_FILE"),
            ("sslCert", "CI_SERVER_TLS_CERT_FILE"),
            ("sslKey", "CI_SERVER_TLS_KEY_FILE"),
        ] {
            let file = variables.get(variable).filter(|file| !file.is_empty());
            entries.extend(file.map(|file| (key, file)));
        }
        let entries: Vec<_> = entries.iter().map(|(k, v)| (*k, v.as_str())).collect();
        config.section("http", Some(host), &entries);
    }
    let base = remote.base.as_ref();
    if let Some(base) = base.filter(|_| prepared.settings.submodule_force_https) {
        let instead = by_ssh(variables);
        let entries: Vec<_> = instead
            .iter()
            .map(|from| ("insteadOf", from.as_str()))
            .collect();
        config.section("url", Some(&format!("{base}/")), &entries);
    }
    config.text
}

/// A line of shell that git runs: it holds no token, only the name of the variable that does.
const TOKEN_HELPER: &str =
    r#"!f() { test "$1" != get || printf 'password=%s\n' "$CI_JOB_TOKEN"; }; f"#;

/// How submodules name GitLab's server when they mean SSH.
fn by_ssh(variables: &Variables) -> Vec<String> {
    let name = |key: &str| variables.get(key).filter(|value| !value.is_empty());
    let Some(host) = name("CI_SERVER_SHELL_SSH_HOST").or_else(|| name("CI_SERVER_HOST")) else {
        return Vec::new();
    };
    match name("CI_SERVER_SHELL_SSH_PORT").filter(|port| port != "22") {
        Some(port) => vec![format!("ssh://git@{host}:{port}/")],
        None => vec![format!("git@{host}:"), format!("ssh://git@{host}/")],
    }
}

/// Text in git's own format.
#[derive(Default)]
struct Configuration {
    text: String,
}

impl Configuration {
    /// A section without entries is left out.
    fn section(&mut self, name: &str, of: Option<&str>, entries: &[(&str, &str)]) -> &mut Self {
        if entries.is_empty() {
            return self;
        }
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = match of {
            Some(of) => writeln!(self.text, "[{name} \"{}\"]", escaped(of)),
            None => writeln!(self.text, "[{name}]"),
        };
        for (key, value) in entries {
            let value = escaped(value).replace('\n', "\\n");
            let _ = writeln!(self.text, "\t{key} = \"{value}\"");
        }
        self
    }
}
