//! The planner against a toy fleet: pure, with time that jumps to the next thing that happens.

mod machine;
mod properties;
mod rollouts;
mod safety;
mod verbs;

use super::*;
use crate::rollout::{
    event::LifecycleEvent,
    paper::{Behaviour, Pace, PaperFleet},
    policy::{Batches, Mode, Policy, Size},
    snapshot::{
        Attempt, Cancel, Deployment, Group, Health, Lifecycle, Member, Outcome, Revision, Sight, Timing,
    },
    state::{Cause, DeploymentState as D, Fault, Instance, InstanceState as S, Membership, Phase},
};
use jiff::SignedDuration;
use std::collections::BTreeMap;

const DRAIN: SignedDuration = SignedDuration::from_secs(10);
const HOOKS: SignedDuration = SignedDuration::from_secs(3);
const HEALTH: SignedDuration = SignedDuration::from_secs(5);

/// What goes wrong on an instance: how often in a row, at which event, how.
#[derive(Clone, Debug)]
struct Trouble {
    times: u32,
    cause: Cause,
    line: String,
}

/// What goes wrong for whom; and what no effect may do.
#[derive(Default)]
struct Troubles {
    of: BTreeMap<String, Trouble>,
    runs: BTreeMap<String, u32>,
}

impl Behaviour for Troubles {
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome {
        if kind == DispatchKind::Run {
            *self.runs.entry(order.instance.clone()).or_default() += 1;
        }
        match self.of.get_mut(&order.instance) {
            Some(trouble) if trouble.times > 0 && kind == DispatchKind::Run => {
                trouble.times -= 1;
                Outcome::Failed(Fault {
                    event: LifecycleEvent::ApplicationStart,
                    hook: Some("hooks/start".into()),
                    cause: trouble.cause.clone(),
                    tail: vec![trouble.line.clone()],
                })
            }
            _ => Outcome::Succeeded { current: Some("old".into()) },
        }
    }

    fn before_effect(&mut self, effect: &Effect, fleet: &Snapshot) {
        let sight = |id: &str| &fleet.members.iter().find(|m| m.record.id == id).expect("a member").sight;
        let hold = |group: &str| fleet.groups[group].hold.as_ref();
        match effect {
            Effect::Dispatch { kind, orders } => {
                assert!(orders.len() <= MOST_PER_DISPATCH);
                // The others are meant to run while it serves.
                let stops_it = matches!(kind, DispatchKind::Run | DispatchKind::Restore);
                for order in orders.iter().filter(|_| stops_it) {
                    assert!(sight(&order.instance).health == Health::Out, "hooks behind the balancer");
                }
            }
            Effect::Suspend { group, .. } | Effect::SetMin { group, .. } => {
                assert!(hold(group).is_some(), "{effect:?} before the journal");
            }
            Effect::EnterStandby { group, instances } => {
                assert!(hold(group).is_some_and(|hold| hold.tagged), "standby before the journal");
                let (desired, min) = (fleet.groups[group].desired, fleet.groups[group].min);
                assert!(
                    desired - u32::try_from(instances.len()).unwrap() >= min,
                    "it would be refused: below MinSize"
                );
                instances.iter().for_each(|id| assert_eq!(sight(id).lifecycle, Lifecycle::InService));
            }
            Effect::ExitStandby { instances, .. } => {
                instances.iter().for_each(|id| assert_eq!(sight(id).lifecycle, Lifecycle::Standby));
            }
            _ => {}
        }
    }
}

/// A fleet on paper, with troubles.
struct Toy {
    fleet: PaperFleet,
    troubles: Troubles,
}

impl std::ops::Deref for Toy {
    type Target = PaperFleet;
    fn deref(&self) -> &PaperFleet {
        &self.fleet
    }
}

impl std::ops::DerefMut for Toy {
    fn deref_mut(&mut self) -> &mut PaperFleet {
        &mut self.fleet
    }
}

impl Toy {
    fn new(count: usize, policy: Policy) -> Toy {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let members = (0..count)
            .map(|n| {
                let mut record = Instance::new(&format!("i-{n:02}"), ["a", "b", "c"][n % 3], "asg", now);
                record.memberships = vec![Membership {
                    target_group: "tg".into(),
                    port: 80,
                    owned: true,
                    seen: true,
                    unwatched: false,
                }];
                record.good = Some("old".into());
                record.healthy_at_start = true;
                let sight = Sight::serving();
                Member { record, sight, attempt: None }
            })
            .collect();
        let total = u32::try_from(count).unwrap();
        let group = Group { min: total, max: 2 * total, desired: total, suspended: Vec::new(), hold: None };
        let deployment = Deployment::beginning(1, total, total, now);
        let snapshot = Snapshot {
            deployment,
            policy,
            revision: Revision { run_seconds: 60, ..Revision::default() },
            members,
            groups: BTreeMap::from([("asg".to_owned(), group)]),
            timing: Timing { deregistration_delay: DRAIN, becoming_healthy: HEALTH },
            refused: BTreeMap::new(),
            outage: None,
            outage_ended: false,
        };
        let pace = Pace { staging: HOOKS, hooks: HOOKS, drain: DRAIN, health: HEALTH };
        let mut troubles = Troubles::default();
        Toy { fleet: PaperFleet::new(snapshot, pace, now, &mut troubles), troubles }
    }

    fn fail(&mut self, instance: usize, times: u32, cause: Cause, line: &str) {
        let id = self.snapshot.members[instance].record.id.clone();
        self.troubles.of.insert(id, Trouble { times, cause, line: line.into() });
    }

    fn member(&mut self, id: &str) -> &mut Member {
        self.find(id).unwrap()
    }

    fn tick(&mut self) -> bool {
        self.fleet.tick(&mut self.troubles).unwrap()
    }

    fn act(&mut self, effect: &Effect) {
        self.fleet.act(effect, &mut self.troubles);
    }

    fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.tick() {
                return;
            }
            if self.snapshot.deployment.settled && self.snapshot.deployment.cancel.is_none() {
                return;
            }
        }
        panic!("no end: {:?}", self.snapshot.deployment);
    }

    fn states(&self, state: S) -> usize {
        self.snapshot.members.iter().filter(|member| member.record.state() == state).count()
    }

    /// Everything that was taken out is back in or quarantined by name; the group is as it was.
    fn is_in_order(&self) {
        let group = &self.snapshot.groups["asg"];
        assert!(group.hold.is_none() && group.suspended.is_empty(), "{group:?}");
        for member in &self.snapshot.members {
            let out = member.sight.lifecycle == Lifecycle::Standby;
            assert_eq!(out, member.record.is_quarantined(), "{:?} {:?}", member.record, member.sight);
        }
    }
}

fn policy(batch: &str) -> Policy {
    Policy { batch: Batches::new(vec![batch.parse().unwrap()]).unwrap(), ..Policy::default() }
}
