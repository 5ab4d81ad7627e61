//! Who this manager is to GitLab: its system ID, and how a token may be named in a log.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use rand::Rng;

/// `s_` or `r_` and 12 letters or digits. GitLab tells managers that share a token apart by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SystemId(String);

impl std::fmt::Display for SystemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A system ID and, where it could not be kept, a warning.
pub struct Identified {
    pub id: SystemId,
    pub warning: Option<String>,
}

impl SystemId {
    /// `None` when `text`, trimmed, is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let rest = text
            .strip_prefix("s_")
            .or_else(|| text.strip_prefix("r_"))?;
        (rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
            .then(|| Self(text.to_owned()))
    }

    /// From `.runner_system_id` beside `config`; made of the machine's ID where that file is missing or unusable.
    pub fn of_machine(config: &Path) -> Identified {
        let machine = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok());
        Self::load_or_create(config, machine.as_deref())
    }

    fn load_or_create(config: &Path, machine: Option<&str>) -> Identified {
        let file: PathBuf = config
            .parent()
            .unwrap_or(Path::new("."))
            .join(".runner_system_id");
        let kept = std::fs::read_to_string(&file).ok();
        if let Some(id) = kept.as_deref().and_then(Self::parse) {
            return Identified { id, warning: None };
        }
        let id = machine
            .map(str::trim)
            .filter(|machine| !machine.is_empty())
            .map_or_else(Self::random, Self::derived);
        let warning = std::fs::write(&file, &id.0).err().map(|e| {
            format!(
                "system ID {id} could not be kept in {}: {e}; GitLab may see a new manager at the next start; next: let \
                 the manager's user write there",
                file.display()
            )
        });
        Identified { id, warning }
    }

    /// GitLab Runner's own derivation: a machine keeps its ID when it moves here.
    fn derived(machine: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, machine.as_bytes());
        let tag = hmac::sign(&key, b"gitlab-runner");
        let hex: String = tag.as_ref()[..6]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        Self(format!("s_{hex}"))
    }

    fn random() -> Self {
        let letters: String = rand::rng()
            .sample_iter(rand::distr::Alphanumeric)
            .take(12)
            .map(char::from)
            .collect();
        Self(format!("r_{letters}"))
    }
}

/// What of a runner token may be shown: the first 9 characters after its well-known prefix.
pub fn short_token(token: &str) -> String {
    let rest = without_prefix(token);
    rest.chars().take(9).collect()
}

fn without_prefix(token: &str) -> &str {
    let partition = |rest: &'_ str| {
        let bytes = rest.as_bytes();
        bytes.len() >= 3
            && bytes[0] == b't'
            && (b'1'..=b'3').contains(&bytes[1])
            && bytes[2] == b'_'
    };
    if let Some(rest) = token.strip_prefix("glrt-") {
        return if partition(rest) { &rest[3..] } else { rest };
    }
    for prefix in ["glrtr-", "glcbt-"] {
        if let Some(rest) = token.strip_prefix(prefix) {
            return rest;
        }
    }
    if partition(token) {
        return &token[3..];
    }
    let registration = token
        .strip_prefix("GR")
        .and_then(|rest| rest.split_at_checked(7));
    match registration {
        Some((hex, rest)) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => rest,
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let first = SystemId::load_or_create(&config, Some("0123456789abcdef\n"));
        assert!(first.warning.is_none());
        assert!(SystemId::parse(&first.id.0).is_some() && first.id.0.starts_with("s_"));
        let again = SystemId::load_or_create(&config, Some("another machine"));
        assert_eq!(first.id, again.id);
        std::fs::write(dir.path().join(".runner_system_id"), " r_abcDEF123456\n").unwrap();
        assert_eq!(
            SystemId::load_or_create(&config, None).id.0,
            "r_abcDEF123456"
        );
        std::fs::write(dir.path().join(".runner_system_id"), "nonsense").unwrap();
        let made = SystemId::load_or_create(&config, None);
        assert!(made.id.0.starts_with("r_") && SystemId::parse(&made.id.0).is_some());
    }

    #[test]
    fn an_id_that_cannot_be_kept_warns() {
        let made = SystemId::load_or_create(Path::new("/proc/none/config.toml"), Some("m"));
        assert!(made.warning.unwrap().contains(".runner_system_id"));
    }

    #[test]
    fn the_machines_id_gives_gitlab_runners_own() {
        // printf %s gitlab-runner | openssl dgst -sha256 -hmac machine
        assert_eq!(SystemId::derived("machine").0, "s_e992a88f4684");
    }

    #[test]
    fn tokens_are_shortened_by_table() {
        for (token, short) in [
            ("glrt-abcdefghijkl", "abcdefghi"),
            ("glrt-t1_abcdefghijkl", "abcdefghi"),
            ("t3_abcdefghijkl", "abcdefghi"),
            ("t4_abcdefghijkl", "t4_abcdef"),
            ("glrtr-abcdefghijkl", "abcdefghi"),
            ("glcbt-abcdefghijkl", "abcdefghi"),
            ("GR1348941abcdefghijkl", "abcdefghi"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(short_token(token), short, "{token}");
        }
    }
}
