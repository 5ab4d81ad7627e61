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
    /// Jobs one after the other; each is followed by one `docker run` of each kind.
    pub(crate) jobs: usize,
}

impl Extent {
    pub(crate) const FULL: Self = Self {
        loads: 15,
        memories: 5,
        calls: 5_000,
        updates: 100,
        decisions: 500,
        weeks: 5,
        jobs: 15,
    };

    pub(crate) const QUICK: Self = Self {
        loads: 3,
        memories: 2,
        calls: 200,
        updates: 10,
        decisions: 20,
        weeks: 1,
        jobs: 3,
    };
}
