//! The scripts, run for real by every shell that is here: bash, dash and busybox ash must agree.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::job::Work;
use crate::job::plan::{self, Prepared};
use crate::job::tests::work;

mod ending;

pub(super) const PLAIN: Style = Style {
    sections: false,
    exit_checks: false,
    legacy_eval: false,
    trace: false,
};

/// Debian has bash and dash always. Busybox is run where it is here; `make test` installs it and demands all.
pub(super) fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["bash"], vec!["dash"], vec!["busybox", "ash"]];
    let every = std::env::var_os("FLEETLING_EVERY_SHELL").is_some();
    let is_here = |shell: &[&str]| {
        let places = ["/usr/bin", "/bin", "/usr/local/bin"];
        places
            .iter()
            .any(|place| Path::new(place).join(shell[0]).exists())
    };
    all.into_iter()
        .filter(|shell| {
            let here = is_here(shell);
            assert!(
                here || !every,
                "{} is not installed; run `make setup`",
                shell[0]
            );
            here
        })
        .collect()
}

pub(super) fn feed(shell: &[&str], script: &str, home: &Path) -> Output {
    let file = home.join("script");
    std::fs::write(&file, script).unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new(shell[0])
        .args(&shell[1..])
        .env("HOME", home)
        // Where a test puts programs of its own.
        .env("PATH", format!("{}:{path}", home.join("bin").display()))
        .env_remove("CI_JOB_TOKEN")
        .stdin(Stdio::from(std::fs::File::open(file).unwrap()))
        .output()
        .unwrap()
}

/// A job whose builds directory is `home`.
pub(super) fn prepared(home: &Path, parts: &Value) -> (Work, Prepared) {
    let mut work = work(parts);
    let mut runner = (*work.runner).clone();
    runner.builds_dir = home.join("builds").to_str().unwrap().into();
    work.runner = runner.into();
    let prepared = plan::prepare(&work).unwrap();
    (work, prepared)
}

pub(super) fn text(bytes: &[u8]) -> String {
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
    let commands = ["true", "", "for i in 1 2; do\n  printf \"i$i \"\ndone"];
    body.commands(PLAIN, "script_step", &commands)
        .line("read -r x || echo eof");
    for shell in shells() {
        let out = feed(&shell, &body.script("mark-1", PLAIN), home.path());
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
            let out = feed(&shell, &body.script("mark", PLAIN), home.path());
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
    let whole = body.script("mark", PLAIN);
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
        let body = steps::step(step, &work, &prepared).unwrap();
        let first = feed(&shell, &body.script("m", PLAIN), home.path());
        assert!(first.status.success(), "{shell:?} {}", text(&first.stderr));
        let seen = text(&first.stdout);
        assert!(
            seen.contains(&format!("it's|line|running||{project}\n")),
            "{seen}"
        );
        let second = text(&feed(&shell, &body.script("m", PLAIN), home.path()).stdout);
        assert!(second.contains("running|from before=it's|"), "{second}");
        let cleanup = steps::cleanup(&work, &prepared).script("m", PLAIN);
        assert!(feed(&shell, &cleanup, home.path()).status.success());
        assert_eq!(
            std::fs::read_dir(prepared.variables.tmp_dir())
                .unwrap()
                .count(),
            0
        );
    }
}

/// Text as people and secrets have it, and as a shell could misread it; never NUL, which no variable can hold.
fn any_value() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "'", "\"", "$", "${HOME}", "$(id)", "`id`", "\\", "\\n", "\n", "\r", "\t", "!", "!!", "*",
        "~", "#", ";", "&", "|", "<", ">", "(", ")", "{", "}", "[", "]", "%", "%s", "\x1b[0m",
        "\u{7f}", "é", "ß", "日本", "🦀", "\u{a0}", "\u{feff}", "-n", " ", "  ", "=", "EOF", "\\'",
        "'\\''", "\\x41", "\\0", "\u{1}",
    ])
    .prop_map(str::to_owned);
    let any = "[^\0]{0,6}";
    prop::collection::vec(prop_oneof![3 => odd, 1 => any], 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Plain and file variables, printed lines, and what is handed on by `GITLAB_ENV`.
    #[test]
    fn any_value_survives_every_shell(values in prop::collection::vec(any_value(), 1..12)) {
        let home = tempfile::tempdir().unwrap();
        let variables: Vec<_> = values
            .iter()
            .enumerate()
            .flat_map(|(n, value)| {
                [
                    json!({ "key": format!("PLAIN_{n}"), "value": value, "raw": true }),
                    json!({ "key": format!("FILE_{n}"), "value": value, "raw": true, "file": true }),
                ]
            })
            .collect();
        let (_, prepared) = prepared(home.path(), &json!({ "variables": variables }));
        for shell in shells() {
            let mut body = Body::default();
            body.exports(&prepared.variables);
            let mut expected = b"m\n".to_vec();
            for (n, value) in values.iter().enumerate() {
                // From a process of its own: what is exported, not what the shell thinks.
                body.line(format!("sh -c 'printf \"%s\\0\" \"$PLAIN_{n}\"'"))
                    .line(format!("cat \"$FILE_{n}\""))
                    .print(value)
                    .line(format!("export NEXT={}", quote(value)))
                    .line("printf '%s|' \"$NEXT\"");
                expected.extend(format!("{value}\0{value}{value}\n{value}|").into_bytes());
            }
            let out = feed(&shell, &body.script("m", PLAIN), home.path());
            prop_assert_eq!(text(&out.stderr), "", "{:?}", &shell);
            prop_assert_eq!(
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&expected),
                "{:?}",
                shell
            );
            prop_assert_eq!(out.status.code(), Some(0));
        }
    }

    #[test]
    fn any_line_survives_gitlab_env(value in any_value()) {
        let line = value.replace('\n', "");
        let home = tempfile::tempdir().unwrap();
        let (_, prepared) = prepared(home.path(), &json!({}));
        for shell in shells() {
            let mut write = Body::default();
            write
                .exports(&prepared.variables)
                .line(format!("printf 'NEXT=%s\\n' {} > \"$GITLAB_ENV\"", quote(&line)));
            prop_assert!(feed(&shell, &write.script("m", PLAIN), home.path()).status.success());
            let mut read = Body::default();
            read.exports(&prepared.variables).line("printf '%s' \"$NEXT\"");
            let out = feed(&shell, &read.script("m", PLAIN), home.path());
            prop_assert_eq!(text(&out.stdout), format!("m\n{line}"), "{:?}", shell);
        }
    }
}

#[test]
fn a_multi_line_command_is_shown_whole_in_a_folded_section_where_asked() {
    let home = tempfile::tempdir().unwrap();
    let style = Style {
        sections: true,
        ..PLAIN
    };
    let mut body = Body::default();
    body.commands(style, "script_step", &["echo one", "echo two\necho '3%'"]);
    for shell in shells() {
        let seen = text(&feed(&shell, &body.script("m", style), home.path()).stdout);
        let digits = |c: char| c.is_ascii_digit();
        let (before, rest) = seen.split_once("section_start:").unwrap();
        assert_eq!(before, "m\n\x1b[32;1m$ echo one\x1b[0;m\none\n");
        let rest = rest.trim_start_matches(digits);
        let (inside, after) = rest.split_once("section_end:").unwrap();
        assert_eq!(
            inside,
            ":section_script_step_1[hide_duration=true,collapsed=true]\r\x1b[0K\
             \x1b[32;1m$ echo two\necho '3%'\x1b[0;m\n"
        );
        assert_eq!(
            after.trim_start_matches(digits),
            ":section_script_step_1\r\x1b[0Ktwo\n3%\n"
        );
    }
}

#[test]
fn neither_the_flag_nor_gitlab_s_feature_alone_folds_anything() {
    let home = tempfile::tempdir().unwrap();
    for (flag, feature) in [(false, false), (true, false), (false, true), (true, true)] {
        let parts = json!({
            "features": { "trace_sections": feature },
            "variables": [{ "key": "FF_SCRIPT_SECTIONS", "value": flag.to_string() }],
            "steps": [{ "name": "script", "script": ["echo one\necho two"] }],
        });
        let (work, prepared) = prepared(home.path(), &parts);
        std::fs::create_dir_all(&prepared.directories.project).unwrap();
        let body = steps::step(&work.payload.steps[0], &work, &prepared).unwrap();
        for shell in shells() {
            let script = body.script("m", Style::of(&work, &prepared));
            let seen = text(&feed(&shell, &script, home.path()).stdout);
            let folded = ["section_start:", "section_end:"].map(|mark| seen.contains(mark));
            assert_eq!(folded, [flag && feature; 2], "{flag} {feature}: {seen}");
            assert_eq!(seen.contains("# collapsed"), !(flag && feature), "{seen}");
            assert!(seen.ends_with("one\ntwo\n"), "{seen}");
        }
    }
}

#[test]
fn other_framings_change_neither_code_nor_output() {
    let home = tempfile::tempdir().unwrap();
    for style in [
        PLAIN,
        Style {
            legacy_eval: true,
            ..PLAIN
        },
        Style {
            exit_checks: true,
            ..PLAIN
        },
    ] {
        for (command, code) in [
            ("read -r x || echo eof", 0),
            ("(exit 42)", 42),
            ("set +e; false", 1),
        ] {
            let mut body = Body::default();
            body.commands(style, "script_step", &[command, "echo end"]);
            for shell in shells() {
                let out = feed(&shell, &body.script("m", style), home.path());
                let seen = text(&out.stdout);
                // Without errexit only the look at each code finds a failure.
                let code = if command.starts_with("set") && !style.exit_checks {
                    0
                } else {
                    code
                };
                assert_eq!(
                    out.status.code(),
                    Some(code),
                    "{shell:?} {style:?} {command}"
                );
                assert_eq!(seen.ends_with("\nend\n"), code == 0, "{seen}");
                assert_eq!(
                    seen.contains("\neof\n"),
                    command.starts_with("read"),
                    "{seen}"
                );
            }
        }
    }
}

#[test]
fn tracing_shows_every_command() {
    let home = tempfile::tempdir().unwrap();
    let style = Style {
        trace: true,
        ..PLAIN
    };
    let mut body = Body::default();
    body.line("x=1; echo \"$x\"");
    for shell in shells() {
        let out = feed(&shell, &body.script("m", style), home.path());
        assert!(text(&out.stderr).contains("+ echo 1"), "{shell:?}");
        assert_eq!(text(&out.stdout), "m\n1\n");
    }
}

#[test]
fn steps_have_the_operator_s_scripts_around_them_and_after_script_has_not() {
    let home = tempfile::tempdir().unwrap();
    let parts = json!({
        "variables": [{ "key": "TAG", "value": "v1" }],
        "steps": [{ "name": "script", "script": ["echo ${TAG}x"] },
                  { "name": "release", "script": ["release '$TAG'"] },
                  { "name": "after_script", "script": ["echo \"$CI_JOB_STATUS\""] }],
    });
    let (mut work, prepared) = prepared(home.path(), &parts);
    let mut runner = (*work.runner).clone();
    runner.pre_build_script = Some("echo before".into());
    runner.post_build_script = Some("echo behind".into());
    work.runner = runner.into();
    let steps = &work.payload.steps;
    let seen = |body: Body| {
        body.text
            .lines()
            .rev()
            .take(6)
            .map(String::from)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let script = seen(steps::step(&steps[0], &work, &prepared).unwrap());
    let order =
        ["echo behind", "echo ${TAG}x", "echo before"].map(|line| script.find(line).unwrap());
    assert!(order.is_sorted(), "{script}");
    // GitLab's own words are not the user's: the runner reads them, not the shell.
    let release = seen(steps::step(&steps[1], &work, &prepared).unwrap());
    assert!(release.contains("release 'v1'"), "{release}");
    let mut variables = prepared.variables.clone();
    variables.set("CI_JOB_STATUS", "failed");
    let after = steps::after_script(&steps[2], &work, &prepared, &variables)
        .unwrap()
        .text;
    assert!(
        after.contains("export CI_JOB_STATUS='failed'") && !after.contains("before"),
        "{after}"
    );
    let empty = serde_json::from_value(json!({ "name": "script" })).unwrap();
    assert!(steps::step(&empty, &work, &prepared).is_none());
}
