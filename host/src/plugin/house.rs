//! For tests: a platform with its folder, and the provider fixture with instructions put in where a test wants them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::actor::Clocks;
use super::egress::{Egress, EgressOptions, Policy, system_resolver};
use super::engine::{Allotment, Tenant};
use super::grants::Grants;
use super::kv::Kv;
use super::log::GuestLog;
use super::platform::{LoadRequest, Platform, PlatformOptions};
use super::provider::Provider;
use super::report::{Cause, Digest, LoadReport};
use super::secrets::Secrets;
use super::trail::Trail;
use crate::fleet::group::{CallFailure, IncreaseRequest, ProviderSettings};
use crate::store::Store;
use crate::store::audit::Audit;

/// Processor time that nothing a sound guest does comes near, whatever an unoptimised host needs of it for itself.
pub(super) const PATIENT: Duration = Duration::from_secs(30);
/// For guests that are meant to use it up.
pub(super) const STRICT: Duration = Duration::from_millis(300);

pub(super) const PROVIDER: &str = include_str!("fixtures/provider.wat");

/// The provider fixture with instructions put in at the named places.
pub(super) fn provider(insertions: &[(&str, &str)]) -> Vec<u8> {
    with(PROVIDER.to_owned(), insertions)
}

fn with(mut text: String, insertions: &[(&str, &str)]) -> Vec<u8> {
    for (place, instructions) in insertions {
        let mark = format!("(;{place};)");
        assert!(text.contains(&mark), "the fixture has no place {place}");
        text = text.replace(&mark, instructions);
    }
    wat::parse_str(&text).expect("the fixture with its insertion is valid text")
}

pub(super) fn settings() -> ProviderSettings {
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

pub(super) struct House {
    pub(super) dir: TempDir,
    pub(super) platform: Arc<Platform>,
}

impl House {
    pub(super) fn new() -> Self {
        Self::with("", |_| {})
    }

    pub(super) fn with(grants: &str, change: impl FnOnce(&mut PlatformOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let grants_file = dir.path().join("plugins.toml");
        std::fs::write(&grants_file, grants).expect("it is writable");
        let mut options = PlatformOptions::new(grants_file, Store::in_memory());
        options.plugin_dirs = vec![dir.path().into()];
        options.watch_interval = Duration::from_millis(20);
        options.clocks = Clocks {
            processor: PATIENT,
            mutation: Duration::from_secs(60),
            heartbeat: Duration::from_secs(60),
            other: Duration::from_secs(60),
            backoff: Duration::from_millis(50),
        };
        change(&mut options);
        let platform = Platform::start(options).expect("the options are good");
        Self { dir, platform }
    }

    pub(super) async fn load_as(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Arc<Provider>, LoadReport> {
        let file = self.dir.path().join(format!("{name}.wasm"));
        std::fs::write(file, bytes).expect("it is writable");
        self.load(name).await
    }

    pub(super) async fn load(&self, name: &str) -> Result<Arc<Provider>, LoadReport> {
        let request = LoadRequest {
            reference: name,
            config: &json!({ "name": "group" }),
            settings: settings(),
            group_key: name,
        };
        self.platform.load(request).await
    }

    pub(super) async fn refuses(&self, bytes: &[u8]) -> Cause {
        match self.load_as("rogue", bytes).await {
            Ok(_) => panic!("it was loaded"),
            Err(report) => report.cause,
        }
    }
}

pub(super) fn unknown<T: std::fmt::Debug>(outcome: Result<T, CallFailure>) -> String {
    match outcome {
        Err(CallFailure::OutcomeUnknown(why)) => why,
        other => panic!("its outcome is known: {other:?}"),
    }
}

pub(super) fn increase() -> IncreaseRequest {
    IncreaseRequest {
        token: "t".into(),
        count: 1,
        avoid_pools: Vec::new(),
    }
}

/// Waits until `ready` says so, for at most a minute: a busy machine is late.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut ready: impl FnMut() -> F) {
    let began = Instant::now();
    while !ready().await {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Of a plugin that is granted nothing.
pub(super) async fn tenant() -> Arc<Tenant> {
    let egress = EgressOptions {
        plugin: "p".into(),
        group: "g".into(),
        grants_file: "plugins.toml".into(),
        no_built_in: None,
        resolver: system_resolver(),
        observer: Arc::new(|_| {}),
        all: Arc::new(Semaphore::new(1)),
        tap: None,
    };
    let policy = Policy::read(&Grants::default(), &serde_json::Value::Null).await;
    let trail = Trail::new(Audit::default(), "p".into(), "g".into(), Digest::of(b""));
    Arc::new(Tenant::new(
        Arc::new(GuestLog::new("p".into(), "g".into())),
        Arc::new(Kv::new(Store::in_memory(), "g".into())),
        Arc::new(Egress::new(egress, policy)),
        trail,
        Allotment::default(),
        Secrets::default(),
    ))
}

/// What a guest needs of `wasi:http`; `send` of the core instance `$web` begins a request and gives what is ready when the
/// answer has begun, `fetch` reads the answer to its end and gives its status, or what went wrong.
const WEB: &str = include_str!("fixtures/web.wat");

/// The provider fixture with a way to http://`authority`/: `$send` and `$fetch` may be called in the insertions.
pub(super) fn provider_on_the_web(
    scheme: &str,
    authority: &str,
    insertions: &[(&str, &str)],
) -> Vec<u8> {
    let module = "(core module $main\n";
    let instance = "(instantiate $main\n";
    assert!(PROVIDER.contains(module) && PROVIDER.contains(instance));
    let scheme = if scheme == "https" { "1" } else { "0" };
    let web = WEB
        .replace("(;authority;)", authority)
        .replace("(;scheme;)", scheme)
        .replace("(;length;)", &authority.len().to_string());
    let imports = "(import \"web\" \"send\" (func $send (result i32)))\n    \
                   (import \"web\" \"fetch\" (func $fetch (result i32)))\n";
    let text = PROVIDER
        .replace(module, &format!("{web}{module}{imports}"))
        .replace(
            instance,
            "(instantiate $main (with \"web\" (instance $web))\n",
        );
    with(text, insertions)
}
