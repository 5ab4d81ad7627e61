//! Who git says it is: the job's token, over HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::server::Server;
use super::*;

/// Projects behind a server that asks for the job's token, `group/project` with a submodule named by SSH.
fn served() -> (Origin, Server) {
    let origin = Origin::new();
    let part = origin.home().join("group/part");
    repository_at(&part, "part");
    git(
        &origin.path,
        &["submodule", "--quiet", "add", "../part", "part"],
    );
    let by_ssh = "git@gitlab.example.com:group/part.git";
    git(
        &origin.path,
        &["config", "-f", ".gitmodules", "submodule.part.url", by_ssh],
    );
    git(&origin.path, &["add", "."]);
    git(&origin.path, &["commit", "-qm", "with a part"]);
    let root = origin.home().join("served");
    for name in ["project", "part"] {
        let from = origin.home().join("group").join(name);
        let to = root.join(format!("group/{name}.git"));
        git(
            origin.home(),
            &[
                "clone",
                "-q",
                "--bare",
                from.to_str().unwrap(),
                to.to_str().unwrap(),
            ],
        );
        git(&to, &["update-server-info"]);
    }
    let server = Server::start(&root);
    (origin, server)
}

#[test]
fn the_server_gets_the_job_s_token_and_no_file_does() {
    let (origin, server) = served();
    for shell in shells() {
        let mut job = origin.job(
            0,
            &[
                ("GIT_SUBMODULE_STRATEGY", "recursive"),
                ("GIT_SUBMODULE_FORCE_HTTPS", "true"),
                ("CI_SERVER_HOST", "gitlab.example.com"),
                ("CI_PROJECT_PATH", "group/project"),
            ],
        );
        let address = server
            .address
            .replace("http://", "http://gitlab-ci-token:job-token@");
        job["git_info"]["repo_url"] = format!("{address}/group/project.git").into();
        let (seen, project) = origin.bring(&shell, &job);
        assert!(!seen.contains("failed"), "{seen}");
        assert_eq!(read(project.join("part/file")), "part");
        assert!(
            seen.contains("Gitaly correlation ID: fleetling-job-7\n"),
            "{seen}"
        );
        assert!(server.heard("X-Gitaly-Correlation-ID: fleetling-job-7"));
        let url = git(&project, &["remote", "get-url", "origin"]);
        assert_eq!(url, format!("{}/group/project.git", server.address));
        let found = Command::new("grep")
            .args(["-rl", "-e", "job-token", "-e", "gitlab-ci-token:"])
            .arg(origin.home().join("builds"))
            .output()
            .unwrap();
        assert_eq!(text(&found.stdout), "", "{shell:?}");

        // The user's own git, later and in another container, knows the way too.
        let (_, prepared) = prepared(origin.home(), &job);
        let mut own = Body::default();
        own.exports(&prepared.variables)
            .line(format!("cd {}", quote(&prepared.directories.project)))
            .line("git fetch --quiet origin && git -C part fetch --quiet origin && echo fetched");
        let (seen, _) = run(&shell, &own, &prepared, origin.home());
        assert!(seen.ends_with("fetched\n"), "{seen}");
        origin.forget();
    }
}

#[test]
fn without_tokens_in_addresses_git_knows_the_way_outside_of_the_project_too() {
    let (origin, server) = served();
    for shell in shells() {
        for strategy in ["fetch", "none"] {
            let mut job = origin.job(
                0,
                &[
                    ("FF_GIT_URLS_WITHOUT_TOKENS", "true"),
                    ("GIT_STRATEGY", strategy),
                ],
            );
            job["git_info"]["repo_url"] = format!("{}/group/project.git", server.address).into();
            origin.bring(&shell, &job);
            let (_, prepared) = prepared(origin.home(), &job);
            let mut own = Body::default();
            own.exports(&prepared.variables)
                .line(format!("cd {}", quote(&prepared.directories.builds)))
                .line(format!(
                    "git clone --quiet {}/group/part.git other",
                    server.address
                ))
                .line("git config protocol.file.allow");
            let (seen, _) = run(&shell, &own, &prepared, origin.home());
            assert!(
                seen.contains("\nalways\n"),
                "the user's own settings hold: {seen}"
            );
            assert_eq!(read(origin.home().join("builds/other/file")), "part");
            origin.forget();
        }
    }
    let own = read(origin.home().join(".gitconfig"));
    assert!(!own.contains("include"), "{own}");
}

#[test]
fn another_address_by_the_operator_and_a_server_s_certificates_reach_git() {
    let (origin, server) = served();
    let mut job = origin.job(
        0,
        &[
            ("CI_PROJECT_PATH", "group/project"),
            ("FF_USE_GITALY_CORRELATION_ID", "false"),
            ("FF_USE_GIT_BUNDLE_URIS", "false"),
            ("FF_USE_GIT_PROACTIVE_AUTH", "true"),
            ("CI_SERVER_TLS_CERT_FILE", "/cert.pem"),
        ],
    );
    let ca = json!({ "key": "CI_SERVER_TLS_CA_FILE", "value": "a certificate", "file": true });
    job["variables"].as_array_mut().unwrap().push(ca);
    job["git_info"]["repo_url"] = "https://gitlab.example.com/group/project.git".into();
    for shell in shells() {
        let (mut work, mut prepared) = prepared(origin.home(), &job);
        let mut runner = (*work.runner).clone();
        runner.clone_url = Some(server.address.clone());
        work.runner = runner.into();
        prepared.settings.submodules = crate::job::settings::Submodules::None;
        let body = get_sources(&work, &prepared);
        let (seen, project) = run(&shell, &body, &prepared, origin.home());
        assert!(!seen.contains("Gitaly"), "{seen}");
        let of = |key: &str, host: &str| git(&project, &["config", "--get-urlmatch", key, host]);
        for host in [server.address.as_str(), "https://gitlab.example.com"] {
            let tmp = &prepared.directories.tmp;
            assert_eq!(
                of("http.sslCAInfo", host),
                format!("{tmp}/CI_SERVER_TLS_CA_FILE")
            );
            assert_eq!(of("http.sslCert", host), "/cert.pem");
            assert_eq!(of("http.proactiveAuth", host), "basic");
            assert_eq!(of("credential.username", host), "gitlab-ci-token");
        }
        let all = git(&project, &["config", "--list"]);
        assert!(
            !all.contains("extraheader") && !all.contains("bundleuri"),
            "{all}"
        );
        origin.forget();
    }
}
