//! Whose a job is, by every answer to "running".

use super::*;
use crate::coordinator::fake::{FakeGitlab, job, plain, signalled};

fn record() -> JobRecord {
    let url = "https://gitlab.example/".parse().expect("an address");
    JobRecord::new(&url, "abcdefghi", job(), false)
}

#[tokio::test(start_paused = true)]
async fn answers_by_table() {
    use Updated as U;
    for (answer, expected, kept) in [
        (plain(U::Succeeded), "ours", true),
        (plain(U::Pending), "ours", true),
        (signalled(U::Succeeded, Signal::Cancel), "canceled", true),
        (
            signalled(U::Gone("403".into()), Signal::Abort),
            "not ours",
            false,
        ),
        (plain(U::Conflict("409".into())), "not ours", false),
        (plain(U::LogInvalid), "not ours", false),
    ] {
        let (gitlab, store) = (FakeGitlab::new(), Store::in_memory());
        let said = format!("{answer:?}");
        gitlab.on_update([answer]);
        let found = match commit(&*gitlab, &store, record()).await {
            Commitment::Ours(pending) => {
                assert!(pending.record().confirmed);
                "ours"
            }
            Commitment::Canceled(_) => "canceled",
            Commitment::NotOurs(_) => "not ours",
            Commitment::Unheard(..) => "unheard",
        };
        assert_eq!(found, expected, "{said}");
        assert_eq!(
            store.list("job").map(|names| names.len() == 1).ok(),
            Some(kept),
            "{said}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_gitlab_is_asked_again_but_not_for_ever() {
    let (gitlab, store) = (FakeGitlab::new(), Store::in_memory());
    gitlab.on_update([plain(Updated::Failed("502".into()))]);
    assert!(matches!(
        commit(&*gitlab, &store, record()).await,
        Commitment::Ours(_)
    ));
}

/// (answers but the last hundred, the hundred, whether GitLab is still to be told)
#[tokio::test(start_paused = true)]
async fn a_job_that_gitlab_may_have_confirmed_is_not_forgotten() {
    let failed = || plain(Updated::Failed("502".into()));
    let unreached = || plain(Updated::Unreached("refused".into()));
    for (first, then, unheard) in [
        (failed(), failed(), true),
        (failed(), unreached(), true),
        (unreached(), unreached(), false),
    ] {
        let (gitlab, store) = (FakeGitlab::new(), Store::in_memory());
        let said = format!("{first:?} {then:?}");
        gitlab.on_update([vec![first], vec![then; 100]].concat());
        let started = tokio::time::Instant::now();
        let found = commit(&*gitlab, &store, record()).await;
        assert!(started.elapsed() < Duration::from_secs(91));
        assert_eq!(matches!(found, Commitment::Unheard(..)), unheard, "{said}");
        assert_eq!(
            store.list("job").map(|names| names.len()).ok(),
            Some(usize::from(unheard)),
            "{said}"
        );
    }
}
