//! What each kind of problem says, and what it costs.

use super::*;

/// Lines put at `docker:`, `autoscaler:`, or else right after the entry's own keys; the problem after the entry's name;
/// whether the entry still works.
#[test]
fn every_problem_of_an_entry_says_what_and_what_next() {
    let table = [
        (
            "limt = 3",
            r#"limt: unknown key, ignored; did you mean "limit"?"#,
            true,
        ),
        ("zzz = 3", "zzz: unknown key, ignored; remove it", true),
        (
            "limit = \"3\"",
            "limit: expected a whole number, found a string; remove the quotes",
            false,
        ),
        (
            "clone_url = 3",
            "clone_url: expected a string, found a whole number; put it in quotes",
            false,
        ),
        (
            "environment = \"A=b\"",
            "environment: expected a list of strings, found a string; put it in brackets",
            false,
        ),
        (
            "environment = [\"A\"]",
            r#"environment: entry 1 has no "=" and is dropped; write "KEY=VALUE""#,
            true,
        ),
        (
            "unhealthy_interval = \"1d\"",
            r#"unhealthy_interval: "1d" is no duration; write it like "20m0s""#,
            false,
        ),
        (
            "unhealthy_interval = 1.5",
            r#"unhealthy_interval: expected a duration such as "20m0s", found a number"#,
            false,
        ),
        (
            "shell = \"pwsh\"",
            r#"shell: "pwsh" is not supported yet; write "sh" or "bash""#,
            false,
        ),
        (
            "shell = \"fish\"",
            r#"shell: "fish" is no shell; write "sh" or "bash""#,
            false,
        ),
        (
            "feature_flags = { FF_A = 1 }",
            "feature_flags.FF_A: expected a table of true and false, found a whole number",
            false,
        ),
        (
            "feature_flags = { FF_PRINT_POD_EVENTS = true, FF_TIMESTAMPS = false }",
            "feature_flags: FF_PRINT_POD_EVENTS has no effect here: it concerns the Kubernetes executor",
            true,
        ),
        (
            "feature_flags = { FF_SKIP_NOOP_BUILD_STAGES = true }",
            "feature_flags: FF_SKIP_NOOP_BUILD_STAGES is no feature flag of GitLab Runner 19.4 and has no effect",
            true,
        ),
        (
            "prepare_timeout = \"soon\"",
            r#"prepare_timeout: "soon" is no duration; write it like "20m0s""#,
            false,
        ),
        (
            "tls-ca-file = \"/ca.pem\"",
            "tls-ca-file: /ca.pem is not there and the entry runs without it; put the file there, or remove the key",
            true,
        ),
        (
            "strict_check_interval = true",
            "strict_check_interval: has no effect yet; the entry runs without it",
            true,
        ),
        (
            "token_expires_at = 2030-01-01T00:00:00Z",
            "token_expires_at: has no effect yet; the entry runs without it",
            true,
        ),
        (
            "cache = { Type = \"s3\" }",
            "cache.Type: there is no cache yet; jobs run without it and say so in their log",
            true,
        ),
        (
            "docker: memory = \"lots\"",
            r#"docker.memory: "lots" is no size; write it like "512m" or "2g""#,
            false,
        ),
        (
            "docker: cpus = \"many\"",
            r#"docker.cpus: "many" is no number of processors; write it like "1.5""#,
            false,
        ),
        (
            "docker: dns = [\"one.one\"]",
            r#"docker.dns: "one.one" is no IP address; write it like "1.1.1.1""#,
            false,
        ),
        (
            "docker: pull_policy = \"sometimes\"",
            r#"docker.pull_policy: "sometimes" is no pull policy; write "always", "if-not-present" or "never""#,
            false,
        ),
        (
            "docker: services = [{ alias = \"db\" }]",
            r#"docker.services[0].name: missing; name the service's image, such as name = "postgres:16""#,
            false,
        ),
        (
            "docker: tls_verify = true",
            "docker.tls_verify: has no effect on instances, whose Docker is reached by SSH; the entry runs without it",
            true,
        ),
        (
            "autoscaler: policy = [{ idle_time = \"20 minutes\" }]",
            r#"autoscaler.policy[0].idle_time: "20 minutes" is no duration; write it like "20m0s""#,
            false,
        ),
        (
            "autoscaler: policy = [{ idle_cuont = 1 }]",
            r#"autoscaler.policy[0].idle_cuont: unknown key, ignored; did you mean "idle_count"?"#,
            true,
        ),
        (
            "autoscaler: policy = [{ periods = [\"* 25 * * *\"] }]",
            r#"autoscaler.policy[0].periods: period "* 25 * * *": "25" is not a hour (0-23, names, lists, ranges and steps such as 0-23/2)"#,
            false,
        ),
        (
            "autoscaler: policy = [{ timezone = \"Mars/Olympus\" }]",
            r#"autoscaler.policy[0].timezone: not known; write an IANA name, such as "Europe/Berlin""#,
            false,
        ),
        (
            "autoscaler: policy = [{ periods = [\"* 8-17 * * *\"] }]",
            "autoscaler.policy: no policy holds from Monday 00:00 to Monday 08:00 (the system's time zone); no instance stands idle then, and idle ones go after 5m; to be clear, begin with a policy without periods",
            true,
        ),
        (
            "autoscaler: policy = { idle_count = 1 }",
            "autoscaler.policy: expected tables, each under [[policy]], found a table",
            false,
        ),
        (
            "autoscaler: scale_throttle = 5",
            "autoscaler.scale_throttle: expected a table, [scale_throttle], found a whole number",
            false,
        ),
        (
            "autoscaler: plugin_config = { a = nan }",
            "autoscaler.plugin_config: a number in it is not finite; JSON has no inf or nan",
            false,
        ),
        (
            "autoscaler: vm_isolation = { enabled = true }",
            "autoscaler.vm_isolation.enabled: virtual machines inside an instance are not supported yet; remove vm_isolation, or leave this entry to GitLab Runner",
            false,
        ),
        (
            "autoscaler: connector_config = { protocol = \"winrm+https\" }",
            r#"autoscaler.connector_config.protocol: "winrm+https" is not supported yet; write "ssh""#,
            false,
        ),
        (
            "autoscaler: connector_config = { protocol = \"telnet\" }",
            r#"autoscaler.connector_config.protocol: "telnet" is no protocol; write "ssh""#,
            false,
        ),
        (
            "autoscaler: connector_config = { os = \"windows\" }",
            "autoscaler.connector_config.os: Windows instances are not supported yet; use a Linux image, or leave this entry to GitLab Runner",
            false,
        ),
        (
            "autoscaler: connector_config = { protocol_port = 70000 }",
            "autoscaler.connector_config.protocol_port: 70000 is no port; write one from 1 to 65535",
            false,
        ),
        (
            "autoscaler: max_instances = 99999999999999999999",
            "autoscaler.max_instances: the number is too large; write one below 9223372036854775808",
            false,
        ),
        (
            "autoscaler: instance_life_duration_buckets = [2.0, 1]",
            "autoscaler.instance_life_duration_buckets: no buckets: each number must be greater than the one before; \
             the default is used",
            true,
        ),
        (
            "autoscaler: instance_deletion_time_buckets = [1.0, \"2\"]",
            "autoscaler.instance_deletion_time_buckets: expected a list of numbers, found a list",
            false,
        ),
    ];
    for (line, told, works) in table {
        let text = if let Some(line) = line.strip_prefix("docker: ") {
            entry("").replace("[runners.docker]", &format!("[runners.docker]\n{line}"))
        } else if let Some(line) = line.strip_prefix("autoscaler: ") {
            entry("") + line
        } else {
            entry(line)
        };
        let loaded = checked(&text).unwrap();
        let at = text
            .lines()
            .position(|l| line.ends_with(l) && !l.is_empty())
            .unwrap()
            + 1;
        let all: Vec<_> = loaded.problems.iter().map(Problem::to_string).collect();
        assert_eq!(all.len(), 1, "{line}: {all:?}");
        let (place, text) = all[0].split_once(": [[runners]] \"x\": ").unwrap();
        assert_eq!(text, told, "{line}");
        assert!(
            place.starts_with(&format!("config.toml:{at}:")),
            "{line}: {place}, not line {at}"
        );
        assert_eq!(loaded.config.runners.len() == 1, works, "{line}");
    }
}

#[test]
fn what_an_entry_needs_is_named_where_it_is_missing() {
    let without = |line: &str| problems(&entry("").replace(line, ""));
    let named = "config.toml:1:1: [[runners]] \"x\": ";
    let token_next = "GitLab shows it once when a runner is created, and it begins with glrt-";
    for (line, told) in [
        (
            "url = \"https://gitlab.com\"\n",
            r#"url: missing; write GitLab's address, such as url = "https://gitlab.com""#
                .to_owned(),
        ),
        (
            "token = \"t\"\n",
            format!("token: missing; write the runner's token: {token_next}"),
        ),
        (
            "executor = \"docker-autoscaler\"\n",
            r#"executor: missing; write executor = "docker-autoscaler""#.to_owned(),
        ),
        (
            "[runners.docker]\n",
            "docker: missing; write a table [runners.docker]".to_owned(),
        ),
        (
            "[runners.autoscaler]\nplugin = \"aws\"\n",
            "autoscaler: missing; write a table [runners.autoscaler]".to_owned(),
        ),
    ] {
        assert_eq!(without(line), [format!("{named}{told}")], "{line}");
    }
    assert_eq!(
        without("plugin = \"aws\"\n"),
        [
            r#"config.toml:8:1: [[runners]] "x": autoscaler.plugin: missing; name the cloud's plugin, such as plugin = "aws""#
        ]
    );
    assert_eq!(
        without("name = \"x\"\nurl = \"https://gitlab.com\"\n"),
        [
            r#"config.toml:1:1: [[runners]] number 1: url: missing; write GitLab's address, such as url = "https://gitlab.com""#
        ]
    );
}

#[test]
fn url_token_and_executor_are_judged() {
    let changed = |from: &str, to: &str| problems(&entry("").replace(from, to)).join("\n");
    let token_next = "GitLab shows it once when a runner is created, and it begins with glrt-";
    assert_eq!(
        changed("https://gitlab.com", "gitlab.com"),
        r#"config.toml:3:1: [[runners]] "x": url: no address of a GitLab; write it like "https://gitlab.com""#
    );
    assert_eq!(
        changed("\"t\"", "\" \""),
        format!(
            r#"config.toml:4:1: [[runners]] "x": token: empty; write the runner's token: {token_next}"#
        )
    );
    assert_eq!(
        changed("\"t\"", "\"$NO_SUCH\""),
        r#"config.toml:4:1: [[runners]] "x": token: empty: the environment variable NO_SUCH is not set; set it for the manager"#
    );
    assert_eq!(
        changed("\"t\"", "\"glrt-$NO_SUCH\""),
        r#"config.toml:4:1: [[runners]] "x": token: the environment variable NO_SUCH is not set and reads as nothing; set it for the manager"#
    );
    assert_eq!(
        changed("docker-autoscaler", "shell"),
        r#"config.toml:5:1: [[runners]] "x": executor: "shell" is not run here; write "docker-autoscaler" or "docker", or leave this entry to GitLab Runner"#
    );
    assert_eq!(
        changed("\"docker-autoscaler\"", "1"),
        r#"config.toml:5:1: [[runners]] "x": executor: expected a string, found a whole number; put it in quotes"#
    );
}

#[test]
fn only_the_token_and_the_url_read_the_environment() {
    let runner = only_runner(&entry("clone_url = \"$RUNNER_TOKEN\""));
    assert_eq!(runner.clone_url.as_deref(), Some("$RUNNER_TOKEN"));
}

#[test]
fn an_entry_that_cannot_work_disables_itself_alone_and_all_its_problems_are_told() {
    let text = entry("limit = true")
        + "max_instances = \"ten\"\n"
        + &entry("")
        + &entry("shell = \"cmd\"");
    let loaded = checked(&text).unwrap();
    let left: Vec<_> = loaded.config.runners.iter().map(|r| r.index).collect();
    assert_eq!(left, [1]);
    assert_eq!(loaded.problems.len(), 3, "{:?}", loaded.problems);
    assert!(
        loaded
            .problems
            .iter()
            .all(|p| p.severity == Severity::Entry)
    );
}

#[test]
fn a_secret_is_never_told() {
    let text = entry("").replace("\"t\"", "[\"glrt-secret\"]")
        + "[runners.autoscaler.connector_config]\npassword = [\"hunter2\"]\n";
    let told = problems(&text).join("\n");
    assert!(
        told.contains("token: expected a string, found a list"),
        "{told}"
    );
    assert!(
        !told.contains("glrt-secret") && !told.contains("hunter2"),
        "{told}"
    );
    let broken = problems("[[runners]]\ntoken = \"glrt-secret\n").join("\n");
    assert!(!broken.contains("glrt-secret"), "{broken}");
    let secret = entry("environment = [\"A=hidden-1\"]").replace("\"t\"", "\"hidden-2\"")
        + "plugin_config = { token = \"hidden-3\" }\nconnector_config = { password = \"hidden-4\" }\n";
    let debugged = format!("{:?}", checked(&secret).unwrap());
    assert!(
        debugged.contains("aws") && !debugged.contains("hidden"),
        "{debugged}"
    );
}

#[test]
fn what_stands_outside_of_every_entry_is_fatal_or_told() {
    let table = [
        (
            "concurrent = 0",
            true,
            "config.toml:1:1: concurrent: 0 jobs at once are none; write at least 1",
        ),
        (
            "concurrent = \"10\"",
            true,
            "config.toml:1:1: concurrent: expected a whole number, found a string; remove the quotes",
        ),
        (
            "runners = 3",
            true,
            "config.toml:1:1: runners: expected tables, each under [[runners]], found a whole number",
        ),
        (
            "conkurrent = 3",
            false,
            r#"config.toml:1:1: conkurrent: unknown key, ignored; did you mean "concurrent"?"#,
        ),
        (
            "log_level = \"loud\"",
            false,
            r#"config.toml:1:1: log_level: "loud" is none of panic, fatal, error, warning, warn, info, debug, trace; the default is used"#,
        ),
        (
            "log_format = \"xml\"",
            false,
            r#"config.toml:1:1: log_format: "xml" is none of runner, text, json; the default is used"#,
        ),
        (
            "sentry_dsn = \"https://x\"",
            false,
            "config.toml:1:1: sentry_dsn: has no effect yet; the manager runs without it",
        ),
        (
            "[session_server]\nlisten_address = \":1\"",
            false,
            "config.toml:2:1: session_server.listen_address: there is no session server yet; jobs run without a web terminal",
        ),
        ("a = ", true, "config.toml:1:5: no TOML: "),
    ];
    for (text, fatal, told) in table {
        let all = problems(text);
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        assert!(
            all[0] == told || told.ends_with("TOML: ") && all[0].starts_with(told),
            "{text}: {all:?}"
        );
        assert_eq!(checked(text).is_err(), fatal, "{text}");
    }
}

#[test]
fn lint_prints_every_problem_and_a_verdict() {
    use crate::config::lint::{FromPlugins, lint};
    let lint = |text: &str, more| lint(Path::new("config.toml"), &checked(text), more);
    let nothing = FromPlugins::default;
    let clean = lint(&entry(""), nothing());
    assert_eq!(clean, ("config.toml: no problems\n".to_owned(), true));
    let (text, is_clean) = lint(&entry("limt = 1\nlimit = true"), nothing());
    assert!(!is_clean);
    assert_eq!(
        text,
        "warning: config.toml:6:1: [[runners]] \"x\": limt: unknown key, ignored; did you mean \"limit\"?\n\
         error, entry disabled: config.toml:7:1: [[runners]] \"x\": limit: expected a whole number, found true or false\n\
         config.toml: 2 problems, 0 of [[runners]] can be used\n"
    );
    let (text, is_clean) = lint("concurrent = 0", nothing());
    assert!(!is_clean);
    assert_eq!(
        text,
        "error: config.toml:1:1: concurrent: 0 jobs at once are none; write at least 1\n\
         config.toml: 1 problem, the file cannot be used\n"
    );
    let unchecked = vec!["plugin_config is not checked: no plugin".to_owned()];
    let problems = Vec::new();
    let (text, is_clean) = lint(
        &entry(""),
        FromPlugins {
            problems,
            unchecked,
        },
    );
    assert!(
        is_clean,
        "what could not be looked at is no fault of the file"
    );
    assert_eq!(
        text,
        "note: plugin_config is not checked: no plugin\nconfig.toml: no problems\n"
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let told = |path: &Path| crate::config::load(path, env).unwrap_err().to_string();
    assert_eq!(
        told(&path),
        format!(
            "no configuration file; looked for {}; write one there, or name another with --config or CONFIG_FILE",
            path.display()
        )
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let text = told(&path);
    assert!(
        text.contains("cannot be read") && text.ends_with("; save it as UTF-8"),
        "{text}"
    );
    std::fs::write(&path, entry("")).unwrap();
    assert_eq!(
        crate::config::load(&path, env)
            .unwrap()
            .config
            .runners
            .len(),
        1
    );
}

/// GitLab Runner 19.4's keys, by table: each is known, whether it has an effect or not.
#[test]
fn every_key_of_gitlab_runner_is_known() {
    let global = "listen_address concurrent check_interval log_level log_format user sentry_dsn connection_max_age \
                  shutdown_timeout labels session_server machine experimental";
    let session = "listen_address advertise_address session_timeout";
    let runner = "name limit output_limit request_concurrency strict_check_interval unhealthy_requests_limit \
                  unhealthy_interval job_status_final_update_retry_limit url id token token_obtained_at \
                  token_expires_at tls-ca-file tls-cert-file tls-key-file labels executor builds_dir cache_dir \
                  clone_url environment proxy_exec pre_get_sources_script post_get_sources_script pre_build_script \
                  post_build_script prepare_timeout get_sources_timeout debug_trace_disabled \
                  safe_directory_checkout clean_git_config shell feature_flags use_slot_cgroups \
                  slot_cgroup_template step_runner_image custom_build_dir artifact referees monitoring experimental \
                  instance docker cache autoscaler machine ssh parallels virtualbox kubernetes custom";
    let docker = "host tls_cert_path tls_verify image hostname runtime memory memory_swap memory_reservation \
                  cgroup_parent cpuset_cpus cpuset_mems cpus cpu_shares dns dns_search privileged \
                  services_privileged disable_entrypoint_overwrite user allowed_users group_add cap_add cap_drop \
                  userns_mode oom_kill_disable oom_score_adjust security_opt services_security_opt devices \
                  device_cgroup_rules gpus service_gpus services_devices disable_cache cache_dir volumes \
                  volumes_from volume_driver volume_driver_ops volume_keep extra_hosts links network_mode pid_mode \
                  ipcmode mac_address services services_limit service_memory service_memory_swap \
                  service_memory_reservation service_cgroup_parent service_cpuset_cpus service_cpus \
                  service_cpu_shares service_slot_cgroup_template wait_for_services_timeout allowed_images \
                  allowed_services allowed_privileged_images allowed_privileged_services pull_policy \
                  allowed_pull_policies isolation shm_size tmpfs services_tmpfs sysctls ulimit container_labels \
                  log_options helper_image helper_image_flavor helper_image_autoset_arch_and_os \
                  enable_ipv6 network_mtu";
    let cache = "Type Path Shared MaxUploadedArchiveSize s3 gcs azure";
    let autoscaler = "plugin plugin_config capacity_per_instance max_use_count max_instances instance_ready_command \
                      instance_acquire_timeout update_interval update_interval_when_expecting \
                      deletion_retry_interval shutdown_deletion_interval shutdown_deletion_retries \
                      failure_threshold scale_throttle reservation_throttling log_internal_ip log_external_ip \
                      delete_instances_on_shutdown policy connector_config vm_isolation state_storage \
                      instance_operation_time_buckets instance_creation_time_buckets \
                      instance_is_running_time_buckets instance_deletion_time_buckets \
                      instance_readiness_time_buckets instance_life_duration_buckets";
    let policy =
        "periods timezone idle_count idle_time scale_factor scale_factor_limit preemptive_mode";
    let connector = "os arch protocol protocol_port username password key_path use_static_credentials keepalive \
                     timeout use_external_addr";
    let isolation = "enabled nesting_host nesting_config image connector_config";
    let storage = "enabled dir keep_instance_with_acquisitions";

    // A date suits none of the keys, so that a key which is read says so, and one that is not known says that.
    let given = |keys: &str, but: &[&str]| -> String {
        keys.split_whitespace()
            .filter(|key| !but.contains(key))
            .map(|key| format!("{key} = 2026-01-01\n"))
            .collect()
    };
    let own = ["executor", "docker", "cache", "autoscaler"];
    let below = [
        "plugin_config",
        "scale_throttle",
        "policy",
        "connector_config",
        "vm_isolation",
        "state_storage",
    ];
    let text = [
        given(global, &["session_server"]),
        format!("[session_server]\n{}", given(session, &[])),
        format!(
            "[[runners]]\nexecutor = \"docker-autoscaler\"\n{}",
            given(runner, &own)
        ),
        format!("[runners.docker]\n{}", given(docker, &[])),
        format!("[runners.cache]\n{}", given(cache, &[])),
        format!("[runners.autoscaler]\n{}", given(autoscaler, &below)),
        format!(
            "[runners.autoscaler.scale_throttle]\n{}",
            given("limit burst", &[])
        ),
        format!("[[runners.autoscaler.policy]]\n{}", given(policy, &[])),
        format!(
            "[runners.autoscaler.connector_config]\n{}",
            given(connector, &[])
        ),
        format!(
            "[runners.autoscaler.vm_isolation]\n{}",
            given(isolation, &[])
        ),
        format!(
            "[runners.autoscaler.state_storage]\n{}",
            given(storage, &[])
        ),
    ]
    .concat();
    let told = problems(&text);
    assert!(
        told.len() > 100,
        "a wrong type in every key that is read: {}",
        told.len()
    );
    let unknown: Vec<_> = told
        .iter()
        .filter(|told| told.contains("unknown key"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
