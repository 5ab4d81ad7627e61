//! Where each service answers: the partition's own names, or those that the operator wrote.
//!
//! ```text
//! AWS_ENDPOINT_URL_<SERVICE> → AWS_ENDPOINT_URL → the profile's `services` section → its endpoint_url → AWS
//! ```

use fleetling_plugin_sdk::http::Uri;
use fleetling_plugin_sdk::{Host, Problem};

use crate::files::{Files, Profile};
use crate::ini;

/// A service, with the name AWS gives it in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    AutoScaling,
    Ec2,
    InstanceConnect,
    Sts,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [
        Self::AutoScaling,
        Self::Ec2,
        Self::InstanceConnect,
        Self::Sts,
    ];

    /// In host names and signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AutoScaling => "autoscaling",
            Self::Ec2 => "ec2",
            Self::InstanceConnect => "ec2-instance-connect",
            Self::Sts => "sts",
        }
    }

    /// In a `[services …]` section and, in capitals, in the environment.
    fn key(self) -> &'static str {
        match self {
            Self::AutoScaling => "auto_scaling",
            Self::Ec2 => "ec2",
            Self::InstanceConnect => "ec2_instance_connect",
            Self::Sts => "sts",
        }
    }

    /// Of the Query protocol.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::AutoScaling => "2011-01-01",
            Self::Ec2 | Self::InstanceConnect => "2016-11-15",
            Self::Sts => "2011-06-15",
        }
    }
}

/// An independent AWS: regions with this prefix, and the domains that its services have, without and with IPv6.
type Partition = (&'static str, &'static str, &'static str);

/// The first prefix that fits counts.
const PARTITIONS: [Partition; 8] = [
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("us-gov-", "amazonaws.com", "api.aws"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("", "amazonaws.com", "api.aws"),
];

/// What was written about endpoints; where nothing was, the region decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// Without a slash at the end, in the order of [`Service::ALL`].
    own: [Option<String>; 4],
    dual_stack: bool,
    fips: bool,
}

impl Endpoints {
    pub(crate) fn read(host: &dyn Host, files: &Files, profile: &Profile) -> Result<Self, Problem> {
        let flag = |variable: &str, key: &str| {
            let written = host.variable(variable);
            let written = written.as_deref().or_else(|| profile.get(key));
            written.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let mut endpoints = Self {
            own: Default::default(),
            dual_stack: flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
            fips: flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
        };
        if flag(
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
            "ignore_configured_endpoint_urls",
        ) {
            return Ok(endpoints);
        }
        let services = profile
            .get("services")
            .and_then(|name| files.services(name));
        for (service, own) in Service::ALL.into_iter().zip(&mut endpoints.own) {
            if let Some((url, place)) = written(host, profile, services, service) {
                *own = Some(checked(&url, &place)?);
            }
        }
        Ok(endpoints)
    }

    /// Without a slash at the end.
    pub(crate) fn of(&self, service: Service, region: &str) -> String {
        if let Some(own) = &self.own[service as usize] {
            return own.clone();
        }
        let partition = PARTITIONS
            .iter()
            .find(|(prefix, ..)| region.starts_with(prefix));
        let (domain, dual_stack) =
            partition.map_or(("amazonaws.com", "api.aws"), |(_, one, other)| (one, other));
        let domain = if self.dual_stack { dual_stack } else { domain };
        // GovCloud's plain names are the validated ones of three of these services.
        let plain_is_fips = region.starts_with("us-gov-")
            && !self.dual_stack
            && service != Service::InstanceConnect;
        let fips = if self.fips && !plain_is_fips {
            "-fips"
        } else {
            ""
        };
        format!("https://{}{fips}.{region}.{domain}", service.name())
    }
}

/// A service's endpoint and where it stands.
fn written(
    host: &dyn Host,
    profile: &Profile,
    services: Option<&ini::Section>,
    service: Service,
) -> Option<(String, String)> {
    let name = &profile.name;
    let variable = format!("AWS_ENDPOINT_URL_{}", service.key().to_uppercase());
    let from_variable = |variable: String| host.variable(&variable).map(|url| (url, variable));
    from_variable(variable)
        .or_else(|| from_variable("AWS_ENDPOINT_URL".into()))
        .or_else(|| {
            let url = ini::nested(services?.get(service.key())?).remove("endpoint_url")?;
            let place = format!(
                "endpoint_url of `{}` in the services section of profile `{name}`",
                service.key()
            );
            (!url.is_empty()).then_some((url, place))
        })
        .or_else(|| {
            let url = profile.get("endpoint_url")?;
            Some((url.to_owned(), format!("endpoint_url of profile `{name}`")))
        })
}

fn checked(url: &str, place: &str) -> Result<String, Problem> {
    let trimmed = url.trim_end_matches('/');
    let parsed: Option<Uri> = trimmed.parse().ok();
    let is_origin = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    if is_origin {
        return Ok(trimmed.to_owned());
    }
    Err(Problem::invalid_config(
        "endpoint_url",
        format!("{place} is `{url}`, which is no http or https URL; next: correct it"),
    ))
}

#[cfg(test)]
mod tests {
    use fleetling_plugin_sdk::script::Script;

    use super::*;
    use crate::config::PluginConfig;

    fn endpoints(config_file: &str, variables: &[(&str, &str)]) -> Result<Endpoints, Problem> {
        let host = Script::default();
        host.set_secret("aws_config", config_file);
        for (name, value) in variables {
            host.set_variable(name, value);
        }
        let config = PluginConfig::parse(r#"{"name":"g"}"#).unwrap_or_default();
        let files = Files::read(&host, &config)?;
        let profile = files.profile("default").unwrap_or_default();
        Endpoints::read(&host, &files, &profile)
    }

    #[test]
    fn each_partition_has_its_domains() {
        use Service::{AutoScaling, Ec2, InstanceConnect, Sts};
        for (region, flags, service, expected) in [
            ("eu-west-1", "", Ec2, "https://ec2.eu-west-1.amazonaws.com"),
            ("eu-west-1", "", Sts, "https://sts.eu-west-1.amazonaws.com"),
            (
                "cn-north-1",
                "",
                InstanceConnect,
                "https://ec2-instance-connect.cn-north-1.amazonaws.com.cn",
            ),
            (
                "us-gov-west-1",
                "",
                AutoScaling,
                "https://autoscaling.us-gov-west-1.amazonaws.com",
            ),
            (
                "us-isob-east-1",
                "",
                Ec2,
                "https://ec2.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                "eusc-de-east-1",
                "",
                Ec2,
                "https://ec2.eusc-de-east-1.amazonaws.eu",
            ),
            (
                "eu-west-1",
                "use_dualstack_endpoint = true",
                AutoScaling,
                "https://autoscaling.eu-west-1.api.aws",
            ),
            (
                "cn-north-1",
                "use_dualstack_endpoint = TRUE",
                Ec2,
                "https://ec2.cn-north-1.api.amazonwebservices.com.cn",
            ),
            (
                "us-east-1",
                "use_fips_endpoint = true",
                AutoScaling,
                "https://autoscaling-fips.us-east-1.amazonaws.com",
            ),
            (
                "us-gov-west-1",
                "use_fips_endpoint = true",
                Sts,
                "https://sts.us-gov-west-1.amazonaws.com",
            ),
            (
                "us-east-1",
                "use_fips_endpoint = true\nuse_dualstack_endpoint = true",
                Ec2,
                "https://ec2-fips.us-east-1.api.aws",
            ),
        ] {
            let endpoints = endpoints(&format!("[default]\n{flags}\n"), &[]).expect(region);
            assert_eq!(endpoints.of(service, region), expected);
        }
    }

    #[test]
    fn the_narrowest_word_about_an_endpoint_wins() {
        let file = "[default]\nendpoint_url = http://127.0.0.1:5000/\nservices = lab\n\
                    [services lab]\nec2 =\n  endpoint_url = http://127.0.0.1:6000\n";
        let of = |variables: &[(&str, &str)]| {
            let endpoints = endpoints(file, variables).expect("all are URLs");
            [Service::Ec2, Service::AutoScaling].map(|one| endpoints.of(one, "eu-west-1"))
        };
        assert_eq!(of(&[]), ["http://127.0.0.1:6000", "http://127.0.0.1:5000"]);
        let all = ("AWS_ENDPOINT_URL", "http://e:1");
        assert_eq!(of(&[all]), ["http://e:1", "http://e:1"]);
        let one = ("AWS_ENDPOINT_URL_AUTO_SCALING", "http://a:1/");
        assert_eq!(of(&[all, one]), ["http://e:1", "http://a:1"]);
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_eq!(
            of(&[all, one, ignored])[0],
            "https://ec2.eu-west-1.amazonaws.com"
        );
    }

    #[test]
    fn what_is_no_url_is_named_with_its_place() {
        let problem = endpoints("[default]\nendpoint_url = 127.0.0.1:5000\n", &[]);
        assert_eq!(
            problem.expect_err("it has no scheme").message,
            "endpoint_url of profile `default` is `127.0.0.1:5000`, which is no http or https URL; next: correct it"
        );
    }
}
