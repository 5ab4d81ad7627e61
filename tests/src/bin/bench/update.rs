//! The AWS plugin's `update` against moto, beside the same signed requests made natively, in turns.
//!
//! ```text
//! sandbox   Provider::update ─► guest ─► egress ─► reqwest ─┐
//! native    Aws::update ─────── the same code ───► reqwest ─┼─► moto, signature checking on
//! requests  what native sent last, signed already ► reqwest ─┘
//! ```
//! What natively runs is the plugin's own code: its requests are the same, and are signed by the same crate.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow, ensure};
use fleeting_plugin_aws::Aws;
use fleetling::fleet::group::{InstanceGroup, InstanceState, Snapshot};
use fleetling::plugin::provider::Provider as Sandboxed;
use fleetling_lab::CloudAlone;
use fleetling_lab::cloud::GROUP;
use fleetling_lab::figures::{Figures, Table};
use fleetling_plugin_sdk::http::{Error, Limits, Request, Response};
use fleetling_plugin_sdk::testing::Native;
use fleetling_plugin_sdk::{Host, KvProblem, Level, Provider as _, SecretProblem, Settings, http};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::extent::Extent;
use crate::site::{Site, load_group_of};

/// In the group, all running.
const INSTANCES: u32 = 10;
/// Until they are.
const BOOTED: Duration = Duration::from_secs(30);

pub(crate) async fn measure(extent: &Extent, table: &mut Table) -> Result<()> {
    let alone = CloudAlone::start().await?;
    alone.cloud.desire(INSTANCES).await?;
    let mut configuration = alone.configuration();
    // Measured is what a call costs, not what a plugin may ask in a second.
    let unlimited = "limits = { requests_per_second = 1000, request_burst = 10000 }\n";
    configuration.plugins.push_str(unlimited);
    alone.write(&configuration)?;

    let config = json!({
        "name": GROUP,
        "profile": "default",
        "config_file": alone.home().join(".aws/config"),
        "credentials_file": alone.home().join(".aws/credentials"),
    });
    let site = Site::new()?;
    let platform = site.granting(&alone.home().join("plugins.toml"), &site.cache("update"))?;
    let sandboxed = load_group_of(&platform, "bench/update", &config).await?;
    wait_for_boots(&sandboxed).await?;

    let web = Rc::new(Web::new(
        &configuration.aws_config,
        &configuration.credentials,
    )?);
    let native = Aws::init(web.clone(), &config.to_string(), Settings::for_tests());
    let native = native.map_err(|problem| anyhow!("`init`: {}", problem.message))?;
    let (mut in_sandbox, mut natively, mut alone_sent) = (Vec::new(), Vec::new(), Vec::new());
    // The first round fills what is kept: connections, an instance of the plugin.
    for round in 0..=extent.updates {
        let times = [
            timed(async || complete(sandboxed.update().await?)).await?,
            timed(async || {
                web.sent.take();
                let snapshot = block_in_place(|| native.update());
                let snapshot = snapshot.map_err(|problem| anyhow!("{}", problem.message))?;
                ensure!(snapshot.instances.len() == INSTANCES as usize, "not all");
                Ok(())
            })
            .await?,
            timed(async || {
                for request in web.sent.borrow().iter() {
                    let answer = block_in_place(|| web.exchange(request));
                    ensure!(answer?.status().is_success(), "a request was refused");
                }
                Ok(())
            })
            .await?,
        ];
        if round > 0 {
            in_sandbox.push(times[0]);
            natively.push(times[1]);
            alone_sent.push(times[2]);
        }
    }
    table.heading(format!(
        "AWS plugin: `update` of {INSTANCES} instances against moto, {} requests, in turns",
        web.sent.borrow().len()
    ));
    table.row(
        "through the actor, in the sandbox",
        Figures::of_times(in_sandbox),
    );
    table.row(
        "peer: the provider's function, natively: signs, sends, reads",
        Figures::of_times(natively),
    );
    table.row(
        "peer: its signed requests alone, sent natively once more",
        Figures::of_times(alone_sent),
    );
    Ok(())
}

async fn timed(act: impl AsyncFnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    act().await?;
    Ok(began.elapsed())
}

/// What was refused would be fast.
fn complete(snapshot: Snapshot) -> Result<()> {
    let running = |state: &InstanceState| *state == InstanceState::Running;
    let count = snapshot.instances.iter().filter(|one| running(&one.state));
    let count = count.count();
    ensure!(count == INSTANCES as usize, "{count} instances are running");
    Ok(())
}

async fn wait_for_boots(group: &Sandboxed) -> Result<()> {
    let began = Instant::now();
    while let Err(problem) = complete(group.update().await?) {
        ensure!(began.elapsed() < BOOTED, "after {BOOTED:?} {problem}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The host's HTTP client, for code that blocks; what else a plugin may ask is as in any native test.
struct Web {
    client: reqwest::Client,
    runtime: Handle,
    rest: Native,
    sent: RefCell<Vec<Request>>,
}

impl Web {
    fn new(aws_config: &str, credentials: &str) -> Result<Self> {
        let rest = Native::default();
        rest.around().set_secret("aws_config", aws_config);
        rest.around().set_secret("aws_credentials", credentials);
        Ok(Self {
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()?,
            runtime: Handle::current(),
            rest,
            sent: RefCell::default(),
        })
    }

    fn exchange(&self, request: &Request) -> reqwest::Result<Response> {
        self.runtime.block_on(async {
            let request = reqwest::Request::try_from(request.clone())?;
            let answer = self.client.execute(request).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut whole = Response::new(answer.bytes().await?.to_vec());
            *whole.status_mut() = status;
            *whole.headers_mut() = headers;
            Ok(whole)
        })
    }
}

impl Host for Web {
    fn send(&self, request: &Request, _: &Limits) -> http::Result {
        self.sent.borrow_mut().push(request.clone());
        self.exchange(request)
            .map_err(|error| Error::Other(error.to_string()))
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        self.rest.secret(name)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        self.rest.stored(key)
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        self.rest.swap(key, expected, new)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.rest.variable(name)
    }

    fn now(&self) -> SystemTime {
        self.rest.now()
    }

    fn sleep(&self, time: Duration) {
        self.rest.sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.rest.log(level, message, fields);
    }
}
