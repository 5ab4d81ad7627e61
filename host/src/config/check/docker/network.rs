//! Addresses and names that containers get.

use std::net::IpAddr;

use crate::config::raw::Table;

pub(super) const HOST: &str =
    r#"is no host with its address; write it like "name:10.0.0.1" or "name:host-gateway""#;
pub(super) const LINK: &str = r#"is no link; write it like "container:alias""#;

pub(super) fn name_servers(table: &mut Table<'_>) -> Vec<String> {
    super::each_checked(
        table,
        "dns",
        |server| server.parse::<IpAddr>().is_ok(),
        r#"is no IP address; write it like "1.1.1.1""#,
    )
}

/// As Docker judges it: what stands behind the first colon is an address.
pub(super) fn is_host(text: &str) -> bool {
    let address = |text: &str| text == "host-gateway" || text.trim().parse::<IpAddr>().is_ok();
    text.split_once(':')
        .is_some_and(|(name, at)| !name.is_empty() && address(at))
}

pub(super) fn is_link(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    matches!(parts.len(), 1 | 2) && parts.iter().all(|part| !part.is_empty())
}

pub(super) fn mtu(table: &mut Table<'_>) -> Option<u32> {
    const KEY: &str = "network_mtu";
    let mtu = table.integer(KEY).filter(|mtu| *mtu != 0)?;
    // IPv4 asks for the lower bound, its length field sets the upper one.
    let fits = u32::try_from(mtu)
        .ok()
        .filter(|mtu| (68..=65535).contains(mtu));
    if fits.is_none() {
        table.refuse(
            KEY,
            format!("{mtu} is no MTU; write a number from 68 to 65535, such as 1450"),
        );
    }
    fits
}

/// Six bytes, in one of the ways that Docker reads.
pub(super) fn mac_address(table: &mut Table<'_>) -> Option<String> {
    const KEY: &str = "mac_address";
    let text = table.text(KEY)?;
    let is_hex = |group: &str, length: usize| {
        group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_one = |separator: char, groups: usize, length: usize| {
        text.split(separator).count() == groups
            && text.split(separator).all(|group| is_hex(group, length))
    };
    if !is_one(':', 6, 2) && !is_one('-', 6, 2) && !is_one('.', 3, 4) {
        table.refuse(
            KEY,
            format!(r#"{text:?} is no MAC address; write it like "92:d0:c6:0a:29:33""#),
        );
    }
    Some(text)
}
