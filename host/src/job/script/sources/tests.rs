//! The sources, brought by real git and every shell that is here, from files and over HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod login;
mod server;
mod submodules;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::job::plan;
use crate::job::script::steps;
use crate::job::script::tests::{PLAIN, feed, prepared, shells, text};

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
        allow_files(home.path());
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

/// What a shell of these tests reads as the user's own configuration.
fn allow_files(home: &Path) {
    let text = "[protocol \"file\"]\n\tallow = always\n";
    std::fs::write(home.join(".gitconfig"), text).unwrap();
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
