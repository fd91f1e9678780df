//! A rehearsal: the planner's own decisions, on a fleet on paper. It says what a rollout would do, in which order, and
//! how long that takes; nothing is changed by it. During a rollout the same arithmetic tells how much is left.

mod settings;
mod span;

pub use settings::{Settings, lints};
pub use span::words;

use super::{
    paper::{AllSucceed, Behaviour, Pace, PaperFleet},
    plan::{DispatchKind, Effect, Order},
    snapshot::{Outcome, Snapshot},
    state::{DeploymentState, InstanceState, transition::Illegal},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// After how many looks at instances in work a rehearsal ends, finished or not: 5,000 instances one by one take a
/// tenth of it (`cargo bench --bench scale`). What is left of a rollout is estimated with a fifth.
const MOST_LOOKS: usize = 5_000_000;

/// What a rollout would do, as the rehearsal shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The batches in order; in a window they overlap.
    pub batches: Vec<Batch>,
    /// How it would end.
    pub ends: DeploymentState,
    /// Whether it stopped before the end, to limit the work: how long the rest takes is then extrapolated.
    pub cut: bool,
    /// The time from now to its end.
    pub lasts: SignedDuration,
    /// The fewest in service at once.
    pub lowest_in_service: usize,
    /// Processes that would be suspended, by Auto Scaling group.
    pub suspends: BTreeMap<String, Vec<String>>,
    /// MinSize now and at its lowest, where it would be lowered, by Auto Scaling group.
    pub min_sizes: BTreeMap<String, (u32, u32)>,
}

/// One batch of a rehearsal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// From 1.
    pub number: u32,
    /// Its instances: id and zone.
    pub instances: Vec<(String, String)>,
    /// The time from now to its beginning.
    pub begins: SignedDuration,
    /// The time from now to the end of its last instance.
    pub ends: SignedDuration,
}

/// A behaviour in which every attempt succeeds, which records what would be changed on the groups.
#[derive(Default)]
struct GroupChanges {
    suspends: BTreeMap<String, Vec<String>>,
    min_sizes: BTreeMap<String, (u32, u32)>,
}

impl Behaviour for GroupChanges {
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome {
        AllSucceed.outcome(kind, order)
    }

    fn before_effect(&mut self, effect: &Effect, fleet: &Snapshot) {
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

/// Rehearses a rollout from its present state. Approval is taken as given.
pub fn rehearse(snapshot: Snapshot, pace: Pace, now: Timestamp) -> Result<Rehearsal, Illegal> {
    rehearse_within(MOST_LOOKS, snapshot, pace, now, Looks::AtThoseInWork)
}

/// Which members the planner examines each time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    AtThoseInWork,
    /// Gives the same result, more slowly.
    #[cfg(test)]
    AtAll,
}

fn rehearse_within(
    most: usize,
    snapshot: Snapshot,
    pace: Pace,
    now: Timestamp,
    looks: Looks,
) -> Result<Rehearsal, Illegal> {
    let mut changes = GroupChanges::default();
    let mut fleet = PaperFleet::new(snapshot, pace, now, &mut changes);
    fleet.snapshot.deployment.approved = true;
    let mut progress = Progress::new(fleet.snapshot.members.len());
    progress.note(&fleet, 0..fleet.snapshot.members.len(), SignedDuration::ZERO);
    if looks == Looks::AtThoseInWork {
        fleet.skip_resting();
    }
    let (mut looked, mut cut) = (0, true);
    while looked < most {
        let goes_on = fleet.tick(&mut changes)?;
        let moving = fleet.moving();
        looked += moving.len() + 1;
        progress.note(&fleet, moving, fleet.now.duration_since(now));
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
        let placed = progress.placed.iter().filter(|placed| **placed).count();
        let factor = all as f64 / placed.max(1) as f64;
        lasts = SignedDuration::try_from_secs_f64(lasts.as_secs_f64() * factor).unwrap_or(lasts);
    }
    Ok(Rehearsal {
        batches: progress.batches.into_values().collect(),
        ends: fleet.snapshot.deployment.state,
        cut,
        lasts,
        lowest_in_service: fleet.lowest_in_service,
        suspends: changes.suspends,
        min_sizes: changes.min_sizes,
    })
}

/// The batches so far.
struct Progress {
    batches: BTreeMap<u32, Batch>,
    /// Whether a member is in a batch's list, by the member's index.
    placed: Vec<bool>,
}

impl Progress {
    fn new(members: usize) -> Progress {
        Progress { batches: BTreeMap::new(), placed: vec![false; members] }
    }

    /// Records the progress of these members.
    fn note(&mut self, fleet: &PaperFleet, members: impl IntoIterator<Item = usize>, since: SignedDuration) {
        for at in members {
            let record = &fleet.snapshot.members[at].record;
            let Some(number) = record.batch else { continue };
            let new = || Batch { number, begins: since, ..Batch::default() };
            let batch = self.batches.entry(number).or_insert_with(new);
            if !self.placed[at] {
                self.placed[at] = true;
                batch.instances.push((record.id.clone(), record.zone.clone()));
            }
            if !record.state().is_final() {
                batch.ends = since;
            }
        }
    }
}

/// Estimates how long a rollout under way will still take if all goes well; none where that can't be said.
pub fn time_left(snapshot: &Snapshot, pace: Pace, now: Timestamp) -> Option<SignedDuration> {
    let deployment = &snapshot.deployment;
    if deployment.state != DeploymentState::Rolling
        || deployment.cancel.is_some()
        || snapshot.outage.is_some()
    {
        return None;
    }
    let rehearsal =
        rehearse_within(MOST_LOOKS / 5, snapshot.clone(), pace, now, Looks::AtThoseInWork).ok()?;
    (rehearsal.ends.is_final() || rehearsal.cut).then_some(rehearsal.lasts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{
        policy::{Batches, Mode, Policy, Size, Zones},
        snapshot::{Deployment, Group, Health, Lifecycle, Member, Revision, Sight, Timing},
        state::{Instance, Membership, Phase},
    };
    use proptest::{prelude::*, sample::select};

    /// An instance: its zone, its target groups, how it is seen, whether it has the revision already.
    fn any_member() -> impl Strategy<Value = (usize, usize, usize, bool)> {
        (
            0..3usize,
            0..3usize,
            prop_oneof![8 => Just(0usize), 1 => Just(1), 1 => Just(2)],
            proptest::bool::weighted(0.1),
        )
    }

    fn any_rehearsed_policy() -> impl Strategy<Value = Policy> {
        let batch = select(vec!["1", "2", "10%", "34%", "100%"]);
        let first = proptest::option::of(select(vec!["1", "2"]));
        let modes = select(vec![Mode::Batch, Mode::Window]);
        let zones = select(vec![Zones::Any, Zones::Spread, Zones::OneAtATime]);
        (batch, first, modes, zones, 0..3i64, proptest::option::of(0..4u32)).prop_map(
            |(batch, first, mode, zones, bake, keep)| {
                let steps = first.into_iter().chain([batch]).map(|size| size.parse().unwrap()).collect();
                Policy {
                    batch: Batches::new(steps).unwrap(),
                    mode,
                    zones,
                    bake: SignedDuration::from_secs(bake * 30),
                    min_in_service: keep.map(Size::Count),
                    allow_downtime: true,
                    ..Policy::default()
                }
            },
        )
    }

    fn fleet_of(
        members: Vec<(usize, usize, usize, bool)>,
        policy: Policy,
        (pre_block, post_allow): (bool, bool),
        now: Timestamp,
    ) -> Snapshot {
        let member = |(number, (zone, groups, seen, has_it)): (usize, (usize, usize, usize, bool))| {
            let mut record = Instance::new(&format!("i-{number:03}"), ["a", "b", "c"][zone], "asg", now);
            record.memberships = ["one", "two"][..groups.max(1)]
                .iter()
                .map(|name| Membership {
                    target_group: (*name).into(),
                    port: 80,
                    owned: true,
                    seen: true,
                    unwatched: false,
                })
                .collect();
            record.healthy_at_start = seen == 0;
            if has_it {
                record.phase = Phase::Skipped;
            }
            let health = match seen {
                0 => Health::Healthy,
                1 => Health::Unhealthy("Target.Timeout".into()),
                _ => Health::Initial("Elb.InitialHealthChecking".into()),
            };
            Member {
                record,
                sight: Sight { lifecycle: Lifecycle::InService, health, ..Sight::gone() },
                attempt: None,
            }
        };
        let members: Vec<Member> = members.into_iter().enumerate().map(member).collect();
        let count =
            |which: fn(&Member) -> bool| u32::try_from(members.iter().filter(|m| which(m)).count()).unwrap();
        let total = count(|_| true);
        let healthy = count(|member| member.record.healthy_at_start);
        let group = Group { min: total, max: 2 * total, desired: total, suspended: Vec::new(), hold: None };
        Snapshot {
            deployment: Deployment::beginning(1, total, healthy, now),
            policy,
            revision: Revision { run_seconds: 60, pre_block, post_allow, ..Revision::default() },
            members,
            groups: BTreeMap::from([("asg".to_owned(), group)]),
            timing: Timing {
                deregistration_delay: SignedDuration::from_secs(30),
                becoming_healthy: SignedDuration::from_secs(20),
            },
            refused: BTreeMap::new(),
            outage: None,
            outage_ended: false,
        }
    }

    proptest! {
        /// Skipping members at rest changes nothing.
        #[test]
        fn looking_at_those_in_work_comes_to_the_same_as_looking_at_all(
            members in proptest::collection::vec(any_member(), 1..30),
            policy in any_rehearsed_policy(),
            hooks in any::<(bool, bool)>(),
        ) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let [staging, hooks_take, drain, health] = [10, 40, 30, 20].map(SignedDuration::from_secs);
            let pace = Pace { staging, hooks: hooks_take, drain, health };
            let snapshot = fleet_of(members, policy, hooks, now);
            let of = |looks| rehearse_within(MOST_LOOKS, snapshot.clone(), pace, now, looks).unwrap();
            prop_assert_eq!(of(Looks::AtThoseInWork), of(Looks::AtAll));
        }
    }
}
