//! What a guest can do with its own time, memory and answers.

use std::time::Duration;

use super::{Street, ear};
use crate::fleet::group::{CallFailure, InstanceGroup};
use crate::fleet::group::{InstanceId, InstanceRef};
use crate::plugin::house::{PROVIDER, STRICT, increase, provider, unknown, until};

const SPIN: &str = "(loop $l (br $l))";

#[tokio::test]
async fn spins_for_ever() {
    let street = Street::with("", |options| options.clocks.processor = STRICT).await;
    let spinning = provider(&[("update", SPIN)]);
    let rogue = street.load("spins", &spinning).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`spins` used 300ms of processor time in `update` and was stopped");
    insta::assert_snapshot!(ear::heard("spins", 1).await, @r"
    warning: plugin instance dropped
      lane: reading
      why: `spins` used 300ms of processor time in `update` and was stopped
      pause: 50ms
    ");
    // Its other instances go on.
    assert_eq!(rogue.increase(increase()).await, Ok(Default::default()));
}

#[tokio::test]
async fn spins_in_init() {
    let street = Street::with("", |options| options.clocks.processor = STRICT).await;
    let spinning = provider(&[("init", SPIN)]);
    let report = street.refused("spins-first", &spinning).await;
    insta::assert_snapshot!(report, @r"
    plugin `spins-first` (plugins/spins-first.wasm, sha256 e3b0c44298fc…) was not loaded
      `init` did not end well: `spins-first` used 300ms of processor time in `init` and was stopped
      next: put the release before back, and report it to the plugin's author
    ");
}

#[tokio::test]
async fn grows_its_memory() {
    let street = Street::new().await;
    let growing =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 64)) (i32.const -1)))) unreachable";
    let bytes = provider(&[("update", growing)]);
    let rogue = street.load("grows", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`grows` crashed in `update`: wasm trap: wasm `unreachable` instruction executed");
    insta::assert_snapshot!(ear::heard("grows", 1).await, @r"
    warning: plugin instance dropped
      lane: reading
      why: `grows` crashed in `update`: wasm trap: wasm `unreachable` instruction executed
      pause: 50ms
    ");
}

#[tokio::test]
async fn grows_its_table() {
    let street = Street::new().await;
    let growing = "(loop $l (br_if $l
        (i32.ne (table.grow $mine (ref.null func) (i32.const 1024)) (i32.const -1)))) unreachable";
    let memory = "(memory (export \"memory\") 2)";
    let text = PROVIDER
        .replace(memory, &format!("{memory} (table $mine 0 funcref)"))
        .replace("(;update;)", growing);
    let bytes = wat::parse_str(text).expect("it is valid");
    let rogue = street.load("tables", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`tables` crashed in `update`: wasm trap: wasm `unreachable` instruction executed");
    insta::assert_snapshot!(ear::heard("tables", 1).await, @r"
    warning: plugin instance dropped
      lane: reading
      why: `tables` crashed in `update`: wasm trap: wasm `unreachable` instruction executed
      pause: 50ms
    ");
}

#[tokio::test]
async fn leaks_resources() {
    let street = Street::new().await;
    let leaking = "(loop $l (drop (call $after (i64.const 1))) (br $l))";
    let bytes = provider(&[("update", leaking)]);
    let rogue = street.load("leaks", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`leaks` held more than 1000 resources in `update` and was stopped");
    insta::assert_snapshot!(ear::heard("leaks", 1).await, @r"
    warning: plugin instance dropped
      lane: reading
      why: `leaks` held more than 1000 resources in `update` and was stopped
      pause: 50ms
    ");
}

#[tokio::test]
async fn answers_ten_megabytes() {
    let street = Street::new().await;
    // The length of the problem's message stands at 528.
    let long = "(drop (memory.grow (i32.const 200)))
        (i32.store (i32.const 528) (i32.const 10485760)) (return (i32.const 512))";
    let bytes = provider(&[("update", long)]);
    let rogue = street.load("talks", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`talks` said more than 8 MiB in `update` and was stopped");
    insta::assert_snapshot!(ear::heard("talks", 1).await, @r"
    warning: plugin instance dropped
      lane: reading
      why: `talks` said more than 8 MiB in `update` and was stopped
      pause: 50ms
    ");
}

#[tokio::test]
async fn panics() {
    let street = Street::new().await;
    // What a panicking runtime does: say something, and trap.
    let panicking =
        "(call $log (i32.const 4) (i32.const 1216) (i32.const 6) (i32.const 0) (i32.const 0))
        unreachable";
    let bytes = provider(&[("open", panicking)]);
    let rogue = street.load("panics", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.open()).await);
    insta::assert_snapshot!(why, @"`panics` crashed in `open`: wasm trap: wasm `unreachable` instruction executed");
    insta::assert_snapshot!(ear::heard("panics", 2).await, @r"
    error: no key
    warning: plugin instance dropped
      lane: reading
      why: `panics` crashed in `open`: wasm trap: wasm `unreachable` instruction executed
      pause: 50ms
    ");
}

#[tokio::test]
async fn complaint_23_a_trap_costs_one_call_and_the_plugin_is_started_again() {
    let street = Street::with("", |options| {
        options.clocks.backoff = Duration::from_secs(1);
    })
    .await;
    let second = "(if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))";
    let bytes = provider(&[("update", second)]);
    let rogue = street.load("second", &bytes).await.expect("it loads");
    assert_eq!(rogue.update().await, Ok(Default::default()));
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @"`second` crashed in `update`: wasm trap: wasm `unreachable` instruction executed");
    let Err(CallFailure::NotCalled(why)) = rogue.update().await else {
        panic!("it does not back off");
    };
    insta::assert_snapshot!(why, @"the plugin is started again in 1 s, because `second` crashed in `update`: wasm trap: wasm `unreachable` instruction executed");
    // The rebuilt instance counts its calls from zero: the first is answered, the second traps again.
    until("rebuilt", || async { rogue.update().await.is_ok() }).await;
    unknown(street.beside(rogue.update()).await);
}

#[tokio::test]
async fn sleeps_for_ever() {
    let street = Street::with("", |options| {
        options.clocks.heartbeat = Duration::from_millis(500);
    })
    .await;
    let sleeping = "(call $block (call $after (i64.const 3600000000000)))";
    let bytes = provider(&[("heartbeat", sleeping)]);
    let rogue = street.load("sleeps", &bytes).await.expect("it loads");
    let of = InstanceRef {
        id: InstanceId("i-1".into()),
        memo: String::new(),
    };
    let why = unknown(street.beside(rogue.heartbeat(of)).await);
    insta::assert_snapshot!(why, @"`heartbeat` of `sleeps` did not return in 500ms (0 requests in flight)");
    insta::assert_snapshot!(ear::heard("sleeps", 1).await, @r"
    warning: plugin instance dropped
      lane: lookup
      why: `heartbeat` of `sleeps` did not return in 500ms (0 requests in flight)
      pause: 50ms
    ");
}

#[tokio::test]
async fn floods_the_log() {
    let street = Street::new().await;
    let flooding = "(local.set $i (i32.const 5000))
      (loop $l
        (call $log (i32.const 3) (i32.const 1216) (i32.const 6) (i32.const 0) (i32.const 0))
        (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    // Locals stand first in a function.
    let export = "(func (export \"fleetling:provider/provider@0.1.0#open\") (result i32)";
    let text = PROVIDER
        .replace(export, &format!("{export} (local $i i32)"))
        .replace("(;open;)", flooding);
    let bytes = wat::parse_str(text).expect("it is valid");
    let rogue = street.load("floods", &bytes).await.expect("it loads");
    assert!(street.beside(rogue.open()).await.is_ok());
    let lines = ear::all("floods");
    // A second may end within the flood, and let as many through again.
    let counted = lines
        .iter()
        .filter(|line| line.contains("suppressed"))
        .count();
    assert!(lines.len() <= 3 * 201, "{} lines", lines.len());
    assert!(
        lines.len() >= 200 && counted <= 2,
        "{counted} of {}",
        lines.len()
    );
    assert_eq!(lines[0], "warning: no key");
}

/// `update` answers two instances at 4096, 192 bytes apart, whose IDs are `$one` and `$two`: each an address and a length.
fn listing(one: (u32, u32), two: (u32, u32)) -> Vec<u8> {
    let store = |at: u32, what: u32| format!("(i32.store (i32.const {at}) (i32.const {what}))");
    let all = [
        store(4096, one.0),
        store(4100, one.1),
        store(4096 + 192, two.0),
        store(4100 + 192, two.1),
        store(3080, 4096),
        store(3084, 2),
        "(return (i32.const 3072))".to_owned(),
    ];
    provider(&[("update", &all.concat())])
}

#[tokio::test]
async fn lists_what_nobody_asked_for() {
    let street = Street::new().await;
    // `fixture/one` and `fixture`: what becomes of them, the provisioner decides, which knows what it asked for.
    let bytes = listing((1168, 11), (1168, 7));
    let rogue = street.load("lists", &bytes).await.expect("it loads");
    let snapshot = street.beside(rogue.update()).await.expect("it answers");
    let ids: Vec<_> = snapshot.instances.iter().map(|i| i.id.0.as_str()).collect();
    assert_eq!(ids, ["fixture/one", "fixture"]);
    assert_eq!(snapshot.notices, []);
}

#[tokio::test]
async fn lists_an_instance_twice() {
    let street = Street::new().await;
    let bytes = listing((1168, 7), (1168, 7));
    let rogue = street.load("lists-twice", &bytes).await.expect("it loads");
    let snapshot = street.beside(rogue.update()).await.expect("it answers");
    assert_eq!(snapshot.instances.len(), 1);
    insta::assert_snapshot!(snapshot.notices[0].message, @"the plugin lists fixture more than once, and the first counts; next: report it to the plugin's author");
}

#[tokio::test]
async fn forges_an_id() {
    let street = Street::new().await;
    // Twelve bytes behind the name: the last one is zero.
    let bytes = listing((1168, 12), (1168, 7));
    let rogue = street.load("forges", &bytes).await.expect("it loads");
    let why = unknown(street.beside(rogue.update()).await);
    insta::assert_snapshot!(why, @r#"`forges` failed in `update`: it listed an instance with the ID "fixture/one\0", which is none"#);
    insta::assert_snapshot!(ear::heard("forges", 1).await, @r#"
    warning: plugin instance dropped
      lane: reading
      why: `forges` failed in `update`: it listed an instance with the ID "fixture/one\0", which is none
      pause: 50ms
    "#);
}
