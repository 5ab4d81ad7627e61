//! A job's output on its way from a container to the log: words of everybody between the two, as `outcome` is.

/// Which of a container's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// Takes a stage's output. Never blocks and never fails: it spools. (A slow reader would stall a whole connection.)
pub trait Output: Send + Sync + 'static {
    fn write(&self, stream: Stream, bytes: &[u8]);
}
