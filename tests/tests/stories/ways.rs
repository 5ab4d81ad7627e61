//! The ways to a daemon on an instance: which one `docker.host` names, each way alone, and a job that did not wait for it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Fact, Job, JobId, Lab};

const MINUTE: Duration = Duration::from_secs(60);

const ELSEWHERE: &str = "unix:///run/elsewhere.sock";
/// The Docker command, where nobody looks for it.
const AWAY: &str = "/root/docker";

/// Its script waits until it is let go.
async fn begun(lab: &Lab, name: &str) -> Result<JobId> {
    let wait = "while [ ! -e /tmp/go ]; do sleep 0.2; done";
    let job = Job::named(name).script(["echo begun", wait, "echo over"]);
    let id = lab.gitlab.queue(job.without_sources());
    lab.gitlab.shows(id, "begun\n", 2 * MINUTE).await?;
    Ok(id)
}

async fn let_go(lab: &Lab, instance: &str, id: JobId, docker: &str) -> Result<()> {
    let docker = format!("{docker} -H {ELSEWHERE}");
    let touch =
        format!("for c in $({docker} ps -q); do {docker} exec $c touch /tmp/go || true; done");
    lab.instances.exec(instance, &touch).await?;
    let job = lab.gitlab.ended(&[id], MINUTE).await?.remove(0);
    ensure!(job.state == JobState::Success, "{}", job.log());
    ensure!(job.log().contains("over\n"), "{}", job.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_reach_the_daemon_that_docker_host_names_by_each_way_and_one_is_cancelled_before()
-> Result<()> {
    let lab = Lab::start().await?;
    let configuration = lab
        .configuration()
        .idle_count(0)
        .max_instances(1)
        .replace("max_use_count = 1", "max_use_count = 0")
        .replace(
            "[runners.docker]",
            &format!("[runners.docker]\n    host = \"{ELSEWHERE}\""),
        )
        .autoscaler("instance_ready_command = \"until [ -e /tmp/open ]; do sleep 0.2; done\"");
    let manager = lab.start_manager(&configuration)?;
    let cancelled = lab.gitlab.queue(Job::named("cancelled").without_sources());
    let booted = |fact: &Fact| match fact {
        Fact::InstanceBooted(id) => Some(id.clone()),
        _ => None,
    };
    let instance = lab.journal.until_fact("an instance", 2 * MINUTE, booted);
    let instance = instance.await?;
    let (on, instances) = (instance.as_str(), &lab.instances);

    // The connection is made, and the instance is not ready.
    let is_dialled = "pgrep -f 'until [[] -e /tmp/open'";
    instances.until(on, is_dialled, MINUTE).await?;
    let waits = "Waiting for an instance...";
    lab.gitlab.shows(cancelled, waits, MINUTE).await?;
    lab.gitlab.cancel(cancelled);
    // Heard of with the next sign of life, half a minute after the last one.
    let job = lab.gitlab.ended(&[cancelled], MINUTE).await?.remove(0);
    ensure!(
        job.state == JobState::Canceled,
        "{}:\n{}",
        job.state,
        job.log()
    );
    let still = instances.exec(on, is_dialled).await;
    still.context("the cancelled job waited for its instance")?;

    // Without its command only a forwarded socket leads to the daemon, and only the named one.
    let arguments = format!("-H {ELSEWHERE}");
    instances.restart_daemon(on, "TERM", &arguments).await?;
    let answers = format!("docker -H {ELSEWHERE} version");
    instances.until(on, &answers, MINUTE).await?;
    let hide = format!("mv /usr/bin/docker {AWAY} && ! docker version && touch /tmp/open");
    instances.exec(on, &hide).await?;
    let forwarded = begun(&lab, "by a forwarded socket").await?;
    let job = lab.gitlab.job(forwarded);
    ensure!(job.instance().as_deref() == Some(on), "{}", job.log());
    let_go(&lab, on, forwarded, AWAY).await?;

    // One for the instance and one for its slot: none was kept for the cancelled job.
    let connections = instances
        .exec(on, "pgrep -fc '[s]shd.*: ec2-user@notty'")
        .await?;
    ensure!(connections == "2", "{connections} connections");

    // Where sshd forwards nothing, the command is the only way.
    let refuse =
        "echo 'AllowStreamLocalForwarding no' >/etc/ssh/sshd_config.d/0.conf && kill -HUP 1";
    let restore = format!("mv {AWAY} /usr/bin/docker && {refuse}");
    instances.exec(on, &restore).await?;
    instances.cut_connections(on).await?;
    manager.says(&["connection restored", on], MINUTE).await?;
    let by_command = begun(&lab, "by the command").await?;
    let piped = format!("pgrep -f '[d]ocker -H {ELSEWHERE} system dial-stdio'");
    let piped = instances.exec(on, &piped).await;
    piped.context("no command joins the job to the daemon")?;
    let_go(&lab, on, by_command, "docker").await?;
    ensure!(lab.launched().len() == 1, "{:?}", lab.launched());
    lab.was_correct()
}
