//! Instances that failed for the same reason, put together: seventeen failures of one kind are one thing to look into.

use crate::rollout::{
    class::normalise,
    state::{Cause, Fault},
};
use regex::Regex;
use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

/// Instances on which the same event failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What failed and how, in words, such as 'AfterInstall hook bin/migrate failed with exit code 1'.
    pub words: String,
    /// The last line that the hook printed, of the first of the instances; none where it printed nothing.
    pub line: Option<String>,
    /// The instances' ids, in the order in which they were given.
    pub instances: Vec<String>,
}

/// Puts faults together that are of the same event, hook and cause, and whose output ended in the same line but for numbers,
/// ids, times and paths. The largest cluster comes first.
pub fn clusters<'a>(faults: impl IntoIterator<Item = (&'a str, &'a Fault)>) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    for (instance, fault) in faults {
        let line = fault.tail.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        let words = Fault { tail: Vec::new(), ..fault.clone() }.words();
        // The words of Systems Manager or the balancer may name the instance; an exit code is a number that matters.
        let said = if let Cause::Exit(_) = fault.cause { words.clone() } else { comparable(&words) };
        let key = (said, line.map(comparable).unwrap_or_default());
        let at = *known.entry(key).or_insert_with(|| {
            clusters.push(Cluster { words, line: line.map(str::to_owned), instances: Vec::new() });
            clusters.len() - 1
        });
        clusters[at].instances.push(instance.to_owned());
    }
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.instances.len()));
    clusters
}

impl Cluster {
    /// Describes it in one line: 'AfterInstall failed with exit code 1 on 17 of 20 instances: No space left on device'.
    pub fn describe(&self, total: usize) -> String {
        let noun = if total == 1 { "instance" } else { "instances" };
        let line = self.line.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
        format!("{} on {} of {total} {noun}{line}", self.words, self.instances.len())
    }
}

/// Colours, as terminals take them; and what differs between two hosts' lines that say the same, beside the numbers and ids that
/// [`normalise`] leaves out: times and paths.
static COLOURS_TIMES_PATHS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\x1b\[[0-9;?]*[ -/]*[@-~]", ""),
        (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}\S*|\b\d{1,2}:\d{2}:\d{2}\S*", "#"),
        (r"(?:\.{0,2}/)[\w.@+-]+(?:/[\w.@+-]*)*", "#"),
    ]
    .into_iter()
    .filter_map(|(pattern, instead)| Some((Regex::new(pattern).ok()?, instead)))
    .collect()
});

/// A line without what differs from host to host and from time to time.
fn comparable(line: &str) -> String {
    let mut line = Cow::Borrowed(line);
    for (pattern, instead) in COLOURS_TIMES_PATHS.iter() {
        if let Cow::Owned(replaced) = pattern.replace_all(&line, *instead) {
            line = Cow::Owned(replaced);
        }
    }
    normalise(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::event::LifecycleEvent;

    fn fault(code: i32, lines: &[&str]) -> Fault {
        Fault {
            event: LifecycleEvent::AfterInstall,
            hook: Some("bin/migrate".into()),
            cause: Cause::Exit(code),
            tail: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn the_same_line_with_other_numbers_ids_times_and_paths_is_one_cluster() {
        let lines = [
            "2026-01-02T03:04:05Z i-0abc123: cannot write /srv/app/releases/4f2c/x.log: No space left on device (pid 4711)",
            "2026-01-02T03:04:06Z i-0def456: cannot write /srv/app/releases/9a/y.log: No space left on device (pid 88)",
            "\u{1b}[31m2026-01-02T03:14:06Z i-0fff456: cannot write /tmp/y: No space left on device (pid 1)\u{1b}[0m",
        ];
        let mut faults: Vec<(String, Fault)> = lines
            .iter()
            .enumerate()
            .map(|(n, line)| (format!("i-{n}"), fault(1, &["x", line, ""])))
            .collect();
        faults.insert(0, ("i-9".into(), fault(1, &["connection refused"])));
        faults.push(("i-8".into(), fault(2, &["connection refused"])));
        let found = clusters(faults.iter().map(|(id, fault)| (id.as_str(), fault)));
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].instances, ["i-0", "i-1", "i-2"]);
        assert_eq!(found[0].line.as_deref(), Some(lines[0]));
        let words = found[1].describe(20);
        assert_eq!(
            words,
            "AfterInstall hook bin/migrate failed with exit code 1 on 1 of 20 instances: connection refused"
        );
    }

    #[test]
    fn what_differs_is_left_out_and_what_matters_stays() {
        for (line, left) in [
            ("worker 12 of 40 died", "worker # of # died"),
            ("GET /health 503 after 3.5s at 12:00:01", "GET # # after #s at #"),
            ("deadbeef1 is no release of 4f2c81aa", "# is no release of #"),
            ("added face to feed", "added face to feed"),
        ] {
            let found = comparable(line).replace("#.#", "#");
            assert_eq!(found, left);
        }
    }

    #[test]
    fn faults_without_output_go_by_their_cause() {
        let lost = |words: &str| Fault {
            event: LifecycleEvent::ApplicationStart,
            hook: None,
            cause: Cause::AgentLost(words.into()),
            tail: Vec::new(),
        };
        let (one, two) = (lost("no answer for 60 s"), lost("no answer for 61 s"));
        let found = clusters([("i-1", &one), ("i-2", &two)]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].describe(2),
            "ApplicationStart lost the agent: no answer for 60 s on 2 of 2 instances"
        );
    }
}
