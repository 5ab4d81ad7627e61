//! Finds a plugin's file by what `config.toml` writes. Nothing is fetched: what is not here is not found.
//!
//! ```text
//! installed   <plugin directory>/<registry>/<repository>/<version>/plugin.wasm   the best version that fits,
//!                                                                                of the first directory that has one
//! else plain  <plugin directory>/fleeting-plugin-<name>.wasm or <name>.wasm      whatever version was asked for
//! else plain  <entry of PATH>/fleeting-plugin-<name>.wasm
//! ```

use std::path::{Path, PathBuf};

use super::reference::{Place, Remote, long, short};

pub use super::reference::Reference;

/// What an installed plugin's file is called.
pub const FILE: &str = "plugin.wasm";
/// The same of a native plugin, as GitLab Runner installs it.
const NATIVE: &str = "plugin";
/// Parts of a registry's and repository's name below a plugin directory.
const DEPTH: usize = 9;

/// A file that goes by a plugin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// What `plugin = "…"` may say to mean this file.
    pub reference: String,
    pub file: PathBuf,
    /// A plain file beside it whose name differs in case only.
    pub twin: Option<PathBuf>,
}

/// Nothing by that name: the places, in order, and what would nearly have fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    pub looked_in: Vec<PathBuf>,
    pub native: Option<PathBuf>,
    /// Versions installed from there, none of which is meant.
    pub unfit: Vec<String>,
    /// A file whose name differs in case only.
    pub other_case: Option<PathBuf>,
    /// What `fleetling plugin install` can be asked for: a reference that names its registry.
    pub remote: Option<String>,
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
        let remote = match &reference.place {
            Place::Path(path) => {
                return if path.is_file() {
                    Ok(path.clone())
                } else {
                    Err(NotFound {
                        looked_in: vec![path.clone()],
                        native: None,
                        unfit: Vec::new(),
                        other_case: None,
                        remote: None,
                    })
                };
            }
            Place::Remote(remote) => Some(remote),
            Place::Plain => None,
        };
        let installed = remote.and_then(|remote| self.installed(remote));
        installed
            .or_else(|| self.plain(&reference.name))
            .ok_or_else(|| self.missing(&reference.name, remote))
    }

    /// The best installed version that fits, of the first directory that has one.
    pub fn installed(&self, remote: &Remote) -> Option<PathBuf> {
        self.plugin_dirs.iter().find_map(|dir| {
            let versions = versions(dir, remote, FILE);
            let best = remote
                .constraint
                .best(versions.iter().map(String::as_str))?;
            Some(dir.join(remote.folder()).join(best).join(FILE))
        })
    }

    fn plain(&self, name: &str) -> Option<PathBuf> {
        // In PATH stand programs: only the long name is a plugin's there.
        let [long, short] = plain_names(name);
        let in_dirs = self.plugin_dirs.iter();
        let in_dirs = in_dirs.flat_map(|dir| [dir.join(&long), dir.join(&short)]);
        let in_path = self.search_path.iter().map(|dir| dir.join(&long));
        in_dirs.chain(in_path).find(|file| file.is_file())
    }

    fn missing(&self, name: &str, remote: Option<&Remote>) -> NotFound {
        let mut looked_in: Vec<PathBuf> = Vec::new();
        for place in self.plugin_dirs.iter().chain(&self.search_path) {
            if !looked_in.contains(place) {
                looked_in.push(place.clone());
            }
        }
        let native = looked_in.iter().map(|dir| dir.join(long(name)));
        let native = native.chain(remote.and_then(|remote| self.installed_native(remote)));
        let mut unfit = Vec::new();
        for dir in &self.plugin_dirs {
            unfit.extend(remote.map(|r| versions(dir, r, FILE)).unwrap_or_default());
        }
        let wanted = plain_names(name);
        let other_case = self.plugin_dirs.iter().find_map(|dir| {
            let files = wasm_files(dir).into_iter();
            let mut alike = files.filter(|file| {
                let file = file.file_name().unwrap_or_default().to_string_lossy();
                wanted.iter().any(|name| name.eq_ignore_ascii_case(&file))
            });
            alike.next()
        });
        NotFound {
            native: native.into_iter().find(|file| file.is_file()),
            looked_in,
            unfit,
            other_case,
            remote: remote.filter(|r| !r.is_default).map(Remote::to_string),
        }
    }

    fn installed_native(&self, remote: &Remote) -> Option<PathBuf> {
        self.plugin_dirs.iter().find_map(|dir| {
            let version = versions(dir, remote, NATIVE).into_iter().next()?;
            Some(dir.join(remote.folder()).join(version).join(NATIVE))
        })
    }

    /// Every plugin that a reference could name, first come first.
    pub fn list(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for dir in &self.plugin_dirs {
            for file in installed_files(dir) {
                found.extend(installed(dir, file));
            }
        }
        let in_dirs = self.plugin_dirs.iter().map(|dir| (dir, false));
        let in_path = self.search_path.iter().map(|dir| (dir, true));
        for (dir, needs_prefix) in in_dirs.chain(in_path) {
            let files = wasm_files(dir);
            for file in &files {
                let stem = stem(file);
                if needs_prefix && short(&stem) == stem {
                    continue;
                }
                let name = short(&stem).to_owned();
                let twin = files.iter().find(|other| {
                    let other = self::stem(other);
                    other != stem && other.eq_ignore_ascii_case(&stem)
                });
                if !found.iter().any(|f| f.reference == name) {
                    found.push(Found {
                        reference: name.clone(),
                        name,
                        file: file.clone(),
                        twin: twin.cloned(),
                    });
                }
            }
        }
        found
    }
}

fn plain_names(name: &str) -> [String; 2] {
    [format!("{}.wasm", long(name)), format!("{name}.wasm")]
}

fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// What stands in a folder, sorted; nothing if it cannot be read.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut entries: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    entries
}

fn wasm_files(dir: &Path) -> Vec<PathBuf> {
    let is_wasm = |file: &PathBuf| file.extension().is_some_and(|e| e == "wasm") && file.is_file();
    entries(dir).into_iter().filter(is_wasm).collect()
}

/// Names of the folders below the repository's own that hold such a file.
fn versions(dir: &Path, remote: &Remote, file: &str) -> Vec<String> {
    let folders = entries(&dir.join(remote.folder())).into_iter();
    let with_file = folders.filter(|folder| folder.join(file).is_file());
    with_file
        .filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// Every installed file below a plugin directory.
fn installed_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_owned(), DEPTH)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in entries(&folder) {
            let is_own = folder != dir && entry.file_name().is_some_and(|name| name == FILE);
            if is_own && entry.is_file() {
                files.push(entry);
            } else if depth > 0 && entry.is_dir() && !entry.is_symlink() {
                folders.push((entry, depth - 1));
            }
        }
    }
    files.sort();
    files
}

/// `None` if no reference could lead there.
fn installed(dir: &Path, file: PathBuf) -> Option<Found> {
    let folder = file.parent()?.strip_prefix(dir).ok()?;
    let version = folder.file_name()?.to_str()?;
    let repository = folder.parent()?.to_str()?;
    let remote = Remote::parse(&format!("{repository}:{version}")).ok()?;
    if remote.folder() != Path::new(repository) {
        return None;
    }
    Some(Found {
        name: remote.name().to_owned(),
        reference: remote.at(version),
        file,
        twin: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, name: &str) -> PathBuf {
        let file = dir.join(name);
        let folder = file.parent().expect("it is below the directory");
        std::fs::create_dir_all(folder).expect("a temporary directory is writable");
        std::fs::write(&file, b"").expect("a temporary directory is writable");
        file
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn find(directory: &Directory, written: &str) -> Option<PathBuf> {
        directory.find(&Reference::parse(written)).ok()
    }

    #[test]
    fn directories_come_in_order_before_the_search_path() {
        let (first, second, path) = (folder(), folder(), folder());
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
            find(&directory, &in_path.display().to_string()),
            Some(in_path)
        );
        let short = touch(second.path(), "aws.wasm");
        assert_eq!(directory.find(&aws), Ok(short));
        let long = touch(second.path(), "fleeting-plugin-aws.wasm");
        assert_eq!(directory.find(&aws), Ok(long));
        touch(first.path(), "static.wasm");
        let names: Vec<_> = directory.list().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["static", "aws"]);
    }

    #[test]
    fn the_best_installed_version_of_the_first_directory_comes_before_a_plain_file() {
        let (first, second) = (folder(), folder());
        let directory = Directory::new(vec![first.path().into(), second.path().into()], None);
        let plain = touch(first.path(), "aws.wasm");
        let own = |dir: &tempfile::TempDir, version: &str| {
            touch(
                dir.path(),
                &format!("r.example:5000/team/aws/{version}/plugin.wasm"),
            )
        };
        let (old, newer) = (own(&second, "1.5.1"), own(&second, "1.10.0"));
        let pre = own(&second, "2.0.0-rc.1");
        let reference = "r.example:5000/team/aws";
        for (constraint, file) in [
            ("", &newer),
            (":latest", &newer),
            (":1", &newer),
            (":1.5", &old),
            (":1.5.1", &old),
            (":2.0.0-rc.1", &pre),
            // None fits: the plain file serves every reference of its name.
            (":2", &plain),
            (":nightly", &plain),
        ] {
            let found = find(&directory, &format!("{reference}{constraint}"));
            assert_eq!(found.as_ref(), Some(file), "{constraint}");
        }
        assert_eq!(
            find(&directory, "other.example/team/aws"),
            Some(plain.clone())
        );
        assert_eq!(find(&directory, "aws"), Some(plain));
        let of_gitlab = "registry.gitlab.com/gitlab-org/fleeting/plugins/aws/0.9.0/plugin.wasm";
        let of_gitlab = touch(second.path(), of_gitlab);
        assert_eq!(find(&directory, "fleeting-plugin-aws:0.9"), Some(of_gitlab));
        let in_first = own(&first, "1.4.0");
        assert_eq!(find(&directory, reference), Some(in_first));
    }

    #[test]
    fn what_nearly_fits_is_told() {
        let dir = folder();
        let directory = Directory::new(vec![dir.path().into()], None);
        touch(dir.path(), "r.example/aws/1.5.1/plugin.wasm");
        let native = touch(dir.path(), "r.example/aws/1.5.2/plugin");
        let other_case = touch(dir.path(), "AWS.wasm");
        let missing = directory.find(&Reference::parse("r.example/aws:2"));
        let missing = missing.expect_err("it is not installed");
        assert_eq!(missing.unfit, ["1.5.1"]);
        assert_eq!(missing.native, Some(native));
        assert_eq!(missing.other_case, Some(other_case));
        assert_eq!(missing.remote.as_deref(), Some("r.example/aws:2"));
        let missing = directory.find(&Reference::parse("aws"));
        assert_eq!(missing.expect_err("it is not there").remote, None);
    }

    #[test]
    fn the_list_has_what_is_installed_and_files_that_differ_in_case_only() {
        let dir = folder();
        let directory = Directory::new(vec![dir.path().into()], None);
        for name in ["1.5.1", "nightly"] {
            touch(
                dir.path(),
                &format!("r.example/team/aws/{name}/plugin.wasm"),
            );
        }
        // No reference leads there.
        touch(dir.path(), "Team/aws/1.0.0/plugin.wasm");
        touch(dir.path(), "team/aws/1.0.0/plugin.wasm");
        let (upper, lower) = (touch(dir.path(), "AWS.wasm"), touch(dir.path(), "aws.wasm"));
        let list = directory.list();
        let references: Vec<_> = list.iter().map(|found| found.reference.as_str()).collect();
        assert_eq!(
            references,
            [
                "r.example/team/aws:1.5.1",
                "r.example/team/aws:nightly",
                "AWS",
                "aws"
            ]
        );
        assert_eq!(list[0].name, "aws");
        assert_eq!(list[2].twin, Some(lower));
        assert_eq!(list[3].twin, Some(upper));
        for found in &list {
            assert_eq!(
                find(&directory, &found.reference).as_ref(),
                Some(&found.file)
            );
        }
    }
}
