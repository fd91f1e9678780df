//! The safety rules, with any policy, any failures, a cancel and a departure at any moment.

use super::*;
use proptest::prelude::*;

pub(super) fn arbitrary_policy() -> impl Strategy<Value = Policy> {
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
                toy.snapshot.members[who % count].sight = Sight { lifecycle: Lifecycle::Leaving, health: Health::Out, registered: vec![], failed_health_check: None, scaled_in: false };
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
                prop_assert_eq!(member.sight.lifecycle == Lifecycle::Standby, member.record.is_quarantined(), "{:?}", member);
            }
        }
        // A failed rollout starts no new work: whoever was never started is still whole.
        for member in toy.snapshot.members.iter().filter(|member| member.record.batch.is_none()) {
            prop_assert!(!member.record.touched);
        }
    }
}
