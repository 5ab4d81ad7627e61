//! Launches that failed: what the group's activities tell of instances that it should have and does not.
//!
//! ```text
//! SetDesiredCapacity ─▶ place ─▶ launch under way ─▶ instance
//!                         ▲            │ failed
//!                         │            ▼
//!      AWS tries again,   └──── listed as a failed instance ─ decrease ─▶ the group is made smaller by one, down to
//!      some minutes later                                                 what exists
//! ```
//!
//! A place without an instance would be filled whenever AWS finds one, long after the job went elsewhere. So a failed
//! launch is listed as an instance that will never run: the host removes it like any other, and asks again when it
//! sees fit. Which launches were given up is kept, because AWS goes on listing them.

use fleetling_plugin_sdk::{Host, Instance, InstanceState, Problem, ProblemKind};

use crate::kept;
use crate::member::pool;
use crate::xml::activities::Activity;
use crate::xml::autoscaling::{AutoScalingGroup, Member};
use crate::xml::millis;

/// Before the ID of an activity that stands for an instance; no instance's begins like this.
const PREFIX: &str = "launch:";
const KEY: &str = "launches";
/// As many as a page of activities holds.
const KEPT: usize = 100;
/// In milliseconds. An older failure is not why a place is empty now: AWS tries again within minutes.
const OLDEST: u64 = 900_000;

/// How many instances the group wants and does not have. Unknown, and so none, where it counts in other units.
pub(crate) fn lacking(group: &AutoScalingGroup) -> u32 {
    if group.is_weighted() {
        return 0;
    }
    group.desired_capacity.saturating_sub(existing(group))
}

/// Those of them that no launch is on its way to.
pub(crate) fn empty(group: &AutoScalingGroup, activities: &[Activity]) -> u32 {
    let launches = activities.iter().filter(|one| is_launch(one));
    let under_way = launches.filter(|one| is_under_way(one) && !has_member(group, one));
    lacking(group).saturating_sub(u32::try_from(under_way.count()).unwrap_or(u32::MAX))
}

/// Members that count towards the group's size.
pub(crate) fn existing(group: &AutoScalingGroup) -> u32 {
    let members = group.instances.member.iter();
    u32::try_from(members.filter(|one| counts(one)).count()).unwrap_or(u32::MAX)
}

fn counts(member: &Member) -> bool {
    let state = member.lifecycle_state.as_str();
    let leaving = [
        "Terminat",
        "Detach",
        "EnteringStandby",
        "Standby",
        "Warmed:",
    ];
    !leaving.iter().any(|prefix| state.starts_with(prefix))
}

/// Failed launches, the newest first, at most as many as are lacking beside those under way. `since` is when the group
/// was last asked for more, and `now` the present, both in Unix milliseconds.
pub(crate) fn failed(
    group: &AutoScalingGroup,
    activities: &[Activity],
    given_up: &[String],
    since: Option<u64>,
    now: u64,
) -> Vec<Instance> {
    let launches = activities.iter().filter(|one| is_launch(one));
    let places = empty(group, activities) as usize;
    let since = since.unwrap_or(0).max(now.saturating_sub(OLDEST));
    let mut failed: Vec<(u64, &Activity)> = launches
        .filter(|one| one.status_code == "Failed" && !given_up.contains(&one.activity_id))
        .filter_map(|one| Some((millis(&one.start_time)?, one)))
        .filter(|(started, _)| *started >= since)
        .collect();
    failed.sort_by_key(|(started, _)| std::cmp::Reverse(*started));
    failed.truncate(places);
    failed
        .into_iter()
        .map(|(started, activity)| listed(group, activity, started))
        .collect()
}

fn is_launch(activity: &Activity) -> bool {
    activity
        .description
        .starts_with("Launching a new EC2 instance")
}

fn is_under_way(activity: &Activity) -> bool {
    !matches!(
        &*activity.status_code,
        "Successful" | "Failed" | "Cancelled"
    )
}

/// Whether its instance is a member already, and so counted.
fn has_member(group: &AutoScalingGroup, activity: &Activity) -> bool {
    let members = group.instances.member.iter();
    let mut ids = members.map(|one| one.instance_id.as_str());
    ids.any(|id| activity.description.ends_with(id))
}

fn listed(group: &AutoScalingGroup, activity: &Activity, started: u64) -> Instance {
    let told = activity.status_message.as_str();
    let (zone, kind) = (zone(activity), instance_type(told));
    let pool = zone.as_ref().map(|zone| pool(zone, kind.as_deref()));
    let mut extras = Vec::new();
    extras.extend(zone.map(|zone| ("zone".to_owned(), zone)));
    extras.extend(kind.map(|kind| ("type".to_owned(), kind)));
    Instance {
        id: format!("{PREFIX}{}", activity.activity_id),
        state: InstanceState::Failed,
        created_at: Some(started),
        reason: Some(problem(
            &group.auto_scaling_group_name,
            told,
            pool.as_deref(),
        )),
        pool,
        generation: None,
        interruption: None,
        request: None,
        memo: String::new(),
        extras,
    }
}

/// From the activity's details, else from the sentence, which names it in parentheses.
fn zone(activity: &Activity) -> Option<String> {
    let details: serde_json::Value = serde_json::from_str(&activity.details).unwrap_or_default();
    if let Some(zone) = details
        .get("Availability Zone")
        .and_then(|zone| zone.as_str())
    {
        return Some(zone.to_owned());
    }
    let (_, rest) = activity.status_message.split_once("you requested (")?;
    let (zone, _) = rest.split_once(')')?;
    Some(zone.to_owned())
}

/// The first word of a sentence that is an instance type: `m7i.large`, `u-6tb1.metal`.
fn instance_type(told: &str) -> Option<String> {
    const SIZES: [&str; 7] = [
        "nano", "micro", "small", "medium", "large", "metal", "48xlarge",
    ];
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let words = told.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'));
    let mut types = words.filter(|word| {
        word.split_once('.').is_some_and(|(family, size)| {
            is_part(family)
                && is_part(size)
                && family.starts_with(|c: char| c.is_ascii_lowercase())
                && family.contains(|c: char| c.is_ascii_digit())
                && SIZES.iter().any(|known| size.contains(known))
        })
    });
    types.next().map(str::to_owned)
}

/// AWS's sentence as something the host can act on. Its codes stand within sentences, or not at all.
fn problem(group: &str, told: &str, pool: Option<&str>) -> Problem {
    const CODES: [&str; 9] = [
        "InsufficientInstanceCapacity",
        "InsufficientFreeAddressesInSubnet",
        "UnfulfillableCapacity",
        "SpotMaxPriceTooLow",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "VolumeLimitExceeded",
        "InsufficientHostCapacity",
    ];
    let code = CODES.into_iter().find(|code| told.contains(code));
    let lower = told.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (kind, next) = if code.is_some_and(|code| code.ends_with("Exceeded"))
        || says(&["limit", "quota", "already running", "count exceeded"])
    {
        (
            ProblemKind::Quota,
            "raise the account's quota, or lower max_instances",
        )
    } else if code.is_some() || says(&["sufficient", "no spot capacity", "enough free addresses"]) {
        (
            ProblemKind::OutOfCapacity,
            "give the group more zones or instance types",
        )
    } else {
        // Also what AWS may not do for the group: our own permissions are not at fault, and GitLab is asked on.
        (
            ProblemKind::InvalidConfig,
            "correct the group's launch template, or what AWS may do for the group",
        )
    };
    let place = pool.map_or_else(|| "an unknown zone".to_owned(), str::to_owned);
    let told = told
        .trim()
        .trim_end_matches("Launching EC2 instance failed.")
        .trim()
        .trim_end_matches('.');
    let mut problem = Problem::new(
        kind,
        format!("group `{group}` could not launch an instance in {place}: {told}; next: {next}"),
    );
    problem.subject = pool.map(str::to_owned);
    problem.code = code.map(str::to_owned);
    problem
}

/// The activity that a listed instance stands for; none for a real one.
pub(crate) fn activity(id: &str) -> Option<&str> {
    id.strip_prefix(PREFIX)
}

/// Launches that were given up.
pub(crate) fn given_up(host: &dyn Host) -> Vec<String> {
    kept::read(host, KEY)
}

/// Remembers some. Where they cannot be kept they are listed until AWS has forgotten them, and given up each time: down
/// to what exists, which is right.
pub(crate) fn give_up(host: &dyn Host, activities: &[String]) {
    kept::change(host, KEY, |kept: &mut Vec<String>| {
        kept.extend(activities.iter().cloned());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    });
}
