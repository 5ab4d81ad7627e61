//! Limits and flags of the operator and of the user, on the stage loop.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn timed_out(told: &Told, whose: &str) {
    assert_eq!(reason(&told.outcome), FailureReason::JobExecutionTimeout);
    let line =
        format!("Job failed: execution took longer than 1m0s seconds ({whose} of this runner)");
    assert!(told.log.contains(&line), "{}", told.log);
}

#[tokio::test(start_paused = true)]
async fn the_operator_s_limits_on_preparing_and_on_sources_end_the_job() {
    let minute = Some(Duration::from_secs(60));
    let fake = Fake {
        build: (1000, vec![]),
        ..Fake::default()
    };
    let begun = Instant::now();
    let told = job_by(
        |runner| runner.prepare_timeout = minute,
        json!({}),
        &fake,
        undisturbed,
    )
    .await;
    timed_out(&told, "prepare_timeout");
    assert_eq!(begun.elapsed().as_secs(), 60);

    // All tries together, and nothing behind them.
    let parts = json!({ "variables": [{ "key": "GET_SOURCES_ATTEMPTS", "value": "9" }] });
    let fake = Fake::default().stage("get_sources", 20, vec![Ok(1); 9]);
    let told = job_by(
        |runner| runner.get_sources_timeout = minute,
        parts,
        &fake,
        undisturbed,
    )
    .await;
    timed_out(&told, "get_sources_timeout");
    assert_eq!(told.did.last().map(String::as_str), Some("cleanup"));
    assert!(
        !told.did.contains(&"cleanup_file_variables".into()),
        "{:?}",
        told.did
    );

    // Neither holds for what comes behind.
    let fake = Fake::default().stage("step_script", 100, vec![]);
    let both = |runner: &mut Runner| {
        (runner.prepare_timeout, runner.get_sources_timeout) = (minute, minute)
    };
    assert_eq!(
        job_by(both, json!({}), &fake, undisturbed).await.outcome,
        Outcome::Success
    );
}

#[tokio::test(start_paused = true)]
async fn tries_wait_for_as_long_as_the_flag_says() {
    let variables = |flag: &str| {
        json!({ "variables": [
            { "key": "GET_SOURCES_ATTEMPTS", "value": "4" },
            { "key": "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "value": flag },
        ] })
    };
    // Three pauses between seven stages of a second, and three more to the end.
    for (flag, pauses) in [("true", 5 + 10 + 20), ("false", 1 + 2 + 4)] {
        let fake = Fake::default().stage("get_sources", 1, vec![Ok(1), Ok(1), Ok(1), Ok(0)]);
        let begun = Instant::now();
        let told = job(variables(flag), &fake, undisturbed).await;
        assert_eq!(told.outcome, Outcome::Success);
        assert_eq!(
            begun.elapsed().as_secs(),
            pauses + told.did.len() as u64 - 1,
            "{flag}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_after_script_lost_is_told_and_so_is_its_timeout() {
    let fake = Fake::default().stage("after_script", 1, vec![Ok(3)]);
    let told = job(json!({}), &fake, undisturbed).await;
    let line = "WARNING: after_script failed, but job will continue unaffected: exit code 3";
    assert!(told.log.contains(line), "{}", told.log);
    let fake = Fake::default().stage("after_script", 1000, vec![]);
    let told = job(json!({}), &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    assert!(
        told.log
            .contains("after_script could not run to completion because the timeout was exceeded")
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_umask_the_build_container_s_user_gets_the_sources() {
    let flag = || json!({ "variables": [{ "key": "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "value": "1" }] });
    let with = |said: &'static str| Fake {
        says: HashMap::from([("ownership", said)]),
        ..Fake::default()
    };
    let fake = with("entrypoint\n1000\n100\n");
    let told = job(flag(), &fake, undisturbed).await;
    assert_eq!(told.outcome, Outcome::Success);
    assert_eq!(
        told.did[1..5],
        ["get_sources", "ownership", "ownership", "step_script"]
    );
    let given = fake.scripts.lock().unwrap()["ownership"].clone();
    assert!(given.contains("chown -RP -- 1000:100 "), "{given}");
    // What the build container says is not for the user; the helper says the same here.
    assert_eq!(told.log.matches("entrypoint").count(), 1, "{}", told.log);

    let told = job(flag(), &with("0\n0\n"), undisturbed).await;
    assert_eq!(told.did[1..4], ["get_sources", "ownership", "step_script"]);

    let endless: &'static str = String::leak("7".repeat(2000));
    for said in ["nobody\n", endless] {
        let fake = with(said).stage("ownership", 100_000, vec![]);
        let fake = if said == endless {
            fake
        } else {
            fake.stage("ownership", 1, vec![Ok(127)])
        };
        let told = job(flag(), &fake, undisturbed).await;
        assert_eq!(reason(&told.outcome), FailureReason::RunnerSystemFailure);
        assert!(told.log.contains("does not tell its user"), "{}", told.log);
        assert!(!told.did.contains(&"step_script".into()), "{:?}", told.did);
    }
    // What an entrypoint says to standard error is no answer, however much it is.
    let endless: &'static str = String::leak("0\n".repeat(2000));
    for complaint in ["4\n5\n", endless] {
        let fake = Fake {
            complains: HashMap::from([("ownership", complaint)]),
            ..with("1000\n100\n")
        };
        let told = job(flag(), &fake, undisturbed).await;
        assert_eq!(told.outcome, Outcome::Success);
        let given = fake.scripts.lock().unwrap()["ownership"].clone();
        assert!(given.contains("chown -RP -- 1000:100 "), "{given}");
    }
    // Without the flag nobody is asked.
    let told = job(json!({}), &with("nobody"), undisturbed).await;
    assert!(!told.did.contains(&"ownership".into()));
}
