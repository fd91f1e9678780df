//! The soak: many rollouts under steady load while calls are throttled, answers lost, agents drop out, instances and
//! networks die, the daemon is killed and people cancel.

mod figures;
mod trouble;
mod world;

use crate::ground::{TURN, number};
use figures::Figures;
use futures_util::future::join_all;
use std::time::Instant;

/// Clouds side by side, each with a daemon of its own. Most of a rollout's time a daemon waits: after a throttled call the
/// SDK pauses for a second or two, which no time scale shortens.
const CLOUDS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/soak runs it"]
async fn the_soak() {
    let _turn = TURN.acquire().await;
    let (rollouts, seed) = (number("DROVER_SOAK_ROLLOUTS", 200), number("DROVER_SEED", 1));
    let begun = Instant::now();
    println!("soak: {rollouts} rollouts, seed {seed}");
    let clouds = (0..CLOUDS.min(rollouts)).map(|cloud| {
        let share = rollouts / CLOUDS + u64::from(cloud < rollouts % CLOUDS);
        world::soak(cloud + 1, usize::try_from(share).unwrap(), seed * 100 + cloud)
    });
    let mut all = Figures::default();
    for figures in join_all(clouds).await {
        all.add(figures);
    }
    println!("soak: seed {seed}, {:.1} min", begun.elapsed().as_secs_f64() / 60.0);
    all.print();
    all.must_be_sound();
}
