//! Registries of a story's own: Debian's `docker-registry`, with a login or without, in plain HTTP or behind TLS; one of
//! plugins with the binary's commands that speak to it, one of images beside a lab's instances.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::installation::Installation;
use crate::run::Run;

const HOST: u8 = 2;
/// Of a registry beside the one that stands for Docker Hub; the cloud gives its instances no address so low.
const BESIDE: u8 = 3;
const START: Duration = Duration::from_secs(30);

pub const USER: &str = "someone";
pub const PASSWORD: &str = "hush";
/// The line `htpasswd -B` writes for them.
const HTPASSWD: &str = "someone:$2b$05$IAOGHxdG1IR3UxWtNa759.RpH3S2WaA56ek8sDvkSvqKKqg6rCUrO\n";

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// For [`USER`] with [`PASSWORD`].
    Locked,
}

pub struct Registry {
    /// `host:port`; not loopback, so plain http is to be asked for.
    pub address: String,
    /// Of the binary, beside `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
    run: Run,
}

/// What a command of the binary printed.
#[derive(Clone, Debug)]
pub struct Answered {
    pub is_good: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Answered {
    /// The value behind a word at the beginning of a line.
    pub fn value(&self, word: &str) -> Option<String> {
        let mut lines = self.stdout.lines().map(str::trim_start);
        let value = lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
        Some(value.trim().to_owned())
    }
}

impl Registry {
    pub async fn start(door: Door) -> Result<Self> {
        Self::begin(door, false).await
    }

    /// Behind TLS, with a certificate that the authority of [`Registry::authority`] signed.
    pub async fn start_secured(door: Door) -> Result<Self> {
        Self::begin(door, true).await
    }

    async fn begin(door: Door, is_secured: bool) -> Result<Self> {
        let run = tokio::task::spawn_blocking(Run::start).await??;
        let address = format!("{}:5000", run.host(HOST));
        let registry = Self {
            address,
            environment: Vec::new(),
            run,
        };
        std::fs::create_dir_all(registry.own())?;
        if is_secured {
            certify(&registry.own(), registry.run.host(HOST)).await?;
        }
        let container = format!("{}-registry", registry.run.name);
        serve(&registry.run, &container, HOST, door, is_secured)?;
        let authority = is_secured.then(|| registry.authority());
        answers(&registry.address, authority.as_deref()).await?;
        Ok(registry)
    }

    /// What the container sees.
    fn own(&self) -> PathBuf {
        self.run.dir.join("registry")
    }

    /// The certificate of this story's authority.
    pub fn authority(&self) -> PathBuf {
        self.own().join("ca.pem")
    }

    /// Keeps the authority's certificate where Docker without root has it.
    pub fn trust_as_docker_does(&self) -> Result<()> {
        let folder = self
            .home()
            .join(".config/docker/certs.d")
            .join(&self.address);
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(self.authority(), folder.join("ca.crt"))?;
        Ok(())
    }

    /// A reference to a plugin that is kept here.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// A folder of this story, which goes with the registry.
    pub fn home(&self) -> PathBuf {
        self.run.dir.join("home")
    }

    /// Docker's configuration with this login for the registry.
    pub fn log_in(&self, user: &str, password: &str) -> Result<()> {
        self.configure_docker(&login(&self.address, user, password))
    }

    /// The same with a credential helper that prints `script`'s output; it stands before all others in `PATH`.
    pub fn log_in_by_helper(&self, script: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let helper = self.bin().join("docker-credential-lab");
        std::fs::create_dir_all(self.bin())?;
        std::fs::write(&helper, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
        self.configure_docker(&serde_json::json!({"credHelpers": {&self.address: "lab"}}))
    }

    fn configure_docker(&self, configuration: &serde_json::Value) -> Result<()> {
        let docker = self.home().join(".docker");
        std::fs::create_dir_all(&docker)?;
        std::fs::write(docker.join("config.json"), configuration.to_string())?;
        Ok(())
    }

    fn bin(&self) -> PathBuf {
        self.run.dir.join("bin")
    }

    /// `fleetling plugin …` in an environment of its own, beside a `config.toml` in [`Registry::home`].
    pub async fn plugin(&self, arguments: &[&str]) -> Result<Answered> {
        let installation = Installation::built()?.on_path(&self.bin())?;
        let home = self.home();
        std::fs::create_dir_all(&home)?;
        let output = Command::new(&installation.binary)
            .arg("plugin")
            .args(arguments)
            .arg("--config")
            .arg(home.join("config.toml"))
            .env_clear()
            .env("PATH", &installation.search_path)
            .env("HOME", &home)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        Ok(Answered {
            is_good: output.status.success(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// The same, which is to go well.
    pub async fn done(&self, arguments: &[&str]) -> Result<Answered> {
        let answered = self.plugin(arguments).await?;
        ensure!(answered.is_good, "{arguments:?}: {answered:?}");
        Ok(answered)
    }

    /// The same, which is to fail with all of these words.
    pub async fn refused(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        let answered = self.plugin(arguments).await?;
        let said = format!("{}{}", answered.stdout, answered.stderr);
        if answered.is_good || !words.iter().all(|word| said.contains(word)) {
            bail!("{arguments:?} should fail with {words:?}: {answered:?}");
        }
        Ok(())
    }

    /// Puts a file there as another tool would, as the one layer of a manifest; `layer` says the rest of it.
    pub async fn put(
        &self,
        repository: &str,
        tag: &str,
        file: &Path,
        layer: serde_json::Value,
    ) -> Result<()> {
        let manifest = self.manifest_of(repository, file, layer).await?;
        self.put_manifest(repository, tag, &manifest).await
    }

    /// The same without the manifest itself, which is answered.
    async fn manifest_of(
        &self,
        repository: &str,
        file: &Path,
        mut layer: serde_json::Value,
    ) -> Result<serde_json::Value> {
        let base = format!("http://{}/v2/{repository}", self.address);
        let http = reqwest::Client::new();
        let (bytes, digest) = (std::fs::read(file)?, sha256(file).await?);
        layer["size"] = bytes.len().into();
        layer["digest"] = digest.clone().into();
        for (bytes, digest) in [(bytes, digest.as_str()), (b"{}".to_vec(), EMPTY)] {
            let begun = http.post(format!("{base}/blobs/uploads/")).send().await?;
            let place = begun.headers()["location"].to_str()?.to_owned();
            let put = http.put(format!("{place}&digest={digest}")).body(bytes);
            put.send().await?.error_for_status()?;
        }
        Ok(serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2},
        }))
    }

    async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &serde_json::Value,
    ) -> Result<()> {
        let kind = manifest["mediaType"].as_str().context("it says no type")?;
        let put = reqwest::Client::new()
            .put(format!(
                "http://{}/v2/{repository}/manifests/{reference}",
                self.address
            ))
            .header("content-type", kind)
            .body(manifest.to_string());
        put.send().await?.error_for_status()?;
        Ok(())
    }

    /// Refers with a file to the manifest of a digest, as clients do where the registry keeps no list: the index under
    /// the tag made of that digest names it, alone.
    pub async fn refer(
        &self,
        repository: &str,
        subject: &str,
        file: &Path,
        artifact_type: &str,
    ) -> Result<()> {
        let layer = serde_json::json!({ "mediaType": artifact_type });
        let mut manifest = self.manifest_of(repository, file, layer).await?;
        manifest["artifactType"] = artifact_type.into();
        manifest["subject"] =
            serde_json::json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
        let written = self.home().join("referrer");
        std::fs::write(&written, manifest.to_string())?;
        let digest = sha256(&written).await?;
        self.put_manifest(repository, &digest, &manifest).await?;
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": MANIFEST, "artifactType": artifact_type, "digest": digest,
            "size": manifest.to_string().len(),
        }]});
        let tag = subject.replace(':', "-");
        self.put_manifest(repository, &tag, &index).await
    }

    /// What is there under a tag, as it was written.
    pub async fn manifest(&self, repository: &str, tag: &str) -> Result<serde_json::Value> {
        self.json(&format!("{repository}/manifests/{tag}")).await
    }

    pub async fn blob(&self, repository: &str, digest: &str) -> Result<serde_json::Value> {
        self.json(&format!("{repository}/blobs/{digest}")).await
    }

    async fn json(&self, path: &str) -> Result<serde_json::Value> {
        let asked = reqwest::Client::new()
            .get(format!("http://{}/v2/{path}", self.address))
            .header("accept", MANIFEST)
            .send();
        let answered = asked.await?.error_for_status()?;
        Ok(answered.json().await?)
    }
}

/// A registry of images in a lab's own network, beside the one that stands for Docker Hub and with the same content. It
/// ends with the lab.
pub struct ImageRegistry {
    /// `host:port`.
    pub address: String,
    container: String,
    /// The certificate of the authority that signed its own, where it has one.
    authority: Option<PathBuf>,
}

impl ImageRegistry {
    pub(crate) async fn start(run: &Run, door: Door) -> Result<Self> {
        Self::begin(run, door, None).await
    }

    /// Behind TLS, with a certificate of an authority that nobody knows.
    pub(crate) async fn start_secured(run: &Run, door: Door) -> Result<Self> {
        let own = run.dir.join("registry");
        std::fs::create_dir_all(&own)?;
        certify(&own, run.host(BESIDE)).await?;
        Self::begin(run, door, Some(own.join("ca.pem"))).await
    }

    async fn begin(run: &Run, door: Door, authority: Option<PathBuf>) -> Result<Self> {
        let registry = Self {
            address: format!("{}:5000", run.host(BESIDE)),
            container: format!("{}-images", run.name),
            authority,
        };
        let is_secured = registry.authority.is_some();
        serve(run, &registry.container, BESIDE, door, is_secured)?;
        answers(&registry.address, registry.authority.as_deref()).await?;
        Ok(registry)
    }

    /// The text of its authority's certificate.
    pub fn authority(&self) -> Result<String> {
        let file = self.authority.as_ref();
        let file = file.context("it is not behind TLS")?;
        Ok(std::fs::read_to_string(file)?)
    }

    /// From now on nobody answers at its address.
    pub fn stop(&self) -> Result<()> {
        crate::run::docker(&["kill", &self.container]).map(drop)
    }

    /// Docker's configuration with this login for the registry.
    pub fn login(&self, user: &str, password: &str) -> serde_json::Value {
        login(&self.address, user, password)
    }
}

fn login(address: &str, user: &str, password: &str) -> serde_json::Value {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({"auths": {address: {"auth": pair}}})
}

/// `is_secured` takes the certificate that lies ready in the run's own folder.
fn serve(run: &Run, container: &str, host: u8, door: Door, is_secured: bool) -> Result<()> {
    let Run {
        name, label, dir, ..
    } = run;
    let own = dir.join("registry");
    std::fs::create_dir_all(&own)?;
    std::fs::write(own.join("htpasswd"), HTPASSWD)?;
    let host = run.host(host).to_string();
    let own = format!("{}:/own:ro", own.display());
    let mut arguments = vec!["run", "-d", "--name", container, "--label", label];
    arguments.extend(["--network", name, "--ip", &host, "-v", &own]);
    if door == Door::Locked {
        for setting in [
            "REGISTRY_AUTH=htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM=lab",
            "REGISTRY_AUTH_HTPASSWD_PATH=/own/htpasswd",
        ] {
            arguments.extend(["-e", setting]);
        }
    }
    if is_secured {
        for setting in [
            "REGISTRY_HTTP_TLS_CERTIFICATE=/own/server.pem",
            "REGISTRY_HTTP_TLS_KEY=/own/server.key",
        ] {
            arguments.extend(["-e", setting]);
        }
    }
    arguments.push("fleetling-lab/registry:latest");
    let started = crate::run::docker(&arguments);
    started.context("the registry did not start; `make setup` makes its image")?;
    Ok(())
}

/// `authority` is the file of the one whose certificate it must show.
async fn answers(address: &str, authority: Option<&Path>) -> Result<()> {
    let scheme = if authority.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}/v2/");
    let mut client = reqwest::Client::builder();
    if let Some(authority) = authority {
        let authority = std::fs::read(authority)?;
        client = client.tls_certs_only([reqwest::Certificate::from_pem(&authority)?]);
    }
    let client = client.build()?;
    let asked = async {
        while client.get(&url).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answered = tokio::time::timeout(START, asked).await;
    answered.context("the registry does not answer")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Digest of `{}`.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// An authority, and what it signs for a registry's address, in a folder.
async fn certify(folder: &Path, host: Ipv4Addr) -> Result<()> {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for arguments in [
        format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!(
            "{new} -subj /CN=registry -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:{host}"
        ),
    ] {
        openssl(folder, &arguments).await?;
    }
    Ok(())
}

/// Runs openssl in a folder.
pub async fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .await
        .context("openssl cannot be run")?;
    ensure!(output.status.success(), "openssl {arguments}: {output:?}");
    Ok(())
}

/// `sha256sum` of a file, as registries write it.
pub async fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let hex = text
        .split_whitespace()
        .next()
        .context("sha256sum said nothing")?;
    Ok(format!("sha256:{hex}"))
}
