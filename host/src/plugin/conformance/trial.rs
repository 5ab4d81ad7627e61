//! One plugin on trial for one group: what has been made so far, and the steps that checks share.

use serde_json::Value;
use tokio::time::Instant;

use super::wire::Wire;
use super::{Check, Item, Outcome, Patience, Stop, Subject, Verdict, failed, not_checked};
use crate::fleet::group::{
    CallFailure, IncreaseOutcome, IncreaseRequest, InstanceGroup, InstanceId, InstanceRef,
    InstanceState, Removal, Snapshot,
};
use crate::plugin::actor::NotBuilt;
use crate::plugin::redact::clean;

/// Instances that stand while calls are tried on them.
pub(super) const STANDING: u32 = 2;
/// What `decrease` takes at once.
const AT_ONCE: usize = 50;

/// Where it is tried, with which `plugin_config`.
#[derive(Clone, Copy, Debug)]
pub enum Ground<'a> {
    /// Without a cloud: the configuration is made up, and the wire answers every request by itself.
    Scripted(&'a Value),
    /// A group that the configuration leads to.
    Cloud(&'a Value),
}

pub struct Trial<'a> {
    pub(super) subject: &'a dyn Subject,
    pub(super) wire: &'a Wire,
    pub(super) config: &'a Value,
    is_scripted: bool,
    pub(super) patience: Patience,
    /// Makes tokens of this trial its own.
    pub(super) token: String,
    pub(super) tokens: u32,
    /// The instance that calls go to; absent after it was lost.
    pub(super) seat: Option<Box<dyn InstanceGroup>>,
    pub(super) standing: Standing,
    /// Bytes of the longest memo seen, and whose it is.
    pub(super) longest_memo: (usize, String),
    /// Why nothing that needs a cloud, or one that may be changed, is tried.
    no_cloud: Option<String>,
    no_change: Option<String>,
}

/// What the trial made, and the call that made it.
#[derive(Default)]
pub(super) struct Standing {
    /// True from the first `increase` on: everything in the group is the trial's own.
    pub(super) is_ours: bool,
    pub(super) request: Option<(IncreaseRequest, IncreaseOutcome)>,
    pub(super) instances: Vec<InstanceRef>,
}

impl<'a> Trial<'a> {
    /// `token`: a word of this trial's own, so that no cloud takes its requests for those of another.
    pub fn new(
        subject: &'a dyn Subject,
        wire: &'a Wire,
        ground: Ground<'a>,
        patience: Patience,
        token: String,
    ) -> Self {
        let (config, is_scripted) = match ground {
            Ground::Scripted(config) => (config, true),
            Ground::Cloud(config) => (config, false),
        };
        Self {
            subject,
            wire,
            config,
            is_scripted,
            patience,
            token,
            tokens: 0,
            seat: None,
            standing: Standing::default(),
            longest_memo: (0, String::new()),
            no_cloud: None,
            no_change: None,
        }
    }

    /// Everything, in order; each check is told when it is known.
    pub async fn run(&mut self, mut tell: impl FnMut(&Check)) -> Vec<Check> {
        let mut checks = Vec::new();
        for item in Item::all() {
            self.wire.open();
            let verdict = match self.obstacle(item) {
                Some(why) => Verdict::NotChecked(why),
                None => match self.perform(item).await {
                    Ok(()) => Verdict::Passed,
                    Err(Stop::Failed(why)) => Verdict::Failed(clean(&why)),
                    Err(Stop::NotChecked(why)) => Verdict::NotChecked(clean(&why)),
                    Err(Stop::Inapplicable(why)) => Verdict::Inapplicable(clean(&why)),
                },
            };
            self.learn(item, &verdict);
            let check = Check {
                name: item.name(),
                verdict,
            };
            tell(&check);
            checks.push(check);
        }
        checks
    }

    fn obstacle(&self, item: Item) -> Option<String> {
        use Item as I;
        match item {
            I::DescribeIsPure | I::DescriptionIsUsable | I::InitRefuses => None,
            // Whatever went wrong before, what was refused so far is known.
            I::GrantsSuffice => None,
            I::InitIsQuiet | I::OpenAnswers | I::SnapshotIsStable => self.no_cloud.clone(),
            _ => self.no_cloud.clone().or_else(|| self.no_change.clone()),
        }
    }

    /// What one verdict means for the items after it.
    fn learn(&mut self, item: Item, verdict: &Verdict) {
        if self.is_scripted || self.no_cloud.is_some() || *verdict == Verdict::Passed {
            return;
        }
        let after = || format!("after what was found of \"{}\"", item.name());
        match item {
            Item::InitIsQuiet if self.seat.is_none() => self.no_cloud = Some(after()),
            Item::OpenAnswers | Item::SnapshotIsStable => self.no_cloud = Some(after()),
            Item::IncreaseAdds => {
                let why = match verdict {
                    Verdict::NotChecked(why) => why.clone(),
                    _ => after(),
                };
                self.no_change = Some(why);
            }
            _ => {}
        }
    }

    async fn perform(&mut self, item: Item) -> Outcome {
        match item {
            Item::DescribeIsPure | Item::DescriptionIsUsable | Item::InitRefuses => {}
            Item::InitIsQuiet if self.is_scripted => return self.scripted_init_is_quiet().await,
            Item::Survives(fault) if self.is_scripted => {
                return self.scripted_survives(fault).await;
            }
            Item::GrantsSuffice if self.is_scripted => return self.scripted_grants_suffice(),
            _ if self.is_scripted => return Err(not_checked("needs --config")),
            _ => {}
        }
        match item {
            Item::DescribeIsPure => self.describe_is_pure().await,
            Item::DescriptionIsUsable => self.description_is_usable().await,
            Item::InitRefuses => self.init_refuses().await,
            Item::InitIsQuiet => self.init_is_quiet().await,
            Item::OpenAnswers => self.open_answers().await,
            Item::SnapshotIsStable => self.snapshot_is_stable().await,
            Item::IncreaseAdds => self.increase_adds().await,
            Item::ConnectBeforeRunning => self.connect_before_running().await,
            Item::IncreaseRepeated => self.increase_repeated().await,
            Item::ConnectRunning => self.connect_running().await,
            Item::ConnectUnknown => self.connect_unknown().await,
            Item::HeartbeatIsQuick => self.heartbeat_is_quick().await,
            Item::Survives(fault) => self.survives(fault).await,
            Item::DecreaseNothing => self.decrease_nothing().await,
            Item::DecreaseTwice => self.decrease_twice().await,
            Item::IncreaseKilled => self.increase_killed().await,
            Item::IncreasePartial => self.increase_partial().await,
            Item::ShutdownKeeps => self.shutdown_keeps().await,
            Item::MemosAreShort => self.memos_are_short(),
            Item::GrantsSuffice => self.grants_suffice(),
        }
    }

    /// Removes everything the trial made; the error names what is left.
    pub async fn sweep(&mut self) -> Result<(), String> {
        if !self.standing.is_ours {
            return Ok(());
        }
        self.wire.open();
        let end = Instant::now() + self.patience.cloud;
        let mut why = String::new();
        let mut left: Vec<InstanceRef> = Vec::new();
        while Instant::now() < end {
            match self.snapshot().await {
                Ok(snapshot) => {
                    left = staying(&snapshot);
                    // What the cloud still wants may come yet.
                    if left.is_empty() && snapshot.target.unwrap_or(0) == 0 {
                        return Ok(());
                    }
                    for some in left.chunks(AT_ONCE) {
                        if let Err(stop) = self.decrease(some.to_vec()).await {
                            why = stop.why();
                        }
                    }
                }
                Err(stop) => why = stop.why(),
            }
            tokio::time::sleep(self.patience.pause).await;
        }
        let left: Vec<_> = left.into_iter().map(|one| one.id.0).collect();
        Err(clean(&format!(
            "instances of this check are left: {}; next: remove them in the cloud ({why})",
            left.join(", ")
        )))
    }

    /// A fresh instance of the plugin, as after a restart.
    pub(super) async fn fresh(&self) -> Result<Box<dyn InstanceGroup>, Stop> {
        let built = self.subject.start(self.config).await;
        built.map_err(|why| match why {
            NotBuilt::Refused(problem) => failed(format!("`init` refused: {problem}")),
            NotBuilt::Lost(lost) => failed(lost.0),
        })
    }

    /// The instance that calls go to, built anew if the last one was lost.
    pub(super) async fn seat(&mut self) -> Result<&dyn InstanceGroup, Stop> {
        if self.seat.is_none() {
            self.seat = Some(self.fresh().await?);
        }
        match &self.seat {
            Some(seat) => Ok(&**seat),
            None => Err(failed("the plugin could not be started")),
        }
    }

    /// A call's answer as a check wants it: a lost instance is forgotten, so that the next call has a fresh one.
    pub(super) fn answered<T>(
        &mut self,
        call: &str,
        answer: Result<T, CallFailure>,
    ) -> Result<T, Stop> {
        answer.map_err(|failure| {
            if !matches!(failure, CallFailure::Refused(_)) {
                self.seat = None;
            }
            failed(format!("`{call}`: {failure}"))
        })
    }

    pub(super) async fn snapshot(&mut self) -> Result<Snapshot, Stop> {
        let answer = self.seat().await?.update().await;
        let snapshot = self.answered("update", answer)?;
        for instance in &snapshot.instances {
            if instance.memo.len() > self.longest_memo.0 {
                self.longest_memo = (instance.memo.len(), instance.id.0.clone());
            }
        }
        Ok(snapshot)
    }

    /// Waits until so many instances are listed alive, twice in a row, and the cloud's own target is the same.
    pub(super) async fn settled(&mut self, expected: usize) -> Result<Snapshot, Stop> {
        let end = Instant::now() + self.patience.cloud;
        let mut in_a_row = 0;
        loop {
            let snapshot = self.snapshot().await?;
            let (listed, target) = (alive(&snapshot).len(), snapshot.target);
            let is_target = target.is_none_or(|target| target as usize == expected);
            in_a_row = if listed == expected && is_target {
                in_a_row + 1
            } else {
                0
            };
            if in_a_row == 2 {
                return Ok(snapshot);
            }
            // More than were asked for do not go by themselves.
            let is_over = listed > expected || target.is_some_and(|t| t as usize > expected);
            if Instant::now() > end || is_over && in_a_row == 0 && self.is_lasting(expected).await {
                let target = target.map_or(String::new(), |t| format!(", its target is {t}"));
                return Err(failed(format!(
                    "the group should have {expected} instances, `update` lists {listed}{target}"
                )));
            }
            tokio::time::sleep(self.patience.pause).await;
        }
    }

    /// Whether the group stays larger than expected for some looks.
    async fn is_lasting(&mut self, expected: usize) -> bool {
        for _ in 0..LOOKS {
            tokio::time::sleep(self.patience.pause).await;
            let Ok(snapshot) = self.snapshot().await else {
                return true;
            };
            let target = snapshot.target.unwrap_or_default() as usize;
            if alive(&snapshot).len() <= expected && target <= expected {
                return false;
            }
        }
        true
    }

    pub(super) fn request(&mut self, count: u32) -> IncreaseRequest {
        self.tokens += 1;
        IncreaseRequest {
            token: format!("{}-{}", self.token, self.tokens),
            count,
            avoid_pools: Vec::new(),
        }
    }

    pub(super) async fn increase(
        &mut self,
        request: &IncreaseRequest,
    ) -> Result<IncreaseOutcome, Stop> {
        self.standing.is_ours = true;
        let answer = self.seat().await?.increase(request.clone()).await;
        self.answered("increase", answer)
    }

    pub(super) async fn decrease(
        &mut self,
        instances: Vec<InstanceRef>,
    ) -> Result<Vec<Removal>, Stop> {
        let answer = self.seat().await?.decrease(instances).await;
        self.answered("decrease", answer)
    }

    /// Adds one instance and waits until it is listed.
    pub(super) async fn add_one(&mut self) -> Result<InstanceRef, Stop> {
        let request = self.request(1);
        let outcome = self.increase(&request).await?;
        if outcome.accepted != 1 {
            return Err(failed(format!("`increase` of one: {}", told(&outcome))));
        }
        let expected = self.standing.instances.len() + 1;
        let snapshot = self.settled(expected).await?;
        self.others(&snapshot)
            .pop()
            .ok_or_else(|| failed("`update` lists other instances than before"))
    }

    /// Those alive that do not stand.
    pub(super) fn others(&self, snapshot: &Snapshot) -> Vec<InstanceRef> {
        let mut others = alive(snapshot);
        others.retain(|one| !self.stands(&one.id));
        others
    }

    fn stands(&self, id: &InstanceId) -> bool {
        self.standing.instances.iter().any(|one| one.id == *id)
    }

    /// Removes all but those that stand.
    pub(super) async fn restore(&mut self) -> Outcome {
        let snapshot = self.snapshot().await?;
        for some in self.others(&snapshot).chunks(AT_ONCE) {
            let removals = self.decrease(some.to_vec()).await?;
            for removal in removals {
                if let Removal::Refused(problem) = removal {
                    return Err(failed(format!("`decrease` refused: {problem}")));
                }
            }
        }
        let expected = self.standing.instances.len();
        self.settled(expected).await.map(drop)
    }
}

/// Looks at a group that is too large before it is called so.
const LOOKS: usize = 4;

/// Those of a snapshot that serve, or will.
pub(super) fn alive(snapshot: &Snapshot) -> Vec<InstanceRef> {
    use InstanceState as S;
    let is_lost = |state| matches!(state, S::Failed | S::Stopped);
    refs(snapshot, |state| !is_ending(state) && !is_lost(state))
}

/// Those that somebody must end, whatever became of them.
fn staying(snapshot: &Snapshot) -> Vec<InstanceRef> {
    refs(snapshot, |state| !is_ending(state))
}

fn is_ending(state: InstanceState) -> bool {
    matches!(state, InstanceState::Deleting | InstanceState::Deleted)
}

fn refs(snapshot: &Snapshot, is_meant: impl Fn(InstanceState) -> bool) -> Vec<InstanceRef> {
    let meant = snapshot.instances.iter().filter(|one| is_meant(one.state));
    let refs = meant.map(|one| InstanceRef {
        id: one.id.clone(),
        memo: one.memo.clone(),
    });
    refs.collect()
}

/// An outcome in words.
pub(super) fn told(outcome: &IncreaseOutcome) -> String {
    let mut told = format!("{} accepted", outcome.accepted);
    for problem in &outcome.problems {
        told.push_str(&format!(", {problem}"));
    }
    told
}
