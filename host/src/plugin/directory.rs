//! Finds a plugin's file by the name that `config.toml` gives it.

use std::path::{Path, PathBuf};

/// `plugin = "…"` as written, understood: `aws`, `fleeting-plugin-aws`, `aws:latest`, `registry/repo/aws:1`, a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The operator's name of the plugin, which grants, pins and reports go by.
    pub name: String,
    /// Set when the reference is an absolute path: nothing else is looked at.
    path: Option<PathBuf>,
}

const PREFIX: &str = "fleeting-plugin-";

impl Reference {
    pub fn parse(written: &str) -> Self {
        let path = Path::new(written);
        let is_path = path.is_absolute();
        let last = if is_path {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.strip_suffix(".wasm").unwrap_or(&file).to_owned()
        } else {
            let last = written.rsplit('/').next().unwrap_or(written);
            // The version constraint is GitLab Runner's business with registries: here a file is or is not there.
            let last = last.split(':').next().unwrap_or(last);
            last.strip_suffix(".wasm").unwrap_or(last).to_owned()
        };
        Self {
            name: last.strip_prefix(PREFIX).unwrap_or(&last).to_owned(),
            path: is_path.then(|| path.to_owned()),
        }
    }
}

/// A file that goes by a plugin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub file: PathBuf,
}

/// Nothing by that name: the places, in order, and a native plugin that would have fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    pub looked_in: Vec<PathBuf>,
    pub native: Option<PathBuf>,
}

/// The places plugins are looked for, in order: plugin directories first, then every entry of `PATH`.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    plugin_dirs: Vec<PathBuf>,
    search_path: Vec<PathBuf>,
}

impl Directory {
    pub fn new(plugin_dirs: Vec<PathBuf>, search_path: Option<&std::ffi::OsStr>) -> Self {
        let search_path = search_path.map(|path| std::env::split_paths(path).collect());
        Self {
            plugin_dirs,
            search_path: search_path.unwrap_or_default(),
        }
    }

    pub fn find(&self, reference: &Reference) -> Result<PathBuf, NotFound> {
        if let Some(path) = &reference.path {
            return if path.is_file() {
                Ok(path.clone())
            } else {
                Err(NotFound {
                    looked_in: vec![path.clone()],
                    native: None,
                })
            };
        }
        let long = format!("{PREFIX}{}", reference.name);
        let candidates = [format!("{long}.wasm"), format!("{}.wasm", reference.name)];
        // In PATH stand programs: only the long name is a plugin's there.
        let in_dirs = self.plugin_dirs.iter().map(|dir| (dir, &candidates[..]));
        let in_path = self.search_path.iter().map(|dir| (dir, &candidates[..1]));
        for (dir, names) in in_dirs.clone().chain(in_path) {
            if let Some(file) = names.iter().map(|n| dir.join(n)).find(|f| f.is_file()) {
                return Ok(file);
            }
        }
        let places = || self.plugin_dirs.iter().chain(&self.search_path);
        let native = places().map(|dir| dir.join(&long)).find(|f| f.is_file());
        let mut looked_in: Vec<PathBuf> = Vec::new();
        for place in places() {
            if !looked_in.contains(place) {
                looked_in.push(place.clone());
            }
        }
        Err(NotFound { looked_in, native })
    }

    /// Every plugin that a reference could name, first come first.
    pub fn list(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let in_dirs = self.plugin_dirs.iter().map(|dir| (dir, false));
        let in_path = self.search_path.iter().map(|dir| (dir, true));
        for (dir, needs_prefix) in in_dirs.chain(in_path) {
            let mut files: Vec<_> = std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| file.extension().is_some_and(|e| e == "wasm") && file.is_file())
                .collect();
            files.sort();
            for file in files {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                if needs_prefix && !stem.starts_with(PREFIX) {
                    continue;
                }
                let name = stem.strip_prefix(PREFIX).unwrap_or(&stem).to_owned();
                if !found.iter().any(|f| f.name == name) {
                    found.push(Found { name, file });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, name: &str) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, b"").expect("a temporary directory is writable");
        file
    }

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
    fn directories_come_in_order_before_the_search_path() {
        let (first, second, path) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let search = path.path().as_os_str();
        let dirs = vec![first.path().into(), second.path().into()];
        let directory = Directory::new(dirs.clone(), Some(search));
        let aws = Reference::parse("aws");

        let native = touch(path.path(), "fleeting-plugin-aws");
        touch(path.path(), "aws.wasm");
        let missing = directory
            .find(&aws)
            .expect_err("only a native one is there");
        let all: Vec<PathBuf> = dirs.into_iter().chain([path.path().into()]).collect();
        assert_eq!(missing.looked_in, all);
        assert_eq!(missing.native, Some(native));

        let in_path = touch(path.path(), "fleeting-plugin-aws.wasm");
        assert_eq!(directory.find(&aws), Ok(in_path.clone()));
        assert_eq!(
            directory.find(&Reference::parse(&in_path.display().to_string())),
            Ok(in_path)
        );
        let short = touch(second.path(), "aws.wasm");
        assert_eq!(directory.find(&aws), Ok(short));
        let long = touch(second.path(), "fleeting-plugin-aws.wasm");
        assert_eq!(directory.find(&aws), Ok(long));
        touch(first.path(), "static.wasm");
        let names: Vec<_> = directory.list().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["static", "aws"]);
    }
}
