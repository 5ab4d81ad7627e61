//! The store against a real folder.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::place::{self, Places};
use super::*;

fn store(dir: &Path) -> Store {
    Store::open_with(dir, None).unwrap()
}

#[test]
fn records_survive_a_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    {
        let store = store(&state);
        store.write_plain("group", "one", b"plain").unwrap();
        store.write_sealed("job", "7", b"secret words").unwrap();
        store.write_sealed("job", "odd name/..", b"odd").unwrap();
    }
    let store = store(&state);
    assert_eq!(store.read_plain("group", "one").unwrap().unwrap(), b"plain");
    assert_eq!(
        store.read_sealed("job", "7").unwrap().unwrap(),
        b"secret words"
    );
    assert_eq!(
        store.read_sealed("job", "odd name/..").unwrap().unwrap(),
        b"odd"
    );
    let names = store.list("job").unwrap();
    assert_eq!(names.len(), 2);
    for name in names {
        assert!(store.read_sealed("job", &name).unwrap().is_some(), "{name}");
    }
    store.remove("job", "7").unwrap();
    store.remove("job", "7").unwrap();
    assert_eq!(store.read_sealed("job", "7").unwrap(), None);
    assert_eq!(store.list("nothing").unwrap(), Vec::<String>::new());
}

#[test]
fn sealed_records_show_nothing_and_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    store(&state)
        .write_sealed("job", "7", b"secret words")
        .unwrap();
    let bytes = std::fs::read(state.join("job/7")).unwrap();
    assert!(!bytes.windows(6).any(|part| part == b"secret"));
    for (path, mode) in [
        ("", 0o700),
        ("job", 0o700),
        ("key", 0o600),
        ("job/7", 0o600),
    ] {
        let found = std::fs::metadata(state.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[test]
fn an_altered_moved_or_cut_record_is_an_error_that_keeps_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.write_sealed("job", "7", b"secret words").unwrap();
    let file = dir.path().join("job/7");
    let whole = std::fs::read(&file).unwrap();
    std::fs::copy(&file, dir.path().join("job/8")).unwrap();
    assert!(store.read_sealed("job", "8").is_err(), "moved");
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    for bad in [
        &altered[..],
        &whole[..whole.len() - 1],
        &whole[..10],
        &[],
        b"plain text",
    ] {
        std::fs::write(&file, bad).unwrap();
        let problem = store.read_sealed("job", "7").unwrap_err().to_string();
        assert!(
            problem.contains(file.to_str().unwrap()) && problem.contains("next:"),
            "{problem}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), bad);
    }
}

#[test]
fn a_write_that_never_ended_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path())
        .write_plain("group", "one", b"old")
        .unwrap();
    let half = dir.path().join("group/.tmp-abc");
    std::fs::write(&half, b"ne").unwrap();
    let store = store(dir.path());
    assert_eq!(store.read_plain("group", "one").unwrap().unwrap(), b"old");
    assert_eq!(store.list("group").unwrap(), ["one"]);
    assert!(!half.exists());
}

#[test]
fn two_managers_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let problem = Store::open_with(dir.path(), None)
        .err()
        .unwrap()
        .to_string();
    assert!(problem.contains("in use by another manager"), "{problem}");
    drop(first);
    store(dir.path());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    for mode in [0o777, 0o770, 0o1777] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let problem = Store::open_with(dir.path(), None)
            .err()
            .unwrap()
            .to_string();
        assert!(
            problem.starts_with("state directory /") && problem.contains("next: `chmod go-w"),
            "{mode:o}: {problem}"
        );
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    store(dir.path());
}

#[test]
fn an_exposed_or_broken_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let key = dir.path().join("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let problem = Store::open_with(dir.path(), None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        problem.contains("can be read by others (mode 0644)"),
        "{problem}"
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, b"short").unwrap();
    let problem = Store::open_with(dir.path(), None)
        .err()
        .unwrap()
        .to_string();
    assert!(problem.contains("is not 32 bytes"), "{problem}");
}

#[test]
fn a_systemd_credential_is_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(
        credentials.path().join("fleetling-key"),
        "ab".repeat(32) + "\n",
    )
    .unwrap();
    let sealed = Store::open_with(dir.path(), Some(credentials.path())).unwrap();
    sealed.write_sealed("job", "7", b"x").unwrap();
    drop(sealed);
    assert!(!dir.path().join("key").exists());
    assert!(
        store(dir.path()).read_sealed("job", "7").is_err(),
        "another key"
    );
}

fn places(root: &Path) -> Places {
    Places {
        configured: None,
        enabled: None,
        state_directory: None,
        system: root.join("system"),
        config: root.join("config.toml"),
    }
}

#[test]
fn the_first_place_that_is_given_wins() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let dir = |places: &Places| place::open(places).unwrap().0.dir().map(PathBuf::from);
    assert_eq!(dir(&places(root)), Some(root.join("system")));
    let mut given = places(root);
    given.state_directory = Some(format!("{}:/other", root.join("systemd").display()));
    assert_eq!(dir(&given), Some(root.join("systemd")));
    given.configured = Some(root.join("mine"));
    assert_eq!(dir(&given), Some(root.join("mine")));
    // A file where a folder should be: not even root can write there.
    std::fs::write(root.join("file"), b"").unwrap();
    let mut beside = places(root);
    beside.system = root.join("file/system");
    assert_eq!(dir(&beside), Some(root.join(".fleetling")));
}

#[test]
fn an_unwritable_place_is_fatal_only_when_asked_for() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let mut places = places(root.path());
    places.configured = Some(root.path().join("file/state"));
    let (store, warning) = place::open(&places).unwrap();
    assert!(store.dir().is_none());
    assert!(warning.unwrap().contains("file/state"));
    places.enabled = Some(true);
    let problem = place::open(&places).err().unwrap().to_string();
    assert!(
        problem.contains("file/state") && problem.contains("next:"),
        "{problem}"
    );
}

#[test]
fn who_looks_beside_a_manager_reads_its_plain_records_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let managers = store(dir.path());
    managers.write_plain("pin", "a", b"one").unwrap();
    managers.write_sealed("kv", "g", b"words").unwrap();
    let beside = Store::beside(dir.path());
    assert_eq!(beside.read_plain("pin", "a").unwrap().unwrap(), b"one");
    assert_eq!(beside.read_plain("pin", "b").unwrap(), None);
    assert_eq!(beside.read_sealed("kv", "g").unwrap(), None);
    beside.write_plain("pin", "a", b"two").unwrap();
    beside.write_sealed("kv", "g", b"own").unwrap();
    assert_eq!(beside.read_plain("pin", "a").unwrap().unwrap(), b"two");
    assert_eq!(beside.read_sealed("kv", "g").unwrap().unwrap(), b"own");
    assert_eq!(beside.list("kv").unwrap(), ["g"]);
    assert_eq!(managers.read_plain("pin", "a").unwrap().unwrap(), b"one");
    assert_eq!(managers.read_sealed("kv", "g").unwrap().unwrap(), b"words");
    assert_eq!(beside.dir(), None);
}
