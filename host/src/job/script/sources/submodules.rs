//! Submodules: brought, cleaned, and told where the job's token is.

use super::config_path;
use crate::job::Work;
use crate::job::plan::Directories;
use crate::job::script::{Body, quote, quote_all};
use crate::job::settings::{Settings, Submodules};

pub(super) fn update(body: &mut Body, work: &Work, settings: &Settings, directories: &Directories) {
    let (title, recursive) = match settings.submodules {
        Submodules::None => {
            body.notice("Skipping Git submodules setup");
            return;
        }
        Submodules::Normal => ("Updating/initializing submodules", ""),
        Submodules::Recursive => (
            "Updating/initializing submodules recursively",
            " --recursive",
        ),
    };
    let paths = match settings.submodule_paths.is_empty() {
        true => String::new(),
        false => format!(" -- {}", quote_all(&settings.submodule_paths)),
    };
    let depth = settings
        .submodule_depth
        .unwrap_or(work.payload.git_info.depth);
    let depth_flag = match depth {
        0 => {
            body.notice(&format!("{title}..."));
            String::new()
        }
        depth => {
            body.notice(&format!("{title} with git depth set to {depth}..."));
            format!(" --depth {depth}")
        }
    };
    let config = config_path(&directories.tmp);
    let include = quote(&format!("include.path={config}"));
    let each = |recursive: &str, command: &str| {
        format!(
            "git submodule foreach --quiet{recursive} {}",
            quote(command)
        )
    };
    let clean = match settings.clean_flags.as_deref() {
        None => ":".into(),
        Some(flags) => each(recursive, &format!("git clean {}", quote_all(flags))),
    };
    let reset = each(recursive, "git reset --hard --quiet");
    let sync = format!("git submodule sync{recursive}{paths}");
    let update = format!(
        "git -c {include} submodule update --init{recursive}{depth_flag} {}{paths}",
        quote_all(&settings.submodule_flags)
    );
    body.line(format!("git submodule init{paths}"))
        .line(&sync)
        .line(&clean)
        .line(&reset)
        .line(format!("if {update}; then"))
        // A nested one may have come only now.
        .line(&sync)
        .line("else")
        .notice("Updating submodules failed. Retrying...");
    if settings
        .submodule_flags
        .iter()
        .any(|flag| flag == "--remote")
    {
        let heads = quote("git fetch origin '+refs/heads/*:refs/remotes/origin/*'");
        body.line(format!(
            "git -c {include} submodule foreach --quiet{recursive} {heads}"
        ));
    }
    body.line(&sync)
        .line(&update)
        .line(&reset)
        .line("fi")
        .line(&clean)
        // For the user's own git commands in the build container.
        .line(each(
            " --recursive",
            &format!("git config include.path {}", quote(&config)),
        ));
    if !settings.lfs_skip_smudge {
        let pull = each(recursive, "git lfs pull");
        body.line(format!(
            "if git lfs version > /dev/null 2>&1; then {pull}; fi"
        ));
    }
}
