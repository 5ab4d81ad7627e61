//! The AWS plugin's published policy against an API that enforces it: all of it suffices, and without any one action the
//! operator reads which.
//!
//! moto knows no resources and conditions; those are checked in the document itself, beside the plugin.

use std::rc::Rc;

use anyhow::{Context, Result, anyhow, ensure};
use fleeting_plugin_aws::Aws;
use fleetling_lab::cloud::{Cloud, GROUP};
use fleetling_plugin_sdk::testing::Native;
use fleetling_plugin_sdk::{
    IncreaseRequest, InstanceRef, Notice, Problem, Provider, Removal, Settings,
};
use serde_json::json;
use tokio::runtime::Handle;

const POLICY: &str = include_str!("../../../plugins/aws/iam-policy.json");

/// The plugin as the manager's user, and what it told.
struct Told<'a> {
    cloud: &'a Cloud,
    aws: Aws,
    runtime: Handle,
    /// Of the problems and notices that name an action.
    said: Vec<String>,
}

impl Told<'_> {
    fn problem(&mut self, problem: Problem) {
        self.said.push(problem.message);
    }

    fn notices(&mut self, notices: Vec<Notice>) {
        let of_actions = notices.into_iter().filter(|one| one.subject.contains(':'));
        self.said.extend(of_actions.map(|one| one.message));
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(answer)
    }

    fn update(&mut self) -> Vec<String> {
        match self.aws.update() {
            Err(problem) => {
                self.problem(problem);
                Vec::new()
            }
            Ok(snapshot) => {
                self.notices(snapshot.notices);
                let ids = snapshot.instances.into_iter().map(|one| one.id);
                ids.collect()
            }
        }
    }

    fn connect(&mut self, id: &str) {
        let of = InstanceRef {
            id: id.to_owned(),
            memo: String::new(),
        };
        match self.aws.connect_info(of) {
            Ok(_) => {}
            // moto's passwords are no base64: that they were read at all is the point.
            Err(problem) if problem.message.contains("something else than base64") => {}
            Err(problem) => self.problem(problem),
        }
    }

    /// What a manager does in the life of an instance, once with everything that leads to one more question: a launch
    /// template followed by its latest version, a spot instance, a Windows machine, a place that stays empty.
    fn life_of_an_instance(&mut self, token: &str) -> Result<()> {
        match self.aws.open() {
            Ok(opened) => self.notices(opened.notices),
            Err(problem) => self.problem(problem),
        }
        let outcome = self.aws.increase(IncreaseRequest {
            token: token.to_owned(),
            count: 1,
            avoid_pools: Vec::new(),
            extras: Vec::new(),
        });
        for problem in outcome.problems {
            self.problem(problem);
        }
        // An instance of an earlier life stands where this one could make none.
        let cloud = self.cloud;
        let standing = self.wait(cloud.group())?.instances;
        for id in &standing {
            self.wait(cloud.booted(id))?;
        }
        let id = standing.last().context("there is an instance")?.clone();
        self.wait(cloud.pretend(&id, json!({"lifecycle": "spot", "platform": ""})))?;
        self.wait(cloud.lack(1))?;
        self.update();
        self.connect(&id);
        self.wait(cloud.pretend(&id, json!({"platform": "windows"})))?;
        self.connect(&id);
        let removals = self.aws.decrease(vec![InstanceRef {
            id,
            memo: String::new(),
        }]);
        for removal in removals {
            if let Removal::Refused(problem) = removal {
                self.problem(problem);
            }
        }
        self.wait(cloud.desire(u32::try_from(standing.len())?))
    }
}

fn actions() -> Result<Vec<String>> {
    let policy: serde_json::Value = serde_json::from_str(POLICY)?;
    let statements = policy["Statement"].as_array().context("statements")?;
    let all = statements
        .iter()
        .flat_map(|statement| statement["Action"].as_array().into_iter().flatten());
    let names = all.map(|action| action.as_str().map(str::to_owned));
    names.collect::<Option<_>>().context("actions are names")
}

/// What is said while only these actions are allowed.
fn said(cloud: &Cloud, runtime: &Handle, allowed: &[String], token: &str) -> Result<Vec<String>> {
    runtime.block_on(cloud.allow(allowed))?;
    let access = &cloud.access;
    let host = Rc::new(Native::default());
    let around = host.around();
    around.set_secret(
        "aws_config",
        &format!(
            "[default]\nregion = {}\nendpoint_url = {}\n",
            access.region, access.endpoint
        ),
    );
    around.set_secret(
        "aws_credentials",
        &format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            access.access_key, access.secret_key
        ),
    );
    let config = json!({"name": GROUP}).to_string();
    let aws = Aws::init(host, &config, Settings::for_tests())
        .map_err(|problem| anyhow!(problem.message))?;
    let mut told = Told {
        cloud,
        aws,
        runtime: runtime.clone(),
        said: Vec::new(),
    };
    told.life_of_an_instance(token)?;
    Ok(told.said)
}

fn each_action_is_needed_and_named(cloud: &Cloud, runtime: &Handle) -> Result<()> {
    let actions = actions()?;
    let all = said(cloud, runtime, &actions, "all")?;
    ensure!(
        all.is_empty(),
        "the whole policy does not suffice: {all:#?}"
    );
    for missing in &actions {
        let others: Vec<String> = actions
            .iter()
            .filter(|one| *one != missing)
            .cloned()
            .collect();
        let told = said(cloud, runtime, &others, missing)?;
        let named = told
            .iter()
            .any(|message| message.contains(missing.as_str()));
        ensure!(named, "without {missing} this is said: {told:#?}");
        let others = told.iter().filter(|message| {
            let mut names = others.iter();
            names.any(|other| message.contains(&format!("may not do {other}")))
        });
        let others: Vec<_> = others.collect();
        ensure!(
            others.is_empty(),
            "without {missing} others are named: {others:#?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_policy_suffices_and_each_action_that_is_missing_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cloud = Cloud::alone(dir.path()).await?;
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || each_action_is_needed_and_named(&cloud, &runtime)).await?
}
