//! A rollout under everything that may happen to it, in any order: people, AWS, broken hosts, others who change the group,
//! the daemon's own death. The reference is the story told; under test is the planner, with the fleet of
//! `fleet` and the rules of `fleet::rules`.
//! `tests/model` runs many cases.

// How many cases are wanted comes from the environment, which `rollout` itself may not look at.
#![cfg(test)]

use super::{properties::arbitrary_policy, *};
use crate::rollout::{
    policy::{OnFailure, Retry, Zones},
    verb::Verb,
};
use proptest::{prelude::*, sample::select, strategy::Union};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

mod fleet;
use fleet::Fleet;

/// The calls of AWS that may be refused.
const CALLS: [&str; 8] = [
    "SendCommand",
    "EnterStandby",
    "ExitStandby",
    "UpdateAutoScalingGroup",
    "SuspendProcesses",
    "ResumeProcesses",
    "CreateOrUpdateTags",
    "DeleteTags",
];
const KINDS: [DispatchKind; 5] = [
    DispatchKind::Run,
    DispatchKind::Stage,
    DispatchKind::PreBlock,
    DispatchKind::PostAllow,
    DispatchKind::Restore,
];
const LINES: [&str; 3] = ["failure kind a", "failure kind b", "failure kind c"];
/// Instances that leave, and instances that join, in one story.
const MOST_CHANGES: u32 = 3;
const MOST_DEATHS: u32 = 5;

/// How the next dispatches of one kind fail on an instance.
#[derive(Clone, Debug)]
struct Armed {
    times: u32,
    code: i32,
    line: &'static str,
}

/// How a call is refused, once.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// Seconds until it is tried again.
    pause: i64,
    /// An id was the reason; else AWS was throttling.
    for_an_id: bool,
}

/// What happens. An instance is meant by its number, modulo the size of the fleet.
#[derive(Clone, Debug)]
enum Event {
    /// That many looks of the planner, with time going on to the next thing that happens.
    Advance(usize),
    Arm(usize, DispatchKind, Armed),
    /// The agent is lost, and with it the attempt in work.
    Lose(usize),
    Refuse(&'static str, Refusal),
    /// Each call of that name is denied, for that many seconds.
    Deny(&'static str, i64),
    /// The fleet can't be seen, for that many seconds.
    Outage(i64),
    /// What is seen is what was seen that many seconds before, for as long.
    Stale(i64),
    /// Unhealthy behind the balancer, for that many seconds.
    Sicken(usize, i64),
    Terminate(usize),
    /// Somebody wants the group smaller by one, and this one is chosen.
    Shrink(usize),
    Join,
    /// Somebody wants that many more than are in service.
    Desire(u32),
    /// Somebody sets MinSize.
    SetMin(u32),
    /// A person's verb; of one instance alone where that can be.
    Verb(Verb, Option<usize>),
    Cancel(Cancel),
    /// The daemon is stopped between two looks, and started again; with a configuration in which the group stands for other
    /// Auto Scaling groups than the deployment was planned with, or with the old one.
    Restart(bool),
    /// It dies after that many effects of a plan, perhaps with the next one in the journal and not made.
    Crash(usize, bool),
}

/// The story so far: what may happen next depends on no more.
#[derive(Clone, Debug)]
struct Story {
    count: usize,
    policy: Policy,
    pre_block: bool,
    post_allow: bool,
    fallback: bool,
    cancelled: Option<Cancel>,
    left: u32,
    joined: u32,
    deaths: u32,
}

enum Machine {}

impl ReferenceStateMachine for Machine {
    type State = Story;
    type Transition = Event;

    fn init_state() -> BoxedStrategy<Story> {
        (1..14usize, any_policy(), any::<[bool; 3]>())
            .prop_map(|(count, mut policy, [pre_block, post_allow, fallback])| {
                let total = u32::try_from(count).unwrap();
                let room = total - policy.batch.largest(total);
                policy.min_in_service =
                    policy.min_in_service.map(|keep| Size::Count(keep.of(total).min(room)));
                let (cancelled, left, joined, deaths) = (None, 0, 0, 0);
                Story { count, policy, pre_block, post_allow, fallback, cancelled, left, joined, deaths }
            })
            .boxed()
    }

    fn transitions(story: &Story) -> BoxedStrategy<Event> {
        let who = 0..story.count + story.joined as usize;
        let armed = (1..5u32, select(vec![75_i32, 1, 127]), select(LINES.to_vec()))
            .prop_map(|(times, code, line)| Armed { times, code, line });
        // Runs fail most.
        let kind = prop_oneof![3 => Just(DispatchKind::Run), 4 => select(KINDS.to_vec())];
        let refusal = (1..100i64, any::<bool>()).prop_map(|(pause, for_an_id)| Refusal { pause, for_an_id });
        let verb = (select(Verb::ALL.to_vec()), proptest::option::of(who.clone()));
        let cancel = prop_oneof![Just(Cancel::After), Just(Cancel::Now)];
        let all = vec![
            (20, (1..20usize).prop_map(Event::Advance).boxed()),
            (
                6,
                (who.clone(), kind, armed)
                    .prop_map(|(who, kind, armed)| Event::Arm(who, kind, armed))
                    .boxed(),
            ),
            (3, who.clone().prop_map(Event::Lose).boxed()),
            (4, (select(CALLS.to_vec()), refusal).prop_map(|(call, how)| Event::Refuse(call, how)).boxed()),
            (
                2,
                (select(CALLS.to_vec()), 1..4000i64)
                    .prop_map(|(call, seconds)| Event::Deny(call, seconds))
                    .boxed(),
            ),
            (2, (1..4000i64).prop_map(Event::Outage).boxed()),
            (2, (1..10i64).prop_map(Event::Stale).boxed()),
            (4, (who.clone(), 1..200i64).prop_map(|(who, seconds)| Event::Sicken(who, seconds)).boxed()),
            (2, who.clone().prop_map(Event::Terminate).boxed()),
            (1, who.prop_map(Event::Shrink).boxed()),
            (1, Just(Event::Join).boxed()),
            (1, (0..4u32).prop_map(Event::Desire).boxed()),
            (1, (0..14u32).prop_map(Event::SetMin).boxed()),
            (6, verb.prop_map(|(verb, only)| Event::Verb(verb, only)).boxed()),
            (1, cancel.prop_map(Event::Cancel).boxed()),
            (2, prop_oneof![2 => Just(false), 1 => Just(true)].prop_map(Event::Restart).boxed()),
            (3, (0..4usize, any::<bool>()).prop_map(|(had, begun)| Event::Crash(had, begun)).boxed()),
        ];
        Union::new_weighted(all).boxed()
    }

    fn preconditions(story: &Story, event: &Event) -> bool {
        match event {
            Event::Terminate(_) | Event::Shrink(_) => story.left < MOST_CHANGES,
            Event::Join => story.joined < MOST_CHANGES,
            Event::Restart(_) | Event::Crash(..) => story.deaths < MOST_DEATHS,
            Event::Cancel(how) => match story.cancelled {
                None => true,
                Some(before) => (before, *how) == (Cancel::After, Cancel::Now),
            },
            _ => true,
        }
    }

    fn apply(mut story: Story, event: &Event) -> Story {
        match event {
            Event::Terminate(_) | Event::Shrink(_) => story.left += 1,
            Event::Join => story.joined += 1,
            Event::Restart(_) | Event::Crash(..) => story.deaths += 1,
            Event::Cancel(how) => story.cancelled = Some(*how),
            _ => {}
        }
        story
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Fleet;
    type Reference = Machine;

    fn init_test(story: &Story) -> Fleet {
        Fleet::new(story)
    }

    fn apply(mut fleet: Fleet, _: &Story, event: Event) -> Fleet {
        fleet.live(event);
        fleet
    }

    fn check_invariants(fleet: &Fleet, _: &Story) {
        fleet.rules();
    }

    fn teardown(mut fleet: Fleet, _: Story) {
        fleet.end();
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let zones = select(vec![Zones::Any, Zones::Spread, Zones::OneAtATime]);
    let retry = (1..5u32, 1..4u32).prop_map(|(attempts, attempts_unknown)| Retry {
        attempts,
        attempts_unknown,
        ..Retry::default()
    });
    let on_failure = select(vec![OnFailure::Halt, OnFailure::Rollback]);
    (arbitrary_policy(), zones, retry, on_failure, proptest::option::of(1..4u32)).prop_map(
        |(policy, zones, retry, on_failure, approve_after)| Policy {
            zones,
            retry,
            on_failure,
            approve_after,
            ..policy
        },
    )
}

fn config() -> ProptestConfig {
    let cases = std::env::var("DROVER_MODEL_CASES")
        .map_or(500, |cases| cases.parse::<u32>().expect("DROVER_MODEL_CASES is a number of cases"));
    // Cases that are left out for what may not happen (a fourth termination) are few, but grow with the number of cases.
    ProptestConfig { cases, max_local_rejects: cases.saturating_mul(200), ..ProptestConfig::default() }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_the_safety_rules_hold(sequential 1..40 => Machine);
}
