//! What a new configuration means for the runners that are at work; pure.

use secrecy::ExposeSecret as _;

use super::problem::{Problem, Severity};
use super::usable::{Connector, Runner};

/// Which runner of the new file is which of those at work.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Positions: at work, in the new file.
    pub kept: Vec<(usize, usize)>,
    /// Positions in the new file.
    pub added: Vec<usize>,
}

/// Pairs by what stays when other things change: GitLab's ID, else the token, else the name.
pub fn pair(at_work: &[&Runner], new: &[Runner]) -> Pairing {
    let same: [fn(&Runner, &Runner) -> bool; 3] = [
        |a, b| a.id.is_some() && a.id == b.id,
        |a, b| a.token.expose_secret() == b.token.expose_secret(),
        |a, b| !a.name.is_empty() && a.name == b.name,
    ];
    let mut left: Vec<usize> = (0..at_work.len()).collect();
    let mut added: Vec<usize> = (0..new.len()).collect();
    let mut kept = Vec::new();
    for same in same {
        added.retain(|&of_new| {
            let one = &new[of_new];
            let found = left
                .iter()
                .position(|&old| at_work[old].url == one.url && same(at_work[old], one));
            if let Some(found) = found {
                kept.push((left.remove(found), of_new));
            }
            found.is_none()
        });
    }
    kept.sort_unstable();
    Pairing { kept, added }
}

/// The key that makes other instances of a runner's, if it changed: those that stand are drained, and new ones taken.
/// Everything else applies to what stands.
pub fn other_instances(old: &Runner, new: &Runner) -> Option<&'static str> {
    let (was, is) = (&old.autoscaler, &new.autoscaler);
    let changed = [
        ("plugin", was.plugin != is.plugin),
        ("plugin_config", was.plugin_config != is.plugin_config),
        (
            "connector_config",
            !same_connector(&was.connector, &is.connector),
        ),
        (
            "capacity_per_instance",
            was.capacity_per_instance != is.capacity_per_instance,
        ),
        (
            "instance_ready_command",
            was.instance_ready_command != is.instance_ready_command,
        ),
        ("executor", old.executor != new.executor),
        ("docker.host", old.docker.host != new.docker.host),
        (
            "docker.tls_verify",
            old.docker.tls_verify != new.docker.tls_verify,
        ),
        (
            "docker.tls_cert_path",
            old.docker.tls_cert_path != new.docker.tls_cert_path,
        ),
    ];
    let mut changed = changed.into_iter().filter(|(_, differs)| *differs);
    changed.next().map(|(key, _)| key)
}

/// Whether a runner at work that the new file does not have may be one that the new file has, broken.
pub fn may_be_broken(runner: &Runner, problems: &[Problem]) -> bool {
    let broken = problems.iter().filter(|p| p.severity == Severity::Entry);
    let mut entries = broken.filter_map(|problem| problem.entry.as_ref());
    entries.any(|entry| entry.name.is_empty() || entry.name == runner.name)
}

fn same_connector(old: &Connector, new: &Connector) -> bool {
    let password = |of: &Connector| {
        let password = of.password.as_ref();
        password.map(|secret| secret.expose_secret().to_owned())
    };
    old.os == new.os
        && old.arch == new.arch
        && old.protocol == new.protocol
        && old.protocol_port == new.protocol_port
        && old.username == new.username
        && password(old) == password(new)
        && old.key_path == new.key_path
        && old.use_static_credentials == new.use_static_credentials
        && old.keepalive == new.keepalive
        && old.timeout == new.timeout
        && old.use_external_addr == new.use_external_addr
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::check::check;

    fn file(entries: &[(&str, &str, &str)]) -> Vec<Runner> {
        let text: String = entries
            .iter()
            .map(|(name, token, more)| {
                format!(
                    "[[runners]]\nname = \"{name}\"\nurl = \"https://gitlab.example\"\ntoken = \"{token}\"\n\
                     executor = \"docker-autoscaler\"\n{more}\n"
                )
            })
            .collect();
        check(Path::new("config.toml"), &text, &|_| None, &|_| {
            Err(std::io::ErrorKind::NotFound.into())
        })
        .unwrap()
        .config
        .runners
    }

    fn fleet(more: &str) -> String {
        format!(
            "[runners.docker]\nimage = \"busybox\"\n[runners.autoscaler]\nplugin = \"aws\"\n{more}"
        )
    }

    #[test]
    fn complaint_4_a_rotated_token_is_the_same_runner() {
        let plain = fleet("");
        let with_id = format!("id = 7\n{plain}");
        let old = file(&[
            ("one", "a", &with_id),
            ("two", "b", &plain),
            ("three", "c", &plain),
            ("four", "d", &plain),
        ]);
        let new = file(&[
            ("three", "rotated", &plain),
            ("renamed", "b", &plain),
            ("also renamed", "rotated too", &with_id),
            ("new", "e", &plain),
        ]);
        let at_work: Vec<&Runner> = old.iter().collect();
        let expected = Pairing {
            kept: vec![(0, 2), (1, 1), (2, 0)],
            added: vec![3],
        };
        assert_eq!(pair(&at_work, &new), expected);
    }

    #[test]
    fn only_what_instances_are_made_of_needs_other_instances() {
        let base = fleet("max_instances = 3");
        let old = &file(&[("one", "a", &base)])[0];
        for (changed, expected) in [
            (fleet("max_instances = 9"), None),
            (fleet("max_instances = 3\nmax_use_count = 4"), None),
            (
                fleet("max_instances = 3\n[[runners.autoscaler.policy]]\nidle_count = 2"),
                None,
            ),
            (format!("limit = 3\n{base}"), None),
            (base.replace("aws", "other"), Some("plugin")),
            (
                format!("{base}\n[runners.autoscaler.plugin_config]\nname = \"g\""),
                Some("plugin_config"),
            ),
            (
                format!("{base}\n[runners.autoscaler.connector_config]\nusername = \"u\""),
                Some("connector_config"),
            ),
            (
                format!("{base}\n[runners.autoscaler.connector_config]\npassword = \"u\""),
                Some("connector_config"),
            ),
            (
                fleet("max_instances = 3\ncapacity_per_instance = 2"),
                Some("capacity_per_instance"),
            ),
            (
                fleet("max_instances = 3\ninstance_ready_command = \"true\""),
                Some("instance_ready_command"),
            ),
            (
                base.replace("image", "host = \"unix:///run/other.sock\"\nimage"),
                Some("docker.host"),
            ),
        ] {
            let new = &file(&[("one", "a", &changed)])[0];
            assert_eq!(other_instances(old, new), expected, "{changed}");
        }
    }
}
