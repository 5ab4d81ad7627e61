//! The job log on disk, between a job that writes and a GitLab that may be slow.
//!
//! ```text
//! Writer::append ─→ file ─→ Reader::read
//!        └─ watch: Extent (length, checksum) ─┘
//! ```
//!
//! Invariants: bytes below the published length never change; length and checksum belong together and cover the limit
//! notice. What arrives is masked, so that the file holds no secret; it vanishes with the spool.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempPath;
use tokio::sync::watch;

const PREFIX: &str = "trace-";

/// How far the log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) length: u64,
    /// CRC-32 (IEEE) of the whole.
    pub(super) checksum: u32,
}

pub(super) struct Writer {
    file: File,
    crc: crc32fast::Hasher,
    length: u64,
    limit: u64,
    full: bool,
    extent: watch::Sender<Extent>,
}

pub(super) struct Reader {
    file: File,
    extent: watch::Receiver<Extent>,
    /// Removes the file when the last range was read.
    _path: TempPath,
}

/// Makes a spool in `dir`; `limit` is how many bytes of log are kept, the notice that says so not counted.
pub(super) fn open(dir: &Path, limit: usize) -> io::Result<(Writer, Reader)> {
    std::fs::create_dir_all(dir)?;
    let (file, path) = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempfile_in(dir)?
        .into_parts();
    let (sender, receiver) = watch::channel(Extent::default());
    let reader = Reader {
        file: file.try_clone()?,
        extent: receiver,
        _path: path,
    };
    let writer = Writer {
        file,
        crc: crc32fast::Hasher::new(),
        length: 0,
        limit: limit as u64,
        full: false,
        extent: sender,
    };
    Ok((writer, reader))
}

/// Removes what a manager that was killed left behind. Only for the one that holds `dir`.
pub fn clear(dir: &Path) -> io::Result<()> {
    let found = match std::fs::read_dir(dir) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in found {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Writer {
    /// `text` is UTF-8, characters whole. Past the limit a notice is added once and the rest dropped.
    pub(super) fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.full || text.is_empty() {
            return Ok(());
        }
        let room = (self.limit - self.length) as usize;
        if text.len() <= room {
            return self.store(text);
        }
        self.full = true;
        let mut end = room;
        while end > 0 && text[end] & 0b1100_0000 == 0b1000_0000 {
            end -= 1;
        }
        let mut last = text[..end].to_vec();
        last.extend_from_slice(notice(self.limit).as_bytes());
        self.store(&last)
    }

    fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A write cut short is cut off again by the next one's place, because the length says where the log ends.
        self.file.write_all_at(bytes, self.length)?;
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
        self.extent.send_replace(Extent {
            length: self.length,
            checksum: self.crc.clone().finalize(),
        });
        Ok(())
    }

    /// Stops taking anything: the log is whole.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.full = true;
        self.file.flush()
    }
}

impl Reader {
    pub(super) fn extent(&self) -> Extent {
        *self.extent.borrow()
    }

    /// Marks the present extent as seen and waits for another; never returns once the writer is gone.
    /// Cancel-safe.
    pub(super) async fn grown(&mut self) {
        if self.extent.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// At most `most` bytes from `start`; none when the log ends there.
    pub(super) fn read(&self, start: u64, most: usize) -> io::Result<Bytes> {
        let left = self.extent().length.saturating_sub(start);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

fn notice(limit: u64) -> String {
    format!(
        "\n\x1b[33;1mJob's log exceeded limit of {limit} bytes.\nJob execution will continue but no more output will \
         be collected.\x1b[0;m\n"
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ranges_come_back_and_the_checksum_covers_all() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, reader) = open(&dir.path().join("new"), 100).unwrap();
        assert_eq!(reader.extent(), Extent::default());
        writer.append(b"hello ").unwrap();
        writer.append(b"world").unwrap();
        assert_eq!(reader.read(0, 5).unwrap(), "hello");
        assert_eq!(reader.read(6, 100).unwrap(), "world");
        assert_eq!(reader.read(11, 100).unwrap(), "");
        let extent = reader.extent();
        assert_eq!(
            (extent.length, extent.checksum),
            (11, crc32fast::hash(b"hello world"))
        );
    }

    #[test]
    fn the_limit_cuts_between_characters_and_says_so_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, reader) = open(dir.path(), 5).unwrap();
        writer.append("1234".as_bytes()).unwrap();
        writer.append("é5".as_bytes()).unwrap();
        writer.append(b"more").unwrap();
        let all = reader.read(0, 1000).unwrap();
        let text = std::str::from_utf8(&all).unwrap();
        assert_eq!(
            text,
            "1234\n\x1b[33;1mJob's log exceeded limit of 5 bytes.\nJob execution will continue but no more output \
             will be collected.\x1b[0;m\n"
        );
        assert_eq!(reader.extent().checksum, crc32fast::hash(&all));
        assert_eq!(reader.extent().length, all.len() as u64);
    }

    #[test]
    fn the_file_goes_with_the_reader_and_leftovers_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        let (writer, reader) = open(dir.path(), 5).unwrap();
        assert_eq!(files(), 1);
        drop((writer, reader));
        assert_eq!(files(), 0);
        std::fs::write(dir.path().join("trace-abc"), b"x").unwrap();
        std::fs::write(dir.path().join("other"), b"x").unwrap();
        clear(dir.path()).unwrap();
        assert_eq!(files(), 1);
    }
}
