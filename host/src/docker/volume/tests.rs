//! Names, labels and lives of volumes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::docker::container::tests::plan as job;

fn with(volumes: &[&str]) -> Plan {
    Plan {
        volumes: volumes.iter().map(|text| text.parse().unwrap()).collect(),
        ..job()
    }
}

fn planned(plan: &Plan, config: &usable::Docker) -> Volumes {
    super::plan(plan, config, "u").unwrap()
}

fn names(volumes: &Volumes) -> Vec<(&str, &str)> {
    let mounts = volumes.mounts.iter();
    mounts
        .map(|mount| {
            (
                mount.source.as_deref().unwrap(),
                mount.target.as_deref().unwrap(),
            )
        })
        .collect()
}

/// `md5sum` of the paths.
const BUILDS: &str = "c33bcaa1fd2c77edfc3893b41966cea8";
const CACHE: &str = "3c3f060a0374fc8bc39395164f415a70";

#[test]
fn a_checkout_that_is_not_fetched_into_ends_with_the_job() {
    let config = usable::Docker::default();
    let base = "runner-t-project-3-concurrent-0-u";
    let mut plan = job();
    let found = planned(&plan, &config);
    let name = format!("{base}-cache-{BUILDS}");
    assert_eq!(names(&found), [(name.as_str(), "/builds")]);
    assert_eq!(
        (&found.temporary, &found.open),
        (&vec![name], &vec!["/builds".into()])
    );

    plan.keep_builds = true;
    let found = planned(&plan, &config);
    let name = format!("runner-abc-cache-{BUILDS}");
    assert_eq!(names(&found), [(name.as_str(), "/builds")]);
    assert_eq!(found.temporary, Vec::<String>::new());
    assert_eq!(found.open, ["/builds"]);
}

#[test]
fn caches_are_volumes_or_folders_or_end_with_the_job() {
    let plan = with(&["/cache:ro", "/srv:/srv:ro", "named:/n/"]);
    let binds = ["/srv:/srv:ro", "named:/n"];
    let found = planned(&plan, &usable::Docker::default());
    assert_eq!(
        names(&found)[0],
        (format!("runner-abc-cache-{CACHE}").as_str(), "/cache")
    );
    assert_eq!(found.binds, binds);
    assert_eq!(found.open, ["/cache", "/builds"]);

    let folder = usable::Docker {
        cache_dir: Some("/var/cache/".into()),
        ..usable::Docker::default()
    };
    let found = planned(&plan, &folder);
    let cache = format!("/var/cache/runner-abc/{CACHE}:/cache");
    assert_eq!(found.binds, [&cache, binds[0], binds[1]]);
    assert_eq!(
        found.open,
        ["/builds"],
        "a folder of the instance keeps its mode"
    );

    let none = usable::Docker {
        disable_cache: true,
        ..folder
    };
    let found = planned(&plan, &none);
    assert_eq!(found.binds, binds);
    assert_eq!(found.temporary.len(), 2, "{found:?}");
}

#[test]
fn jobs_of_protected_branches_have_volumes_of_their_own() {
    let plan = Plan {
        protected: true,
        ..with(&["/cache"])
    };
    let found = planned(&plan, &usable::Docker::default());
    for (name, _) in names(&found) {
        assert!(name.ends_with("-protected"), "{name}");
    }
    let folder = usable::Docker {
        cache_dir: Some("/c".into()),
        ..usable::Docker::default()
    };
    let found = planned(&plan, &folder);
    assert_eq!(
        found.binds,
        [format!("/c/runner-abc/{CACHE}-protected:/cache")]
    );
}

#[test]
fn labels_say_what_a_volume_is_and_whose() {
    let config = usable::Docker {
        volume_driver: Some("nfs".into()),
        volume_driver_ops: BTreeMap::from([("size".into(), "1g".into())]),
        ..usable::Docker::default()
    };
    let mut plan = with(&["/cache"]);
    plan.container_labels = vec![("team".into(), "a".into())];
    let found = planned(&plan, &config);
    for (mount, reusable, destination) in [
        (&found.mounts[0], "true", "/cache"),
        (&found.mounts[1], "false", "/builds"),
    ] {
        let options = mount.volume_options.clone().unwrap();
        let labels: BTreeMap<_, _> = options.labels.unwrap().into_iter().collect();
        let expected = [
            ("destination", destination),
            ("job.id", "7"),
            ("protected", "false"),
            ("reusable", reusable),
            ("type", "cache"),
        ];
        let expected = expected
            .map(|(key, value)| (format!("com.gitlab.gitlab-runner.{key}"), value.to_owned()));
        assert!(
            labels
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .eq(expected),
            "{labels:?}"
        );
        let driver = options.driver_config.unwrap();
        assert_eq!(driver.name.as_deref(), Some("nfs"));
        assert_eq!(driver.options.unwrap()["size"], "1g");
    }
    let plain = planned(&plan, &usable::Docker::default());
    let options = plain.mounts[0].volume_options.clone().unwrap();
    assert_eq!(options.driver_config, None);
}

#[test]
fn what_covers_the_checkout_takes_its_place() {
    let mounted = |volumes: &[&str]| {
        let found = planned(&with(volumes), &usable::Docker::default());
        let mounts = names(&found);
        mounts.iter().filter(|(_, path)| *path == "/builds").count()
    };
    assert_eq!(mounted(&["/srv:/builds"]), 0);
    assert_eq!(mounted(&["/builds/"]), 1, "the configured one");
    assert_eq!(mounted(&["/srv:/buildsx"]), 1);
    assert_eq!(mounted(&["/builds/deep"]), 1);
}

#[test]
fn variables_may_not_make_a_place_that_is_none() {
    for (place, said) in [
        ("/", "cannot be mounted at \"/\""),
        ("", "cannot be mounted at \"\""),
        ("/a/.", "two volumes stand for \"/a\""),
    ] {
        let mut plan = with(&["/a", "/$NAME"]);
        plan.volumes[1].destination = place.into();
        let why = super::plan(&plan, &usable::Docker::default(), "u").unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}
