//! Who can change a file or folder: root and the manager's own user may, nobody else.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Says who else can change `path` and what to do about it; `None` when nobody can.
pub fn exposure(path: &Path) -> std::io::Result<Option<String>> {
    let facts = std::fs::metadata(path)?;
    Ok(judge(path, facts.uid(), facts.mode(), own_user()?))
}

fn judge(path: &Path, owner: u32, mode: u32, own: u32) -> Option<String> {
    let path = path.display();
    if owner != 0 && owner != own {
        return Some(format!(
            "{path} belongs to user {owner}, who can change what the manager trusts; next: `chown {own} {path}`"
        ));
    }
    (mode & 0o022 != 0).then(|| {
        format!(
            "{path} can be written by others (mode {:04o}); next: `chmod go-w {path}`",
            mode & 0o7777
        )
    })
}

/// The effective user, as the owner of a file it makes: the standard library has no other word for it.
fn own_user() -> std::io::Result<u32> {
    Ok(tempfile::tempfile()?.metadata()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_manager_s_user_may_change_it() {
        let judged = |owner, mode| judge(Path::new("/state"), owner, mode, 7);
        assert_eq!(judged(7, 0o40700), None);
        assert_eq!(judged(0, 0o40755), None);
        for (owner, mode, said) in [
            (8, 0o40700, "belongs to user 8"),
            (7, 0o40775, "(mode 0775); next: `chmod go-w /state`"),
            (0, 0o41777, "(mode 1777)"),
        ] {
            let found = judged(owner, mode).unwrap_or_default();
            assert!(found.contains(said), "{owner} {mode:o}: {found}");
        }
    }
}
