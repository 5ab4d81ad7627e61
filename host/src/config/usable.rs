//! The configuration as the manager uses it: every default applied, every value checked. GitLab Runner's key names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::device::Device;
use super::gpus::Gpus;
pub use super::pull_policy::PullPolicy;
use super::server_tls::ServerTls;
use super::server_url::ServerUrl;
use super::service::Services;
use super::ulimit::Ulimit;
use super::volume::Volume;

/// `config.toml`, usable. Runners that cannot work are not here but among the problems that came with it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read; other paths default to its folder.
    pub path: PathBuf,
    /// Jobs at once, all runners together; at least 1.
    pub concurrent: u32,
    /// Pause between two requests for jobs of one runner.
    pub check_interval: Duration,
    /// How long a stop may take before it is forced.
    pub shutdown_timeout: Duration,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub listen_address: Option<String>,
    pub runners: Vec<Runner>,
}

#[derive(Clone)]
pub struct Runner {
    /// Position among `[[runners]]`, from 0.
    pub index: usize,
    pub name: String,
    /// Without a trailing slash or `/ci`.
    pub url: ServerUrl,
    pub server_tls: ServerTls,
    pub id: Option<u64>,
    pub token: SecretString,
    /// Jobs at once of this runner; 0 is no limit.
    pub limit: u32,
    pub request_concurrency: u32,
    /// Bytes of job log kept.
    pub output_limit: usize,
    pub unhealthy_requests_limit: u32,
    pub unhealthy_interval: Duration,
    pub job_status_final_update_retry_limit: u32,
    pub builds_dir: String,
    pub cache_dir: String,
    pub clone_url: Option<String>,
    /// `KEY=VALUE`, split.
    pub environment: Vec<(String, String)>,
    pub pre_get_sources_script: Option<String>,
    pub post_get_sources_script: Option<String>,
    pub pre_build_script: Option<String>,
    pub post_build_script: Option<String>,
    pub debug_trace_disabled: bool,
    pub safe_directory_checkout: bool,
    pub clean_git_config: Option<bool>,
    /// A job may add words to what its log masks.
    pub proxy_exec: bool,
    pub shell: Shell,
    /// As written; a job's variables may set what is not written.
    pub feature_flags: BTreeMap<String, bool>,
    /// Of the time until a job's containers are ready, an instance's included; `None`: the job's timeout.
    pub prepare_timeout: Option<Duration>,
    /// Of all tries to fetch the sources; `None`: the job's timeout.
    pub get_sources_timeout: Option<Duration>,
    pub custom_build_dir_enabled: bool,
    pub executor: Executor,
    pub docker: Docker,
    /// Of one's own daemon a group that is never more than that.
    pub autoscaler: Autoscaler,
}

/// Names the entry and no more: `environment` and the scripts may hold secrets.
impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("index", &self.index)
            .field("name", &self.name)
            .field("autoscaler", &self.autoscaler)
            .finish_non_exhaustive()
    }
}

/// Where an entry's jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// On instances that a plugin makes.
    DockerAutoscaler,
    /// In the manager's own Docker daemon.
    Docker,
}

impl Executor {
    /// As configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::DockerAutoscaler => "docker-autoscaler",
            Self::Docker => "docker",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    Sh,
    Bash,
}

impl Shell {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }
}

/// `[runners.docker]`: the keys that have an effect today.
#[derive(Clone, Debug, Default)]
pub struct Docker {
    /// The daemon's address on the instance, or of one's own; default `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// Of one's own daemon.
    pub tls_verify: bool,
    /// Directory of `ca.pem`, `cert.pem` and `key.pem`.
    pub tls_cert_path: Option<String>,
    pub image: Option<String>,
    pub helper_image: Option<String>,
    pub hostname: Option<String>,
    /// Of the build container; wins over the job's.
    pub user: Option<String>,
    /// Empty allows every user, or `user` alone where there is one.
    pub allowed_users: Vec<String>,
    pub disable_entrypoint_overwrite: bool,
    pub runtime: Option<String>,
    pub container_labels: BTreeMap<String, String>,
    /// `env` and `labels`.
    pub log_options: BTreeMap<String, String>,

    /// Of build and helper.
    pub resources: Resources,
    pub service_resources: Resources,
    pub oom_kill_disable: bool,
    pub oom_score_adjust: Option<i64>,
    pub ulimit: BTreeMap<String, Ulimit>,
    /// Bytes.
    pub shm_size: Option<i64>,
    pub devices: Vec<Device>,
    /// By globs of the service's image, tag included.
    pub services_devices: BTreeMap<String, Vec<Device>>,
    pub device_cgroup_rules: Vec<String>,
    pub sysctls: BTreeMap<String, String>,

    pub privileged: bool,
    /// Globs of those that `privileged` is for; empty is all.
    pub allowed_privileged_images: Vec<String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub group_add: Vec<String>,
    /// Seccomp profiles by their content.
    pub security_opt: Vec<String>,
    pub services_security_opt: Vec<String>,
    pub userns_mode: Option<String>,
    pub pid_mode: Option<String>,
    pub ipc_mode: Option<String>,
    pub isolation: Option<String>,

    pub network_mode: Option<String>,
    pub network_mtu: Option<u32>,
    pub enable_ipv6: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub links: Vec<String>,
    pub mac_address: Option<String>,

    pub volumes: Vec<Volume>,
    pub volumes_from: Vec<String>,
    pub volume_driver: Option<String>,
    pub volume_driver_ops: BTreeMap<String, String>,
    pub volume_keep: bool,
    /// On the instance: caches are folders below it instead of volumes.
    pub cache_dir: Option<String>,
    pub disable_cache: bool,
    pub tmpfs: BTreeMap<String, String>,
    pub services_tmpfs: BTreeMap<String, String>,

    /// Templates of the control groups of one slot, where slots have groups of their own.
    pub slot_cgroup: Option<String>,
    pub service_slot_cgroup: Option<String>,

    pub allowed_images: Vec<String>,
    /// At least one; tried in order.
    pub pull_policies: Vec<PullPolicy>,
    pub allowed_pull_policies: Vec<PullPolicy>,
    pub services: Services,
}

impl Docker {
    /// GPUs of build and helper in the operator's words; empty without.
    pub fn gpus(&self) -> &str {
        let gpus = self.resources.gpus.as_ref();
        gpus.map_or("", |gpus| gpus.written.as_str())
    }
}

/// `memory`, `cpus` and so on, and the same keys with `service_` before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Memory and swap together, in bytes.
    pub memory_swap: Option<i64>,
    pub memory_reservation: Option<i64>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub cgroup_parent: Option<String>,
    pub gpus: Option<Gpus>,
}

/// `[runners.autoscaler]`.
#[derive(Clone)]
pub struct Autoscaler {
    /// As written: `aws`, `fleeting-plugin-aws`, `aws:latest`, a path.
    pub plugin: String,
    /// `plugin_config`, re-encoded as GitLab Runner does.
    pub plugin_config: serde_json::Value,
    /// At least 1.
    pub capacity_per_instance: u32,
    /// 0 is unlimited.
    pub max_use_count: u32,
    /// `None` is unlimited.
    pub max_instances: Option<u32>,
    pub instance_ready_command: Option<String>,
    pub instance_acquire_timeout: Duration,
    pub update_interval: Duration,
    pub update_interval_when_expecting: Duration,
    pub deletion_retry_interval: Duration,
    pub shutdown_deletion_interval: Duration,
    pub shutdown_deletion_retries: u32,
    pub failure_threshold: u32,
    pub scale_throttle: Throttle,
    /// Whether requests to GitLab leave the slots of an instance alone that is to go.
    pub reservation_throttling: bool,
    pub delete_instances_on_shutdown: bool,
    pub log_internal_ip: bool,
    pub log_external_ip: bool,
    pub buckets: Buckets,
    pub connector: Connector,
    /// In file order; the last that matches wins.
    pub policies: Vec<Policy>,
    pub state_storage: StateStorage,
}

/// Without `plugin_config`, which may hold a cloud's keys.
impl fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autoscaler")
            .field("plugin", &self.plugin)
            .field("capacity_per_instance", &self.capacity_per_instance)
            .field("max_use_count", &self.max_use_count)
            .field("max_instances", &self.max_instances)
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}

/// Upper bounds in seconds of the histograms about instances, rising; `None` is the metrics' own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    pub creation: Option<Vec<f64>>,
    pub is_running: Option<Vec<f64>>,
    pub deletion: Option<Vec<f64>>,
    pub readiness: Option<Vec<f64>>,
    pub life: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// Instances a second; `None` is unlimited.
    pub limit: Option<f64>,
    pub burst: u32,
}

/// `[runners.autoscaler.connector_config]`: the operator's word, which wins over the provider's.
#[derive(Clone, Debug)]
pub struct Connector {
    pub os: Option<String>,
    pub arch: Option<String>,
    pub protocol: Option<crate::fleet::group::Protocol>,
    pub protocol_port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub key_path: Option<PathBuf>,
    pub use_static_credentials: bool,
    pub keepalive: Option<Duration>,
    /// How long dialling a fresh instance may take, retries included; default 5 minutes.
    pub timeout: Duration,
    pub use_external_addr: bool,
}

/// `[[runners.autoscaler.policy]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub periods: Vec<String>,
    pub timezone: Option<String>,
    /// In jobs, not instances.
    pub idle_count: u32,
    pub idle_time: Duration,
    pub scale_factor: f64,
    /// 0 is no limit.
    pub scale_factor_limit: u32,
    pub preemptive_mode: bool,
}

impl Policy {
    /// The same with no instance wanted idle.
    pub fn none_idle(&self) -> Self {
        Self {
            idle_count: 0,
            scale_factor: 0.0,
            ..self.clone()
        }
    }
}

/// `[runners.autoscaler.state_storage]`; `enabled` as written, because absent and `false` differ.
#[derive(Clone, Debug, Default)]
pub struct StateStorage {
    pub enabled: Option<bool>,
    pub dir: Option<PathBuf>,
    pub keep_instance_with_acquisitions: bool,
}
