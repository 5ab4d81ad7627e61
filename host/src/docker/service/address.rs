//! Where a started service answers: pure.

use std::net::{IpAddr, Ipv4Addr};

use bollard::models::ContainerInspectResponse;

use crate::docker::stage::Network;

/// A service names the one port that counts in its environment.
const ONE_PORT: &str = "HEALTHCHECK_TCP_PORT";
const MOST_PORTS: usize = 20;

/// TCP ports to dial, rising; an error is what is wrong with the one that was named.
pub(super) fn ports(container: &ContainerInspectResponse) -> Result<Vec<u16>, String> {
    let Some(config) = &container.config else {
        return Ok(Vec::new());
    };
    let mut variables = config
        .env
        .iter()
        .flatten()
        .filter_map(|v| v.split_once('='));
    // A service's own variables stand behind its image's.
    let named = variables.rfind(|(key, _)| key.eq_ignore_ascii_case(ONE_PORT));
    if let Some((key, value)) = named {
        let port = value.parse();
        return port.map(|port| vec![port]).map_err(|_| {
            format!("{key} is {value:?}, which is no port; write a number from 1 to 65535")
        });
    }
    let exposed = config.exposed_ports.iter().flatten();
    let mut ports: Vec<u16> = exposed
        .filter_map(|port| match port.split_once('/') {
            Some((number, "tcp")) => number.parse().ok(),
            Some(_) => None,
            None => port.parse().ok(),
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports.truncate(MOST_PORTS);
    Ok(ports)
}

/// In all of its networks; where the job has no network of its own, all its containers are one host.
pub(super) fn addresses(container: &ContainerInspectResponse, network: &Network) -> Vec<IpAddr> {
    if network.mode() == Some("host") || network.is_a_container_s() {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    }
    let settings = container.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    let endpoints = networks.into_iter().flat_map(|all| all.values());
    let mut addresses: Vec<IpAddr> = endpoints
        .flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address])
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{ContainerConfig, EndpointSettings, NetworkSettings};

    use super::*;

    fn container(env: &[&str], exposed: &[&str]) -> ContainerInspectResponse {
        let list = |items: &[&str]| Some(items.iter().map(ToString::to_string).collect());
        ContainerInspectResponse {
            config: Some(ContainerConfig {
                env: list(env),
                exposed_ports: list(exposed),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    #[test]
    fn ports_are_the_one_named_or_the_first_twenty_exposed() {
        let many: Vec<String> = (1..=30).rev().map(|n| format!("{n}/tcp")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (env, exposed, expected) in [
            (&[][..], &[][..], Ok(vec![])),
            (&[], &["443/tcp", "80/tcp", "53/udp", "8080"], Ok(vec![80, 443, 8080])),
            (&[], &many[..], Ok((1..=20).collect())),
            (&["HEALTHCHECK_TCP_PORT=90"], &["80/tcp"], Ok(vec![90])),
            (&["Healthcheck_Tcp_Port=90", "HEALTHCHECK_TCP_PORT=91"], &["80/tcp"], Ok(vec![91])),
            (
                &["HEALTHCHECK_TCP_PORT=http"],
                &["80/tcp"],
                Err("HEALTHCHECK_TCP_PORT is \"http\", which is no port; write a number from 1 to 65535".to_owned()),
            ),
        ] {
            assert_eq!(ports(&container(env, exposed)), expected, "{env:?} {exposed:?}");
        }
    }

    #[test]
    fn addresses_are_those_of_all_networks() {
        let endpoint = |v4: &str, v6: &str| EndpointSettings {
            ip_address: Some(v4.into()),
            global_ipv6_address: Some(v6.into()),
            ..EndpointSettings::default()
        };
        let found = ContainerInspectResponse {
            network_settings: Some(NetworkSettings {
                networks: Some(HashMap::from([
                    ("a".to_owned(), endpoint("172.18.0.2", "")),
                    ("b".to_owned(), endpoint("172.17.0.2", "fd00::2")),
                ])),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        };
        let told = |network: Network| {
            let all = addresses(&found, &network);
            all.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        let everywhere = ["172.17.0.2", "172.18.0.2", "fd00::2"];
        assert_eq!(told(Network::Given(None)), everywhere);
        assert_eq!(told(Network::Given(Some("host".into()))), ["127.0.0.1"]);
    }
}
