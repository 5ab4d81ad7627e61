//! What a killed git or an earlier job left in a repository that is used again.

use crate::job::Work;
use crate::job::script::{Body, quote};
use crate::job::settings::{Settings, Submodules};

/// Lock files that a killed git leaves behind.
const LOCKS: [&str; 4] = ["index.lock", "shallow.lock", "HEAD.lock", "config.lock"];

/// Locks that nobody holds any more, and a hook that would run in the next checkout.
pub(in crate::job::script) fn locks(body: &mut Body, settings: &Settings, project: &str) {
    let git = quote(&format!("{project}/.git"));
    for lock in LOCKS {
        body.line(format!("rm -f {git}/{lock}"));
    }
    body.line(format!("rm -f {git}/hooks/post-checkout"))
        .line(format!(
            "if [ -d {git}/refs ]; then find {git}/refs -name '*.lock' -type f -exec rm -f {{}} +; fi"
        ));
    if settings.submodules != Submodules::None {
        let names = LOCKS.map(|lock| format!("-name {lock}")).join(" -o ");
        body.line(format!(
            "if [ -d {git}/modules ]; then find {git}/modules -type f \\( {names} -o -name post-checkout \
             -o -path '*/refs/*.lock' \\) -exec rm -f {{}} +; fi"
        ));
    }
}

/// Configuration and hooks, which an earlier job could have turned against the next one.
pub(in crate::job::script) fn configuration(
    body: &mut Body,
    work: &Work,
    settings: &Settings,
    project: &str,
) {
    if !work.runner.clean_git_config.unwrap_or(true) {
        return;
    }
    let git = quote(&format!("{project}/.git"));
    body.line(format!("rm -rf {git}/config {git}/hooks"));
    if settings.submodules != Submodules::None {
        body.line(format!(
            "if [ -d {git}/modules ]; then find {git}/modules \\( -name config -type f -o -name hooks -type d \\) \
             -prune -exec rm -rf {{}} +; fi"
        ));
    }
}
