//! Records as files: replaced whole, durable when written, private to one manager.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::seal::Key;
use super::{Result, StoreProblem, owner};

pub(super) const TEMPORARY: &str = ".tmp-";

pub(super) struct Directory {
    path: PathBuf,
    key: Key,
    /// Held, never read: the system lets go of it however the process ends.
    _lock: File,
}

impl Directory {
    pub(super) fn open(path: &Path, credentials: Option<&Path>) -> Result<Self> {
        make_private(path)?;
        let exposure = owner::exposure(path).map_err(|e| problem("look at", path, &e))?;
        if let Some(exposure) = exposure {
            return Err(StoreProblem(format!("state directory {exposure}")));
        }
        let lock = lock(path)?;
        sweep(path)?;
        let key = Key::load_or_create(path, credentials)?;
        Ok(Self {
            path: path.to_path_buf(),
            key,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read_plain(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        read_plain(&self.path, kind, name)
    }

    pub(super) fn read_sealed(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(sealed) = self.read_plain(kind, name)? else {
            return Ok(None);
        };
        match self.key.open(&label(kind, name), &sealed) {
            Some(record) => Ok(Some(record)),
            None => Err(StoreProblem(format!(
                "record {} cannot be opened: it was altered or sealed with another key; next: restore the key or the \
                 file, or remove the file to go on without it",
                self.file(kind, name).display()
            ))),
        }
    }

    pub(super) fn write_sealed(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        let sealed = self.key.seal(&label(kind, name), record)?;
        self.write_plain(kind, name, &sealed)
    }

    pub(super) fn write_plain(&self, kind: &str, name: &str, record: &[u8]) -> Result<()> {
        let folder = self.folder(kind);
        let file = self.file(kind, name);
        if !folder.is_dir() {
            make_private(&folder)?;
            sync(&self.path)?;
        }
        let failed = |e: &std::io::Error| problem("write", &file, e);
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&folder)
            .map_err(|e| failed(&e))?;
        temporary
            .write_all(record)
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(|e| failed(&e))?;
        temporary.persist(&file).map_err(|e| failed(&e.error))?;
        sync(&folder)
    }

    pub(super) fn remove(&self, kind: &str, name: &str) -> Result<()> {
        let file = self.file(kind, name);
        match std::fs::remove_file(&file) {
            Ok(()) => sync(&self.folder(kind)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(problem("remove", &file, &e)),
        }
    }

    pub(super) fn list(&self, kind: &str) -> Result<Vec<String>> {
        let folder = self.folder(kind);
        let mut names: Vec<String> = entries(&folder)?
            .into_iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    fn folder(&self, kind: &str) -> PathBuf {
        self.path.join(&*safe(kind))
    }

    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.folder(kind).join(&*safe(name))
    }
}

/// Takes no lock: a record is replaced whole, so it is read whole whoever writes meanwhile.
pub(super) fn read_plain(dir: &Path, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let file = dir.join(&*safe(kind)).join(&*safe(name));
    match std::fs::read(&file) {
        Ok(record) => Ok(Some(record)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(problem("read", &file, &e)),
    }
}

/// What a sealed record is bound to: one moved to another name does not open.
fn label(kind: &str, name: &str) -> String {
    format!("{}/{}", safe(kind), safe(name))
}

/// A file name of any name. Hidden names are ours, and `lock` and `key` lie beside the kinds.
fn safe(name: &str) -> Cow<'_, str> {
    let plain = (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && !matches!(name, "lock" | "key")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if plain {
        return Cow::Borrowed(name);
    }
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Cow::Owned(format!("sha256-{hex}"))
}

fn make_private(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| problem("make", dir, &e))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| problem("open", &path, &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            return Err(StoreProblem(format!(
                "state directory {} is in use by another manager (process {}); next: stop it, or give this one a \
                 directory of its own",
                dir.display(),
                if holder.trim().is_empty() {
                    "unknown"
                } else {
                    holder.trim()
                },
            )));
        }
        Err(TryLockError::Error(e)) => return Err(problem("lock", &path, &e)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| problem("write", &path, &e))?;
    Ok(file)
}

/// Removes what writes that never ended left behind.
fn sweep(dir: &Path) -> Result<()> {
    let leftover = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY))
    };
    let top = entries(dir)?;
    let mut found: Vec<PathBuf> = top.iter().filter(|path| leftover(path)).cloned().collect();
    for folder in top.iter().filter(|path| path.is_dir()) {
        found.extend(entries(folder)?.into_iter().filter(|path| leftover(path)));
    }
    for path in found {
        std::fs::remove_file(&path).map_err(|e| problem("remove", &path, &e))?;
    }
    Ok(())
}

/// What lies in a folder; one that is not there is empty.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(found) => found
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .map_err(|e| problem("list", folder, &e)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(problem("list", folder, &e)),
    }
}

/// A rename is durable only when its folder is.
pub(super) fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| problem("sync", folder, &e))
}

fn problem(verb: &str, path: &Path, e: &std::io::Error) -> StoreProblem {
    StoreProblem(format!(
        "cannot {verb} {}: {e}; next: see that the manager's user owns it and that the disk has room",
        path.display()
    ))
}
