//! Whether a service answers: one wait container each, and what the job's log says of a service that does not.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{
    LogsOptionsBuilder, StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Up, spec};
use crate::docker::site::{PAUSE, Site, is_missing, unmet};
use crate::docker::stage::StageFailure;

/// How long a service that did not answer may go on, so that its log says more.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Bytes of a container's log that a job's log takes.
const MOST_LOG: usize = 64 * 1024;
const LOG_LIMIT: Duration = Duration::from_secs(10);
const YELLOW: &str = "\x1b[0;33m";
const RESET: &str = "\x1b[0;m";

struct Unhealthy {
    why: String,
    /// The wait container's, where there was one.
    log: Option<String>,
}

/// Lines for the job's log; none for a service that answers in time.
pub(super) async fn check(site: &Site, service: &Up, limit: Duration) -> Vec<String> {
    let until = Instant::now() + limit;
    let Err(unhealthy) = wait(site, service, until, limit).await else {
        return Vec::new();
    };
    let rest = until
        .saturating_duration_since(Instant::now())
        .min(LAST_WORDS);
    // What ended says no more.
    let _ = timeout(rest, exit_code(site, &service.name)).await;
    warning(&service.name, &unhealthy, &read(site, &service.name).await)
}

async fn wait(site: &Site, service: &Up, until: Instant, limit: Duration) -> Result<(), Unhealthy> {
    let of_service = |why: String| Unhealthy { why, log: None };
    if service.ports.is_empty() {
        return Err(of_service(format!(
            "service {:?} has no exposed TCP port; set HEALTHCHECK_TCP_PORT among its variables",
            service.name
        )));
    }
    if service.addresses.is_empty() {
        let why = match timeout_at(until, exit_code(site, &service.name)).await {
            Ok(Ok(code)) => ended(service, code),
            _ => format!("service {:?} has no address", service.name),
        };
        return Err(of_service(why));
    }
    let name = format!("{}-wait-for-service", service.name);
    if let Err(failure) = begin(site, service, &name).await {
        return Err(of_service(failure.to_string()));
    }
    let why = tokio::select! {
        biased;
        waited = timeout_at(until, exit_code(site, &name)) => match waited {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(code)) => format!("the health check ended with exit code {code}"),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("service {name:?} timeout: no answer within {} s", limit.as_secs()),
        },
        Ok(code) = exit_code(site, &service.name) => ended(service, code),
    };
    let log = read(site, &name).await;
    // What is not removed now is left to cleanup.
    if let Err(left) = site.remove(&name).await {
        tracing::debug!(container = name, reason = left, "left to cleanup");
    }
    Err(Unhealthy {
        why,
        log: Some(log),
    })
}

fn ended(service: &Up, code: i64) -> String {
    format!("service {:?} ended with exit code {code}", service.name)
}

/// Starts the wait container.
async fn begin(site: &Site, service: &Up, name: &str) -> Result<(), StageFailure> {
    let body = spec::wait(service, &site.machine.facts.helper_image, &site.plan);
    site.create_container(name, body, &[], None).await?;
    let at = site.connected().await?;
    let starting = at
        .docker
        .start_container(name, None::<StartContainerOptions>);
    site.unless_gone(starting)
        .await?
        .map_err(|error| unmet("the health check could not be started", &error))
}

/// Waits for a started container's end, through lost connections.
async fn exit_code(site: &Site, name: &str) -> Result<i64, StageFailure> {
    loop {
        let at = site.connected().await?;
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let mut waiting = at.docker.wait_container(name, Some(options));
        match site.unless_gone(waiting.next()).await? {
            Some(Ok(ended)) => return Ok(ended.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => return Ok(code),
            Some(Err(error)) if is_missing(&error) => {
                return Err(StageFailure::ContainerVanished(name.into()));
            }
            _ => site.unless_gone(sleep(PAUSE)).await?,
        }
    }
}

/// The beginning of a container's log; what cannot be read is left out.
async fn read(site: &Site, name: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        let Ok(at) = site.connected().await else {
            return;
        };
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .build();
        let mut log = at.docker.logs(name, Some(options));
        while let Some(Ok(item)) = log.next().await {
            let item = LogOutput::into_bytes(item);
            // Further parts of a long line have a stamp of their own, which would hide a secret's seam from its mask.
            let goes_on = !text.is_empty() && !text.ends_with(b"\n");
            let stamp = item.iter().position(|byte| goes_on && *byte == b' ');
            text.extend_from_slice(&item[stamp.map_or(0, |at| at + 1)..]);
            if text.len() >= MOST_LOG {
                break;
            }
        }
    };
    // A log that takes longer is shown as far as it came.
    let _ = timeout(LOG_LIMIT, reading).await;
    if text.len() > MOST_LOG {
        text.truncate(MOST_LOG);
        // A line that was cut may end in the beginning of a secret.
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        text.truncate(whole.map_or(0, |at| at + 1));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// GitLab Runner's block.
fn warning(name: &str, unhealthy: &Unhealthy, log: &str) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!("{YELLOW}*** WARNING:{RESET} Service {name} probably didn't start properly."),
        String::new(),
        "Health check error:".into(),
        unhealthy.why.clone(),
    ];
    let mut part = |title: &str, text: &str| {
        lines.extend([String::new(), title.into()]);
        lines.extend(text.trim_end().lines().map(String::from));
    };
    if let Some(log) = &unhealthy.log {
        part("Health check container logs:", log);
    }
    part("Service container logs:", log);
    lines.extend([
        String::new(),
        format!("{YELLOW}*********{RESET}"),
        String::new(),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_does_not_answer_is_told_with_both_logs() {
        let unhealthy = Unhealthy {
            why: "no answer".into(),
            log: Some("dialling\nrefused\n".into()),
        };
        let block = warning(
            "runner-x-redis-0",
            &unhealthy,
            "2026-01-01T00:00:00Z hello\n",
        )
        .join("\n");
        insta::assert_snapshot!(block.replace('\x1b', "ESC"), @r"

        ESC[0;33m*** WARNING:ESC[0;m Service runner-x-redis-0 probably didn't start properly.

        Health check error:
        no answer

        Health check container logs:
        dialling
        refused

        Service container logs:
        2026-01-01T00:00:00Z hello

        ESC[0;33m*********ESC[0;m

        ");
    }
}
