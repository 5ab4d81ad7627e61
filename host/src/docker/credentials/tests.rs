//! Which login an image gets, and what is told of sources that are of no use.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;

use super::*;

#[derive(Default)]
struct Read(Mutex<Vec<String>>);

impl Notes for Read {
    fn info(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn warn(&self, line: &str) {
        self.info(&format!("WARNING: {line}"));
    }
}

fn pair(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// A variable with one login a key; the user's name tells which it is.
fn variable(logins: &[(&str, &str)]) -> Source {
    Source::Variable(config(logins).parse().unwrap())
}

fn config(logins: &[(&str, &str)]) -> String {
    let auths: serde_json::Map<_, _> = logins
        .iter()
        .map(|(key, user)| {
            let entry = serde_json::json!({"auth": pair(user, "pa:ss")});
            ((*key).to_owned(), entry)
        })
        .collect();
    serde_json::json!({ "auths": auths }).to_string()
}

fn payload(registry: &str, username: &str) -> Source {
    Source::Payload(vec![RegistryCredential {
        registry: registry.into(),
        login: Login::Password {
            username: username.into(),
            password: "p".to_owned().into(),
        },
    }])
}

fn shown(chosen: &Chosen) -> String {
    match &chosen.login {
        Login::Password { username, password } => {
            format!(
                "{username}:{} from {}",
                password.expose_secret(),
                chosen.source
            )
        }
        Login::Identity(token) => format!("{} from {}", token.expose_secret(), chosen.source),
    }
}

/// The login and all that was noted.
async fn chosen(image: &str, sources: &[Source], home: Option<&Path>) -> (String, Vec<String>) {
    let read = Arc::new(Read::default());
    let notes: Arc<dyn Notes> = read.clone();
    let chosen = for_image(image, sources, home, &notes).await;
    let login = chosen.as_ref().map_or_else(|| "none".to_owned(), shown);
    let noted = read.0.lock().unwrap().clone();
    (login, noted)
}

#[tokio::test]
async fn the_longest_path_gives_the_login_and_of_equal_ones_the_first_source() {
    let sources = [
        variable(&[
            ("r.example:5000", "host"),
            ("r.example:5000/group/project", "project"),
            ("https://index.docker.io/v1/", "hub"),
            ("https://old.example/v1/", "old"),
        ]),
        Source::Home,
        Source::Payload(
            [
                ("r.example:5000", "never"),
                ("r.example:5000/group", "group"),
                ("GitLab.example", "gitlab"),
            ]
            .iter()
            .flat_map(|(key, user)| match payload(key, user) {
                Source::Payload(all) => all,
                _ => Vec::new(),
            })
            .collect(),
        ),
    ];
    for (image, expected) in [
        ("r.example:5000/app", "host:pa:ss from $DOCKER_AUTH_CONFIG"),
        (
            "r.example:5000/groupie/app:1",
            "host:pa:ss from $DOCKER_AUTH_CONFIG",
        ),
        (
            "r.example:5000/group/app",
            "group:p from job payload (GitLab Registry)",
        ),
        (
            "r.example:5000/group/project/app:1",
            "project:pa:ss from $DOCKER_AUTH_CONFIG",
        ),
        (
            "r.example:5000/group/project@sha256:00",
            "project:pa:ss from $DOCKER_AUTH_CONFIG",
        ),
        ("busybox", "hub:pa:ss from $DOCKER_AUTH_CONFIG"),
        ("old.example/app", "old:pa:ss from $DOCKER_AUTH_CONFIG"),
        (
            "gitlab.example/app",
            "gitlab:p from job payload (GitLab Registry)",
        ),
        ("elsewhere.example/app", "none"),
        ("r.example/app", "none"),
    ] {
        let (login, noted) = chosen(image, &sources, None).await;
        assert_eq!(login, expected, "{image}");
        assert!(noted.is_empty(), "{noted:?}");
    }
}

/// A home folder with one file.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn with(file: &str, text: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        Self { home }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

#[tokio::test]
async fn the_manager_s_own_file_stands_between_variable_and_payload() {
    let text = config(&[("both.example", "home"), ("own.example", "home")]);
    for file in [".docker/config.json", ".dockercfg"] {
        let place = Place::with(file, &text);
        let sources = [
            variable(&[("both.example", "variable")]),
            Source::Home,
            payload("own.example", "payload"),
        ];
        let home = Some(place.path());
        let (login, _) = chosen("both.example/a", &sources, home).await;
        assert_eq!(login, "variable:pa:ss from $DOCKER_AUTH_CONFIG");
        let (login, _) = chosen("own.example/a", &sources, home).await;
        let from = place.file(file).display().to_string();
        assert_eq!(login, format!("home:pa:ss from {from}"));
    }
}

#[tokio::test]
async fn a_source_that_is_of_no_use_is_said_and_the_next_is_asked() {
    let text = r#"{"auths": {"r.example": {"auth": "c2VjcmV0"}}}"#;
    let place = Place::with(".docker/config.json", text);
    let sources = [Source::Home, payload("r.example", "payload")];
    let (login, noted) = chosen("r.example/a", &sources, Some(place.path())).await;
    assert_eq!(login, "payload:p from job payload (GitLab Registry)");
    let file = place.file(".docker/config.json").display().to_string();
    assert_eq!(
        noted,
        [format!(
            "WARNING: Failed to resolve credentials from {file}. Credentials from this source will not be used."
        )]
    );
}

#[tokio::test]
async fn a_helper_that_is_not_there_drops_its_source_alone() {
    for text in [
        r#"{"credHelpers": {"r.example": "fleetling-is-not-there"}}"#,
        r#"{"credsStore": "fleetling-is-not-there"}"#,
        r#"{"credHelpers": {"r.example": "../evil"}}"#,
    ] {
        let place = Place::with(".docker/config.json", text);
        let sources = [Source::Home, payload("r.example", "payload")];
        let (login, noted) = chosen("r.example/a", &sources, Some(place.path())).await;
        assert_eq!(
            login, "payload:p from job payload (GitLab Registry)",
            "{text}"
        );
        assert_eq!(noted.len(), 1, "{noted:?}");
    }
    // Nobody asks a helper for what its key does not cover.
    let text = r#"{"credHelpers": {"other.example": "fleetling-is-not-there"}}"#;
    let place = Place::with(".docker/config.json", text);
    let (login, noted) = chosen("r.example/a", &[Source::Home], Some(place.path())).await;
    assert_eq!((login.as_str(), noted.len()), ("none", 0));
}

#[test]
fn a_configuration_is_read_as_docker_writes_it() {
    let text = format!(
        r#"{{"auths": {{
            "a.example": {{"auth": "{}"}},
            "b.example": {{"username": "u", "password": "p"}},
            "c.example": {{"auth": "{}", "identitytoken": "refresh-me"}},
            "empty.example": {{}}}},
           "HttpHeaders": {{"User-Agent": "x"}}, "credsStore": "pass",
           "credHelpers": {{"d.example": "ecr-login", "e.example": "ecr-login"}}}}"#,
        pair("user", "pa:ss").trim_end_matches('='),
        pair("user", ""),
    );
    let mut config: DockerConfig = text.parse().unwrap();
    let registries: Vec<_> = config.written.iter().map(|c| c.registry.as_str()).collect();
    assert_eq!(registries, ["a.example", "b.example", "c.example"]);
    assert!(
        matches!(&config.written[2].login, Login::Identity(token) if token.expose_secret() == "refresh-me")
    );
    assert_eq!(config.take_helpers(), ["ecr-login", "pass"]);
    assert!(config.take_helpers().is_empty());
}

#[test]
fn what_is_no_configuration_is_told_without_what_it_holds() {
    let error = |text: &str| text.parse::<DockerConfig>().unwrap_err().to_string();
    insta::assert_snapshot!(error("{\"auths\":\n\"hush\"}"), @"it is no Docker configuration in JSON: line 2, column 6");
    insta::assert_snapshot!(error(r#"{"auths": {"r.example": {"auth": "aHVzaA=="}}}"#), @r#"auths."r.example".auth is no base64 of user:password"#);
    let config: DockerConfig = config(&[("r.example", "user")]).parse().unwrap();
    assert!(!format!("{config:?}").contains("pa:ss"), "{config:?}");
}
