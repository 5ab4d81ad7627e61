//! A plugin's file as it is seen again and again: a change counts once two looks found the same.
//!
//! ```text
//! look ─► Sighting ─ see ─┬ as acted upon ──────────► nothing
//!                         ├ another than last time ─► nothing yet: it is being written
//!                         └ the same twice ─────────► acted upon, once
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::report::Digest;

/// Bytes of a plugin's file. The largest that language runtimes make today are a quarter of this.
pub const MOST_BYTES: u64 = 64 << 20;

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    Absent,
    Present {
        file: PathBuf,
        stamp: Stamp,
        /// `None` where the file cannot be read, or is too large to be a plugin.
        digest: Option<Digest>,
    },
}

/// What of a file's metadata moves when it is written: inode, bytes, and time of modification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Sighting {
    /// Blocks on the disk. The file is read only when its metadata moved since `before`.
    pub fn take(file: Option<PathBuf>, before: &Self) -> Self {
        let found = file.and_then(|file| Stamp::of(&file).map(|stamp| (file, stamp)));
        let Some((file, stamp)) = found else {
            return Self::Absent;
        };
        match before {
            Self::Present {
                file: known,
                stamp: seen,
                digest,
            } if *known == file && *seen == stamp => Self::Present {
                file,
                stamp,
                digest: *digest,
            },
            _ => {
                let digest = read(&file).ok().map(|bytes| Digest::of(&bytes));
                Self::Present {
                    file,
                    stamp,
                    digest,
                }
            }
        }
    }

    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Absent => None,
            Self::Present { digest, .. } => *digest,
        }
    }
}

/// All of a plugin's file, in one piece: what is digested is what is compiled, whatever happens to the file meanwhile.
pub fn read(file: &Path) -> Result<Vec<u8>, Unreadable> {
    use std::io::Read as _;
    let told = |problem: std::io::Error| Unreadable::Io(problem.to_string());
    let opened = std::fs::File::open(file).map_err(told)?;
    let metadata = opened.metadata().map_err(told)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(metadata.len().min(MOST_BYTES)).unwrap_or(0));
    let limited = opened.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(told)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Unreadable::TooLarge);
    }
    Ok(bytes)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Io(String),
    NotAFile,
    TooLarge,
}

/// What was acted upon, and what was seen last.
#[derive(Clone, Debug)]
pub struct Settling {
    acted: Sighting,
    last: Sighting,
}

impl Settling {
    pub fn from(acted: Sighting) -> Self {
        Self {
            last: acted.clone(),
            acted,
        }
    }

    pub fn last(&self) -> &Sighting {
        &self.last
    }

    /// What was seen last was acted upon.
    pub fn is_settled(&self) -> bool {
        self.last == self.acted
    }

    /// True when `now` is to be acted upon.
    pub fn see(&mut self, now: Sighting) -> bool {
        let is_settled = now == self.last;
        self.last = now;
        if !is_settled || self.last == self.acted {
            return false;
        }
        self.acted = self.last.clone();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_acted_upon_once_it_stood_still_for_two_looks() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.wasm");
        let mut settling = Settling::from(Sighting::Absent);
        let mut look = || {
            let found = file.is_file().then(|| file.clone());
            let now = Sighting::take(found, settling.last());
            settling.see(now)
        };
        let write = |bytes: &[u8]| std::fs::write(&file, bytes).expect("it is writable");
        assert!(!look(), "nothing is there");
        write(b"hal");
        assert!(!look(), "it may still be written");
        write(b"half");
        assert!(!look(), "it was written meanwhile");
        assert!(look());
        assert!(!look(), "once");
        std::fs::remove_file(&file).expect("it is there");
        assert!(!look());
        assert!(look(), "it stays away");
        write(b"half");
        assert!(!look());
        assert!(look(), "it came back");
    }

    #[test]
    fn content_counts_where_time_and_size_are_the_same() {
        let [one, two] = [b"one", b"two"].map(|content| Sighting::Present {
            file: "p.wasm".into(),
            stamp: Stamp {
                inode: 1,
                bytes: 3,
                modified: (0, 0),
            },
            digest: Some(Digest::of(content)),
        });
        let mut settling = Settling::from(one);
        assert!(!settling.see(two.clone()));
        assert!(settling.see(two));
    }

    #[test]
    fn only_regular_files_of_64_mebibytes_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path()), Err(Unreadable::NotAFile));
        let file = dir.path().join("big.wasm");
        let made = std::fs::File::create(&file).expect("it is writable");
        made.set_len(MOST_BYTES + 1)
            .expect("a sparse file costs nothing");
        assert_eq!(read(&file), Err(Unreadable::TooLarge));
        let missing = read(&dir.path().join("none"));
        assert!(matches!(missing, Err(Unreadable::Io(_))), "{missing:?}");
    }
}
