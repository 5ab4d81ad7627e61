//! A plugin that was pulled goes into a plugin directory: whole or not at all.

use std::io::{Error, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::plugin::directory;
use crate::plugin::report::Digest;

/// Written into the plugin directory to be looked at; gone unless it is put in its place.
pub struct Arrival(NamedTempFile);

/// What was done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    New,
    /// The same file was there.
    Same,
    /// Another was there, of this digest.
    Replaced(Digest),
}

/// Why a file cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceProblem {
    #[error("{dir} cannot be written: {problem}; next: run this as its owner, or name another folder with --to", dir = dir.display())]
    Unwritable { dir: PathBuf, problem: Error },
    #[error(
        "{file} is there with another digest ({there}) than the registry has now: its publisher changed a released \
         version; next: --upgrade replaces it, if that is meant", file = file.display()
    )]
    Occupied { file: PathBuf, there: Digest },
}

impl Arrival {
    pub fn write(dir: &Path, bytes: &[u8]) -> Result<Self, PlaceProblem> {
        let written = || -> Result<NamedTempFile, Error> {
            std::fs::create_dir_all(dir)?;
            let mut part = tempfile::Builder::new()
                .prefix(".arriving-")
                .permissions(PermissionsExt::from_mode(0o644))
                .tempfile_in(dir)?;
            part.write_all(bytes)?;
            part.as_file().sync_all()?;
            Ok(part)
        };
        written()
            .map(Self)
            .map_err(|problem| unwritable(dir, problem))
    }

    /// Where it can be looked at.
    pub fn file(&self) -> &Path {
        self.0.path()
    }

    /// Into a version's folder; what is there makes way only if `may_replace`, or if it is the same.
    pub fn put(
        self,
        folder: &Path,
        digest: Digest,
        may_replace: bool,
    ) -> Result<(PathBuf, Placed), PlaceProblem> {
        let file = folder.join(directory::FILE);
        let placed = match std::fs::read(&file).map(|bytes| Digest::of(&bytes)) {
            Ok(there) if there == digest => return Ok((file, Placed::Same)),
            Ok(there) if !may_replace => return Err(PlaceProblem::Occupied { file, there }),
            Ok(there) => Placed::Replaced(there),
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Placed::New,
            Err(problem) => return Err(unwritable(folder, problem)),
        };
        let put = || -> Result<(), Error> {
            std::fs::create_dir_all(folder)?;
            self.0.persist(&file).map_err(|lost| lost.error)?;
            std::fs::File::open(folder)?.sync_all()
        };
        put().map_err(|problem| unwritable(folder, problem))?;
        Ok((file, placed))
    }
}

fn unwritable(dir: &Path, problem: Error) -> PlaceProblem {
    PlaceProblem::Unwritable {
        dir: dir.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).expect("it is there") {
            let entry = entry.expect("it can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.path().is_dir() {
                true => files.extend(
                    self::files(&entry.path())
                        .iter()
                        .map(|f| format!("{name}/{f}")),
                ),
                false => files.push(name),
            }
        }
        files
    }

    #[test]
    fn it_is_whole_or_not_there_and_replaces_only_when_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("r.example:5000/team/aws/1.5.1");
        let arrive = |bytes: &[u8]| Arrival::write(dir.path(), bytes).expect("it is writable");
        drop(arrive(b"not wanted"));
        assert_eq!(files(dir.path()), Vec::<String>::new());

        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let put = |bytes: &[u8], digest, may_replace| {
            let put = arrive(bytes).put(&folder, digest, may_replace);
            put.map(|(_, placed)| placed)
        };
        let place = "r.example:5000/team/aws/1.5.1/plugin.wasm";
        assert_eq!(put(b"old", old, false).ok(), Some(Placed::New));
        assert_eq!(files(dir.path()), [place]);
        let file = dir.path().join(place);
        let mode = std::fs::metadata(&file)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(put(b"old", old, false).ok(), Some(Placed::Same));
        let refused = put(b"new", new, false)
            .expect_err("another is there")
            .to_string();
        assert!(refused.contains("--upgrade"), "{refused}");
        assert_eq!(std::fs::read(&file).expect("it is there"), b"old");
        assert_eq!(put(b"new", new, true).ok(), Some(Placed::Replaced(old)));
        assert_eq!(std::fs::read(&file).expect("it is there"), b"new");
        assert_eq!(files(dir.path()), [place]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("it is writable");
        let Err(problem) = Arrival::write(&file, b"") else {
            panic!("a file is no folder");
        };
        let problem = problem.to_string();
        assert!(problem.contains("/file cannot be written"), "{problem}");
    }
}
