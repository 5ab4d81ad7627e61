//! Pid 1 of the helper container: opens the mount points it is given, then runs the stages that the manager sends.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("fleetling-helper {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    for folder in std::env::args_os().skip(1) {
        fleetling_helper::mounts::open(folder.as_ref());
    }
    match fleetling_helper::serve::serve() {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("fleetling-helper: {problem}");
            ExitCode::FAILURE
        }
    }
}
