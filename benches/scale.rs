//! drover at the size of fleets: a tick of the planner, a rehearsal, a whole rollout.
//!
//! `cargo bench --bench scale` prints the first two; `cargo bench --bench scale -- 20 1000 50x20` rolls a revision out to so
//! many instances besides, one fleet after the other, the last of them 50 groups at once, `-- restart` kills the
//! daemon of a rollout and starts it again. Up to 100 real ones in batches of
//! 25 %, more of them on paper in batches of 5 % (from 5,000 in a group on of 10 %, below 100 of 25 %). A deregistration delay of 10 s, health checks of 5 s × 2, hooks of about a second.
//!
//! Everything is computed from the simulated cloud's event log: target states and the commands' own start and end. The
//! critical path of a batch is its slowest instance's drain + hooks + time from the way out of standby (which the Auto
//! Scaling group takes a second for) to healthy; what lies between those, and between the batches, is overhead. A harness
//! that prints figures; nothing is asserted.

mod ground;

use drover::rollout::{
    paper::Pace,
    plan::plan,
    policy::{Batches, Mode, Policy},
    rehearse::rehearse,
    snapshot::{Attempt, Deployment, Group, Health, Lifecycle, Member, Revision, Sight, Snapshot, Timing},
    state::{DeploymentState, Instance, Membership, Phase, Running},
};
use ground::{
    Rolled, Rollout,
    course::{batches, courses},
    setup,
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
        let sight = Sight::serving();
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
        outage: None,
        outage_ended: false,
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

fn planning() {
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
        for (batch, mode) in [
            ("20%", Mode::Batch),
            ("5%", Mode::Batch),
            ("1%", Mode::Batch),
            ("5%", Mode::Window),
            ("1", Mode::Batch),
        ] {
            let batches = Batches::new(vec![batch.parse().unwrap()]).unwrap();
            let policy = Policy { batch: batches, mode, ..Policy::default() };
            let begun = Instant::now();
            let done = rehearse(fleet(count, policy, now), pace, now).unwrap();
            let name = format!("{batch} {mode:?}");
            println!("{count:<9}  {name:<13}  {:<10}  {:?}", done.ends.to_string(), begun.elapsed());
        }
    }
}

/// More than these have no processes.
const MOST_REAL: u32 = 100;

/// A fleet to deploy to: `GROUPSxINSTANCES`, or `INSTANCES` of one group.
#[derive(Clone, Copy)]
struct Fleet {
    groups: u32,
    instances: u32,
}

impl Fleet {
    fn read(text: &str) -> Option<Fleet> {
        let (groups, instances) = text.split_once('x').unwrap_or(("1", text));
        Some(Fleet { groups: groups.parse().ok()?, instances: instances.parse().ok()? })
    }

    fn size(self) -> u32 {
        self.groups * self.instances
    }

    fn is_paper(self) -> bool {
        self.size() > MOST_REAL
    }

    /// Of a group, how much is out at a time.
    fn percent(self) -> u32 {
        match (self.is_paper(), self.instances) {
            (true, ..100) | (false, _) => 25,
            (true, ..5_000) => 5,
            (true, _) => 10,
        }
    }
}

/// The time of a rollout's batches and of their critical path, in milliseconds.
fn times(rollout: &Rollout, size: usize) -> (i64, i64) {
    let courses = courses(&rollout.events);
    let critical = batches(&courses, size)
        .iter()
        .filter_map(|batch| batch.iter().map(|course| course.critical()).max())
        .sum();
    let first = courses.values().map(|course| course.draining).min().unwrap_or_default();
    let last = courses.values().map(|course| course.healthy).max().unwrap_or_default();
    (last - first, critical)
}

fn report(fleet: Fleet, rolled: &Rolled) {
    let size = (fleet.instances * fleet.percent() / 100).max(1) as usize;
    let calls = rolled.calls.len();
    let kind = if fleet.is_paper() { "paper instances" } else { "instances" };
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    rolled.rollouts.iter().for_each(|rollout| *states.entry(&rollout.state).or_default() += 1);
    println!("\n{} x {} {kind} in batches of {size}: {states:?}", fleet.groups, fleet.instances);
    let mut walls: Vec<f64> = rolled.rollouts.iter().map(|rollout| rollout.wall.as_secs_f64()).collect();
    walls.sort_by(f64::total_cmp);
    let spread = |all: &[f64], digits: usize| match all {
        [one] => format!("{one:.digits$}"),
        all => format!(
            "{:.digits$} to {:.digits$}, the middle one {:.digits$}",
            all[0],
            all[all.len() - 1],
            all[all.len() / 2]
        ),
    };
    println!("from submission to end, s {}", spread(&walls, 1));
    let times: Vec<(i64, i64)> = rolled.rollouts.iter().map(|rollout| times(rollout, size)).collect();
    let sorted = |of: &dyn Fn(&(i64, i64)) -> f64| {
        let mut all: Vec<f64> = times.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    println!("batches, wall, s          {}", spread(&sorted(&|(wall, _)| *wall as f64 / 1000.0), 1));
    println!("batches, critical path, s {}", spread(&sorted(&|(_, path)| *path as f64 / 1000.0), 1));
    println!(
        "wall / critical path      {}",
        spread(&sorted(&|(wall, path)| *wall as f64 / *path.max(&1) as f64), 3)
    );
    println!("CPU of the daemon         {:.1} s", rolled.cpu);
    println!("its memory                {:.0} MB idle, {:.0} MB at most", rolled.idle, rolled.memory);
    println!("its transactions          {}", rolled.transactions);
    println!("calls to AWS              {calls}, {:.2} per instance", calls as f64 / fleet.size() as f64);
    let mut by_action: BTreeMap<&str, usize> = BTreeMap::new();
    rolled.calls.iter().for_each(|action| *by_action.entry(action).or_default() += 1);
    let words: Vec<String> = by_action.iter().map(|(action, count)| format!("{action} {count}")).collect();
    println!("of them                   {}", words.join(", "));
}

async fn rollout(fleet: Fleet) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (mut setup, target) = setup(directory.path(), fleet.groups, fleet.instances)?;
    setup.paper = fleet.is_paper();
    setup.policy = format!("batch = \"{}%\"", fleet.percent());
    let pattern = serde_json::json!({ "download_seconds": 2, "hook_seconds": 1, "lines": 10 });
    let rolled = ground::roll(setup, &target, fleet.is_paper().then_some(&pattern)).await?;
    report(fleet, &rolled);
    Ok(())
}

/// A daemon is killed in the middle of a rollout to 1,000 paper instances, and started again.
async fn restart() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (mut setup, target) = setup(directory.path(), 1, 1_000)?;
    (setup.paper, setup.policy) = (true, "batch = \"5%\"".into());
    let pattern = serde_json::json!({ "download_seconds": 2, "hook_seconds": 1, "lines": 10 });
    let (seconds, effect) = ground::restart(setup, &target, &pattern).await?;
    println!(
        "\n1,000 paper instances, kill -9 and a new daemon: from its start to its first effect ({effect}) {seconds:.2} s"
    );
    Ok(())
}

fn main() -> anyhow::Result<()> {
    planning();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    for argument in &arguments {
        match (argument.as_str(), Fleet::read(argument)) {
            ("restart", _) => runtime.block_on(restart())?,
            (_, Some(fleet)) => runtime.block_on(rollout(fleet))?,
            // What cargo passes to every bench.
            _ => {}
        }
    }
    Ok(())
}
