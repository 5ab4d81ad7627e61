//! For tests: a daemon on loopback that answers as it is told to, and a job's place on it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::daemon::Daemon;
use super::line::{Line, Wires};
use super::machine::{Facts, Machine};
use super::stage::Addresses;
use super::way::Path;
use crate::config::usable;
use crate::fleet::group::InstanceId;

/// With one slot, on a daemon that answers with `app` and to a ping by itself.
pub(super) async fn machine(app: Router) -> Arc<Machine> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let docker = usable::Docker {
        host: Some(format!("tcp://{address}")),
        ..usable::Docker::default()
    };
    let app = app.route("/_ping", get(|| async { "OK" }));
    tokio::spawn(async { axum::serve(listener, app).await });
    let instance = InstanceId("i-1".into());
    let path = Arc::new(Path::Own {
        instance: instance.clone(),
        daemon: Arc::new(Daemon::of(&docker, &|_| None).expect("an address without TLS")),
    });
    let connected = path.dial(Duration::from_secs(5)).await;
    let connected = connected.expect("it answers");
    let (changes, _) = watch::channel(0);
    let (gone, gone_seen) = watch::channel(None);
    let closing = CancellationToken::new();
    let wires = Wires {
        changes: changes.clone(),
        gone: gone_seen,
        closing: closing.clone(),
    };
    let keep = || Line::keep(connected.clone(), Arc::clone(&path), wires.clone());
    Arc::new(Machine {
        instance,
        addresses: Addresses::default(),
        facts: Facts {
            arch: "x86_64".into(),
            api: (1, 41),
            helper_image: "sha256:1".into(),
            helper_binary: "helper".into(),
        },
        control: keep(),
        slots: vec![keep()],
        changes,
        gone,
        closing,
    })
}
