//! What is copied into a helper container of somebody else's image, as a tar archive.

use std::io;

use super::HELPER;

/// The helper binary, and mount points that any user may write to: there the helper may not be allowed to open them.
pub(in crate::docker) fn archive(binary: &[u8], open: &[String]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + 4096));
    let mut add = |path: &str, kind, mode, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        // Root's, of no time: a field left empty is no number to those who read it.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)
    };
    for path in open {
        let path = path.trim_start_matches('/');
        add(path, tar::EntryType::Directory, 0o777, &[])?;
    }
    add(HELPER, tar::EntryType::Regular, 0o755, binary)?;
    archive.into_inner()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_helper_may_be_run_and_mount_points_written_to() {
        let long = format!("/builds/{}", "x".repeat(200));
        let written = archive(b"binary", &["/cache".into(), long.clone()]).unwrap();
        let mut read = tar::Archive::new(written.as_slice());
        let found: Vec<_> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                let owner = (header.uid().unwrap(), header.gid().unwrap());
                assert_eq!(owner, (0, 0), "{path}");
                (path, header.mode().unwrap(), entry.size())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("cache".to_owned(), 0o777, 0),
                (long[1..].to_owned(), 0o777, 0),
                (HELPER.to_owned(), 0o755, 6)
            ]
        );
    }
}
