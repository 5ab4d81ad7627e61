//! `plugin = "…"` as written, understood: the operator's name, and where the plugin comes from.
//!
//! ```text
//! aws   aws:1.5   repo/aws:1   registry.example.com:5050/repo/aws   …@sha256:…        a path, which is all by itself
//!  └─ registry.gitlab.com/gitlab-org/fleeting/plugins/aws, latest: GitLab Runner's own defaults
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

const PREFIX: &str = "fleeting-plugin-";
const REGISTRY: &str = "registry.gitlab.com";
const REPOSITORY: &str = "gitlab-org/fleeting/plugins";

/// `aws`, `fleeting-plugin-aws`, `aws:latest`, `registry/repo/aws:1`, an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The operator's name of the plugin, which grants, pins and reports go by.
    pub name: String,
    pub place: Place,
}

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing but this file.
    Path(PathBuf),
    /// What was installed from there, else a plain file of the plugin's name.
    Remote(Remote),
    /// No repository has such a name: only a plain file can.
    Plain,
}

impl Reference {
    pub fn parse(written: &str) -> Self {
        let path = Path::new(written);
        if path.is_absolute() {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = file.strip_suffix(".wasm").unwrap_or(&file);
            return Self {
                name: short(name).to_owned(),
                place: Place::Path(path.to_owned()),
            };
        }
        let last = written.rsplit('/').next().unwrap_or(written);
        let last = last.split([':', '@']).next().unwrap_or(last);
        Self {
            name: short(last.strip_suffix(".wasm").unwrap_or(last)).to_owned(),
            place: Remote::parse(written).map_or(Place::Plain, Place::Remote),
        }
    }
}

/// A plugin's name without `fleeting-plugin-`.
pub fn short(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// A plugin's name with it, which programs in `PATH` have.
pub fn long(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A repository of a registry and which of its versions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Host, and port where there is one.
    pub registry: String,
    /// With the plugin's name as its last part.
    pub repository: String,
    pub constraint: Constraint,
    /// Neither was written: GitLab's own registry is meant.
    pub is_default: bool,
}

/// Why a text names no plugin in a registry; a fragment for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{written}` names no plugin in a registry: {why}; next: write it as `name:version` or \
     `registry.example.com/group/name:version`"
)]
pub struct NoRemote {
    written: String,
    why: &'static str,
}

impl Remote {
    /// As GitLab Runner reads it; the first part is a registry if it has a dot or a port, or is `localhost`.
    pub fn parse(written: &str) -> Result<Self, NoRemote> {
        let no = |why| NoRemote {
            written: written.chars().filter(|c| !c.is_control()).collect(),
            why,
        };
        let (named, digest) = match written.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (written, None),
        };
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match named[last..].split_once(':') {
            Some((_, tag)) => (&named[..named.len() - tag.len() - 1], Some(tag)),
            None => (named, None),
        };
        let constraint = match (digest, tag) {
            (Some(digest), _) => Constraint::digest(digest),
            (None, Some(tag)) => Constraint::parse(tag),
            (None, None) => Some(Constraint::Latest),
        };
        let constraint =
            constraint.ok_or_else(|| no("what follows its name is no version, tag or digest"))?;
        let (registry, path) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (Some(first.to_ascii_lowercase()), rest)
            }
            _ => (None, path),
        };
        if !registry.as_deref().is_none_or(is_registry) {
            return Err(no("its registry is no `host` or `host:port`"));
        }
        let repository = if registry.is_none() && !path.contains('/') {
            let name = path.strip_suffix(".wasm").unwrap_or(path);
            format!("{REPOSITORY}/{}", short(name))
        } else {
            path.to_owned()
        };
        if !repository.split('/').all(is_part) {
            return Err(no(
                "each part has lower-case letters and digits, and `.`, `_`, `-` between them",
            ));
        }
        Ok(Self {
            is_default: registry.is_none(),
            registry: registry.unwrap_or_else(|| REGISTRY.to_owned()),
            repository,
            constraint,
        })
    }

    /// Its own folder below a plugin directory: `<registry>/<repository>`, each version a folder below.
    pub fn folder(&self) -> PathBuf {
        Path::new(&self.registry).join(&self.repository)
    }

    /// The operator's name of the plugin.
    pub fn name(&self) -> &str {
        let last = self.repository.rsplit('/').next();
        short(last.unwrap_or(&self.repository))
    }

    /// How it is written in `plugin = "…"`, at one version.
    pub fn at(&self, version: &str) -> String {
        format!("{}/{}:{version}", self.registry, self.repository)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.constraint {
            Constraint::Digest(_) => '@',
            _ => ':',
        };
        let Self {
            registry,
            repository,
            constraint,
            ..
        } = self;
        write!(f, "{registry}/{repository}{separator}{constraint}")
    }
}

/// What is known as one part of a repository's name; never `..`.
fn is_part(part: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_inner = |c: char| is_end(Some(c)) || matches!(c, '.' | '_' | '-');
    is_end(part.chars().next())
        && is_end(part.chars().next_back())
        && part.chars().all(is_inner)
        && !part.contains("..")
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    is_part(host) && !host.contains('_') && port.is_none_or(is_port)
}

/// Which versions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// The newest release.
    Latest,
    /// The newest of `1` or `1.5`.
    Within(VersionReq),
    Exact(Version),
    /// A tag that is no version, as `nightly`.
    Tag(String),
    /// One manifest of the registry, `sha256:…`; what is installed is not known by it.
    Digest(String),
}

impl Constraint {
    /// `None` for what can be no tag.
    fn parse(written: &str) -> Option<Self> {
        if written == "latest" {
            return Some(Self::Latest);
        }
        if let Some(version) = version(written) {
            return Some(Self::Exact(version));
        }
        let mut numbers = written.split('.');
        let is_number = |n: &str| n.parse::<u64>().is_ok();
        if numbers.by_ref().take(2).all(is_number) && numbers.next().is_none() {
            // In this crate's words `=1` is any 1.x.y, and no pre-release.
            return VersionReq::parse(&format!("={written}"))
                .ok()
                .map(Self::Within);
        }
        let is_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let begins = written.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let is_one = begins && written.len() <= 128 && written.chars().all(is_tag);
        is_one.then(|| Self::Tag(written.to_owned()))
    }

    fn digest(written: &str) -> Option<Self> {
        let hex = written.strip_prefix("sha256:")?;
        let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| Self::Digest(format!("sha256:{}", hex.to_ascii_lowercase())))
    }

    /// Whether a release of this version is meant.
    pub fn admits(&self, version: &Version) -> bool {
        match self {
            Self::Latest => version.pre.is_empty(),
            Self::Within(range) => range.matches(version),
            Self::Exact(exact) => exact == version,
            Self::Tag(_) | Self::Digest(_) => false,
        }
    }

    /// The best of these names, folders or tags, with its version if it has one.
    pub fn best<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let mut best: Option<(Version, &str)> = None;
        for name in names {
            if matches!(self, Self::Tag(tag) if tag == name) {
                return Some(name);
            }
            let Some(version) = version(name).filter(|version| self.admits(version)) else {
                continue;
            };
            if best.as_ref().is_none_or(|(best, _)| version > *best) {
                best = Some((version, name));
            }
        }
        best.map(|(_, name)| name)
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Within(range) => f.write_str(range.to_string().trim_start_matches('=')),
            Self::Exact(version) => version.fmt(f),
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => f.write_str(digest),
        }
    }
}

/// A tag as a version: `1.5.1`, `v1.5.1`, and `_` for the `+` that tags may not have.
pub fn version(tag: &str) -> Option<Version> {
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    Version::parse(&tag.replace('_', "+")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_ways_to_write_a_name_mean_one_plugin() {
        for written in [
            "aws",
            "fleeting-plugin-aws",
            "aws:latest",
            "fleeting-plugin-aws:1.5",
            "gitlab-org/fleeting/plugins/aws:1",
            "registry.example.com:5050/group/fleeting/plugins/aws:1",
            "/opt/fleeting-plugin-aws.wasm",
            "/opt/aws.wasm",
        ] {
            assert_eq!(Reference::parse(written).name, "aws", "{written}");
        }
    }

    #[test]
    fn defaults_are_gitlab_s_and_the_registry_is_told_by_its_dot_or_port() {
        for (written, whole) in [
            (
                "aws",
                "registry.gitlab.com/gitlab-org/fleeting/plugins/aws:latest",
            ),
            (
                "fleeting-plugin-aws:1",
                "registry.gitlab.com/gitlab-org/fleeting/plugins/aws:1",
            ),
            (
                "group/plugins/aws",
                "registry.gitlab.com/group/plugins/aws:latest",
            ),
            ("localhost/aws:1.5", "localhost/aws:1.5"),
            ("localhost:5000/aws:1.5.1", "localhost:5000/aws:1.5.1"),
            (
                "Registry.Example.com/a/b:v1.5.1",
                "registry.example.com/a/b:1.5.1",
            ),
            ("r.example/a/b:nightly", "r.example/a/b:nightly"),
            ("r.example/a/b:1.5.1-rc.1", "r.example/a/b:1.5.1-rc.1"),
            ("r.example/a/b:1.5.1_3", "r.example/a/b:1.5.1+3"),
        ] {
            let remote = Remote::parse(written).expect(written);
            assert_eq!(remote.to_string(), whole, "{written}");
        }
        let digest = format!("r.example/a/b@sha256:{}", "ab".repeat(32));
        let remote = Remote::parse(&digest).expect("it is one");
        assert_eq!(remote.to_string(), digest);
    }

    #[test]
    fn what_could_leave_its_folder_or_be_no_repository_is_none() {
        for written in [
            "",
            "../aws",
            "r.example/../aws",
            "r.example/a/../aws:1",
            "r.example/a//aws",
            "r.example/a..b/aws",
            "r.example/Group/aws",
            "r.example:port/a/aws",
            "r.example:0/aws",
            "..:1/aws",
            "r.example/aws:",
            "r.example/aws:..",
            "r.example/aws:a/b",
            "r.example/aws:-1",
            "r.example/aws@sha256:12",
            "r.example/aws@md5:00",
            "https://r.example/aws",
            "aws\n:1",
        ] {
            assert!(Remote::parse(written).is_err(), "{written}");
        }
        assert_eq!(Reference::parse("My_Plugin").place, Place::Plain);
    }

    #[test]
    fn the_newest_version_that_fits_is_the_best() {
        let names = [
            "1.4.9",
            "v1.5.0",
            "1.5.1",
            "1.5.10",
            "2.0.0-rc.1",
            "nightly",
            "10.0.0",
            "latest",
        ];
        for (constraint, best) in [
            ("latest", Some("10.0.0")),
            ("1", Some("1.5.10")),
            ("1.5", Some("1.5.10")),
            ("1.5.1", Some("1.5.1")),
            ("1.5.0", Some("v1.5.0")),
            ("1.4", Some("1.4.9")),
            ("2", None),
            ("2.0.0-rc.1", Some("2.0.0-rc.1")),
            ("nightly", Some("nightly")),
            ("daily", None),
            ("3.1", None),
        ] {
            let parsed = Constraint::parse(constraint).expect(constraint);
            assert_eq!(parsed.best(names), best, "{constraint}");
        }
    }

    proptest! {
        #[test]
        fn nothing_written_leads_out_of_the_plugin_directory(written in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(remote) = Remote::parse(&written) {
                let mut folder = remote.folder();
                folder.push(remote.constraint.to_string());
                prop_assert!(folder.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }

        #[test]
        fn what_is_printed_is_read_back(written in "[a-z0-9.:]{1,9}/[a-z]{1,5}(/[a-z]{1,4})?(:[a-z0-9.]{1,6})?") {
            if let Ok(remote) = Remote::parse(&written) {
                let again = Remote::parse(&remote.to_string()).map(|again| again.to_string());
                prop_assert_eq!(again, Ok(remote.to_string()));
            }
        }
    }
}
