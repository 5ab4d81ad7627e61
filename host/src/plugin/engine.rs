//! The sandbox's engine: compiler, ticker, limits, and the only way to make a plugin's instance.
//!
//! ```text
//! Engine ─ compile ─► Program (linked, checked) ─ instantiate(Tenant) ─► Guest { Store<Sandbox>, exports }
//!    ▲ EngineWeak
//! ticker thread: one epoch every 5 ms; each tick the running guest's processor time is held against its budget
//! ```
//! Invariant: a guest that trapped, ran out of a clock, or whose call was dropped is never called again.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
pub use wasmtime::component::ResourceTableError;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Cache, CacheConfig, Config, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::{self, ContractPre, Guest, PACKAGE};
use super::egress::{Egress, EgressHooks};
use super::grants::Limits;
use super::handler;
use super::kv::Kv;
use super::log::{GuestLog, Level, Stdio};
use super::outline::Outline;
use super::quota::Quota;
use super::report::Cause;
use super::secrets::Secrets;
use super::trail::Trail;
use crate::store::owner;

const TICK: Duration = Duration::from_millis(5);
/// Of one instance at once.
pub const RESOURCES: usize = 1_000;
/// Bytes that one call may lift from guest to host.
pub const HOSTCALL_FUEL: usize = 8 << 20;
const RANDOM_BYTES: u64 = 64 << 10;

/// One group's plugin as all its instances share it.
pub struct Tenant {
    pub log: Arc<GuestLog>,
    pub kv: Arc<Kv>,
    pub egress: Arc<Egress>,
    pub trail: Trail,
    /// Replaced when the grants change.
    allotment: RwLock<Arc<Allotment>>,
    secrets: RwLock<Arc<Secrets>>,
}

/// What an instance is made with and keeps to its end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Allotment {
    /// Granted names with their values.
    pub env: Vec<(String, String)>,
    pub limits: Limits,
}

impl Tenant {
    pub fn new(
        log: Arc<GuestLog>,
        kv: Arc<Kv>,
        egress: Arc<Egress>,
        trail: Trail,
        allotment: Allotment,
        secrets: Secrets,
    ) -> Self {
        Self {
            log,
            kv,
            egress,
            trail,
            allotment: RwLock::new(Arc::new(allotment)),
            secrets: RwLock::new(Arc::new(secrets)),
        }
    }

    pub fn secrets(&self) -> Arc<Secrets> {
        read(&self.secrets)
    }

    /// The same value until it is changed: an instance made with another is made anew.
    pub fn allotment(&self) -> Arc<Allotment> {
        read(&self.allotment)
    }

    pub fn change_secrets(&self, to: Secrets) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(to);
    }

    /// Instances that were made with what is the same now stay.
    pub fn change_allotment(&self, to: Allotment) {
        if *self.allotment() != to {
            *self
                .allotment
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Arc::new(to);
        }
    }
}

fn read<T>(of: &RwLock<Arc<T>>) -> Arc<T> {
    of.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What a store holds: WASI with nothing in it, the egress policy, the tenant.
pub struct Sandbox {
    // Dropped first: it ends all of a call's requests at once, the table one after another.
    hooks: EgressHooks,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    quota: Quota,
    tenant: Arc<Tenant>,
    meter: Arc<Meter>,
}

impl Sandbox {
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Nothing that the guest asked for in a call goes on after it.
    pub fn end_call(&mut self) {
        self.hooks.end_call();
    }

    /// `init` has ended well: from the next call on, requests leave.
    pub fn initialised(&mut self) {
        self.hooks.end_call();
        self.hooks.let_out();
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

/// Processor time of one instance's current call: what its polls cost the threads that ran them. Waits do not count,
/// neither the guest's on the host nor the thread's for a processor.
#[derive(Debug)]
pub struct Meter {
    spent_ns: AtomicU64,
    /// What the thread had used when it began the current poll, in nanoseconds.
    began_ns: AtomicU64,
    budget: Duration,
}

/// The processor time of a call is used up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("processor time used up")]
pub struct ProcessorTimeSpent;

impl Meter {
    fn new(budget: Duration) -> Self {
        Self {
            spent_ns: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
            budget,
        }
    }

    fn in_this_poll(&self) -> u64 {
        thread_ns().saturating_sub(self.began_ns.load(Ordering::Relaxed))
    }

    fn is_spent(&self) -> bool {
        let spent = self.spent_ns.load(Ordering::Relaxed) + self.in_this_poll();
        Duration::from_nanos(spent) > self.budget
    }

    /// Runs one call under the meter, from zero.
    pub async fn metered<F: Future>(self: Arc<Self>, call: F) -> F::Output {
        self.spent_ns.store(0, Ordering::Relaxed);
        let mut call = std::pin::pin!(call);
        std::future::poll_fn(|context: &mut Context<'_>| -> Poll<F::Output> {
            self.began_ns.store(thread_ns(), Ordering::Relaxed);
            let polled = Pin::as_mut(&mut call).poll(context);
            self.spent_ns
                .fetch_add(self.in_this_poll(), Ordering::Relaxed);
            polled
        })
        .await
    }
}

/// Processor time of this thread in nanoseconds. A poll begins and ends on one thread, and so does what interrupts it.
fn thread_ns() -> u64 {
    // It is there since Linux 2.6.12; without it no call would ever be stopped, and the wall clocks still would.
    let used =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)
}

/// A compiled component, proven to export the contract and to import nothing else.
#[derive(Clone)]
pub struct Program {
    pre: ContractPre<Sandbox>,
}

/// One per process.
pub struct Engine {
    engine: wasmtime::Engine,
    /// Compiled components on the disk.
    cache: Option<Cache>,
    linker: Linker<Sandbox>,
}

impl Engine {
    /// `cache_dir` keeps compiled components; where it cannot be used, they are compiled anew at every start.
    pub fn new(cache_dir: Option<&Path>) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.wasm_component_model(true);
        let cache = cache_dir.and_then(|dir| {
            let opened = open_cache(dir);
            let told = opened.inspect_err(|problem| {
                let dir = dir.display();
                tracing::warn!(%dir, %problem, "compiled plugins cannot be kept");
            });
            told.ok()
        });
        config.cache(cache.clone());
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        handler::add_to_linker(&mut linker)?;
        bindings::add_to_linker(&mut linker)?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })?;
        Ok(Self {
            engine,
            cache,
            linker,
        })
    }

    /// Components that were compiled by this process, because the cache did not have them.
    pub fn compiled_here(&self) -> usize {
        self.cache.as_ref().map_or(0, Cache::cache_misses)
    }

    /// Compiles into the cache, and nothing more.
    pub fn fill_cache(&self, bytes: &[u8]) -> Result<(), String> {
        let compiled = Component::from_binary(&self.engine, bytes);
        compiled.map(drop).map_err(|problem| format!("{problem:#}"))
    }

    /// Validates in full, compiles (through the cache) and links. Takes seconds for a component not seen before: call
    /// it where blocking is no harm.
    pub fn compile(&self, bytes: &[u8]) -> Result<Program, Cause> {
        recognise(bytes)?;
        let component =
            Component::from_binary(&self.engine, bytes).map_err(|problem| Cause::Invalid {
                detail: format!("{problem:#}"),
            })?;
        self.link(&component)
    }

    fn link(&self, component: &Component) -> Result<Program, Cause> {
        let ty = component.component_type();
        let names = |name: &str| name.to_owned();
        let imports: Vec<String> = ty.imports(&self.engine).map(|(n, _)| names(n)).collect();
        let exports = ty.exports(&self.engine).map(|(n, _)| names(n));
        let provider = exports
            .filter(|name| name.starts_with("fleetling:provider/provider@"))
            // One of a version that is offered, where there are several.
            .max_by_key(|name| is_offered(name));
        let contract = || provider.iter().chain(&imports).filter(|name| is_ours(name));
        if let Some(name) = contract().find(|name| !is_offered(name)) {
            return Err(Cause::Version {
                needed: package_of(name),
                provided: "0.1".to_owned(),
            });
        }
        let foreign: Vec<String> = imports.iter().filter(|n| !is_offered(n)).cloned().collect();
        if !foreign.is_empty() {
            return Err(Cause::Imports {
                names: foreign,
                detail: String::new(),
            });
        }
        if provider.is_none() {
            return Err(Cause::NoProvider {
                detail: String::new(),
            });
        }
        let pre = self.linker.instantiate_pre(component).map_err(|problem| {
            // What a later version of the contract added is asked for in its name.
            match contract()
                .map(|name| package_of(name))
                .find(|package| package != PACKAGE)
            {
                Some(needed) => Cause::Version {
                    needed,
                    provided: version_of(PACKAGE).to_owned(),
                },
                None => Cause::Imports {
                    names: vec!["something that this manager's interfaces lack".to_owned()],
                    detail: format!("{problem:#}"),
                },
            }
        })?;
        let pre = ContractPre::new(pre).map_err(|problem| Cause::NoProvider {
            detail: format!("{problem:#}"),
        })?;
        Ok(Program { pre })
    }

    /// What the component's type says of itself.
    pub fn outline(&self, program: &Program) -> Outline {
        let ty = program.pre.instance_pre().component().component_type();
        let names = |named: &mut dyn Iterator<Item = &str>| named.map(str::to_owned).collect();
        Outline {
            imports: names(&mut ty.imports(&self.engine).map(|(name, _)| name)),
            exports: names(&mut ty.exports(&self.engine).map(|(name, _)| name)),
        }
    }

    /// Must run inside a tokio runtime.
    pub async fn instantiate(
        &self,
        program: &Program,
        tenant: Arc<Tenant>,
        allotment: &Allotment,
    ) -> wasmtime::Result<(Guest, Arc<Meter>)> {
        let meter = Arc::new(Meter::new(allotment.limits.cpu));
        let mut store = self.store(tenant, allotment, meter.clone());
        let instantiation = program.pre.instantiate_async(&mut store);
        let contract = meter.clone().metered(instantiation).await?;
        Ok((Guest { store, contract }, meter))
    }

    fn store(
        &self,
        tenant: Arc<Tenant>,
        allotment: &Allotment,
        meter: Arc<Meter>,
    ) -> Store<Sandbox> {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(Stdio::new(tenant.log.clone(), Level::Info))
            .stderr(Stdio::new(tenant.log.clone(), Level::Warn))
            .envs(&allotment.env)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(allotment.limits.headers);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let sandbox = Sandbox {
            wasi: wasi.build(),
            http,
            table,
            hooks: EgressHooks::new(tenant.egress.clone()),
            quota: Quota::new(&allotment.limits),
            tenant,
            meter,
        };
        let mut store = Store::new(&self.engine, sandbox);
        store.limiter(|sandbox| &mut sandbox.quota);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            if context.data().meter.is_spent() {
                return Err(wasmtime::Error::from(ProcessorTimeSpent));
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("fleetling:provider/")
}

fn version_of(name: &str) -> &str {
    name.rsplit('@').next().unwrap_or_default()
}

/// As the contract's package is written with the version that `name` asks for.
fn package_of(name: &str) -> String {
    format!("fleetling:provider@{}", version_of(name))
}

/// What stands in a cache is run as it is: one that others can write is not used.
fn open_cache(dir: &Path) -> Result<Cache, String> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|problem| problem.to_string())?;
    match owner::exposure(dir) {
        Ok(None) => {}
        Ok(Some(exposure)) => return Err(exposure),
        Err(problem) => return Err(problem.to_string()),
    }
    let mut config = CacheConfig::new();
    config.with_directory(dir);
    Cache::new(config).map_err(|problem| format!("{problem:#}"))
}

/// All of WASI 0.2 is offered, because guests' runtimes import it; most of it is inert in an empty context.
fn is_offered(import: &str) -> bool {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    if path.starts_with("wasi:") {
        return version.starts_with("0.2.");
    }
    is_ours(path) && version.starts_with("0.1.")
}

/// The first bytes say which mistake was made; whether the rest is sound, only the full validation does.
pub fn recognise(bytes: &[u8]) -> Result<(), Cause> {
    let native: [&[u8]; 5] = [
        b"\x7fELF",
        b"MZ",
        b"#!",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
    ];
    if native.iter().any(|magic| bytes.starts_with(magic)) {
        return Err(Cause::Native);
    }
    match bytes {
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(Cause::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        _ => Err(Cause::NotWasm),
    }
}

#[cfg(test)]
mod versions;
