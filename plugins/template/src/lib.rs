//! A provider plugin for a cloud with a small JSON API. Replace the calls by your cloud's; the shape stays.

use std::rc::Rc;

use fleetling_plugin_sdk::http::{Method, Response, escape};
use fleetling_plugin_sdk::{
    Address, Api, Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, Instance,
    InstanceRef, InstanceState, Problem, ProblemKind, Provider, Removal, Settings, Snapshot,
    config, export_provider, paging,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Where your cloud's API answers. Operators are asked to grant it.
const ENDPOINT: &str = "https://api.example.com";

/// What the operator writes in `plugin_config`. Doc comments become the schema's descriptions.
#[derive(Deserialize, JsonSchema)]
struct Config {
    /// Where the cloud's API answers, if elsewhere than usual.
    endpoint: Option<String>,
    /// The group that instances belong to.
    group: String,
}

/// What the API says of one instance. Only what is used; the rest may change.
#[derive(Deserialize)]
struct Machine {
    id: String,
    state: String,
    created: Option<u64>,
    request: Option<String>,
    address: Option<String>,
    port: Option<u16>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    instances: Vec<Machine>,
    limit: Option<u32>,
    next: Option<String>,
}

pub struct Plugin {
    host: Rc<dyn Host>,
    config: Config,
    settings: Settings,
}

export_provider!(Plugin);

impl Provider for Plugin {
    fn describe() -> Description {
        let (version, schema) = (env!("CARGO_PKG_VERSION"), config::schema::<Config>());
        Description::new("template", version, schema, &[ENDPOINT])
    }

    fn init(host: Rc<dyn Host>, config: &str, settings: Settings) -> Result<Self, Problem> {
        Ok(Self {
            host,
            config: config::parse(config)?,
            settings,
        })
    }

    fn open(&self) -> Result<Group, Problem> {
        let (_, max_size) = self.machines()?;
        let (endpoint, group) = (self.endpoint(), &self.config.group);
        Ok(Group {
            max_size,
            ..Group::new(format!("template/{endpoint}/{group}"))
        })
    }

    fn update(&self) -> Result<Snapshot, Problem> {
        let (machines, max_size) = self.machines()?;
        Ok(Snapshot {
            instances: machines.into_iter().map(instance).collect(),
            max_size,
            ..Snapshot::default()
        })
    }

    fn increase(&self, request: IncreaseRequest) -> IncreaseOutcome {
        let mut ids = Vec::new();
        let end = self.ask(&request, &mut ids);
        ids.truncate(request.count as usize);
        IncreaseOutcome::made(ids, end)
    }

    fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal> {
        let one = |of: &InstanceRef| self.api()?.delete(&path(of));
        instances.iter().map(|of| one(of).into()).collect()
    }

    fn connect_info(&self, of: InstanceRef) -> Result<Connection, Problem> {
        let machine: Machine = self.api()?.get(&path(&of))?;
        let address = machine.address.filter(|_| machine.state == "running");
        let address = address.ok_or_else(|| Problem::not_ready(of.id))?;
        let address = Address::internal(address, machine.port);
        Ok(Connection::by_ssh(machine.user, vec![address]))
    }

    fn heartbeat(&self, of: InstanceRef) -> Result<(), Problem> {
        self.api()?.get::<Machine>(&path(&of)).map(drop)
    }
}

impl Plugin {
    fn endpoint(&self) -> &str {
        self.config.endpoint.as_deref().unwrap_or(ENDPOINT)
    }

    /// For one call: the secret `token` is read anew, so that a corrected file heals without a restart.
    fn api(&self) -> Result<Api<'_>, Problem> {
        let api = Api::new(&*self.host, self.endpoint()).explain(explain);
        api.bearer("token")
    }

    /// Every instance of the group, and how many there may be.
    fn machines(&self) -> Result<(Vec<Machine>, Option<u32>), Problem> {
        let (api, group) = (self.api()?, escape(&self.config.group));
        let mut limit = None;
        let machines = paging::all(|next: Option<&String>| {
            let page = next.map_or(String::new(), |next| format!("&page={}", escape(next)));
            let page: Page = api.get(&format!("/instances?group={group}{page}"))?;
            limit = page.limit;
            let (items, next) = (page.instances, page.next);
            Ok(paging::Page { items, next })
        })?;
        Ok((machines, limit))
    }

    /// Reads what is there, then asks for what this wish still lacks: its token is kept with each instance, so what an
    /// earlier try made is found and not made again. Adds to `ids`, also where it fails half-way.
    fn ask(&self, request: &IncreaseRequest, ids: &mut Vec<String>) -> Result<(), Problem> {
        let (machines, _) = self.machines()?;
        let ours = |one: &Machine| one.request.as_ref() == Some(&request.token);
        ids.extend(machines.into_iter().filter(ours).map(|one| one.id));
        let api = self.api()?;
        let (group, key) = (&self.config.group, &self.settings.ssh_public_key);
        let body = json!({"group": group, "request": request.token, "ssh_key": key});
        let wish = api.filled(Method::POST, "/instances", &body)?;
        // Side by side, and an answer each: one that failed does not hide those that did not.
        let more = (request.count as usize).saturating_sub(ids.len());
        let mut end = Ok(());
        for answer in api.all::<Machine>(&vec![wish; more]) {
            match answer {
                Ok(machine) => ids.push(machine.id),
                Err(problem) => end = Err(problem),
            }
        }
        end
    }
}

fn path(of: &InstanceRef) -> String {
    format!("/instances/{}", escape(&of.id))
}

fn instance(one: Machine) -> Instance {
    let state = match &*one.state {
        "booting" => InstanceState::Creating,
        "running" => InstanceState::Running,
        "stopping" => InstanceState::Deleting,
        "failed" => InstanceState::Failed,
        // The host leaves alone what this plugin does not know.
        _ => InstanceState::Unknown,
    };
    Instance {
        created_at: one.created,
        request: one.request,
        ..Instance::new(one.id, state)
    }
}

/// What a refusal of this API means where its status alone does not tell.
fn explain(_: &Response, problem: Problem) -> Problem {
    let kind = match problem.code.as_deref() {
        Some("limit-reached") => ProblemKind::Quota,
        _ => problem.kind,
    };
    Problem { kind, ..problem }
}
