//! The network of one job: given by the configuration, or made for the job and removed with it.
//!
//! Invariant: a network that was asked for is looked for at cleanup, whether Docker's answer came or not.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{
    InspectNetworkOptions, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use tokio::time::Instant;

use super::line::REDIAL_WINDOW;
use super::site::{self, PAUSE, Site, failed, refused, unmet};
use super::stage::{Network, StageFailure};

/// The driver's option for the largest packet, in bytes.
const MTU: &str = "com.docker.network.driver.mtu";

/// Puts a container that is about to be created into the job's network. It is found there by `aliases`, where the
/// network knows names.
pub(super) fn join(body: &mut ContainerCreateBody, network: &Network, aliases: &[String]) {
    let Some(mode) = network.mode() else {
        return;
    };
    if let Some(host) = &mut body.host_config {
        host.network_mode = Some(mode.to_owned());
    }
    // An address that was set is meant for this network, whatever it is called.
    let mac_address = body
        .networking_config
        .take()
        .and_then(|known| known.endpoints_config?.into_values().next()?.mac_address);
    let aliases = (network.knows_names() && !aliases.is_empty()).then(|| aliases.to_vec());
    if mac_address.is_none() && aliases.is_none() {
        return;
    }
    let endpoint = EndpointSettings {
        mac_address,
        aliases,
        ..EndpointSettings::default()
    };
    body.networking_config = Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(mode.to_owned(), endpoint)])),
    });
}

/// Makes the network if it is this job's own. A lost answer is no trouble: the name tells whether it was made.
pub(super) async fn make(site: &Site) -> Result<(), StageFailure> {
    let Some(request) = request(site) else {
        return Ok(());
    };
    let until = Instant::now() + REDIAL_WINDOW;
    loop {
        let at = site.connected().await?;
        let (docker, wanted) = (at.docker, request.clone());
        let asked = site
            .asked
            .spawn(async move { docker.create_network(wanted).await.map(drop) });
        let error = match site::answered(site.unless_gone(asked).await?)? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match &error {
            Error::DockerResponseServerError {
                status_code: 409, ..
            } => return Ok(()),
            Error::DockerResponseServerError {
                status_code: 400,
                message,
            } => {
                return Err(refused(format!(
                    "docker refuses the job's network: {message}"
                )));
            }
            Error::DockerResponseServerError { .. } => {
                return Err(unmet("docker cannot make the job's network", &error));
            }
            _ if Instant::now() > until => {
                return Err(failed(format!("docker does not answer: {error}")));
            }
            _ => {}
        }
        site.unless_gone(tokio::time::sleep(PAUSE)).await?;
        // Older daemons make a second one of the same name.
        let at = site.connected().await?;
        let asked = at
            .docker
            .inspect_network(&request.name, None::<InspectNetworkOptions>);
        if site.unless_gone(asked).await?.is_ok() {
            return Ok(());
        }
    }
}

fn request(site: &Site) -> Option<NetworkCreateRequest> {
    let Network::PerBuild { name, mtu, ipv6 } = &site.plan.network else {
        return None;
    };
    let mtu = mtu.map(|bytes| HashMap::from([(MTU.to_owned(), bytes.to_string())]));
    Some(NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".into()),
        enable_ipv6: Some(*ipv6),
        options: mtu,
        labels: Some(site.plan.labels.iter().cloned().collect()),
        ..NetworkCreateRequest::default()
    })
}

/// Removes what was made for this job, and every container in it: the job may have put others there.
pub(super) async fn remove(site: &Site) -> Result<(), String> {
    let Network::PerBuild { name, .. } = &site.plan.network else {
        return Ok(());
    };
    let at = site.connected().await.map_err(|e| e.to_string())?;
    let wanted = HashMap::from([("name", vec![name.as_str()])]);
    let listing = ListNetworksOptionsBuilder::default()
        .filters(&wanted)
        .build();
    let listed = site.unless_gone(at.docker.list_networks(Some(listing)));
    let listed = listed.await.map_err(|e| e.to_string())?;
    let listed = listed.map_err(|e| format!("network {name} not removed: {e}"))?;
    for network in listed {
        // The filter takes names that only contain this one, too.
        let Some(id) = network.id.filter(|_| network.name.as_ref() == Some(name)) else {
            continue;
        };
        let removing = remove_with_containers(&at.docker, &id);
        let removed = site
            .unless_gone(removing)
            .await
            .map_err(|e| e.to_string())?;
        removed.map_err(|e| format!("network {name} not removed: {e}"))?;
    }
    Ok(())
}

/// One that is not there is no trouble.
pub(super) async fn remove_with_containers(docker: &Docker, id: &str) -> Result<(), Error> {
    let inspected = docker
        .inspect_network(id, None::<InspectNetworkOptions>)
        .await;
    let containers = match inspected {
        Ok(network) => network.containers.unwrap_or_default(),
        Err(error) if site::is_missing(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let removing = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    for container in containers.keys() {
        match docker
            .remove_container(container, Some(removing.clone()))
            .await
        {
            Err(error) if !site::is_missing(&error) => return Err(error),
            _ => {}
        }
    }
    match docker.remove_network(id).await {
        Err(error) if !site::is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use bollard::models::HostConfig;

    use super::*;

    fn joined(network: &Network, mac_address: Option<&str>) -> ContainerCreateBody {
        let endpoint = EndpointSettings {
            mac_address: mac_address.map(String::from),
            ..EndpointSettings::default()
        };
        let mut body = ContainerCreateBody {
            host_config: Some(HostConfig::default()),
            networking_config: mac_address.map(|_| NetworkingConfig {
                endpoints_config: Some(HashMap::from([("bridge".to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        join(&mut body, network, &["db".to_owned()]);
        body
    }

    fn given(mode: &str) -> Network {
        Network::Given(Some(mode.into()))
    }

    #[test]
    fn names_are_for_networks_that_know_them() {
        let own = Network::PerBuild {
            name: "runner-x".into(),
            mtu: None,
            ipv6: false,
        };
        for (network, mode, knows) in [
            (&own, "runner-x", true),
            (&given("mine"), "mine", true),
            (&given("host"), "host", false),
            (&given("bridge"), "bridge", false),
            (&given("none"), "none", false),
            (&given("container:abc"), "container:abc", false),
        ] {
            let body = joined(network, None);
            assert_eq!(
                body.host_config.unwrap().network_mode.as_deref(),
                Some(mode)
            );
            let endpoints = body.networking_config.and_then(|n| n.endpoints_config);
            let aliases = endpoints.map(|all| all[mode].aliases.clone().unwrap());
            assert_eq!(aliases, knows.then(|| vec!["db".to_owned()]), "{mode}");
        }
        let body = joined(&Network::Given(None), Some("02:42:ac:11:65:43"));
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        assert!(
            endpoints.contains_key("bridge") && body.host_config.unwrap().network_mode.is_none()
        );
    }

    #[test]
    fn a_mac_address_follows_its_container_into_the_network() {
        let body = joined(&given("mine"), Some("02:42:ac:11:65:43"));
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(
            endpoints["mine"].mac_address.as_deref(),
            Some("02:42:ac:11:65:43")
        );
    }
}
