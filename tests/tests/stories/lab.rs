//! The lab told without the manager: its parts behave as the real ones, so that the other stories mean something.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::{Endpoint, Fault, JobState};
use fleetling_lab::{Fact, Job, Lab};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn instances_start_and_end_with_the_cloud_and_run_a_container_over_ssh() -> Result<()> {
    let lab = Lab::start().await?;
    lab.cloud.desire(2).await?;
    let two = || (lab.living().len() == 2).then(|| lab.living());
    let living = lab.journal.until("two instances", SOON, two).await?;
    for id in &living {
        let booted = |fact: &Fact| matches!(fact, Fact::InstanceBooted(b) if b == id).then_some(());
        lab.journal.until_fact("a boot", SOON, booted).await?;
    }
    let ran = lab
        .instances
        .exec(
            &living[0],
            "docker run --rm busybox:latest echo from the job",
        )
        .await?;
    ensure!(ran.ends_with("from the job"), "{ran}");
    // A job's container reaches GitLab, through its instance and the network's gateway.
    let address = lab
        .gitlab
        .url()
        .trim_start_matches("http://")
        .replace(':', " ");
    let reached = format!(
        "docker run --rm busybox:latest sh -c 'nc -w 5 {address} </dev/null && echo reached'"
    );
    let reached = lab.instances.exec(&living[0], &reached).await?;
    ensure!(reached.ends_with("reached"), "{reached}");
    // An image that nobody has fails soon, not after a resolver's timeout.
    let begun = std::time::Instant::now();
    let refused = lab
        .instances
        .exec(&living[0], "docker pull nobody/has-this:latest")
        .await;
    ensure!(
        refused.is_err() && begun.elapsed() < Duration::from_secs(20),
        "{refused:?} {:?}",
        begun.elapsed()
    );

    lab.cloud.terminate(&living[1]).await?;
    // The group replaces what was ended from outside, as AWS does.
    let replaced = || (lab.launched().len() == 3).then_some(());
    lab.journal.until("a replacement", SOON, replaced).await?;
    let gone = || {
        let living = living[1].clone();
        let asked = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(lab.instances.exec(&living, "true"))
        });
        asked.is_err().then_some(())
    };
    lab.journal
        .until("the container's removal", SOON, gone)
        .await?;
    lab.was_correct()
}

/// Calls AWS as the runner does, with boto3 and the given secret.
async fn as_runner(lab: &Lab, secret: &str, service: &str, call: &str) -> Result<Output> {
    let access = &lab.cloud.access;
    let program = format!(
        "import boto3; c = boto3.client('{service}', endpoint_url='{}', region_name='{}'); print(c.{call})",
        access.endpoint, access.region
    );
    let mut python = tokio::process::Command::new(fleetling_lab::cloud::python());
    python
        .args(["-c", &program])
        .env("AWS_ACCESS_KEY_ID", &access.access_key);
    Ok(python.env("AWS_SECRET_ACCESS_KEY", secret).output().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_runner_authorises_opens_ssh_and_a_wrong_secret_opens_nothing() -> Result<()>
{
    let lab = Lab::start().await?;
    let secret = lab.cloud.access.secret_key.clone();
    let wrong = as_runner(
        &lab,
        "wrong",
        "autoscaling",
        "describe_auto_scaling_groups()",
    )
    .await?;
    ensure!(
        String::from_utf8_lossy(&wrong.stderr).contains("SignatureDoesNotMatch"),
        "{wrong:?}"
    );
    let size = "set_desired_capacity(AutoScalingGroupName='my-docker-asg', DesiredCapacity=1)";
    let asked = as_runner(&lab, &secret, "autoscaling", size).await?;
    ensure!(asked.status.success(), "{asked:?}");
    let denied = as_runner(&lab, &secret, "ec2", "create_vpc(CidrBlock='10.1.0.0/16')").await?;
    ensure!(
        !denied.status.success(),
        "the runner may do what its policy does not allow"
    );

    let booted = |fact: &Fact| match fact {
        Fact::InstanceBooted(id) => Some(id.clone()),
        _ => None,
    };
    let id = lab.journal.until_fact("a boot", SOON, booted).await?;
    let dir = lab.home();
    std::fs::create_dir_all(&dir)?;
    let key = dir.join("key");
    let mut keygen = tokio::process::Command::new("ssh-keygen");
    ensure!(
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .await?
            .success()
    );
    let address = lab.instances.exec(&id, "hostname -i").await?;
    let ssh = async || {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args([
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.arg("-i").arg(&key).arg(format!("ec2-user@{address}"));
        ssh.args(["docker", "version", "--format", "{{.Server.Version}}"])
            .output()
            .await
    };
    ensure!(
        !ssh().await?.status.success(),
        "a key that nobody authorised"
    );
    let public = std::fs::read_to_string(dir.join("key.pub"))?;
    let send = format!(
        "send_ssh_public_key(InstanceId='{id}', InstanceOSUser='ec2-user', SSHPublicKey='{}')",
        public.trim()
    );
    let sent = as_runner(&lab, &secret, "ec2-instance-connect", &send).await?;
    ensure!(sent.status.success(), "{sent:?}");
    let opens = || {
        let asked =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ssh()));
        asked
            .is_ok_and(|output| output.status.success())
            .then_some(())
    };
    lab.journal
        .until("a login with the authorised key", SOON, opens)
        .await?;
    ensure!(
        lab.cloud_requests("SetDesiredCapacity").len() == 1,
        "the journal misses a request"
    );
    ensure!(
        lab.cloud_requests("SendSSHPublicKey").len() == 1,
        "the journal misses a request"
    );
    lab.was_correct()
}

/// A runner of a few lines, to try the coordinator with.
struct Runner<'a> {
    lab: &'a Lab,
    http: Client,
}

impl<'a> Runner<'a> {
    fn of(lab: &'a Lab) -> Self {
        Self {
            lab,
            http: Client::new(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v4/{path}", self.lab.gitlab.url())
    }

    async fn request(&self, token: &str) -> Result<Response> {
        let features = json!({"refspecs": true, "variables": true, "image": true, "trace_checksum": true,
            "trace_size": true, "two_phase_job_commit": true, "cancel_gracefully": true});
        let info = json!({"name": "r", "version": "1", "platform": "linux", "architecture": "amd64",
            "executor": "docker-autoscaler", "features": features});
        let body = json!({"token": token, "system_id": "s_0123456789ab", "info": info});
        Ok(self
            .http
            .post(self.url("jobs/request"))
            .json(&body)
            .send()
            .await?)
    }

    async fn take(&self) -> Result<Value> {
        let response = self.request(&self.lab.gitlab.runner_token()).await?;
        ensure!(response.status() == 201, "{}", response.status());
        Ok(response.json().await?)
    }

    async fn put(&self, job: &Value, mut update: Value) -> Result<Response> {
        update["token"] = job["token"].clone();
        Ok(self
            .http
            .put(self.url(&format!("jobs/{}", job["id"])))
            .json(&update)
            .send()
            .await?)
    }

    async fn patch(&self, job: &Value, start: usize, part: &str) -> Result<Response> {
        let token = job["token"].as_str().context("no token")?;
        let request = self
            .http
            .patch(self.url(&format!("jobs/{}/trace", job["id"])));
        let request = request
            .header("JOB-TOKEN", token)
            .header("Content-Type", "text/plain")
            .header(
                "Content-Range",
                format!("{start}-{}", start + part.len() - 1),
            );
        Ok(request.body(part.to_owned()).send().await?)
    }
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    value
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_refuses_what_gitlab_refuses() -> Result<()> {
    let lab = Lab::start().await?;
    let runner = Runner::of(&lab);
    ensure!(
        runner.request("glrt-wrong").await?.status() == 403,
        "a wrong runner token"
    );
    ensure!(
        runner.request(&lab.gitlab.runner_token()).await?.status() == 204,
        "nothing queued"
    );

    let id = lab.gitlab.queue(Job::named("one"));
    let job = runner.take().await?;
    ensure!(
        lab.gitlab.job(id).state == JobState::Given,
        "given is not running before it is confirmed"
    );
    ensure!(
        runner
            .put(&job, json!({"state": "success"}))
            .await?
            .status()
            == 400,
        "unconfirmed"
    );
    let wrong = json!({"id": job["id"], "token": "glcbt-wrong"});
    ensure!(
        runner
            .put(&wrong, json!({"state": "running"}))
            .await?
            .status()
            == 403,
        "a wrong job token"
    );
    ensure!(
        runner
            .put(&job, json!({"state": "running"}))
            .await?
            .status()
            == 200,
        "the confirmation"
    );

    let first = runner.patch(&job, 0, "hello ").await?;
    ensure!(first.status() == 202 && header(&first, "Job-Status") == "running");
    let gap = runner.patch(&job, 9, "world").await?;
    ensure!(
        gap.status() == 416 && header(&gap, "Range") == "0-6",
        "{gap:?}"
    );
    ensure!(
        runner.patch(&job, 6, "world").await?.status() == 202,
        "the rest"
    );

    let done = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 3,
        "output": {"checksum": format!("crc32:{:08x}", crc32fast::hash(b"hello world")), "bytesize": 11}});
    ensure!(
        runner.put(&job, done.clone()).await?.status() == 202,
        "the log is archived first"
    );
    ensure!(
        runner.put(&job, done).await?.status() == 200,
        "then the job ends"
    );
    let late = runner.patch(&job, 11, "late").await?;
    ensure!(
        late.status() == 403 && header(&late, "Job-Status") == "failed",
        "{late:?}"
    );
    let record = lab.gitlab.job(id);
    ensure!(
        record.exit_code == Some(3) && record.log() == "hello world",
        "{record:?}"
    );
    // One violation: the success before the confirmation.
    ensure!(
        lab.gitlab.violations().len() == 1,
        "{:?}",
        lab.gitlab.violations()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_cancels_in_two_steps_and_serves_sources_to_running_jobs_only() -> Result<()> {
    let lab = Lab::start().await?;
    let runner = Runner::of(&lab);
    let id = lab.gitlab.queue(Job::named("one"));
    let job = runner.take().await?;
    let url = job["git_info"]["repo_url"]
        .as_str()
        .context("no url")?
        .to_owned();
    let clone = async |to: &str| -> Result<bool> {
        let target = lab.home().join(to);
        let mut git = tokio::process::Command::new("git");
        git.args(["clone", "--quiet", &url])
            .arg(&target)
            .env("GIT_TERMINAL_PROMPT", "0");
        Ok(git.output().await?.status.success() && target.join("bin/greet").exists())
    };
    ensure!(
        !clone("before").await?,
        "sources before the job was confirmed"
    );
    runner.put(&job, json!({"state": "running"})).await?;
    ensure!(clone("while").await?, "no sources for a running job");

    lab.gitlab.cancel(id);
    let told = runner.patch(&job, 0, "x").await?;
    ensure!(header(&told, "Job-Status") == "canceling", "{told:?}");
    let checksum = format!("crc32:{:08x}", crc32fast::hash(b"x"));
    let done = json!({"state": "failed", "failure_reason": "job_canceled", "output": {"checksum": checksum, "bytesize": 1}});
    runner.put(&job, done.clone()).await?;
    runner.put(&job, done).await?;
    ensure!(
        lab.gitlab.job(id).state == JobState::Canceled,
        "canceling ends as canceled"
    );
    ensure!(!clone("after").await?, "sources after the end");

    lab.gitlab
        .fault(Fault::refuse(Endpoint::RequestJob, 503).times(2));
    for expected in [503, 503, 204] {
        ensure!(
            runner.request(&lab.gitlab.runner_token()).await?.status() == expected,
            "{expected}"
        );
    }
    lab.was_correct()
}
