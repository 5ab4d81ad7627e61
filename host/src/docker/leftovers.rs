//! What jobs of an earlier process left on an instance that was kept: removed before the instance is used again.
//!
//! Containers and networks are found by their labels, whatever state they are in; of volumes, those that ended with their
//! job. Caches stay.

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use tracing::info;

use super::{label, network, site};
use crate::fleet::group::InstanceId;

/// To be called while none of those whose labels `ours` are runs a job there.
pub(super) async fn remove(
    docker: &Docker,
    instance: &InstanceId,
    ours: &[(&str, &str)],
) -> Result<(), String> {
    let containers = containers(docker, ours)
        .await
        .map_err(|e| format!("containers of earlier jobs could not be removed: {e}"))?;
    let networks = networks(docker, ours)
        .await
        .map_err(|e| format!("networks of earlier jobs could not be removed: {e}"))?;
    let volumes = volumes(docker, ours)
        .await
        .map_err(|e| format!("volumes of earlier jobs could not be removed: {e}"))?;
    if containers + networks + volumes > 0 {
        info!(%instance, containers, networks, volumes, "what earlier jobs left was removed");
    }
    Ok(())
}

async fn containers(docker: &Docker, ours: &[(&str, &str)]) -> Result<usize, Error> {
    let listing = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&label::filter(ours))
        .build();
    let found = docker.list_containers(Some(listing)).await?;
    let removing = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    let ids: Vec<_> = found.into_iter().filter_map(|found| found.id).collect();
    for id in &ids {
        unless_missing(docker.remove_container(id, Some(removing.clone())).await)?;
    }
    Ok(ids.len())
}

async fn networks(docker: &Docker, ours: &[(&str, &str)]) -> Result<usize, Error> {
    let listing = ListNetworksOptionsBuilder::default()
        .filters(&label::filter(ours))
        .build();
    let found = docker.list_networks(Some(listing)).await?;
    let ids: Vec<_> = found.into_iter().filter_map(|found| found.id).collect();
    for id in &ids {
        network::remove_with_containers(docker, id).await?;
    }
    Ok(ids.len())
}

async fn volumes(docker: &Docker, ours: &[(&str, &str)]) -> Result<usize, Error> {
    let temporary = [ours, &[(label::REUSABLE, "false")]].concat();
    let listing = ListVolumesOptionsBuilder::default()
        .filters(&label::filter(&temporary))
        .build();
    let found = docker.list_volumes(Some(listing)).await?;
    let found = found.volumes.unwrap_or_default();
    let removing = RemoveVolumeOptionsBuilder::default().force(true).build();
    for volume in &found {
        unless_missing(
            docker
                .remove_volume(&volume.name, Some(removing.clone()))
                .await,
        )?;
    }
    Ok(found.len())
}

fn unless_missing(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(error) if site::is_missing(&error) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use axum::Router;
    use axum::extract::{Request, State};
    use axum::response::{IntoResponse, Response};

    use super::*;

    type Asked = Arc<Mutex<Vec<String>>>;

    /// Lists a container, a network and a volume of an earlier job, and has lost another's meanwhile.
    async fn daemon(State(asked): State<Asked>, request: Request) -> Response {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(format!("{method} {uri}"));
        match (method.as_str(), uri.path()) {
            ("GET", "/containers/json") => r#"[{"Id":"c1"},{"Id":"gone"}]"#.into_response(),
            ("GET", "/networks") => r#"[{"Id":"n1","Name":"runner-x"}]"#.into_response(),
            ("GET", "/networks/n1") => {
                r#"{"Id":"n1","Containers":{"c2":{"Name":"of the job's own making"}}}"#
                    .into_response()
            }
            ("GET", "/volumes") => {
                let volume = r#"{"Name":"v1","Driver":"local","Mountpoint":"","Labels":{},"Scope":"local","Options":{}}"#;
                format!(r#"{{"Volumes":[{volume}]}}"#).into_response()
            }
            ("DELETE", "/containers/gone") => {
                (http::StatusCode::NOT_FOUND, r#"{"message":"no such"}"#).into_response()
            }
            ("DELETE", _) => http::StatusCode::NO_CONTENT.into_response(),
            _ => http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    #[tokio::test]
    async fn our_own_containers_networks_and_temporary_volumes_go() {
        let asked = Asked::default();
        let router = Router::new()
            .fallback(daemon)
            .with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let version = bollard::API_DEFAULT_VERSION;
        let docker = Docker::connect_with_http(&format!("tcp://{address}"), 10, version)
            .expect("no request is made");
        let ours = [
            (label::MANAGED, "true"),
            (label::SYSTEM_ID, "s_0123456789ab"),
        ];
        let removed = remove(&docker, &InstanceId("i-1".into()), &ours).await;
        serving.abort();
        assert_eq!(removed, Ok(()));
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted: Vec<_> = asked
            .iter()
            .filter(|line| line.starts_with("DELETE"))
            .map(|line| line.split_once('?').unwrap_or((line, "")))
            .collect();
        let paths: Vec<_> = deleted.iter().map(|(path, _)| *path).collect();
        assert_eq!(
            paths,
            [
                "DELETE /containers/c1",
                "DELETE /containers/gone",
                "DELETE /containers/c2",
                "DELETE /networks/n1",
                "DELETE /volumes/v1",
            ]
        );
        for (path, query) in deleted {
            let is_forced = query.contains("force=true") || path.contains("networks");
            assert!(is_forced, "{path}: {query}");
        }
        for (listing, also) in [
            ("GET /containers/json?", "all=true"),
            ("GET /networks?", ""),
            ("GET /volumes?", "reusable%3Dfalse"),
        ] {
            let line = asked.iter().find(|line| line.starts_with(listing));
            let line = line.expect("each kind is listed");
            for wanted in ["managed%3Dtrue", "system_id%3Ds_0123456789ab", also] {
                assert!(line.contains(wanted), "no {wanted} in {line}");
            }
        }
    }
}
