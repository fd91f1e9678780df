//! `drover lock`, `drover unlock`: keeps what is submitted to a group in its queue, with a reason.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

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
    pub lasts: Option<String>,
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

#[derive(Deserialize)]
struct Locked {
    locked: String,
}

/// Locks the group. The exit code is 0 once it is locked.
pub async fn lock(args: LockArgs) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let wish = json!({ "reason": args.reason, "for": args.lasts });
    let text = client.ask_text(Method::PUT, &format!("groups/{}/lock", args.group), Some(&wish)).await?;
    let answer: Locked = client.read(&text)?;
    render::print_or_leave(&format!("{} is {}\n", args.group, answer.locked))?;
    Ok(0)
}

/// Unlocks it. The exit code is 0, also where it was not locked.
pub async fn unlock(args: UnlockArgs) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    client.ask_text(Method::DELETE, &format!("groups/{}/lock", args.group), None).await?;
    render::print_or_leave(&format!("{} is not locked\n", args.group))?;
    Ok(0)
}
