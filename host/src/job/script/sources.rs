//! The script that brings the sources: clone, fetch, none or empty; checkout, large files, submodules.
//!
//! The job token is in no URL, no file and no command line. Git asks a credential helper, which is a line of shell that
//! prints `$CI_JOB_TOKEN`; it stands in a configuration beside the project that the repository includes, so that the
//! user's own git commands in the build container find it too.

mod remote;
mod submodules;
pub(super) mod tidy;

use super::{Body, Style, quote, quote_all};
use crate::config::flags;
use crate::job::Work;
use crate::job::plan::{Directories, Prepared, fetches};
use crate::job::settings::{Settings, Strategy};
use crate::job::variables::global_config;
use remote::Remote;

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
        flags,
        ..
    } = prepared;
    let (runner, style) = (&work.runner, Style::of(work, prepared));
    let remote = Remote::of(work, variables);
    let config = config_path(&directories.tmp);
    let mut body = Body::default();
    body.exports(variables)
        .line("export GIT_TERMINAL_PROMPT=0 GCM_INTERACTIVE=Never")
        .line("unset GIT_DIR GIT_WORK_TREE");
    let everywhere = flags.is_on(flags::GIT_URLS_WITHOUT_TOKENS);
    if everywhere || fetches(settings) {
        let text = remote::configuration(&remote, work, prepared);
        body.line(format!("printf '%s' {} > {}", quote(&text), quote(&config)))
            .line(format!("export GLR_EXT_GIT_CONFIG_PATH={}", quote(&config)));
    }
    if everywhere {
        global_configuration(&mut body, directories);
    }
    if fetches(settings) {
        body.commands(
            style,
            "pre_clone_script",
            runner.pre_get_sources_script.as_slice(),
        )
        .commands(
            style,
            "pre_clone_script",
            hook(work, "pre_get_sources_script"),
        );
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
        Strategy::Clone | Strategy::Fetch => repository(&mut body, &remote, work, prepared),
    }
    if fetches(settings) && settings.checkout {
        checkout(&mut body, work, settings);
    } else {
        body.print("Skipping Git checkout");
    }
    if fetches(settings) {
        submodules::update(&mut body, work, settings, directories);
        body.commands(
            style,
            "post_clone_script",
            hook(work, "post_get_sources_script"),
        )
        .commands(
            style,
            "post_clone_script",
            runner.post_get_sources_script.as_slice(),
        );
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

/// Git refuses a repository of another user, unless it is told of the directory.
pub(super) fn trust(body: &mut Body, work: &Work, directories: &Directories) {
    if work.runner.safe_directory_checkout {
        body.line(format!(
            "git config --global --add safe.directory {}",
            quote(&directories.project)
        ));
    }
}

fn hook<'a>(work: &'a Work, name: &str) -> &'a [String] {
    let hook = work.payload.hooks.iter().find(|hook| hook.name == name);
    hook.map_or(&[], |hook| &hook.script)
}

/// `FF_GIT_URLS_WITHOUT_TOKENS`: git has the job's token outside of the project too. What the user of the helper has
/// configured stays in force; git would refuse to include what it may not read.
fn global_configuration(body: &mut Body, directories: &Directories) {
    let global = quote(&global_config(&directories.tmp));
    body.line(format!(": > {global}"))
        .line("for fleetling_file in \"$HOME/.gitconfig\" \"$HOME/.config/git/config\"; do")
        .line(format!(
            "  if [ -r \"$fleetling_file\" ]; then git config --file {global} --add include.path \"$fleetling_file\"; fi"
        ))
        .line("done")
        .line("unset fleetling_file")
        .line(format!(
            "git config --file {global} --add include.path {}",
            quote(&config_path(&directories.tmp))
        ));
}

/// A repository with the commit in it, and in its directory.
fn repository(body: &mut Body, remote: &Remote, work: &Work, prepared: &Prepared) {
    let Prepared {
        directories,
        settings,
        flags,
        ..
    } = prepared;
    let git = &work.payload.git_info;
    let project = quote(&directories.project);
    let config = quote(&config_path(&directories.tmp));
    if flags.is_on(flags::GITALY_CORRELATION_ID) {
        let id = remote::correlation_id(work);
        body.print(&format!("Gitaly correlation ID: {id}"));
    }
    match git.depth {
        0 => body.notice("Fetching changes..."),
        depth => body.notice(&format!(
            "Fetching changes with git depth set to {depth}..."
        )),
    };
    if settings.strategy == Strategy::Clone {
        body.line(format!("rm -rf {project}"));
    } else {
        tidy::locks(body, settings, &directories.project);
        tidy::configuration(body, work, settings, &directories.project);
    }
    let template = quote(&format!("{}/git-template", directories.tmp));
    body.line(format!("rm -rf {template}; mkdir -p {template}"));
    trust(body, work, directories);
    let format = git
        .repo_object_format
        .as_deref()
        .filter(|f| !matches!(*f, "" | "sha1"));
    let format = format
        .map(|f| format!(" --object-format {}", quote(f)))
        .unwrap_or_default();
    let init =
        format!("git -c init.defaultBranch=none init --template {template}{format} {project}");
    let natively = settings.strategy == Strategy::Clone && flags.is_on(flags::GIT_NATIVE_CLONE);
    if natively {
        native_clone(body, remote, work, prepared, &init);
    } else {
        body.line(&init);
    }
    let address = quote(&remote.address);
    body.line(format!("cd {project}"))
        .line(format!(
            "if ! git config --get-all include.path | grep -Fxq -e {config}; then git config --add include.path \
             {config}; fi"
        ))
        .line(format!(
            "if git remote add origin {address} 2> /dev/null; then"
        ))
        .print("Created fresh repository.")
        .line(format!("else git remote set-url origin {address}; fi"));
    let fetch = fetch(work, settings);
    if natively {
        // A clone has its branch's end, which need not be the job's commit any more.
        let commit = quote(&format!("{}^{{commit}}", git.sha));
        body.line(format!(
            "if ! git cat-file -e {commit} 2> /dev/null; then {fetch}; fi"
        ));
    } else {
        if git.depth == 0 {
            body.line("fleetling_unshallow=")
                .line("if [ -e .git/shallow ]; then fleetling_unshallow=--unshallow; fi");
        }
        body.line(fetch);
    }
}

fn agent(work: &Work) -> String {
    quote(&format!(
        "http.userAgent=fleetling {} linux",
        work.manager.version
    ))
}

fn fetch(work: &Work, settings: &Settings) -> String {
    let git = &work.payload.git_info;
    let depth = match git.depth {
        0 => "${fleetling_unshallow:-}".to_owned(),
        depth => format!("--depth {depth}"),
    };
    format!(
        "git -c {} fetch origin --no-recurse-submodules {} {depth} {}",
        agent(work),
        quote_all(&git.refspecs),
        quote_all(&settings.fetch_flags)
    )
}

/// `git clone` where it can be told the job's own ref, else an empty repository that is fetched into.
fn native_clone(body: &mut Body, remote: &Remote, work: &Work, prepared: &Prepared, init: &str) {
    let (git, directories) = (&work.payload.git_info, &prepared.directories);
    let reference = quote(&git.reference);
    let (can, reference) = if git.reference.starts_with("refs/") {
        (
            "*--revision*|*']revision'*",
            format!("--revision {reference}"),
        )
    } else {
        ("*", format!("--branch {reference}"))
    };
    let depth = match git.depth {
        0 => String::new(),
        depth => format!(" --depth {depth}"),
    };
    let include = quote(&format!("include.path={}", config_path(&directories.tmp)));
    body.line(format!("case \"$(git clone -h 2>&1)\" in {can})"))
        .line(format!(
            "git -c {} -c {include} clone --no-checkout --template {}{depth} {reference} {} {} {};;",
            agent(work),
            quote(&format!("{}/git-template", directories.tmp)),
            quote_all(&prepared.settings.clone_flags),
            quote(&remote.address),
            quote(&directories.project),
        ))
        .line(format!("*) {init};;"))
        .line("esac");
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

#[cfg(test)]
mod tests;
