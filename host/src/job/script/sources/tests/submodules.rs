//! Submodules and large files, and what of them is cleaned.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

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
    let recursive = ("GIT_SUBMODULE_STRATEGY", "recursive");
    for shell in shells() {
        let with = |variables: &[(&str, &str)]| origin.bring(&shell, &origin.job(0, variables));
        let (seen, project) = with(&[("GIT_SUBMODULE_STRATEGY", "normal")]);
        assert!(
            seen.contains("Updating/initializing submodules..."),
            "{seen}"
        );
        assert_eq!(read(project.join("outer/file")), "outer");
        assert!(!project.join("outer/inner/file").exists());
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
    }
}

#[test]
fn only_the_submodules_that_are_asked_for_come() {
    let origin = nested();
    let shell = &shells()[0];
    let with = |variables: &[(&str, &str)]| {
        origin.forget();
        origin.bring(shell, &origin.job(0, variables))
    };
    let (seen, project) = with(&[]);
    assert!(seen.contains("Skipping Git submodules setup"), "{seen}");
    let there = |name: &str| project.join(name).join("file").exists();
    assert!(!there("outer"));
    let recursive = ("GIT_SUBMODULE_STRATEGY", "recursive");
    with(&[recursive, ("GIT_SUBMODULE_PATHS", "outer")]);
    assert!(there("outer/inner") && !there("other"));
    with(&[recursive, ("GIT_SUBMODULE_PATHS", ":(exclude)outer")]);
    assert!(!there("outer") && there("other"));
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
fn cleaning_up_reaches_submodules_as_deep_as_they_came() {
    let origin = nested();
    let flag = ("FF_ENABLE_JOB_CLEANUP", "true");
    for shell in shells() {
        for (strategy, places) in [
            ("normal", &["", "outer/", "other/"][..]),
            ("recursive", &["", "outer/", "outer/inner/", "other/"]),
        ] {
            let job = origin.job(0, &[("GIT_SUBMODULE_STRATEGY", strategy), flag]);
            let (_, project) = origin.bring(&shell, &job);
            for place in places {
                std::fs::write(project.join(place).join("built"), "").unwrap();
                std::fs::write(project.join(place).join("file"), "changed").unwrap();
            }
            // Of a git that was killed with the job.
            std::fs::write(project.join(".git/index.lock"), "").unwrap();
            std::fs::write(project.join(".git/modules/outer/index.lock"), "").unwrap();
            origin.clean_up(&shell, &job);
            for place in places {
                assert!(
                    !project.join(place).join("built").exists(),
                    "{strategy} {place}"
                );
                assert_ne!(
                    read(project.join(place).join("file")),
                    "changed",
                    "{strategy} {place}"
                );
            }
            assert!(!project.join(".git/config").exists());
            origin.forget();
        }
    }
}

#[test]
fn flags_for_clean_are_words_of_their_own_in_submodules_too() {
    let origin = nested();
    let recursive = ("GIT_SUBMODULE_STRATEGY", "recursive");
    let places = ["", "outer/", "outer/inner/"];
    for shell in shells() {
        let (_, project) = origin.bring(&shell, &origin.job(0, &[recursive]));
        let names = ["kept", "it's", "gone"];
        // Whether the three are there afterwards, everywhere the same.
        let left = |flags: &str, last: bool| {
            for place in places {
                for name in names {
                    std::fs::write(project.join(place).join(name), "").unwrap();
                }
            }
            let flags = ("GIT_CLEAN_FLAGS", flags);
            let cleanup = ("FF_ENABLE_JOB_CLEANUP", "true");
            match last {
                false => origin.bring(&shell, &origin.job(0, &[recursive, flags])),
                true => origin.clean_up(&shell, &origin.job(0, &[recursive, flags, cleanup])),
            };
            let found = |place: &&str| names.map(|name| project.join(place).join(name).exists());
            let found: Vec<_> = places.iter().map(found).collect();
            assert!(found.iter().all(|here| *here == found[0]), "{found:?}");
            found[0]
        };
        for last in [false, true] {
            // The last stage takes git's configuration away: the sources come first each time.
            origin.bring(&shell, &origin.job(0, &[recursive]));
            assert_eq!(left("-ffdx -e kept -e it's", last), [true, true, false]);
            origin.bring(&shell, &origin.job(0, &[recursive]));
            assert_eq!(left("none", last), [true; 3]);
            origin.bring(&shell, &origin.job(0, &[recursive]));
            assert_eq!(left("-ffdx", last), [false; 3]);
        }
        origin.forget();
    }
}

/// The helper works as root on what it has given to the build container's user.
#[test]
fn cleaning_up_works_in_a_project_that_belongs_to_another_user() {
    let origin = nested();
    let home = origin.home();
    for shell in shells() {
        for everywhere in [false, true] {
            let job = origin.job(
                0,
                &[
                    ("GIT_SUBMODULE_STRATEGY", "recursive"),
                    ("FF_ENABLE_JOB_CLEANUP", "true"),
                    ("FF_GIT_URLS_WITHOUT_TOKENS", &everywhere.to_string()),
                ],
            );
            let (_, project) = origin.bring(&shell, &job);
            for place in ["", "outer/", "outer/inner/"] {
                std::fs::write(project.join(place).join("built"), "").unwrap();
            }
            // As a job may have changed it.
            std::fs::write(project.join(".gitmodules"), "").unwrap();
            // A helper that did not bring the sources knows nothing of what git was told then.
            std::fs::remove_file(home.join(".gitconfig")).unwrap();
            let (work, prepared) = prepared(home, &job);
            let global = format!("{}.tmp/.glr.gconf", project.display());
            let environment = match everywhere {
                true => format!("export GIT_CONFIG_GLOBAL={}\n", quote(&global)),
                false => String::new(),
            };
            let script = steps::cleanup(&work, &prepared).script("m", PLAIN);
            let script =
                format!("export GIT_TEST_ASSUME_DIFFERENT_OWNER=true\n{environment}{script}");
            let out = feed(&shell, &script, home);
            assert!(out.status.success(), "{shell:?} {}", text(&out.stderr));
            for place in ["", "outer/", "outer/inner/"] {
                assert!(!project.join(place).join("built").exists(), "{place}");
            }
            assert!(!Path::new(&global).exists());
            origin.forget();
            allow_files(home);
        }
    }
}

#[test]
fn what_git_was_told_goes_where_cleaning_up_fails_too() {
    let origin = nested();
    let home = origin.home();
    for shell in shells() {
        let job = origin.job(
            0,
            &[
                ("FF_ENABLE_JOB_CLEANUP", "true"),
                ("FF_GIT_URLS_WITHOUT_TOKENS", "true"),
                ("GIT_CLEAN_FLAGS", "--nonsense"),
            ],
        );
        let (_, project) = origin.bring(&shell, &origin.job(0, &[]));
        let global = format!("{}.tmp/.glr.gconf", project.display());
        std::fs::create_dir_all(format!("{}.tmp", project.display())).unwrap();
        std::fs::write(&global, "[http]\nextraHeader = \"s3cret\"\n").unwrap();
        let (work, prepared) = prepared(home, &job);
        let script = steps::cleanup(&work, &prepared).script("m", PLAIN);
        let out = feed(&shell, &script, home);
        assert!(!out.status.success(), "{shell:?}");
        assert!(!Path::new(&global).exists(), "{shell:?}");
        origin.forget();
    }
}
