//! How long a rehearsal takes: `cargo bench --bench rehearsal`. It runs every two seconds during a rollout, for what is
//! left of it, and once for `drover plan`.

use drover::rollout::{
    paper::Pace,
    policy::{Batches, Mode, Policy},
    rehearse::rehearse,
    snapshot::{Deployment, Group, Health, Lifecycle, Member, Revision, Sight, Snapshot, Timing},
    state::{Instance, Membership},
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

fn main() {
    let now = Timestamp::UNIX_EPOCH;
    let pace = Pace {
        staging: SignedDuration::from_secs(10),
        hooks: SignedDuration::from_secs(40),
        drain: SignedDuration::from_secs(30),
        health: SignedDuration::from_secs(20),
    };
    println!("instances  batch          ends        takes");
    for count in [20, 200, 1000] {
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
