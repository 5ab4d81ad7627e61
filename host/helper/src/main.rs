//! Pid 1 of the helper container: opens the mount points it is given, then runs the stages that the manager sends.
//! Of a wait container: waits for a service.

use std::fmt::Display;
use std::process::ExitCode;

use fleetling_helper::health;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("fleetling-helper {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(health::COMMAND) => {
            let addresses: Vec<_> = std::env::args().skip(2).collect();
            return ended(health::wait(&addresses).map(|()| 0));
        }
        _ => {}
    }
    for folder in std::env::args_os().skip(1) {
        fleetling_helper::mounts::open(folder.as_ref());
    }
    ended(fleetling_helper::serve::serve())
}

fn ended(with: Result<u8, impl Display>) -> ExitCode {
    match with {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("fleetling-helper: {problem}");
            ExitCode::FAILURE
        }
    }
}
