//! The host against plugins that misbehave, each a component of its own, through the platform as `app` uses it.

mod granted;

use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fleet::group::{CallFailure, IncreaseRequest, InstanceGroup, ProblemKind};

const PROVIDER: &str = include_str!("../fixtures/provider.wat");

/// The provider fixture with instructions put in at the named places.
fn provider(insertions: &[(&str, &str)]) -> Vec<u8> {
    let mut text = PROVIDER.to_owned();
    for (place, instructions) in insertions {
        let mark = format!("(;{place};)");
        assert!(text.contains(&mark), "the fixture has no place {place}");
        text = text.replace(&mark, instructions);
    }
    wat::parse_str(&text).expect("the fixture with its insertion is valid text")
}

fn settings() -> ProviderSettings {
    ProviderSettings {
        os: None,
        arch: None,
        protocol: None,
        port: None,
        username: None,
        static_credentials: false,
        ssh_public_key: Some("ssh-ed25519 AAAA".into()),
        owner: "test".into(),
        max_instances: Some(3),
        capacity_per_instance: 1,
    }
}

struct House {
    dir: TempDir,
    platform: Platform,
}

impl House {
    fn new() -> Self {
        Self::with("", |_| {})
    }

    fn with(grants: &str, change: impl FnOnce(&mut PlatformOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let grants_file = dir.path().join("plugins.toml");
        std::fs::write(&grants_file, grants).expect("it is writable");
        let mut options = PlatformOptions::new(grants_file, Store::in_memory());
        options.plugin_dirs = vec![dir.path().into()];
        options.watch_interval = Duration::from_millis(20);
        options.clocks = Clocks {
            processor: Duration::from_millis(300),
            mutation: Duration::from_secs(20),
            heartbeat: Duration::from_millis(200),
            other: Duration::from_secs(20),
            backoff: Duration::from_millis(50),
        };
        change(&mut options);
        let platform = Platform::start(options).expect("the options are good");
        Self { dir, platform }
    }

    async fn load_as(&self, name: &str, bytes: &[u8]) -> Result<Arc<Actor>, LoadReport> {
        let file = self.dir.path().join(format!("{name}.wasm"));
        std::fs::write(file, bytes).expect("it is writable");
        self.load(name).await
    }

    async fn load(&self, name: &str) -> Result<Arc<Actor>, LoadReport> {
        let request = LoadRequest {
            reference: name,
            config: &json!({ "name": "group" }),
            settings: settings(),
            group_key: name,
        };
        self.platform.load(request).await
    }

    async fn refuses(&self, bytes: &[u8]) -> Cause {
        match self.load_as("rogue", bytes).await {
            Ok(_) => panic!("it was loaded"),
            Err(report) => report.cause,
        }
    }
}

fn unknown<T: std::fmt::Debug>(outcome: Result<T, CallFailure>) -> String {
    match outcome {
        Err(CallFailure::OutcomeUnknown(why)) => why,
        other => panic!("its outcome is known: {other:?}"),
    }
}

fn increase() -> IncreaseRequest {
    IncreaseRequest {
        token: "t".into(),
        count: 1,
        avoid_pools: Vec::new(),
    }
}

/// Waits until `ready` says so, for at most ten seconds.
async fn until<F: Future<Output = bool>>(what: &str, mut ready: impl FnMut() -> F) {
    let began = Instant::now();
    while !ready().await {
        assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

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
    let listed = house.platform.list().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, PluginState::Loaded);
    let described = listed[0].description.as_ref().expect("it was loaded");
    assert_eq!(described.version, "1.2.3");
}

#[tokio::test]
async fn what_is_no_provider_is_refused_with_its_reason() {
    let house = House::new();
    let text = |text: &str| wat::parse_str(text).expect("the test's text is valid");
    assert_eq!(house.refuses(b"\x7fELF...").await, Cause::Native);
    assert_eq!(house.refuses(b"hello").await, Cause::NotWasm);
    assert_eq!(house.refuses(b"").await, Cause::NotWasm);
    assert_eq!(house.refuses(&text("(module)")).await, Cause::CoreModule);
    let whole = provider(&[]);
    for length in [9, whole.len() / 2, whole.len() - 1] {
        let cut = house.refuses(&whole[..length]).await;
        assert!(matches!(cut, Cause::Invalid { .. }), "{cut:?}");
    }
    let none = house.refuses(&text("(component)")).await;
    assert!(matches!(none, Cause::NoProvider { .. }), "{none:?}");
    let foreign = text(r#"(component (import "acme:gpu/dial@1.0.0" (instance)))"#);
    let imports = house.refuses(&foreign).await;
    assert_eq!(
        imports.to_string(),
        "it imports acme:gpu/dial@1.0.0, which this manager does not provide"
    );
    let newer = text(r#"(component (import "fleetling:provider/log@0.3.0" (instance)))"#);
    assert_eq!(
        house.refuses(&newer).await.to_string(),
        "it needs fleetling:provider@0.3.0; this manager provides 0.1"
    );
    let preview_3 = text(r#"(component (import "wasi:http/handler@0.3.0" (instance)))"#);
    assert!(matches!(
        house.refuses(&preview_3).await,
        Cause::Imports { .. }
    ));
    let misshapen = PROVIDER.replace("(param \"for-good\" bool) ", "");
    let misshapen = misshapen.replace("#shutdown\") (param i32)", "#shutdown\")");
    let refused = house.refuses(&text(&misshapen)).await;
    assert!(matches!(refused, Cause::NoProvider { .. }), "{refused:?}");
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
             next: put `fleeting-plugin-none.wasm` or `none.wasm` into one of these"
        )
    );
    let entries = house.platform.list().await;
    assert_eq!(entries[0].state, PluginState::Failed);
}

#[tokio::test]
async fn what_is_listed_is_what_loading_would_find() {
    let house = House::with(
        &format!("[renamed]\nsha256 = \"{}\"\n", "ab".repeat(32)),
        |_| {},
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
                "`describe` failed: `spins` used 300ms of processor time in `describe` and was stopped"
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
    let spinning = provider(&[("init", "(loop $l (br $l))")]);
    assert_eq!(
        house.refuses(&spinning).await.to_string(),
        "`init` failed: `rogue` used 300ms of processor time in `init` and was stopped"
    );
}

#[tokio::test]
async fn the_processor_clock_stops_a_guest_that_spins_and_no_other() {
    let house = House::new();
    let spinning = provider(&[("update", "(loop $l (br $l))")]);
    let rogue = house.load_as("rogue", &spinning).await.expect("it loads");
    let fine = house
        .load_as("fine", &provider(&[]))
        .await
        .expect("it loads");
    let beside = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        assert_eq!(fine.update().await, Ok(Default::default()));
        began.elapsed()
    };
    let (stopped, beside) = tokio::join!(rogue.update(), beside);
    assert_eq!(
        unknown(stopped),
        "`rogue` used 300ms of processor time in `update` and was stopped"
    );
    assert!(
        beside < Duration::from_millis(250),
        "held up for {beside:?}"
    );
    // Its other instances go on.
    assert_eq!(rogue.increase(increase()).await, Ok(Default::default()));
}

#[tokio::test]
async fn the_wall_clock_ends_a_wait_that_costs_no_processor_time() {
    let house = House::new();
    let sleeping = "(call $block (call $after (i64.const 3600000000000)))";
    let bytes = provider(&[("heartbeat", sleeping)]);
    let actor = house.load_as("rogue", &bytes).await.expect("it loads");
    let of = crate::fleet::group::InstanceRef {
        id: crate::fleet::group::InstanceId("i-1".into()),
        memo: String::new(),
    };
    assert_eq!(
        unknown(actor.heartbeat(of).await),
        "`heartbeat` of `rogue` did not return in 200ms (0 requests in flight)"
    );
}

#[tokio::test]
async fn waiting_is_not_counted_as_processor_time() {
    let house = House::new();
    let naps = "(local $i i32)
        (loop $l
          (call $block (call $after (i64.const 6000000)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 80))))";
    // Locals stand first in a function, so the counter of calls moves behind them.
    let text = PROVIDER.replace(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))\n      (;update;)",
        naps,
    );
    let bytes = wat::parse_str(&text).expect("the test's text is valid");
    let actor = house.load_as("patient", &bytes).await.expect("it loads");
    let began = Instant::now();
    assert_eq!(actor.update().await, Ok(Default::default()));
    assert!(began.elapsed() > Duration::from_millis(480));
}

#[tokio::test]
async fn complaint_23_a_trap_costs_one_call_and_the_plugin_is_started_again() {
    let house = House::new();
    let second = "(if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))";
    let bytes = provider(&[("update", second)]);
    let actor = house.load_as("rogue", &bytes).await.expect("it loads");
    assert_eq!(actor.update().await, Ok(Default::default()));
    let why = unknown(actor.update().await);
    assert!(
        why.starts_with("`rogue` crashed in `update`: wasm trap"),
        "{why}"
    );
    let Err(CallFailure::NotCalled(why)) = actor.update().await else {
        panic!("it does not back off");
    };
    assert!(
        why.starts_with("the plugin is started again in 1 s, because `rogue` crashed"),
        "{why}"
    );
    // The rebuilt instance counts its calls from zero: the first is answered, the second traps again.
    until("rebuilt", || async { actor.update().await.is_ok() }).await;
    unknown(actor.update().await);
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
    assert_eq!(small.limits().cpu, Duration::from_millis(300));
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

/// What a guest needs of `wasi:http` to send a request and forget it; `send` of the core instance `$web` does.
const WEB: &str = include_str!("../fixtures/web.wat");

#[tokio::test]
async fn a_request_that_a_call_forgot_ends_with_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let authority = listener.local_addr().expect("it is bound").to_string();
    let grants =
        format!("[rogue]\nhttp = [\"http://{authority}\"]\nloopback = true\nplaintext = true\n");
    let house = House::with(&grants, |_| {});
    let module = "(core module $main\n";
    let web = WEB
        .replace("(;authority;)", &authority)
        .replace("(;length;)", &authority.len().to_string());
    let text = PROVIDER
        .replace(
            module,
            &format!("{web}{module}(import \"web\" \"send\" (func $send (result i32)))\n"),
        )
        .replace(
            "(instantiate $main\n",
            "(instantiate $main (with \"web\" (instance $web))\n",
        )
        .replace("(;open;)", "(call $block (call $send))");
    let bytes = wat::parse_str(&text).expect("the test's text is valid");
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
