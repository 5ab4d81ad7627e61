//! The wait container's command, as the manager starts it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

fn health_check(addresses: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetling-helper"));
    command
        .arg("health-check")
        .args(addresses)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn it_ends_once_one_of_the_addresses_takes_a_connection() {
    // Bound and let go, so that nobody listens there at first.
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (late, never) = (free(), free());
    let mut child = health_check(&[&never.to_string(), &late.to_string()])
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let refused = format!("{late}: Connection refused");
    assert!(said.any(|line| line.unwrap().starts_with(&refused)));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it ended before anybody listened"
    );
    let listener = TcpListener::bind(late).unwrap();
    assert!(said.any(|line| line.unwrap() == format!("{late} takes connections")));
    assert!(child.wait().unwrap().success());
    drop(listener);
}

#[test]
fn what_cannot_be_dialled_is_said_at_once() {
    for (addresses, problem) in [
        (&[][..], "no address to dial"),
        (&["db:5432"][..], "\"db:5432\" is no address with a port"),
    ] {
        let output = health_check(addresses).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("fleetling-helper: {problem}\n"));
    }
}
