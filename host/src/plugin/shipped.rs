//! `shipped.toml`: the digests of the plugins that came with this installation, which built-in grants go by.

use std::collections::BTreeSet;
use std::path::Path;

use super::report::Digest;
use crate::store::owner;

/// What the installation vouches for, or why it vouches for nothing.
#[derive(Clone, Debug, Default)]
pub struct Shipped {
    plugins: BTreeSet<(String, String)>,
    /// Set when there are no built-in grants at all; a fragment for the operator.
    absent: Option<String>,
}

#[derive(serde::Deserialize)]
struct Written {
    #[serde(default)]
    plugin: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    name: String,
    sha256: String,
}

const FILE: &str = "shipped.toml";

impl Shipped {
    /// Whoever can write the file or its directory can grant: so it counts only if that is root or the manager's user.
    pub fn read(data_dir: Option<&Path>) -> Self {
        let Some(dir) = data_dir else {
            return Self::none("this installation has no data directory".to_owned());
        };
        let file = dir.join(FILE);
        for place in [dir, &file] {
            match owner::exposure(place) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    return Self::none(format!(
                        "{} is ignored: others than root and the manager's user can write {}",
                        file.display(),
                        place.display()
                    ));
                }
                Err(problem) => {
                    return Self::none(format!("{} cannot be read: {problem}", place.display()));
                }
            }
        }
        let written = std::fs::read_to_string(&file)
            .map_err(|problem| problem.to_string())
            .and_then(|text| toml::from_str::<Written>(&text).map_err(|p| p.message().to_owned()));
        match written {
            Ok(written) => Self {
                plugins: written
                    .plugin
                    .into_iter()
                    .map(|entry| (entry.name, entry.sha256.to_ascii_lowercase()))
                    .collect(),
                absent: None,
            },
            Err(problem) => Self::none(format!("{} is ignored: {problem}", file.display())),
        }
    }

    fn none(why: String) -> Self {
        Self {
            plugins: BTreeSet::new(),
            absent: Some(why),
        }
    }

    pub fn lists(&self, plugin: &str, digest: Digest) -> bool {
        self.plugins.contains(&(plugin.to_owned(), digest.hex()))
    }

    /// Why the plugin with built-in grants has none, as the second half of a denial.
    pub fn why_not(&self, plugin: &str, digest: Digest) -> String {
        match &self.absent {
            Some(why) => format!("no built-in grants: {why}"),
            None => format!("no built-in grants: {FILE} lists no `{plugin}` of {digest}"),
        }
    }

    /// Something is wrong with the file itself, as opposed to its absence.
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_vouches_for_a_name_with_its_digest() {
        let dir = tempfile::tempdir().expect("a directory");
        let digest = Digest::of(b"aws");
        let text = format!(
            "[[plugin]]\nname = \"aws\"\nsha256 = \"{}\"\n",
            digest.hex()
        );
        std::fs::write(dir.path().join(FILE), text).expect("it is writable");
        let shipped = Shipped::read(Some(dir.path()));
        assert_eq!(shipped.absent(), None);
        assert!(shipped.lists("aws", digest));
        assert!(!shipped.lists("gcp", digest));
        assert!(!shipped.lists("aws", Digest::of(b"other")));
        let why = shipped.why_not("aws", Digest::of(b""));
        assert_eq!(
            why,
            "no built-in grants: shipped.toml lists no `aws` of sha256 e3b0c44298fc…"
        );
    }

    #[test]
    fn it_is_ignored_where_others_can_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        std::fs::write(&file, "").expect("it is writable");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .expect("it is ours")
        };
        for (path, mode) in [(file.as_path(), 0o666), (dir.path(), 0o777)] {
            set(&file, 0o644);
            set(dir.path(), 0o755);
            assert_eq!(Shipped::read(Some(dir.path())).absent(), None);
            set(path, mode);
            let shipped = Shipped::read(Some(dir.path()));
            let why = shipped.absent().expect("it is ignored");
            assert!(
                why.ends_with(&format!("can write {}", path.display())),
                "{why}"
            );
        }
    }

    #[test]
    fn its_absence_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let shipped = Shipped::read(Some(dir.path()));
        let why = shipped.why_not("aws", Digest::of(b""));
        assert!(why.contains("shipped.toml cannot be read"), "{why}");
        assert!(Shipped::read(None).absent().is_some());
    }
}
