//! `drover check`: reads the configuration and says what is wrong with it. Touches nothing.

use crate::config;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "drover.toml")]
    pub config: PathBuf,
}

/// Exit code 0: sound; 1: not, and the error says what, where.
pub fn run(args: &Args) -> anyhow::Result<i32> {
    let config = config::load(&args.config)?;
    config::check_exposure(&args.config, &config)?;
    let groups: Vec<_> = config.group_names().collect();
    println!("{}: sound; deployment groups: {}", args.config.display(), groups.join(", "));
    Ok(0)
}
