//! Plugins in a registry, Debian's own: pushed, installed, upgraded, verified, and found by the manager's commands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fleetling_lab::registry::{Door, PASSWORD, Registry, USER, openssl, sha256};
use serde_json::json;

const PROVIDER: &str = include_str!("../../../host/src/plugin/fixtures/provider.wat");
const PLAIN: &str = "--plain-http";

/// The provider fixture as it calls itself in this version.
fn provider(registry: &Registry, version: &str) -> Result<PathBuf> {
    ensure!(
        PROVIDER.matches("\"1.2.3\")").count() == 1,
        "the fixture says its version otherwise"
    );
    let text = PROVIDER.replace("\"1.2.3\")", &format!("\"{version}\")"));
    let file = registry.home().join(format!("{version}.wasm"));
    std::fs::create_dir_all(registry.home())?;
    std::fs::write(&file, wat::parse_str(&text)?)?;
    Ok(file)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the lab's paths are text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_pushed_installed_upgraded_and_listed() -> Result<()> {
    let registry = Registry::start(Door::Open).await?;
    let (old, new) = (provider(&registry, "1.2.3")?, provider(&registry, "1.3.0")?);
    let repository = registry.reference("team/fixture");
    let pushed = registry
        .done(&["push", text(&old)?, &repository, PLAIN])
        .await?;
    let manifest = pushed.value("manifest").context("no digest")?;

    // Once more is nothing new, and another file is no 1.2.3.
    let again = registry
        .done(&["push", text(&old)?, &repository, PLAIN])
        .await?;
    ensure!(again.stdout.contains("was pushed already"), "{again:?}");
    let mut other = std::fs::read(&old)?;
    other.extend_from_slice(b"\x00\x05\x04note");
    let file = registry.home().join("other.wasm");
    std::fs::write(&file, other)?;
    registry
        .refused(
            &["push", text(&file)?, &repository, PLAIN],
            &["is there already, of another file", "next: "],
        )
        .await?;

    // As other wasm tools write it: config of v0, one layer, which is the file.
    let written = registry.manifest("team/fixture", "1.2.3").await?;
    ensure!(
        written["config"]["mediaType"] == "application/vnd.wasm.config.v0+json",
        "{written}"
    );
    ensure!(
        written["layers"][0]["mediaType"] == "application/wasm",
        "{written}"
    );
    ensure!(
        written["layers"][0]["digest"] == sha256(&old).await?.as_str(),
        "{written}"
    );
    ensure!(
        written["annotations"]["org.opencontainers.image.version"] == "1.2.3",
        "{written}"
    );
    let config = written["config"]["digest"].as_str().context("no config")?;
    let config = registry.blob("team/fixture", config).await?;
    ensure!(
        config["architecture"] == "wasm" && config["os"] == "wasip2",
        "{config}"
    );
    ensure!(
        config["layerDigests"][0] == written["layers"][0]["digest"],
        "{config}"
    );
    ensure!(
        config["component"]["exports"][0] == "fleetling:provider/provider@0.1.0",
        "{config}"
    );

    let installed = registry.done(&["install", &repository, PLAIN]).await?;
    ensure!(
        installed.value("manifest").as_ref() == Some(&manifest),
        "{installed:?}"
    );
    let place = |version: &str| {
        let folder = registry.home().join("plugins").join(&registry.address);
        folder
            .join("team/fixture")
            .join(version)
            .join("plugin.wasm")
    };
    ensure!(std::fs::read(place("1.2.3"))? == std::fs::read(&old)?);
    let listed = registry.done(&["list"]).await?;
    ensure!(listed.stdout.contains(text(&place("1.2.3"))?), "{listed:?}");

    registry
        .done(&["push", text(&new)?, &repository, PLAIN])
        .await?;
    let kept = registry.done(&["install", &repository, PLAIN]).await?;
    ensure!(kept.stdout.contains("--upgrade"), "{kept:?}");
    ensure!(!place("1.3.0").exists(), "it was upgraded unasked");
    let fixed = format!("{repository}:1.2");
    registry
        .done(&["install", &fixed, "--upgrade", PLAIN])
        .await?;
    ensure!(!place("1.3.0").exists(), "1.3.0 is no 1.2");
    let upgraded = registry
        .done(&["install", &repository, "--upgrade", PLAIN])
        .await?;
    ensure!(
        upgraded.stdout.starts_with("fixture 1.3.0 is installed\n"),
        "{upgraded:?}"
    );
    ensure!(std::fs::read(place("1.3.0"))? == std::fs::read(&new)?);

    // By digest, and elsewhere.
    let elsewhere = registry.home().join("elsewhere");
    let by_digest = format!("{repository}@{manifest}");
    registry
        .done(&["install", &by_digest, "--to", text(&elsewhere)?, PLAIN])
        .await?;
    let there = elsewhere
        .join(&registry.address)
        .join("team/fixture/1.2.3/plugin.wasm");
    ensure!(std::fs::read(there)? == std::fs::read(&old)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_or_is_spoken_to_without_tls_is_not_installed() -> Result<()> {
    let registry = Registry::start(Door::Open).await?;
    let repository = registry.reference("team/module");
    let module = registry.home().join("module.wasm");
    std::fs::create_dir_all(registry.home())?;
    std::fs::write(&module, b"\0asm\x01\0\0\0")?;
    registry
        .refused(
            &["push", text(&module)?, &repository, PLAIN],
            &["core WebAssembly module", "next: "],
        )
        .await?;
    let layer = json!({"mediaType": "application/wasm"});
    registry.put("team/module", "1.0.0", &module, layer).await?;
    registry
        .refused(
            &["install", &repository, PLAIN],
            &[&repository, "core WebAssembly module", "next: "],
        )
        .await?;
    registry
        .refused(
            &["install", &repository],
            &["does not speak TLS", "next: --plain-http"],
        )
        .await?;
    registry
        .refused(
            &["install", &registry.reference("team/nothing"), PLAIN],
            &["is not there", "next: "],
        )
        .await?;
    let plugins = registry.home().join("plugins");
    let left: Vec<_> = std::fs::read_dir(plugins)?.collect();
    ensure!(left.is_empty(), "something was left: {left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_login_is_entered_with_docker_s() -> Result<()> {
    let registry = Registry::start(Door::Locked).await?;
    let file = provider(&registry, "1.2.3")?;
    let repository = registry.reference("team/fixture");
    let push = ["push", text(&file)?, &repository, PLAIN];
    let install = ["install", &repository, PLAIN];
    registry
        .refused(&push, &["asks for a login", "docker login"])
        .await?;
    registry.log_in(USER, "wrong-guess")?;
    registry
        .refused(&push, &["refuses the login from", ".docker/config.json"])
        .await?;
    let wrong = registry.plugin(&install).await?;
    ensure!(!wrong.stderr.contains("wrong-guess"), "{wrong:?}");
    registry.log_in(USER, PASSWORD)?;
    registry.done(&push).await?;
    registry.done(&install).await?;

    let credentials = format!(r#"echo '{{"Username": "{USER}", "Secret": "{PASSWORD}"}}'"#);
    let told = registry.home().join("helper-was-asked-for");
    let script = format!("cat >'{}'; {credentials}", told.display());
    registry.log_in_by_helper(&script)?;
    registry
        .done(&["install", &repository, "--upgrade", PLAIN])
        .await?;
    ensure!(std::fs::read_to_string(told)? == registry.address);
    registry.log_in_by_helper(
        "cat >/dev/null; echo hush-hush; echo 'the keyring is locked' >&2; exit 1",
    )?;
    registry
        .refused(
            &["install", &repository, "--upgrade", PLAIN],
            &["docker-credential-lab failed: the keyring is locked"],
        )
        .await?;
    let refused = registry
        .plugin(&["install", &repository, "--upgrade", PLAIN])
        .await?;
    ensure!(!refused.stderr.contains("hush-hush"), "{refused:?}");
    Ok(())
}

/// What `cosign sign --key` leaves in the registry before its version 3.
async fn sign(registry: &Registry, manifest: &str, key: &str) -> Result<()> {
    use base64::Engine as _;
    let payload = json!({"critical": {
        "identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": manifest},
        "type": "cosign container image signature",
    }, "optional": null});
    let file = registry.home().join("payload");
    std::fs::write(&file, payload.to_string())?;
    openssl(
        &registry.home(),
        &format!("dgst -sha256 -sign {key} -out payload.sig payload"),
    )
    .await?;
    let signature = std::fs::read(registry.home().join("payload.sig"))?;
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let layer = json!({
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "annotations": {"dev.cosignproject.cosign/signature": signature},
    });
    let tag = format!("{}.sig", manifest.replace(':', "-"));
    registry.put("team/fixture", &tag, &file, layer).await
}

/// What cosign 3 leaves there, by its specification: a bundle around a signed statement, which refers to the manifest.
async fn sign_in_bundle(registry: &Registry, manifest: &str, key: &str) -> Result<()> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (kind, bundle) = (
        "application/vnd.in-toto+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    );
    let hex = manifest.trim_start_matches("sha256:");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{"digest": {"sha256": hex}, "annotations": {}}], "predicate": {},
    });
    let statement = statement.to_string();
    let signed = format!(
        "DSSEv1 {} {kind} {} {statement}",
        kind.len(),
        statement.len()
    );
    std::fs::write(registry.home().join("statement"), signed)?;
    openssl(
        &registry.home(),
        &format!("dgst -sha256 -sign {key} -out statement.sig statement"),
    )
    .await?;
    let signature = std::fs::read(registry.home().join("statement.sig"))?;
    let written = json!({
        "mediaType": bundle, "verificationMaterial": {"publicKey": {"hint": "of-the-key"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement), "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
        },
    });
    let file = registry.home().join("bundle.json");
    std::fs::write(&file, written.to_string())?;
    registry
        .refer("team/fixture", manifest, &file, bundle)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_checked_before_anything_is_installed() -> Result<()> {
    let registry = Registry::start(Door::Open).await?;
    let file = provider(&registry, "1.2.3")?;
    for key in ["publisher", "stranger"] {
        openssl(
            &registry.home(),
            &format!("ecparam -name prime256v1 -genkey -noout -out {key}.key"),
        )
        .await?;
        openssl(
            &registry.home(),
            &format!("pkey -in {key}.key -pubout -out {key}.pem"),
        )
        .await?;
    }
    let publisher = registry.home().join("publisher.pem");
    let stranger = registry.home().join("stranger.pem");
    let (publisher, stranger) = (text(&publisher)?, text(&stranger)?);
    openssl(
        &registry.home(),
        "dgst -sha256 -sign publisher.key -out 1.2.3.wasm.sig 1.2.3.wasm",
    )
    .await?;
    registry
        .done(&["verify", text(&file)?, "--key", publisher])
        .await?;
    registry
        .refused(
            &["verify", text(&file)?, "--key", stranger],
            &["is not what", "next: "],
        )
        .await?;

    let repository = registry.reference("team/fixture");
    let pushed = registry
        .done(&["push", text(&file)?, &repository, PLAIN])
        .await?;
    let manifest = pushed.value("manifest").context("no digest")?;
    let install = ["install", &repository, "--key", publisher, PLAIN];
    registry
        .refused(&install, &["has no signature", "next: "])
        .await?;
    // Each of both places is enough.
    sign_in_bundle(&registry, &manifest, "publisher.key").await?;
    let verify = ["verify", &repository, "--key", publisher, PLAIN];
    registry.done(&verify).await?;
    sign_in_bundle(&registry, &manifest, "stranger.key").await?;
    registry
        .refused(&verify, &["not by this key", "next: "])
        .await?;
    sign(&registry, &manifest, "publisher.key").await?;
    registry.done(&verify).await?;
    sign_in_bundle(&registry, &manifest, "publisher.key").await?;
    registry
        .refused(
            &["install", &repository, "--key", stranger, PLAIN],
            &["not by this key", "next: "],
        )
        .await?;
    ensure!(
        !registry.home().join("plugins").exists(),
        "it was installed unsigned"
    );
    let installed = registry.done(&install).await?;
    ensure!(installed.stdout.contains("by the key"), "{installed:?}");

    // A key is no wish for a newer version: what is there is checked, and stays.
    let newer = provider(&registry, "1.3.0")?;
    registry
        .done(&["push", text(&newer)?, &repository, PLAIN])
        .await?;
    let kept = registry.done(&install).await?;
    ensure!(
        kept.stdout
            .starts_with("fixture 1.2.3 was installed already\n")
            && kept.stdout.contains("by the key")
            && kept.stdout.contains("--upgrade"),
        "{kept:?}"
    );
    registry
        .refused(
            &["install", &repository, "--key", stranger, PLAIN],
            &["1.2.3", "not by this key", "next: "],
        )
        .await?;
    registry
        .refused(
            &[
                "install",
                &repository,
                "--key",
                publisher,
                "--upgrade",
                PLAIN,
            ],
            &["has no signature", "next: "],
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_tls_is_trusted_as_docker_trusts_it() -> Result<()> {
    let mut registry = Registry::start_secured(Door::Locked).await?;
    let file = provider(&registry, "1.2.3")?;
    let repository = registry.reference("team/fixture");
    registry.log_in(USER, PASSWORD)?;
    let push = ["push", text(&file)?, &repository];
    let kept = format!("/etc/docker/certs.d/{}/ca.crt", registry.address);
    registry
        .refused(
            &push,
            &["signed by nobody whom this machine trusts", "next: ", &kept],
        )
        .await?;
    registry
        .refused(
            &[&push[..], &[PLAIN]].concat(),
            &["does not take plain http", "next: "],
        )
        .await?;

    registry.trust_as_docker_does()?;
    registry.done(&push).await?;
    registry.done(&["install", &repository]).await?;
    registry.log_in(USER, "wrong-guess")?;
    registry
        .refused(
            &["install", &repository, "--upgrade"],
            &["refuses the login from"],
        )
        .await?;
    registry.log_in(USER, PASSWORD)?;

    // The same as every other program of the machine is told.
    std::fs::remove_dir_all(registry.home().join(".config"))?;
    let upgrade = ["install", &repository, "--upgrade"];
    registry
        .refused(&upgrade, &["signed by nobody", "next: "])
        .await?;
    let authority = text(&registry.authority())?.to_owned();
    registry
        .environment
        .push(("SSL_CERT_FILE".to_owned(), authority));
    registry.done(&upgrade).await?;
    Ok(())
}
