//! One job's containers on one slot of a ready instance.
//!
//! ```text
//! helper: none ─▶ fed (one container, frames) ─▶ …      or, where our helper cannot run, plain (one start a stage)
//! build:  none ─▶ created ─▶ waiting for a script ─▶ run, run again … ─▶ stopped: removed, a new one takes its place
//! services: started beside both; the build container is created once it is known where they are
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::body_full;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::query_parameters::{RemoveVolumeOptionsBuilder, UploadToContainerOptionsBuilder};
use futures_util::future::join_all;
use tokio::sync::{Mutex, OnceCell, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, info};

use super::cgroup;
use super::container::{self, Role};
use super::feed::{Feed, Unfed};
use super::image::{self, Present, Wanted};
use super::machine::Machine;
use super::network;
use super::service::Services;
use super::shell::{End, RESTARTED, Shell};
use super::site::{self, Site, failed, refused, unmet};
use super::stage::{
    Addresses, Executor, HelperImage, Notes, Output, Place, Plan, StageFailure, StageScript,
};
use super::turns::Turns;
use super::{user, volume};
use crate::config::pull_policy::PullPolicy;
use crate::config::usable;

const CLEANUP: Duration = Duration::from_secs(300);
/// How long what was asked may still be made.
const ASKED: Duration = Duration::from_secs(30);
/// Exit codes of a shell that KILL or TERM ended.
const SIGNALLED: [i32; 2] = [137, 143];
/// A daemon that stops ends all containers at once, within this time.
const ALL_ENDED: Duration = Duration::from_secs(1);
/// How often a script may be sent to a new container because the one before was lost before its mark.
const SENDS: u32 = 3;
/// Docker's API since when an endpoint of a network has a MAC address.
const MAC_ADDRESSES: (u32, u32) = (1, 44);

enum Helper {
    Fed(Feed),
    Plain(Shell),
}

pub struct DockerExecutor {
    site: Arc<Site>,
    services: Services,
    /// Sentences for the job log about what the operator wrote.
    warnings: Vec<String>,
    helper_image: OnceCell<String>,
    helper: Mutex<Option<Helper>>,
    build_image: OnceCell<Present>,
    build: Mutex<Option<Shell>>,
}

impl DockerExecutor {
    /// Plans the job's containers; asks nothing of the instance.
    pub fn new(
        machine: Arc<Machine>,
        slot: u32,
        mut plan: Plan,
        mut config: usable::Docker,
    ) -> Result<Self, StageFailure> {
        cgroup::settle(&mut config, &mut plan, slot);
        let warnings = settled(&mut config, &plan, machine.facts.api);
        let volumes = volume::plan(&plan, &config, &site::random()).map_err(refused)?;
        Ok(Self {
            site: Arc::new(Site::new(machine, slot, plan, config, volumes)),
            services: Services::default(),
            warnings,
            helper_image: OnceCell::new(),
            helper: Mutex::default(),
            build_image: OnceCell::new(),
            build: Mutex::default(),
        })
    }

    async fn obtain(
        &self,
        name: &str,
        platform: Option<&str>,
        policies: &[PullPolicy],
        notes: &Arc<dyn Notes>,
    ) -> Result<Present, StageFailure> {
        let wanted = Wanted {
            name,
            platform,
            policies,
            credentials: &self.site.plan.credentials,
        };
        let at = self.site.connected().await?;
        let obtaining = self.site.images.obtain(&at.docker, &wanted, notes);
        let obtaining = obtaining.instrument(debug_span!("step", step = "image", image = name));
        self.site.unless_gone(obtaining).await?
    }

    async fn make_helper(&self) -> Result<Helper, StageFailure> {
        let site = &self.site;
        let image = self
            .helper_image
            .get()
            .ok_or_else(|| failed("the helper was not made ready".into()))?;
        let name = site.create(&Role::FedHelper, image).await?;
        // Our own image has it.
        if site.plan.helper_image.is_some() {
            self.copy_helper(&name).await?;
        }
        match Feed::begin(site, name.clone()).await {
            Ok(feed) => Ok(Helper::Fed(feed)),
            Err(Unfed::Failed(failure)) => Err(failure),
            Err(Unfed::CannotRun(why)) => {
                info!(image, reason = %why, "helper not fed, one container start a stage");
                site.remove(&name).await.map_err(failed)?;
                let name = site.create(&Role::PlainHelper, image).await?;
                Ok(Helper::Plain(Shell::new(name)))
            }
        }
    }

    /// Makes a container of any image with a shell and git one that our helper works in.
    async fn copy_helper(&self, container: &str) -> Result<(), StageFailure> {
        let site = &self.site;
        let path = &site.machine.facts.helper_binary;
        let binary = tokio::fs::read(path).await.map_err(|e| {
            failed(format!(
                "the helper binary {} cannot be read: {e}; run `make`",
                path.display()
            ))
        })?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let archive = container::archive(&binary, &site.volumes.open)
            .map_err(|e| failed(format!("the helper could not be packed: {e}")))?;
        let at = site.connected().await?;
        let copying =
            at.docker
                .upload_to_container(container, Some(options), body_full(archive.into()));
        site.unless_gone(copying)
            .await?
            .map_err(|e| unmet("the helper could not be copied", &e))
    }

    async fn make_build(&self) -> Result<Shell, StageFailure> {
        let (site, plan) = (&self.site, &self.site.plan);
        let image = self
            .build_image
            .get()
            .ok_or_else(|| failed("the build container was not made ready".into()))?;
        let overwritten = (!site.config.disable_entrypoint_overwrite)
            .then(|| plan.image.entrypoint.clone())
            .flatten();
        let effective = overwritten.as_ref().unwrap_or(&image.entrypoint);
        let early = effective.iter().all(String::is_empty) && site.config.mac_address.is_none();
        let role = Role::Build {
            entrypoint: overwritten,
            platform: image.platform.clone(),
        };
        let mut shell = Shell::new(site.create(&role, &image.usable_name).await?);
        if early {
            shell.start(site).await?;
        }
        debug!(container = %shell.name, early, "build container created");
        Ok(shell)
    }

    async fn run_in_helper(
        &self,
        stage: &StageScript,
        output: &Arc<dyn Output>,
        stop: &CancellationToken,
    ) -> Result<i32, StageFailure> {
        let mut place = self.helper.lock().await;
        for _ in 0..SENDS {
            let helper = match place.take() {
                Some(helper) => place.insert(helper),
                None => place.insert(self.make_helper().await?),
            };
            let (name, ended) = match helper {
                Helper::Fed(feed) => {
                    let code = feed.run(&self.site, stage, output, stop).await;
                    (feed.name.clone(), code.map(End::Code))
                }
                Helper::Plain(shell) => {
                    let umask = self.site.plan.helper_umask;
                    let open = StageScript {
                        text: format!("umask {umask:04o}\n{}", stage.text),
                        ..stage.clone()
                    };
                    let ended = shell.run(&self.site, &open, output, stop).await;
                    (shell.name.clone(), ended)
                }
            };
            if let Ok(End::Code(code)) = ended {
                return Ok(code);
            }
            *place = None;
            self.discard(&name).await;
            // Of which nothing ran, say because the user's script removed what had ended, a new container may.
            ended?;
        }
        Err(unsent())
    }

    async fn run_in_build(
        &self,
        stage: &StageScript,
        output: &Arc<dyn Output>,
        stop: &CancellationToken,
    ) -> Result<i32, StageFailure> {
        let mut place = self.build.lock().await;
        for _ in 0..SENDS {
            let mut shell = match place.take() {
                Some(shell) => shell,
                None => self.make_build().await?,
            };
            // While the processes of a stopped stage get their grace, the next stage's container is made.
            let mut replacing = Box::pin(async {
                stop.cancelled().await;
                self.make_build().await
            });
            let mut replacement = None;
            let ended = {
                let mut running = Box::pin(shell.run(&self.site, stage, output, stop));
                loop {
                    tokio::select! {
                        ended = &mut running => break ended,
                        made = &mut replacing, if replacement.is_none() => replacement = Some(made),
                    }
                }
            };
            match ended {
                Ok(End::Code(code)) => {
                    if SIGNALLED.contains(&code)
                        && let Err(failure) = self.ended_by_itself(&shell.name).await
                    {
                        self.discard(&shell.name).await;
                        return Err(failure);
                    }
                    *place = Some(shell);
                    return Ok(code);
                }
                Ok(End::NothingRan) => self.discard(&shell.name).await,
                Err(failure) => {
                    self.discard(&shell.name).await;
                    if failure == StageFailure::Stopped {
                        *place = match replacement {
                            Some(made) => made.ok(),
                            None => replacing.await.ok(),
                        };
                    }
                    return Err(failure);
                }
            }
        }
        Err(unsent())
    }

    /// Who ended a build container by a signal: Docker does before it removes one, and a daemon does when it stops. That
    /// one ends the helper's container as well, which else runs as long as the job does, and answers until all are down.
    async fn ended_by_itself(&self, build: &str) -> Result<(), StageFailure> {
        let state = self.site.state(build).await?;
        if let Some(Status::REMOVING | Status::DEAD) = state.status {
            return Err(StageFailure::ContainerVanished(build.into()));
        }
        let helper = match &*self.helper.lock().await {
            Some(Helper::Fed(feed)) => feed.name.clone(),
            Some(Helper::Plain(_)) | None => return Ok(()),
        };
        let until = Instant::now() + ALL_ENDED;
        loop {
            // One that took long is followed by another.
            let is_last = Instant::now() > until;
            match self.site.state(&helper).await {
                Ok(state) if state.running != Some(true) => return Err(failed(RESTARTED.into())),
                // A script may remove it, as one that tidies up after others does.
                Err(StageFailure::ContainerVanished(_)) => return Ok(()),
                Err(failure) => return Err(failure),
                Ok(_) if is_last => return Ok(()),
                Ok(_) => {}
            }
            let pause = tokio::time::sleep(site::PAUSE);
            self.site.unless_gone(pause).await?;
        }
    }

    /// What is not removed now stays among the created ones, for cleanup.
    async fn discard(&self, name: &str) {
        if let Err(why) = self.site.remove(name).await {
            debug!(container = name, reason = %why, "left to cleanup");
        }
    }
}

fn unsent() -> StageFailure {
    failed(format!(
        "the script could not be sent: the connection or the container was lost {SENDS} times"
    ))
}

/// Takes out of the configuration what this daemon would refuse; answers what the job's log says of the configuration.
fn settled(config: &mut usable::Docker, plan: &Plan, api: (u32, u32)) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.volume_keep {
        warnings.push(
            "volume_keep is on: anonymous volumes of this job stay on the instance after it".into(),
        );
    }
    let allowed = &config.allowed_privileged_images;
    if config.privileged && !container::host::may(allowed, &plan.image.name) {
        warnings.push(format!(
            "The image {} is not on the list of allowed_privileged_images: the job runs without privileges",
            plan.image.name
        ));
    }
    if api < MAC_ADDRESSES && config.mac_address.take().is_some() {
        let (major, minor) = MAC_ADDRESSES;
        warnings.push(format!(
            "mac_address is not set: it needs a Docker with API {major}.{minor} or newer on the instance"
        ));
    }
    warnings
}

#[async_trait]
impl Executor for DockerExecutor {
    fn instance(&self) -> String {
        self.site.machine.instance.0.clone()
    }

    fn addresses(&self) -> Addresses {
        self.site.machine.addresses.clone()
    }

    async fn ready_helper(&self, notes: Arc<dyn Notes>) -> Result<(), StageFailure> {
        let image = match &self.site.plan.helper_image {
            Some(HelperImage {
                name,
                pull_policies,
            }) => {
                let ours = &self.site.machine.facts.helper_image;
                notes.info(&format!(
                    "Using helper image:  {name}  (overridden, default would be  {ours} )"
                ));
                let present = self.obtain(name, None, pull_policies, &notes).await?;
                present.usable_name
            }
            None => self.site.machine.facts.helper_image.clone(),
        };
        self.helper_image.get_or_init(|| async { image }).await;
        let mut place = self.helper.lock().await;
        if place.is_none() {
            *place = Some(self.make_helper().await?);
        }
        Ok(())
    }

    async fn ready_build(
        &self,
        notes: Arc<dyn Notes>,
        services: Arc<dyn Output>,
    ) -> Result<(), StageFailure> {
        let (plan, config) = (&self.site.plan, &self.site.config);
        let name = &plan.image.name;
        if plan.image.is_default {
            notes.notice("Using default image");
        } else if !image::is_allowed(
            name,
            &config.allowed_images,
            plan.image.configured.as_deref(),
        ) {
            return Err(image::refusal(
                name,
                "images",
                &config.allowed_images,
                &notes,
            ));
        }
        notes.info(&format!("Using Docker executor with image {name} ..."));
        for warning in &self.warnings {
            notes.warn(warning);
        }
        if let Some(why) = user::refusal(config, plan.image.user.as_deref()) {
            return Err(failed(why));
        }
        let turns = Turns::of(notes);
        let of_services = turns.strands(1 + plan.services.list.len());
        let (waiting, pulling) = (turns.strand(), turns.strand());
        let (started, are_started) = oneshot::channel();
        let services = async move {
            self.services
                .start(&self.site, of_services, &services)
                .await?;
            // Whoever does not listen any more has failed before.
            let _ = started.send(());
            self.services.check(&self.site, &waiting).await;
            Ok(())
        };
        let build = async move {
            let (platform, policies) = (plan.image.platform.as_deref(), &plan.image.pull_policies);
            let present = self.obtain(name, platform, policies, &pulling).await?;
            self.build_image.get_or_init(|| async { present }).await;
            // Its links lead to them.
            if are_started.await.is_err() {
                // A service failed, and its failure is the one to tell.
                std::future::pending::<()>().await;
            }
            let mut place = self.build.lock().await;
            if place.is_none() {
                *place = Some(self.make_build().await?);
            }
            Ok(())
        };
        tokio::try_join!(services, build).map(|((), ())| ())
    }

    async fn run(
        &self,
        stage: StageScript,
        output: Arc<dyn Output>,
        stop: CancellationToken,
    ) -> Result<i32, StageFailure> {
        match stage.place {
            Place::Helper => self.run_in_helper(&stage, &output, &stop).await,
            Place::Build => self.run_in_build(&stage, &output, &stop).await,
        }
    }

    async fn cleanup(&self) -> Result<(), String> {
        let cleaning = async {
            let site = &self.site;
            self.services.hush();
            site.asked.close();
            // A lost connection ends what was asked over it; an instance that is gone has nothing to remove.
            let _ = site.unless_gone(timeout(ASKED, site.asked.wait())).await;
            let names = site.created();
            let removed = join_all(names.iter().map(|name| site.remove(name))).await;
            let mut left: Vec<String> = removed.into_iter().filter_map(Result::err).collect();
            for volume in &site.volumes.temporary {
                let at = site.connected().await.map_err(|e| e.to_string())?;
                let options = RemoveVolumeOptionsBuilder::default().force(true).build();
                let asked = at.docker.remove_volume(volume, Some(options));
                match site.unless_gone(asked).await.map_err(|e| e.to_string())? {
                    Ok(()) => {}
                    Err(error) if site::is_missing(&error) => {}
                    Err(error) => left.push(format!("volume {volume} not removed: {error}")),
                }
            }
            if let Err(why) = network::remove(site).await {
                left.push(why);
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join("; "))
            }
        };
        timeout(CLEANUP, cleaning)
            .await
            .unwrap_or_else(|_| Err("cleanup did not end within 5 minutes".into()))
    }
}

#[cfg(test)]
mod tests;
