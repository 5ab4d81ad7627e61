//! The services of one job: started side by side, waited for, and read where the job wants to see what they print.
//!
//! ```text
//!   each: pull ─▶ create ─▶ start ─▶ where it answers ─┐
//!   each: …                                           ─┴─▶ links ─▶ each: wait container, or a warning in the log
//! ```
//! Invariants: a try that failed leaves nothing that a further try would meet; a service that does not answer never
//! fails the job, one that cannot be started always does.

mod address;
mod health;
mod log;
mod spec;

use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{InspectContainerOptions, StartContainerOptions};
use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::image::{self, Present};
use super::line::REDIAL_WINDOW;
use super::site::{PAUSE, Site, failed, random, refused, unmet};
use super::stage::{Notes, Output, Service, StageFailure};
use crate::config::service::WAIT;

#[derive(Default)]
pub(super) struct Services {
    /// Names of the containers that the last try began to make.
    begun: Mutex<Vec<String>>,
    /// Once all were started.
    up: Mutex<Option<Vec<Up>>>,
    reading: Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// A service that was started, and where it answers.
#[derive(Clone)]
struct Up {
    /// Its container's.
    name: String,
    id: String,
    addresses: Vec<std::net::IpAddr>,
    ports: Vec<u16>,
    /// Names the job finds it by.
    aliases: Vec<String>,
}

impl Up {
    fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Entries of `/etc/hosts`.
    fn links(&self) -> impl Iterator<Item = String> {
        let names = self
            .aliases
            .iter()
            .map(String::as_str)
            .chain([self.short_id()]);
        names.flat_map(|name| self.addresses.iter().map(move |ip| format!("{name}:{ip}")))
    }
}

impl Services {
    /// Starts all that do not run yet. What they print goes to `output`, where the plan asks for it. `notes` are one for
    /// all of them, then one for each.
    pub(super) async fn start(
        &self,
        site: &Arc<Site>,
        notes: Vec<Arc<dyn Notes>>,
        output: &Arc<dyn Output>,
    ) -> Result<(), StageFailure> {
        if lock(&self.up).is_some() {
            return Ok(());
        }
        self.forget_last_try(site).await?;
        let plan = &site.plan.services;
        let mut notes = notes.into_iter();
        if let Some(notes) = notes.next() {
            for notice in &plan.notices {
                notes.warn(notice);
            }
            for service in &plan.list {
                is_allowed(service, site, &notes)?;
            }
        }
        let starting = plan.list.iter().zip(notes);
        let starting =
            starting.map(|(service, notes)| self.start_one(site, service, notes, output));
        let up = try_join_all(starting).await?;
        // Where the network knows names they are asked for there: an entry here would outlive a service's address.
        let network = &site.plan.network;
        if !network.knows_names() && !network.is_a_container_s() {
            site.link(up.iter().flat_map(Up::links).collect());
        }
        *lock(&self.up) = Some(up);
        Ok(())
    }

    /// Waits until every service answers, for as long as the configuration says; one that does not is told.
    pub(super) async fn check(&self, site: &Site, notes: &Arc<dyn Notes>) {
        let up = lock(&self.up).clone().unwrap_or_default();
        let Some(limit) = site.config.services.wait.filter(|_| !up.is_empty()) else {
            return;
        };
        notes.info(&format!(
            "Waiting for services to be up and running (timeout {} seconds)...",
            limit.as_secs()
        ));
        let checks = up.iter().map(|service| async move {
            for line in health::check(site, service, limit).await {
                notes.info(&line);
            }
        });
        join_all(checks).await;
    }

    /// Reads no more of what they print.
    pub(super) fn hush(&self) {
        lock(&self.reading).clear();
    }

    async fn start_one(
        &self,
        site: &Arc<Site>,
        service: &Service,
        notes: Arc<dyn Notes>,
        output: &Arc<dyn Output>,
    ) -> Result<Up, StageFailure> {
        notes.info(&format!("Starting service {}...", service.title));
        let image = pull(site, service, &notes).await?;
        let base = &site.plan.container_base;
        let name = format!("{base}-{}-{}-{}", random(), service.slug, service.index);
        lock(&self.begun).push(name.clone());
        let body = spec::service(
            service,
            &image.usable_name,
            &site.plan,
            &site.config,
            &site.volumes,
        );
        let platform = image.platform.as_deref();
        site.create_container(&name, body, &service.aliases, platform)
            .await?;
        let at = site.connected().await?;
        let starting = at
            .docker
            .start_container(&name, None::<StartContainerOptions>);
        site.unless_gone(starting).await?.map_err(|error| {
            unmet(
                &format!("service {} could not be started", service.title),
                &error,
            )
        })?;
        if site.plan.services.debug {
            let reading = log::Reading::of(site.clone(), name.clone(), &service.aliases, output);
            let reading = AbortOnDropHandle::new(tokio::spawn(reading.run()));
            lock(&self.reading).push(reading);
        }
        let found = begun(site, &name).await?;
        Ok(Up {
            id: found.id.clone().unwrap_or_default(),
            addresses: address::addresses(&found, &site.plan.network),
            ports: address::ports(&found)
                .map_err(|why| refused(format!("service {}: {why}", service.title)))?,
            aliases: service.aliases.clone(),
            name,
        })
    }

    /// Another of the same name and aliases would answer in the new one's place.
    async fn forget_last_try(&self, site: &Site) -> Result<(), StageFailure> {
        self.hush();
        let begun = std::mem::take(&mut *lock(&self.begun));
        for name in begun {
            site.remove(&name).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn is_allowed(service: &Service, site: &Site, notes: &Arc<dyn Notes>) -> Result<(), StageFailure> {
    let (allowed, configured) = (
        &site.config.services.allowed,
        &site.plan.services.configured,
    );
    let of_configuration = configured.iter().find(|name| **name == service.image);
    if image::is_allowed(
        &service.image,
        allowed,
        of_configuration.map(String::as_str),
    ) {
        return Ok(());
    }
    Err(image::refusal(&service.image, "services", allowed, notes))
}

async fn pull(
    site: &Site,
    service: &Service,
    notes: &Arc<dyn Notes>,
) -> Result<Present, StageFailure> {
    let wanted = image::Wanted {
        name: &service.image,
        platform: service.platform.as_deref(),
        policies: &service.pull_policies,
        credentials: &site.plan.credentials,
    };
    let at = site.connected().await?;
    site.unless_gone(site.images.obtain(&at.docker, &wanted, notes))
        .await?
}

/// The container once Docker has begun it; it may have ended already.
async fn begun(site: &Site, name: &str) -> Result<ContainerInspectResponse, StageFailure> {
    let patience = site.config.services.wait.unwrap_or_default().max(WAIT);
    let until = Instant::now() + patience.max(REDIAL_WINDOW);
    loop {
        let at = site.connected().await?;
        let asked = at
            .docker
            .inspect_container(name, None::<InspectContainerOptions>);
        match site.unless_gone(asked).await? {
            Ok(found) => {
                let status = found.state.as_ref().and_then(|state| state.status);
                if status != Some(ContainerStateStatusEnum::CREATED) {
                    return Ok(found);
                }
                if Instant::now() > until {
                    return Err(failed(format!(
                        "container {name} was started and does not begin"
                    )));
                }
            }
            Err(error) if Instant::now() > until || super::site::is_missing(&error) => {
                return Err(unmet(
                    &format!("container {name} is not to be found"),
                    &error,
                ));
            }
            Err(_) => {}
        }
        site.unless_gone(sleep(PAUSE)).await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
