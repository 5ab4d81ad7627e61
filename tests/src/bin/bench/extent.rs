//! How often each thing is measured.

pub(crate) struct Extent {
    pub(crate) loads: usize,
    /// Processes in which groups are loaded to see what they take.
    pub(crate) memories: usize,
    pub(crate) calls: usize,
    /// Of the cloud, each in every way.
    pub(crate) updates: usize,
    pub(crate) decisions: usize,
    pub(crate) weeks: usize,
    /// Of each kind, one after the other; each is followed by its peers.
    pub(crate) jobs: usize,
    /// Long logs of each kind.
    pub(crate) logs: usize,
    pub(crate) log_megabytes: usize,
    /// Jobs at once.
    pub(crate) crowd: usize,
}

impl Extent {
    pub(crate) const FULL: Self = Self {
        loads: 15,
        memories: 5,
        calls: 5_000,
        updates: 100,
        decisions: 500,
        weeks: 5,
        jobs: 20,
        logs: 3,
        log_megabytes: 100,
        crowd: 30,
    };

    pub(crate) const QUICK: Self = Self {
        loads: 3,
        memories: 2,
        calls: 200,
        updates: 10,
        decisions: 20,
        weeks: 1,
        jobs: 3,
        logs: 1,
        log_megabytes: 10,
        crowd: 6,
    };
}
