//! One plugin file at work for one group: a mutating instance, a reading one and a few for lookups, each behind its own queue.
//!
//! ```text
//!            ┌ mutating ◄─ increase, decrease, shutdown     1 instance
//! callers ───┼ reading  ◄─ open, update                     1 instance
//!            └ lookup   ◄─ connect-info, heartbeat          LOOKUPS instances on one queue
//! instance:  absent ─ instantiate + init ─► idle ─ call ─► idle
//!               ▲                                └ trap, or a clock ran out ─► dropped, back-off 1 s … 60 s ─┐
//!               └────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Invariants: an instance runs one call at a time and is never called again after a trap or a time-out; a call that was
//! begun and not answered is `OutcomeUnknown`, one that was not begun is `NotCalled`; no slow call of one lane holds up
//! another lane; a group is changed by one call at a time, also while one file takes over from another; a lane has its
//! workers for as long as the actor lives, also when the manager itself fails within a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{error, info, warn};

use super::bindings::Guest;
use super::engine::{
    Allotment, Engine, HOSTCALL_FUEL, Meter, ProcessorTimeSpent, Program, RESOURCES,
    ResourceTableError, Tenant,
};
use super::grants::Limits;
use super::runtime::GuestRuntime;
use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceRef, Problem,
    ProviderSettings, Removal, Snapshot,
};

const LOOKUPS: usize = 4;
/// Calls that wait in one lane; more than this means that nobody is listening.
const QUEUED: usize = 64;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// An instance that worked this long starts its back-off anew.
const HEALTHY: Duration = Duration::from_secs(600);

/// The processor clock and the wall clocks of a plugin's calls. HTTP has its own, in `egress`.
#[derive(Clone, Debug)]
pub struct Clocks {
    /// Processor time of any one call.
    /// Where `limits.cpu` does not say otherwise.
    pub processor: Duration,
    pub mutation: Duration,
    pub heartbeat: Duration,
    /// `init`, `open`, `update`, `connect-info`, `shutdown`.
    pub other: Duration,
    /// First pause after a failure.
    pub backoff: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            processor: Duration::from_secs(2),
            mutation: Duration::from_secs(120),
            heartbeat: Duration::from_secs(10),
            other: Duration::from_secs(60),
            backoff: FIRST_BACKOFF,
        }
    }
}

impl Clocks {
    fn wall(&self, call: &str) -> Duration {
        match call {
            "increase" | "decrease" => self.mutation,
            "heartbeat" => self.heartbeat,
            _ => self.other,
        }
    }
}

/// Everything an instance is made of, again after every failure.
#[derive(Clone)]
pub struct Recipe {
    /// The operator's name of the plugin.
    pub plugin: String,
    pub engine: Arc<Engine>,
    pub program: Arc<Program>,
    pub tenant: Arc<Tenant>,
    /// JSON of `plugin_config`.
    pub config: String,
    pub settings: ProviderSettings,
    pub clocks: Clocks,
    /// Held by the call that changes the group.
    pub turn: Arc<Mutex<()>>,
}

/// A call that was begun and not answered: the instance is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBuilt {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("`init` refused: {0}")]
    Refused(Problem),
}

/// An instance with the meter of its calls.
pub struct Instance {
    pub guest: Guest,
    pub meter: Arc<Meter>,
    made_with: Arc<Allotment>,
}

impl Recipe {
    /// Instantiated and initialised.
    pub async fn build(&self) -> Result<Instance, NotBuilt> {
        let instance = self.instantiate().await;
        let mut instance = instance.map_err(|e| self.lost("instantiation", &e))?;
        let meter = instance.meter.clone();
        let init = instance.guest.init(&self.config, &self.settings);
        self.clocked("init", meter, init)
            .await?
            .map_err(NotBuilt::Refused)?;
        instance.guest.store.data_mut().initialised();
        Ok(instance)
    }

    /// Not yet initialised: only `describe` may be called.
    pub async fn instantiate(&self) -> wasmtime::Result<Instance> {
        let tenant = self.tenant.clone();
        let made_with = tenant.allotment();
        let made = self.engine.instantiate(&self.program, tenant, &made_with);
        // A start function may wait for ever without using the processor.
        let wall = self.clocks.wall("init");
        let made = tokio::time::timeout(wall, made).await;
        let (guest, meter) =
            made.map_err(|_| wasmtime::Error::msg(format!("it did not start within {wall:?}")))??;
        Ok(Instance {
            guest,
            meter,
            made_with,
        })
    }

    /// One call under its processor clock and its wall clock.
    pub async fn clocked<T>(
        &self,
        name: &'static str,
        meter: Arc<Meter>,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> Result<T, Lost> {
        let wall = self.clocks.wall(name);
        match tokio::time::timeout(wall, meter.metered(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(self.lost(name, &problem)),
            Err(_) => Err(Lost(format!(
                "`{name}` of `{}` did not return in {wall:?} ({} requests in flight)",
                self.plugin,
                self.tenant.egress.in_flight()
            ))),
        }
    }

    pub fn lost(&self, name: &str, problem: &wasmtime::Error) -> Lost {
        let plugin = &self.plugin;
        Lost(if problem.downcast_ref::<ProcessorTimeSpent>().is_some() {
            let budget = self.tenant.allotment().limits.cpu;
            format!("`{plugin}` used {budget:?} of processor time in `{name}` and was stopped")
        } else if let Some(trap) = problem.downcast_ref::<wasmtime::Trap>() {
            format!("`{plugin}` crashed in `{name}`: {trap}")
        } else if let Some(ResourceTableError::Full) = problem.downcast_ref() {
            format!("`{plugin}` held more than {RESOURCES} resources in `{name}` and was stopped")
        } else {
            let cause = problem.root_cause().to_string();
            if cause.contains("fuel allocated for hostcalls") {
                let most = HOSTCALL_FUEL >> 20;
                format!("`{plugin}` said more than {most} MiB in `{name}` and was stopped")
            } else {
                format!("`{plugin}` failed in `{name}`: {cause}")
            }
        })
    }
}

type Reply<T> = oneshot::Sender<Result<T, CallFailure>>;

enum Call {
    Open(Reply<Group>),
    Update(Reply<Snapshot>),
    Increase(IncreaseRequest, Reply<IncreaseOutcome>),
    Decrease(Vec<InstanceRef>, Reply<Vec<Removal>>),
    ConnectInfo(InstanceRef, Reply<Connection>),
    Heartbeat(InstanceRef, Reply<()>),
    Shutdown(bool, Reply<()>),
}

impl Call {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Open(reply) => reply.is_closed(),
            Self::Update(reply) => reply.is_closed(),
            Self::Increase(_, reply) => reply.is_closed(),
            Self::Decrease(_, reply) => reply.is_closed(),
            Self::ConnectInfo(_, reply) => reply.is_closed(),
            Self::Heartbeat(_, reply) | Self::Shutdown(_, reply) => reply.is_closed(),
        }
    }

    fn refuse(self, why: CallFailure) {
        match self {
            Self::Open(reply) => answer(reply, Err(why)),
            Self::Update(reply) => answer(reply, Err(why)),
            Self::Increase(_, reply) => answer(reply, Err(why)),
            Self::Decrease(_, reply) => answer(reply, Err(why)),
            Self::ConnectInfo(_, reply) => answer(reply, Err(why)),
            Self::Heartbeat(_, reply) | Self::Shutdown(_, reply) => answer(reply, Err(why)),
        }
    }
}

/// A caller that left in the meantime treats its call as of unknown outcome by itself.
fn answer<T>(reply: Reply<T>, with: Result<T, CallFailure>) {
    drop(reply.send(with));
}

type Queue = Arc<Mutex<mpsc::Receiver<Call>>>;

/// The task that owns one instance.
struct Worker {
    lane: &'static str,
    recipe: Arc<Recipe>,
    queue: Queue,
    instance: Option<Instance>,
    built_at: Instant,
    backoff: Duration,
    retry_at: Option<Instant>,
    last_failure: String,
}

impl Worker {
    fn new(lane: &'static str, recipe: Arc<Recipe>, queue: Queue, first: Option<Instance>) -> Self {
        Self {
            lane,
            queue,
            instance: first,
            built_at: Instant::now(),
            backoff: recipe.clocks.backoff,
            retry_at: None,
            last_failure: String::new(),
            recipe,
        }
    }

    /// Ends when the actor is dropped and its queue is empty. A panic costs the call that it happened in, and the
    /// instance; the next worker takes the queue over, in the place that a plugin's own failure would have left.
    async fn keep(mut self) {
        loop {
            let (lane, recipe, queue) = (self.lane, self.recipe.clone(), self.queue.clone());
            let (built_at, backoff) = (self.built_at, self.backoff);
            match tokio::spawn(self.run()).await {
                Err(problem) if problem.is_panic() => {
                    let plugin = &recipe.plugin;
                    error!(
                        %plugin, lane,
                        "manager failed within a call of this plugin; next: report the panic above, which is a defect of \
                         the manager"
                    );
                    self = Self {
                        built_at,
                        backoff,
                        ..Self::new(lane, recipe, queue, None)
                    };
                    self.back_off("the manager itself failed in the call before".to_owned());
                }
                // The runtime ends with the manager.
                Ok(()) | Err(_) => return,
            }
        }
    }

    async fn run(mut self) {
        loop {
            let next = self.queue.lock().await.recv().await;
            let Some(call) = next else {
                return;
            };
            if call.is_abandoned() {
                continue;
            }
            match self.ready().await {
                Ok(instance) => self.serve(instance, call).await,
                Err(why) => call.refuse(why),
            }
        }
    }

    /// The instance, taken out: it is put back only after a call that ended well.
    async fn ready(&mut self) -> Result<Instance, CallFailure> {
        if let Some(instance) = self.instance.take() {
            if Arc::ptr_eq(&instance.made_with, &self.recipe.tenant.allotment()) {
                return Ok(instance);
            }
            info!(plugin = %self.recipe.plugin, lane = self.lane, "plugin instance is made anew with what is granted now");
        }
        if let Some(wait) = self
            .retry_at
            .and_then(|at| at.checked_duration_since(Instant::now()))
        {
            return Err(CallFailure::NotCalled(format!(
                "the plugin is started again in {} s, because {}",
                wait.as_secs() + 1,
                self.last_failure
            )));
        }
        let built = self.recipe.build().await;
        match built {
            Ok(instance) => {
                self.built_at = Instant::now();
                Ok(instance)
            }
            Err(why) => {
                self.back_off(why.to_string());
                Err(match why {
                    NotBuilt::Refused(problem) => CallFailure::Refused(problem),
                    NotBuilt::Lost(lost) => CallFailure::NotCalled(lost.0),
                })
            }
        }
    }

    fn back_off(&mut self, why: String) {
        if self.built_at.elapsed() >= HEALTHY {
            self.backoff = self.recipe.clocks.backoff;
        }
        warn!(
            plugin = %self.recipe.plugin, lane = self.lane, %why, pause = ?self.backoff,
            "plugin instance dropped"
        );
        self.retry_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        self.last_failure = why;
    }

    async fn serve(&mut self, mut instance: Instance, call: Call) {
        let recipe = self.recipe.clone();
        let _turn = match call {
            Call::Increase(..) | Call::Decrease(..) => Some(recipe.turn.lock().await),
            _ => None,
        };
        let meter = instance.meter.clone();
        let guest = &mut instance.guest;
        let lost = match call {
            Call::Open(reply) => {
                let done = recipe.clocked("open", meter, guest.open()).await;
                settle(reply, done)
            }
            Call::Update(reply) => {
                let done = recipe.clocked("update", meter, guest.update()).await;
                settle(reply, done)
            }
            Call::Increase(request, reply) => {
                let call = guest.increase(request);
                settle(reply, recipe.clocked("increase", meter, call).await)
            }
            Call::Decrease(instances, reply) => {
                let call = guest.decrease(instances);
                settle(reply, recipe.clocked("decrease", meter, call).await)
            }
            Call::ConnectInfo(of, reply) => {
                let call = guest.connect_info(of);
                settle(reply, recipe.clocked("connect-info", meter, call).await)
            }
            Call::Heartbeat(of, reply) => {
                let call = guest.heartbeat(of);
                settle(reply, recipe.clocked("heartbeat", meter, call).await)
            }
            Call::Shutdown(for_good, reply) => {
                let call = guest.shutdown(for_good);
                settle(reply, recipe.clocked("shutdown", meter, call).await)
            }
        };
        match lost {
            None => {
                instance.guest.store.data_mut().end_call();
                self.instance = Some(instance);
            }
            Some(Lost(why)) => self.back_off(why),
        }
    }
}

fn settle<T>(reply: Reply<T>, done: Result<Result<T, Problem>, Lost>) -> Option<Lost> {
    match done {
        Ok(result) => {
            answer(reply, result.map_err(CallFailure::Refused));
            None
        }
        Err(lost) => {
            answer(reply, Err(CallFailure::OutcomeUnknown(lost.0.clone())));
            Some(lost)
        }
    }
}

/// The lanes of one file. Dropping it ends its instances after the calls that are under way.
pub struct Actor {
    recipe: Arc<Recipe>,
    mutating: mpsc::Sender<Call>,
    reading: mpsc::Sender<Call>,
    lookup: mpsc::Sender<Call>,
    /// Kept for as long as guests run on it.
    _runtime: Arc<GuestRuntime>,
}

impl Actor {
    /// `first` is an initialised instance, which becomes the reading one; the others are made when first needed.
    pub fn start(recipe: Arc<Recipe>, first: Instance, runtime: Arc<GuestRuntime>) -> Self {
        let lane = |name: &'static str, workers: usize, mut first: Option<Instance>| {
            let (sender, receiver) = mpsc::channel(QUEUED);
            let queue = Arc::new(Mutex::new(receiver));
            for _ in 0..workers {
                let worker = Worker::new(name, recipe.clone(), queue.clone(), first.take());
                runtime.handle().spawn(worker.keep());
            }
            sender
        };
        info!(plugin = %recipe.plugin, "plugin started");
        Self {
            mutating: lane("mutating", 1, None),
            reading: lane("reading", 1, Some(first)),
            lookup: lane("lookup", LOOKUPS, None),
            recipe: recipe.clone(),
            _runtime: runtime.clone(),
        }
    }

    /// Requests under way now, of all instances.
    pub fn requests_in_flight(&self) -> usize {
        self.recipe.tenant.egress.in_flight()
    }

    /// What holds for it now.
    pub fn limits(&self) -> Limits {
        self.recipe.tenant.allotment().limits.clone()
    }

    async fn ask<T>(
        &self,
        lane: &mpsc::Sender<Call>,
        call: impl FnOnce(Reply<T>) -> Call,
    ) -> Result<T, CallFailure> {
        let (reply, answer) = oneshot::channel();
        let queued = lane.try_send(call(reply));
        if queued.is_err() {
            return Err(CallFailure::NotCalled(format!(
                "{QUEUED} calls of `{}` wait already",
                self.recipe.plugin
            )));
        }
        let cut = || {
            let why = "the plugin was stopped meanwhile, or the manager failed in the call: its log says so";
            CallFailure::OutcomeUnknown(why.to_owned())
        };
        answer.await.unwrap_or_else(|_| Err(cut()))
    }

    pub async fn open(&self) -> Result<Group, CallFailure> {
        self.ask(&self.reading, Call::Open).await
    }

    pub async fn update(&self) -> Result<Snapshot, CallFailure> {
        self.ask(&self.reading, Call::Update).await
    }

    pub async fn increase(&self, request: IncreaseRequest) -> Result<IncreaseOutcome, CallFailure> {
        let call = |reply| Call::Increase(request, reply);
        self.ask(&self.mutating, call).await
    }

    pub async fn decrease(&self, instances: Vec<InstanceRef>) -> Result<Vec<Removal>, CallFailure> {
        let call = |reply| Call::Decrease(instances, reply);
        self.ask(&self.mutating, call).await
    }

    pub async fn connect_info(&self, of: InstanceRef) -> Result<Connection, CallFailure> {
        self.ask(&self.lookup, |reply| Call::ConnectInfo(of, reply))
            .await
    }

    pub async fn heartbeat(&self, of: InstanceRef) -> Result<(), CallFailure> {
        self.ask(&self.lookup, |reply| Call::Heartbeat(of, reply))
            .await
    }

    pub async fn shutdown(&self, for_good: bool) -> Result<(), CallFailure> {
        let call = |reply| Call::Shutdown(for_good, reply);
        self.ask(&self.mutating, call).await
    }
}
