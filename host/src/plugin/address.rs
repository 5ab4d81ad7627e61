//! Which addresses a plugin's requests may be dialled to: the second layer of egress, judged for every address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for, as far as a sandbox cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Public,
    /// RFC 1918, RFC 6598 (carrier-grade NAT) and unique local IPv6: somebody's own network.
    Private,
    Loopback,
    /// The cloud's credential service.
    Metadata,
    LinkLocal,
    Multicast,
    Unspecified,
    /// Broadcast, 240/4, documentation and benchmark ranges, and IPv6 forms that hide another address.
    Reserved,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::Metadata => "metadata service",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        })
    }
}

/// Which purposes beside [`Purpose::Public`] one request may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressRules {
    pub private: bool,
    pub loopback: bool,
    pub metadata: bool,
}

impl AddressRules {
    /// The address's purpose when these rules refuse it.
    pub fn refuse(self, address: IpAddr) -> Option<Purpose> {
        let purpose = purpose(address);
        let allowed = match purpose {
            Purpose::Public => true,
            Purpose::Private => self.private,
            Purpose::Loopback => self.loopback,
            Purpose::Metadata => self.metadata,
            Purpose::LinkLocal | Purpose::Multicast | Purpose::Unspecified | Purpose::Reserved => {
                false
            }
        };
        (!allowed).then_some(purpose)
    }
}

/// IPv4 in any IPv6 dress is judged as IPv4.
pub fn purpose(address: IpAddr) -> Purpose {
    match address {
        IpAddr::V4(v4) => purpose_v4(v4),
        IpAddr::V6(v6) => purpose_v6(v6),
    }
}

/// EC2 and most clouds, ECS tasks, EKS pods.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
];

fn purpose_v4(address: Ipv4Addr) -> Purpose {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return Purpose::Metadata;
    }
    match (a, b, c) {
        (0, ..) => Purpose::Unspecified,
        (127, ..) => Purpose::Loopback,
        (169, 254, _) => Purpose::LinkLocal,
        (10, ..) | (192, 168, _) => Purpose::Private,
        (172, 16..=31, _) | (100, 64..=127, _) => Purpose::Private,
        (224..=239, ..) => Purpose::Multicast,
        (240..=255, ..) => Purpose::Reserved,
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (198, 18..=19, _) => Purpose::Reserved,
        _ => Purpose::Public,
    }
}

fn purpose_v6(address: Ipv6Addr) -> Purpose {
    if METADATA_V6.contains(&address) {
        return Purpose::Metadata;
    }
    if let Some(v4) = embedded_v4(address) {
        return purpose_v4(v4);
    }
    let segments = address.segments();
    match segments[0] {
        _ if address.is_loopback() => Purpose::Loopback,
        _ if address.is_unspecified() => Purpose::Unspecified,
        0xff00..=0xffff => Purpose::Multicast,
        0xfe80..=0xfebf => Purpose::LinkLocal,
        0xfc00..=0xfdff => Purpose::Private,
        // Site-local is deprecated, and the rest of ::/8 is nobody's.
        0xfec0..=0xfeff | 0x0000..=0x00ff => Purpose::Reserved,
        0x2001 if segments[1] == 0x0db8 || segments[1] == 0 => Purpose::Reserved,
        0x0100 if segments[1] == 0 && segments[2] == 0 && segments[3] == 0 => Purpose::Reserved,
        0x3fff if segments[1] < 0x1000 => Purpose::Reserved,
        _ => Purpose::Public,
    }
}

/// IPv4-mapped, NAT64 (64:ff9b::/96) and 6to4 (2002::/16) addresses lead to the IPv4 address inside.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let of = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_purpose() {
        let table = [
            ("8.8.8.8", Purpose::Public),
            ("2a00:1450::1", Purpose::Public),
            ("10.1.2.3", Purpose::Private),
            ("172.28.0.1", Purpose::Private),
            ("172.32.0.1", Purpose::Public),
            ("192.168.0.1", Purpose::Private),
            ("100.64.0.1", Purpose::Private),
            ("fd12::1", Purpose::Private),
            ("127.0.0.1", Purpose::Loopback),
            ("127.9.9.9", Purpose::Loopback),
            ("::1", Purpose::Loopback),
            ("169.254.169.254", Purpose::Metadata),
            ("169.254.170.2", Purpose::Metadata),
            ("fd00:ec2::254", Purpose::Metadata),
            ("169.254.1.1", Purpose::LinkLocal),
            ("fe80::1", Purpose::LinkLocal),
            ("224.0.0.1", Purpose::Multicast),
            ("ff02::1", Purpose::Multicast),
            ("0.0.0.0", Purpose::Unspecified),
            ("0.1.2.3", Purpose::Unspecified),
            ("::", Purpose::Unspecified),
            ("255.255.255.255", Purpose::Reserved),
            ("240.0.0.1", Purpose::Reserved),
            ("192.0.2.1", Purpose::Reserved),
            ("198.51.100.1", Purpose::Reserved),
            ("203.0.113.1", Purpose::Reserved),
            ("198.18.0.1", Purpose::Reserved),
            ("2001:db8::1", Purpose::Reserved),
            ("fec0::1", Purpose::Reserved),
            ("::ffff:10.0.0.1", Purpose::Private),
            ("::ffff:127.0.0.1", Purpose::Loopback),
            ("64:ff9b::a9fe:a9fe", Purpose::Metadata),
            ("2002:7f00:1::", Purpose::Loopback),
        ];
        for (address, expected) in table {
            let address: IpAddr = address.parse().expect("the table holds addresses");
            assert_eq!(purpose(address), expected, "{address}");
        }
    }

    #[test]
    fn rules_open_one_purpose_each_and_never_the_rest() {
        let all = AddressRules {
            private: true,
            loopback: true,
            metadata: true,
        };
        let none = AddressRules::default();
        for (address, by_rule) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("169.254.169.254", true),
            ("169.254.1.1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("240.0.0.1", false),
        ] {
            let address: IpAddr = address.parse().expect("the table holds addresses");
            assert!(none.refuse(address).is_some(), "{address}");
            assert_eq!(all.refuse(address).is_none(), by_rule, "{address}");
        }
        assert_eq!(none.refuse(Ipv4Addr::new(8, 8, 8, 8).into()), None);
    }
}
