//! One entry of `devices`: `host[:container[:permissions]]`, and the rules of `device_cgroup_rules`.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// On the instance.
    pub host: String,
    pub container: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDevice;

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"is no device; write it like "/dev/kvm" or "/dev/sda:/dev/xvda:r""#)
    }
}

impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let parts: Vec<_> = text.split(':').collect();
        let (host, container, permissions) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, container] => (host, container, "rwm"),
            [host, container, permissions] => (host, container, permissions),
            _ => return Err(NoDevice),
        };
        let known = permissions.chars().all(|c| "rwm".contains(c));
        if host.is_empty() || container.is_empty() || permissions.is_empty() || !known {
            return Err(NoDevice);
        }
        Ok(Self {
            host: host.into(),
            container: container.into(),
            permissions: permissions.into(),
        })
    }
}

/// Whether Docker takes it among `device_cgroup_rules`: `c 189:* rwm`.
pub fn is_cgroup_rule(text: &str) -> bool {
    let number = |text: &str| {
        text == "*" || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts: Vec<_> = text.split(' ').collect();
    let [kind, numbers, permissions] = parts[..] else {
        return false;
    };
    matches!(kind, "a" | "b" | "c")
        && numbers
            .split_once(':')
            .is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&permissions.len())
        && permissions.chars().all(|c| "rwm".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_at_the_same_place_and_wholly_open_unless_said() {
        for (text, host, container, permissions) in [
            ("/dev/kvm", "/dev/kvm", "/dev/kvm", "rwm"),
            ("/dev/sda:/dev/xvda", "/dev/sda", "/dev/xvda", "rwm"),
            ("/dev/sda:/dev/xvda:r", "/dev/sda", "/dev/xvda", "r"),
        ] {
            let device = Device {
                host: host.into(),
                container: container.into(),
                permissions: permissions.into(),
            };
            assert_eq!(text.parse(), Ok(device), "{text}");
        }
        for text in ["", ":/dev/a", "/dev/a:", "/a:/b:rx", "/a:/b:", "/a:/b:r:w"] {
            assert_eq!(text.parse::<Device>(), Err(NoDevice), "{text}");
        }
    }

    #[test]
    fn rules_are_those_that_docker_takes() {
        for rule in ["c 189:* rwm", "b *:* m", "a 7:128 rw"] {
            assert!(is_cgroup_rule(rule), "{rule}");
        }
        for rule in [
            "",
            "c 189 rwm",
            "d 1:1 r",
            "c 1:1",
            "c 1:1 rx",
            "c 1:1 rwmr",
            "c  1:1 r",
            "c 1:-1 r",
        ] {
            assert!(!is_cgroup_rule(rule), "{rule}");
        }
    }
}
