//! The generated types of the contract and their conversion into `fleet::group`'s: no other file sees them.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::Store;

use super::engine::Sandbox;
use super::kv::KvProblem;
use super::log::Level;
use super::secrets::SecretProblem;
use crate::fleet::group::{
    Address, Connection, Group, IncreaseOutcome, IncreaseRequest, InstanceId, InstanceRef,
    InstanceState, Interruption, InterruptionKind, Listed, Login, Notice, Password, Problem,
    ProblemKind, Protocol, ProviderSettings, Reach, Removal, Snapshot,
};

mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "contract",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

use generated::fleetling::provider::{kv, log, provider_types as wit, secrets};

pub use generated::{Contract, ContractPre};

/// The version of the contract this module binds.
pub const PACKAGE: &str = "fleetling:provider@0.1.0";
pub const EXPORT: &str = "fleetling:provider/provider@0.1.0";

pub fn add_to_linker(linker: &mut wasmtime::component::Linker<Sandbox>) -> wasmtime::Result<()> {
    type Has = wasmtime::component::HasSelf<Sandbox>;
    Contract::add_to_linker::<Sandbox, Has>(linker, |sandbox| sandbox)
}

/// Of a text for the operator, and of a memo.
const TEXT_BYTES: usize = 4 << 10;
/// Of an instance's ID: a resource path of Azure has about 250.
const ID_BYTES: usize = 1 << 10;
/// Characters of one that is refused, and of a variable's name.
const SHOWN: usize = 64;
/// Of the environment, that one plugin reads: the AWS plugin has some 25.
const VARIABLES: usize = 64;

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    /// JSON Schema of `plugin_config`.
    pub config_schema: String,
    /// Grants it asks for, as entries or templates: shown to the operator, never believed.
    pub wants: Vec<String>,
    /// Names of variables of the environment that it reads, each to be granted. What it does not name, it may read all
    /// the same once it is granted.
    pub variables: Vec<String>,
}

/// One instance of a plugin: store and exports together, because either is useless alone.
pub struct Guest {
    pub store: Store<Sandbox>,
    pub contract: Contract,
}

type Called<T> = wasmtime::Result<Result<T, Problem>>;

impl Guest {
    pub async fn describe(&mut self) -> wasmtime::Result<Description> {
        let provider = self.contract.fleetling_provider_provider();
        let description = provider.call_describe(&mut self.store).await?;
        Ok(Description {
            name: told(description.name),
            version: told(description.version),
            config_schema: description.config_schema,
            wants: description.wants.into_iter().map(told).collect(),
            variables: variables(description.extras),
        })
    }

    pub async fn init(&mut self, config: &str, settings: &ProviderSettings) -> Called<()> {
        let settings = settings_of(settings);
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider
            .call_init(&mut self.store, config, &settings)
            .await?;
        Ok(answer.map_err(problem))
    }

    pub async fn open(&mut self) -> Called<Group> {
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider.call_open(&mut self.store).await?;
        Ok(answer.map(group).map_err(problem))
    }

    pub async fn update(&mut self) -> Called<Snapshot> {
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider.call_update(&mut self.store).await?;
        if let Some(why) = answer.as_ref().ok().and_then(unusable) {
            wasmtime::bail!(why);
        }
        Ok(answer.map(snapshot).map_err(problem))
    }

    pub async fn increase(&mut self, request: IncreaseRequest) -> Called<IncreaseOutcome> {
        let request = wit::IncreaseRequest {
            token: request.token,
            count: request.count,
            avoid_pools: request.avoid_pools,
            extras: Vec::new(),
        };
        let provider = self.contract.fleetling_provider_provider();
        let outcome = provider.call_increase(&mut self.store, &request).await?;
        Ok(Ok(IncreaseOutcome {
            accepted: outcome.accepted,
            ids: outcome.ids.into_iter().map(InstanceId).collect(),
            target: outcome.target,
            problems: outcome.problems.into_iter().map(problem).collect(),
        }))
    }

    pub async fn decrease(&mut self, instances: Vec<InstanceRef>) -> Called<Vec<Removal>> {
        let instances: Vec<_> = instances.into_iter().map(instance_ref).collect();
        let provider = self.contract.fleetling_provider_provider();
        let removals = provider.call_decrease(&mut self.store, &instances).await?;
        if removals.len() != instances.len() {
            wasmtime::bail!(
                "it answered {} removals for {} instances",
                removals.len(),
                instances.len()
            );
        }
        Ok(Ok(removals
            .into_iter()
            .map(|removal| match removal {
                wit::Removal::Accepted => Removal::Accepted,
                wit::Removal::Gone => Removal::Gone,
                wit::Removal::Refused(why) => Removal::Refused(problem(why)),
            })
            .collect()))
    }

    pub async fn connect_info(&mut self, of: InstanceRef) -> Called<Connection> {
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider
            .call_connect_info(&mut self.store, &instance_ref(of))
            .await?;
        Ok(answer.map(connection).map_err(problem))
    }

    pub async fn heartbeat(&mut self, of: InstanceRef) -> Called<()> {
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider
            .call_heartbeat(&mut self.store, &instance_ref(of))
            .await?;
        Ok(answer.map_err(problem))
    }

    pub async fn shutdown(&mut self, for_good: bool) -> Called<()> {
        let provider = self.contract.fleetling_provider_provider();
        let answer = provider.call_shutdown(&mut self.store, for_good).await?;
        Ok(answer.map_err(problem))
    }
}

impl wit::Host for Sandbox {}

impl log::Host for Sandbox {
    async fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.tenant().log.write(level, &message, &fields);
        Ok(())
    }
}

impl secrets::Host for Sandbox {
    async fn get(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Vec<u8>, secrets::SecretProblem>> {
        let secrets = self.tenant().secrets();
        let asked = name.clone();
        let read = tokio::task::spawn_blocking(move || secrets.read(&asked)).await?;
        if read.is_ok() {
            self.tenant().trail.secret_read(&name);
        }
        Ok(read.map_err(|problem| match problem {
            SecretProblem::NotGranted(name) => {
                self.tenant().egress.secret_denied(&name);
                secrets::SecretProblem::NotGranted(name)
            }
            SecretProblem::Unreadable(why) => secrets::SecretProblem::Unreadable(why),
        }))
    }
}

impl kv::Host for Sandbox {
    async fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, kv::KvProblem>> {
        let kv = self.tenant().kv.clone();
        let value = tokio::task::spawn_blocking(move || kv.get(&key)).await?;
        Ok(value.map_err(kv_problem))
    }

    async fn swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<bool, kv::KvProblem>> {
        let kv = self.tenant().kv.clone();
        let swap = move || kv.swap(&key, expected.as_deref(), new);
        let swapped = tokio::task::spawn_blocking(swap).await?;
        Ok(swapped.map_err(kv_problem))
    }
}

fn kv_problem(problem: KvProblem) -> kv::KvProblem {
    match problem {
        KvProblem::TooLarge => kv::KvProblem::TooLarge,
        KvProblem::Unavailable(why) => kv::KvProblem::Unavailable(why),
    }
}

fn settings_of(settings: &ProviderSettings) -> wit::Settings {
    let settings = settings.clone();
    wit::Settings {
        connector: wit::Connector {
            os: settings.os,
            arch: settings.arch,
            protocol: settings.protocol.map(|protocol| match protocol {
                Protocol::Ssh => wit::Protocol::Ssh,
                Protocol::Winrm => wit::Protocol::Winrm,
                Protocol::WinrmTls => wit::Protocol::WinrmTls,
            }),
            port: settings.port,
            username: settings.username,
            static_credentials: settings.static_credentials,
        },
        ssh_public_key: settings.ssh_public_key,
        rsa_public_key: None,
        owner: settings.owner,
        max_instances: settings.max_instances,
        capacity_per_instance: settings.capacity_per_instance,
        extras: Vec::new(),
    }
}

fn instance_ref(of: InstanceRef) -> wit::InstanceRef {
    wit::InstanceRef {
        id: of.id.0,
        memo: of.memo,
    }
}

/// A text for the operator: at most as long as the contract promises to keep, on one line, and in no other's colours.
fn told(text: String) -> String {
    let mut text = if text.chars().any(char::is_control) {
        text.split(char::is_control)
            .filter(|piece| !piece.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        text
    };
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        text.push('…');
    }
    text
}

fn problem(problem: wit::Problem) -> Problem {
    use wit::ProblemKind as W;
    Problem {
        kind: match problem.kind {
            W::Unauthenticated => ProblemKind::Unauthenticated,
            W::Forbidden => ProblemKind::Forbidden,
            W::Throttled => ProblemKind::Throttled,
            W::Quota => ProblemKind::Quota,
            W::OutOfCapacity => ProblemKind::OutOfCapacity,
            W::NotFound => ProblemKind::NotFound,
            W::NotReady => ProblemKind::NotReady,
            W::Conflict => ProblemKind::Conflict,
            W::InvalidConfig => ProblemKind::InvalidConfig,
            W::Unavailable => ProblemKind::Unavailable,
            W::Unsupported => ProblemKind::Unsupported,
            W::Other => ProblemKind::Other,
        },
        message: told(problem.message),
        subject: problem.subject.map(told),
        code: problem.code.map(told),
        retry_after: problem.retry_after_ms.map(Duration::from_millis),
    }
}

/// A time beyond what the platform can hold is no time.
fn time(unix_ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms))
}

fn notices(notices: Vec<wit::Notice>) -> Vec<Notice> {
    notices
        .into_iter()
        .map(|notice| Notice {
            subject: told(notice.subject),
            message: told(notice.message),
        })
        .collect()
}

fn group(group: wit::Group) -> Group {
    Group {
        id: group.id,
        max_size: group.max_size,
        owner: group.owner.map(told),
        notices: notices(group.notices),
    }
}

/// What of a snapshot cannot be kept: a memo that is cut, or an ID that is written otherwise, would mean another.
fn unusable(snapshot: &wit::Snapshot) -> Option<String> {
    snapshot.instances.iter().find_map(|instance| {
        let id = &instance.id;
        if id.is_empty() || id.len() > ID_BYTES || id.chars().any(char::is_control) {
            let shown: String = id.escape_debug().take(SHOWN).collect();
            return Some(format!(
                "it listed an instance with the ID \"{shown}\", which is none"
            ));
        }
        let is_long = instance.memo.len() > TEXT_BYTES;
        is_long.then(|| format!("its memo of {id} is larger than 4 KiB"))
    })
}

fn snapshot(mut snapshot: wit::Snapshot) -> Snapshot {
    let mut notices = notices(snapshot.notices);
    let mut seen = HashSet::new();
    let twice = snapshot
        .instances
        .extract_if(.., |instance| !seen.insert(instance.id.clone()));
    notices.extend(twice.last().map(|instance| Notice {
        subject: "listed twice".to_owned(),
        message: format!(
            "the plugin lists {} more than once, and the first counts; next: report it to the plugin's author",
            instance.id
        ),
    }));
    Snapshot {
        instances: snapshot.instances.into_iter().map(listed).collect(),
        target: snapshot.target,
        max_size: snapshot.max_size,
        owner: snapshot.owner.map(told),
        notices,
        generation: extra(snapshot.extras, "generation"),
    }
}

/// The value of a reserved key.
fn extra(extras: Vec<(String, String)>, key: &str) -> Option<String> {
    let mut values = extras.into_iter().filter(|(name, _)| name == key);
    values.next().map(|(_, value)| value)
}

/// Those of the reserved key `env` that are names; a grant can say no other.
fn variables(extras: Vec<(String, String)>) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |name: &String| (1..=SHOWN).contains(&name.len()) && name.chars().all(is_part);
    let named = extras.into_iter().filter(|(key, _)| key == "env");
    let mut names: Vec<_> = named.map(|(_, name)| name).filter(is_name).collect();
    names.sort();
    names.dedup();
    names.truncate(VARIABLES);
    names
}

fn listed(instance: wit::Instance) -> Listed {
    use wit::InstanceState as W;
    Listed {
        id: InstanceId(instance.id),
        state: match instance.state {
            W::Creating => InstanceState::Creating,
            W::Running => InstanceState::Running,
            W::Suspending => InstanceState::Suspending,
            W::Suspended => InstanceState::Suspended,
            W::Resuming => InstanceState::Resuming,
            W::Stopped => InstanceState::Stopped,
            W::Deleting => InstanceState::Deleting,
            W::Deleted => InstanceState::Deleted,
            W::Failed => InstanceState::Failed,
            W::Unknown => InstanceState::Unknown,
        },
        created_at: instance.created_at.and_then(time),
        pool: instance.pool,
        generation: instance.generation,
        interruption: instance.interruption.map(|interruption| Interruption {
            kind: match interruption.kind {
                wit::InterruptionKind::Reclaim => InterruptionKind::Reclaim,
                wit::InterruptionKind::Rebalance => InterruptionKind::Rebalance,
                wit::InterruptionKind::Maintenance => InterruptionKind::Maintenance,
                wit::InterruptionKind::ScaleIn => InterruptionKind::ScaleIn,
            },
            at: interruption.at.and_then(time),
        }),
        reason: instance.reason.map(problem),
        request: instance.request,
        memo: instance.memo,
        extras: instance.extras,
    }
}

fn connection(connection: wit::Connection) -> Connection {
    Connection {
        os: connection.os,
        arch: connection.arch,
        protocol: connection.protocol.map(|protocol| match protocol {
            wit::Protocol::Ssh => Protocol::Ssh,
            wit::Protocol::Winrm => Protocol::Winrm,
            wit::Protocol::WinrmTls => Protocol::WinrmTls,
        }),
        username: connection.username,
        login: match connection.login {
            wit::Login::PublicKey => Login::PublicKey,
            wit::Login::Password(password) => Login::Password(Password(password)),
            wit::Login::Sealed(sealed) => Login::Sealed(sealed.ciphertext),
            wit::Login::AsConfigured => Login::AsConfigured,
        },
        addresses: connection
            .addresses
            .into_iter()
            .map(|address| Address {
                reach: match address.reach {
                    wit::Reach::Internal => Reach::Internal,
                    wit::Reach::External => Reach::External,
                },
                host: address.host,
                port: address.port,
            })
            .collect(),
        host_keys: connection.host_keys,
        valid_until: connection.valid_until.and_then(time),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub mod hostile;

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(message: &str, code: Option<&str>) -> wit::Problem {
        wit::Problem {
            kind: wit::ProblemKind::Other,
            message: message.to_owned(),
            subject: None,
            code: code.map(str::to_owned),
            retry_after_ms: None,
            extras: Vec::new(),
        }
    }

    #[test]
    fn only_names_are_taken_for_variables() {
        let said = ["B_1", "A", "A", "", "a b", "X=1", &"L".repeat(65)];
        let pairs = said.map(|name| ("env".to_owned(), name.to_owned()));
        let other = ("other".to_owned(), "C".to_owned());
        let named = pairs.into_iter().chain([other]).collect();
        assert_eq!(variables(named), ["A", "B_1"]);
    }

    #[test]
    fn a_problem_is_cut_to_what_an_operator_reads() {
        let long = "x".repeat(TEXT_BYTES);
        let told = problem(saying(&"é".repeat(TEXT_BYTES), Some(&long)));
        assert_eq!(told.message, "é".repeat(TEXT_BYTES / 2) + "…");
        assert_eq!(told.code, Some(long));
    }

    #[test]
    fn what_a_plugin_says_is_one_line_without_control_characters() {
        let forged = "no\r\n\u{1b}[31mlevel=error msg=\"x\"\u{0}\u{9b}";
        let plain = "no [31mlevel=error msg=\"x\"";
        let said = problem(saying(forged, Some("a\nb")));
        assert_eq!((&*said.message, said.code.as_deref()), (plain, Some("a b")));
        let said = notices(vec![wit::Notice {
            subject: forged.into(),
            message: forged.into(),
        }]);
        assert_eq!((&*said[0].subject, &*said[0].message), (plain, plain));
    }

    #[test]
    fn a_snapshot_keeps_what_the_provider_tells_of_group_and_instance() {
        let mut reclaimed = wit::Instance {
            id: "i-1".into(),
            state: wit::InstanceState::Running,
            created_at: Some(1_500),
            pool: Some("zone-a".into()),
            generation: Some("lt-1:3".into()),
            interruption: Some(wit::Interruption {
                kind: wit::InterruptionKind::Reclaim,
                at: Some(2_000),
            }),
            reason: None,
            request: Some("token".into()),
            memo: "memo".into(),
            extras: vec![("arch".into(), "arm64".into())],
        };
        let told = snapshot(wit::Snapshot {
            instances: vec![reclaimed.clone()],
            target: Some(1),
            max_size: Some(5),
            owner: Some("another".into()),
            notices: vec![wit::Notice {
                subject: "AZRebalance".into(),
                message: "it is on".into(),
            }],
            extras: vec![
                ("unknown".into(), "x".into()),
                ("generation".into(), "lt-1:4".into()),
            ],
        });
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let instance = Listed {
            id: InstanceId("i-1".into()),
            state: InstanceState::Running,
            created_at: Some(at(1_500)),
            pool: Some("zone-a".into()),
            generation: Some("lt-1:3".into()),
            interruption: Some(Interruption {
                kind: InterruptionKind::Reclaim,
                at: Some(at(2_000)),
            }),
            reason: None,
            request: Some("token".into()),
            memo: "memo".into(),
            extras: vec![("arch".into(), "arm64".into())],
        };
        let expected = Snapshot {
            instances: vec![instance],
            target: Some(1),
            max_size: Some(5),
            owner: Some("another".into()),
            generation: Some("lt-1:4".into()),
            notices: vec![Notice {
                subject: "AZRebalance".into(),
                message: "it is on".into(),
            }],
        };
        assert_eq!(told, expected);
        let mut with = |id: &str, bytes: usize| {
            reclaimed.id = id.to_owned();
            reclaimed.memo = "m".repeat(bytes);
            unusable(&wit::Snapshot {
                instances: vec![reclaimed.clone()],
                target: None,
                max_size: None,
                owner: None,
                notices: Vec::new(),
                extras: Vec::new(),
            })
        };
        assert_eq!(with("i-1", TEXT_BYTES), None);
        let long = Some("its memo of i-1 is larger than 4 KiB".to_owned());
        assert_eq!(with("i-1", TEXT_BYTES + 1), long);
        let forged = r#"it listed an instance with the ID "i\n1", which is none"#;
        assert_eq!(with("i\n1", 0), Some(forged.to_owned()));
        assert!(with("", 0).is_some() && with(&"i".repeat(ID_BYTES + 1), 0).is_some());
    }
}
