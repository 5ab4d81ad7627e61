//! Grants that change, and the digest that they are for.

use std::path::Path;

use super::*;
use crate::plugin::rogues::ear;

/// `update` traps unless the secret `token` can be read; the answer's tag is at 2048.
const READS_TOKEN: &str = "(call $secret (i32.const 1200) (i32.const 5) (i32.const 2048))
    (if (i32.load8_u (i32.const 2048)) (then (return (i32.const 512))))";

/// At once, as an editor does: on a busy machine a file may stay empty between two looks at it.
fn put(file: &Path, text: impl AsRef<[u8]>) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("it is writable");
    std::fs::rename(new, file).expect("it is writable");
}

#[tokio::test]
async fn grants_apply_live_and_every_change_is_counted() {
    let house = House::new();
    let token = house.dir.path().join("token");
    let grants = house.dir.path().join("plugins.toml");
    let bytes = provider(&[("update", READS_TOKEN)]);
    let actor = house.load_as("aws", &bytes).await.expect("it loads");
    let mut granted = actor.granted();
    assert!(matches!(actor.update().await, Err(CallFailure::Refused(_))));

    let counts = async |granted: &mut watch::Receiver<u64>| {
        let changed = tokio::time::timeout(Duration::from_secs(10), granted.changed());
        changed.await.expect("in time").expect("the watcher lives");
    };
    put(&grants, "[aws]\nhtpp = []\n");
    let table = format!("[aws]\nsecret.token = {{ file = {token:?} }}\n");
    put(&grants, table);
    counts(&mut granted).await;
    assert!(matches!(actor.update().await, Err(CallFailure::Refused(_))));

    put(&token, "t0ken");
    counts(&mut granted).await;
    assert_eq!(actor.update().await, Ok(Default::default()));

    put(&grants, "this is no toml");
    put(&token, "t1ken");
    counts(&mut granted).await;
    assert_eq!(actor.update().await, Ok(Default::default()));
}

#[tokio::test]
async fn a_plugin_with_grants_is_pinned_to_its_first_digest() {
    let house = House::with("[fine]\nenv = [\"LANG\"]\n", |_| {});
    drop(
        house
            .load_as("fine", &provider(&[]))
            .await
            .expect("it loads"),
    );
    let other = provider(&[("update", "nop")]);
    let Err(report) = house.load_as("fine", &other).await else {
        panic!("another digest was loaded");
    };
    assert!(matches!(report.cause, Cause::NotTrusted { .. }), "{report}");
    drop(
        house
            .load_as("fine", &provider(&[]))
            .await
            .expect("it is the trusted one"),
    );
}

#[tokio::test]
async fn a_pin_that_the_store_cannot_keep_is_tried_again_and_told_once() {
    ear::listen();
    let state = tempfile::tempdir().expect("a directory");
    let house = House::with("", |options| {
        options.store = Store::open(state.path()).expect("it is ours");
    });
    let (token, table) = (
        house.dir.path().join("token"),
        house.dir.path().join("plugins.toml"),
    );
    put(&token, "t0ken");
    let bytes = provider(&[("update", READS_TOKEN)]);
    let actor = house.load_as("stored", &bytes).await.expect("it loads");
    let trouble = || actor.entry().borrow().last_error.clone();
    // Something stands where the pins are kept.
    let pins = state.path().join("plugin-pin");
    std::fs::write(&pins, "").expect("it is writable");
    put(
        &table,
        format!("[stored]\nsecret.token = {{ file = {token:?} }}\n"),
    );
    until("refused", || async { trouble().is_some() }).await;
    let told = trouble().expect("it was there a moment ago");
    assert!(
        told.contains("is granted nothing while it runs\n  the manager's store failed: "),
        "{told}"
    );
    let refused = actor.update().await;
    assert!(
        matches!(refused, Err(CallFailure::Refused(_))),
        "{refused:?}"
    );

    std::fs::remove_file(&pins).expect("it is there");
    until("granted", || async { actor.update().await.is_ok() }).await;
    until("mended", || async { trouble().is_none() }).await;
    assert!(pins.join("stored").exists(), "it is pinned");
    let lines = ear::all("stored").join("\n");
    assert_eq!(lines.matches("granted nothing").count(), 1, "{lines}");
}

#[tokio::test]
async fn a_plugin_granted_while_it_runs_is_pinned_before_it_is_given_anything() {
    let house = House::new();
    let (token, table) = (
        house.dir.path().join("token"),
        house.dir.path().join("plugins.toml"),
    );
    put(&token, "t0ken");
    let granting = |more: &str| {
        let text = format!("[p]\nsecret.token = {{ file = {token:?} }}\n{more}");
        put(&table, text);
    };
    let first = provider(&[("update", READS_TOKEN)]);
    let actor = house.load_as("p", &first).await.expect("it loads");
    assert!(actor.update().await.is_err());
    granting("");
    until("granted", || async { actor.update().await.is_ok() }).await;
    let second = provider(&[("update", READS_TOKEN), ("heartbeat", "nop")]);
    let Err(report) = house.load_as("p", &second).await else {
        panic!("another digest was loaded");
    };
    let first = Digest::of(&first).hex();
    let refused = Cause::NotTrusted {
        trusted: first.clone(),
    };
    assert_eq!(report.cause, refused);

    // The operator names the other digest: it takes over, with the grants that are meant for it.
    granting(&format!("sha256 = \"{}\"\n", Digest::of(&second).hex()));
    until("taken over", || async {
        actor.digest() == Digest::of(&second)
    })
    .await;
    assert_eq!(actor.update().await, Ok(Default::default()));
    let mut grants = house.platform.grants.clone();
    grants.mark_unchanged();
    granting("");
    let changed = tokio::time::timeout(Duration::from_secs(10), grants.changed());
    changed.await.expect("in time").expect("it is watched");
    drop(house.load("p").await.expect("it stays trusted"));
}

#[tokio::test]
async fn what_runs_is_granted_nothing_once_another_digest_is_named() {
    let house = House::new();
    let (token, table) = (
        house.dir.path().join("token"),
        house.dir.path().join("plugins.toml"),
    );
    put(&token, "t0ken");
    let bytes = provider(&[("update", READS_TOKEN)]);
    let granted = format!("[p]\nsecret.token = {{ file = {token:?} }}\n");
    put(&table, &granted);
    let mut grants = house.platform.grants.clone();
    let changed = tokio::time::timeout(Duration::from_secs(10), grants.changed());
    changed.await.expect("in time").expect("it is watched");
    let actor = house.load_as("p", &bytes).await.expect("it loads");
    assert_eq!(actor.update().await, Ok(Default::default()));
    put(
        &table,
        format!("{granted}sha256 = \"{}\"\n", "ab".repeat(32)),
    );
    until("withdrawn", || async { actor.update().await.is_err() }).await;
}

#[tokio::test]
async fn a_digest_that_never_was_granted_does_not_come_into_anothers_grants() {
    let house = House::with("[p]\nenv = [\"LANG\"]\n", |_| {});
    let table = house.dir.path().join("plugins.toml");
    let token = house.dir.path().join("token");
    put(&token, "t0ken");
    drop(
        house
            .load_as("p", &provider(&[]))
            .await
            .expect("it loads, and is pinned"),
    );
    put(&table, "");
    let mut grants = house.platform.grants.clone();
    let changed = tokio::time::timeout(Duration::from_secs(10), grants.changed());
    changed.await.expect("in time").expect("it is watched");
    let other = provider(&[("update", READS_TOKEN)]);
    let actor = house
        .load_as("p", &other)
        .await
        .expect("it is granted nothing");
    let mut counted = actor.granted();
    let secret = format!("[p]\nsecret.token = {{ file = {token:?} }}\n");
    put(&table, secret);
    let changed = tokio::time::timeout(Duration::from_secs(10), counted.changed());
    changed.await.expect("in time").expect("it is watched");
    let refused = actor.update().await;
    assert!(
        matches!(refused, Err(CallFailure::Refused(_))),
        "{refused:?}"
    );
}
