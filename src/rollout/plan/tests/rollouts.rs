//! Ordinary rollouts, and what goes wrong in them.

use super::*;

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
