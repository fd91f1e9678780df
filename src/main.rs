//! The drover binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    match drover::sim::instance::hidden_subcommand(&argv) {
        Some(Ok(code)) => code,
        Some(Err(error)) => {
            eprintln!("drover: {error:#}");
            ExitCode::FAILURE
        }
        None => ExitCode::from(2),
    }
}
