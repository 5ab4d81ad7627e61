//! The script that brings the sources: clone, fetch, none or empty; checkout, large files, submodules.
//!
//! The job token is in no URL, no file and no command line. Git asks a credential helper, which is a line of shell that
//! prints `$CI_JOB_TOKEN`; it stands in a configuration beside the project that the repository includes, so that the
//! user's own git commands in the build container find it too.

use url::Url;

use super::{Body, quote, quote_all};
use crate::job::Work;
use crate::job::plan::{Directories, Prepared, fetches};
use crate::job::settings::{Settings, Strategy, Submodules};

/// Lock files that a killed git leaves behind.
const LOCKS: [&str; 4] = ["index.lock", "shallow.lock", "HEAD.lock", "config.lock"];

/// Git's extra configuration, beside the project.
pub(super) fn config_path(tmp: &str) -> String {
    format!("{tmp}/.gitlab-runner.ext.conf")
}

/// Brings the project to the state that the job asks for.
pub fn get_sources(work: &Work, prepared: &Prepared) -> Body {
    let Prepared {
        directories,
        settings,
        variables,
        ..
    } = prepared;
    let mut body = Body::default();
    body.exports(variables)
        .line("export GIT_TERMINAL_PROMPT=0 GCM_INTERACTIVE=Never")
        .line("unset GIT_DIR GIT_WORK_TREE");
    if fetches(settings) {
        let runner = &work.runner;
        body.commands(runner.pre_get_sources_script.as_slice());
        body.commands(hook(work, "pre_get_sources_script"));
    }
    if !settings.lfs_skip_smudge {
        // Large files come in one go after the checkout, not one by one within it.
        body.line("export GIT_LFS_SKIP_SMUDGE=1");
    }
    let project = quote(&directories.project);
    match settings.strategy {
        Strategy::None => {
            body.print("Skipping Git repository setup")
                .line(format!("mkdir -p {project}"));
        }
        Strategy::Empty => {
            body.print("Skipping Git repository setup and creating an empty build directory")
                .line(format!("rm -rf {project}"))
                .line(format!("mkdir -p {project}"));
        }
        Strategy::Clone | Strategy::Fetch => {
            repository(&mut body, work, prepared);
        }
    }
    if fetches(settings) && settings.checkout {
        checkout(&mut body, work, settings);
        submodules(&mut body, work, settings, directories);
    } else {
        body.print("Skipping Git checkout");
    }
    if fetches(settings) {
        body.commands(hook(work, "post_get_sources_script"));
        body.commands(work.runner.post_get_sources_script.as_slice());
    }
    body
}

/// Before another try: whatever the last one left in the work tree.
pub fn clear_worktree(directories: &Directories) -> Body {
    let mut body = Body::default();
    body.line(format!(
        "if [ -d {}/.git ]; then",
        quote(&directories.project)
    ))
    .line(format!("  cd {}", quote(&directories.project)))
    .line("  git rm -rf --ignore-unmatch --quiet .")
    .line("  git clean -ffdx -q")
    .line("fi");
    body
}

/// Where to fetch from, without any credentials.
fn remote(work: &Work, prepared: &Prepared) -> String {
    let given = &work.payload.git_info.repo_url;
    if let Some(base) = &work.runner.clone_url {
        let path = prepared
            .variables
            .get("CI_PROJECT_PATH")
            .unwrap_or_default();
        return without_credentials(&format!("{}/{path}.git", base.trim_end_matches('/')));
    }
    without_credentials(given)
}

fn without_credentials(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else {
        return address.into();
    };
    if matches!(url.scheme(), "http" | "https") {
        // Both fail only for addresses without a host, which http has not.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        return url.into();
    }
    address.into()
}

fn hook<'a>(work: &'a Work, name: &str) -> &'a [String] {
    let hook = work.payload.hooks.iter().find(|hook| hook.name == name);
    hook.map_or(&[], |hook| &hook.script)
}

fn repository(body: &mut Body, work: &Work, prepared: &Prepared) {
    let Prepared {
        directories,
        settings,
        ..
    } = prepared;
    let git = &work.payload.git_info;
    let project = quote(&directories.project);
    let config = config_path(&directories.tmp);
    let remote = remote(work, prepared);
    match git.depth {
        0 => body.notice("Fetching changes..."),
        depth => body.notice(&format!(
            "Fetching changes with git depth set to {depth}..."
        )),
    };
    body.line(format!("mkdir -p {}", quote(&directories.tmp)))
        .line(format!(
            "printf '%s' {} > {}",
            quote(&git_config(&remote, prepared)),
            quote(&config)
        ));
    if settings.strategy == Strategy::Clone {
        body.line(format!("rm -rf {project}"));
    } else {
        clear_locks(body, work, settings, &directories.project);
    }
    let template = format!("{}/git-template", directories.tmp);
    body.line(format!("rm -rf {0}; mkdir -p {0}", quote(&template)));
    if work.runner.safe_directory_checkout {
        body.line(format!(
            "git config --global --add safe.directory {project}"
        ));
    }
    let format = git
        .repo_object_format
        .as_deref()
        .filter(|f| !matches!(*f, "" | "sha1"));
    let format = format
        .map(|f| format!(" --object-format {}", quote(f)))
        .unwrap_or_default();
    let remote = quote(&remote);
    body.line(format!(
        "git -c init.defaultBranch=none init --template {}{format} {project}",
        quote(&template)
    ))
    .line(format!("cd {project}"))
    .line(format!("git config include.path {}", quote(&config)))
    .line(format!(
        "if git remote add origin {remote} 2> /dev/null; then"
    ))
    .print("Created fresh repository.")
    .line(format!("else git remote set-url origin {remote}; fi"));

    let agent = quote(&format!(
        "http.userAgent=fleetling {} linux",
        work.manager.version
    ));
    let mut fetch = format!(
        "git -c {agent} fetch origin --no-recurse-submodules {}",
        quote_all(&git.refspecs)
    );
    let flags = quote_all(&settings.fetch_flags);
    match git.depth {
        0 => {
            body.line("fleetling_unshallow=")
                .line("if [ -e .git/shallow ]; then fleetling_unshallow=--unshallow; fi");
            fetch.push_str(" $fleetling_unshallow");
        }
        depth => fetch.push_str(&format!(" --depth {depth}")),
    }
    body.line(format!("{fetch} {flags}"));
}

/// Credentials and habits that the repository includes.
fn git_config(remote: &str, prepared: &Prepared) -> String {
    let mut config = String::from(
        "[fetch]\n\trecurseSubmodules = false\n[credential]\n\tinteractive = never\n[gc]\n\tautoDetach = false\n",
    );
    let Ok(url) = Url::parse(remote) else {
        return config;
    };
    let host = url.origin().ascii_serialization();
    if matches!(url.scheme(), "http" | "https") {
        // The empty entry forgets helpers that were configured before.
        config += &format!(
            "[credential \"{host}\"]\n\tusername = gitlab-ci-token\n\thelper =\n\thelper = \
             \"!f() {{ test \\\"$1\\\" != get || printf 'password=%s\\\\n' \\\"$CI_JOB_TOKEN\\\"; }}; f\"\n"
        );
    }
    if prepared.settings.submodule_force_https {
        let name = |key: &str| {
            prepared
                .variables
                .get(key)
                .filter(|value| !value.is_empty())
        };
        let ssh = name("CI_SERVER_SHELL_SSH_HOST").or_else(|| name("CI_SERVER_HOST"));
        let port = name("CI_SERVER_SHELL_SSH_PORT").filter(|port| port != "22");
        if let Some(ssh) = ssh {
            config += &format!("[url \"{host}/\"]\n");
            match port {
                Some(port) => config += &format!("\tinsteadOf = ssh://git@{ssh}:{port}/\n"),
                None => {
                    config +=
                        &format!("\tinsteadOf = git@{ssh}:\n\tinsteadOf = ssh://git@{ssh}/\n");
                }
            }
        }
    }
    config
}

/// What a killed git or an earlier job may have left in a repository that is used again.
fn clear_locks(body: &mut Body, work: &Work, settings: &Settings, project: &str) {
    let git = quote(&format!("{project}/.git"));
    for lock in LOCKS {
        body.line(format!("rm -f {git}/{lock}"));
    }
    body.line(format!("rm -f {git}/hooks/post-checkout"))
        .line(format!("if [ -d {git}/refs ]; then find {git}/refs -name '*.lock' -type f -exec rm -f {{}} +; fi"));
    if settings.submodules != Submodules::None {
        let names = LOCKS.map(|lock| format!("-name {lock}")).join(" -o ");
        body.line(format!(
            "if [ -d {git}/modules ]; then find {git}/modules -type f \\( {names} -o -name post-checkout \\) \
             -exec rm -f {{}} +; fi"
        ));
    }
    if work.runner.clean_git_config.unwrap_or(true) {
        body.line(format!("rm -rf {git}/config {git}/hooks"));
    }
}

fn checkout(body: &mut Body, work: &Work, settings: &Settings) {
    let git = &work.payload.git_info;
    let short: String = git.sha.chars().take(8).collect();
    body.notice(&format!(
        "Checking out {short} as detached HEAD (ref is {})...",
        git.reference
    ))
    .line(format!(
        "git -c submodule.recurse=false checkout -f -q {}",
        quote(&git.sha)
    ));
    if let Some(flags) = &settings.clean_flags {
        body.line(format!("git clean {}", quote_all(flags)));
    }
    if !settings.lfs_skip_smudge {
        body.line("if git lfs version > /dev/null 2>&1; then git lfs pull; echo; fi");
    }
}

fn submodules(body: &mut Body, work: &Work, settings: &Settings, directories: &Directories) {
    let recursive = match settings.submodules {
        Submodules::None => {
            body.notice("Skipping Git submodules setup");
            return;
        }
        Submodules::Normal => "",
        Submodules::Recursive => " --recursive",
    };
    let paths = match settings.submodule_paths.is_empty() {
        true => String::new(),
        false => format!(" -- {}", quote_all(&settings.submodule_paths)),
    };
    let depth = settings
        .submodule_depth
        .unwrap_or(work.payload.git_info.depth);
    let title = match recursive {
        "" => "Updating/initializing submodules",
        _ => "Updating/initializing submodules recursively",
    };
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
    let include = quote(&format!("include.path={}", config_path(&directories.tmp)));
    let clean = settings.clean_flags.as_deref().map_or_else(
        || ":".into(),
        |flags| format!("git clean {}", quote_all(flags)),
    );
    let clean = format!("git submodule foreach --quiet{recursive} {}", quote(&clean));
    let update = format!(
        "git -c {include} submodule update --init{recursive}{depth_flag} {}{paths}",
        quote_all(&settings.submodule_flags)
    );
    body.line(format!("git submodule init{paths}"))
        .line(format!("git submodule sync{recursive}{paths}"))
        .line(&clean)
        .line(format!(
            "git submodule foreach --quiet{recursive} 'git reset --hard --quiet'"
        ))
        .line(format!("if ! {update}; then"))
        .notice("Updating submodules failed. Retrying...")
        .line(format!("git submodule sync{recursive}{paths}"))
        .line(&update)
        .line("fi")
        .line(&clean)
        // For the user's own git commands in the build container.
        .line(format!(
            "git submodule foreach --quiet --recursive {}",
            quote(&format!(
                "git config include.path {}",
                quote(&config_path(&directories.tmp))
            ))
        ));
    if !settings.lfs_skip_smudge {
        body.line(format!(
            "if git lfs version > /dev/null 2>&1; then git submodule foreach --quiet{recursive} 'git lfs pull'; fi"
        ));
    }
}
