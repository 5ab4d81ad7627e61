//! Each way to AWS keys, from a configuration with only `name`: the plugin that ships, in its sandbox, with its built-in
//! grants, on a machine where whoever gives keys answers at AWS's own addresses.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetling_lab::aws_machine::{
    METADATA, METADATA_V6, POD, POD_PATH, POD_TOKEN, POD_V6, TASK, TASK_PATH,
};
use fleetling_lab::{AwsMachine, CloudAlone, Configuration, Fact};

/// From a command's end until the cloud has told of everything it was asked.
const TOLD: Duration = Duration::from_secs(10);

/// A cloud, and a machine that runs in it.
struct Premises {
    alone: CloudAlone,
    machine: AwsMachine,
}

/// A way to keys, as it is laid out for the manager.
struct Way {
    name: &'static str,
    variables: Vec<(&'static str, String)>,
    /// Who gives the keys; a role that was taken has keys of its own, which nobody knows before.
    key: Option<String>,
    /// What the services on the machine hear.
    heard: Vec<String>,
    /// The action of STS that is asked for.
    taken_by: Option<&'static str>,
}

impl Premises {
    async fn start() -> Result<Self> {
        let alone = CloudAlone::start().await?;
        let machine = AwsMachine::start(&alone.cloud).await?;
        Ok(Self { alone, machine })
    }

    /// With `name` in `plugin_config`, no AWS files, and leave for the plugin to reach the stand-in for AWS itself.
    fn configuration(&self) -> Configuration {
        let mut configuration = self.alone.configuration();
        for line in [
            "profile          = \"default\"",
            "config_file      = \"/home/user/.aws/config\"",
            "credentials_file = \"/home/user/.aws/credentials\"",
        ] {
            configuration = configuration.replace(line, "");
        }
        configuration.credentials.clear();
        configuration.aws_config.clear();
        configuration
    }

    /// `update`, as a manager would ask with these variables.
    async fn update(&self, variables: &[(&'static str, String)]) -> Result<Output> {
        let endpoint = self.alone.cloud.access.endpoint.clone();
        let mut variables = variables.to_vec();
        variables.push(("AWS_ENDPOINT_URL", endpoint));
        let arguments = ["plugin", "call", "aws", "update", "--config", "config.toml"];
        let asked = self
            .alone
            .fleetling_on(&self.machine, &variables, &arguments);
        asked.await
    }

    /// A file that only this machine's workload has.
    fn file(&self, name: &str, content: &str) -> Result<String> {
        let file = self.alone.home().join(name);
        std::fs::write(&file, content)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// The actions that the cloud was asked for since the journal had `begin` entries, with the key that signed each; the
    /// question about the group is the last.
    async fn asked(&self, begin: usize) -> Result<Vec<(String, u16, String)>> {
        let is_of_group = |fact: &Fact| matches!(fact, Fact::CloudAsked { action, .. } if action == "DescribeAutoScalingGroups");
        let told = || {
            let entries = self.alone.journal.since(begin);
            entries
                .iter()
                .any(|entry| is_of_group(&entry.fact))
                .then_some(())
        };
        let journal = &self.alone.journal;
        journal
            .until("the question about the group", TOLD, told)
            .await?;

        let entries = self.alone.journal.since(begin).into_iter();
        let asked = entries.filter_map(|entry| match entry.fact {
            Fact::CloudAsked {
                action,
                status,
                key,
                ..
            } => Some((action, status, key)),
            _ => None,
        });
        Ok(asked.collect())
    }

    async fn leads_to_the_group(&self, way: &Way) -> Result<()> {
        let name = way.name;
        let begin = self.alone.journal.entries().len();
        let output = self.update(&way.variables).await?;
        ensure!(output.status.success(), "{name}: {}", said(&output));
        let heard = self.machine.heard();
        ensure!(heard == way.heard, "{name}: {heard:#?}");
        let asked = self.asked(begin).await?;
        let (of_sts, of_group): (Vec<_>, Vec<_>) = asked
            .iter()
            .partition(|(action, ..)| action.starts_with("AssumeRole"));
        let taken: Vec<&str> = of_sts.iter().map(|(action, ..)| action.as_str()).collect();
        let expected: Vec<&str> = way.taken_by.into_iter().collect();
        ensure!(taken == expected, "{name}: {asked:#?}");
        ensure!(
            asked.iter().all(|(_, status, _)| *status == 200),
            "{name}: {asked:#?}"
        );
        let (_, _, signer) = of_group.first().context("the group was not asked for")?;
        match &way.key {
            Some(key) => ensure!(signer == key, "{name}: {signer} signed, and not {key}"),
            None => {
                let (_, _, asker) = of_sts.first().context("no role was taken")?;
                ensure!(
                    signer != asker && signer.starts_with("ASIA"),
                    "{name}: {signer} signed, and {asker} took the role"
                );
            }
        }
        Ok(())
    }

    fn environment(&self) -> Way {
        let access = &self.alone.cloud.access;
        Way {
            name: "environment",
            variables: vec![
                in_region(),
                ("AWS_ACCESS_KEY_ID", access.access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY", access.secret_key.clone()),
            ],
            key: Some(access.access_key.clone()),
            heard: Vec::new(),
            taken_by: None,
        }
    }

    /// `AWS_ROLE_ARN` with a token that somebody whom AWS trusts has signed, as EKS lays it out for a service account.
    fn web_identity(&self) -> Result<Way> {
        let access = &self.alone.cloud.access;
        let token = self.file("identity-token", &access.identity_token)?;
        Ok(Way {
            name: "web identity",
            variables: vec![
                in_region(),
                ("AWS_ROLE_ARN", access.role.clone()),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ],
            key: None,
            heard: Vec::new(),
            taken_by: Some("AssumeRoleWithWebIdentity"),
        })
    }

    fn task(&self) -> Result<Way> {
        Ok(Way {
            name: "task (ECS)",
            variables: vec![
                in_region(),
                (
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    TASK_PATH.to_owned(),
                ),
            ],
            key: Some(self.machine.key(TASK)?),
            heard: vec![format!("GET {TASK}{TASK_PATH} 200")],
            taken_by: None,
        })
    }

    fn pod(&self, name: &'static str, address: &str, in_url: &str) -> Result<Way> {
        let token = self.file("pod-token", POD_TOKEN)?;
        let url = format!("http://{in_url}{POD_PATH}");
        Ok(Way {
            name,
            variables: vec![
                in_region(),
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token),
            ],
            key: Some(self.machine.key(address)?),
            heard: vec![format!("GET {address}{POD_PATH} 200")],
            taken_by: None,
        })
    }

    /// Nothing is set: the machine tells its role and its region.
    fn metadata(&self, name: &'static str, address: &str, mode: Option<&str>) -> Result<Way> {
        let mode = mode.map(|mode| ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", mode.to_owned()));
        let asked = [
            "placement/region",
            "iam/security-credentials/",
            "iam/security-credentials/builders",
        ];
        let with_token = |path: &str| {
            [
                format!("PUT {address}/latest/api/token 200"),
                format!("GET {address}/latest/meta-data/{path} 200"),
            ]
        };
        Ok(Way {
            name,
            variables: mode.into_iter().collect(),
            key: Some(self.machine.key(address)?),
            heard: asked.into_iter().flat_map(with_token).collect(),
            taken_by: None,
        })
    }
}

fn in_region() -> (&'static str, String) {
    ("AWS_REGION", "eu-west-1".to_owned())
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_only_a_name_works_wherever_aws_lays_keys_out() -> Result<()> {
    let premises = Premises::start().await?;
    let configuration = premises.configuration();
    premises.alone.write(&configuration)?;
    for way in [
        premises.environment(),
        premises.web_identity()?,
        premises.task()?,
        premises.pod("pod (EKS)", POD, POD)?,
        premises.pod("pod (EKS) over IPv6", POD_V6, &format!("[{POD_V6}]"))?,
        premises.metadata("instance metadata", METADATA, None)?,
        premises.metadata("instance metadata over IPv6", METADATA_V6, Some("IPv6"))?,
    ] {
        premises.leads_to_the_group(&way).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_takes_a_role_with_the_keys_of_another() -> Result<()> {
    let premises = Premises::start().await?;
    let access = &premises.alone.cloud.access;
    let mut configuration = premises.configuration();
    configuration.aws_config = format!(
        "[default]\nregion = {}\nrole_arn = {}\nsource_profile = base\n",
        access.region, access.role
    );
    configuration.credentials = format!(
        "[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        access.base_key, access.base_secret_key
    );
    premises.alone.write(&configuration)?;
    let way = Way {
        name: "profile",
        variables: Vec::new(),
        key: None,
        heard: Vec::new(),
        taken_by: Some("AssumeRole"),
    };
    premises.leads_to_the_group(&way).await?;

    // The keys alone may do nothing but take the role.
    configuration.aws_config = format!("[default]\nregion = {}\n", access.region);
    configuration.credentials = configuration.credentials.replace("[base]", "[default]");
    premises.alone.write(&configuration)?;
    let refused = premises.update(&[]).await?;
    let said = said(&refused);
    ensure!(
        !refused.status.success() && said.contains("autoscaling:DescribeAutoScalingGroups"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gives_keys_is_reached_by_grant_alone_and_its_faults_pass() -> Result<()> {
    let premises = Premises::start().await?;
    let machine = &premises.machine;
    let granted = premises.configuration();
    let mut withdrawn = granted.clone();
    withdrawn.plugins.push_str("metadata = false\n");
    premises.alone.write(&withdrawn)?;
    let ways = [
        premises.task()?,
        premises.pod("pod", POD, POD)?,
        premises.metadata("machine", METADATA, None)?,
    ];
    for way in &ways {
        let name = way.name;
        let refused = premises.update(&way.variables).await?;
        let said = said(&refused);
        ensure!(!refused.status.success(), "{name}: {said}");
        for words in ["http://169.254.", "this plugin may not call it"] {
            ensure!(said.contains(words), "{name}: {words:?} is missing: {said}");
        }
    }
    ensure!(
        machine.connections() == 0,
        "{} connections, and {:#?}",
        machine.connections(),
        machine.heard()
    );

    premises.alone.write(&granted)?;
    machine.fail();
    for way in &ways {
        let name = way.name;
        let failed = premises.update(&way.variables).await?;
        let said = said(&failed);
        ensure!(!failed.status.success(), "{name}: {said}");
        for words in ["unavailable", "http://169.254.", "answered with status 503"] {
            ensure!(said.contains(words), "{name}: {words:?} is missing: {said}");
        }
        ensure!(!said.contains("unauthenticated"), "{name}: {said}");
    }
    Ok(())
}
