//! What is refused of `[runners.docker]`, where it stands, and what is told and let through.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::path::Path;

use crate::config::check::{Loaded, check};
use crate::config::usable::Docker;

const ENTRY: &str = "[[runners]]\nurl = \"https://gitlab.example\"\ntoken = \"t\"\n\
                     executor = \"docker-autoscaler\"\nuse_slot_cgroups = false\n[runners.docker]\n";

fn loaded(text: &str) -> Loaded {
    let files = |file: &Path| match file.to_str() {
        Some("/ok.json") => Ok(r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#.to_owned()),
        Some("/bad.json") => Ok("{".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    check(Path::new("c"), text, &|_| None, &files).unwrap()
}

fn written(lines: &str) -> String {
    format!("{ENTRY}{lines}\n[runners.autoscaler]\nplugin = \"aws\"\n")
}

fn docker(lines: &str) -> Docker {
    let loaded = loaded(&written(lines));
    assert_eq!(loaded.problems, [], "{lines}");
    loaded.config.runners[0].docker.clone()
}

/// Each with what is told of it behind `docker.`.
const REFUSED: &[(&str, &str)] = &[
    (
        r#"memory_swap = "-1""#,
        r#"memory_swap: "-1" is no size; write it like "512m" or "2g""#,
    ),
    (
        r#"memory = "4m""#,
        r#"memory: 4194304 bytes are too few for a container; write at least "6m""#,
    ),
    (
        r#"service_memory = "4m""#,
        r#"service_memory: 4194304 bytes are too few for a container; write at least "6m""#,
    ),
    (
        r#"memory_swap = "1g""#,
        "memory_swap: Docker limits it only together with memory; write memory too",
    ),
    (
        r#"cpus = "-1""#,
        r#"cpus: "-1" is no number of processors; write it like "1.5""#,
    ),
    (
        "cpu_shares = -1",
        "cpu_shares: -1 is no number of shares; write one that is not below 0",
    ),
    (
        "shm_size = -1",
        "shm_size: -1 is no size in bytes; write one that is not below 0",
    ),
    (
        r#"cpuset_cpus = "3-1""#,
        r#"cpuset_cpus: "3-1" is no list of numbers; write it like "0-3,5""#,
    ),
    (
        r#"cpuset_mems = "all""#,
        r#"cpuset_mems: "all" is no list of numbers; write it like "0-3,5""#,
    ),
    (
        "oom_score_adjust = 1001",
        "oom_score_adjust: 1001 is out of range; write a number from -1000 to 1000",
    ),
    (
        r#"ulimit = { nofile = "many" }"#,
        r#"ulimit: nofile: "many" is no limit; write it like "1024" or "1024:2048", the soft one first"#,
    ),
    (
        r#"gpus = "some""#,
        r#"gpus: "some" is no count of GPUs; write "all" or a number"#,
    ),
    (
        r#"devices = ["/dev/a:/dev/b:x"]"#,
        r#"devices: "/dev/a:/dev/b:x" is no device; write it like "/dev/kvm" or "/dev/sda:/dev/xvda:r""#,
    ),
    (
        r#"services_devices = { a = [":"] }"#,
        r#"services_devices: ":" is no device; write it like "/dev/kvm" or "/dev/sda:/dev/xvda:r""#,
    ),
    (
        r#"device_cgroup_rules = ["c 1"]"#,
        r#"device_cgroup_rules: "c 1" is no rule for devices; write it like "c 189:* rwm""#,
    ),
    (
        r#"log_options = { max-size = "1m" }"#,
        r#"log_options: "max-size" cannot be set for jobs; leave only "env" and "labels""#,
    ),
    (
        r#"isolation = "hyperv""#,
        r#"isolation: "hyperv" is for Windows containers, which are not run here; remove it"#,
    ),
    (
        r#"isolation = "total""#,
        r#"isolation: "total" is no isolation; write "default", or remove it"#,
    ),
    (
        r#"security_opt = ["seccomp=/none.json"]"#,
        r#"security_opt: the seccomp profile "/none.json" cannot be read on the manager: entity not found; check the path and who may read it"#,
    ),
    (
        r#"services_security_opt = ["seccomp=/bad.json"]"#,
        r#"services_security_opt: the seccomp profile "/bad.json" is no JSON: EOF while parsing an object at line 1 column 1; mend it"#,
    ),
    (
        r#"extra_hosts = ["db"]"#,
        r#"extra_hosts: "db" is no host with its address; write it like "name:10.0.0.1" or "name:host-gateway""#,
    ),
    (
        r#"links = ["a:b:c"]"#,
        r#"links: "a:b:c" is no link; write it like "container:alias""#,
    ),
    (
        "network_mtu = 20",
        "network_mtu: 20 is no MTU; write a number from 68 to 65535, such as 1450",
    ),
    (
        r#"mac_address = "92:d0""#,
        r#"mac_address: "92:d0" is no MAC address; write it like "92:d0:c6:0a:29:33""#,
    ),
    (
        r#"volumes = ["cache"]"#,
        r#"volumes: "cache": the path in the container, "cache", is not absolute; begin it with /"#,
    ),
    (
        r#"volumes = ["/a", "/b:/a/"]"#,
        r#"volumes: two of them stand for "/a" in the container; leave one"#,
    ),
    (
        r#"volumes_from = ["a:x"]"#,
        r#"volumes_from: "a:x" is no container to take volumes from; write it like "container" or "container:ro""#,
    ),
    (
        r#"cache_dir = "cache""#,
        r#"cache_dir: "cache" is no absolute path; name a folder of the instance, such as "/srv/cache""#,
    ),
    (
        r#"tmpfs = { "tmp" = "" }"#,
        r#"tmpfs: "tmp" is no absolute path below the root; write it like "/tmp""#,
    ),
    (
        r#"services_tmpfs = { "/run" = "rw,sizes=1" }"#,
        r#"services_tmpfs: /run: "sizes=1" is no mount option; write them like "rw,noexec,size=64m""#,
    ),
];

#[test]
fn what_docker_would_refuse_is_refused_where_it_is_written() {
    for (line, told) in REFUSED {
        let text = written(line);
        let loaded = loaded(&text);
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        let place = "c:7:1: [[runners]] number 1: docker.";
        assert_eq!(problems, [format!("{place}{told}")], "{line}");
        assert!(loaded.config.runners.is_empty(), "{line}");
    }
}

#[test]
fn sizes_are_judged_together() {
    for (lines, told) in [
        (
            "memory = \"64m\"\nmemory_swap = \"32m\"",
            "cannot be below memory",
        ),
        (
            "memory = \"64m\"\nmemory_reservation = \"65m\"",
            "cannot be above memory",
        ),
        (
            "memory = \"64m\"\nservice_memory_swap = \"1g\"",
            "write service_memory too",
        ),
        (
            "ulimit = { files = \"1\" }",
            "\"files\" is none of Linux's limits",
        ),
    ] {
        let loaded = loaded(&written(lines));
        assert_eq!(loaded.problems.len(), 1, "{lines}: {:?}", loaded.problems);
        assert!(
            loaded.problems[0].text.contains(told),
            "{:?}",
            loaded.problems
        );
    }
    let none = docker(
        "memory = \"0\"\ncpus = \"0\"\ncpu_shares = 0\noom_score_adjust = 0\nnetwork_mtu = 0",
    );
    assert_eq!(none.resources, crate::config::usable::Resources::default());
    assert_eq!((none.oom_score_adjust, none.network_mtu), (None, None));
}

#[test]
fn what_another_daemon_may_know_is_told_and_let_through() {
    for (line, told) in [
        (
            r#"userns_mode = "keep-id""#,
            r#"userns_mode: Docker knows only "host", and jobs fail where it refuses "keep-id"; check it"#,
        ),
        (
            r#"pid_mode = "container:""#,
            r#"pid_mode: Docker knows only "host", "container:<name>", and jobs fail where it refuses "container:"; check it"#,
        ),
        (
            r#"helper_image_flavor = "ubuntu""#,
            "helper_image_flavor: there is one helper image and it has no flavour \"ubuntu\"; if hooks need that one's \
             tools, name an image that has them in helper_image",
        ),
    ] {
        let loaded = loaded(&written(line));
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [format!("c:7:1: [[runners]] number 1: docker.{told}")]
        );
        assert_eq!(loaded.config.runners.len(), 1, "{line}");
    }
    for line in [
        r#"ipcmode = "container:db""#,
        r#"ipcmode = "none""#,
        r#"pid_mode = "host""#,
        r#"helper_image_flavor = "alpine""#,
        "helper_image = \"own\"\nhelper_image_flavor = \"ubuntu\"",
        r#"mac_address = "92-D0-c6-0a-29-33""#,
        r#"extra_hosts = ["a:::1", "b:host-gateway"]"#,
        r#"tmpfs = { "/tmp" = "rw,noexec,size=64m,mode=1777", "/run" = "" }"#,
        r#"volumes = ["", "/cache", "/srv:/srv:ro"]"#,
    ] {
        docker(line);
    }
}

#[test]
fn seccomp_profiles_travel_by_their_content() {
    let docker = docker(
        r#"security_opt = ["seccomp=/ok.json", "seccomp=unconfined", "seccomp=builtin", "apparmor=a=b", 'seccomp={ "a" : 1 }']"#,
    );
    assert_eq!(
        docker.security_opt,
        [
            r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#,
            "seccomp=unconfined",
            "seccomp=builtin",
            "apparmor=a=b",
            r#"seccomp={"a":1}"#
        ]
    );
}

#[test]
fn slots_have_groups_of_their_own_only_where_it_is_said() {
    let of = |entry: &str, lines: &str| {
        let text = written(lines).replace("use_slot_cgroups = false", entry);
        let loaded = loaded(&text);
        assert_eq!(loaded.problems, [], "{text}");
        let docker = &loaded.config.runners[0].docker;
        let template = |of: &Option<String>| of.clone().unwrap_or_default();
        (
            template(&docker.slot_cgroup),
            template(&docker.service_slot_cgroup),
        )
    };
    let pair = |jobs: &str, services: &str| (jobs.to_owned(), services.to_owned());
    let default = "gitlab-runner/slot-${slot}";
    let on = "use_slot_cgroups = true";
    let template = r#"service_slot_cgroup_template = "s-$slot""#;
    assert_eq!(of("", template), pair("", ""));
    assert_eq!(of(on, ""), pair(default, default));
    assert_eq!(of(on, template), pair(default, "s-$slot"));
    let own = "use_slot_cgroups = true\nslot_cgroup_template = \"j-$slot\"";
    assert_eq!(of(own, ""), pair("j-$slot", "j-$slot"));
}
