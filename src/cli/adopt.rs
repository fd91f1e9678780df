//! `drover adopt`: takes over a group that something else has deployed to.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(long, value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
    pub group: String,
    /// The commit that its instances run: a full or abbreviated SHA, a branch or a tag.
    #[arg(long)]
    pub revision: String,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

#[derive(Deserialize)]
struct Done {
    done: Vec<String>,
}

/// The exit code is 0 once it is written down.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let wish = json!({ "revision": args.revision });
    let text = client.ask_text(Method::POST, &format!("groups/{}/adopt", args.group), Some(&wish)).await?;
    let Done { done } = client.read(&text)?;
    render::print_or_leave(&done.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(0)
}
