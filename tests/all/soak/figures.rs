//! What the soak counts.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// A failed request and the balancer's word of it lie at most so far apart, in milliseconds.
const NEAR: i64 = 2_000;
/// So long after a network came back a request may still fail that was begun before: the balancer's time-out for
/// connections is 10 s. In milliseconds.
const LATE: i64 = 12_000;

/// Figures of one cloud, or of all.
#[derive(Debug, Default)]
pub struct Figures {
    /// Rollouts by how they ended.
    pub ended: BTreeMap<String, usize>,
    /// How long each took.
    pub took: Vec<Duration>,
    /// Rollouts that began though an instance was missing.
    pub thin: usize,
    pub requests: u64,
    /// Failed requests at instances that were killed or cut off.
    pub at_dead: usize,
    /// The other failed requests.
    pub failed: usize,
    /// Hooks that ran, as they themselves wrote down.
    pub hooks: usize,
    /// Those that ran more than once in an attempt.
    pub twice: Vec<String>,
    pub not_put_back: Vec<String>,
    /// Daemons killed.
    pub kills: usize,
    /// Faults by kind.
    pub struck: BTreeMap<String, u64>,
    /// About what failed.
    pub notes: Vec<String>,
    /// Clouds that could not go on.
    pub broken: Vec<String>,
}

impl Figures {
    pub fn ended(&mut self, state: &str, took: Duration) {
        *self.ended.entry(state.to_owned()).or_default() += 1;
        self.took.push(took);
    }

    pub fn stuck(&self) -> usize {
        self.ended.get("stuck").copied().unwrap_or_default()
    }

    pub fn add(&mut self, other: Figures) {
        for (state, count) in other.ended {
            *self.ended.entry(state).or_default() += count;
        }
        for (kind, count) in other.struck {
            *self.struck.entry(kind).or_default() += count;
        }
        self.took.extend(other.took);
        self.thin += other.thin;
        self.requests += other.requests;
        self.at_dead += other.at_dead;
        self.failed += other.failed;
        self.hooks += other.hooks;
        self.twice.extend(other.twice);
        self.not_put_back.extend(other.not_put_back);
        self.kills += other.kills;
        self.notes.extend(other.notes);
        self.broken.extend(other.broken);
    }

    /// Counts what one instance's hooks wrote down: a line each time one ran.
    pub fn count_record(&mut self, instance: &str, record: &str) {
        let mut lines: Vec<&str> = record.lines().collect();
        self.hooks += lines.len();
        lines.sort_unstable();
        let twice = lines.windows(2).filter(|pair| pair[0] == pair[1]);
        self.twice.extend(twice.map(|pair| format!("{instance}: {}", pair[0])));
    }

    pub fn print(&self) {
        let list = |counts: Vec<String>| counts.join(", ");
        let mut seconds: Vec<f64> = self.took.iter().map(Duration::as_secs_f64).collect();
        seconds.sort_by(f64::total_cmp);
        let at = |index: usize| seconds.get(index).copied().unwrap_or_default();
        let row = |name: &str, what: String| println!("  {name:<32}{what}");
        row("rollouts", seconds.len().to_string());
        row("ended", list(self.ended.iter().map(|(state, count)| format!("{state} {count}")).collect()));
        let last = seconds.len().saturating_sub(1);
        row("duration", format!("median {:.1} s, longest {:.1} s", at(seconds.len() / 2), at(last)));
        row("requests", self.requests.to_string());
        row("failed", self.failed.to_string());
        row("failed at dead or cut instances", self.at_dead.to_string());
        row("hooks run", self.hooks.to_string());
        row("hooks run twice", self.twice.len().to_string());
        row("stuck", self.stuck().to_string());
        row("not put back", self.not_put_back.len().to_string());
        row("daemons killed", self.kills.to_string());
        row("faults", list(self.struck.iter().map(|(kind, count)| format!("{kind} {count}")).collect()));
        row("begun with too few instances", self.thin.to_string());
        for line in self.twice.iter().chain(&self.not_put_back).chain(&self.notes).chain(&self.broken) {
            println!("  {line}");
        }
    }

    pub fn must_be_sound(&self) {
        assert!(self.broken.is_empty(), "{:?}", self.broken);
        let zeros = (self.failed, self.twice.len(), self.stuck(), self.not_put_back.len());
        assert_eq!(zeros, (0, 0, 0, 0), "failed requests, hooks run twice, stuck, not put back");
    }
}

/// Takes failed requests apart, by the cloud's events: how many failed at an instance that had been killed or cut off the
/// network, and when the others failed.
pub fn apart(failed_at: &[i64], events: &[Value]) -> (usize, Vec<i64>) {
    let mut killed = BTreeSet::new();
    // Until when a failure at it is the network's.
    let mut cut: BTreeMap<&str, i64> = BTreeMap::new();
    let mut excused = VecDeque::new();
    for event in events {
        let at = event["at"].as_i64().unwrap_or_default();
        let instance = event["instance"].as_str().unwrap_or_default();
        match event["kind"].as_str().unwrap_or_default() {
            "instance-killed" => {
                killed.insert(instance);
            }
            "network-cut" => {
                cut.insert(instance, i64::MAX);
            }
            "network-restored" => {
                cut.insert(instance, at + LATE);
            }
            "balancer-failure" | "request-cut"
                if killed.contains(instance) || cut.get(instance).is_some_and(|until| at <= *until) =>
            {
                excused.push_back(at);
            }
            _ => {}
        }
    }
    let mut failed_at = failed_at.to_vec();
    failed_at.sort_unstable();
    let (mut at_dead, mut others) = (0, Vec::new());
    for at in failed_at {
        while excused.front().is_some_and(|event| event + NEAR < at) {
            excused.pop_front();
        }
        if excused.front().is_some_and(|event| *event <= at + NEAR) {
            excused.pop_front();
            at_dead += 1;
        } else {
            others.push(at);
        }
    }
    (at_dead, others)
}

/// What the balancer says of a request that failed then.
pub fn said_of(at: i64, events: &[Value]) -> String {
    let near = |event: &&Value| event["at"].as_i64().is_some_and(|then| (then - at).abs() <= NEAR);
    let kinds = ["balancer-failure", "request-cut"];
    let said = events.iter().filter(near).find(|event| kinds.iter().any(|kind| event["kind"] == *kind));
    let Some(said) = said else {
        return format!("a request failed at {at}: the balancer says nothing of it");
    };
    // What happened to that instance before.
    let of_it = |event: &&Value| {
        event["instance"] == said["instance"] && event["at"].as_i64().is_some_and(|then| then <= at + NEAR)
    };
    let before: Vec<String> = events.iter().filter(of_it).rev().take(12).map(Value::to_string).collect();
    format!("a request failed at {at}: {said}; before it: {}", before.join(" < "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_is_excused_once_and_only_by_the_dead() {
        let event =
            |at: i64, instance: &str, kind: &str| json!({ "at": at, "instance": instance, "kind": kind });
        let events = [
            event(1_000, "i-1", "balancer-failure"),
            event(10_000, "i-1", "instance-killed"),
            event(10_100, "i-1", "balancer-failure"),
            event(20_000, "i-2", "network-cut"),
            event(21_000, "i-2", "network-restored"),
            event(31_000, "i-2", "request-cut"),
            event(50_000, "i-2", "balancer-failure"),
        ];
        let failed_at = [1_001, 10_101, 10_102, 31_500, 50_001];
        assert_eq!(apart(&failed_at, &events), (2, vec![1_001, 10_102, 50_001]));
        assert!(said_of(50_001, &events).contains("i-2"));
        assert!(said_of(70_000, &events).contains("nothing"));
    }

    #[test]
    fn a_hook_that_ran_twice_in_an_attempt_is_named() {
        let mut figures = Figures::default();
        figures
            .count_record("i-1", "7 ApplicationStop\n7 AfterInstall\n8 ApplicationStop\n7 ApplicationStop\n");
        assert_eq!((figures.hooks, figures.twice), (4, vec!["i-1: 7 ApplicationStop".to_owned()]));
    }
}
