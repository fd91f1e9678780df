//! `drover check`: reads the configuration and says what is wrong with it; with `--aws`, also with what it names there.
//! Touches nothing.

use crate::{config, engine::examine, fleet::Fleet};
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "drover.toml")]
    pub config: PathBuf,
    /// Look at the Auto Scaling groups, target groups and launch hooks, too, with the environment's AWS credentials.
    #[arg(long)]
    pub aws: bool,
}

/// Exit code 0: sound; 1: not, and the error says what, where.
pub async fn run(args: &Args) -> anyhow::Result<i32> {
    let config = config::load(&args.config)?;
    config::check_exposure(&args.config, &config)?;
    let groups: Vec<_> = config.group_names().collect();
    println!("{}: sound; deployment groups: {}", args.config.display(), groups.join(", "));
    if !args.aws {
        return Ok(0);
    }
    let fleet = Fleet::connect(&config.aws).await;
    let mut wrong = 0;
    for name in &groups {
        let Some((_, group)) = config.group(name) else { continue };
        let findings = examine(&fleet, name, group).await?;
        for line in &findings.notes {
            println!("{name}: {line}");
        }
        for line in &findings.wrong {
            println!("{name}: wrong: {line}");
        }
        wrong += findings.wrong.len();
    }
    Ok(i32::from(wrong > 0))
}
