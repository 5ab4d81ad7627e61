//! The mount points of a job's volumes: any user must be able to write there, and Docker makes them root's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Lets everybody write to a folder. One that cannot be opened is told on standard error, which the container's log
/// keeps: whether a stage misses it is the stage's to say.
pub fn open(folder: &Path) {
    if let Err(e) = std::fs::set_permissions(folder, Permissions::from_mode(0o777)) {
        eprintln!(
            "fleetling-helper: {} is not opened for all users: {e}",
            folder.display()
        );
    }
}
