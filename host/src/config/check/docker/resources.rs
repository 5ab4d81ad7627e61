//! Processors and memory, of build and helper and, with keys of their own, of services.

use crate::config::raw::Table;
use crate::config::scalars;
use crate::config::usable::Resources;

/// Docker gives no container less.
const LEAST_MEMORY: i64 = 6 << 20;

/// The keys of one [`Resources`], in one order for both owners.
struct Keys {
    memory: &'static str,
    memory_swap: &'static str,
    memory_reservation: &'static str,
    cpus: &'static str,
    cpu_shares: &'static str,
    cpuset_cpus: &'static str,
    cpuset_mems: Option<&'static str>,
    cgroup_parent: &'static str,
    gpus: &'static str,
}

pub(super) fn of_jobs(table: &mut Table<'_>) -> Resources {
    let keys = Keys {
        memory: "memory",
        memory_swap: "memory_swap",
        memory_reservation: "memory_reservation",
        cpus: "cpus",
        cpu_shares: "cpu_shares",
        cpuset_cpus: "cpuset_cpus",
        cpuset_mems: Some("cpuset_mems"),
        cgroup_parent: "cgroup_parent",
        gpus: "gpus",
    };
    read(table, &keys)
}

pub(super) fn of_services(table: &mut Table<'_>) -> Resources {
    let keys = Keys {
        memory: "service_memory",
        memory_swap: "service_memory_swap",
        memory_reservation: "service_memory_reservation",
        cpus: "service_cpus",
        cpu_shares: "service_cpu_shares",
        cpuset_cpus: "service_cpuset_cpus",
        cpuset_mems: None,
        cgroup_parent: "service_cgroup_parent",
        gpus: "service_gpus",
    };
    read(table, &keys)
}

fn read(table: &mut Table<'_>, keys: &Keys) -> Resources {
    let resources = Resources {
        memory: size(table, keys.memory),
        memory_swap: size(table, keys.memory_swap),
        memory_reservation: size(table, keys.memory_reservation),
        nano_cpus: processors(table, keys.cpus),
        cpu_shares: not_below_zero(table, keys.cpu_shares, "number of shares"),
        cpuset_cpus: set(table, keys.cpuset_cpus),
        cpuset_mems: keys.cpuset_mems.and_then(|key| set(table, key)),
        cgroup_parent: table.text(keys.cgroup_parent),
        gpus: table.text(keys.gpus).and_then(|text| {
            let gpus = text.parse();
            gpus.map_err(|why| table.refuse(keys.gpus, format!("{why}")))
                .ok()
        }),
    };
    together(table, keys, &resources);
    resources
}

/// What Docker refuses of sizes that are each all right.
fn together(table: &Table<'_>, keys: &Keys, resources: &Resources) {
    let Resources {
        memory,
        memory_swap,
        memory_reservation,
        ..
    } = resources;
    if let Some(memory) = memory.filter(|memory| *memory < LEAST_MEMORY) {
        let least = LEAST_MEMORY >> 20;
        table.refuse(
            keys.memory,
            format!("{memory} bytes are too few for a container; write at least \"{least}m\""),
        );
    }
    match (memory, memory_swap) {
        (None, Some(1..)) => table.refuse(
            keys.memory_swap,
            format!(
                "Docker limits it only together with memory; write {} too",
                keys.memory
            ),
        ),
        (Some(memory), Some(swap @ 1..)) if swap < memory => table.refuse(
            keys.memory_swap,
            format!(
                "it counts memory and swap together and cannot be below {}; raise it",
                keys.memory
            ),
        ),
        _ => {}
    }
    if memory.is_some_and(|memory| memory_reservation.is_some_and(|least| least > memory)) {
        table.refuse(
            keys.memory_reservation,
            format!("it cannot be above {}; lower it", keys.memory),
        );
    }
}

/// 0 is no limit, as if nothing was written.
fn size(table: &mut Table<'_>, key: &'static str) -> Option<i64> {
    let text = table.text(key)?;
    let size = scalars::bytes(&text);
    if size.is_none() {
        table.refuse(
            key,
            format!(r#"{text:?} is no size; write it like "512m" or "2g""#),
        );
    }
    size.filter(|bytes| *bytes != 0)
}

fn processors(table: &mut Table<'_>, key: &'static str) -> Option<i64> {
    let text = table.text(key)?;
    let nanos = scalars::nano_cpus(&text).filter(|nanos| *nanos >= 0);
    if nanos.is_none() {
        table.refuse(
            key,
            format!(r#"{text:?} is no number of processors; write it like "1.5""#),
        );
    }
    nanos.filter(|nanos| *nanos != 0)
}

/// Zero is GitLab Runner's word for unset.
pub(super) fn not_below_zero(table: &mut Table<'_>, key: &'static str, what: &str) -> Option<i64> {
    let number = table.integer(key)?;
    if number < 0 {
        table.refuse(
            key,
            format!("{number} is no {what}; write one that is not below 0"),
        );
    }
    (number > 0).then_some(number)
}

/// Processors or memory nodes: `0-3,5`.
fn set(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let is_part = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from)
            .zip(number(to))
            .is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    if !text.split(',').all(is_part) {
        table.refuse(
            key,
            format!(r#"{text:?} is no list of numbers; write it like "0-3,5""#),
        );
    }
    Some(text)
}

pub(super) fn oom_score(table: &mut Table<'_>) -> Option<i64> {
    const KEY: &str = "oom_score_adjust";
    let score = table.integer(KEY)?;
    if !(-1000..=1000).contains(&score) {
        table.refuse(
            KEY,
            format!("{score} is out of range; write a number from -1000 to 1000"),
        );
    }
    (score != 0).then_some(score)
}
