//! `drover lock`, `drover unlock`: keeps what is submitted to a group in its queue, with a reason.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{LockRequest, routes};
use crate::cli::client::{Client, Daemon, group_segments};
use crate::cli::render;
use jiff::SignedDuration;

/// Arguments of `drover lock`.
#[derive(Debug, clap::Args)]
pub struct LockArgs {
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
    pub group: String,
    /// Why, for those who meet the lock.
    #[arg(long)]
    pub reason: String,
    /// For how long, such as 2h; until `drover unlock` if not given.
    #[arg(long = "for", value_name = "TIME")]
    pub lasts: Option<SignedDuration>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Arguments of `drover unlock`.
#[derive(Debug, clap::Args)]
pub struct UnlockArgs {
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
    pub group: String,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Locks the group. The exit code is 0 once it is locked.
pub async fn lock(args: LockArgs) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let request = LockRequest { reason: args.reason, lasts: args.lasts };
    let answer = client.ask(&routes::LOCK_GROUP, &group_segments(&args.group), &request).await?.read()?;
    let words = answer.locked.as_deref().unwrap_or("locked");
    render::print_or_leave(&format!("{} is {words}\n", args.group))?;
    Ok(0)
}

/// Unlocks it. The exit code is 0, also where it was not locked.
pub async fn unlock(args: UnlockArgs) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    client.ask(&routes::UNLOCK_GROUP, &group_segments(&args.group), &()).await?;
    render::print_or_leave(&format!("{} is not locked\n", args.group))?;
    Ok(0)
}
