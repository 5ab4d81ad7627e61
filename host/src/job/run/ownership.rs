//! `FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR`: the sources belong to the build container's user, instead of being open to
//! everybody.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::course::{Broken, Course, Stop};
use crate::config::flags::DISABLE_UMASK;
use crate::coordinator::outcome::{FailureReason, Outcome, Signal};
use crate::docker::stage::{Executor, Output, Place, StageScript, Stream};
use crate::job::script::{Body, Style, steps};
use crate::job::stage::failure_outcome;

/// Numbers of a user and a group are short; whoever prints more is not `id`.
const MOST: usize = 1024;

/// What the build container says to its standard output. Too much of it ends the saying.
struct Said {
    bytes: Mutex<Vec<u8>>,
    too_much: CancellationToken,
}

impl Said {
    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Output for Said {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        // An entrypoint may have its say on standard error.
        if stream == Stream::Err {
            return;
        }
        let mut said = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() + bytes.len() > MOST {
            self.too_much.cancel();
            return;
        }
        said.extend_from_slice(bytes);
    }
}

/// The last two lines are numbers; an entrypoint may have said something before them.
fn owner(said: &str) -> Option<(u32, u32)> {
    let mut lines = said.trim_end().lines().rev().map(str::trim);
    let group = lines.next()?.parse().ok()?;
    let user = lines.next()?.parse().ok()?;
    Some((user, group))
}

impl<E: Executor> Course<'_, E> {
    /// Asks the build container who it is, and lets the helper give it the sources. Root needs no gift.
    pub(super) async fn hand_over(&self) -> Result<(), Stop> {
        if !self.prepared.flags.is_on(DISABLE_UMASK) {
            return Ok(());
        }
        let said = Arc::new(Said {
            bytes: Mutex::default(),
            too_much: CancellationToken::new(),
        });
        let body = steps::identify();
        let asked = self.quietly(Place::Build, &body, said.clone());
        let code = tokio::select! {
            code = asked => code?,
            () = said.too_much.cancelled() => return Err(untold("it says more than two numbers")),
        };
        let owner = match owner(&said.text()) {
            Some(owner) if code == 0 => owner,
            _ => return Err(untold(&format!("it ended with exit code {code}"))),
        };
        if owner == (0, 0) {
            return Ok(());
        }
        let body = steps::hand_over(owner, &self.prepared.directories);
        // What could not be given shows where it is missed.
        let given = self.quietly(Place::Helper, &body, self.shown.scripts());
        given.await.map(|_| ())
    }

    /// A script that is no stage of GitLab's.
    async fn quietly(
        &self,
        place: Place,
        body: &Body,
        output: Arc<dyn Output>,
    ) -> Result<i32, Stop> {
        let style = Style::default();
        let script = StageScript::new("ownership".into(), place, |mark| body.script(mark, style));
        let ran = self.run(script, output, &self.bounds(Signal::Cancel)).await;
        ran.map_err(|broken| match broken {
            Broken::Interrupted(why) => Stop::Interrupted(why),
            Broken::Failed(failure) => Stop::SourcesFailed(failure_outcome(None, failure)),
        })
    }
}

fn untold(why: &str) -> Stop {
    Stop::SourcesFailed(Outcome::Failed {
        reason: FailureReason::RunnerSystemFailure,
        exit_code: None,
        message: format!(
            "the build container does not tell its user, which {DISABLE_UMASK} needs to know: `id` was run in it, and \
             {why}; use an image with `id`, or switch the flag off"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_in_the_last_two_lines() {
        for (said, expected) in [
            ("1000\n100\n", Some((1000, 100))),
            ("welcome\n1000\r\n100", Some((1000, 100))),
            ("0\n0\n", Some((0, 0))),
            ("100\n", None),
            ("1000\nstaff\n", None),
            ("", None),
            ("-1\n99999999999\n", None),
        ] {
            assert_eq!(owner(said), expected, "{said:?}");
        }
    }
}
