//! Volumes, and file systems in memory.

use std::collections::BTreeMap;

use crate::config::raw::Table;
use crate::config::volume::{Volume, clean};

pub(super) const FROM: &str =
    r#"is no container to take volumes from; write it like "container" or "container:ro""#;

/// What Docker lets through to the mount: flags, and keys with a value.
const TMPFS_FLAGS: [&str; 32] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "bind",
    "rbind",
];
const TMPFS_KEYS: [&str; 7] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

pub(super) fn volumes(table: &mut Table<'_>) -> Vec<Volume> {
    const KEY: &str = "volumes";
    let mut volumes: Vec<Volume> = Vec::new();
    for text in table.strings(KEY) {
        // GitLab Runner passes over an empty text.
        if text.is_empty() {
            continue;
        }
        let volume: Volume = match text.parse() {
            Ok(volume) => volume,
            Err(why) => {
                table.refuse(KEY, format!("{text:?}: {why}"));
                continue;
            }
        };
        let path = clean(&volume.destination);
        if volumes
            .iter()
            .any(|earlier| clean(&earlier.destination) == path)
        {
            table.refuse(
                KEY,
                format!("two of them stand for {path:?} in the container; leave one"),
            );
        }
        volumes.push(volume);
    }
    volumes
}

pub(super) fn is_from(text: &str) -> bool {
    let (container, modes) = text.split_once(':').unwrap_or((text, "rw"));
    !container.is_empty()
        && modes
            .split(',')
            .all(|mode| matches!(mode, "ro" | "rw" | "z" | "Z"))
}

pub(super) fn cache_dir(table: &mut Table<'_>) -> Option<String> {
    const KEY: &str = "cache_dir";
    let folder = table.text(KEY)?;
    if !folder.starts_with('/') {
        table.refuse(
            KEY,
            format!("{folder:?} is no absolute path; name a folder of the instance, such as \"/srv/cache\""),
        );
    }
    Some(folder)
}

/// Paths in the container, each with its mount options.
pub(super) fn tmpfs(table: &mut Table<'_>, key: &'static str) -> BTreeMap<String, String> {
    let all = table.string_map(key);
    for (path, options) in &all {
        if !path.starts_with('/') || clean(path) == "/" {
            table.refuse(
                key,
                format!("{path:?} is no absolute path below the root; write it like \"/tmp\""),
            );
        }
        let is_known = |option: &str| match option.split_once('=') {
            Some((name, value)) => TMPFS_KEYS.contains(&name) && !value.is_empty(),
            None => TMPFS_FLAGS.contains(&option),
        };
        let mut words = options.split(',').filter(|word| !word.is_empty());
        if let Some(word) = words.find(|word| !is_known(word)) {
            table.refuse(
                key,
                format!(
                    "{path}: {word:?} is no mount option; write them like \"rw,noexec,size=64m\""
                ),
            );
        }
    }
    all
}
