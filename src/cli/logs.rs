//! `drover logs`: prints a deployment's log, and follows it if asked to.
//!
//! May import `api` and its client, and `follow` only.

use crate::api::LogQuery;
use crate::cli::client::{Client, Daemon};
use crate::cli::follow::{self, Format};
use jiff::{SignedDuration, Timestamp};

/// Arguments of `drover logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  drover logs -f                           follow the newest deployment
  drover logs --group shop/production -f   follow the newest of a group
  drover logs 7 --failed --grep 'error|denied'
  drover logs 7 -i i-0123 -e AfterInstall --since 10m")]
pub struct Args {
    /// The deployment's number; without it, the newest deployment.
    pub id: Option<i64>,
    /// Without a number: the newest deployment of this group.
    #[arg(long, short, value_name = "APP/ENV", conflicts_with = "id")]
    pub group: Option<String>,
    /// Go on until the deployment has ended or halted, and exit with its code.
    #[arg(long, short)]
    pub follow: bool,
    /// Which lines.
    #[command(flatten)]
    pub lines: LinesArgs,
    /// Only lines after this sequence number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: i64,
    /// Only lines of instances that have failed.
    #[arg(long, conflicts_with = "follow")]
    pub failed: bool,
    /// Print the rows as JSON lines.
    #[arg(long)]
    pub json: bool,
    /// Print the lines as the hooks wrote them, with what a terminal would act upon.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Which lines of a log are shown.
#[derive(Clone, Debug, clap::Args)]
pub struct LinesArgs {
    /// Only this instance's lines.
    #[arg(long, short, value_name = "INSTANCE")]
    pub instance: Option<String>,
    /// Only this lifecycle event's lines.
    #[arg(long, short, value_name = "EVENT")]
    pub event: Option<String>,
    /// Only lines that this regular expression matches.
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
    /// Only lines since then: a time span back from now, such as 10m, or a time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Timestamp>,
}

impl LinesArgs {
    /// The query that asks for them.
    pub fn query(self) -> LogQuery {
        let LinesArgs { instance, event, grep, since } = self;
        LogQuery { instance, event, grep, since, ..LogQuery::default() }
    }
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let span: SignedDuration = text
        .parse()
        .map_err(|_| "it is neither a time span, such as 10m, nor a time, such as 2026-01-31T12:00:00Z")?;
    Timestamp::now().checked_sub(span).map_err(|error| error.to_string())
}

/// Prints the log. The exit code: 0, or with --follow the deployment's.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let Args { id, group, follow, lines, after, failed, json, raw, .. } = args;
    let id = match id {
        Some(id) => id,
        None => {
            let newest = client.newest(group.as_deref()).await?;
            let of = group.map(|group| format!(" of {group}")).unwrap_or_default();
            newest.ok_or_else(|| anyhow::anyhow!("there is no deployment{of} yet"))?.id
        }
    };
    let query = LogQuery { after, follow, failed, ..lines.query() };
    let format = match (json, raw) {
        (true, _) => Format::Rows,
        (false, true) => Format::Raw,
        (false, false) => Format::Text,
    };
    Ok(follow::follow(&client, id, query, format).await?.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_back_from_now_or_a_time() {
        let at = since("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(at.to_string(), "2026-01-31T12:00:00Z");
        let then = since("10m").unwrap();
        let back = Timestamp::now().duration_since(then);
        assert!((600..660).contains(&back.as_secs()), "{back:?}");
        assert!(since("yesterday").unwrap_err().contains("10m"));
    }
}
