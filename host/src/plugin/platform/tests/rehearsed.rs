//! Plugins looked at and checked by commands, in the sandbox that a manager has.

use crate::plugin::conformance::wire::{Fault, Wire};
use crate::plugin::conformance::{Check, Ground, Patience, Sandboxed, Trial, Verdict};
use crate::plugin::egress::tap::Tap;

use super::*;
use crate::plugin::house::settings;

impl House {
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.dir.path().join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).expect("it is writable");
        file
    }
}

fn patience() -> Patience {
    Patience {
        cloud: Duration::from_millis(200),
        pause: Duration::from_millis(10),
        ..Patience::default()
    }
}

/// The checks of a file, with these grants and a configuration that the fixture takes.
async fn checked(bytes: &[u8], grants: &str) -> Vec<Check> {
    checked_within(PATIENT, bytes, grants).await
}

/// `processor`: the processor time of a call.
async fn checked_within(processor: Duration, bytes: &[u8], grants: &str) -> Vec<Check> {
    let wire = Arc::new(Wire::default());
    let tap: Arc<dyn Tap> = wire.clone();
    let house = House::with(grants, |options| {
        options.tap = Some(tap);
        options.clocks.processor = processor;
    });
    let config = json!({ "name": "group" });
    let request = RehearsalRequest {
        plugin: "rogue",
        file: house.put("rogue", bytes),
        config: &config,
        settings: settings(),
        group_key: "rogue",
        grants: None,
    };
    let rehearsal = house.platform.rehearse(request).await;
    let recipe = rehearsal.expect("it is sound").recipe;
    let subject = Sandboxed { recipe };
    let token = "t".to_owned();
    let mut trial = Trial::new(&subject, &wire, Ground::Cloud(&config), patience(), token);
    let checks = trial.run(|_| {}).await;
    assert_eq!(trial.sweep().await, Ok(()));
    checks
}

fn why(checks: &[Check], name: &str) -> String {
    let check = checks.iter().find(|check| check.name == name);
    match &check.expect("it is a check").verdict {
        Verdict::Failed(why) => why.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// The fixture, asking the host that the test grants or does not; `at` is the place of the call.
fn asking(at: &str) -> Vec<u8> {
    let ask = [(at, "(call $block (call $send))")];
    provider_on_the_web("http", "127.0.0.1:9", &ask)
}

const GRANTED: &str =
    "[rogue]\nhttp = [\"http://127.0.0.1:9\"]\nloopback = true\nplaintext = true\n";

#[tokio::test]
async fn a_file_is_examined_without_being_trusted_or_granted_anything() {
    let digest = "ab".repeat(32);
    let grants = format!("[fine]\nsha256 = \"{digest}\"\nenv = [\"LANG\"]\n");
    let house = House::with(&grants, |_| {});
    let bytes = provider(&[]);
    let file = house.put("fine", &bytes);
    let examined = house.platform.examine("fine", file.clone()).await;
    let examined = examined.expect("it is sound");
    assert_eq!(examined.size, bytes.len());
    assert_eq!(examined.digest, Digest::of(&bytes));
    assert_eq!(examined.description.name, "fixture");
    assert_eq!(examined.grants.env, ["LANG"]);
    assert_eq!(
        examined.outline.imports,
        [
            "fleetling:provider/log@0.1.0",
            "fleetling:provider/secrets@0.1.0",
            "wasi:io/poll@0.2.12",
            "wasi:clocks/monotonic-clock@0.2.12",
            "fleetling:provider/provider-types@0.1.0",
        ]
    );
    assert_eq!(
        examined.outline.exports,
        ["fleetling:provider/provider@0.1.0"]
    );
    let refusal = examined.refusal.expect("another digest is pinned");
    assert!(
        matches!(refusal.cause, Cause::NotPinned { .. }),
        "{refusal}"
    );

    let core = house.put("core", &wat::parse_str("(module)").expect("valid"));
    let report = house.platform.examine("core", core).await;
    assert_eq!(report.expect_err("no component").cause, Cause::CoreModule);
}

#[tokio::test]
async fn a_digest_that_is_not_trusted_is_rehearsed_only_with_grants_given_for_it() {
    let grants = format!("[p]\nsha256 = \"{}\"\n", "ab".repeat(32));
    let house = House::with(&grants, |_| {});
    let (file, config) = (house.put("p", &provider(&[])), json!({}));
    let request = |grants| RehearsalRequest {
        plugin: "p",
        file: file.clone(),
        config: &config,
        settings: settings(),
        group_key: "p",
        grants,
    };
    let refused = house.platform.rehearse(request(None)).await;
    let Err(report) = refused else {
        panic!("it had the grants of another");
    };
    assert!(matches!(report.cause, Cause::NotPinned { .. }), "{report}");
    let given = request(Some(Grants::default()));
    let rehearsal = house.platform.rehearse(given).await;
    let provider = rehearsal.expect("it is given nothing").provider().await;
    let provider = provider.expect("it starts");
    assert_eq!(provider.open().await.expect("it opens").id, "fixture/one");
}

#[tokio::test]
async fn checks_find_the_flaws_of_guests_in_the_sandbox() {
    let checks = checked(&provider(&[]), "").await;
    // The fixture takes every configuration, and adds nothing.
    let found = why(
        &checks,
        "init refuses a configuration without its required keys",
    );
    assert!(
        found.starts_with("its schema requires [\"name\"]"),
        "{found}"
    );
    let found = why(
        &checks,
        "increase adds what it accepts, and update lists it",
    );
    assert!(found.starts_with("asked for 2: 0 accepted"), "{found}");

    let spins = "(if (global.get $calls) (then (loop $l (br $l))))";
    let checks = checked_within(STRICT, &provider(&[("update", spins)]), "").await;
    let found = why(&checks, "open names the group, and changes nothing");
    assert!(found.contains("of processor time in `update`"), "{found}");
}

#[tokio::test]
async fn requests_at_the_wrong_time_and_to_the_wrong_host_are_found() {
    // Without the grant, asking is as bad, and it is told what would allow it.
    let checks = checked(&asking("open"), "").await;
    let found = why(&checks, "no request and no secret is outside of its grants");
    assert!(found.contains("http://127.0.0.1:9"), "{found}");
    assert!(found.contains("loopback = true"), "{found}");
    assert!(found.contains("plaintext = true"), "{found}");

    let checks = checked(&asking("init"), GRANTED).await;
    let found = why(&checks, "init needs no network");
    assert!(
        found.starts_with("it asked for GET http://127.0.0.1:9"),
        "{found}"
    );
}

#[tokio::test]
async fn a_fault_reaches_the_guest_instead_of_the_network() {
    let wire = Arc::new(Wire::default());
    let tap: Arc<dyn Tap> = wire.clone();
    // Nobody listens on that port: without the fault the guest's request fails.
    let house = House::with(GRANTED, |options| options.tap = Some(tap));
    let bytes = asking("open");
    let actor = house.load_as("rogue", &bytes).await.expect("it loads");
    wire.spoil(Fault::Broken, 0);
    assert!(actor.open().await.is_ok());
    assert_eq!(wire.asked(), ["GET http://127.0.0.1:9"]);
}
