//! The guests' own threads: what a plugin does to them, no job feels.

/// Enough for one guest that computes and one that answers.
const GUEST_THREADS: usize = 2;

/// Where guests run. It may be dropped anywhere, also inside another runtime.
pub struct GuestRuntime(Option<tokio::runtime::Runtime>);

impl GuestRuntime {
    pub fn start() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(GUEST_THREADS)
            .thread_name("plugin")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.0
            .as_ref()
            .expect("the runtime is there until drop, because only drop takes it")
            .handle()
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
