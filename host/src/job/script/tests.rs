//! The scripts, run for real by every shell that is here: bash, dash and busybox ash must agree.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::job::Work;
use crate::job::plan::{self, Prepared};
use crate::job::tests::work;

/// Debian has bash and dash always; busybox is run where it is.
fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["bash"], vec!["dash"], vec!["busybox", "ash"]];
    all.into_iter()
        .filter(|shell| {
            Path::new("/usr/bin").join(shell[0]).exists()
                || Path::new("/bin").join(shell[0]).exists()
        })
        .collect()
}

fn feed(shell: &[&str], script: &str, home: &Path) -> Output {
    let file = home.join("script");
    std::fs::write(&file, script).unwrap();
    Command::new(shell[0])
        .args(&shell[1..])
        .env("HOME", home)
        .env_remove("CI_JOB_TOKEN")
        .stdin(Stdio::from(std::fs::File::open(file).unwrap()))
        .output()
        .unwrap()
}

/// A job whose builds directory is `home`.
fn prepared(home: &Path, parts: &Value) -> (Work, Prepared) {
    let mut work = work(parts);
    let mut runner = (*work.runner).clone();
    runner.builds_dir = home.join("builds").to_str().unwrap().into();
    work.runner = runner.into();
    let prepared = plan::prepare(&work).unwrap();
    (work, prepared)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn at_least_two_kinds_of_shell_are_here() {
    assert!(shells().len() >= 2, "these tests compare shells");
}

#[test]
fn a_script_begins_with_its_mark_and_keeps_every_character() {
    let home = tempfile::tempdir().unwrap();
    let odd = "a'b\"c$HOME`x`\\n\t!é\n%s line two";
    let mut body = Body::default();
    body.line(format!("export ODD={}", quote(odd)))
        .line("printf '%s|' \"$ODD\"")
        .print(odd);
    body.commands(&["true", "", "for i in 1 2; do\n  printf \"i$i \"\ndone"])
        .line("read -r x || echo eof");
    for shell in shells() {
        let out = feed(&shell, &body.script("mark-1", false), home.path());
        let expected = format!(
            "mark-1\n{odd}|{odd}\n\x1b[32;1m$ true\x1b[0;m\n\n\
             \x1b[32;1m$ for i in 1 2; do # collapsed multi-line command\x1b[0;m\ni1 i2 eof\n"
        );
        assert_eq!(
            (text(&out.stdout), out.status.code()),
            (expected, Some(0)),
            "{shell:?}"
        );
    }
}

#[test]
fn a_failing_command_ends_the_script_with_its_code() {
    let home = tempfile::tempdir().unwrap();
    let cases: [(&str, i32); 4] = [
        ("(exit 42)", 42),
        ("false", 1),
        ("exit 9", 9),
        ("no_such_command_here", 127),
    ];
    for shell in shells() {
        for (command, code) in cases {
            let mut body = Body::default();
            body.line(command).line("echo not reached");
            let out = feed(&shell, &body.script("mark", false), home.path());
            assert_eq!(out.status.code(), Some(code), "{shell:?} {command}");
            assert_eq!(text(&out.stdout), "mark\n", "{shell:?} {command}");
        }
    }
}

#[test]
fn a_script_cut_anywhere_never_succeeds_after_its_mark_without_its_body() {
    let home = tempfile::tempdir().unwrap();
    let mut body = Body::default();
    body.line("echo 'it is' done");
    let whole = body.script("mark", false);
    for shell in shells() {
        for end in (0..whole.len()).step_by(7) {
            let out = feed(&shell, &whole[..end], home.path());
            let seen = text(&out.stdout);
            let marked = seen.starts_with("mark\n");
            assert!(
                !marked || seen.ends_with("it is done\n"),
                "{shell:?} cut at {end}: {seen}"
            );
        }
    }
}

#[test]
fn variables_files_and_gitlab_env_reach_the_user_s_commands() {
    let home = tempfile::tempdir().unwrap();
    let parts = json!({
        "variables": [{ "key": "PLAIN", "value": "it's" }, { "key": "KEY", "value": "line\n", "file": true },
                      { "key": "1BAD", "value": "x" }],
        "steps": [{ "name": "script", "script": [
            "printf '%s|' \"$PLAIN\" \"$(cat $KEY)\" \"$CI_JOB_STATUS\" \"$LATER\"; pwd",
            "echo \"LATER=from before=$PLAIN\" >> $GITLAB_ENV",
        ] }],
    });
    for shell in shells() {
        let (work, prepared) = prepared(home.path(), &parts);
        let project = &prepared.directories.project;
        std::fs::create_dir_all(project).unwrap();
        let step = &work.payload.steps[0];
        let body = steps::step(step, &prepared.variables, project, &work.runner).unwrap();
        let first = feed(&shell, &body.script("m", false), home.path());
        assert!(first.status.success(), "{shell:?} {}", text(&first.stderr));
        let seen = text(&first.stdout);
        assert!(
            seen.contains(&format!("it's|line|running||{project}\n")),
            "{seen}"
        );
        let second = text(&feed(&shell, &body.script("m", false), home.path()).stdout);
        assert!(second.contains("running|from before=it's|"), "{second}");
        let cleanup = steps::cleanup(&prepared.variables).script("m", false);
        assert!(feed(&shell, &cleanup, home.path()).status.success());
        assert_eq!(
            std::fs::read_dir(prepared.variables.tmp_dir())
                .unwrap()
                .count(),
            0
        );
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", text(&out.stderr));
    text(&out.stdout).trim().into()
}

#[test]
fn sources_are_cloned_fetched_again_and_cleaned() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("group/project");
    std::fs::create_dir_all(&origin).unwrap();
    git(&origin, &["init", "-q"]);
    std::fs::write(origin.join("file"), "one").unwrap();
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-qm", "one"]);
    let sha = git(&origin, &["rev-parse", "HEAD"]);
    for shell in shells() {
        let parts = |depth: u32| {
            json!({
                "allow_git_fetch": true,
                "git_info": {
                    "repo_url": format!("file://{}", origin.display()), "sha": sha, "ref": "main",
                    "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": depth,
                },
                "hooks": [{ "name": "pre_get_sources_script", "script": ["echo before"] },
                          { "name": "post_get_sources_script", "script": ["cat file"] }],
            })
        };
        let mut project = String::new();
        for (round, depth) in [20, 0].into_iter().enumerate() {
            let (work, prepared) = prepared(home.path(), &parts(depth));
            project.clone_from(&prepared.directories.project);
            let script = sources::get_sources(&work, &prepared).script("m", false);
            let out = feed(&shell, &script, home.path());
            assert!(
                out.status.success(),
                "{shell:?} {round}: {}",
                text(&out.stderr)
            );
            let seen = text(&out.stdout);
            assert!(seen.contains("before\n") && seen.contains("one"), "{seen}");
            assert!(seen.contains("as detached HEAD (ref is main)..."), "{seen}");
            assert_eq!(git(Path::new(&project), &["rev-parse", "HEAD"]), sha);
            let untracked = Path::new(&project).join("untracked");
            assert!(!untracked.exists(), "git clean ran");
            std::fs::write(untracked, "").unwrap();
            std::fs::write(Path::new(&project).join(".git/index.lock"), "").unwrap();
        }
        std::fs::remove_dir_all(project).unwrap();
    }
}

#[test]
fn the_job_token_is_in_no_file_and_git_gets_it_from_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let (work, prepared) = prepared(home.path(), &json!({}));
    let mut body = sources::get_sources(&work, &prepared);
    // As far as a machine without network gets: everything up to the fetch.
    let cut = body.text.find("git -c 'http.userAgent").unwrap();
    body.text.truncate(cut);
    body.line("printf 'protocol=https\\nhost=git.example.com\\n\\n' | git credential fill")
        .line("git remote get-url origin");
    for shell in shells() {
        let out = feed(&shell, &body.script("m", false), home.path());
        let seen = text(&out.stdout);
        assert!(out.status.success(), "{shell:?} {}", text(&out.stderr));
        assert!(
            seen.contains("username=gitlab-ci-token\npassword=job-token\n"),
            "{seen}"
        );
        assert!(
            seen.ends_with("https://git.example.com/group/project.git\n"),
            "{seen}"
        );
        let found = Command::new("grep")
            .args(["-rl", "job-token", prepared.directories.builds.as_str()])
            .output()
            .unwrap();
        assert_eq!(text(&found.stdout), "", "{shell:?}");
    }
}
