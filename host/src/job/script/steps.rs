//! Scripts around the sources: preparing, whose the sources are, the user's steps, `after_script`, cleaning up.

use crate::coordinator::payload::Step;

use super::sources::{self, config_path, tidy};
use super::{Body, ENV_FILE, Style, quote, quote_all};
use crate::config::flags;
use crate::job::Work;
use crate::job::plan::{Directories, Prepared, fetches};
use crate::job::settings::{Settings, Strategy, Submodules};
use crate::job::variables::{Variables, global_config};

/// Says where the job runs, and forgets what an earlier job left behind.
pub fn prepare(variables: &Variables, manager_host: &str) -> Body {
    let mut body = Body::default();
    body.line("fleetling_host=$(hostname 2> /dev/null || cat /etc/hostname)")
        .line(format!(
            "printf 'Running on %s via %s...\\n' \"$fleetling_host\" {}",
            quote(manager_host)
        ))
        .line(format!(
            "rm -f {}",
            quote(&format!("{}/{ENV_FILE}", variables.tmp_dir()))
        ));
    body
}

/// Prints the numbers of the build container's user and group, each on a line.
pub fn identify() -> Body {
    let mut body = Body::default();
    body.line("id -u").line("id -g");
    body
}

/// Gives the sources to a user of the build container. What cannot be given is told and left.
pub fn hand_over(owner: (u32, u32), directories: &Directories) -> Body {
    let mut body = Body::default();
    for directory in [&directories.project, &directories.tmp] {
        let directory = quote(directory);
        body.line(format!(
            "if [ -e {directory} ]; then chown -RP -- {}:{} {directory} || :; fi",
            owner.0, owner.1
        ));
    }
    body
}

/// A step with the operator's scripts around it; `None` where it has nothing to run.
pub fn step(step: &Step, work: &Work, prepared: &Prepared) -> Option<Body> {
    if step.script.is_empty() {
        return None;
    }
    let (runner, variables) = (&work.runner, &prepared.variables);
    let style = Style::of(work, prepared);
    let mut body = Body::default();
    body.exports(variables)
        .line(format!("cd {}", quote(&prepared.directories.project)));
    body.commands(
        style,
        "pre_build_script",
        runner.pre_build_script.as_slice(),
    );
    if step.name.eq_ignore_ascii_case("release") {
        let lines = step.script.iter().map(|line| variables.expand(line));
        let lines: Vec<_> = lines.collect();
        body.commands(style, "script_step", &lines);
    } else {
        body.commands(style, "script_step", &step.script);
    }
    body.commands(
        style,
        "post_build_script",
        runner.post_build_script.as_slice(),
    );
    Some(body)
}

/// `after_script`, without the operator's scripts; `None` where the job has none. `variables` know how the job stands.
pub fn after_script(
    step: &Step,
    work: &Work,
    prepared: &Prepared,
    variables: &Variables,
) -> Option<Body> {
    if step.script.is_empty() {
        return None;
    }
    let mut body = Body::default();
    body.exports(variables)
        .line(format!("cd {}", quote(&prepared.directories.project)))
        .notice("Running after script...")
        .commands(Style::of(work, prepared), "after_script_step", &step.script);
    Some(body)
}

/// Removes file variables and everything else that could tell a secret, and leaves the project as the next job may
/// find it.
pub fn cleanup(work: &Work, prepared: &Prepared) -> Body {
    let Prepared {
        directories,
        settings,
        variables,
        flags,
        ..
    } = prepared;
    let tmp = variables.tmp_dir();
    let mut paths = vec![format!("{tmp}/{ENV_FILE}"), config_path(tmp)];
    paths.extend(variables.all().into_iter().filter_map(|v| v.file));
    let mut body = Body::default();
    body.line(format!("rm -f {}", quote_all(&paths)));
    // A job may have put a token into it; git is told there, too, which directory it may clean. So it goes last, and it
    // goes where cleaning fails.
    let global = format!("rm -f {}", quote(&global_config(tmp)));
    body.line(format!("trap {} EXIT", quote(&global)));
    if fetches(settings) {
        tidy::locks(&mut body, settings, &directories.project);
    }
    if flags.is_on(flags::JOB_CLEANUP) {
        clean_project(&mut body, work, settings, directories);
    }
    if fetches(settings) {
        tidy::configuration(&mut body, work, settings, &directories.project);
    }
    body
}

/// `FF_ENABLE_JOB_CLEANUP`: nothing of this job stays in its project directory.
fn clean_project(body: &mut Body, work: &Work, settings: &Settings, directories: &Directories) {
    let project = quote(&directories.project);
    match settings.strategy {
        Strategy::None => {
            body.print("The project directory is not cleaned: GIT_STRATEGY is none");
        }
        Strategy::Clone | Strategy::Empty => {
            body.line(format!("rm -rf {project}"));
        }
        Strategy::Fetch => {
            body.line(format!("if [ -d {project}/.git ]; then"))
                .line(format!("cd {project}"));
            // Another user may own it by now, and this helper need not be the one that brought the sources.
            sources::trust(body, work, directories);
            let clean = settings.clean_flags.as_deref();
            let clean = clean.map(|flags| format!("git clean {}", quote_all(flags)));
            let commands = clean.into_iter().chain(["git reset --hard".to_owned()]);
            let commands: Vec<_> = commands.collect();
            for command in &commands {
                body.line(command);
            }
            // Only now is `.gitmodules` what git has, and not what the job made of it.
            if settings.submodules != Submodules::None {
                let recursive = match settings.submodules {
                    Submodules::Recursive => " --recursive",
                    _ => "",
                };
                for command in &commands {
                    let command = quote(command);
                    body.line(format!("git submodule foreach{recursive} {command}"));
                }
            }
            body.line("cd /").line("fi");
        }
    }
}
