//! Finds the shell that runs a stage.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::frame::Shell;

/// In GitLab Runner's order: any bash before any sh, the distribution's own places before busybox's.
const BASH: [&str; 3] = ["/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash"];
const SH: [&str; 4] = ["/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh"];

/// The first shell there is; `None` where the image has none that `wanted` allows.
pub(crate) fn find(wanted: Shell) -> Option<PathBuf> {
    find_in(Path::new("/"), wanted)
}

fn find_in(root: &Path, wanted: Shell) -> Option<PathBuf> {
    let candidates: &[&[&str]] = match wanted {
        Shell::Detect => &[&BASH, &SH],
        Shell::Bash => &[&BASH],
        Shell::Sh => &[&SH],
    };
    candidates
        .iter()
        .flat_map(|places| places.iter())
        .map(|place| root.join(place.trim_start_matches('/')))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn bash_comes_before_sh_and_only_executables_count() {
        let root = tempfile::tempdir().unwrap();
        let put = |place: &str, mode: u32| {
            let path = root.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        assert_eq!(find_in(root.path(), Shell::Detect), None);
        put("bin/bash", 0o644);
        let sh = put("busybox/sh", 0o755);
        assert_eq!(find_in(root.path(), Shell::Detect), Some(sh.clone()));
        assert_eq!(find_in(root.path(), Shell::Bash), None);
        let bash = put("usr/bin/bash", 0o755);
        assert_eq!(find_in(root.path(), Shell::Detect), Some(bash));
        assert_eq!(find_in(root.path(), Shell::Sh), Some(sh));
    }
}
