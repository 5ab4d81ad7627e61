//! The checks against a provider with one flaw at a time, on a cloud of this file's own: each flaw is found by its check.

mod quiet;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::wire::Wire;
use super::*;
use crate::fleet::group::{
    Address, CallFailure, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceGroup,
    InstanceId, InstanceRef, InstanceState, Listed, Login, Problem, ProblemKind, Reach, Removal,
    Snapshot,
};
use crate::plugin::actor::{Lost, NotBuilt};
use crate::plugin::bindings::Description;
use crate::plugin::egress::tap::{Answer, Asked, Ending, Tap, Upstream};

/// What the provider does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// None either: a cloud in the plugin's own hands.
    AsksNobody,
    DescribeAsks,
    DescribeVaries,
    VersionIsNone,
    SchemaIsNone,
    AcceptsAnything,
    InitAsks,
    GroupHasNoId,
    ListsTwice,
    AddsOneOnly,
    ConnectsTooSoon,
    ForgetsTokens,
    NoAddress,
    UnknownIsUnavailable,
    HeartbeatAsksTwice,
    Panics,
    ListsNothingInTrouble,
    CallsGoneWhatItCannotSee,
    RefusesUnknown,
    LowersTwice,
    KeepsTokensTooLate,
    AcceptsBeyond,
    SaysNoReason,
    ShutdownEnds,
    LongMemos,
}

#[derive(Default)]
struct Cloud {
    /// With the looks until each runs.
    instances: BTreeMap<String, u32>,
    made: u32,
    most: u32,
    /// The plugin's kv: tokens with the size that each leads to, and whether it was reached.
    tokens: BTreeMap<String, (u32, u32, bool)>,
}

impl Cloud {
    fn resize(&mut self, size: u32) {
        while (self.instances.len() as u32) < size {
            self.made += 1;
            self.instances.insert(format!("i-{:04}", self.made), 8);
        }
    }

    fn listed(&mut self) -> Value {
        for looks in self.instances.values_mut() {
            *looks = looks.saturating_sub(1);
        }
        json!({ "instances": self.instances, "most": self.most })
    }
}

struct Fake {
    flaw: Flaw,
    cloud: Arc<Mutex<Cloud>>,
    wire: Arc<Wire>,
}

type Called<T> = Result<T, CallFailure>;

fn refused(kind: ProblemKind) -> CallFailure {
    CallFailure::Refused(problem(kind))
}

fn problem(kind: ProblemKind) -> Problem {
    Problem {
        kind,
        message: "so it is".to_owned(),
        subject: None,
        code: None,
        retry_after: None,
    }
}

#[derive(Clone)]
struct Provider {
    flaw: Flaw,
    cloud: Arc<Mutex<Cloud>>,
    wire: Arc<Wire>,
}

impl Provider {
    fn cloud(&self) -> std::sync::MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One exchange with the cloud, as a plugin has it.
    async fn ask(&self, act: impl FnOnce(&mut Cloud) -> Value + Send) -> Called<Value> {
        if self.flaw == Flaw::AsksNobody {
            let mut cloud = self.cloud();
            cloud.instances.values_mut().for_each(|looks| *looks = 0);
            return Ok(act(&mut cloud));
        }
        let asked = Asked {
            method: http::Method::POST,
            url: url::Url::parse("http://cloud.example/").expect("a URL"),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let upstream: Upstream<'_> = Box::pin(async move {
            let body = act(&mut self.cloud()).to_string();
            Ok(Answer::new(http::StatusCode::OK, body))
        });
        let answer = self.wire.exchange(asked, upstream).await;
        let said = match answer {
            Ok(answer) if answer.status == 200 && answer.ending != Ending::Cut => {
                serde_json::from_slice(&answer.body).ok()
            }
            _ => None,
        };
        match said {
            Some(said) => Ok(said),
            None if self.flaw == Flaw::Panics => {
                Err(CallFailure::OutcomeUnknown("it crashed".to_owned()))
            }
            None => Err(refused(ProblemKind::Unavailable)),
        }
    }

    async fn try_increase(&self, request: &IncreaseRequest) -> Called<IncreaseOutcome> {
        let seen = self.ask(Cloud::listed).await?;
        let size = seen["instances"].as_object().map_or(0, |all| all.len()) as u32;
        let known = self.cloud().tokens.get(&request.token).copied();
        let known = known.filter(|_| self.flaw != Flaw::ForgetsTokens);
        let most = seen["most"].as_u64().unwrap_or_default() as u32;
        let mut asked = request.count.min(most.saturating_sub(size));
        if self.flaw == Flaw::AcceptsBeyond {
            asked = request.count;
        }
        if self.flaw == Flaw::AddsOneOnly {
            asked = asked.min(1);
        }
        let (target, added, is_served) = known.unwrap_or((size + asked, asked, false));
        if !is_served && size < target {
            let keep = |is_served| {
                let kept = (target, added, is_served);
                self.cloud().tokens.insert(request.token.clone(), kept);
            };
            if self.flaw != Flaw::KeepsTokensTooLate {
                keep(false);
            }
            self.ask(|cloud| {
                cloud.resize(target);
                json!({})
            })
            .await?;
            keep(true);
        }
        let mut problems = Vec::new();
        if added < request.count && self.flaw != Flaw::SaysNoReason {
            problems.push(problem(ProblemKind::Quota));
        }
        Ok(IncreaseOutcome {
            accepted: added,
            problems,
            ..IncreaseOutcome::default()
        })
    }

    async fn remove(&self, of: &InstanceRef) -> Called<Removal> {
        let (id, flaw) = (of.id.0.clone(), self.flaw);
        let gone = self
            .ask(move |cloud| {
                let gone = cloud.instances.remove(&id).is_none();
                if gone && flaw == Flaw::LowersTwice {
                    cloud.instances.pop_first();
                }
                json!({ "gone": gone })
            })
            .await?;
        Ok(match gone["gone"].as_bool() {
            Some(true) if flaw == Flaw::RefusesUnknown => {
                Removal::Refused(problem(ProblemKind::NotFound))
            }
            Some(true) => Removal::Gone,
            _ => Removal::Accepted,
        })
    }
}

#[async_trait]
impl InstanceGroup for Provider {
    async fn open(&self) -> Called<Group> {
        self.ask(|_| json!({})).await?;
        let id = if self.flaw == Flaw::GroupHasNoId {
            ""
        } else {
            "fake/one"
        };
        Ok(Group {
            id: id.to_owned(),
            max_size: None,
            owner: None,
            notices: Vec::new(),
        })
    }

    async fn update(&self) -> Called<Snapshot> {
        let seen = match self.ask(Cloud::listed).await {
            Err(_) if self.flaw == Flaw::ListsNothingInTrouble => json!({}),
            seen => seen?,
        };
        let empty = serde_json::Map::new();
        let all = seen["instances"].as_object().unwrap_or(&empty);
        let mut instances: Vec<_> = all
            .iter()
            .map(|(id, looks)| listed(id, looks == 0, self.flaw))
            .collect();
        if self.flaw == Flaw::ListsTwice {
            instances.push(listed("i-0000", true, self.flaw));
            instances.push(listed("i-0000", true, self.flaw));
        }
        Ok(Snapshot {
            target: None,
            max_size: seen["most"].as_u64().map(|most| most as u32),
            instances,
            ..Snapshot::default()
        })
    }

    async fn increase(&self, request: IncreaseRequest) -> Called<IncreaseOutcome> {
        match self.try_increase(&request).await {
            Err(CallFailure::Refused(problem)) => Ok(IncreaseOutcome {
                problems: vec![problem],
                ..IncreaseOutcome::default()
            }),
            outcome => outcome,
        }
    }

    async fn decrease(&self, instances: Vec<InstanceRef>) -> Called<Vec<Removal>> {
        let mut removals = Vec::new();
        for of in &instances {
            removals.push(match self.remove(of).await {
                Err(CallFailure::Refused(problem)) => Removal::Refused(problem),
                removal => removal?,
            });
        }
        Ok(removals)
    }

    async fn connect_info(&self, of: InstanceRef) -> Called<Connection> {
        let unsure = match self.flaw {
            Flaw::CallsGoneWhatItCannotSee => ProblemKind::NotFound,
            _ => ProblemKind::Unavailable,
        };
        let seen = match self.ask(Cloud::listed).await {
            Err(CallFailure::Refused(_)) => return Err(refused(unsure)),
            seen => seen?,
        };
        let looks = seen["instances"][&of.id.0].as_u64();
        match (looks, self.flaw) {
            (None, Flaw::UnknownIsUnavailable) => Err(refused(ProblemKind::Unavailable)),
            (None, _) => Err(refused(ProblemKind::NotFound)),
            (Some(1..), flaw) if flaw != Flaw::ConnectsTooSoon => {
                Err(refused(ProblemKind::NotReady))
            }
            (Some(_), flaw) => Ok(connection(flaw != Flaw::NoAddress)),
        }
    }

    async fn heartbeat(&self, _of: InstanceRef) -> Called<()> {
        let times = 1 + usize::from(self.flaw == Flaw::HeartbeatAsksTwice);
        for _ in 0..times {
            self.ask(|_| json!({})).await?;
        }
        Ok(())
    }

    async fn shutdown(&self, for_good: bool) -> Called<()> {
        if for_good || self.flaw == Flaw::ShutdownEnds {
            self.cloud().instances.clear();
        }
        Ok(())
    }

    fn granted(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn listed(id: &str, runs: bool, flaw: Flaw) -> Listed {
    let bytes = if flaw == Flaw::LongMemos { 5 << 10 } else { 8 };
    Listed {
        id: InstanceId(id.to_owned()),
        state: if runs {
            InstanceState::Running
        } else {
            InstanceState::Creating
        },
        created_at: None,
        pool: None,
        generation: None,
        interruption: None,
        reason: None,
        request: None,
        memo: "m".repeat(bytes),
        extras: Vec::new(),
    }
}

fn connection(has_address: bool) -> Connection {
    let address = Address {
        reach: Reach::Internal,
        host: "10.0.0.1".to_owned(),
        port: None,
    };
    Connection {
        os: None,
        arch: None,
        protocol: None,
        username: None,
        login: Login::AsConfigured,
        addresses: has_address.then_some(address).into_iter().collect(),
        host_keys: Vec::new(),
        valid_until: None,
    }
}

#[async_trait]
impl Subject for Fake {
    async fn describe(&self, times: usize) -> Result<Vec<Description>, String> {
        let provider = self.provider();
        if self.flaw == Flaw::DescribeAsks {
            provider
                .ask(|_| json!({}))
                .await
                .map_err(|p| p.to_string())?;
        }
        let of = |number: usize| Description {
            name: "fake".to_owned(),
            version: match self.flaw {
                Flaw::VersionIsNone => "latest".to_owned(),
                Flaw::DescribeVaries => format!("1.0.{number}"),
                _ => "1.0.0-rc.1".to_owned(),
            },
            config_schema: match self.flaw {
                Flaw::SchemaIsNone => "name: string".to_owned(),
                _ => r#"{"type": "object", "required": ["name"]}"#.to_owned(),
            },
            wants: vec!["https://{region}.cloud.example".to_owned()],
            variables: Vec::new(),
        };
        Ok((0..times).map(of).collect())
    }

    async fn start(&self, config: &Value) -> Result<Box<dyn InstanceGroup>, NotBuilt> {
        let provider = self.provider();
        if config.get("name").is_none() && self.flaw != Flaw::AcceptsAnything {
            return Err(NotBuilt::Refused(problem(ProblemKind::InvalidConfig)));
        }
        if self.flaw == Flaw::InitAsks {
            let asked = provider.ask(|_| json!({})).await;
            asked.map_err(|failure| NotBuilt::Lost(Lost(failure.to_string())))?;
        }
        Ok(Box::new(provider))
    }
}

impl Fake {
    fn provider(&self) -> Provider {
        Provider {
            flaw: self.flaw,
            cloud: self.cloud.clone(),
            wire: self.wire.clone(),
        }
    }
}

/// All checks of a provider with this flaw; what it made is gone afterwards.
async fn checks(flaw: Flaw) -> Vec<Check> {
    let config = json!({ "name": "one" });
    tried(flaw, Ground::Cloud(&config), Wire::default()).await
}

async fn tried(flaw: Flaw, ground: Ground<'_>, wire: Wire) -> Vec<Check> {
    let wire = Arc::new(wire);
    let cloud = Arc::new(Mutex::new(Cloud {
        most: 7,
        ..Cloud::default()
    }));
    let fake = Fake {
        flaw,
        cloud: cloud.clone(),
        wire: wire.clone(),
    };
    let patience = Patience {
        cloud: Duration::from_secs(5),
        ..Patience::default()
    };
    let mut trial = Trial::new(&fake, &wire, ground, patience, "t".to_owned());
    let mut told = 0;
    let checks = trial.run(|_| told += 1).await;
    assert_eq!(told, checks.len());
    assert_eq!(trial.sweep().await, Ok(()), "{flaw:?}");
    let left = cloud.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(left.instances.is_empty(), "{flaw:?}: {:?}", left.instances);
    checks
}

fn failures(checks: &[Check]) -> Vec<String> {
    let failed = checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Failed(_)));
    failed.map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_provider_without_a_flaw_passes_every_check() {
    let checks = checks(Flaw::None).await;
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names, super::names());
    let other: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict != Verdict::Passed)
        .map(ToString::to_string)
        .collect();
    assert_eq!(other, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn each_flaw_is_found_by_its_check() {
    let flaws = [
        (Flaw::DescribeAsks, Item::DescribeIsPure),
        (Flaw::DescribeVaries, Item::DescribeIsPure),
        (Flaw::VersionIsNone, Item::DescriptionIsUsable),
        (Flaw::SchemaIsNone, Item::DescriptionIsUsable),
        (Flaw::AcceptsAnything, Item::InitRefuses),
        (Flaw::InitAsks, Item::InitIsQuiet),
        (Flaw::GroupHasNoId, Item::OpenAnswers),
        (Flaw::ListsTwice, Item::SnapshotIsStable),
        (Flaw::AddsOneOnly, Item::IncreaseAdds),
        (Flaw::ConnectsTooSoon, Item::ConnectBeforeRunning),
        (Flaw::ForgetsTokens, Item::IncreaseRepeated),
        (Flaw::NoAddress, Item::ConnectRunning),
        (Flaw::UnknownIsUnavailable, Item::ConnectUnknown),
        (Flaw::HeartbeatAsksTwice, Item::HeartbeatIsQuick),
        (Flaw::Panics, Item::Survives(Fault::TooMany)),
        (Flaw::ListsNothingInTrouble, Item::Survives(Fault::TooMany)),
        (
            Flaw::CallsGoneWhatItCannotSee,
            Item::Survives(Fault::TooMany),
        ),
        (Flaw::RefusesUnknown, Item::DecreaseNothing),
        (Flaw::LowersTwice, Item::DecreaseTwice),
        (Flaw::KeepsTokensTooLate, Item::Survives(Fault::Halved)),
        (Flaw::KeepsTokensTooLate, Item::IncreaseKilled),
        (Flaw::AcceptsBeyond, Item::IncreasePartial),
        (Flaw::SaysNoReason, Item::IncreasePartial),
        (Flaw::ShutdownEnds, Item::ShutdownKeeps),
        (Flaw::LongMemos, Item::MemosAreShort),
    ];
    for (flaw, item) in flaws {
        let checks = checks(flaw).await;
        let found = failures(&checks);
        assert!(
            found.iter().any(|line| line.contains(item.name())),
            "{flaw:?} is not found by {:?}: {found:#?}",
            item.name()
        );
    }
}

/// The same without a cloud, with a configuration made up from its schema.
async fn scripted(flaw: Flaw) -> Vec<Check> {
    let config = json!({ "name": "x" });
    tried(flaw, Ground::Scripted(&config), Wire::scripted()).await
}

#[tokio::test(start_paused = true)]
async fn without_a_configuration_what_needs_none_is_checked_and_the_rest_is_listed() {
    let lines: Vec<_> = scripted(Flaw::None)
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    passed       describe is pure and stable
    passed       describe says a name, a version, a schema and origins
    passed       init refuses a configuration without its required keys
    passed       init needs no network
    not checked  open names the group, and changes nothing: needs --config
    not checked  update lists every instance once, and the same again: needs --config
    not checked  increase adds what it accepts, and update lists it: needs --config
    not checked  connect-info before running is not-ready: needs --config
    not checked  increase with a repeated token adds nothing: needs --config
    not checked  connect-info of a running instance says where it is: needs --config
    not checked  connect-info of an unknown instance is not-found: needs --config
    not checked  heartbeat is quick, with one request at most: needs --config
    passed       answers of status 429 are survived
    passed       answers of status 500 are survived
    passed       garbage for an answer is survived
    passed       empty answers are survived
    not checked  half an answer is survived: needs --config
    not checked  a connection lost within an answer is survived: needs --config
    not checked  slow answers are waited for: needs --config
    passed       a cloud that cannot be reached is survived
    not checked  a connection lost before the answer is survived: needs --config
    not checked  decrease of nothing and of an unknown instance is harmless: needs --config
    not checked  decrease of the same instance twice removes one: needs --config
    not checked  increase killed between any two of its requests leaks nothing: needs --config
    not checked  increase beyond the maximum is accepted in part: needs --config
    not checked  shutdown that is not for good keeps instances: needs --config
    not checked  memos are at most 4 KiB: needs --config
    not checked  no request and no secret is outside of its grants: needs --config
    ");
    for (flaw, item) in [
        (Flaw::InitAsks, Item::InitIsQuiet),
        (Flaw::Panics, Item::Survives(Fault::Broken)),
        (Flaw::ListsNothingInTrouble, Item::Survives(Fault::Garbage)),
        (
            Flaw::CallsGoneWhatItCannotSee,
            Item::Survives(Fault::Unreached),
        ),
    ] {
        let found = failures(&scripted(flaw).await);
        assert!(
            found.iter().any(|line| line.contains(item.name())),
            "{flaw:?} is not found by {:?}: {found:#?}",
            item.name()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failures_say_what_where_and_what_next() {
    let mut lines = Vec::new();
    for flaw in [
        Flaw::InitAsks,
        Flaw::ListsNothingInTrouble,
        Flaw::KeepsTokensTooLate,
    ] {
        let checks = checks(flaw).await;
        lines.extend(failures(&checks).into_iter().next());
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    failed       init needs no network: it asked for POST http://cloud.example; next: leave requests to `open`, because `init` runs after every rebuild
    failed       answers of status 429 are survived: `update`, at its request 1: the snapshot lacks 2 of 2 instances, which then count as gone; next: refuse
    failed       garbage for an answer is survived: `increase`, at its request 2: asked for one, and repeated with the same token: the group should have 3 instances, `update` lists 4
    ");
}
