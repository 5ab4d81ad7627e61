//! `fleetling plugin check`: the conformance list, line by line, on a plugin in the sandbox.

use std::sync::Arc;

use anyhow::bail;
use rand::Rng as _;

use super::chosen::{self, Chosen, ForRunner};
use super::{Answer, Places, live, say};
use crate::cli::plugin::{OfRunner, Subject};
use crate::fleet::group::ProviderSettings;
use crate::plugin::conformance::scripted::{made_up, wanted};
use crate::plugin::conformance::wire::Wire;
use crate::plugin::conformance::{Check, Ground, Patience, Sandboxed, Trial, Verdict};
use crate::plugin::egress::tap::Tap;
use crate::plugin::platform::{Platform, PlatformOptions, RehearsalRequest};

pub(super) async fn check(
    places: &Places<'_>,
    subject: &Subject,
    of: &OfRunner,
    live: bool,
) -> anyhow::Result<Answer> {
    // Found by itself, a configuration may be the one of a manager at work.
    if !places.is_config_given {
        if live {
            bail!(
                "--live makes instances in the group of a runner; next: name the file with --config"
            );
        }
        return without_cloud(places, subject).await;
    }
    let of = ForRunner::of(subject, of, places)?;
    let mut checks = with_cloud(places, &of).await?;
    if live && !is_interrupted(&checks) {
        checks.extend(live::live(places, &of).await?);
    }
    Ok(summary(&checks))
}

/// With a made-up configuration, on a wire that leads nowhere, under what it wants.
async fn without_cloud(places: &Places<'_>, subject: &Subject) -> anyhow::Result<Answer> {
    let wire = Arc::new(Wire::scripted());
    let options = PlatformOptions {
        tap: Some(wire.clone() as Arc<dyn Tap>),
        ..chosen::options(places)?
    };
    let chosen = Chosen::of(subject, &options)?;
    let platform = Platform::start(options)?;
    let examined = platform
        .examine(&chosen.plugin, chosen.file.clone())
        .await?;
    let config = made_up(&examined.description);
    let request = RehearsalRequest {
        plugin: &chosen.plugin,
        file: chosen.file,
        config: &config,
        settings: ProviderSettings::default(),
        group_key: "",
        grants: Some(wanted(&examined.description)),
    };
    let rehearsal = platform.rehearse(request).await?;
    let subject = Sandboxed {
        recipe: rehearsal.recipe.clone(),
    };
    let (ground, patience) = (Ground::Scripted(&config), Patience::default());
    let mut trial = Trial::new(&subject, &wire, ground, patience, "check".to_owned());
    let checks = trial.run(|check| say(&check.to_string())).await;
    let mut answer = summary(&checks);
    answer.text.push_str(
        "next: check it with --config, and a runner whose group is empty and may be used for this\n",
    );
    Ok(answer)
}

async fn with_cloud(places: &Places<'_>, of: &ForRunner) -> anyhow::Result<Vec<Check>> {
    let wire = Arc::new(Wire::default());
    let platform = of.platform(places, Some(wire.clone() as Arc<dyn Tap>))?;
    let rehearsal = of.rehearse(&platform).await?;
    let subject = Sandboxed {
        recipe: rehearsal.recipe.clone(),
    };
    let config = &of.runner.autoscaler.plugin_config;
    let token = format!("check-{:016x}", rand::rng().random::<u64>());
    let patience = Patience::default();
    let mut trial = Trial::new(&subject, &wire, Ground::Cloud(config), patience, token);
    let mut checks = Vec::new();
    let tell = |check: &Check| {
        say(&check.to_string());
        checks.push(check.clone());
    };
    let is_interrupted = tokio::select! {
        _ = trial.run(tell) => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    if is_interrupted {
        say("interrupted: what was made is removed");
        checks.push(interruption());
    }
    let swept = tokio::select! {
        swept = trial.sweep() => swept,
        _ = tokio::signal::ctrl_c() => Err("interrupted; next: remove the instances in the cloud".to_owned()),
    };
    if let Err(left) = swept {
        let check = Check {
            name: "everything made for the checks is removed",
            verdict: Verdict::Failed(left),
        };
        say(&check.to_string());
        checks.push(check);
    }
    Ok(checks)
}

const INTERRUPTED: &str = "all checks are done";

fn interruption() -> Check {
    Check {
        name: INTERRUPTED,
        verdict: Verdict::Failed("interrupted".to_owned()),
    }
}

fn is_interrupted(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.name == INTERRUPTED)
}

fn summary(checks: &[Check]) -> Answer {
    let (mut passed, mut failed, mut not_checked, mut inapplicable) = (0, 0, 0, 0);
    for check in checks {
        match check.verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(_) => failed += 1,
            Verdict::NotChecked(_) => not_checked += 1,
            Verdict::Inapplicable(_) => inapplicable += 1,
        }
    }
    Answer {
        text: format!(
            "{passed} passed, {failed} failed, {not_checked} not checked, {inapplicable} inapplicable\n"
        ),
        is_good: failed == 0,
    }
}
