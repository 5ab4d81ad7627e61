//! A plugin's file that appears, is replaced, or goes away while its group is at work.

use super::*;

/// `update` answers one instance less than nothing: it refuses, so that the two files can be told apart.
fn refusing() -> Vec<u8> {
    provider(&[("update", "(return (i32.const 512))")])
}

fn write(house: &House, name: &str, bytes: &[u8]) {
    let file = house.dir.path().join(format!("{name}.wasm"));
    let new = file.with_extension("new");
    std::fs::write(&new, bytes).expect("it is writable");
    std::fs::rename(new, file).expect("it is writable");
}

/// As status shows it.
fn shown(group: &Provider) -> PluginEntry {
    group.entry().borrow().clone()
}

#[tokio::test]
async fn a_replaced_file_takes_over_and_a_call_that_began_ends_on_the_one_before() {
    let house = House::new();
    let slow = "(call $block (call $after (i64.const 400000000)))";
    let old = provider(&[("increase", slow)]);
    let group = house.load_as("p", &old).await.expect("it loads");
    assert_eq!(group.open().await.expect("it opens").id, "fixture/one");
    let mut granted = group.granted();
    let begun = tokio::spawn({
        let group = group.clone();
        async move { group.increase(increase()).await }
    });
    write(&house, "p", &refusing());
    until("taken over", || async {
        group.digest() == Digest::of(&refusing())
    })
    .await;
    assert!(matches!(group.update().await, Err(CallFailure::Refused(_))));
    assert_eq!(begun.await.expect("it ends"), Ok(Default::default()));
    assert!(
        granted.has_changed().expect("it is kept"),
        "nobody was told"
    );
    granted.mark_unchanged();
    let entry = shown(&group);
    assert_eq!(entry.digest, Some(Digest::of(&refusing())));
    assert_eq!((entry.state, entry.last_error), (PluginState::Loaded, None));
}

#[tokio::test]
async fn a_file_that_does_not_pass_changes_nothing_and_says_why() {
    let house = House::new();
    let group = house.load_as("p", &provider(&[])).await.expect("it loads");
    group.open().await.expect("it opens");
    let digest = group.digest();
    let other_group = provider(&[("open", "(i32.store8 (i32.const 1168) (i32.const 70))")]);
    let cases: [(&str, Vec<u8>, &str); 4] = [
        (
            "init",
            provider(&[("init", "(return (i32.const 512))")]),
            "`init` failed: unauthenticated: no key",
        ),
        (
            "open",
            provider(&[("open", "(return (i32.const 512))")]),
            "`open` failed: unauthenticated: no key",
        ),
        (
            "group",
            other_group,
            "it serves another instance group (Fixture/one) than the file before (fixture/one)",
        ),
        (
            "damage",
            provider(&[])[..200].to_vec(),
            "it is damaged or cut short",
        ),
    ];
    for (what, bytes, why) in cases {
        write(&house, "p", &bytes);
        until(what, || async {
            let error = shown(&group).last_error.unwrap_or_default();
            error.contains(why)
        })
        .await;
        assert_eq!(group.digest(), digest, "{what}");
        assert_eq!(group.update().await, Ok(Default::default()), "{what}");
    }
    // The file before comes back: nothing is wrong any more.
    write(&house, "p", &refusing());
    until("healed", || async { group.digest() != digest }).await;
    assert_eq!(shown(&group).last_error, None);
}

#[tokio::test]
async fn a_replaced_file_of_a_granted_plugin_waits_for_its_operator() {
    let house = House::with("[p]\nenv = [\"LANG\"]\n", |_| {});
    let group = house.load_as("p", &provider(&[])).await.expect("it loads");
    let digest = group.digest();
    write(&house, "p", &refusing());
    until("told", || async {
        let error = shown(&group).last_error.unwrap_or_default();
        error.contains("its digest is not the one trusted before")
    })
    .await;
    assert_eq!(group.digest(), digest);
    let wanted = Digest::of(&refusing());
    let named = format!("[p]\nenv = [\"LANG\"]\nsha256 = \"{}\"\n", wanted.hex());
    std::fs::write(house.dir.path().join("plugins.toml"), named).expect("it is writable");
    until("taken over", || async { group.digest() == wanted }).await;
}

#[tokio::test]
async fn a_file_that_goes_away_stops_nothing_and_may_come_back() {
    let house = House::new();
    let group = house.load_as("p", &provider(&[])).await.expect("it loads");
    let file = house.dir.path().join("p.wasm");
    std::fs::remove_file(&file).expect("it is there");
    let platform = &house.platform;
    let gone = || async { shown(&group).last_error.is_some() };
    until("told", gone).await;
    assert_eq!(group.update().await, Ok(Default::default()));
    write(&house, "p", &provider(&[]));
    until("back", || async { shown(&group).last_error.is_none() }).await;
    platform.look_now();
    assert_eq!(group.update().await, Ok(Default::default()));
}

#[tokio::test]
async fn a_plugin_that_was_missing_is_loaded_once_it_appears() {
    let house = House::new();
    let Err(report) = house.load("late").await else {
        panic!("there is none");
    };
    let waiting = house.platform.changed_since(&report, "late");
    let appearing = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        write(&house, "late", &provider(&[]));
    };
    let both = async { tokio::join!(waiting, appearing) };
    tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("it is noticed");
    house.load("late").await.expect("it is there now");
}

#[tokio::test]
async fn environment_and_memory_apply_to_running_plugins() {
    let house = House::new();
    let grow = "(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (return (i32.const 512))))";
    let bytes = provider(&[("update", grow)]);
    let group = house.load_as("p", &bytes).await.expect("it loads");
    assert_eq!(group.update().await, Ok(Default::default()));
    let table = house.dir.path().join("plugins.toml");
    let limit = |memory: &str| {
        let text = format!("[p]\nmemory = \"{memory}\"\n");
        std::fs::write(&table, text).expect("it is writable");
    };
    limit("32MiB");
    until("lowered", || async {
        matches!(group.update().await, Err(CallFailure::Refused(_)))
    })
    .await;
    limit("1GiB");
    until("raised", || async { group.update().await.is_ok() }).await;
}

#[tokio::test]
async fn the_audit_log_is_told_what_runs_what_it_may_do_and_what_it_read() {
    let audit = Audit::in_memory();
    let house = House::with("[p]\nenv = [\"LANG\"]\nreload = \"any\"\n", |options| {
        options.audit = audit.clone();
    });
    let token = house.dir.path().join("token");
    std::fs::write(&token, "s3cret").expect("it is writable");
    let reads = "(call $secret (i32.const 1200) (i32.const 5) (i32.const 2048))";
    let bytes = provider(&[("update", reads)]);
    let group = house.load_as("p", &bytes).await.expect("it loads");
    let granted =
        format!("[p]\nenv = [\"LANG\"]\nreload = \"any\"\nsecret.token = {{ file = {token:?} }}\n");
    std::fs::write(house.dir.path().join("plugins.toml"), granted).expect("it is writable");
    let told = |event: &str| {
        let events = audit.recorded().into_iter();
        events
            .map(|told| serde_json::to_value(told).expect("it is plain"))
            .filter(|told| told["event"] == event)
            .collect::<Vec<_>>()
    };
    until("granted", || async { !told("grants_changed").is_empty() }).await;
    assert_eq!(group.update().await, Ok(Default::default()));
    write(&house, "p", &refusing());
    until("taken over", || async { told("plugin_loaded").len() == 2 }).await;
    let (first, second) = (Digest::of(&bytes).hex(), Digest::of(&refusing()).hex());
    let loaded = told("plugin_loaded");
    assert_eq!(loaded[0]["digest"], first);
    assert_eq!(loaded[0]["grants"], json!(["env LANG"]));
    assert_eq!(loaded[1]["digest"], second);
    assert_eq!(loaded[1]["instead_of"], first);
    let trusted: Vec<_> = told("plugin_trusted")
        .iter()
        .map(|t| t["digest"].clone())
        .collect();
    assert_eq!(trusted, [json!(first), json!(second)]);
    let secret = &told("secret_read")[0];
    assert_eq!(
        (&secret["secret"], &secret["group"]),
        (&json!("token"), &json!("p"))
    );
    let all = serde_json::to_string(&audit.recorded()).expect("it is plain");
    assert!(!all.contains("s3cret"), "{all}");
}
