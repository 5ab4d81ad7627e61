//! Every kind of report, word for word: this is what an operator reads.

use super::*;

fn report(cause: Cause) -> String {
    LoadReport {
        plugin: "hetzner".into(),
        file: Some("plugins/hetzner.wasm".into()),
        digest: Some(Digest::of(b"")),
        cause,
    }
    .to_string()
}

fn nothing_found() -> NotFound {
    NotFound {
        looked_in: vec!["/etc/fleetling/plugins".into(), "/usr/bin".into()],
        native: None,
        unfit: Vec::new(),
        other_case: None,
        remote: None,
    }
}

/// One of each; a cause that is added and not told here does not compile.
fn every() -> Vec<Cause> {
    let detail = || "unexpected end at byte 0x2a\ncaused by: no more bytes".to_owned();
    let digest = || "ab".repeat(32);
    let all = vec![
        Cause::Missing(Box::new(nothing_found())),
        Cause::Unreadable("Permission denied (os error 13)".into()),
        Cause::TooLarge { most: 64 << 20 },
        Cause::Native,
        Cause::CoreModule,
        Cause::NotWasm,
        Cause::Invalid { detail: detail() },
        Cause::Imports {
            names: vec!["acme:gpu/dial@1.0.0".into()],
            detail: String::new(),
        },
        Cause::Version {
            needed: "fleetling:provider@0.3.0".into(),
            provided: "0.1".into(),
        },
        Cause::NoProvider { detail: detail() },
        Cause::NotTrusted { trusted: digest() },
        Cause::NotPinned { wanted: digest() },
        Cause::PinMissing,
        Cause::NotCompiled {
            detail: "the compiler was killed (signal 9)".into(),
        },
        Cause::AnotherGroup {
            served: "hetzner/fsn1/runners".into(),
            opened: "hetzner/nbg1/runners".into(),
        },
        Cause::call("init", &"invalid-config: no such location (location)"),
        Cause::call("open", &"unauthenticated: the token was revoked"),
        Cause::lost(
            "describe",
            &"`hetzner` crashed in `describe`: wasm trap: unreachable",
        ),
        Cause::Store("records/plugin-pin: No space left on device (os error 28)".into()),
    ];
    for cause in &all {
        match cause {
            Cause::Missing(_)
            | Cause::Unreadable(_)
            | Cause::TooLarge { .. }
            | Cause::Native
            | Cause::CoreModule
            | Cause::NotWasm
            | Cause::Invalid { .. }
            | Cause::Imports { .. }
            | Cause::Version { .. }
            | Cause::NoProvider { .. }
            | Cause::NotTrusted { .. }
            | Cause::NotPinned { .. }
            | Cause::PinMissing
            | Cause::NotCompiled { .. }
            | Cause::AnotherGroup { .. }
            | Cause::Call { .. }
            | Cause::Lost { .. }
            | Cause::Store(_) => {}
        }
    }
    all
}

#[test]
fn every_kind_says_what_why_and_what_next() {
    let all: Vec<String> = every().into_iter().map(report).collect();
    insta::assert_snapshot!(all.join("\n\n"), @r#"
    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it was found in none of: /etc/fleetling/plugins, /usr/bin
      next: put `fleeting-plugin-hetzner.wasm` or `hetzner.wasm` into one of these, or install it from its publisher's registry with `fleetling plugin install REGISTRY/GROUP/hetzner` and write that as `plugin`

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it could not be read: Permission denied (os error 13)
      next: let the manager's user read it

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it is larger than 64 MiB, the most that a plugin may be
      next: ask its author for a smaller build: stripped, without debug information

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it is a native program, and a `.wasm` is needed
      next: install the `.wasm` release of this plugin

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it is a core WebAssembly module, not a component
      next: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it is not a WebAssembly component
      next: copy it here again, in one piece

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it is damaged or cut short
      next: copy it here again, in one piece
      detail: unexpected end at byte 0x2a
        caused by: no more bytes

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it imports acme:gpu/dial@1.0.0, which this manager does not provide
      next: ask its author for a build that imports only wasi 0.2 and fleetling:provider

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it needs fleetling:provider@0.3.0; this manager provides 0.1
      next: install a manager that provides 0.3.0, or the plugin release built for 0.1

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it does not export fleetling:provider/provider as this manager knows it
      next: install a plugin built for the world fleetling:provider/plugin@0.1.0
      detail: unexpected end at byte 0x2a
        caused by: no more bytes

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      its digest is not the one trusted before (abababababab)
      next: if the new file is meant, review it with `fleetling plugin trust FILE`, or write `sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"` under [hetzner] in plugins.toml; else put the trusted one back; `reload = "any"` there trusts every one

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      its digest is not the one that plugins.toml names (abababababab)
      next: restore the file, or, if this one is meant, correct `sha256` under [hetzner] in plugins.toml or review it with `fleetling plugin trust FILE`

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      plugins.toml says `require_pins`, and names no digest for it
      next: if this file is meant, write `sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"` under [hetzner] in plugins.toml, or let `fleetling plugin trust FILE` do so

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it could not be compiled: the compiler was killed (signal 9)
      next: give the manager more memory if that ran out, else report it to the plugin's author

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      it serves another instance group (hetzner/nbg1/runners) than the file before (hetzner/fsn1/runners)
      next: restart the manager if the other group is meant; jobs and instances of this one end first

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      `init` failed: invalid-config: no such location (location)
      next: correct this runner's plugin_config, as the problem says

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      `open` failed: unauthenticated: the token was revoked
      next: mend what the problem says; the file is tried again by itself

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      `describe` did not end well: `hetzner` crashed in `describe`: wasm trap: unreachable
      next: put the release before back, and report it to the plugin's author

    plugin `hetzner` (plugins/hetzner.wasm, sha256 e3b0c44298fc…) was not loaded
      the manager's store failed: records/plugin-pin: No space left on device (os error 28)
      next: let the manager's user write its state directory; it is tried again by itself
    "#);
}

#[test]
fn in_a_log_a_report_is_one_line() {
    for cause in every() {
        let report = LoadReport {
            plugin: "hetzner".into(),
            file: None,
            digest: None,
            cause,
        };
        let line = report.in_one_line();
        assert!(!line.contains('\n'), "{line}");
        assert!(line.contains("; next: "), "{line}");
    }
}

#[test]
fn the_digest_is_told_where_it_is_to_be_written() {
    for cause in [
        Cause::PinMissing,
        Cause::NotTrusted {
            trusted: "ab".repeat(32),
        },
    ] {
        assert!(report(cause).contains(&Digest::of(b"").hex()));
    }
}

#[test]
fn a_missing_plugin_is_reported_with_every_place_and_what_nearly_fits() {
    let nothing = nothing_found();
    let missing = |missing: &NotFound| LoadReport {
        plugin: "aws".into(),
        file: None,
        digest: None,
        cause: Cause::Missing(Box::new(missing.clone())),
    };
    insta::assert_snapshot!(missing(&nothing), @r"
    plugin `aws` was not loaded
      it was found in none of: /etc/fleetling/plugins, /usr/bin
      next: put `fleeting-plugin-aws.wasm` or `aws.wasm` into one of these, or install it from its publisher's registry with `fleetling plugin install REGISTRY/GROUP/aws` and write that as `plugin`
    ");
    insta::assert_snapshot!(missing(&NotFound {
        native: Some("/usr/bin/fleeting-plugin-aws".into()),
        ..nothing.clone()
    }), @r"
    plugin `aws` was not loaded
      it was found in none of: /etc/fleetling/plugins, /usr/bin
      next: /usr/bin/fleeting-plugin-aws is a native plugin and cannot run here: a `.wasm` is needed; put `fleeting-plugin-aws.wasm` into one of these
    ");
    insta::assert_snapshot!(missing(&NotFound {
        unfit: vec!["1.4.0".into(), "1.5.1".into()],
        remote: Some("registry.example.com/team/aws:2".into()),
        ..nothing.clone()
    }), @r"
    plugin `aws` was not loaded
      it was found in none of: /etc/fleetling/plugins, /usr/bin; installed, and not asked for: 1.4.0, 1.5.1
      next: `fleetling plugin install registry.example.com/team/aws:2`, or put `fleeting-plugin-aws.wasm` or `aws.wasm` into one of these
    ");
    insta::assert_snapshot!(missing(&NotFound {
        other_case: Some("/etc/fleetling/plugins/AWS.wasm".into()),
        ..nothing
    }), @r"
    plugin `aws` was not loaded
      it was found in none of: /etc/fleetling/plugins, /usr/bin
      next: /etc/fleetling/plugins/AWS.wasm differs from its name in case: write `plugin` and the file's name alike
    ");
}
