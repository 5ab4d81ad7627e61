//! Versions of the contract: what a plugin of one version finds in a host of another.
//!
//! The host that has gone on is made here: today's linker with what a 0.1.1 might add, an interface to import and one
//! that a plugin may export.

use std::sync::Arc;

use wasmtime::component::{Component, Val};

use super::*;
use crate::plugin::house::{PROVIDER, tenant};
use crate::plugin::report::Digest;

/// Told apart from 0.1.0 by the functions it adds.
const ADDED_IMPORT: &str = "fleetling:provider/meter@0.1.1";
const OPTIONAL_EXPORT: &str = "fleetling:provider/suspend@0.1.1";

/// An import that only a later host offers, called by `increase` and answered with how often it was.
const METERED: &str = r#"
  (type $ty-meter (instance (export "count" (func (result u32)))))
  (import "fleetling:provider/meter@0.1.1" (instance $meter (type $ty-meter)))
  (core func $count (canon lower (func $meter "count")))
  (core instance $meter-core (export "count" (func $count)))
"#;

/// An interface that only a later host looks for.
const SUSPENDS: &str = r#"
  (core module $suspending (func (export "suspend") (result i32) (i32.const 7)))
  (core instance $suspending (instantiate $suspending))
  (func $suspend (result u32) (canon lift (core func $suspending "suspend")))
  (instance $suspends (export "suspend" (func $suspend)))
  (export "fleetling:provider/suspend@0.1.1" (instance $suspends))
"#;

fn parsed(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's text is valid")
}

/// Built against 0.1.0.
fn first() -> Vec<u8> {
    parsed(PROVIDER)
}

/// Built against 0.1.1: it offers to suspend.
fn offering() -> Vec<u8> {
    let end = PROVIDER.rfind(')').expect("it has an end");
    parsed(&format!("{}{SUSPENDS})", &PROVIDER[..end]))
}

/// Built against 0.1.1: it needs to count.
fn needing() -> Vec<u8> {
    let module = "(core module $main\n";
    let import = "(import \"meter\" \"count\" (func $count (result i32)))\n";
    let counts = "(i32.store (i32.const 3000) (call $count)) (return (i32.const 3000))";
    let text = PROVIDER
        .replace(module, &format!("{METERED}{module}{import}"))
        .replace(
            "(instantiate $main\n",
            "(instantiate $main (with \"meter\" (instance $meter-core))\n",
        )
        .replace("(;increase;)", counts);
    parsed(&text)
}

/// Today's engine as a later release might have it.
fn later() -> Engine {
    let mut engine = Engine::new(None).expect("it starts");
    let mut added = engine.linker.instance(ADDED_IMPORT).expect("it is new");
    let count = |_: wasmtime::StoreContextMut<'_, Sandbox>, (): ()| Ok((42_u32,));
    added.func_wrap("count", count).expect("it is new");
    engine
}

impl Engine {
    fn component(&self, bytes: &[u8]) -> Component {
        Component::from_binary(&self.engine, bytes).expect("it is sound")
    }

    fn offers_to_suspend(&self, bytes: &[u8]) -> bool {
        let component = self.component(bytes);
        component.get_export_index(None, OPTIONAL_EXPORT).is_some()
    }
}

#[tokio::test]
async fn a_plugin_of_the_first_version_runs_on_a_host_that_has_gone_on() {
    let engine = later();
    let program = engine
        .compile(&first())
        .expect("it is not asked for more than it knew");
    let allotment = Allotment::default();
    let made = engine.instantiate(&program, tenant().await, &allotment);
    let (mut guest, _) = made.await.expect("it starts");
    let described = guest.describe().await.expect("it answers");
    assert_eq!(described.version, "1.2.3");
    assert_eq!(
        guest.update().await.expect("it answers"),
        Ok(Default::default())
    );
    assert!(
        !engine.offers_to_suspend(&first()),
        "it was found where it is not"
    );

    // Such a host asks for the contract under its own number.
    let component = engine.component(&first());
    let meter = Arc::new(Meter::new(allotment.limits.cpu));
    let mut store = engine.store(tenant().await, &allotment, meter);
    let instance = engine
        .linker
        .instantiate_async(&mut store, &component)
        .await;
    let instance = instance.expect("it starts");
    let provider = "fleetling:provider/provider@0.1.1";
    let provider = instance.get_export_index(&mut store, None, provider);
    let provider = provider.expect("0.1.0 is found as 0.1.1");
    let describe = instance.get_export_index(&mut store, Some(&provider), "describe");
    let describe = instance.get_func(&mut store, describe.expect("it is there"));
    let mut answer = [Val::Bool(false)];
    let called = describe.expect("it is a function");
    called
        .call_async(&mut store, &[], &mut answer)
        .await
        .expect("it answers");
    assert!(
        matches!(&answer[0], Val::Record(fields) if fields[0].0 == "name"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_plugin_of_a_later_version_runs_where_what_it_needs_is_there() {
    let (now, later) = (Engine::new(None).expect("it starts"), later());
    // What it offers beyond the contract is offered to whoever looks.
    assert!(now.compile(&offering()).is_ok());
    assert!(later.offers_to_suspend(&offering()));
    assert!(later.compile(&needing()).is_ok());
    let Err(cause) = now.compile(&needing()) else {
        panic!("it needs what is not there");
    };
    let report = crate::plugin::report::LoadReport {
        plugin: "later".into(),
        file: Some("plugins/later.wasm".into()),
        digest: Some(Digest::of(b"")),
        cause,
    };
    insta::assert_snapshot!(report, @r"
    plugin `later` (plugins/later.wasm, sha256 e3b0c44298fc…) was not loaded
      it needs fleetling:provider@0.1.1; this manager provides 0.1.0
      next: install a manager that provides 0.1.1, or the plugin release built for 0.1.0
    ");
}

#[test]
fn a_plugin_of_an_unknown_version_is_refused_by_number() {
    let engine = Engine::new(None).expect("it starts");
    let newer = parsed(&PROVIDER.replace("@0.1.0", "@0.2.0"));
    let Err(Cause::Version { needed, provided }) = engine.compile(&newer) else {
        panic!("it was not refused by its version");
    };
    assert_eq!((&*needed, &*provided), ("fleetling:provider@0.2.0", "0.1"));
    // One that exports an old version beside a new one is for this host too.
    let both = PROVIDER.rfind(')').map(|end| {
        format!(
            "{}(export \"fleetling:provider/provider@0.2.0\" (instance $suspends)))",
            &PROVIDER[..end].to_owned()
        )
    });
    let both = both.expect("it has an end");
    let instance = SUSPENDS.lines().take(5).collect::<Vec<_>>().join("\n");
    let both = both.replace(
        "(export $fleetling:provider/provider@0.1.0 ",
        &format!("{instance}\n(export $fleetling:provider/provider@0.1.0 "),
    );
    assert!(engine.compile(&parsed(&both)).is_ok());
}
