//! The hidden subcommands of the executable: an instance's processes, its agent, and the sample service inside it.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{agent, boot, init, keeper};
use crate::sim::sample;

/// Runs the hidden subcommand that these arguments (program name first) ask for; returns `None` if they ask for none.
/// Must be called before any thread exists: a user namespace can't be entered by a process that has several.
pub fn hidden_subcommand(argv: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let words: Vec<String> = argv.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (first, rest) = words.split_first()?;
    let result = match first.as_str() {
        "sim-instance" => match rest.first().map(String::as_str) {
            Some("keeper") => keeper::main(),
            Some("launcher") => boot::run_launcher(),
            Some("init") => init::main(),
            _ => Err(anyhow::anyhow!("sim-instance is started by `drover sim`, not by hand")),
        },
        "sim-agent" => agent::main(rest),
        "sample-service" => sample::service::main(rest),
        _ => return None,
    };
    Some(result.map(|()| ExitCode::SUCCESS))
}
