//! Each kind of a provider's problem slows requests in its own way, says so, and costs no job that can still be served.

use super::*;
use crate::scaler::Verdict;
use crate::scaler::verdict::Hold;

const MINUTE: Duration = Duration::from_secs(60);

struct Kind {
    kind: ProblemKind,
    retry_after: Option<Duration>,
    /// Seconds between requests.
    gaps: &'static [u64],
    /// Whether GitLab is still asked for more jobs meanwhile.
    asks_gitlab: bool,
}

const KINDS: [Kind; 6] = [
    Kind {
        kind: ProblemKind::Throttled,
        retry_after: Some(Duration::from_secs(7)),
        gaps: &[7, 7, 7, 7, 7, 7],
        asks_gitlab: true,
    },
    Kind {
        kind: ProblemKind::Throttled,
        retry_after: None,
        gaps: &[1, 2, 4, 8, 16, 32, 60, 60],
        asks_gitlab: true,
    },
    Kind {
        kind: ProblemKind::OutOfCapacity,
        retry_after: None,
        gaps: &[10, 20, 40, 80, 160, 225],
        asks_gitlab: true,
    },
    Kind {
        kind: ProblemKind::Quota,
        retry_after: None,
        gaps: &[10, 20, 40, 80, 160, 225],
        asks_gitlab: true,
    },
    Kind {
        kind: ProblemKind::Forbidden,
        retry_after: None,
        gaps: &[225, 225, 225],
        asks_gitlab: false,
    },
    Kind {
        kind: ProblemKind::Unauthenticated,
        retry_after: None,
        gaps: &[225, 225, 225],
        asks_gitlab: false,
    },
];

impl Kind {
    fn problem(&self) -> Problem {
        Problem {
            kind: self.kind,
            message: "the cloud said no to asg; next: mend it".into(),
            subject: Some("what it is about".into())
                .filter(|_| self.kind != ProblemKind::OutOfCapacity),
            code: Some("SaidNo".into()),
            retry_after: self.retry_after,
        }
    }
}

/// Seconds between the requests so far; a call takes half of one.
fn gaps(house: &House) -> Vec<u64> {
    let cloud = house.group.cloud();
    let pairs = cloud.asked.windows(2);
    let between = |pair: &[(tokio::time::Instant, Vec<String>)]| {
        let call = Duration::from_millis(500);
        (pair[1].0 - pair[0].0 - call).as_secs()
    };
    pairs.map(between).collect()
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_problem_slows_requests_in_its_own_way_and_fails_no_waiting_job() {
    for kind in KINDS {
        let name = kind.kind;
        let house = house(autoscaler(0, 5));
        house.until("read", |s| s.opened.is_some()).await;
        sleep(SECOND).await;
        house.group.cloud().refuses = Some(kind.problem());
        let mut events = house.scaler.events();
        let reservation = house.scaler.reserve().await.unwrap();
        let patience = autoscaler(0, 5).instance_acquire_timeout;
        let job = tokio::spawn({
            let scaler = house.scaler.clone();
            async move { timeout(patience, scaler.acquire(reservation)).await }
        });
        // The last moment from which one quarter of the wait is left, and the time to make an instance.
        let wait: u64 = kind.gaps.iter().sum();
        sleep(Duration::from_secs(wait + 10).min(11 * MINUTE)).await;
        let found = gaps(&house);
        let expected = &kind.gaps[..found.len().min(kind.gaps.len())];
        assert_eq!(&found[..expected.len()], expected, "{name}");
        assert!(expected.len() >= 2, "{name}: {found:?}");
        assert!(!job.is_finished(), "{name}: the job waits on");

        let said = kind.problem().to_string();
        let status = house.scaler.status().borrow().clone();
        assert_eq!(status.waiting, 1, "{name}");
        assert_eq!(status.problem.as_ref(), Some(&said), "{name}");
        let mut held = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let FleetEvent::Decided(decided) = event
                && let Verdict::Hold(Hold::Problem(why)) = decided.verdict
            {
                held.push(why);
            }
        }
        assert!(held.contains(&said), "{name}: {held:?}");
        let another = house.scaler.reserve().await;
        match kind.asks_gitlab {
            true => assert!(another.is_ok(), "{name}: {another:?}"),
            false => assert_eq!(
                another.unwrap_err().to_string(),
                format!("the instance group cannot be used: {said}")
            ),
        }

        // Nobody tells that it was mended: the next try, within the job's wait, finds out.
        house.group.cloud().refuses = None;
        let served = job.await.unwrap();
        assert!(served.is_ok(), "{name}: it was served within its wait");
        let status = house.scaler.status().borrow().clone();
        assert_eq!(status.problem, None, "{name}");
        assert!(house.scaler.reserve().await.is_ok(), "{name}: healed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_problem_of_growing_does_not_keep_what_is_ready_from_who_waits() {
    for kind in KINDS {
        let mut configured = autoscaler(1, 5);
        configured.max_use_count = 0;
        configured.policies[0].preemptive_mode = false;
        let house = house(configured);
        house.until("one idle", |s| s.available == 1).await;
        house.group.cloud().refuses = Some(kind.problem());
        let first = house.scaler.reserve().await.unwrap();
        let second = house.scaler.reserve().await.unwrap();
        let first = house.scaler.acquire(first).await.unwrap();
        house.until("refused", |s| s.problem.is_some()).await;
        let waiting = tokio::spawn({
            let scaler = house.scaler.clone();
            async move { scaler.acquire(second).await }
        });
        sleep(MINUTE).await;
        first.release(Health::Good);
        let served = timeout(SECOND, waiting).await;
        assert!(
            served.is_ok(),
            "{}: the slot that came free serves it",
            kind.kind
        );
    }
}

#[tokio::test(start_paused = true)]
async fn launches_that_fail_later_slow_requests_like_a_refusal_and_leave_no_place_to_fill() {
    let house = house(autoscaler(0, 5));
    house.until("read", |s| s.opened.is_some()).await;
    sleep(SECOND).await;
    let shortage = Problem {
        kind: ProblemKind::OutOfCapacity,
        message: "there is none left".into(),
        subject: None,
        code: None,
        retry_after: None,
    };
    house.group.cloud().launches_fail = Some(shortage.clone());
    let mut events = house.scaler.events();
    let reservation = house.scaler.reserve().await.unwrap();
    let job = tokio::spawn({
        let scaler = house.scaler.clone();
        async move { scaler.acquire(reservation).await }
    });
    sleep(5 * MINUTE).await;
    // Each wait begins when a listing tells of the failure, some seconds after the request.
    let found = gaps(&house);
    for (gap, wait) in found.iter().zip([10, 20, 40, 80]) {
        assert!((wait..wait + 6).contains(gap), "{found:?}");
    }
    assert!(found.len() >= 4, "{found:?}");
    assert!(!job.is_finished(), "the job waits on");
    let status = house.scaler.status().borrow().clone();
    assert_eq!(status.problem, Some(shortage.to_string()));
    assert_eq!(house.group.cloud().target, 0, "no place is left open");
    let why = shortage.to_string();
    let (mut told, mut never_ran, mut accepted) = (false, Vec::new(), Vec::new());
    while let Ok(event) = events.try_recv() {
        match event {
            FleetEvent::RequestRefused { problem } => told |= problem == why,
            FleetEvent::Listed {
                instance,
                never_ran: problem,
                ..
            } => {
                assert_eq!(problem.as_ref(), Some(&why), "{instance}");
                never_ran.push(instance);
            }
            FleetEvent::RemovalAccepted { instance } => accepted.push(instance),
            _ => {}
        }
    }
    assert!(told, "the refusal is told to whoever asks why");
    assert!(accepted.len() >= 4 && never_ran.starts_with(&accepted));

    house.group.cloud().launches_fail = None;
    let served = job.await.unwrap();
    assert!(served.is_ok(), "it is served once there is capacity");
    assert_eq!(house.group.cloud().target, 1);
    assert_eq!(house.group.cloud().most, 1);
}
