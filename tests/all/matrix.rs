//! The crash matrix: at every effect of a rollout the daemon dies before the call, after it, and without its answer; the
//! next daemon has to bring the rollout to the end that an undisturbed one has.

use crate::{
    database::{Front, Postgres, Second, opened},
    ground::{Play as _, Repository, TURN, glimpse, impatient, number, policy, setup},
};
use drover::{cli::demo::playground::Playground, store::Database};
use futures_util::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;
use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

/// Two of them are taken out at a time.
const INSTANCES: u32 = 4;
/// What has become of the call when the daemon dies: it was not made; it was answered, and the answer is not recorded; it
/// had its effect, and its answer counts as lost.
const OUTCOMES: [&str; 3] = ["before", "after", "lost"];
/// A rollout comes to its point, or to its end, within this.
const LIMIT: Duration = Duration::from_secs(240);
/// After so many failures the rest is not tried.
const ENOUGH: usize = 5;

/// Where in a rollout the daemon dies, and how.
struct Point {
    /// The effect's number, from 1.
    effect: usize,
    /// What that is in an undisturbed rollout.
    kind: String,
    how: &'static str,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "effect {} ({}), {}", self.effect, self.kind, self.how)
    }
}

/// All there are.
fn all(effects: &[String]) -> Vec<Point> {
    let point =
        |(at, kind): (usize, &String)| OUTCOMES.map(|how| Point { effect: at + 1, kind: kind.clone(), how });
    effects.iter().enumerate().flat_map(point).collect()
}

/// Some: of every kind of effect one, as far as the number goes, the outcomes in turn.
fn sample(effects: &[String], count: usize, seed: u64) -> Vec<Point> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kinds = effects.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.shuffle(&mut random);
    let first = random.random_range(0..OUTCOMES.len());
    let mut points = Vec::new();
    for (turn, kind) in kinds.into_iter().take(count).enumerate() {
        let fit: Vec<usize> = (1..=effects.len()).filter(|effect| effects[effect - 1] == kind).collect();
        let effect = fit[random.random_range(0..fit.len())];
        points.push(Point { effect, kind, how: OUTCOMES[(first + turn) % OUTCOMES.len()] });
    }
    points
}

/// The action; of commands also what they are for.
fn kind(action: &str, key: &str) -> String {
    let words = if action == "SendCommand" { key } else { action };
    words.to_owned()
}

/// How the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// State in a file, one daemon.
    File,
    /// State in PostgreSQL, a second daemon stands by.
    Server,
    /// State in a file, and nothing comes in: logs and results are read from AWS.
    Outbound,
}

/// A fleet on which one rollout after the other is disturbed.
struct Trials {
    directory: tempfile::TempDir,
    world: Playground,
    /// Where the first daemon listens.
    url: String,
    /// PostgreSQL, and what stands before two daemons; none: a file, and one daemon.
    pair: Option<(Postgres, Front)>,
    revisions: [String; 2],
    rollouts: usize,
    /// Number of the last one.
    last: i64,
    /// The effects of the undisturbed one, in order.
    effects: Vec<String>,
}

impl Trials {
    /// Makes the fleet and rolls it once, undisturbed. No daemon runs afterwards.
    async fn start(ground: Ground, seed: u64) -> Trials {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::wrapped(directory.path());
        let revisions = ["main", "main~1"].map(|name| repository.git(&["rev-parse", name]));
        let mut setup = setup(directory.path(), &repository, &revisions[1]);
        (setup.instances, setup.seed, setup.time_scale) = (INSTANCES, seed, 10.0);
        (setup.deregistration_delay, setup.poll) = (10, "200ms".into());
        setup.policy = policy("batch = \"2\"");
        let mut pair = None;
        if ground == Ground::Outbound {
            setup.public_url = None;
        }
        if ground == Ground::Server {
            let (server, front) = (Postgres::start(), Front::start().await);
            setup.database = Some(server.create("drover"));
            setup.public_url = Some(format!("http://{}", front.address));
            pair = Some((server, front));
        }
        let mut world = Playground::start(setup).await.unwrap();
        let url = world.url.clone();
        if let Some((_, front)) = &pair {
            front.lead_to(&[url.as_str()]).await;
            world.url = format!("http://{}", front.address);
        }
        let effects = Vec::new();
        let mut trials = Trials { directory, world, url, pair, revisions, rollouts: 0, last: 0, effects };
        let revision = trials.submit().await;
        trials.ended_well(&revision).await;
        trials.world.kill_daemon().await.unwrap();
        let intents = trials.intents().await;
        trials.effects = intents.into_iter().map(|(_, kind)| kind).collect();
        assert!(trials.effects.len() >= 10, "{:?}", trials.effects);
        trials
    }

    async fn end(self) {
        self.world.stop().await;
    }

    /// Submits the revision that the fleet doesn't have, and answers it.
    async fn submit(&mut self) -> String {
        let revision = self.revisions[self.rollouts % 2].clone();
        self.rollouts += 1;
        self.last = self.world.submit(&revision).await;
        revision
    }

    /// The last rollout's intents, oldest first: id and kind. In a file they can be read while no daemon runs.
    async fn intents(&self) -> Vec<(i64, String)> {
        let last = self.last;
        if let Some((server, _)) = &self.pair {
            let query =
                format!("SELECT id, action, effect_key FROM intents WHERE deployment = {last} ORDER BY id");
            let rows = server.sql_on("drover", &query).unwrap();
            let row = |line: &str| {
                let columns: Vec<&str> = line.split('|').collect();
                (columns[0].parse::<i64>().unwrap(), kind(columns[1], columns[2]))
            };
            return rows.lines().map(row).collect();
        }
        let file = self.directory.path().join("daemon/drover.db");
        let store = opened(&Database::File(file)).await.unwrap();
        let rows = store.intents(last, 10_000).await.unwrap();
        store.close().await;
        rows.iter().rev().map(|row| (row.id, kind(&row.action, &row.effect_key))).collect()
    }

    /// Starts the first daemon at its own address.
    async fn start_first(&mut self) {
        let shown = std::mem::replace(&mut self.world.url, self.url.clone());
        let started = self.world.start_daemon().await;
        self.world.url = shown;
        started.unwrap();
    }

    /// A rollout in which the daemon dies at this point and another goes on; answers the effect that it died at. None: the
    /// rollout had ended before it came to that many.
    async fn disturbed(&mut self, point: &Point) -> Option<String> {
        self.world.kill_daemon().await.unwrap();
        let before = self.intents().await.last().expect("a rollout has effects").0;
        let intent = before + i64::try_from(point.effect).unwrap();
        self.world.environment = vec![("DROVER_CRASH_AT".into(), format!("{intent}:{}", point.how))];
        self.start_first().await;
        self.world.environment.clear();
        let mut second = None;
        if let Some((_, front)) = &self.pair {
            let waiting = Second::start(&self.world).await;
            front.lead_to(&[self.url.as_str(), waiting.url.as_str()]).await;
            second = Some(waiting);
        }
        let revision = self.submit().await;
        let mut died_at = None;
        if self.dies().await {
            let intents = self.intents().await;
            died_at = intents.into_iter().find(|(id, _)| *id == intent).map(|(_, kind)| kind);
            assert!(died_at.is_some(), "it died, but not at intent {intent}");
            match &mut second {
                Some(second) => {
                    let said = second.says().await;
                    assert!(said["ready"].is_object(), "{said}");
                }
                None => self.start_first().await,
            }
        }
        self.ended_well(&revision).await;
        if let Some(second) = second {
            second.end().await;
        }
        died_at
    }

    /// Waits until the daemon has died; false where the rollout ends without that.
    async fn dies(&mut self) -> bool {
        let (http, path) = (impatient(), format!("deployments/{}", self.last));
        let limit = Instant::now() + LIMIT;
        while !self.world.daemon_ended(Duration::from_millis(200)).await.unwrap() {
            let seen = glimpse(&http, &self.world, &path).await;
            if seen.as_ref().is_some_and(|deployment| !deployment["exit_code"].is_null()) {
                return false;
            }
            assert!(Instant::now() < limit, "the daemon neither dies nor comes to an end: {seen:#?}");
        }
        true
    }

    /// The last rollout ends as the undisturbed one: every instance has the revision and is in service, everything is put
    /// back, no hook ran twice, no line is missing.
    async fn ended_well(&self, revision: &str) {
        let world = &self.world;
        let ended = world.ended(self.last).await;
        assert_eq!(ended["state"], "Succeeded", "{ended:#}");
        world.log_is_whole(self.last).await;
        world.nothing_ran_twice().await;
        let seen = world.look("world").await.unwrap();
        let group = &seen["groups"][0];
        let size = json!(INSTANCES);
        assert_eq!((&group["min"], &group["desired"]), (&size, &size), "{group:#}");
        assert_eq!((&group["suspended"], &group["tags"]), (&json!([]), &json!({})), "{group:#}");
        let members = group["instances"].as_array().unwrap();
        assert_eq!(members.len(), INSTANCES as usize, "{group:#}");
        for member in members {
            assert_eq!(member["lifecycle"], "InService", "{member:#}");
            let id = member["id"].as_str().unwrap();
            let current = world.on(id, "readlink /opt/drover/sample/current").await;
            assert!(current.contains(revision), "{id} has {current}, not {revision}");
        }
    }
}

/// How often a point is tried until it is met.
const TRIES: u32 = 5;

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// Tries these points and reports. After a failure the fleet is made anew.
async fn run(mut trials: Trials, ground: Ground, seed: u64, points: &[Point]) {
    let effects = trials.effects.len();
    let (mut passed, mut not_met, mut failures) = (0, 0, Vec::new());
    for point in points {
        let begun = Instant::now();
        let mut tried = AssertUnwindSafe(trials.disturbed(point)).catch_unwind().await;
        // Which effect is the nth depends on who is drained first: tried again until it is the one that was meant.
        for _ in 1..TRIES {
            match &tried {
                Ok(died) if died.as_ref() != Some(&point.kind) => {}
                _ => break,
            }
            tried = AssertUnwindSafe(trials.disturbed(point)).catch_unwind().await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        match tried {
            Ok(Some(effect)) => {
                passed += 1;
                println!("{point}: died at {effect}, all is well after {seconds:.1} s");
            }
            Ok(None) => {
                not_met += 1;
                println!("{point}: not met, the rollout had fewer effects");
            }
            Err(panic) => {
                println!("{point}: FAILED after {seconds:.1} s: {}", words(&*panic));
                failures.push(format!("{point}: {}", words(&*panic)));
                if failures.len() == ENOUGH {
                    break;
                }
                trials.end().await;
                trials = Trials::start(ground, seed).await;
            }
        }
    }
    trials.end().await;
    println!(
        "crash matrix: {effects} points × {} outcomes = {} runs, {} chosen (seed {seed}), {passed} passed, {not_met} not met",
        OUTCOMES.len(),
        effects * OUTCOMES.len(),
        points.len(),
    );
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(not_met <= points.len() / 8 + 1, "{not_met} of {} were not met", points.len());
}

async fn run_sample(ground: Ground, count: usize) {
    let _turn = TURN.acquire().await;
    let seed = number("DROVER_SEED", 4);
    println!("seed {seed}");
    let trials = Trials::start(ground, seed).await;
    let points = sample(&trials.effects, count, seed);
    run(trials, ground, seed, &points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_crash_matrix() {
    run_sample(Ground::File, 8).await;
}

/// Without a way in the next daemon has to find results and logs again where it has not read before.
#[tokio::test(flavor = "multi_thread")]
async fn the_crash_matrix_where_nothing_comes_in() {
    run_sample(Ground::Outbound, 2).await;
}

/// The active daemon dies, the one that stands by goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_crash_matrix_with_a_standby_on_postgresql() {
    run_sample(Ground::Server, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/crash runs it"]
async fn the_whole_crash_matrix() {
    let _turn = TURN.acquire().await;
    let seed = number("DROVER_SEED", 4);
    for ground in [Ground::File, Ground::Outbound] {
        let trials = Trials::start(ground, seed).await;
        let points = all(&trials.effects);
        run(trials, ground, seed, &points).await;
    }
}
