//! One signed call to AWS, in either protocol, and the calls this plugin makes.

use fleetling_plugin_sdk::http::{self, HeaderValue, Limits, Request, header};
use fleetling_plugin_sdk::{Host, Problem, ProblemKind, retry};
use form_urlencoded::Serializer;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::PluginConfig;
use crate::problem::{Failure, Refusal};
use crate::profile::{Account, Service};
use crate::sign;
use crate::xml;
use crate::xml::autoscaling::{AutoScalingGroup, DescribeAutoScalingGroupsResponse};
use crate::xml::ec2::{DescribeInstancesResponse, Instance};

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const JSON: &str = "application/x-amz-json-1.1";
/// `DescribeInstances` takes as many values in a filter.
const FILTER_VALUES: usize = 200;

/// AWS, for one account, during one call of the contract.
pub(crate) struct Client<'a> {
    host: &'a dyn Host,
    pub(crate) account: Account,
}

impl<'a> Client<'a> {
    pub(crate) fn new(host: &'a dyn Host, config: &PluginConfig) -> Result<Self, Problem> {
        let account = Account::load(host, config)?;
        Ok(Self { host, account })
    }

    /// Every group of this name, which is one or none.
    pub(crate) fn groups(&self, name: &str) -> Result<Vec<AutoScalingGroup>, Problem> {
        let mut groups = Vec::new();
        let mut next = None;
        loop {
            let mut parameters = vec![("AutoScalingGroupNames.member.1", name.to_owned())];
            parameters.extend(next.take().map(|token| ("NextToken", token)));
            let page: DescribeAutoScalingGroupsResponse = self.read(
                Service::AutoScaling,
                "DescribeAutoScalingGroups",
                &parameters,
            )?;
            groups.extend(page.result.auto_scaling_groups.member);
            next = page.result.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(groups);
            }
        }
    }

    /// What EC2 knows of these; one it does not know is left out.
    ///
    /// A filter, not a list of IDs: with the list a single unknown ID fails the whole call.
    pub(crate) fn instances(&self, ids: &[&str]) -> Result<Vec<Instance>, Problem> {
        let mut instances = Vec::new();
        for chunk in ids.chunks(FILTER_VALUES) {
            let names: Vec<String> = (1..=chunk.len())
                .map(|n| format!("Filter.1.Value.{n}"))
                .collect();
            let mut next = None;
            loop {
                let mut parameters = vec![("Filter.1.Name", "instance-id".to_owned())];
                let values = names.iter().zip(chunk);
                parameters.extend(values.map(|(name, id)| (name.as_str(), (*id).to_owned())));
                parameters.extend(next.take().map(|token| ("NextToken", token)));
                let page: DescribeInstancesResponse =
                    self.read(Service::Ec2, "DescribeInstances", &parameters)?;
                let reservations = page.reservation_set.item.into_iter();
                instances.extend(reservations.flat_map(|one| one.instances_set.item));
                next = page.next_token.filter(|token| !token.is_empty());
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(instances)
    }

    /// One instance, or that there is none.
    pub(crate) fn instance(&self, id: &str) -> Result<Instance, Problem> {
        let found = self.instances(&[id])?.into_iter().next();
        found.ok_or_else(|| {
            Problem::new(
                ProblemKind::NotFound,
                format!(
                    "EC2 knows no instance {id} in region {}",
                    self.account.region
                ),
            )
            .about(id)
        })
    }

    /// The same size again changes nothing, so a caller who does not know what became of it may repeat it.
    pub(crate) fn set_desired_capacity(&self, group: &str, size: u32) -> Result<(), Failure> {
        let parameters = [
            ("AutoScalingGroupName", group.to_owned()),
            ("DesiredCapacity", size.to_string()),
            // The cool-down is for AWS's own scaling policies; jobs are waiting now.
            ("HonorCooldown", "false".to_owned()),
        ];
        self.query(Service::AutoScaling, "SetDesiredCapacity", &parameters)
            .map(drop)
    }

    pub(crate) fn terminate(&self, id: &str) -> Result<(), Failure> {
        let parameters = [
            ("InstanceId", id.to_owned()),
            ("ShouldDecrementDesiredCapacity", "true".to_owned()),
        ];
        let action = "TerminateInstanceInAutoScalingGroup";
        self.query(Service::AutoScaling, action, &parameters)
            .map(drop)
    }

    /// Authorises a key for one user on one instance, for 60 seconds.
    pub(crate) fn send_ssh_public_key(
        &self,
        instance: &str,
        zone: &str,
        user: &str,
        key: &str,
    ) -> Result<(), Problem> {
        let action = "SendSSHPublicKey";
        let body = serde_json::json!({
            "InstanceId": instance,
            "AvailabilityZone": zone,
            "InstanceOSUser": user,
            "SSHPublicKey": key,
        });
        // Not a read, but sending the same key again only renews its 60 seconds.
        retry::read(self.host, || {
            let mut request = Request::new(body.to_string().into_bytes());
            let target = HeaderValue::from_static("AWSEC2InstanceConnectService.SendSSHPublicKey");
            request.headers_mut().insert("x-amz-target", target);
            let response = self.send(Service::InstanceConnect, action, JSON, request)?;
            if response.status().is_success() {
                return Ok(());
            }
            let refusal = self.json_refusal(&response);
            let name = permission(Service::InstanceConnect, action);
            Err(refusal.into_failure(&self.account, &name).into())
        })
    }

    fn json_refusal(&self, response: &http::Response) -> Refusal {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            __type: String,
            #[serde(alias = "Message")]
            message: String,
        }
        let body: Body = serde_json::from_slice(response.body()).unwrap_or_default();
        Refusal {
            status: response.status().as_u16(),
            code: body
                .__type
                .rsplit('#')
                .next()
                .unwrap_or_default()
                .to_owned(),
            message: body.message,
            retry_after: http::retry_after(response),
        }
    }

    /// A call that changes nothing: tried again where that may help.
    fn read<T: DeserializeOwned>(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, Problem> {
        let body = retry::read(self.host, || Ok(self.query(service, action, parameters)?))?;
        let strange = |detail: String| {
            let name = permission(service, action);
            Problem::new(
                ProblemKind::Unavailable,
                format!(
                    "{} answered {name} with something else than expected: {detail}",
                    self.account.endpoint(service)
                ),
            )
            .about(name)
        };
        let text = std::str::from_utf8(&body).map_err(|_| strange("not UTF-8".into()))?;
        quick_xml::de::from_str(text).map_err(|error| strange(error.to_string()))
    }

    /// The Query protocol: a form goes, XML comes.
    fn query(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<u8>, Failure> {
        let version = match service {
            Service::AutoScaling => "2011-01-01",
            Service::Ec2 | Service::InstanceConnect => "2016-11-15",
        };
        let body = Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let response = self.send(service, action, FORM, Request::new(body.into_bytes()))?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let (code, message) = xml::error(response.body());
        let refusal = Refusal {
            status: response.status().as_u16(),
            code,
            message,
            retry_after: http::retry_after(&response),
        };
        Err(refusal.into_failure(&self.account, &permission(service, action)))
    }

    fn send(
        &self,
        service: Service,
        action: &str,
        content_type: &'static str,
        mut request: Request,
    ) -> Result<http::Response, Failure> {
        let known = |problem| Failure {
            problem: Box::new(problem),
            outcome_unknown: false,
        };
        let endpoint = self.account.endpoint(service);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("{endpoint}/").parse().map_err(|_| {
            let message = format!(
                "endpoint_url `{endpoint}` of profile `{}` is not a URL; next: correct it",
                self.account.profile
            );
            known(Problem::invalid_config("endpoint_url", message))
        })?;
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let now = self.host.now();
        sign::sign(&mut request, service, &self.account, now).map_err(|error| {
            let name = permission(service, action);
            let message = format!("{name} could not be signed: {error}");
            known(Problem::new(ProblemKind::Other, message).about(name))
        })?;
        let origin = http::origin(request.uri());
        self.host
            .send(&request, &Limits::default())
            .map_err(|error| Failure {
                outcome_unknown: error.outcome_unknown(),
                problem: Box::new(error.into_problem(&origin)),
            })
    }
}

/// An action as IAM policies name it.
fn permission(service: Service, action: &str) -> String {
    format!("{}:{action}", service.name())
}
