//! One container on a prepared instance, to see that one runs: made of the helper image, so that nothing is pulled.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::TryStreamExt as _;

use super::machine::Machine;

const WITHIN: Duration = Duration::from_secs(60);

impl Machine {
    /// Runs a container to its end and removes it.
    ///
    /// # Errors
    /// What Docker, the connection or the container did not do.
    pub async fn try_container(&self) -> Result<(), String> {
        let control = self.control.connected().await?;
        let docker = &control.docker;
        let body = ContainerCreateBody {
            image: Some(self.facts.helper_image.clone()),
            entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec!["exit 0".to_owned()]),
            ..ContainerCreateBody::default()
        };
        let made = docker
            .create_container(None::<CreateContainerOptions>, body)
            .await
            .map_err(|e| format!("the container was not made: {e}"))?;
        let running = async {
            docker
                .start_container(&made.id, None::<StartContainerOptions>)
                .await?;
            let waiting = docker.wait_container(&made.id, None::<WaitContainerOptions>);
            waiting.try_for_each(|_| async { Ok(()) }).await
        };
        let ran = tokio::time::timeout(WITHIN, running).await;
        let removing = RemoveContainerOptionsBuilder::default().force(true).build();
        let removed = docker.remove_container(&made.id, Some(removing)).await;
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(Error::DockerContainerWaitError { code, .. })) => {
                return Err(format!("the container ended with status {code}"));
            }
            Ok(Err(problem)) => return Err(format!("the container did not run: {problem}")),
            Err(_) => return Err(format!("the container did not end within {WITHIN:?}")),
        }
        removed.map_err(|e| format!("the container was not removed: {e}"))
    }
}
