//! What a job's containers come to on a daemon that answers as it is told to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex as Plain;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::json;

use super::*;
use crate::docker::container::tests::plan;
use crate::docker::fake;
use crate::fleet::ready::Machine as _;

fn executor(machine: &Arc<Machine>) -> Arc<DockerExecutor> {
    let made = DockerExecutor::new(Arc::clone(machine), 0, plan(), usable::Docker::default());
    Arc::new(made.unwrap())
}

/// A daemon that never answers a request to make a container.
#[tokio::test]
async fn cleanup_does_not_wait_for_what_was_asked_of_an_instance_that_is_gone() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let create = post(move || async move {
        tell.send(()).await.unwrap();
        std::future::pending::<StatusCode>().await
    });
    let machine = fake::machine(Router::new().route("/containers/create", create)).await;
    let executor = executor(&machine);
    let asking = tokio::spawn({
        let executor = Arc::clone(&executor);
        async move { executor.site.create(&Role::FedHelper, "sha256:1").await }
    });
    told.recv().await.unwrap();
    asking.abort();
    let cleaning = tokio::spawn({
        let executor = Arc::clone(&executor);
        async move { executor.cleanup().await }
    });
    machine.gone("the cloud deleted it".into());
    let cleaned = timeout(ASKED / 2, cleaning).await.unwrap().unwrap();
    let left = cleaned.unwrap_err();
    assert!(left.contains("the cloud deleted it"), "{left}");
}

/// What `docker inspect` says, and then says, and so on; the last for good.
fn says(states: &[serde_json::Value]) -> axum::routing::MethodRouter {
    let states = Arc::new(Plain::new(states.to_vec()));
    get(move || async move {
        let mut states = states.lock().unwrap();
        let state = match states.len() {
            1 => states[0].clone(),
            _ => states.remove(0),
        };
        if state.is_null() {
            return (StatusCode::NOT_FOUND, r#"{"message":"no such"}"#.to_owned());
        }
        (StatusCode::OK, json!({ "State": state }).to_string())
    })
}

/// A build container was ended by a signal.
async fn ended(build: serde_json::Value, helper: &[serde_json::Value]) -> Result<(), StageFailure> {
    let app = Router::new()
        .route("/containers/build/json", says(&[build]))
        .route("/containers/helper/json", says(helper));
    let machine = fake::machine(app).await;
    let executor = executor(&machine);
    *executor.helper.lock().await = Some(Helper::Fed(Feed::of("helper".into())));
    executor.ended_by_itself("build").await
}

#[tokio::test]
async fn a_signal_comes_from_the_script_from_a_removal_or_from_a_daemon_that_stops() {
    let exited = json!({ "Status": "exited", "Running": false, "ExitCode": 137 });
    let running = json!({ "Status": "running", "Running": true });
    let (removing, missing) = (json!({ "Status": "removing" }), json!(null));
    let alone = [running.clone()];
    assert_eq!(ended(exited.clone(), &alone).await, Ok(()));
    assert_eq!(
        ended(exited.clone(), std::slice::from_ref(&missing)).await,
        Ok(())
    );
    let vanished = Err(StageFailure::ContainerVanished("build".into()));
    for build in [removing, missing] {
        assert_eq!(ended(build, &alone).await, vanished);
    }
    let restarted = Err(failed(RESTARTED.into()));
    for helper in [vec![exited.clone()], vec![running, exited.clone()]] {
        assert_eq!(ended(exited.clone(), &helper).await, restarted);
    }
}
