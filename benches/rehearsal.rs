//! How long a rehearsal takes: `cargo bench --bench rehearsal`. It runs every two seconds during a rollout, for what is
//! left of it, and once for `drover plan`.

use drover::rollout::{
    paper::Pace,
    plan::plan,
    policy::{Batches, Mode, Policy},
    rehearse::rehearse,
    snapshot::{Attempt, Deployment, Group, Health, Lifecycle, Member, Revision, Sight, Snapshot, Timing},
    state::{DeploymentState, Instance, Membership, Phase, Running},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, time::Instant};

fn fleet(count: u32, policy: Policy, now: Timestamp) -> Snapshot {
    let member = |n: u32| {
        let mut record = Instance::new(&format!("i-{n:04}"), ["a", "b", "c"][n as usize % 3], "asg", now);
        record.memberships = vec![Membership {
            target_group: "tg".into(),
            port: 80,
            owned: true,
            seen: true,
            unwatched: false,
        }];
        let sight = Sight {
            lifecycle: Lifecycle::InService,
            health: Health::Healthy,
            registered: Vec::new(),
            condemned: None,
            given_up: false,
        };
        Member { record, sight, attempt: None }
    };
    Snapshot {
        deployment: Deployment::beginning(1, count, count, now),
        policy,
        revision: Revision { run_seconds: 60, ..Revision::default() },
        members: (0..count).map(member).collect(),
        groups: BTreeMap::from([(
            "asg".to_owned(),
            Group { min: count, max: count, desired: count, suspended: Vec::new(), hold: None },
        )]),
        timing: Timing {
            deregistration_delay: SignedDuration::from_secs(30),
            becoming_healthy: SignedDuration::from_secs(20),
        },
        refused: BTreeMap::new(),
        blind: None,
        regained: false,
    }
}

/// A tick of the planner, from a snapshot alone: 50 instances run their hooks, half of the others are through.
fn tick(now: Timestamp) {
    println!("A tick of the planner, 50 instances in work (the best of 50)\ninstances  takes");
    for count in [20, 1000, 5000] {
        let mut snapshot = fleet(count, Policy::default(), now);
        (snapshot.deployment.state, snapshot.deployment.batch) = (DeploymentState::Rolling, 1);
        for (number, member) in snapshot.members.iter_mut().enumerate() {
            let record = &mut member.record;
            record.healthy_at_start = true;
            match number {
                0..50 => {
                    let running = Running { number: 1, run_seconds: Some(60), stop: None };
                    record.phase = Phase::Deploying { resume: None, attempt: Some(running) };
                    (record.batch, record.touched) = (Some(1), true);
                    (member.sight.lifecycle, member.sight.health) = (Lifecycle::Standby, Health::Out);
                    member.attempt = Some(Attempt { number: 1, created_at: now, outcome: None });
                }
                _ if number % 2 == 0 => record.phase = Phase::Succeeded,
                _ => record.phase = Phase::Staged { resume: None },
            }
        }
        let best = (0..50).map(|_| {
            let begun = Instant::now();
            std::hint::black_box(plan(&snapshot, now).unwrap());
            begun.elapsed()
        });
        println!("{count:<9}  {:?}", best.min().unwrap_or_default());
    }
}

fn main() {
    let now = Timestamp::UNIX_EPOCH;
    let pace = Pace {
        staging: SignedDuration::from_secs(10),
        hooks: SignedDuration::from_secs(40),
        drain: SignedDuration::from_secs(30),
        health: SignedDuration::from_secs(20),
    };
    tick(now);
    println!("\nA rehearsal to its end\ninstances  batch          ends        takes");
    for count in [20, 1000, 5000] {
        for (batch, mode) in
            [("20%", Mode::Batch), ("1%", Mode::Batch), ("5%", Mode::Window), ("1", Mode::Window)]
        {
            let batches = Batches::new(vec![batch.parse().unwrap()]).unwrap();
            let policy = Policy { batch: batches, mode, ..Policy::default() };
            let begun = Instant::now();
            let done = rehearse(fleet(count, policy, now), pace, now).unwrap();
            let name = format!("{batch} {mode:?}");
            println!("{count:<9}  {name:<13}  {:<10}  {:?}", done.ends.to_string(), begun.elapsed());
        }
    }
}
