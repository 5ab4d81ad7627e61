//! What the figures were measured on: without it they mean nothing to anybody else.

/// Profile, processors, kernel, and how busy it was before anything began.
pub(crate) fn describe() -> String {
    let profile = if cfg!(debug_assertions) {
        "dev profile: figures of a debug build"
    } else {
        "release profile"
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    format!(
        "{profile}; {processors} processors ({model}); Linux {}\n{}",
        kernel.trim(),
        load("at the beginning")
    )
}

/// Processes that ran or waited to run, the bench's own included.
pub(crate) fn load(when: &str) -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minutes: Vec<_> = load.split_whitespace().take(3).collect();
    format!(
        "load {when}, over 1, 5 and 15 minutes: {}",
        minutes.join(" ")
    )
}
