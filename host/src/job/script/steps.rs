//! Scripts around the sources: preparing, the user's steps, `after_script`, cleaning up.

use crate::config::usable::Runner;
use crate::coordinator::payload::Step;

use super::{Body, ENV_FILE, quote};
use crate::job::variables::Variables;

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

/// A step with the operator's scripts around it; `None` where it has nothing to run.
pub fn step(step: &Step, variables: &Variables, project: &str, runner: &Runner) -> Option<Body> {
    if step.script.is_empty() {
        return None;
    }
    let mut body = Body::default();
    body.exports(variables)
        .line(format!("cd {}", quote(project)));
    body.commands(runner.pre_build_script.as_slice());
    if step.name.eq_ignore_ascii_case("release") {
        let lines: Vec<_> = step
            .script
            .iter()
            .map(|line| variables.expand(line))
            .collect();
        body.commands(&lines);
    } else {
        body.commands(&step.script);
    }
    body.commands(runner.post_build_script.as_slice());
    Some(body)
}

/// `after_script`, without the operator's scripts; `None` where the job has none.
pub fn after_script(step: &Step, variables: &Variables, project: &str) -> Option<Body> {
    if step.script.is_empty() {
        return None;
    }
    let mut body = Body::default();
    body.exports(variables)
        .line(format!("cd {}", quote(project)))
        .notice("Running after script...")
        .commands(&step.script);
    Some(body)
}

/// Removes file variables and everything else that could tell a secret.
pub fn cleanup(variables: &Variables) -> Body {
    let mut paths = vec![
        quote(&format!("{}/{ENV_FILE}", variables.tmp_dir())),
        quote(&super::sources::config_path(variables.tmp_dir())),
    ];
    paths.extend(
        variables
            .all()
            .iter()
            .filter_map(|v| v.file.as_deref())
            .map(quote),
    );
    let mut body = Body::default();
    body.line(format!("rm -f {}", paths.join(" ")));
    body
}
