//! The planner against a toy fleet: pure, with time that jumps to the next thing that happens.

use super::*;
use crate::rollout::{
    paper::{Fate, Pace, PaperFleet},
    policy::{Batches, Mode, Policy, Size},
    snapshot::{Cancel, Deployment, Group, Health, Lifecycle, Member, Outcome, Revision, Timing},
    state::{DeploymentState as D, InstanceState as S, Membership},
};
use jiff::SignedDuration;
use proptest::prelude::*;

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

impl Fate for Troubles {
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

    fn meet(&mut self, effect: &Effect, fleet: &Snapshot) {
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
            blind: None,
            regained: false,
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
            assert_eq!(out, member.record.quarantined(), "{:?} {:?}", member.record, member.sight);
        }
    }
}

fn policy(batch: &str) -> Policy {
    Policy { batch: Batches::new(vec![batch.parse().unwrap()]).unwrap(), ..Policy::default() }
}

#[test]
fn a_quiet_rollout_takes_batches_of_two() {
    let mut toy = Toy::new(6, policy("2"));
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 6));
    assert_eq!(toy.lowest_in_service, 4);
    assert_eq!(
        toy.dispatches,
        [(DispatchKind::Stage, 6), (DispatchKind::Run, 2), (DispatchKind::Run, 2), (DispatchKind::Run, 2)]
    );
    assert_eq!(toy.snapshot.groups["asg"].min, 6);
    toy.is_in_order();
}

#[test]
fn a_transient_failure_is_retried_where_it_happened() {
    let mut toy = Toy::new(6, policy("2"));
    toy.fail(3, 2, Cause::Exit(75), "registry timed out");
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Succeeded);
    assert_eq!(toy.troubles.runs["i-03"], 3);
    toy.is_in_order();
}

#[test]
fn the_same_failure_everywhere_is_systemic_and_the_rest_is_untouched() {
    let mut toy = Toy::new(6, policy("2"));
    (0..6).for_each(|n| toy.fail(n, 9, Cause::Exit(1), "cannot open database"));
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted);
    assert!(
        toy.snapshot.deployment.reason.as_ref().unwrap().contains("systemic"),
        "{:?}",
        toy.snapshot.deployment.reason
    );
    assert_eq!((toy.states(S::Failed), toy.states(S::Staged)), (2, 4));
    assert_eq!(toy.in_service(), 4);
    toy.is_in_order();
}

#[test]
fn one_bad_instance_within_the_budget_is_quarantined_and_the_rest_goes_on() {
    let mut toy = Toy::new(6, Policy { max_failed: Size::Count(1), ..policy("2") });
    toy.fail(2, 9, Cause::Exit(1), "bad disk");
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Partial);
    assert_eq!((toy.states(S::Succeeded), toy.states(S::Failed)), (5, 1));
    toy.is_in_order();
}

#[test]
fn past_the_budget_nothing_new_is_started() {
    let mut toy = Toy::new(6, policy("2"));
    toy.fail(0, 9, Cause::Exit(1), "bad disk");
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted);
    assert!(toy.snapshot.deployment.reason.as_ref().unwrap().contains("max_failed \"10%\" allows 0"));
    assert_eq!((toy.states(S::Succeeded), toy.states(S::Staged)), (1, 4));
    toy.is_in_order();
}

#[test]
fn a_failed_canary_halts_whatever_the_budget() {
    let steps = Batches::new(vec![Size::Count(1), Size::Percent(50)]).unwrap();
    let mut toy = Toy::new(10, Policy { batch: steps, max_failed: Size::Count(5), ..Policy::default() });
    toy.fail(0, 9, Cause::Exit(1), "boom");
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Staged)), (D::Halted, 9));
}

#[test]
fn a_halt_waits_for_a_person_even_when_the_last_batch_failed() {
    let halted = || {
        let mut toy = Toy::new(4, policy("2"));
        toy.fail(3, 9, Cause::Exit(1), "bad disk");
        toy.run();
        assert_eq!(toy.snapshot.deployment.state, D::Halted);
        assert!(toy.snapshot.deployment.settled);
        assert_eq!((toy.states(S::Succeeded), toy.states(S::Failed)), (3, 1));
        toy.is_in_order();
        toy
    };
    let mut nobody_came = halted();
    let until = nobody_came.snapshot.deployment.since + nobody_came.snapshot.policy.deadlines.halted;
    let plan = plan(&nobody_came.snapshot, until - SignedDuration::from_secs(1)).unwrap();
    assert!(plan.changes.is_empty() && plan.wake_at == Some(until), "{plan:?}");
    nobody_came.now = until;
    nobody_came.tick();
    assert_eq!(nobody_came.snapshot.deployment.state, D::Failed);
    let mut cancelled = halted();
    cancelled.snapshot.deployment.cancel = Some(Cancel::After);
    cancelled.run();
    assert_eq!(cancelled.snapshot.deployment.state, D::Cancelled);
}

#[test]
fn close_looks_begin_when_the_drain_is_due_and_end() {
    let mut toy = Toy::new(2, policy("1"));
    while toy.states(S::Blocking) == 0 || toy.coming.is_empty() {
        toy.tick();
    }
    let wake = |toy: &Toy, after: i64| {
        let now = toy.now + SignedDuration::from_secs(after);
        plan(&toy.snapshot, now).unwrap().wake_at.map(|at| at.duration_since(now).as_millis())
    };
    assert!(wake(&toy, 0).is_some_and(|pause| (10_000..10_500).contains(&pause)));
    assert_eq!(wake(&toy, 12), Some(500));
    assert!(wake(&toy, 30).is_some_and(|pause| pause > 500));
}

#[test]
fn an_agent_lost_while_staging_is_staged_again_from_the_start() {
    let mut toy = Toy::new(2, policy("1"));
    while toy.states(S::Staging) < 2 || toy.results.is_empty() {
        toy.tick();
    }
    let cause = Cause::AgentLost("no word of the runner".into());
    let fault = Fault { event: LifecycleEvent::DownloadBundle, hook: None, cause, tail: Vec::new() };
    let lost = Fault { event: LifecycleEvent::ApplicationStop, ..fault };
    toy.results[0].3 = Outcome::Failed(lost);
    while toy.states(S::Waiting) == 0 {
        toy.tick();
    }
    assert!(toy.snapshot.members.iter().all(|member| member.record.resume().is_none()));
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Succeeded);
}

#[test]
fn a_window_does_not_wait_for_the_slowest() {
    let mut batch = Toy::new(8, policy("2"));
    let mut window = Toy::new(8, Policy { mode: Mode::Window, ..policy("2") });
    for toy in [&mut batch, &mut window] {
        // One slow member in each of two batches: strict batches wait for both, one after the other.
        toy.fail(0, 2, Cause::Exit(75), "once");
        toy.fail(3, 2, Cause::Exit(75), "once");
        toy.run();
        assert_eq!((toy.snapshot.deployment.state, toy.lowest_in_service), (D::Succeeded, 6));
    }
    assert!(window.now < batch.now, "{} {}", window.now, batch.now);
}

#[test]
fn an_unhealthy_instance_goes_first_and_needs_no_spare_capacity() {
    let mut toy = Toy::new(4, Policy { min_in_service: Some(Size::Count(3)), ..policy("1") });
    toy.snapshot.members[2].sight.health = Health::Unhealthy("Target.Timeout".into());
    toy.snapshot.deployment.healthy_at_start = 3;
    while toy.snapshot.deployment.batch == 0 {
        toy.tick();
    }
    assert_eq!(toy.snapshot.members[2].record.batch, Some(1));
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.lowest_in_service), (D::Succeeded, 3));
}

#[test]
fn an_instance_that_leaves_is_no_failure() {
    let mut toy = Toy::new(6, policy("2"));
    while toy.states(S::Deploying) == 0 {
        toy.tick();
    }
    let at = toy.snapshot.members.iter().position(|member| member.record.state() == S::Deploying).unwrap();
    toy.snapshot.members[at].sight.lifecycle = Lifecycle::Leaving;
    toy.run();
    assert_eq!(
        (toy.snapshot.deployment.state, toy.states(S::Gone), toy.states(S::Succeeded)),
        (D::Succeeded, 1, 5)
    );
}

#[test]
fn cancel_puts_the_former_release_back() {
    let mut toy = Toy::new(6, policy("2"));
    while toy.states(S::Deploying) < 2 || toy.results.is_empty() {
        toy.tick();
    }
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Cancelled);
    assert_eq!((toy.states(S::Restored), toy.states(S::Skipped)), (2, 4));
    assert_eq!(toy.in_service(), 6);
    toy.is_in_order();
}

#[test]
fn a_refused_effect_holds_the_end_back_and_is_said() {
    let mut toy = Toy::new(2, policy("1"));
    let until = toy.now + SignedDuration::from_mins(30);
    let message = "ExitStandby was refused: ScalingActivityInProgress".to_owned();
    let refused =
        crate::rollout::snapshot::Refused { times: 1, until, since: toy.now, of_the_account: false, message };
    toy.snapshot.refused.insert("ExitStandby:asg".into(), refused);
    while toy.states(S::Allowing) == 0 {
        toy.tick();
    }
    let plan = plan(&toy.snapshot, toy.now).unwrap();
    assert!(plan.effects.is_empty() && plan.wake_at.is_some_and(|at| at <= until), "{plan:?}");
    assert!(plan.explain.deployment.iter().any(|line| line.contains("ScalingActivityInProgress")));
}

fn arbitrary_policy() -> impl Strategy<Value = Policy> {
    let size = prop_oneof![(1..5u32).prop_map(Size::Count), (1..60u32).prop_map(Size::Percent)];
    (proptest::collection::vec(size, 1..4), any::<bool>(), proptest::option::of(0..4u32), 0..4u32, 0..20i64)
        .prop_map(|(steps, window, keep, failed, bake)| Policy {
            batch: Batches::new(steps).unwrap(),
            mode: if window { Mode::Window } else { Mode::Batch },
            min_in_service: keep.map(Size::Count),
            max_failed: Size::Count(failed),
            bake: SignedDuration::from_secs(bake),
            allow_downtime: true,
            ..Policy::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn the_safety_rules_hold(
        count in 1..14usize,
        policy in arbitrary_policy(),
        trouble in proptest::collection::vec((0..14usize, 1..5u32, prop_oneof![Just(75), Just(1), Just(127)], 0..3u8), 0..5),
        cancel_at in proptest::option::of(0..60usize),
        leave_at in proptest::option::of((0..60usize, 0..14usize)),
    ) {
        let mut toy = Toy::new(count, policy.clone());
        let total = u32::try_from(count).unwrap();
        prop_assume!(policy.check_fleet(total).is_ok());
        for (instance, times, code, line) in trouble {
            toy.fail(instance % count, times, Cause::Exit(code), &format!("failure kind {}", ["a", "b", "c"][line as usize]));
        }
        let mut left = false;
        for step in 0..10_000 {
            if cancel_at == Some(step) && !toy.snapshot.deployment.state.is_final() {
                toy.snapshot.deployment.cancel = Some(Cancel::After);
            }
            if let Some((at, who)) = leave_at && at == step {
                toy.snapshot.members[who % count].sight = Sight { lifecycle: Lifecycle::Leaving, health: Health::Out, registered: vec![], condemned: None, given_up: false };
                let who = toy.snapshot.members[who % count].record.id.clone();
                toy.coming.retain(|(_, id, ..)| *id != who);
                left = true;
            }
            let goes_on = toy.tick();
            let stopped = toy.snapshot.deployment.settled && toy.snapshot.deployment.cancel.is_none();
            if stopped && (cancel_at.is_none_or(|at| at <= step)) || !goes_on && cancel_at.is_none_or(|at| at <= step || toy.snapshot.deployment.state.is_final()) {
                break;
            }
            prop_assert!(step < 9_999, "no end: {:?}", toy.snapshot.deployment);
        }
        // Every deployment ends, or halts in order.
        let state = toy.snapshot.deployment.state;
        prop_assert!(state.is_final() || state == D::Halted && toy.snapshot.deployment.settled, "{state}");
        // Never more out of service than allowed, by our doing. The one that left is not our doing.
        let keep = policy.keep_in_service(total, total);
        prop_assert!(toy.lowest_in_service + usize::from(left) >= keep as usize, "{} < {keep}", toy.lowest_in_service);
        // Every instance taken out is put back or quarantined by name, and the group is as it was.
        let group = &toy.snapshot.groups["asg"];
        prop_assert!(group.hold.is_none() && group.suspended.is_empty());
        for member in &toy.snapshot.members {
            if member.record.state() != S::Gone && member.sight.lifecycle != Lifecycle::Leaving {
                prop_assert_eq!(member.sight.lifecycle == Lifecycle::Standby, member.record.quarantined(), "{:?}", member);
            }
        }
        // A failed rollout starts no new work: whoever was never started is still whole.
        for member in toy.snapshot.members.iter().filter(|member| member.record.batch.is_none()) {
            prop_assert!(!member.record.touched);
        }
    }
}

#[path = "machine_tests.rs"]
mod machine;
#[path = "safety_tests.rs"]
mod safety;
#[path = "verb_tests.rs"]
mod verbs;
