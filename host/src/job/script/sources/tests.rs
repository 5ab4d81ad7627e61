//! The sources, brought by real git and every shell that is here, from files and over HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::job::plan;
use crate::job::script::steps;
use crate::job::script::tests::{PLAIN, feed, prepared, shells, text};
use server::Server;

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", text(&out.stderr));
    text(&out.stdout).trim().into()
}

/// A home directory with a project in it, `group/project`; its `file` says `one`.
struct Origin {
    home: tempfile::TempDir,
    path: PathBuf,
}

impl Origin {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("group/project");
        repository_at(&path, "one");
        // What a shell of these tests reads as the user's own configuration.
        std::fs::write(
            home.path().join(".gitconfig"),
            "[protocol \"file\"]\n\tallow = always\n",
        )
        .unwrap();
        Self { home, path }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn commit(&self, content: &str) -> String {
        std::fs::write(self.path.join("file"), content).unwrap();
        git(&self.path, &["add", "."]);
        git(&self.path, &["commit", "-qm", content]);
        git(&self.path, &["rev-parse", "HEAD"])
    }

    fn head(&self) -> String {
        git(&self.path, &["rev-parse", "HEAD"])
    }

    /// A job of this repository's end.
    fn job(&self, depth: u32, variables: &[(&str, &str)]) -> Value {
        let variables: Vec<_> = variables
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        json!({
            "allow_git_fetch": true,
            "variables": variables,
            "git_info": {
                "repo_url": format!("file://{}", self.path.display()), "sha": self.head(), "ref": "main",
                "refspecs": ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"], "depth": depth,
            },
        })
    }

    /// Runs the sources stage, and answers what was printed and where the project is.
    fn bring(&self, shell: &[&str], job: &Value) -> (String, PathBuf) {
        let (work, prepared) = prepared(self.home(), job);
        run(
            shell,
            &get_sources(&work, &prepared),
            &prepared,
            self.home(),
        )
    }

    /// Runs the last stage.
    fn clean_up(&self, shell: &[&str], job: &Value) -> (String, PathBuf) {
        let (work, prepared) = prepared(self.home(), job);
        run(
            shell,
            &steps::cleanup(&work, &prepared),
            &prepared,
            self.home(),
        )
    }

    fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.home().join("builds"));
    }
}

fn repository_at(path: &Path, content: &str) {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q"]);
    std::fs::write(path.join("file"), content).unwrap();
    git(path, &["add", "."]);
    git(path, &["commit", "-qm", content]);
}

fn run(shell: &[&str], body: &Body, prepared: &plan::Prepared, home: &Path) -> (String, PathBuf) {
    let out = feed(shell, &body.script("m", PLAIN), home);
    let seen = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{shell:?} {seen}");
    (seen, prepared.directories.project.clone().into())
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn sources_are_cloned_fetched_again_and_cleaned() {
    let origin = Origin::new();
    git(&origin.path, &["tag", "v1"]);
    for shell in shells() {
        for (round, depth) in [20, 0].into_iter().enumerate() {
            let mut job = origin.job(depth, &[]);
            job["hooks"] = json!([
                { "name": "pre_get_sources_script", "script": ["echo before"] },
                { "name": "post_get_sources_script", "script": ["cat file"] },
            ]);
            let (seen, project) = origin.bring(&shell, &job);
            assert!(seen.contains("before\n") && seen.contains("one"), "{seen}");
            assert!(seen.contains("as detached HEAD (ref is main)..."), "{seen}");
            assert_eq!(
                seen.contains("Created fresh repository."),
                round == 0 || depth == 0,
                "{seen}"
            );
            assert_eq!(
                git(&project, &["rev-parse", "HEAD", "v1"]).lines().next(),
                Some(&*origin.head())
            );
            let untracked = project.join("untracked");
            assert!(!untracked.exists(), "git clean ran");
            std::fs::write(untracked, "").unwrap();
            std::fs::write(project.join(".git/index.lock"), "").unwrap();
            std::fs::write(project.join(".git/refs/heads/gone.lock"), "").unwrap();
            // What would run, or be believed, in the next job.
            std::fs::create_dir_all(project.join(".git/hooks")).unwrap();
            std::fs::write(
                project.join(".git/hooks/post-checkout"),
                "#!/bin/sh\nexit 1",
            )
            .unwrap();
            git(&project, &["config", "core.hooksPath", "/nowhere"]);
        }
        origin.forget();
    }
}

#[test]
fn a_shallow_repository_is_deepened_when_a_job_wants_all_of_it() {
    let origin = Origin::new();
    origin.commit("two");
    origin.commit("three");
    for shell in shells() {
        for (depth, commits) in [(1, "1"), (2, "2"), (0, "3"), (0, "3")] {
            let (seen, project) = origin.bring(&shell, &origin.job(depth, &[]));
            assert_eq!(
                git(&project, &["rev-list", "--count", "HEAD"]),
                commits,
                "{seen}"
            );
            assert_eq!(
                seen.contains(&format!("with git depth set to {depth}...")),
                depth > 0
            );
        }
        origin.forget();
    }
}

#[test]
fn clean_fetch_and_checkout_do_as_the_job_says() {
    let origin = Origin::new();
    for shell in shells() {
        let (_, project) = origin.bring(&shell, &origin.job(0, &[]));
        let keep = || {
            for name in ["kept", "gone"] {
                std::fs::write(project.join(name), "").unwrap();
            }
        };
        keep();
        origin.bring(
            &shell,
            &origin.job(0, &[("GIT_CLEAN_FLAGS", "-ffdx -e kept")]),
        );
        assert!(project.join("kept").exists() && !project.join("gone").exists());
        keep();
        origin.bring(&shell, &origin.job(0, &[("GIT_CLEAN_FLAGS", "none")]));
        assert!(project.join("gone").exists());
        let (seen, _) = origin.bring(
            &shell,
            &origin.job(0, &[("GIT_FETCH_EXTRA_FLAGS", "--verbose")]),
        );
        assert!(seen.contains("origin/main"), "{seen}");

        // The commit comes, the files stay as they are.
        let before = origin.head();
        let later = origin.commit(&format!("later for {shell:?}"));
        let (seen, _) = origin.bring(&shell, &origin.job(0, &[("GIT_CHECKOUT", "false")]));
        assert!(seen.contains("Skipping Git checkout"), "{seen}");
        assert_eq!(git(&project, &["rev-parse", "HEAD"]), before);
        git(&project, &["cat-file", "-e", &later]);

        std::fs::write(project.join("kept"), "").unwrap();
        let (seen, _) = origin.bring(&shell, &origin.job(0, &[("GIT_STRATEGY", "none")]));
        assert!(seen.contains("Skipping Git repository setup"), "{seen}");
        assert!(project.join("kept").exists() && !seen.contains("Fetching"));
        origin.bring(&shell, &origin.job(0, &[("GIT_STRATEGY", "clone")]));
        assert!(!project.join("kept").exists());
        let (_, empty) = origin.bring(&shell, &origin.job(0, &[("GIT_STRATEGY", "empty")]));
        assert_eq!(empty, PathBuf::from(format!("{}-empty", project.display())));
        assert_eq!(std::fs::read_dir(empty).unwrap().count(), 0);
        origin.forget();
    }
}

#[test]
fn a_custom_clone_path_is_where_the_sources_go() {
    let origin = Origin::new();
    for shell in shells() {
        let job = origin.job(
            0,
            &[(
                "GIT_CLONE_PATH",
                "$CI_BUILDS_DIR/my place/$CI_CONCURRENT_ID",
            )],
        );
        let (_, project) = origin.bring(&shell, &job);
        assert_eq!(project, origin.home().join("builds/my place/4"));
        assert_eq!(read(project.join("file")), "one");
        origin.forget();
    }
}

#[test]
fn before_another_try_nothing_of_the_last_one_is_left() {
    let origin = Origin::new();
    for shell in shells() {
        let (_, project) = origin.bring(&shell, &origin.job(0, &[]));
        std::fs::write(project.join("rubbish"), "").unwrap();
        let (_, prepared) = prepared(origin.home(), &origin.job(0, &[]));
        let clear = clear_worktree(&prepared.directories);
        run(&shell, &clear, &prepared, origin.home());
        assert_eq!(
            std::fs::read_dir(&project).unwrap().count(),
            1,
            ".git alone"
        );
        origin.forget();
        run(&shell, &clear, &prepared, origin.home());
    }
}

/// A project with a submodule that has one itself, and one of another name.
fn nested() -> Origin {
    let origin = Origin::new();
    let at = |name: &str| origin.home().join("group").join(name);
    for name in ["inner", "outer", "other"] {
        repository_at(&at(name), name);
    }
    git(
        &at("outer"),
        &["submodule", "--quiet", "add", "../inner", "inner"],
    );
    git(&at("outer"), &["commit", "-qm", "with inner"]);
    for name in ["outer", "other"] {
        git(
            &origin.path,
            &["submodule", "--quiet", "add", &format!("../{name}"), name],
        );
    }
    git(&origin.path, &["commit", "-qm", "with submodules"]);
    origin
}

#[test]
fn submodules_come_as_deep_as_asked_and_are_clean_again_for_the_next_job() {
    let origin = nested();
    for shell in shells() {
        let with = |variables: &[(&str, &str)]| origin.bring(&shell, &origin.job(0, variables));
        let (seen, project) = with(&[]);
        assert!(seen.contains("Skipping Git submodules setup"), "{seen}");
        assert!(!project.join("outer/file").exists());

        let (seen, _) = with(&[("GIT_SUBMODULE_STRATEGY", "normal")]);
        assert!(
            seen.contains("Updating/initializing submodules..."),
            "{seen}"
        );
        assert_eq!(read(project.join("outer/file")), "outer");
        assert!(!project.join("outer/inner/file").exists());

        let recursive = ("GIT_SUBMODULE_STRATEGY", "recursive");
        for round in 0..2 {
            let (seen, _) = with(&[recursive]);
            assert!(!seen.contains("failed"), "{round}: {seen}");
            assert_eq!(read(project.join("outer/inner/file")), "inner");
            assert!(!project.join("outer/rubbish").exists());
            let included = git(&project.join("outer/inner"), &["config", "include.path"]);
            assert!(
                included.ends_with(".tmp/.gitlab-runner.ext.conf"),
                "{included}"
            );
            std::fs::write(project.join("outer/rubbish"), "").unwrap();
            std::fs::write(project.join("outer/inner/file"), "changed").unwrap();
            let modules = project.join(".git/modules/outer");
            std::fs::write(modules.join("index.lock"), "").unwrap();
            std::fs::write(modules.join("modules/inner/HEAD.lock"), "").unwrap();
        }
        origin.forget();

        let paths = ("GIT_SUBMODULE_PATHS", "outer");
        let (_, project) = with(&[recursive, paths]);
        assert!(project.join("outer/inner/file").exists() && !project.join("other/file").exists());
        origin.forget();
        let (_, project) = with(&[recursive, ("GIT_SUBMODULE_PATHS", ":(exclude)outer")]);
        assert!(!project.join("outer/file").exists() && project.join("other/file").exists());
        origin.forget();
    }
}

#[test]
fn submodules_have_their_own_depth_and_flags() {
    let origin = nested();
    let outer = origin.home().join("group/outer");
    std::fs::write(outer.join("file"), "newer").unwrap();
    git(&outer, &["commit", "-qam", "newer"]);
    // A depth needs a transport: of a path git says that it ignores it.
    let url = format!("file://{}", outer.display());
    git(
        &origin.path,
        &["config", "-f", ".gitmodules", "submodule.outer.url", &url],
    );
    git(&origin.path, &["commit", "-qam", "by address"]);
    for shell in shells() {
        let with = |flags: &str, depth: &str| {
            let variables = [
                ("GIT_SUBMODULE_STRATEGY", "normal"),
                ("GIT_SUBMODULE_UPDATE_FLAGS", flags),
                ("GIT_SUBMODULE_DEPTH", depth),
            ];
            origin.forget();
            let (_, project) = origin.bring(&shell, &origin.job(0, &variables));
            let outer = project.join("outer");
            let commits = git(&outer, &["rev-list", "--count", "HEAD"]);
            (read(outer.join("file")), commits)
        };
        assert_eq!(with("--jobs 2", "1"), ("outer".into(), "1".into()));
        assert_eq!(with("--remote", "0"), ("newer".into(), "3".into()));
    }
}

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
                seen.ends_with("always\n"),
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

#[test]
fn large_files_come_in_one_go_behind_the_checkout_unless_the_job_wants_none() {
    let origin = nested();
    // Git finds its extensions in the path.
    let lfs = origin.home().join("bin/git-lfs");
    std::fs::create_dir_all(lfs.parent().unwrap()).unwrap();
    std::fs::write(
        &lfs,
        "#!/bin/sh\necho \"lfs $* in ${PWD##*/}, smudge skipped: $GIT_LFS_SKIP_SMUDGE\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&lfs, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for shell in shells() {
        let submodules = ("GIT_SUBMODULE_STRATEGY", "normal");
        let (seen, _) = origin.bring(&shell, &origin.job(0, &[submodules]));
        assert!(
            seen.contains("lfs pull in project, smudge skipped: 1\n"),
            "{seen}"
        );
        assert!(
            seen.contains("lfs pull in outer, smudge skipped: 1\n"),
            "{seen}"
        );
        let skip = ("GIT_LFS_SKIP_SMUDGE", "true");
        let (seen, _) = origin.bring(&shell, &origin.job(0, &[submodules, skip]));
        assert!(!seen.contains("lfs"), "{seen}");
        origin.forget();
    }
}

#[test]
fn a_native_clone_has_the_job_s_commit_whatever_its_branch_has_become() {
    let origin = Origin::new();
    let old = origin.head();
    git(&origin.path, &["update-ref", "refs/pipelines/5", &old]);
    origin.commit("two");
    for shell in shells() {
        for (reference, sha, depth) in [
            ("main", origin.head(), 1),
            ("main", old.clone(), 1),
            ("refs/pipelines/5", old.clone(), 0),
        ] {
            let mut job = origin.job(
                depth,
                &[
                    ("GIT_STRATEGY", "clone"),
                    ("FF_USE_GIT_NATIVE_CLONE", "true"),
                    (
                        "GIT_CLONE_EXTRA_FLAGS",
                        "--origin=origin --config=lab.seen=yes",
                    ),
                ],
            );
            job["git_info"]["ref"] = reference.into();
            job["git_info"]["sha"] = sha.clone().into();
            job["git_info"]["refspecs"] = json!([format!("+{sha}:refs/remotes/origin/job")]);
            let (seen, project) = origin.bring(&shell, &job);
            assert_eq!(git(&project, &["rev-parse", "HEAD"]), sha, "{seen}");
            if reference == "main" {
                assert!(!seen.contains("Created fresh repository."), "{seen}");
                assert_eq!(git(&project, &["config", "lab.seen"]), "yes");
            }
        }
        origin.forget();
    }
}

#[test]
fn cleaning_up_leaves_no_secret_and_with_the_flag_no_trace_of_the_job() {
    let origin = nested();
    let submodules = ("GIT_SUBMODULE_STRATEGY", "recursive");
    let flag = ("FF_ENABLE_JOB_CLEANUP", "true");
    for shell in shells() {
        let job = origin.job(0, &[submodules]);
        let (_, project) = origin.bring(&shell, &job);
        std::fs::write(project.join("built"), "").unwrap();
        origin.clean_up(&shell, &job);
        assert!(project.join("built").exists());
        assert!(
            !project.join(".git/config").exists(),
            "an include of a removed file"
        );
        let tmp = PathBuf::from(format!("{}.tmp", project.display()));
        let left: Vec<_> = std::fs::read_dir(tmp)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["git-template"]);

        let job = origin.job(0, &[submodules, flag]);
        origin.bring(&shell, &job);
        for name in ["built", "outer/built", "outer/inner/built"] {
            std::fs::write(project.join(name), "").unwrap();
        }
        std::fs::write(project.join("file"), "changed").unwrap();
        origin.clean_up(&shell, &job);
        for name in ["built", "outer/built", "outer/inner/built"] {
            assert!(!project.join(name).exists(), "{name}");
        }
        assert_eq!(read(project.join("file")), "one");

        let none = origin.job(0, &[flag, ("GIT_STRATEGY", "none")]);
        let (seen, _) = origin.clean_up(&shell, &none);
        assert!(seen.contains("not cleaned") && project.exists(), "{seen}");
        origin.clean_up(&shell, &origin.job(0, &[flag, ("GIT_STRATEGY", "clone")]));
        assert!(!project.exists());
        origin.forget();
    }
}

#[test]
fn the_operator_may_keep_git_s_configuration() {
    let origin = Origin::new();
    for shell in shells() {
        for _ in 0..2 {
            let (mut work, prepared) = prepared(origin.home(), &origin.job(0, &[]));
            let mut runner = (*work.runner).clone();
            runner.clean_git_config = Some(false);
            work.runner = runner.into();
            let (_, project) = run(
                &shell,
                &get_sources(&work, &prepared),
                &prepared,
                origin.home(),
            );
            git(&project, &["config", "--add", "include.path", "/another"]);
            let included = git(&project, &["config", "--get-all", "include.path"]);
            let ours = included.lines().filter(|line| line.ends_with("ext.conf"));
            assert_eq!(ours.count(), 1, "{included}");
            run(
                &shell,
                &steps::cleanup(&work, &prepared),
                &prepared,
                origin.home(),
            );
            assert!(project.join(".git/config").exists());
        }
        origin.forget();
    }
}
