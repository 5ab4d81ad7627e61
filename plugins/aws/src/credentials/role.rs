//! A role, taken for a while: STS AssumeRole and AssumeRoleWithWebIdentity.

use aws_credential_types::Credentials;
use fleetling_plugin_sdk::{Host, Problem, ProblemKind, SecretProblem, retry};

use super::{Identity, Redeemer, World, expiry};
use crate::endpoint::Service;
use crate::files::Profile;
use crate::wire::Wire;
use crate::xml;
use crate::xml::sts::{AssumeRoleResponse, AssumeRoleWithWebIdentityResponse};

/// The secret with the token, and where the host finds it if nobody said otherwise (EKS puts it there).
const TOKEN: &str = "aws_web_identity_token";
const TOKEN_FILE: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
/// AWS's limit.
const LONGEST_SESSION_NAME: usize = 64;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Role {
    arn: String,
    session: String,
    external_id: Option<String>,
    /// Seconds.
    duration: Option<u32>,
    /// As in "role … of …".
    of: String,
}

/// Names the manager in CloudTrail: `owner` with AWS's alphabet and length.
pub(crate) fn session_name(owner: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
    let own: String = owner
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let mut name = format!("fleetling-{own}");
    name.truncate(LONGEST_SESSION_NAME);
    name
}

pub(super) fn of_profile(world: &World<'_>, profile: &Profile, arn: &str) -> Result<Role, Problem> {
    let duration = match profile.get("duration_seconds") {
        None => None,
        Some(written) => Some(written.parse().map_err(|_| {
            Problem::invalid_config(
                "duration_seconds",
                format!(
                    "duration_seconds of profile `{}` is `{written}`; next: write a number of seconds",
                    profile.name
                ),
            )
        })?),
    };
    Ok(Role {
        arn: arn.to_owned(),
        session: profile
            .get("role_session_name")
            .unwrap_or(world.session)
            .to_owned(),
        external_id: profile.get("external_id").map(str::to_owned),
        duration,
        of: format!("profile `{}`", profile.name),
    })
}

/// The role that the environment names beside a token.
pub(super) fn by_web_identity(world: &World<'_>) -> Option<Role> {
    let host = world.host;
    let written = world.config.web_identity_token_file.clone();
    written.or_else(|| host.variable("AWS_WEB_IDENTITY_TOKEN_FILE"))?;
    Some(Role {
        arn: host.variable("AWS_ROLE_ARN")?,
        session: host
            .variable("AWS_ROLE_SESSION_NAME")
            .unwrap_or_else(|| world.session.to_owned()),
        external_id: None,
        duration: None,
        of: "the environment (AWS_ROLE_ARN)".into(),
    })
}

/// A plugin reads no path, only what was granted: the profile must name the file that was.
pub(super) fn must_be_granted(
    world: &World<'_>,
    profile: &Profile,
    token_file: &str,
) -> Result<(), Problem> {
    let written = world.config.web_identity_token_file.clone();
    let variable = || world.host.variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    let granted = written
        .or_else(variable)
        .unwrap_or_else(|| TOKEN_FILE.to_owned());
    if granted == token_file {
        return Ok(());
    }
    Err(Problem::invalid_config(
        "plugin_config.web_identity_token_file",
        format!(
            "profile `{}` has web_identity_token_file = {token_file}, and what this plugin may read is {granted}; \
             next: set plugin_config.web_identity_token_file to the profile's",
            profile.name
        ),
    ))
}

impl Role {
    /// With the keys of `by`.
    pub(super) fn take(&self, with: &Redeemer<'_>, by: &Identity) -> Result<Identity, Problem> {
        let mut parameters = self.parameters();
        parameters.extend(self.external_id.clone().map(|id| ("ExternalId", id)));
        let body = self.ask(with, "AssumeRole", &parameters, Some(by))?;
        let response: AssumeRoleResponse =
            xml::read(&body).map_err(|detail| strange(with, "sts:AssumeRole", &detail))?;
        Ok(self.identity(response.result.credentials))
    }

    /// With a token, which is read anew: whoever signs it puts a new one there in time.
    pub(super) fn take_with_token(&self, with: &Redeemer<'_>) -> Result<Identity, Problem> {
        let token = self.token(with.host)?;
        let mut parameters = self.parameters();
        parameters.push(("WebIdentityToken", token));
        let action = "AssumeRoleWithWebIdentity";
        let body = self.ask(with, action, &parameters, None)?;
        let response: AssumeRoleWithWebIdentityResponse = xml::read(&body)
            .map_err(|detail| strange(with, "sts:AssumeRoleWithWebIdentity", &detail))?;
        Ok(self.identity(response.result.credentials))
    }

    fn token(&self, host: &dyn Host) -> Result<String, Problem> {
        let fault = |kind, why: String| {
            Problem::new(
                kind,
                format!(
                    "the web identity token for role {} cannot be read: {why}",
                    self.arn
                ),
            )
            .about(TOKEN)
        };
        let bytes = host.secret(TOKEN).map_err(|problem| match problem {
            SecretProblem::NotGranted(why) => fault(ProblemKind::Forbidden, why),
            SecretProblem::Unreadable(why) => fault(ProblemKind::Unauthenticated, why),
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| fault(ProblemKind::Unauthenticated, "it is not UTF-8".into()))?;
        Ok(text.trim().to_owned())
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("RoleArn", self.arn.clone()),
            ("RoleSessionName", self.session.clone()),
        ];
        let duration = self.duration.map(|seconds| seconds.to_string());
        parameters.extend(duration.map(|seconds| ("DurationSeconds", seconds)));
        parameters
    }

    /// Taking a role changes nothing that a second try could spoil.
    fn ask(
        &self,
        with: &Redeemer<'_>,
        action: &str,
        parameters: &[(&str, String)],
        by: Option<&Identity>,
    ) -> Result<Vec<u8>, Problem> {
        let wire = Wire {
            host: with.host,
            endpoints: with.endpoints,
            region: with.region,
            agent: with.agent,
        };
        let nobody = Identity {
            credentials: Credentials::new("", "", None, None, "nobody"),
            whose: format!("role {} of {} through its web identity", self.arn, self.of),
            mend: "check the token, and the role's trust policy".into(),
        };
        let asker = by.map(|by| Identity {
            mend: format!(
                "{}, or let the trust policy of role {} name them",
                by.mend, self.arn
            ),
            ..by.clone()
        });
        let asker = asker.as_ref().unwrap_or(&nobody);
        let signer = by.map(|by| &by.credentials);
        retry::read(with.host, || {
            let answer = wire.query(Service::Sts, action, parameters, signer, with.host.now());
            let response = answer.map_err(Problem::from)?;
            match Wire::refusal(Service::Sts, &response) {
                None => Ok(response.into_body()),
                Some(refusal) => {
                    let action = format!("sts:{action} of {}", self.arn);
                    Err(refusal.into_failure(asker, &action).into())
                }
            }
        })
    }

    fn identity(&self, taken: xml::sts::Credentials) -> Identity {
        Identity {
            credentials: Credentials::new(
                taken.access_key_id,
                taken.secret_access_key,
                Some(taken.session_token),
                expiry(&taken.expiration),
                "role",
            ),
            whose: format!("role {} of {}", self.arn, self.of),
            mend: "wait for the next try, which takes the role anew".into(),
        }
    }
}

fn strange(with: &Redeemer<'_>, action: &str, detail: &str) -> Problem {
    let endpoint = with.endpoints.of(Service::Sts, with.region);
    let message =
        format!("{endpoint} answered {action} with something else than expected: {detail}");
    Problem::new(ProblemKind::Unavailable, message).about(action)
}
