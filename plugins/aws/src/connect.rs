//! How an instance is dialled, and EC2 Instance Connect.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetling_plugin_sdk::{
    Address, Cipher, Connection, Host, InstanceRef, Login, Problem, ProblemKind, Protocol, Reach,
    SealedPassword, Settings,
};

use crate::client::Client;
use crate::member::arch;
use crate::unix_millis;
use crate::xml::ec2::Instance;

/// EC2 Instance Connect keeps a key for as long.
const KEY_LIFE: Duration = Duration::from_secs(60);

pub(crate) fn connect_info(
    host: &dyn Host,
    client: &Client<'_>,
    settings: &Settings,
    of: &InstanceRef,
) -> Result<Connection, Problem> {
    let instance = client.instance(&of.id)?;
    must_run(&instance)?;
    let addresses = addresses(&instance);
    if addresses.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotReady,
            format!("{} has no address yet", of.id),
        )
        .about(&of.id));
    }
    let mut connection = defaults(&instance, settings, addresses);
    if settings.connector.static_credentials {
        return Ok(connection);
    }
    if connection.os.as_deref() == Some("windows") {
        connection.login = Login::Sealed(password(client, &of.id)?);
        return Ok(connection);
    }
    if connection.protocol != Some(Protocol::Ssh) {
        return Err(Problem::new(
            ProblemKind::Unsupported,
            format!(
                "{} is no Windows machine, and EC2 keeps passwords of those only; next: set connector_config.protocol \
                 to ssh, or use_static_credentials with a username and password",
                of.id
            ),
        )
        .about("connector_config.protocol"));
    }
    let key = settings.ssh_public_key.as_deref().ok_or_else(|| {
        Problem::new(
            ProblemKind::InvalidConfig,
            "there is no public key to authorise; next: set connector_config.key_path, or leave \
             use_static_credentials out and let the manager make a key",
        )
        .about("connector_config.key_path")
    })?;
    // What the group said when it listed the instance; EC2 says the same for one that was never listed.
    let zone = if of.memo.is_empty() {
        &instance.placement.availability_zone
    } else {
        &of.memo
    };
    let user = connection.username.clone().unwrap_or_default();
    // Taken before the call: the key may not live longer than the host believes.
    let until = host.now() + KEY_LIFE;
    client.send_ssh_public_key(&of.id, zone, &user, key.trim())?;
    connection.login = Login::PublicKey;
    connection.valid_until = unix_millis(until);
    Ok(connection)
}

/// The administrator's password, which only who has the private half of the launch's key pair can read.
fn password(client: &Client<'_>, id: &str) -> Result<SealedPassword, Problem> {
    let mut text = client.password_data(id)?;
    text.retain(|c| !c.is_ascii_whitespace());
    if text.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotReady,
            format!(
                "EC2 has no password of {id} yet; Windows makes one within some minutes of its first start, and none \
                 where the launch template names no key pair"
            ),
        )
        .about("ec2:GetPasswordData"));
    }
    let ciphertext = STANDARD.decode(text).map_err(|_| {
        let message =
            format!("EC2 answered ec2:GetPasswordData of {id} with something else than base64");
        Problem::new(ProblemKind::Unavailable, message).about("ec2:GetPasswordData")
    })?;
    Ok(SealedPassword {
        ciphertext,
        cipher: Cipher::RsaPkcs1V15,
    })
}

/// `pending` will run soon; from the other states there is no way back that anybody here would go.
fn must_run(instance: &Instance) -> Result<(), Problem> {
    let id = &instance.instance_id;
    let state = instance.instance_state.name.as_str();
    let kind = match state {
        "running" => return Ok(()),
        "shutting-down" | "terminated" => ProblemKind::NotFound,
        _ => ProblemKind::NotReady,
    };
    let mut message = format!("EC2 says that {id} is {state}");
    if !instance.state_reason.message.is_empty() {
        message.push_str(&format!(" ({})", instance.state_reason.message));
    }
    Err(Problem::new(kind, message).about(id))
}

fn addresses(instance: &Instance) -> Vec<Address> {
    [
        (Reach::Internal, &instance.private_ip_address),
        (Reach::External, &instance.ip_address),
    ]
    .into_iter()
    .filter(|(_, host)| !host.is_empty())
    .map(|(reach, host)| Address {
        reach,
        host: host.clone(),
        port: None,
    })
    .collect()
}

/// The operator's word where there is one, EC2's where not.
fn defaults(instance: &Instance, settings: &Settings, addresses: Vec<Address>) -> Connection {
    let connector = &settings.connector;
    let found = if instance.architecture.ends_with("_mac") {
        "darwin"
    } else if instance.platform.eq_ignore_ascii_case("windows") {
        "windows"
    } else {
        "linux"
    };
    let os = connector.os.clone().unwrap_or_else(|| found.to_owned());
    let (user, protocol) = match os.as_str() {
        "windows" => ("Administrator", Protocol::Winrm),
        _ => ("ec2-user", Protocol::Ssh),
    };
    let username = connector
        .username
        .clone()
        .unwrap_or_else(|| user.to_owned());
    Connection {
        arch: connector
            .arch
            .clone()
            .or_else(|| arch(&instance.architecture).map(str::to_owned)),
        protocol: connector.protocol.or(Some(protocol)),
        username: Some(username),
        os: Some(os),
        login: Login::AsConfigured,
        addresses,
        host_keys: Vec::new(),
        valid_until: None,
        extras: Vec::new(),
    }
}
