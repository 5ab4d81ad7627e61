//! The host against plugins that misbehave, each a component of its own, through the platform as `app` uses it.

mod granted;
mod rehearsed;
mod replaced;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fleet::group::{CallFailure, InstanceGroup, InstanceId, InstanceRef, ProblemKind};
use crate::plugin::house::{
    House, PATIENT, PROVIDER, STRICT, increase, provider, provider_on_the_web, unknown, until,
};

#[tokio::test]
async fn a_provider_is_loaded_and_answers() {
    let house = House::new();
    let actor = house
        .load_as("fine", &provider(&[]))
        .await
        .expect("it is sound");
    assert_eq!(actor.open().await.expect("it opens").id, "fixture/one");
    assert_eq!(actor.update().await, Ok(Default::default()));
    assert_eq!(actor.increase(increase()).await, Ok(Default::default()));
    let shown = actor.entry().borrow().clone();
    assert_eq!((shown.state, shown.last_error), (PluginState::Loaded, None));
    assert_eq!(shown.digest, Some(actor.digest()));
    let described = shown.description.expect("it was loaded");
    assert_eq!(described.version, "1.2.3");
}

/// Fails in the middle of a call, in code of the manager's own, as often as it says.
struct Defect(AtomicUsize);

impl Tap for Defect {
    fn secret_denied(&self, _name: &str) {
        let left = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        assert!(left.is_err(), "a defect of the manager, made by a test");
    }
}

#[tokio::test]
async fn a_lane_survives_a_defect_of_the_manager_within_a_call() {
    let defect = Arc::new(Defect(AtomicUsize::new(3)));
    let house = House::with("", |options| options.tap = Some(defect));
    let asks = "(call $secret (i32.const 1200) (i32.const 5) (i32.const 2048))";
    let bytes = provider(&[("update", asks), ("increase", asks), ("heartbeat", asks)]);
    let group = house.load_as("unlucky", &bytes).await.expect("it loads");
    let heartbeat = || {
        group.heartbeat(InstanceRef {
            id: InstanceId("i-1".into()),
            memo: String::new(),
        })
    };
    for why in [
        unknown(group.update().await),
        unknown(group.increase(increase()).await),
        unknown(heartbeat().await),
    ] {
        assert!(why.contains("the manager failed in the call"), "{why}");
    }
    until("reading again", || async { group.update().await.is_ok() }).await;
    until("mutating again", || async {
        group.increase(increase()).await.is_ok()
    })
    .await;
    until("looking up again", || async { heartbeat().await.is_ok() }).await;
}

#[tokio::test]
async fn groups_of_one_file_share_what_was_compiled_of_it() {
    let house = House::new();
    let one = house.load_as("p", &provider(&[])).await.expect("it loads");
    let two = house.load("p").await.expect("it loads");
    let programs = || -> Vec<usize> {
        let programs = house.platform.programs.lock().expect("no test poisons it");
        let known = programs.values().map(|known| known.try_lock());
        known
            .map(|known| known.expect("nobody compiles").strong_count())
            .collect()
    };
    assert_eq!(programs(), [2]);
    drop((one, two));
    until("unused", || async { programs() == [0] }).await;
    let other = provider(&[("update", "nop")]);
    let _other = house.load_as("other", &other).await.expect("it loads");
    assert_eq!(programs(), [1], "what nobody runs is forgotten");
}

#[tokio::test]
async fn a_missing_plugin_names_where_it_was_looked_for() {
    let house = House::new();
    let Err(report) = house.load("fleeting-plugin-none").await else {
        panic!("there is none");
    };
    let place = house.dir.path().display();
    assert_eq!(
        report.to_string(),
        format!(
            "plugin `none` was not loaded\n  it was found in none of: {place}\n  \
             next: put `fleeting-plugin-none.wasm` or `none.wasm` into one of these, or install it from its \
             publisher's registry with `fleetling plugin install REGISTRY/GROUP/none` and write that as `plugin`"
        )
    );
    assert_eq!(house.platform.list().await, []);
}

#[tokio::test]
async fn what_is_listed_is_what_loading_would_find() {
    let house = House::with(
        &format!("[renamed]\nsha256 = \"{}\"\n", "ab".repeat(32)),
        |options| options.clocks.processor = STRICT,
    );
    let put = |name: &str, bytes: &[u8]| {
        let file = house.dir.path().join(name);
        std::fs::write(file, bytes).expect("it is writable");
    };
    // Listing asks for no more than `describe`: what only a configuration can spoil is sound.
    put("fine.wasm", &provider(&[("init", "unreachable")]));
    put("damaged.wasm", &provider(&[])[..100]);
    put("core.wasm", &wat::parse_str("(module)").expect("valid"));
    put(
        "foreign.wasm",
        &wat::parse_str("(component)").expect("valid"),
    );
    put(
        "spins.wasm",
        &provider(&[("describe", "(loop $l (br $l))")]),
    );
    put("renamed.wasm", &provider(&[]));
    let listed: Vec<_> = house
        .platform
        .list()
        .await
        .into_iter()
        .map(|entry| {
            let version = entry.description.map(|description| description.version);
            let why = entry.last_error.unwrap_or_default();
            let why = why.lines().nth(1).unwrap_or_default().trim().to_owned();
            (entry.name, entry.state, version, why)
        })
        .collect();
    let failed = |name: &str, why: &str| (name.into(), PluginState::Failed, None, why.into());
    let version = Some("1.2.3".into());
    assert_eq!(
        listed,
        [
            failed("core", "it is a core WebAssembly module, not a component"),
            failed("damaged", "it is damaged or cut short"),
            ("fine".into(), PluginState::Present, version, String::new()),
            failed(
                "foreign",
                "it does not export fleetling:provider/provider as this manager knows it"
            ),
            failed(
                "renamed",
                "its digest is not the one that plugins.toml names (abababababab)"
            ),
            failed(
                "spins",
                "`describe` did not end well: `spins` used 300ms of processor time in `describe` and was stopped"
            ),
        ]
    );
}

#[tokio::test]
async fn init_that_refuses_is_reported_with_its_problem() {
    let house = House::new();
    let refusing = provider(&[("init", "(return (i32.const 512))")]);
    assert_eq!(
        house.refuses(&refusing).await.to_string(),
        "`init` failed: unauthenticated: no key"
    );
}

#[tokio::test]
async fn waiting_is_not_counted_as_processor_time() {
    let house = House::with("", |options| {
        options.clocks.processor = Duration::from_secs(1)
    });
    let naps = "(local $i i32)
        (loop $l
          (call $block (call $after (i64.const 30000000)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 40))))";
    // Locals stand first in a function, so the counter of calls moves behind them.
    let text = PROVIDER.replace(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))\n      (;update;)",
        naps,
    );
    let bytes = wat::parse_str(&text).expect("the test's text is valid");
    let actor = house.load_as("patient", &bytes).await.expect("it loads");
    let began = Instant::now();
    assert_eq!(actor.update().await, Ok(Default::default()));
    assert!(began.elapsed() > Duration::from_millis(1200));
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_to_the_guest() {
    let house = House::with("[small]\nmemory = \"1MiB\"\n", |_| {});
    // 100 MiB fit the default, and 200 do not; what does not fit makes this guest trap.
    let grow = |pages: u32| {
        let grow = format!(
            "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"
        );
        provider(&[("update", &grow)])
    };
    let within = house
        .load_as("within", &grow(1600))
        .await
        .expect("it loads");
    assert_eq!(within.update().await, Ok(Default::default()));
    let beyond = house
        .load_as("beyond", &grow(3200))
        .await
        .expect("it loads");
    unknown(beyond.update().await);
    let small = house.load_as("small", &grow(32)).await.expect("it loads");
    unknown(small.update().await);
    assert_eq!(small.limits().memory, 1 << 20);
    assert_eq!(small.limits().cpu, PATIENT);
}

/// The fixture with text put in before its `$main`, or after that module's memory.
fn enlarged(before: &str, inside: &str, update: &str) -> Vec<u8> {
    let module = "(core module $main\n";
    let memory = "(memory (export \"memory\") 2)\n";
    assert!(PROVIDER.contains(module) && PROVIDER.contains(memory));
    let text = PROVIDER
        .replace(module, &format!("{before}\n{module}"))
        .replace(memory, &format!("{memory}{inside}\n"))
        .replace("(;update;)", update);
    wat::parse_str(&text).expect("the test's text is valid")
}

#[tokio::test]
async fn the_limits_hold_for_all_memories_and_tables_of_an_instance_together() {
    let house = House::new();
    // Each time the first growth fits, and the second would fit alone: 100 MiB of 128, 40 000 elements of 65 536.
    let grow = |what: &str| {
        format!("(if (i32.eq ({what}) (i32.const -1)) (then (return (i32.const 512))))")
    };
    let memories = enlarged(
        "",
        "(memory $second 1)",
        &format!(
            "{}{}",
            grow("memory.grow (i32.const 1600)"),
            grow("memory.grow $second (i32.const 1600)")
        ),
    );
    let tables = enlarged(
        "",
        "(table $one 0 funcref) (table $two 0 funcref)",
        &format!(
            "{}{}",
            grow("table.grow $one (ref.null func) (i32.const 40000)"),
            grow("table.grow $two (ref.null func) (i32.const 40000)")
        ),
    );
    for (name, bytes) in [("memories", memories), ("tables", tables)] {
        let actor = house.load_as(name, &bytes).await.expect("it loads");
        let refused = actor.update().await;
        assert!(
            matches!(refused, Err(CallFailure::Refused(_))),
            "{name}: {refused:?}"
        );
    }
    let instances = |pieces: &str, times: usize| {
        let module = format!("(core module $piece {pieces})");
        enlarged(
            &(module + &"(core instance (instantiate $piece))".repeat(times)),
            "",
            "",
        )
    };
    for pieces in ["(memory 1600)", "(table 40000 funcref)"] {
        let once = house.load_as("once", &instances(pieces, 1)).await;
        assert!(once.is_ok(), "{pieces}: {:?}", once.err());
        let twice = house.load_as("twice", &instances(pieces, 2)).await;
        assert!(twice.is_err(), "{pieces} twice");
    }
}

#[tokio::test]
async fn a_request_that_a_call_forgot_ends_with_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let authority = listener.local_addr().expect("it is bound").to_string();
    let grants =
        format!("[rogue]\nhttp = [\"http://{authority}\"]\nloopback = true\nplaintext = true\n");
    let house = House::with(&grants, |_| {});
    let bytes = provider_on_the_web(
        "http",
        &authority,
        &[("open", "(call $block (call $send))")],
    );
    let actor = house.load_as("rogue", &bytes).await.expect("it loads");
    // The answer never ends: only the client can end the connection.
    let serving = async {
        let (mut connection, _) = listener.accept().await?;
        let mut request = vec![0; 4096];
        let read = connection.read(&mut request).await?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx";
        connection.write_all(answer).await?;
        request.truncate(read);
        connection.read_to_end(&mut request).await.map(|_| request)
    };
    let serving = tokio::time::timeout(Duration::from_secs(10), serving);
    let (opened, ended) = tokio::join!(actor.open(), serving);
    assert!(opened.is_ok(), "{opened:?}");
    let request = ended.expect("the request ended").expect("in peace");
    assert!(request.starts_with(b"GET / HTTP/1.1"), "{request:?}");
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_not_a_failure_of_the_plugin() {
    let house = House::new();
    let bytes = provider(&[("open", "(return (i32.const 512))")]);
    let actor = house.load_as("locked", &bytes).await.expect("it loads");
    for _ in 0..3 {
        let Err(CallFailure::Refused(problem)) = actor.open().await else {
            panic!("it opened");
        };
        assert_eq!(problem.kind, ProblemKind::Unauthenticated);
        assert_eq!(problem.message, "no key");
    }
}

#[test]
fn broken_grants_at_the_start_are_told_with_their_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("plugins.toml");
    std::fs::write(&file, "[aws]\nhtpp = []\n").expect("it is writable");
    let options = PlatformOptions::new(file.clone(), Store::in_memory());
    let Err(problem) = Platform::start(options) else {
        panic!("it started");
    };
    assert_eq!(
        problem.to_string(),
        format!(
            "{} is not usable: line 2, column 1: `htpp` is not known here; is it `http`?",
            file.display()
        )
    );
}
