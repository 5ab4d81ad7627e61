//! `increase` cut off at every moment of its traffic, as by a crash of the manager, and said again by a fresh instance.
//!
//! ```text
//! request 0 ─ answer ─ request 1 ─ answer ─ … ─ end    killed ✝ before each request, after each answer of the cloud,
//!    ✝          ✝         ✝          ✝           ✝     and with its own answer unread, requests or none
//!                                                      then: rebuilt, `update`, the same token again, `update`
//! ```
//! What must hold: the group grew by what was asked for, once, and `update` lists all of it.

use super::trial::{alive, told};
use super::wire::Moment;
use super::{Outcome, Stop, Trial, failed};
use crate::fleet::group::IncreaseRequest;

/// Requests of one `increase` that are tried.
const POSITIONS: usize = 8;
/// Asked for each time: two tell a lost one from a doubled one.
const ASKED: u32 = 2;

impl Trial<'_> {
    pub(super) async fn increase_killed(&mut self) -> Outcome {
        for at in 0..POSITIONS {
            for moment in [Moment::Before, Moment::After] {
                let cut = self.killed_at(moment, at).await;
                self.wire.open();
                // The next check begins with the group as it was.
                let restored = self.restore().await;
                let is_cut = cut?;
                restored?;
                if !is_cut {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// False if the call ended before that request: then its answer is what nobody read.
    async fn killed_at(&mut self, moment: Moment, at: usize) -> Result<bool, Stop> {
        let request = self.request(ASKED);
        let standing = self.standing.instances.len();
        let most = standing + ASKED as usize;
        let is_cut = self.cut(&request, moment, at).await?;
        self.wire.open();
        self.seat = None;
        let place = match moment {
            _ if !is_cut => "killed as it answered".to_owned(),
            Moment::Before => format!("killed before its request {}", at + 1),
            Moment::After => format!("killed after the answer to its request {}", at + 1),
        };
        let seen = self.snapshot().await?;
        let listed = alive(&seen).len();
        if listed > most {
            return Err(failed(format!(
                "{place}: `update` lists {listed} instances, {most} at most were asked for"
            )));
        }
        let again = self.increase(&request).await?;
        if again.accepted != ASKED {
            return Err(failed(format!(
                "{place}: the same token again is answered {}; next: finish what a token began",
                told(&again)
            )));
        }
        match self.settled(most).await {
            Ok(_) => Ok(is_cut),
            Err(stop) => Err(failed(format!(
                "{place}, and rebuilt, the same token again: {}; next: keep the token before asking the cloud, or \
                 have the cloud keep it",
                stop.why()
            ))),
        }
    }

    /// The call until the deadly request, or until its end: then it was not killed.
    async fn cut(
        &mut self,
        request: &IncreaseRequest,
        moment: Moment,
        at: usize,
    ) -> Result<bool, Stop> {
        self.standing.is_ours = true;
        let seat = self.fresh().await?;
        // Only now: what `init` asks for, against its contract, is not to wait for ever.
        self.wire.kill(moment, at);
        tokio::select! {
            () = self.wire.killed() => Ok(true),
            outcome = seat.increase(request.clone()) => {
                self.answered("increase", outcome).map(|_| false)
            }
        }
    }
}
