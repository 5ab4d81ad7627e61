//! GitLab with TLS of its own authority that lets nobody in without a certificate: the manager and the jobs' git.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::coordinator::JobState;
use fleetling_lab::{Job, Lab};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_with_its_own_authority_that_asks_who_comes_is_reached_by_manager_and_job()
-> Result<()> {
    let lab = Lab::start_secured().await?;
    let certificates = lab.gitlab.certificates().context("a secured GitLab")?;
    let url = lab.gitlab.url().to_owned();
    let host = url.trim_start_matches("https://");
    let (host, _) = host.rsplit_once(':').context("an address with a port")?;
    let configuration = lab.configuration().idle_count(1).max_instances(2);
    let manager = lab.start_manager(&configuration)?;
    // It trusts nobody who signed for this GitLab, and says where to put whom.
    manager
        .says(&["with tls-ca-file in config.toml"], MINUTE)
        .await?;

    // Found by the host's name; no key of the file names it, and nothing of the file changed.
    let certs = lab.home().join("certs");
    std::fs::create_dir_all(&certs)?;
    std::fs::copy(certificates.authority(), certs.join(format!("{host}.crt")))?;
    manager
        .says(
            &["with tls-cert-file and tls-key-file in config.toml"],
            MINUTE,
        )
        .await?;

    let keys = format!(
        "  tls-cert-file = {:?}\n  tls-key-file = {:?}\n  shell = \"sh\"",
        certificates.client(),
        certificates.client_key()
    );
    lab.rewrite(&configuration.replace("  shell = \"sh\"", &keys))?;
    let job = Job::named("over TLS").script([
        "bin/greet",
        "echo \"$(grep -c BEGIN \"$CI_SERVER_TLS_CA_FILE\") authority, $(grep -c BEGIN \"$CI_SERVER_TLS_CERT_FILE\") certificate\"",
        "cat \"$CI_SERVER_TLS_KEY_FILE\"",
        "echo shown",
    ]);
    let job = lab.gitlab.queue(job);
    let ended = lab.gitlab.ended(&[job], 4 * MINUTE).await?;
    let log = ended[0].log();
    ensure!(ended[0].state == JobState::Success, "{log}");
    ensure!(ended[0].fetches > 0, "git was not asked:\n{log}");
    for part in [
        "greetings from the sources",
        "1 authority, 1 certificate",
        "shown\n",
    ] {
        ensure!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    let key = std::fs::read_to_string(certificates.client_key())?;
    let secret = key.lines().nth(1).context("a key of several lines")?;
    ensure!(!log.contains(secret), "the key is in the log:\n{log}");
    lab.was_correct()
}
