//! `drover groups`: the deployment groups, what runs on them and how they are rolled over.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{Group, GroupPolicy, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render;

/// Arguments of `drover groups`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the daemon's JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Prints the groups. The exit code is 0.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let answer = client.ask(&routes::LIST_GROUPS, &[], &()).await?;
    let said = if args.json { format!("{}\n", answer.text()) } else { listing(&answer.read()?.groups) };
    render::print_or_leave(&said)?;
    Ok(0)
}

fn listing(groups: &[Group]) -> String {
    let row = |g: &Group| {
        vec![
            g.name.clone(),
            g.repository.clone(),
            g.branch.clone() + if g.auto_deploy { " (by push)" } else { "" },
            g.revision.as_deref().map_or("none yet", render::short).to_owned(),
            g.instances.map_or_else(|| "?".to_owned(), |n| n.to_string()),
            g.running.map(|id| format!("#{id}")).unwrap_or_default(),
            policy(&g.policy),
        ]
    };
    let head = ["GROUP", "REPOSITORY", "BRANCH", "REVISION", "INSTANCES", "RUNNING", "POLICY"];
    let mut out = render::table(&head, &groups.iter().map(row).collect::<Vec<_>>());
    for group in groups {
        for words in group.locked.iter().chain(&group.alarm) {
            out.push_str(&format!("\n{}: {}\n", group.name, render::clean(words, false)));
        }
    }
    out
}

/// The policy's keys and values, the ones it leaves open omitted.
fn policy(policy: &GroupPolicy) -> String {
    let policy = serde_json::to_value(policy).unwrap_or_default();
    let Some(keys) = policy.as_object() else { return String::new() };
    let word = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(format!("{key}={text}")),
        other => Some(format!("{key}={other}")),
    };
    keys.iter().filter_map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupList;

    #[test]
    fn a_group_is_a_line_with_its_policy() {
        let text = r#"{"groups":[{"name":"sample/demo","repository":"acme/sample","branch":"main",
            "revision":null,"instances":6,"policy":{"batch":"2","min_in_service":null,"max_failed":1},
            "running":7}]}"#;
        let groups: GroupList = serde_json::from_str(text).unwrap();
        let said = listing(&groups.groups);
        let line: Vec<_> = said.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line.join(" "), "sample/demo acme/sample main none yet 6 #7 batch=2 max_failed=1");
    }
}
