//! What once could have cost an operator the fleet: back means back, good means good, least means least.

use super::*;
use crate::rollout::policy::OnFailure;

/// A fault of a hook of the run.
fn failed_at(event: LifecycleEvent, code: i32) -> Outcome {
    let hook = Some("hooks/one".to_owned());
    Outcome::Failed(Fault { event, hook, cause: Cause::Exit(code), tail: vec!["boom".to_owned()] })
}

/// The orders of the next plan that has a dispatch of this kind.
fn orders_of(toy: &mut Toy, wanted: DispatchKind) -> Vec<Order> {
    for _ in 0..1_000 {
        let coming = plan(&toy.snapshot, toy.now).unwrap();
        for effect in &coming.effects {
            if let Effect::Dispatch { kind, orders } = effect
                && *kind == wanted
            {
                return orders.clone();
            }
        }
        toy.tick();
    }
    panic!("no dispatch of {wanted:?}: {:#?}", toy.snapshot)
}

/// The run of each instance in work ends like this.
fn runs_end_with(toy: &mut Toy, outcome: &Outcome) {
    toy.until(|toy| toy.states(S::Deploying) > 0 && !toy.results.is_empty());
    for result in &mut toy.results {
        result.3 = outcome.clone();
    }
}

#[test]
fn a_restore_begins_at_its_own_beginning_whatever_the_retry_was_to_resume() {
    let mut toy = Toy::new(4, policy("1"));
    runs_end_with(&mut toy, &failed_at(LifecycleEvent::ApplicationStart, 75));
    toy.until(|toy| toy.states(S::Waiting) > 0);
    assert_eq!(toy.snapshot.members[0].record.resume(), Some(LifecycleEvent::ApplicationStart));
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    let orders = orders_of(&mut toy, DispatchKind::Restore);
    assert_eq!(orders[0].first, LifecycleEvent::ApplicationStop, "Install would be skipped");
}

#[test]
fn a_restore_is_over_when_the_host_says_that_the_former_release_is_current() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Deploying) > 0 && !toy.results.is_empty());
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    toy.until(|toy| toy.states(S::Restoring) > 0 && !toy.results.is_empty());
    toy.results[0].3 = Outcome::Succeeded { current: Some("new".into()) };
    toy.until(|toy| toy.states(S::Restoring) == 0);
    let record = &toy.snapshot.members[0].record;
    assert_eq!(record.state(), S::Waiting, "{record:?}");
    assert!(record.fault.as_ref().unwrap().words().contains("left new as the current release, not old"));
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Restored)), (D::Cancelled, 1));
}

#[test]
fn after_a_late_drain_the_run_begins_at_its_first_event() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Blocking) > 0 && !toy.coming.is_empty());
    // It drains for longer than its deadline.
    toy.coming[0].0 += SignedDuration::from_secs(65);
    toy.coming[0].3 = Health::Out;
    let orders = orders_of(&mut toy, DispatchKind::Run);
    assert_eq!(orders[0].first, LifecycleEvent::AfterBlockTraffic);
}

/// Auto Scaling takes the instance away because the balancer found it unhealthy, before our own deadline.
fn taken_away_by_its_health_check(toy: &mut Toy) -> String {
    toy.until(|toy| toy.states(S::Allowing) > 0);
    let member = toy.snapshot.members.iter_mut().find(|m| m.record.state() == S::Allowing).unwrap();
    member.sight =
        Sight { failed_health_check: Some("ELB system health check failure".into()), ..Sight::gone() };
    let id = member.record.id.clone();
    toy.coming.retain(|(_, who, ..)| *who != id);
    id
}

#[test]
fn an_instance_that_a_health_check_takes_away_with_the_new_revision_is_a_failure_of_it() {
    let mut toy = Toy::new(6, policy("2"));
    let id = taken_away_by_its_health_check(&mut toy);
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted);
    let record = &toy.member(&id).record;
    assert_eq!((record.state(), record.is_quarantined()), (S::Failed, false));
    assert!(record.failure().unwrap().fault.words().contains("ELB system health check failure"));
    assert_eq!(toy.states(S::Staged), 4, "the next batch is not begun");
    toy.is_in_order();
}

#[test]
fn a_revision_that_health_checks_take_away_is_rolled_back_where_that_is_wanted() {
    let mut toy = Toy::new(6, Policy { on_failure: OnFailure::Rollback, ..policy("2") });
    toy.snapshot.deployment.fallback = Some("old".into());
    taken_away_by_its_health_check(&mut toy);
    toy.run();
    assert!(toy.snapshot.deployment.rolled_back);
    assert_eq!(toy.snapshot.deployment.state, D::Failed);
}

#[test]
fn one_that_succeeded_and_is_then_taken_away_by_its_health_check_counts_too() {
    let mut toy = Toy::new(6, policy("1"));
    toy.until(|toy| toy.states(S::Succeeded) > 0);
    let member = toy.snapshot.members.iter_mut().find(|m| m.record.state() == S::Succeeded).unwrap();
    member.sight =
        Sight { failed_health_check: Some("ELB system health check failure".into()), ..Sight::gone() };
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Failed)), (D::Halted, 1));
}

#[test]
fn a_scale_in_while_it_becomes_healthy_is_no_failure() {
    let mut toy = Toy::new(6, policy("2"));
    taken_away_by_its_health_check(&mut toy);
    for member in &mut toy.snapshot.members {
        member.sight.failed_health_check = None;
    }
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Gone)), (D::Succeeded, 1));
}

/// Twelve instances, of which the first two are the only targets of a small target group.
fn with_a_small_target_group(policy: Policy) -> Toy {
    let mut toy = Toy::new(12, policy);
    for member in &mut toy.snapshot.members[..2] {
        member.record.memberships.push(Membership {
            target_group: "small".into(),
            port: 81,
            owned: true,
            seen: true,
            unwatched: false,
        });
    }
    toy
}

/// The fewest of these that served at once.
fn fewest(toy: &mut Toy, of: std::ops::Range<usize>) -> usize {
    let mut fewest = usize::MAX;
    for look in 0.. {
        assert!(look < 10_000, "no end: {:#?}", toy.snapshot);
        if !toy.tick() {
            break;
        }
        let serves = |member: &&Member| member.sight.serves();
        fewest = fewest.min(toy.snapshot.members[of.clone()].iter().filter(serves).count());
        assert!(!toy.snapshot.deployment.settled, "{:?}", toy.snapshot.deployment);
    }
    assert_eq!(toy.snapshot.deployment.state, D::Succeeded);
    fewest
}

#[test]
fn the_least_in_service_holds_for_each_target_group() {
    let keep = Policy { min_in_service: Some(Size::Percent(50)), ..policy("4") };
    let mut toy = with_a_small_target_group(keep);
    assert_eq!(fewest(&mut toy, 0..2), 1);
    let mut toy = with_a_small_target_group(policy("4"));
    assert_eq!(fewest(&mut toy, 0..2), 1, "no leave for an outage was given");
}

#[test]
fn the_least_in_service_holds_for_each_auto_scaling_group() {
    let mut toy = Toy::new(9, Policy { min_in_service: Some(Size::Count(2)), ..policy("3") });
    let small = Group { min: 0, max: 6, desired: 3, suspended: Vec::new(), hold: None };
    toy.snapshot.groups.insert("small".into(), small);
    for member in &mut toy.snapshot.members[..3] {
        member.record.group = "small".into();
    }
    assert_eq!(fewest(&mut toy, 0..3), 2);
}

#[test]
fn a_target_group_from_which_nothing_could_be_taken_is_refused_with_the_arithmetic() {
    let keep = Policy { min_in_service: Some(Size::Count(2)), ..policy("4") };
    let toy = with_a_small_target_group(keep.clone());
    let records: Vec<Instance> = toy.snapshot.members.iter().map(|m| m.record.clone()).collect();
    let words = check_pools(&keep, &records).unwrap_err();
    assert!(words.contains("2 of the instances are in target group small, of which 2 must stay"), "{words}");
    assert_eq!(check_pools(&policy("4"), &records), Ok(()));
}

#[test]
fn a_fleet_that_cannot_be_thinned_any_more_halts_with_the_arithmetic() {
    let mut toy = Toy::new(6, Policy { min_in_service: Some(Size::Count(4)), ..policy("1") });
    toy.until(|toy| toy.states(S::Succeeded) > 0);
    // Three fall over by themselves, and stay so.
    for member in toy.snapshot.members.iter_mut().filter(|m| m.record.state() == S::Succeeded) {
        member.sight.health = Health::Unhealthy("Target.Timeout".into());
    }
    let rest = toy.snapshot.members.iter_mut().filter(|m| m.record.state() == S::Staged).take(1);
    rest.for_each(|member| member.sight = Sight::gone());
    let begun = toy.now;
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted, "{:?}", toy.snapshot.deployment);
    let words = toy.snapshot.deployment.reason.clone().unwrap();
    assert!(words.contains("4 healthy, 4 must stay in service"), "{words}");
    assert!(toy.now.duration_since(begun) < SignedDuration::from_mins(10));
    toy.is_in_order();
}

#[test]
fn a_fleet_that_can_not_be_thinned_and_gets_no_more_halts_at_once() {
    let mut toy = Toy::new(6, Policy { min_in_service: Some(Size::Count(4)), ..policy("1") });
    toy.until(|toy| toy.states(S::Succeeded) == 1 && toy.states(S::Deploying) == 0);
    // Somebody scales in: all that are left serve, and no other is on its way.
    for member in toy.snapshot.members.iter_mut().filter(|m| m.record.state() == S::Staged).take(2) {
        member.sight = Sight::gone();
    }
    // One that is out in standby is not counted.
    let serve = toy.snapshot.members.iter().filter(|m| m.sight.lifecycle == Lifecycle::InService).count();
    let group = toy.fleet.snapshot.groups.get_mut("asg").unwrap();
    let serve = u32::try_from(serve).unwrap();
    (group.min, group.desired) = (group.min.min(serve), serve);
    let begun = toy.now;
    toy.run();
    let deployment = &toy.snapshot.deployment;
    assert_eq!(deployment.state, D::Halted, "{deployment:?}");
    let words = deployment.reason.clone().unwrap();
    assert!(
        words.contains("4 healthy, 4 must stay in service") && words.contains("none is on its way"),
        "{words}"
    );
    assert!(toy.now.duration_since(begun) < SignedDuration::from_mins(2), "{}", toy.now);
}

#[test]
fn a_share_to_stay_in_service_is_a_share_of_the_group_as_it_has_become() {
    let mut toy = Toy::new(10, Policy { min_in_service: Some(Size::Percent(80)), ..policy("1") });
    toy.until(|toy| toy.snapshot.deployment.batch == 1);
    for member in &mut toy.snapshot.members[5..] {
        member.sight = Sight::gone();
    }
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 5));
}

#[test]
fn a_long_rehearsal_is_not_taken_for_a_rollout_that_stops() {
    let toy = Toy::new(400, policy("1"));
    let rehearsal = crate::rollout::rehearse::rehearse(toy.snapshot.clone(), toy.pace, toy.now).unwrap();
    assert!(rehearsal.cut || rehearsal.ends == D::Succeeded, "{:?}", rehearsal.ends);
    let turn = (toy.pace.drain + toy.pace.hooks + toy.pace.health) * 400;
    let lasts = rehearsal.lasts.as_secs_f64();
    assert!((turn.as_secs_f64() * 0.9..turn.as_secs_f64() * 1.3).contains(&lasts), "{lasts} s, {turn:#}");
}

#[test]
fn the_desired_capacity_that_standby_took_comes_back_where_the_instance_does_not() {
    let mut toy = Toy::new(6, Policy { max_failed: Size::Count(1), ..policy("2") });
    toy.snapshot.groups.get_mut("asg").unwrap().min = 2;
    toy.fail(2, 9, Cause::Exit(1), "bad disk");
    toy.until(|toy| toy.states(S::Deploying) > 0);
    // One is terminated while it stands by: Auto Scaling doesn't replace what it no longer counts.
    let at = toy.snapshot.members.iter().position(|member| member.record.state() == S::Deploying).unwrap();
    toy.snapshot.members[at].sight = Sight::gone();
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Partial, "{:?}", toy.snapshot.deployment);
    let group = &toy.snapshot.groups["asg"];
    assert_eq!((group.min, group.desired), (2, 6), "of the quarantined one too");
    assert!(group.hold.is_none());
}

#[test]
fn the_desired_capacity_of_quarantined_ones_comes_back_once() {
    // At a halt MinSize brings it back; at the end nothing is added to that.
    let mut toy = Toy::new(6, policy("2"));
    toy.fail(2, 9, Cause::Exit(1), "bad disk");
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted);
    assert_eq!((toy.snapshot.groups["asg"].min, toy.snapshot.groups["asg"].desired), (6, 6));
    toy.resume();
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Partial, "{:?}", toy.snapshot.deployment);
    assert_eq!((toy.snapshot.groups["asg"].min, toy.snapshot.groups["asg"].desired), (6, 6));
    // While it waits for a person, it is not given back: the instance may be tried again.
    let mut toy = Toy::new(6, policy("2"));
    toy.snapshot.groups.get_mut("asg").unwrap().min = 2;
    toy.fail(2, 9, Cause::Exit(1), "bad disk");
    toy.run();
    assert_eq!(toy.snapshot.groups["asg"].desired, 5);
}

#[test]
fn a_rollback_gives_back_what_the_deployment_before_it_left_to_it() {
    for (owed, desired) in [(true, 6), (false, 5)] {
        let mut toy = Toy::new(6, Policy { max_failed: Size::Count(1), ..policy("2") });
        toy.snapshot.deployment.healthy_at_start = 5;
        let group = toy.snapshot.groups.get_mut("asg").unwrap();
        (group.min, group.desired) = (1, 5);
        let member = &mut toy.snapshot.members[2];
        (member.record.was_quarantined, member.record.is_capacity_owed, member.record.healthy_at_start) =
            (true, owed, false);
        (member.sight.lifecycle, member.sight.health) = (Lifecycle::Standby, Health::Out);
        toy.fail(2, 9, Cause::Exit(1), "bad disk");
        toy.run();
        assert_eq!(toy.snapshot.deployment.state, D::Partial, "{:?}", toy.snapshot.deployment);
        assert_eq!(toy.snapshot.groups["asg"].desired, desired, "owed: {owed}");
    }
}

#[test]
fn a_wish_to_stop_that_got_lost_is_repeated() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Deploying) > 0 && !toy.results.is_empty());
    toy.snapshot.deployment.cancel = Some(Cancel::Now);
    let stops = |toy: &Toy, after: i64| {
        let now = toy.now + SignedDuration::from_secs(after);
        let effects = plan(&toy.snapshot, now).unwrap().effects;
        effects.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).count()
    };
    assert_eq!(stops(&toy, 0), 1);
    toy.tick();
    // The host never hears of it.
    toy.results.clear();
    assert_eq!((stops(&toy, 59), stops(&toy, 60)), (0, 1));
}

#[test]
fn what_can_not_be_seen_is_judged_by_nobody_and_halts_in_the_end() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Allowing) > 0);
    let since = toy.now;
    let why = "DescribeTargetHealth was refused: AccessDenied".to_owned();
    toy.snapshot.outage = Some(crate::rollout::snapshot::Outage { since, why });
    toy.coming.clear();
    toy.until(|toy| toy.snapshot.deployment.state == D::Halted);
    let waited = toy.now.duration_since(since);
    assert_eq!((waited.as_mins(), toy.states(S::Failed), toy.states(S::Allowing)), (15, 0, 1));
    assert!(toy.snapshot.deployment.reason.as_ref().unwrap().contains("AccessDenied"));
    // Seen again, it is finished, and the group put in order.
    (toy.snapshot.outage, toy.snapshot.outage_ended) = (None, true);
    toy.tick();
    toy.snapshot.outage_ended = false;
    let at = toy.snapshot.members.iter().position(|m| m.record.state() == S::Allowing).unwrap();
    toy.snapshot.members[at].sight.lifecycle = Lifecycle::InService;
    toy.snapshot.members[at].sight.health = Health::Healthy;
    toy.run();
    assert_eq!((toy.snapshot.deployment.settled, toy.states(S::Succeeded)), (true, 1));
    toy.is_in_order();
}

#[test]
fn one_that_was_last_seen_leaving_gets_no_command_while_nothing_is_seen() {
    let mut toy = Toy::new(3, policy("1"));
    toy.snapshot.members.iter_mut().for_each(|member| member.record.phase = Phase::Staging(None));
    toy.snapshot.members[0].sight = Sight::gone();
    let outage = crate::rollout::snapshot::Outage { since: toy.now, why: "AWS doesn't answer".into() };
    toy.snapshot.outage = Some(outage);
    let (away, others) = (toy.snapshot.members[0].record.id.clone(), 2);
    let ordered = orders_of(&mut toy, DispatchKind::Stage);
    assert_eq!(ordered.len(), others, "{ordered:?}");
    assert!(ordered.iter().all(|order| order.instance != away), "{ordered:?}");
    // Nobody is taken for gone meanwhile; whoever is seen again is staged like the others.
    assert_eq!(toy.states(S::Gone), 0);
    toy.snapshot.outage = None;
    toy.snapshot.members[0].sight = toy.snapshot.members[1].sight.clone();
    assert_eq!(orders_of(&mut toy, DispatchKind::Stage)[0].instance, away);
}

#[test]
fn one_that_aws_never_lets_back_is_quarantined_by_name() {
    let mut toy = Toy::new(2, policy("1"));
    toy.until(|toy| toy.states(S::Allowing) > 0);
    let begun = toy.now;
    for _ in 0..1_000 {
        let (times, until, since) = (1, toy.now + SignedDuration::from_secs(20), begun);
        let message = "ExitStandby was refused: the group is at its MaxSize".to_owned();
        let refused =
            crate::rollout::snapshot::Refused { times, until, since, of_the_account: false, message };
        toy.snapshot.refused.insert("ExitStandby:asg".into(), refused);
        toy.tick();
        if toy.states(S::Failed) > 0 {
            break;
        }
    }
    let words = toy.snapshot.members.iter().find_map(|m| m.record.failure()).unwrap();
    assert!(words.quarantined && words.fault.words().contains("at its MaxSize"), "{words:?}");
    assert_eq!(toy.now.duration_since(begun).as_mins(), 30);
}
