//! Waits until a service takes a connection: the wait container's whole work.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// The argument that makes the helper do this, followed by addresses such as `172.17.0.2:5432`.
pub const COMMAND: &str = "health-check";
/// How long one connection may take.
const DIAL: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Dials every address again and again until one takes a connection; whoever started it ends a wait that is too long.
/// What goes wrong is told on standard output, each trouble once.
///
/// # Errors
/// If there is nothing to dial.
pub fn wait(addresses: &[String]) -> Result<(), String> {
    let parsed: Result<Vec<SocketAddr>, _> = addresses
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| format!("{text:?} is no address with a port"))
        })
        .collect();
    let (connected, first) = channel();
    for address in parsed? {
        println!(
            "waiting for TCP connection to {} on {}...",
            address.ip(),
            address.port()
        );
        let connected = connected.clone();
        thread::spawn(move || dial(address, &connected));
    }
    drop(connected);
    let address = first.recv().map_err(|_| "no address to dial".to_owned())?;
    println!("{address} takes connections");
    Ok(())
}

fn dial(address: SocketAddr, connected: &Sender<SocketAddr>) {
    let mut told = String::new();
    loop {
        let problem = match TcpStream::connect_timeout(&address, DIAL) {
            Ok(_) => break,
            Err(problem) => problem.to_string(),
        };
        if problem != told {
            println!("{address}: {problem}");
            told = problem;
        }
        thread::sleep(PAUSE);
    }
    // Another address may have been quicker.
    let _ = connected.send(address);
}
