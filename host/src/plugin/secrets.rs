//! Secrets by granted name: read anew each time, and watched, so that a corrected file is noticed at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::grants::{Grants, SecretSource, Tls};
use super::report::Digest;

/// Bytes of one secret.
const MAX_BYTES: u64 = 1 << 20;

/// Why a plugin gets no secret; each text is what the plugin, and through it the operator, reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    #[error("the secret `{0}` is not granted")]
    NotGranted(String),
    #[error("{0}")]
    Unreadable(String),
}

/// The granted names and the files they stand for, over one group's `plugin_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    files: BTreeMap<String, Option<PathBuf>>,
    /// Named by `tls`: never read by the plugin, watched like a secret.
    tls: Vec<PathBuf>,
}

impl Secrets {
    /// `home` stands for `~` in a path, the operator's or a default.
    pub fn new(grants: &Grants, config: &serde_json::Value, home: Option<&Path>) -> Self {
        Self::within(grants, config, home, |variable| {
            std::env::var_os(variable).map(PathBuf::from)
        })
    }

    fn within(
        grants: &Grants,
        config: &serde_json::Value,
        home: Option<&Path>,
        variable: impl Fn(&str) -> Option<PathBuf>,
    ) -> Self {
        let written = |key: &str| {
            let written = config.get(key)?.as_str()?;
            (!written.is_empty()).then(|| PathBuf::from(written))
        };
        let file = |source: &SecretSource| {
            let file = match source {
                SecretSource::File(file) => Some(file.clone()),
                SecretSource::ConfigKey { key, default } => {
                    written(key).or_else(|| default.clone())
                }
                SecretSource::Variable {
                    key,
                    variable: name,
                    default,
                } => key
                    .as_deref()
                    .and_then(written)
                    .or_else(|| variable(name).filter(|path| !path.as_os_str().is_empty()))
                    .or_else(|| default.clone()),
            };
            file.map(|file| expand(&file, home))
        };
        Self {
            files: grants
                .secrets
                .iter()
                .map(|(name, source)| (name.clone(), file(source)))
                .collect(),
            tls: grants.tls.values().flat_map(Tls::files).cloned().collect(),
        }
    }

    /// Blocks on the disk: call it where that is no harm.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        let Some(file) = self.files.get(name) else {
            return Err(SecretProblem::NotGranted(name.to_owned()));
        };
        let Some(file) = file else {
            return Err(SecretProblem::Unreadable(format!(
                "the secret `{name}` is granted by a plugin_config key or a variable that is not set"
            )));
        };
        read_regular(file)
            .map_err(|problem| SecretProblem::Unreadable(format!("{}: {problem}", file.display())))
    }

    /// What the files are now; two that differ mean that a secret changed.
    pub fn fingerprint(&self, before: &Fingerprint) -> Fingerprint {
        let files = self.files.values().flatten().chain(&self.tls);
        Fingerprint(
            files
                .map(|file| (file.clone(), State::of(file, before.0.get(file))))
                .collect(),
        )
    }
}

/// The state of each granted file; compares by content, and reads it only when its metadata moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Option<State>>);

#[derive(Clone, Debug)]
struct State {
    metadata: (u64, u64, i64, i64),
    digest: Digest,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for State {}

impl State {
    fn of(file: &Path, before: Option<&Option<Self>>) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        let metadata = (
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        let unmoved = before.iter().find_map(|state| state.as_ref());
        match unmoved.filter(|state| state.metadata == metadata) {
            Some(state) => Some(state.clone()),
            None => Some(Self {
                metadata,
                digest: Digest::of(&read_regular(file).ok()?),
            }),
        }
    }
}

/// A pipe would hold the reader for ever and a device has no end: only regular files are secrets.
pub(super) fn read_regular(file: &Path) -> Result<Vec<u8>, String> {
    let told = |problem: std::io::Error| problem.to_string();
    if !std::fs::metadata(file).map_err(told)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(told)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

fn expand(file: &Path, home: Option<&Path>) -> PathBuf {
    match (file.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::grants::{TlsHost, built_in};

    #[test]
    fn only_granted_names_are_read_and_read_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credentials");
        let config = json!({ "credentials_file": file });
        let grants = built_in("aws").expect("aws ships");
        let secrets = Secrets::new(&grants, &config, Some(dir.path()));
        let missing = secrets
            .read("aws_credentials")
            .expect_err("it is not there");
        assert_eq!(
            missing.to_string(),
            format!("{}: No such file or directory (os error 2)", file.display())
        );
        for content in ["one", "two"] {
            std::fs::write(&file, content).expect("it is writable");
            assert_eq!(secrets.read("aws_credentials"), Ok(content.into()));
        }
        assert_eq!(
            secrets.read("token"),
            Err(SecretProblem::NotGranted("token".into()))
        );
        std::fs::create_dir(dir.path().join(".aws")).expect("it is writable");
        std::fs::write(dir.path().join(".aws/config"), "by default").expect("it is writable");
        assert_eq!(secrets.read("aws_config"), Ok("by default".into()));
    }

    #[test]
    fn the_configuration_then_the_environment_then_the_default_say_where() {
        let grants = built_in("aws").expect("aws ships");
        let file = |config: serde_json::Value, variable: Option<&str>| {
            let variable = |name: &str| {
                let is_it = name == "AWS_WEB_IDENTITY_TOKEN_FILE";
                variable.filter(|_| is_it).map(PathBuf::from)
            };
            let secrets = Secrets::within(&grants, &config, None, variable);
            secrets.files["aws_web_identity_token"].clone()
        };
        let written = json!({ "web_identity_token_file": "/written" });
        assert_eq!(file(written, Some("/environment")), Some("/written".into()));
        assert_eq!(
            file(json!({}), Some("/environment")),
            Some("/environment".into())
        );
        let default = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
        assert_eq!(file(json!({}), Some("")), Some(default.into()));
        assert_eq!(file(json!({}), None), Some(default.into()));
    }

    #[test]
    fn only_regular_files_of_a_mebibyte_are_secrets() {
        let dir = tempfile::tempdir().expect("a directory");
        let secrets = |path: &Path| {
            let source = SecretSource::File(path.to_owned());
            let grants = Grants {
                secrets: BTreeMap::from([("x".to_owned(), source)]),
                ..Grants::default()
            };
            Secrets::new(&grants, &json!({}), None)
        };
        let told = |path: &Path| secrets(path).read("x").map_err(|p| p.to_string());
        let is = |path: &Path, what: &str| Err(format!("{}: {what}", path.display()));
        assert_eq!(told(dir.path()), is(dir.path(), "not a regular file"));
        let device = Path::new("/dev/zero");
        assert_eq!(told(device), is(device, "not a regular file"));
        let file = dir.path().join("big");
        std::fs::write(&file, vec![0; 1 << 20]).expect("it is writable");
        assert!(told(&file).is_ok());
        std::fs::write(&file, vec![0; (1 << 20) + 1]).expect("it is writable");
        assert_eq!(told(&file), is(&file, "larger than 1 MiB"));
    }

    #[test]
    fn a_fingerprint_changes_with_the_content_and_with_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credentials");
        let config = json!({ "credentials_file": file, "config_file": dir.path().join("none") });
        let secrets = Secrets::new(&built_in("aws").expect("aws ships"), &config, None);
        let absent = secrets.fingerprint(&Fingerprint::default());
        std::fs::write(&file, "one").expect("it is writable");
        let one = secrets.fingerprint(&absent);
        assert_ne!(one, absent);
        std::fs::write(&file, "one").expect("it is writable");
        assert_eq!(secrets.fingerprint(&one), one);
        std::fs::write(&file, "two").expect("it is writable");
        assert_ne!(secrets.fingerprint(&one), one);
    }

    #[test]
    fn files_of_tls_are_watched_and_never_read_by_a_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        let tls = Tls {
            ca: Some(file.clone()),
            ..Tls::default()
        };
        let host = TlsHost::parse("api.example.com").expect("a host");
        let grants = Grants {
            tls: BTreeMap::from([(host, tls)]),
            ..Grants::default()
        };
        let secrets = Secrets::new(&grants, &json!({}), None);
        let absent = secrets.fingerprint(&Fingerprint::default());
        std::fs::write(&file, "one").expect("it is writable");
        assert_ne!(secrets.fingerprint(&absent), absent);
        for name in ["ca", "tls", "api.example.com", "ca.pem"] {
            let refused = secrets.read(name);
            assert_eq!(refused, Err(SecretProblem::NotGranted(name.into())));
        }
    }
}
