//! Pid 1 of the helper container: runs the stages that the manager sends, one at a time.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("fleetling-helper {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match fleetling_helper::serve::serve() {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("fleetling-helper: {problem}");
            ExitCode::FAILURE
        }
    }
}
