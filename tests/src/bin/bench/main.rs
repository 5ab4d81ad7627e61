//! `make bench`: what Fleetling costs, as one table of medians from one run. Nothing here passes or fails by a time.

mod extent;
mod groups;
mod guest;
mod job;
mod machine;
mod memory;
mod plugin;
mod scaler;
mod simulate;
mod site;
mod stuck;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use fleetling_lab::figures::Table;

use extent::Extent;

/// Measures plugins, the scaler, a simulated week, and jobs on a ready instance of the lab.
#[derive(Parser)]
struct Options {
    /// A few rounds of each, to see that the bench itself works; its figures are worth little.
    #[arg(long)]
    quick: bool,
    /// One part alone.
    #[arg(long)]
    only: Option<Part>,
    /// The bench's own: loads groups with this cache of compiled plugins and prints what they take.
    #[arg(long, hide = true)]
    groups: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What the manager is made of, without a lab.
    Manager,
    /// One by one on one instance, with their peers and long logs.
    Jobs,
    /// Many at once.
    Crowd,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let extent = if options.quick {
        Extent::QUICK
    } else {
        Extent::FULL
    };
    if let Some(cache) = &options.groups {
        return exit(groups::load(cache).await);
    }
    let mut table = Table::default();
    let before = machine::describe();
    let measured = tokio::select! {
        measured = measure(&options, &extent, &mut table) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; everything is being removed")),
    };
    println!("\n{before}\n{}\n\n{table}", machine::load("at the end"));
    exit(measured)
}

fn exit(measured: Result<()>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: not all was measured: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options, extent: &Extent, table: &mut Table) -> Result<()> {
    if options.wants(Part::Manager) {
        measure_manager(extent, table).await?;
    }
    if options.wants(Part::Jobs) {
        eprintln!("bench: jobs on a ready instance");
        job::one_by_one(extent, table).await?;
    }
    if options.wants(Part::Crowd) {
        eprintln!("bench: {} jobs at once", extent.crowd);
        job::crowd::measure(extent, table).await?;
    }
    Ok(())
}

async fn measure_manager(extent: &Extent, table: &mut Table) -> Result<()> {
    eprintln!("bench: plugins");
    plugin::measure(extent, table).await?;
    eprintln!("bench: a plugin's cloud");
    update::measure(extent, table).await?;
    eprintln!("bench: a plugin that is stuck");
    stuck::measure(extent, table).await?;
    eprintln!("bench: the scaler's decisions");
    scaler::measure(extent, table)?;
    eprintln!("bench: a simulated week");
    simulate::measure(extent, table)
}
