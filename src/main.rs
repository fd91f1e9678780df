//! drover: see the library's documentation.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the simulated cloud
    Sim(drover::cli::sim::SimArgs),
}

fn main() -> ExitCode {
    // Before any thread exists: a simulated instance enters its namespaces here.
    let argv: Vec<_> = std::env::args_os().collect();
    let ended = drover::sim::instance::hidden_subcommand(&argv).unwrap_or_else(|| run(Args::parse()));
    ended.unwrap_or_else(|error| {
        eprintln!("drover: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("can't start the runtime")?;
    match args.command {
        Command::Sim(args) => runtime.block_on(drover::cli::sim::run(args))?,
    }
    Ok(ExitCode::SUCCESS)
}
