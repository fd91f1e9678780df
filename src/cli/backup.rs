//! `drover backup`: a consistent copy of the daemon's database, also while it works.

use super::serve::{database, private};
use crate::config;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the copy goes; refused if there is something.
    pub file: PathBuf,
    /// The daemon's configuration file.
    #[arg(long, default_value = "drover.toml")]
    pub config: PathBuf,
    /// Another data directory than the configuration's.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Another database than the configuration's.
    #[arg(long, env = "DROVER_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
}

/// Makes the copy. The exit code is 0 once it is on the disk.
pub async fn run(args: &Args) -> anyhow::Result<i32> {
    let config = config::load(&args.config)?;
    let data = args.data.as_ref().unwrap_or(&config.server.data);
    let database = database(args.database.as_deref(), &config.server, data)?;
    // It holds what the data directory holds: secrets, scripts, logs.
    private::keep_new_files_private();
    database.back_up(&args.file).await?;
    let bytes = std::fs::metadata(&args.file)?.len();
    println!(
        "{} ({bytes} bytes): to go back to it, stop the daemon and put it in the place of {}",
        args.file.display(),
        data.join("drover.db").display()
    );
    Ok(0)
}
