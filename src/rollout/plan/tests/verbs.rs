//! What people do to a rollout, and what it does by itself in their place.

use super::*;
use crate::rollout::policy::{OnFailure, Zones};

impl Toy {
    /// What the engine records when a person lets it go on.
    pub(super) fn resume(&mut self) {
        let deployment = &mut self.fleet.snapshot.deployment;
        (deployment.state, deployment.since, deployment.settled) = (D::Rolling, self.fleet.now, false);
        deployment.resumed_at = Some(self.fleet.now);
    }

    pub(super) fn pause(&mut self) {
        let deployment = &mut self.fleet.snapshot.deployment;
        (deployment.state, deployment.since, deployment.settled) = (D::Paused, self.fleet.now, false);
    }

    pub(super) fn until(&mut self, mut done: impl FnMut(&Toy) -> bool) {
        for _ in 0..10_000 {
            if done(self) {
                return;
            }
            assert!(self.tick(), "it stopped: {:?}", self.snapshot.deployment);
        }
        panic!("never: {:?}", self.snapshot.deployment);
    }
}

#[test]
fn a_pause_ends_what_is_in_work_and_puts_the_group_in_order() {
    let mut toy = Toy::new(6, policy("2"));
    toy.until(|toy| toy.states(S::Deploying) == 2);
    toy.pause();
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.snapshot.deployment.settled), (D::Paused, true));
    assert_eq!((toy.states(S::Succeeded), toy.states(S::Staged)), (2, 4));
    assert_eq!(toy.snapshot.groups["asg"].min, 6);
    toy.is_in_order();
    toy.resume();
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 6));
    toy.is_in_order();
}

#[test]
fn resumed_after_a_halt_earlier_failures_no_longer_count() {
    let mut toy = Toy::new(9, policy("2"));
    toy.fail(0, 9, Cause::Exit(1), "one");
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Failed)), (D::Halted, 1));
    toy.resume();
    toy.run();
    assert_eq!((toy.states(S::Succeeded), toy.states(S::Failed)), (8, 1));
    assert_eq!(toy.snapshot.deployment.state, D::Partial);
    toy.is_in_order();
}

#[test]
fn a_failed_one_tried_again_begins_anew() {
    let mut toy = Toy::new(6, policy("2"));
    toy.fail(0, 2, Cause::Exit(1), "one");
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Halted);
    let now = toy.now;
    assert!(toy.member("i-01").record.try_again(now).is_err(), "only a failed one can be");
    toy.member("i-00").record.try_again(now).unwrap();
    toy.resume();
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 6));
    assert_eq!(toy.troubles.runs["i-00"], 3);
    toy.is_in_order();
}

#[test]
fn the_rest_waits_for_approval() {
    for mode in [Mode::Batch, Mode::Window] {
        let mut toy = Toy::new(8, Policy { approve_after: Some(1), mode, ..policy("2") });
        toy.until(|toy| toy.states(S::Succeeded) == 2);
        toy.until(|toy| {
            let plan = plan(&toy.snapshot, toy.now).unwrap();
            plan.explain.deployment.concat().contains("waits for approval")
        });
        let plan = plan(&toy.snapshot, toy.now).unwrap();
        assert!(plan.effects.is_empty(), "{mode:?} {:?}", plan.effects);
        assert_eq!(toy.states(S::Staged), 6, "{mode:?}");
        toy.snapshot.deployment.approved = true;
        toy.run();
        assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 8), "{mode:?}");
    }
}

#[test]
fn a_target_that_turns_unhealthy_while_it_bakes_is_a_failure() {
    let mut toy = Toy::new(6, Policy { bake: SignedDuration::from_mins(5), ..policy("2") });
    toy.until(|toy| toy.states(S::Succeeded) == 2);
    toy.until(|toy| toy.snapshot.deployment.batch_done_at.is_some());
    toy.member("i-00").sight.health = Health::Unhealthy("Target.ResponseCodeMismatch".into());
    toy.until(|toy| toy.snapshot.deployment.settled);
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Failed)), (D::Halted, 1));
    let record = &toy.member("i-00").record;
    assert!(!record.is_quarantined(), "the balancer judges it");
    assert!(record.failure().unwrap().fault.words().contains("turned unhealthy"), "{record:?}");
}

#[test]
fn on_failure_rollback_goes_back_where_there_is_a_way_back() {
    for (fallback, state) in [(Some("good".to_owned()), D::Failed), (None, D::Halted)] {
        let mut toy = Toy::new(6, Policy { on_failure: OnFailure::Rollback, ..policy("2") });
        toy.snapshot.deployment.fallback = fallback;
        toy.fail(0, 9, Cause::Exit(1), "one");
        toy.run();
        assert_eq!(toy.snapshot.deployment.state, state);
        let reason = toy.snapshot.deployment.reason.clone().unwrap();
        assert!(reason.contains("1 of 6 instances failed"), "{reason}");
        assert_eq!(reason.contains("rolled back"), state == D::Failed, "{reason}");
        toy.is_in_order();
    }
}

#[test]
fn zones_are_spread_or_taken_one_at_a_time() {
    let zones_of = |toy: &Toy, batch: u32| {
        let of = |member: &&Member| member.record.batch == Some(batch);
        let mut zones: Vec<String> =
            toy.snapshot.members.iter().filter(of).map(|member| member.record.zone.clone()).collect();
        zones.sort();
        zones.concat()
    };
    // Named so that the order of ids is not the order of zones.
    let run = |zones| {
        let mut toy = Toy::new(9, Policy { zones, ..policy("3") });
        for (n, member) in toy.snapshot.members.iter_mut().enumerate() {
            member.record.zone = ["a", "a", "a", "a", "b", "b", "b", "c", "c"][n].into();
        }
        toy.run();
        assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 9));
        toy
    };
    let spread = run(Zones::Spread);
    assert_eq!([zones_of(&spread, 1), zones_of(&spread, 2), zones_of(&spread, 3)], ["abc", "abc", "aab"]);
    let single = run(Zones::OneAtATime);
    let each: Vec<String> = (1..=4).map(|batch| zones_of(&single, batch)).collect();
    assert_eq!(each, ["aaa", "a", "bbb", "cc"]);
    let any = run(Zones::Any);
    assert_eq!([zones_of(&any, 1), zones_of(&any, 2)], ["aaa", "abb"]);
}

#[test]
fn downloads_that_break_off_alike_are_tried_again() {
    let mut toy = Toy::new(6, policy("2"));
    toy.tick();
    let now = toy.now;
    // What a restart of the daemon does to all who are downloading from it.
    for id in ["i-00", "i-01", "i-02"] {
        let tail = vec!["the bundle could not be downloaded (curl ended with 52)".to_owned()];
        let fault = Fault { event: LifecycleEvent::DownloadBundle, hook: None, cause: Cause::Download, tail };
        let member = toy.member(id);
        let attempt = member.record.attempt().unwrap_or(1);
        member.attempt =
            Some(Attempt { number: attempt, created_at: now, outcome: Some(Outcome::Failed(fault)) });
        toy.results.retain(|(_, instance, ..)| instance != id);
    }
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 6));
}

#[test]
fn the_way_back_takes_the_largest_step_and_no_pauses() {
    let steps = ["1", "25%", "10%"].map(|step| step.parse::<Size>().unwrap());
    let policy = Policy {
        batch: Batches::new(steps.to_vec()).unwrap(),
        bake: SignedDuration::from_mins(5),
        approve_after: Some(1),
        on_failure: OnFailure::Rollback,
        ..Policy::default()
    };
    let back = policy.for_rollback(20);
    assert_eq!(
        (back.batch.to_string().as_str(), back.bake, back.approve_after),
        ("25%", SignedDuration::ZERO, None)
    );
    assert_eq!(back.on_failure, OnFailure::Halt);
}

#[test]
fn a_window_waits_between_the_steps_and_slides_in_the_last() {
    let steps = ["1", "2", "3"].map(|step| step.parse::<Size>().unwrap());
    let bake = SignedDuration::from_mins(5);
    let policy = Policy {
        batch: Batches::new(steps.to_vec()).unwrap(),
        mode: Mode::Window,
        bake,
        ..Policy::default()
    };
    let mut toy = Toy::new(12, policy);
    let begun = toy.now;
    let in_work = |toy: &Toy| toy.snapshot.members.iter().filter(|m| m.record.in_work()).count();
    let mut most = BTreeMap::new();
    toy.until(|toy| {
        let most = most.entry(toy.snapshot.deployment.batch).or_insert(0);
        *most = in_work(toy).max(*most);
        let started = toy.snapshot.members.iter().filter(|m| m.record.batch.is_some()).count();
        let waited = toy.now.duration_since(begun);
        assert!(started <= 1 || waited >= bake, "the second step after {waited:#}");
        assert!(started <= 3 || waited >= bake * 2, "the third step after {waited:#}");
        toy.states(S::Succeeded) == 12
    });
    assert_eq!((most[&1], most[&2], most[&3]), (1, 2, 3));
}

#[test]
fn one_cancelled_in_a_long_drain_has_the_time_to_come_back() {
    let mut toy = Toy::new(4, policy("2"));
    // Longer than a target may take to become healthy.
    let drain = SignedDuration::from_mins(10);
    toy.snapshot.timing.deregistration_delay = drain;
    toy.fleet.pace.drain = drain;
    toy.until(|toy| toy.states(S::Blocking) == 2);
    toy.until(|toy| toy.snapshot.members.iter().any(|m| m.sight.health == Health::Draining));
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Restored)), (D::Cancelled, 2));
    toy.is_in_order();
}

#[test]
fn a_group_that_everyone_left_has_not_succeeded() {
    let mut toy = Toy::new(3, policy("1"));
    toy.until(|toy| toy.states(S::Blocking) == 1);
    for id in ["i-00", "i-01", "i-02"] {
        toy.member(id).sight = Sight::gone();
    }
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Gone)), (D::Failed, 3));
    assert!(toy.snapshot.deployment.reason.clone().unwrap().contains("all 3 instances left"));
}

#[test]
fn one_that_is_unhealthy_with_the_new_release_gets_the_former_one_back_on_cancel() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Succeeded) == 1);
    let member = toy.member("i-02");
    assert_eq!(member.record.state(), S::Staged);
    // As one waits whose health check failed after its hooks had run.
    (member.record.touched, member.record.batch) = (true, Some(2));
    member.sight.health = Health::Unhealthy("Target.FailedHealthChecks".into());
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Cancelled);
    assert_eq!(toy.member("i-02").record.state(), S::Restored);
    assert_eq!(toy.dispatches.last(), Some(&(DispatchKind::Restore, 1)));
    toy.is_in_order();
}

#[test]
fn one_that_joins_is_staged_while_the_batches_go_on() {
    let mut toy = Toy::new(4, policy("1"));
    toy.until(|toy| toy.states(S::Succeeded) == 1);
    let now = toy.now;
    let record = Instance { joined: true, ..Instance::new("i-99", "a", "asg", now) };
    let sight = Sight::serving();
    let memberships = toy.member("i-00").record.memberships.clone();
    toy.snapshot.members.push(Member { record: Instance { memberships, ..record }, sight, attempt: None });
    // Its agent takes its time: the answer to its staging is lost.
    toy.until(|toy| toy.states(S::Staging) == 1);
    toy.results.retain(|(_, instance, ..)| instance != "i-99");
    toy.until(|toy| toy.states(S::Succeeded) == 4);
    assert_eq!(toy.member("i-99").record.state(), S::Staging);
}

#[test]
fn one_that_leaves_is_gone_whatever_it_was_at() {
    let at = [S::Pending, S::Staging, S::Staged, S::PreBlocking, S::Blocking, S::Deploying, S::Allowing];
    for state in at.into_iter().chain([S::PostAllowing, S::Waiting]) {
        let mut toy = Toy::new(4, policy("1"));
        toy.snapshot.revision =
            Revision { pre_block: true, post_allow: true, run_seconds: 60, ..Revision::default() };
        toy.fail(0, 1, Cause::Exit(75), "one");
        toy.until(|toy| toy.states(state) > 0);
        let member = toy.snapshot.members.iter_mut().find(|member| member.record.state() == state).unwrap();
        member.sight = Sight::gone();
        let id = member.record.id.clone();
        let group = toy.fleet.snapshot.groups.get_mut("asg").unwrap();
        (group.min, group.desired) = (group.min.min(3), group.desired.min(3));
        toy.run();
        assert_eq!(toy.member(&id).record.state(), S::Gone, "{state}");
        let ended = (toy.snapshot.deployment.state, toy.states(S::Succeeded), toy.states(S::Gone));
        assert_eq!(ended, (D::Succeeded, 3, 1), "{state}");
        assert!(toy.snapshot.groups["asg"].hold.is_none(), "{state}");
    }
}

#[test]
fn an_approval_is_waited_for_as_long_as_a_halt_once_and_takes_no_time_of_the_deployments() {
    let mut toy = Toy::new(4, Policy { approve_after: Some(1), ..policy("2") });
    let day = toy.snapshot.policy.deadlines.halted;
    toy.until(|toy| toy.snapshot.deployment.batch_done_at.is_some());
    let since = toy.snapshot.deployment.batch_done_at.unwrap();
    let nearly = since + day - SignedDuration::from_mins(1);
    toy.fleet.now = nearly;
    assert!(plan(&toy.snapshot, nearly).unwrap().changes.is_empty());
    let mut late = Toy::new(4, Policy { approve_after: Some(1), ..policy("2") });
    late.run();
    // That deadline is the only one: nobody is waited for once more.
    assert_eq!((late.snapshot.deployment.state, late.states(S::Succeeded)), (D::Failed, 2));
    assert_eq!(late.snapshot.deployment.reason.as_deref(), Some("nobody approved the rest within 24h"));
    assert!(late.now < since + day + SignedDuration::from_hours(1), "{}", late.now);
    late.is_in_order();
    let deployment = &mut toy.fleet.snapshot.deployment;
    (deployment.approved, deployment.approved_at) = (true, Some(nearly));
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 4));
}

#[test]
fn a_window_waits_for_approval_as_long_as_a_batch_does() {
    let mut toy = Toy::new(8, Policy { approve_after: Some(1), mode: Mode::Window, ..policy("2") });
    let day = toy.snapshot.policy.deadlines.halted;
    let begun = toy.now;
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Failed, 2));
    assert!(toy.snapshot.deployment.reason.clone().unwrap().contains("nobody approved the rest within"));
    assert!(toy.now >= begun + day);
}

#[test]
fn hooks_that_run_on_after_their_agent_was_lost_use_up_no_retries() {
    let mut toy = Toy::new(4, policy("2"));
    toy.fail(0, 1, Cause::AgentLost("it could not be reached".into()), "");
    toy.until(|toy| toy.states(S::Waiting) == 1);
    // More often than it may be tried.
    toy.fail(0, 8, Cause::Busy, "");
    toy.run();
    assert_eq!((toy.snapshot.deployment.state, toy.states(S::Succeeded)), (D::Succeeded, 4));
    assert_eq!((toy.troubles.runs["i-00"], toy.member("i-00").record.transient), (10, 1));
    toy.is_in_order();
}

#[test]
fn a_quarantined_one_stays_out_when_its_retry_is_cancelled_before_anything_ran() {
    let mut toy = Toy::new(4, policy("1"));
    let member = toy.member("i-00");
    // As the engine takes in one that another deployment has quarantined.
    member.sight = Sight {
        lifecycle: Lifecycle::Standby,
        health: Health::Out,
        registered: Vec::new(),
        failed_health_check: None,
        scaled_in: false,
    };
    member.record.was_quarantined = true;
    let group = toy.fleet.snapshot.groups.get_mut("asg").unwrap();
    (group.min, group.desired) = (3, 3);
    toy.until(|toy| toy.states(S::Blocking) + toy.states(S::Deploying) == 1);
    assert!(!toy.member("i-00").record.touched);
    assert!(toy.member("i-00").record.in_work());
    toy.snapshot.deployment.cancel = Some(Cancel::After);
    toy.run();
    assert_eq!(toy.snapshot.deployment.state, D::Cancelled);
    assert!(toy.member("i-00").record.is_quarantined() && toy.member("i-00").record.state() == S::Failed);
    toy.is_in_order();
}

#[test]
fn a_canary_tried_again_bakes_again() {
    let bake = SignedDuration::from_mins(10);
    let steps = ["1", "2"].map(|step| step.parse::<Size>().unwrap());
    let batch = Batches::new(steps.to_vec()).unwrap();
    let mut toy = Toy::new(5, Policy { batch, mode: Mode::Window, bake, ..Policy::default() });
    toy.until(|toy| toy.snapshot.deployment.batch_done_at.is_some());
    toy.member("i-00").sight.health = Health::Unhealthy("Target.Timeout".into());
    toy.until(|toy| toy.snapshot.deployment.settled);
    toy.member("i-00").sight.health = Health::Healthy;
    let later = toy.now + bake;
    toy.fleet.now = later;
    toy.member("i-00").record.try_again(later).unwrap();
    toy.resume();
    toy.until(|toy| toy.states(S::Succeeded) == 1);
    let through = toy.now;
    toy.until(|toy| toy.snapshot.members.iter().filter(|m| m.record.batch.is_some()).count() > 1);
    assert!(toy.now >= through + bake, "{} after {through}", toy.now);
}
