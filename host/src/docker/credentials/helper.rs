//! Docker's credential helpers: `docker-credential-<name> get` and `list`, programs of the operator's on the manager.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Login;

/// Some helpers ask a cloud.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Helper {
    /// Looked for in `PATH`.
    program: PathBuf,
    /// How long it may think.
    patience: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    /// `name` as Docker's configuration has it.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(format!(
                "{name:?} is no name of a credential helper: write what stands behind docker-credential-"
            ));
        }
        Ok(Self {
            program: PathBuf::from(format!("docker-credential-{name}")),
            patience: PATIENCE,
        })
    }

    /// The login for a registry, as the configuration or the helper itself names it; `None` if it has none.
    pub(super) async fn get(&self, registry: &str) -> Result<Option<Login>, String> {
        let Some(said) = self.ask("get", registry).await? else {
            return Ok(None);
        };
        let answer: Answer = self.parsed(&said)?;
        let secret = answer.secret.into();
        Ok(Some(match answer.username.as_str() {
            "<token>" => Login::Identity(secret),
            _ => Login::Password {
                username: answer.username,
                password: secret,
            },
        }))
    }

    /// The registries it has logins for.
    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let Some(said) = self.ask("list", "").await? else {
            return Ok(Vec::new());
        };
        let users: BTreeMap<String, String> = self.parsed(&said)?;
        Ok(users.into_keys().collect())
    }

    /// Without the parser's words, which may hold the secret.
    fn parsed<'a, T: Deserialize<'a>>(&self, said: &'a [u8]) -> Result<T, String> {
        serde_json::from_slice(said)
            .map_err(|_| format!("{} answers no JSON of a helper's", self.program.display()))
    }

    /// What it prints; `None` where it says, in the words of its protocol, that it has no such login.
    async fn ask(&self, action: &str, input: &str) -> Result<Option<Vec<u8>>, String> {
        let program = self.program.display();
        let asking = async {
            let mut child = Command::new(&self.program)
                .arg(action)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| format!("{program} cannot be run: {e}; is it in PATH?"))?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read its input ends nevertheless, and its answer tells more.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            let output = child.wait_with_output().await;
            output.map_err(|e| format!("{program} was lost: {e}"))
        };
        let output = tokio::time::timeout(self.patience, asking).await;
        let output = output
            .map_err(|_| format!("{program} did not answer within {:?}", self.patience))??;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        if String::from_utf8_lossy(&output.stdout).contains("credentials not found") {
            return Ok(None);
        }
        // Only its complaint: on its standard output it may have begun to write the secret.
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} {action} failed: {}", complaint.trim()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Instant;

    use secrecy::ExposeSecret as _;

    use super::*;

    /// A helper of these lines of shell.
    struct Scripted {
        helper: Helper,
        _folder: tempfile::TempDir,
    }

    fn scripted(script: &str) -> Scripted {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-credential-scripted");
        // By another process: one that is forked here meanwhile would keep the file open, and then it cannot be run.
        let written = std::process::Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#,
            ])
            .arg(&program)
            .arg(script)
            .status()
            .unwrap();
        assert!(written.success());
        let patience = Duration::from_secs(20);
        let helper = Helper { program, patience };
        Scripted {
            helper,
            _folder: folder,
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_in_its_protocol() {
        let script = r#"
            case $1 in
            list) echo '{"r.example": "user", "s.example": "other"}' ;;
            get) read -r registry || true
                 case $registry in
                 r.example) echo '{"ServerURL": "r.example", "Username": "user", "Secret": "pass"}' ;;
                 s.example) echo '{"Username": "<token>", "Secret": "refresh-me"}' ;;
                 *) echo 'credentials not found in native keychain'; exit 1 ;;
                 esac ;;
            esac"#;
        let Scripted { helper, _folder } = &scripted(script);
        assert_eq!(helper.list().await.unwrap(), ["r.example", "s.example"]);
        let login = helper.get("r.example").await.unwrap();
        assert!(matches!(login, Some(Login::Password { username, password })
            if username == "user" && password.expose_secret() == "pass"));
        let login = helper.get("s.example").await.unwrap();
        assert!(
            matches!(login, Some(Login::Identity(token)) if token.expose_secret() == "refresh-me")
        );
        assert!(helper.get("elsewhere").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_helper_cannot_do_is_told_without_the_secret() {
        for (script, expected) in [
            (
                "echo hush; echo locked >&2; exit 3",
                "docker-credential-scripted get failed: locked",
            ),
            (
                "echo '{\"Secret\": hush}'",
                "docker-credential-scripted answers no JSON",
            ),
        ] {
            let Scripted { helper, _folder } = &scripted(script);
            let error = helper.get("r.example").await.unwrap_err();
            assert!(
                error.contains(expected) && !error.contains("hush"),
                "{error}"
            );
        }
        assert!(Helper::named("../evil").is_err() && Helper::named("").is_err());
    }

    #[tokio::test]
    async fn a_helper_that_never_answers_is_ended() {
        let Scripted {
            mut helper,
            _folder,
        } = scripted("exec sleep 600");
        helper.patience = Duration::from_millis(200);
        let begun = Instant::now();
        let error = helper.get("r.example").await.unwrap_err();
        assert!(error.contains("did not answer within 200ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
