//! One instance of the plugin under check, built when a check wants it and thrown away when a check kills it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::fleet::group::{
    CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceRef,
    Problem, Removal, Snapshot,
};
use crate::plugin::actor::{Instance, Lost, NotBuilt, Recipe};
use crate::plugin::bindings::Description;

/// What is checked: a way to make instances of one plugin for one group.
#[async_trait]
pub trait Subject: Send + Sync {
    /// What a fresh instance says before `init`, asked so many times.
    async fn describe(&self, times: usize) -> Result<Vec<Description>, String>;
    /// A fresh instance with this `plugin_config`; dropping it is killing it.
    async fn start(&self, config: &Value) -> Result<Box<dyn InstanceGroup>, NotBuilt>;
}

/// A component in the sandbox, as a manager runs it: same engine, clocks, limits and egress.
pub struct Sandboxed {
    pub recipe: Arc<Recipe>,
}

#[async_trait]
impl Subject for Sandboxed {
    async fn describe(&self, times: usize) -> Result<Vec<Description>, String> {
        let recipe = &self.recipe;
        let mut instance = recipe
            .instantiate()
            .await
            .map_err(|problem| recipe.lost("instantiation", &problem).0)?;
        let mut said = Vec::new();
        for _ in 0..times {
            let meter = instance.meter.clone();
            let describe = instance.guest.describe();
            let described = recipe.clocked("describe", meter, describe).await;
            said.push(described.map_err(|lost| lost.0)?);
        }
        Ok(said)
    }

    async fn start(&self, config: &Value) -> Result<Box<dyn InstanceGroup>, NotBuilt> {
        let recipe = Recipe {
            config: config.to_string(),
            ..Recipe::clone(&self.recipe)
        };
        let instance = recipe.build().await?;
        Ok(Box::new(Seat {
            recipe,
            instance: Mutex::new(Some(instance)),
        }))
    }
}

struct Seat {
    recipe: Recipe,
    /// Taken out for a call, and put back only after one that ended well.
    instance: Mutex<Option<Instance>>,
}

type Called<T> = Result<T, CallFailure>;

impl Seat {
    async fn take(&self) -> Called<Instance> {
        let taken = self.instance.lock().await.take();
        taken.ok_or_else(|| CallFailure::NotCalled("the instance was lost before".to_owned()))
    }

    async fn settle<T>(
        &self,
        mut instance: Instance,
        done: Result<Result<T, Problem>, Lost>,
    ) -> Called<T> {
        let answer = done.map_err(|Lost(why)| CallFailure::OutcomeUnknown(why))?;
        instance.guest.store.data_mut().end_call();
        *self.instance.lock().await = Some(instance);
        answer.map_err(CallFailure::Refused)
    }
}

#[async_trait]
impl InstanceGroup for Seat {
    async fn open(&self) -> Called<Group> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.open());
        let done = self.recipe.clocked("open", meter, call).await;
        self.settle(it, done).await
    }

    async fn update(&self) -> Called<Snapshot> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.update());
        let done = self.recipe.clocked("update", meter, call).await;
        self.settle(it, done).await
    }

    async fn increase(&self, request: IncreaseRequest) -> Called<IncreaseOutcome> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.increase(request));
        let done = self.recipe.clocked("increase", meter, call).await;
        self.settle(it, done).await
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Called<Vec<Removal>> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.decrease(instances));
        let done = self.recipe.clocked("decrease", meter, call).await;
        self.settle(it, done).await
    }

    async fn connect_info(&self, of: InstanceRef) -> Called<Connection> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.connect_info(of));
        let done = self.recipe.clocked("connect-info", meter, call).await;
        self.settle(it, done).await
    }

    async fn heartbeat(&self, of: InstanceRef) -> Called<()> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.heartbeat(of));
        let done = self.recipe.clocked("heartbeat", meter, call).await;
        self.settle(it, done).await
    }

    async fn shutdown(&self, for_good: bool) -> Called<()> {
        let mut it = self.take().await?;
        let (meter, call) = (it.meter.clone(), it.guest.shutdown(for_good));
        let done = self.recipe.clocked("shutdown", meter, call).await;
        self.settle(it, done).await
    }

    /// Its grants do not change.
    fn granted(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
