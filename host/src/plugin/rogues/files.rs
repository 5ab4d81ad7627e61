//! What a plugin's file can be.

use std::ffi::OsString;

use super::Street;
use crate::fleet::group::InstanceGroup;
use crate::plugin::compile::Compiler;
use crate::plugin::house::{PROVIDER, provider, until};
use crate::plugin::report::Digest;

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's text is valid")
}

#[tokio::test]
async fn is_no_provider() {
    let street = Street::new().await;
    let whole = provider(&[]);
    let misshapen = PROVIDER.replace("(param \"for-good\" bool) ", "");
    let misshapen = misshapen.replace("#shutdown\") (param i32)", "#shutdown\")");
    let newer = PROVIDER.replace("@0.1.0", "@0.2.0");
    let files = [
        ("native", b"\x7fELF...".to_vec()),
        ("text", b"hello".to_vec()),
        ("empty", Vec::new()),
        ("core", text("(module)")),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("bare", text("(component)")),
        (
            "foreign",
            text(r#"(component (import "acme:gpu/dial@1.0.0" (instance)))"#),
        ),
        ("newer", text(&newer)),
        (
            "newer-import",
            text(r#"(component (import "fleetling:provider/log@0.3.0" (instance)))"#),
        ),
        (
            "preview-3",
            text(r#"(component (import "wasi:http/handler@0.3.0" (instance)))"#),
        ),
        ("misshapen", text(&misshapen)),
    ];
    let mut told = Vec::new();
    for (name, bytes) in &files {
        told.push(street.refused(name, bytes).await);
    }
    insta::assert_snapshot!(told.join("\n\n"), @r"
    plugin `native` (plugins/native.wasm, sha256 e3b0c44298fc…) was not loaded
      it is a native program, and a `.wasm` is needed
      next: install the `.wasm` release of this plugin

    plugin `text` (plugins/text.wasm, sha256 e3b0c44298fc…) was not loaded
      it is not a WebAssembly component
      next: copy it here again, in one piece

    plugin `empty` (plugins/empty.wasm, sha256 e3b0c44298fc…) was not loaded
      it is not a WebAssembly component
      next: copy it here again, in one piece

    plugin `core` (plugins/core.wasm, sha256 e3b0c44298fc…) was not loaded
      it is a core WebAssembly module, not a component
      next: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`

    plugin `cut` (plugins/cut.wasm, sha256 e3b0c44298fc…) was not loaded
      it is damaged or cut short
      next: copy it here again, in one piece
      detail: failed to parse WebAssembly module: unexpected end-of-file (at offset 0x23e9)

    plugin `bare` (plugins/bare.wasm, sha256 e3b0c44298fc…) was not loaded
      it does not export fleetling:provider/provider as this manager knows it
      next: install a plugin built for the world fleetling:provider/plugin@0.1.0

    plugin `foreign` (plugins/foreign.wasm, sha256 e3b0c44298fc…) was not loaded
      it imports acme:gpu/dial@1.0.0, which this manager does not provide
      next: ask its author for a build that imports only wasi 0.2 and fleetling:provider

    plugin `newer` (plugins/newer.wasm, sha256 e3b0c44298fc…) was not loaded
      it needs fleetling:provider@0.2.0; this manager provides 0.1
      next: install a manager that provides 0.2.0, or the plugin release built for 0.1

    plugin `newer-import` (plugins/newer-import.wasm, sha256 e3b0c44298fc…) was not loaded
      it needs fleetling:provider@0.3.0; this manager provides 0.1
      next: install a manager that provides 0.3.0, or the plugin release built for 0.1

    plugin `preview-3` (plugins/preview-3.wasm, sha256 e3b0c44298fc…) was not loaded
      it imports wasi:http/handler@0.3.0, which this manager does not provide
      next: ask its author for a build that imports only wasi 0.2 and fleetling:provider

    plugin `misshapen` (plugins/misshapen.wasm, sha256 e3b0c44298fc…) was not loaded
      it does not export fleetling:provider/provider as this manager knows it
      next: install a plugin built for the world fleetling:provider/plugin@0.1.0
      detail: failed to convert function to given type: type mismatch with parameters: expected 1-tuple, found 0-tuple
    ");
    for length in [9, whole.len() / 2] {
        let told = street.refused("cut", &whole[..length]).await;
        assert!(told.contains("it is damaged or cut short"), "{told}");
    }
}

/// Imports of sockets and of file systems, of which a runtime may have any; the first one's function is called.
const EMPTY_HERE: &str = r#"
  (type $ty-types (instance (export "descriptor" (type (sub resource)))))
  (import "wasi:filesystem/types@0.2.12" (instance $fs (type $ty-types)))
  (alias export $fs "descriptor" (type $descriptor))
  (type $ty-pre
    (instance
      (alias outer 1 $descriptor (type $d-here))
      (export "descriptor" (type $d (eq $d-here)))
      (export "get-directories" (func (result (list (tuple (own $d) string)))))
    )
  )
  (import "wasi:filesystem/preopens@0.2.12" (instance $preopens (type $ty-pre)))
  (type $ty-network
    (instance
      (export "network" (type (sub resource)))
    )
  )
  (import "wasi:sockets/network@0.2.12" (instance $network (type $ty-network)))
  (core module $dir-memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $dir-memory (instantiate $dir-memory))
  (alias core export $dir-memory "memory" (core memory $dir-bytes))
  (alias core export $dir-memory "realloc" (core func $dir-realloc))
  (core func $dirs (canon lower (func $preopens "get-directories") (memory $dir-bytes) (realloc $dir-realloc)))
  (core module $count
    (import "" "memory" (memory 1))
    (import "" "dirs" (func $dirs (param i32)))
    (func (export "dirs") (result i32)
      (call $dirs (i32.const 64))
      (i32.load (i32.const 68))))
  (core instance $count (instantiate $count
    (with "" (instance (export "memory" (memory $dir-bytes)) (export "dirs" (func $dirs))))))
"#;

#[tokio::test]
async fn imports_what_is_empty_here() {
    let street = Street::new().await;
    let module = "(core module $main\n";
    let count = "(i32.store (i32.const 3000) (i32.add (i32.const 7) (call $dirs))) (return (i32.const 3000))";
    let wat = PROVIDER
        .replace(
            module,
            &format!("{EMPTY_HERE}{module}(import \"count\" \"dirs\" (func $dirs (result i32)))\n"),
        )
        .replace(
            "(instantiate $main\n",
            "(instantiate $main (with \"count\" (instance $count))\n",
        )
        .replace("(;increase;)", count);
    let rogue = street
        .load("empty-here", &text(&wat))
        .await
        .expect("it loads");
    let increase = crate::plugin::house::increase();
    let outcome = street.beside(rogue.increase(increase)).await;
    assert_eq!(
        outcome.expect("it answers").accepted,
        7,
        "it was given a folder"
    );
}

#[tokio::test]
async fn is_replaced_while_it_is_compiled() {
    let other = provider(&[("update", "unreachable")]);
    let dir = tempfile::tempdir().expect("a directory");
    let (waiting, swapped) = (dir.path().join("other.wasm"), dir.path().join("swapped"));
    std::fs::write(&waiting, &other).expect("it is writable");
    // A compiler that takes long enough for somebody to put another file there: it does so itself, once.
    let street = Street::with("", |options| {
        let plugin = options.plugin_dirs[0].join("swapped.wasm");
        let script = format!(
            "cat > /dev/null; [ -e {mark} ] || test ! -e {plugin} || {{ cp {waiting} {plugin}.new; mv {plugin}.new {plugin}; touch {mark}; }}",
            mark = swapped.display(),
            plugin = plugin.display(),
            waiting = waiting.display(),
        );
        let command = ["/bin/sh", "-c", &script].map(OsString::from).to_vec();
        options.compiler = Some(Compiler::new(command, dir.path().join("cache"), 1));
    })
    .await;
    let bytes = provider(&[("heartbeat", "nop")]);
    let rogue = street.load("swapped", &bytes).await.expect("it loads");
    assert!(swapped.exists(), "it was not replaced in time");
    // What was digested is what runs, until the other file has passed every test that this one had to pass.
    let digests = [rogue.digest(), Digest::of(&bytes), Digest::of(&other)];
    assert!(digests[0] == digests[1] || digests[0] == digests[2]);
    until("noticed", || async { rogue.digest() == digests[2] }).await;
    assert!(street.beside(rogue.update()).await.is_err());
}

#[tokio::test]
async fn has_the_name_of_another_in_capitals() {
    let granted = "[cased]\nenv = [\"LANG\"]\n";
    let street = Street::with(granted, |_| {}).await;
    let one = street
        .load("cased", &provider(&[]))
        .await
        .expect("it loads");
    let two = provider(&[("heartbeat", "nop")]);
    let two = street.load("Cased", &two).await.expect("it loads");
    assert_ne!(one.digest(), two.digest());
    let listed = street.house.platform.list().await;
    let names: Vec<_> = listed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        ["Cased", "cased", "good"],
        "each is a plugin of its own"
    );
}
