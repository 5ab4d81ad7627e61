//! One row a key: what it changes for build, helper and services, and what it leaves alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::check::check;

/// `[runners.docker]` with these lines, as it is read.
fn config(lines: &str) -> usable::Docker {
    let text = format!(
        "[[runners]]\nurl = \"https://gitlab.example\"\ntoken = \"t\"\nexecutor = \"docker-autoscaler\"\n\
         [runners.docker]\n{lines}\n[runners.autoscaler]\nplugin = \"aws\"\n"
    );
    let profiles = |file: &Path| match file.to_str() {
        Some("/profile") => Ok("{ \"a\": 1 }".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let loaded = check(Path::new("config.toml"), &text, &|_| None, &profiles).unwrap();
    assert_eq!(loaded.problems, [], "{lines}");
    loaded.config.runners[0].docker.clone()
}

/// Who is concerned by a key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum For {
    Jobs,
    Services,
    All,
}

fn rows() -> Vec<(For, &'static str, &'static str, Value)> {
    use For::{All, Jobs, Services};
    let device = |host: &str, inside: &str, permissions: &str| json!([{ "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions }]);
    let gpus = json!([{ "Driver": "", "Count": -1, "Capabilities": [["gpu"]], "Options": {} }]);
    vec![
        (Jobs, r#"memory = "64m""#, "Memory", json!(64 << 20)),
        (
            Jobs,
            "memory = \"64m\"\nmemory_swap = \"128m\"",
            "MemorySwap",
            json!(128 << 20),
        ),
        (
            Jobs,
            r#"memory_reservation = "32m""#,
            "MemoryReservation",
            json!(32 << 20),
        ),
        (Jobs, r#"cpus = "1.5""#, "NanoCpus", json!(1_500_000_000)),
        (Jobs, "cpu_shares = 512", "CpuShares", json!(512)),
        (Jobs, r#"cpuset_cpus = "0-1""#, "CpusetCpus", json!("0-1")),
        (Jobs, r#"cpuset_mems = "0""#, "CpusetMems", json!("0")),
        (
            Jobs,
            r#"cgroup_parent = "jobs""#,
            "CgroupParent",
            json!("jobs"),
        ),
        (
            Jobs,
            "oom_kill_disable = true",
            "OomKillDisable",
            json!(true),
        ),
        (Jobs, "oom_score_adjust = 500", "OomScoreAdj", json!(500)),
        (
            Jobs,
            r#"ulimit = { nofile = "1024:2048" }"#,
            "Ulimits",
            json!([{ "Name": "nofile", "Soft": 1024, "Hard": 2048 }]),
        ),
        (Jobs, r#"gpus = "all""#, "DeviceRequests", gpus.clone()),
        (
            Jobs,
            r#"devices = ["/dev/kvm"]"#,
            "Devices",
            device("/dev/kvm", "/dev/kvm", "rwm"),
        ),
        (
            Jobs,
            r#"device_cgroup_rules = ["c 1:3 r"]"#,
            "DeviceCgroupRules",
            json!(["c 1:3 r"]),
        ),
        (
            Jobs,
            r#"sysctls = { "net.ipv4.ip_forward" = "1" }"#,
            "Sysctls",
            json!({ "net.ipv4.ip_forward": "1" }),
        ),
        (
            Jobs,
            r#"tmpfs = { "/tmp" = "rw,noexec" }"#,
            "Tmpfs",
            json!({ "/tmp": "rw,noexec" }),
        ),
        (
            Jobs,
            r#"cap_add = ["NET_ADMIN"]"#,
            "CapAdd",
            json!(["NET_ADMIN"]),
        ),
        (Jobs, r#"cap_drop = ["ALL"]"#, "CapDrop", json!(["ALL"])),
        (
            Jobs,
            r#"group_add = ["docker"]"#,
            "GroupAdd",
            json!(["docker"]),
        ),
        (
            Jobs,
            r#"security_opt = ["no-new-privileges"]"#,
            "SecurityOpt",
            json!(["no-new-privileges"]),
        ),
        (
            Jobs,
            r#"security_opt = ["seccomp=/profile"]"#,
            "SecurityOpt",
            json!([r#"seccomp={"a":1}"#]),
        ),
        (
            Jobs,
            r#"ipcmode = "shareable""#,
            "IpcMode",
            json!("shareable"),
        ),
        (
            Jobs,
            r#"links = ["db:mysql"]"#,
            "Links",
            json!(["db:mysql"]),
        ),
        (
            Jobs,
            r#"volumes_from = ["data:ro"]"#,
            "VolumesFrom",
            json!(["data:ro"]),
        ),
        (
            Jobs,
            r#"volume_driver = "nfs""#,
            "VolumeDriver",
            json!("nfs"),
        ),
        (Jobs, "privileged = true", "Privileged", json!(true)),
        (All, "shm_size = 300000", "ShmSize", json!(300_000)),
        (All, r#"runtime = "runsc""#, "Runtime", json!("runsc")),
        (All, r#"userns_mode = "host""#, "UsernsMode", json!("host")),
        (
            All,
            r#"isolation = "default""#,
            "Isolation",
            json!("default"),
        ),
        (
            All,
            r#"network_mode = "host""#,
            "NetworkMode",
            json!("host"),
        ),
        (All, r#"dns = ["1.1.1.1"]"#, "Dns", json!(["1.1.1.1"])),
        (
            All,
            r#"dns_search = ["example.com"]"#,
            "DnsSearch",
            json!(["example.com"]),
        ),
        (
            All,
            r#"extra_hosts = ["db:10.0.0.1"]"#,
            "ExtraHosts",
            json!(["db:10.0.0.1"]),
        ),
        (
            Services,
            r#"services_security_opt = ["seccomp=unconfined"]"#,
            "SecurityOpt",
            json!(["seccomp=unconfined"]),
        ),
        (
            Services,
            r#"services_devices = { "postgres:*" = ["/dev/a:/dev/b:r"], "redis" = ["/dev/c"] }"#,
            "Devices",
            device("/dev/a", "/dev/b", "r"),
        ),
        (
            Services,
            r#"services_tmpfs = { "/run" = "size=64m" }"#,
            "Tmpfs",
            json!({ "/run": "size=64m" }),
        ),
        (
            Services,
            r#"service_memory = "64m""#,
            "Memory",
            json!(64 << 20),
        ),
        (
            Services,
            "service_memory = \"64m\"\nservice_memory_swap = \"128m\"",
            "MemorySwap",
            json!(128 << 20),
        ),
        (
            Services,
            r#"service_memory_reservation = "32m""#,
            "MemoryReservation",
            json!(32 << 20),
        ),
        (
            Services,
            r#"service_cpus = "0.5""#,
            "NanoCpus",
            json!(500_000_000),
        ),
        (
            Services,
            "service_cpu_shares = 256",
            "CpuShares",
            json!(256),
        ),
        (
            Services,
            r#"service_cpuset_cpus = "0""#,
            "CpusetCpus",
            json!("0"),
        ),
        (
            Services,
            r#"service_cgroup_parent = "services""#,
            "CgroupParent",
            json!("services"),
        ),
        (Services, r#"service_gpus = "all""#, "DeviceRequests", gpus),
    ]
}

#[test]
fn each_key_has_its_effect_on_its_containers_and_on_no_other() {
    let shown = |config: &usable::Docker| {
        let volumes = Volumes::default();
        let build = of_build(config, &volumes, "ruby:3");
        let helper = of_helper(config, &volumes, "sha256:1");
        let service = of_service(config, &volumes, "postgres:16", false);
        [build, helper, service].map(|host| serde_json::to_value(host).unwrap())
    };
    let plain = shown(&config(""));
    for (concerned, lines, field, expected) in rows() {
        let made = shown(&config(lines));
        for (n, (made, plain)) in made.iter().zip(&plain).enumerate() {
            let is_service = n == 2;
            let has_effect = match concerned {
                For::All => true,
                For::Jobs => !is_service,
                For::Services => is_service,
            };
            let expected = if has_effect { &expected } else { &plain[field] };
            assert_eq!(&made[field], expected, "{lines}, container {n}");
        }
    }
}

/// What a service prints is taken up by its time stamps, so that its daemon may do with it as it is set to.
#[test]
fn the_log_that_a_lost_stream_is_taken_up_from_is_never_rotated() {
    let config = config(r#"log_options = { labels = "a", env = "B" }"#);
    let volumes = Volumes::default();
    let whole = json!({ "Type": "json-file", "Config": { "labels": "a", "env": "B", "max-size": "1000000t", "mode": "blocking" } });
    let plain = json!({ "Type": "json-file", "Config": { "labels": "a", "env": "B" } });
    for (host, expected) in [
        (of_build(&config, &volumes, "a"), &whole),
        (of_helper(&config, &volumes, "a"), &whole),
        (of_service(&config, &volumes, "a", false), &plain),
    ] {
        let made = serde_json::to_value(host.log_config).unwrap();
        assert_eq!(&made, expected);
    }
}

#[test]
fn all_containers_mount_the_same() {
    let volumes = Volumes {
        binds: vec!["/srv:/srv:ro".into()],
        mounts: vec![bollard::models::Mount {
            target: Some("/builds".into()),
            ..Default::default()
        }],
        ..Volumes::default()
    };
    let config = config("");
    for host in [
        of_build(&config, &volumes, "a"),
        of_helper(&config, &volumes, "a"),
        of_service(&config, &volumes, "a", false),
    ] {
        assert_eq!(host.binds, Some(volumes.binds.clone()));
        assert_eq!(host.mounts, Some(volumes.mounts.clone()));
    }
}
