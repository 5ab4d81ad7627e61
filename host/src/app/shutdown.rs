//! Shutdown as a value: first no new jobs, then no jobs at all, then no patience.
//!
//! ```text
//!            SIGQUIT             SIGTERM, SIGINT             SIGTERM, SIGINT again
//! serving ───────────► draining ────────────────► stopping ───────────────────────► abandoning
//!     └──────────────────────────────────────────────▲
//! ```
//!
//! SIGHUP changes no stage: it asks for the configuration to be read again.
//!
//! Invariant: a stage is never left backwards, so whoever saw `draining` need not look again.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Where the process stands between serving and gone. Clones see the same stages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    abandoning: CancellationToken,
    reload: Arc<Notify>,
}

impl Shutdown {
    /// Cancelled when no new job may be taken.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when running jobs must end now.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the process should exit at once; what is left is reported by its next start.
    pub(crate) fn abandoning(&self) -> &CancellationToken {
        &self.abandoning
    }

    /// Told by SIGHUP: the configuration is to be read again, whether its file changed or not.
    pub(crate) fn reload(&self) -> &Notify {
        &self.reload
    }

    /// Turns the process's signals into stages until it stops.
    ///
    /// # Errors
    /// When the operating system refuses a signal's registration.
    pub(crate) fn listen(&self) -> std::io::Result<()> {
        let mut quit = signal(SignalKind::quit())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = quit.recv() => "SIGQUIT",
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => {
                        shutdown.reload.notify_one();
                        continue;
                    }
                };
                if name == "SIGQUIT" {
                    info!(
                        signal = name,
                        "no new jobs are taken; running jobs end first"
                    );
                } else if shutdown.stopping.is_cancelled() {
                    warn!(
                        signal = name,
                        "exiting at once; the next start reports what was left"
                    );
                    shutdown.abandoning.cancel();
                } else {
                    warn!(signal = name, "running jobs are ended and reported");
                    shutdown.stopping.cancel();
                }
                shutdown.draining.cancel();
            }
        });
        Ok(())
    }
}
