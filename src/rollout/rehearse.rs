//! A rehearsal: the planner's own decisions, on a fleet on paper. It says what a rollout would do, in which order, and
//! how long that takes; nothing is changed by it. During a rollout the same arithmetic tells how much is left.

use super::{
    paper::{Fate, Fortune, Pace, PaperFleet},
    plan::{DispatchKind, Effect, Order},
    policy::Mode,
    snapshot::{Outcome, Snapshot},
    state::{DeploymentState, InstanceState},
    transition::Illegal,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A rehearsal ends after so many looks at an instance, through or not: seconds of work on a small machine
/// (`cargo bench --bench rehearsal`). What is left of a rollout is estimated with a tenth of it.
const MOST_LOOKS: usize = 2_000_000;
/// A deregistration delay beyond this is worth a word: AWS's default is 300 s, and few requests last a minute.
const LONG_DELAY: SignedDuration = SignedDuration::from_secs(60);
/// The same of the health-check interval; AWS takes 5 to 300 s, 30 by default.
const LONG_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What a rollout would do.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The batches in order; in a window they overlap.
    pub batches: Vec<Batch>,
    /// How it would end.
    pub ends: DeploymentState,
    /// It was not gone through to the end, for the work that is: how long the rest lasts is reckoned from what was seen.
    pub cut: bool,
    /// From now to its end.
    pub lasts: SignedDuration,
    /// Fewest in service at once.
    pub lowest_in_service: usize,
    /// Processes that would be suspended, by Auto Scaling group.
    pub suspends: BTreeMap<String, Vec<String>>,
    /// MinSize now and at its lowest, where it would be lowered, by Auto Scaling group.
    pub min_sizes: BTreeMap<String, (u32, u32)>,
}

/// One batch of it.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// From 1.
    pub number: u32,
    /// Whose turn it is: id and zone.
    pub instances: Vec<(String, String)>,
    /// From now to its begin.
    pub begins: SignedDuration,
    /// From now to the end of its last instance.
    pub ends: SignedDuration,
}

/// Notes what would be changed on the groups; everything succeeds.
#[derive(Default)]
struct Witness {
    suspends: BTreeMap<String, Vec<String>>,
    min_sizes: BTreeMap<String, (u32, u32)>,
}

impl Fate for Witness {
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome {
        Fortune.outcome(kind, order)
    }

    fn meet(&mut self, effect: &Effect, fleet: &Snapshot) {
        match effect {
            Effect::Suspend { group, processes } => {
                self.suspends.entry(group.clone()).or_default().extend(processes.clone());
            }
            Effect::SetMin { group, min } => {
                let Some(seen) = fleet.groups.get(group).filter(|seen| *min < seen.min) else { return };
                let (_, lowest) = self.min_sizes.entry(group.clone()).or_insert((seen.min, *min));
                *lowest = (*lowest).min(*min);
            }
            _ => {}
        }
    }
}

/// Rehearses a rollout from where it stands. A person approves at once.
pub fn rehearse(snapshot: Snapshot, pace: Pace, now: Timestamp) -> Result<Rehearsal, Illegal> {
    rehearse_within(MOST_LOOKS, snapshot, pace, now)
}

fn rehearse_within(
    looks: usize,
    snapshot: Snapshot,
    pace: Pace,
    now: Timestamp,
) -> Result<Rehearsal, Illegal> {
    let mut witness = Witness::default();
    let mut fleet = PaperFleet::new(snapshot, pace, now, &mut witness);
    fleet.snapshot.deployment.approved = true;
    let mut batches: BTreeMap<u32, Batch> = BTreeMap::new();
    let mut placed: BTreeSet<String> = BTreeSet::new();
    let most = looks / fleet.snapshot.members.len().max(1);
    let mut cut = true;
    for _ in 0..most {
        let goes_on = fleet.tick(&mut witness)?;
        let since = fleet.now.duration_since(now);
        for record in fleet.snapshot.members.iter().map(|member| &member.record) {
            let Some(number) = record.batch else { continue };
            let batch =
                batches.entry(number).or_insert_with(|| Batch { number, begins: since, ..Batch::default() });
            if !placed.contains(&record.id) {
                placed.insert(record.id.clone());
                batch.instances.push((record.id.clone(), record.zone.clone()));
            }
            if !record.state().is_final() {
                batch.ends = since;
            }
        }
        if !goes_on || fleet.snapshot.deployment.settled {
            cut = false;
            break;
        }
    }
    let mut lasts = fleet.now.duration_since(now);
    if cut {
        // The rest goes on like what was seen of it.
        let all =
            fleet.snapshot.members.iter().filter(|m| m.record.state() != InstanceState::Skipped).count();
        let factor = all as f64 / placed.len().max(1) as f64;
        lasts = SignedDuration::try_from_secs_f64(lasts.as_secs_f64() * factor).unwrap_or(lasts);
    }
    Ok(Rehearsal {
        batches: batches.into_values().collect(),
        ends: fleet.snapshot.deployment.state,
        cut,
        lasts,
        lowest_in_service: fleet.lowest_in_service,
        suspends: witness.suspends,
        min_sizes: witness.min_sizes,
    })
}

/// How long a rollout under way will still take if all goes well; none where that can't be said.
pub fn time_left(snapshot: &Snapshot, pace: Pace, now: Timestamp) -> Option<SignedDuration> {
    let deployment = &snapshot.deployment;
    if deployment.state != DeploymentState::Rolling || deployment.cancel.is_some() || snapshot.blind.is_some()
    {
        return None;
    }
    let rehearsal = rehearse_within(MOST_LOOKS / 10, snapshot.clone(), pace, now).ok()?;
    (rehearsal.ends.is_final() || rehearsal.cut).then_some(rehearsal.lasts)
}

/// A target group's settings that waits follow from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The target group's name.
    pub name: String,
    /// `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: SignedDuration,
    /// Between two health checks.
    pub interval: SignedDuration,
    /// Passed checks until healthy.
    pub threshold: i32,
}

/// Settings that cost minutes, and what the usual ones would save over so many batches.
pub fn lints(settings: &[Settings], batches: usize, mode: Mode) -> Vec<String> {
    let batches = i32::try_from(batches).unwrap_or(i32::MAX);
    let each = if mode == Mode::Window { "turns" } else { "batches" };
    let mut lints = Vec::new();
    for group in settings {
        let spare = (group.deregistration_delay - LONG_DELAY) * batches;
        if spare >= SignedDuration::from_mins(1) {
            lints.push(format!(
                "target group {}: deregistration delay {} → {} s saves {} over {batches} {each}, if no request lasts longer",
                group.name,
                group.deregistration_delay.as_secs(),
                LONG_DELAY.as_secs(),
                words(spare)
            ));
        }
        let spare = (group.interval - LONG_INTERVAL) * group.threshold * batches;
        if spare >= SignedDuration::from_mins(1) {
            lints.push(format!(
                "target group {}: health-check interval {} → {} s saves up to {} over {batches} {each}",
                group.name,
                group.interval.as_secs(),
                LONG_INTERVAL.as_secs(),
                words(spare)
            ));
        }
    }
    lints
}

/// A span of time as people say it, to the second: `4 s`, `2 min 10 s`, `1 h 5 min`, `1 d 1 h`.
pub fn words(span: SignedDuration) -> String {
    match span.as_secs().max(0) {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 if s % 60 == 0 => format!("{} min", s / 60),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s @ 3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_settings_are_named_with_what_they_cost() {
        let seconds = SignedDuration::from_secs;
        let slow = Settings {
            name: "web".into(),
            deregistration_delay: seconds(300),
            interval: seconds(30),
            threshold: 5,
        };
        let quick = Settings { deregistration_delay: seconds(30), interval: seconds(10), ..slow.clone() };
        assert!(lints(&[quick], 9, Mode::Batch).is_empty());
        let said = lints(&[slow], 5, Mode::Batch).join("; ");
        assert!(said.contains("deregistration delay 300 → 60 s saves 20 min over 5 batches"), "{said}");
        assert!(said.contains("interval 30 → 10 s saves up to 8 min 20 s"), "{said}");
    }
}
